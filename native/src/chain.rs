//! What came behind what: bytes that were looked up in a cache, and which of them came next, so that they need no look-up
//! where a sender repeats itself.
//!
//! It is a guess, which a comparison of bytes makes certain: what an entry says was said of these very bytes.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

/// Entries of one cache, and guesses, at most.
const ENTRIES: usize = 1 << 16;
const GUESSES: usize = 1 << 17;
/// Bytes of an entry's key, at most: hardly any sender's are longer.
const LONG: usize = 4096;
/// 2^64 divided by the golden ratio, which spreads what it multiplies over the upper bits.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// Hashes places, which nobody sends.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(SPREAD).rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Bytes of a cache, and what they became.
struct Entry {
    key: Py<PyBytes>,
    /// Bytes of the key before its hole, where it has one.
    split: usize,
    value: Py<PyAny>,
}

impl Entry {
    fn new(key: &Bound<'_, PyBytes>, split: usize, value: &Bound<'_, PyAny>) -> Self {
        Self { key: key.clone().unbind(), split, value: value.clone().unbind() }
    }
}

/// The entries of one cache.
#[derive(Default)]
pub struct Chain {
    entries: Vec<Entry>,
    /// By Python's hash of the bytes, which a look-up left with them.
    numbers: HashMap<isize, usize>,
    /// The number behind that of the entry that came last time, by place.
    guesses: HashMap<u64, usize, BuildHasherDefault<Spread>>,
    /// The number behind that of the entry that came last; 0 at the beginning of a scope. Where that leads to, and the
    /// entry that is guessed.
    last: usize,
    place: u64,
    guess: usize,
}

impl Chain {
    /// Begins a bundle. A cache of fewer entries was emptied: what it let go is not kept here.
    fn begin(&mut self, cache: &Bound<'_, PyDict>) {
        if cache.len() < self.entries.len() {
            *self = Self::default();
        }
    }

    /// Guess what comes next: what came last time behind the same entry, in the same context. Answers the bytes, before
    /// and behind their hole; empty where there is no guess.
    #[inline]
    pub fn likely<'a>(&'a mut self, py: Python<'a>, context: usize) -> (&'a [u8], &'a [u8]) {
        self.place = self.last as u64 ^ (context as u64).rotate_left(16);
        self.guess = self.guesses.get(&self.place).copied().unwrap_or_default();
        self.guessed(py)
    }

    /// The bytes that were guessed.
    #[inline]
    pub fn guessed<'a>(&'a self, py: Python<'a>) -> (&'a [u8], &'a [u8]) {
        let entry = self.guess.checked_sub(1).and_then(|number| self.entries.get(number));
        entry.and_then(|entry| entry.key.as_bytes(py).split_at_checked(entry.split)).unwrap_or_default()
    }

    /// The guess was right: what the bytes became.
    #[inline]
    pub fn take<'py>(&mut self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let entry = self.entries.get(self.guess.checked_sub(1)?)?;
        self.last = self.guess;
        Some(entry.value.bind(py).clone())
    }

    /// It was wrong, and these were looked up.
    pub fn found(&mut self, key: &Bound<'_, PyBytes>, split: usize, value: &Bound<'_, PyAny>) -> PyResult<()> {
        if key.as_bytes().len() > LONG {
            self.last = 0;
            return Ok(());
        }
        let number = *self.numbers.entry(key.hash()?).or_insert(self.entries.len() + 1);
        match self.entries.get_mut(number - 1) {
            Some(entry) if entry.key.as_bytes(key.py()) == key.as_bytes() => {}
            Some(entry) => *entry = Entry::new(key, split, value),
            None if number > ENTRIES => {
                *self = Self::default();
                return Ok(());
            }
            None => self.entries.push(Entry::new(key, split, value)),
        }
        if self.guesses.len() == GUESSES {
            self.guesses.clear(); // those of a poll are made again by the next one
        }
        self.guesses.insert(self.place, number);
        self.last = number;
        Ok(())
    }
}

/// The chains of one codec, kept between bundles.
#[derive(Default)]
pub struct Chains {
    pub heads: Chain,
    pub tails: Chain,
    resource: usize,
    /// What tells the series of one device and datasource from others.
    pub context: usize,
}

impl Chains {
    /// A resource begins, which became this.
    pub fn resource(&mut self, resource: &Bound<'_, PyAny>) {
        self.resource = resource.as_ptr() as usize;
    }

    /// A scope begins, which `scope` tells from others.
    pub fn scope(&mut self, scope: usize) {
        (self.heads.last, self.tails.last) = (0, 0);
        self.context = self.resource ^ scope.rotate_left(20);
    }
}

/// What a codec keeps for the native part: `Memory()`. Two threads at once are safe; the second finds it empty.
#[pyclass(frozen)]
#[derive(Default)]
pub struct Memory(Mutex<Chains>);

#[pymethods]
impl Memory {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Forget everything.
    fn clear(&self) {
        self.put(Chains::default());
    }
}

impl Memory {
    /// What is kept, as long as nobody puts it back.
    pub fn take(&self, heads: &Bound<'_, PyDict>, tails: &Bound<'_, PyDict>) -> Chains {
        let mut chains = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        chains.heads.begin(heads);
        chains.tails.begin(tails);
        chains
    }

    pub fn put(&self, chains: Chains) {
        // What was there is let go behind the lock.
        let _before = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), chains);
    }
}
