//! Numbers as the engine's encoder writes them, where that is certain; the others are given to it.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyFloat, PyList};

use crate::memory::grow;
use crate::text::Cut;

/// Digits of a 64-bit number, at most.
pub const DIGITS: usize = 20;
/// Of decimals with up to 15 digits (`DBL_DIG`) no two read as the same double, so that one which reads as a double is
/// the shortest that does. Its integer is below this.
const DECIMALS: f64 = 1e15;
/// Powers of ten that are tried, and their zeros. They and integers below `DECIMALS` are doubles, and a division of two
/// doubles is exact but for its last bit: it gives what reading the decimal gives.
const SCALES: [(f64, usize); 3] = [(1e0, 0), (1e3, 3), (1e6, 6)];
/// Smaller ones may be written with an exponent.
const PLAIN: f64 = 0.01;
/// Bytes that a value may take, more than any that is copied.
const VALUE: usize = 64;

/// Values of a bundle as JSON text, with commas between.
#[derive(Default)]
pub struct Values {
    text: Vec<u8>,
    /// Numbers that are for the engine to write, and where in the text.
    numbers: Vec<f64>,
    places: Vec<usize>,
}

impl Values {
    pub fn with_capacity(values: usize) -> Self {
        Self { text: Vec::with_capacity(8 * values), ..Self::default() }
    }

    /// Makes room for one more value.
    #[inline]
    pub fn grow(&mut self) -> Cut<()> {
        grow(&mut self.text, VALUE)
    }

    /// A value that is written already, in two parts.
    #[inline]
    pub fn written(&mut self, text: &[u8], rest: &[u8]) {
        self.text.extend_from_slice(text);
        self.text.extend_from_slice(rest);
        self.text.push(b',');
    }

    /// A number for the engine to write.
    fn number(&mut self, number: f64) -> Cut<()> {
        grow(&mut self.numbers, 1)?;
        grow(&mut self.places, 1)?;
        self.places.push(self.text.len());
        self.numbers.push(number);
        self.text.push(b',');
        Ok(())
    }

    pub fn integer(&mut self, number: i64) {
        let sign: &[u8] = if number < 0 { b"-" } else { b"" };
        self.written(sign, digits(number.unsigned_abs(), &mut [0; DIGITS]));
    }

    pub fn double(&mut self, number: f64) -> Cut<()> {
        let size = number.abs();
        if size < PLAIN && (number != 0.0 || number.is_sign_negative()) {
            return self.number(number);
        }
        for (scale, zeros) in SCALES {
            let scaled = (size * scale).round();
            #[allow(clippy::float_cmp, reason = "exactly equal is what is asked")]
            if scaled < DECIMALS && scaled / scale == size {
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an integer below 1e15")]
                self.decimal(number < 0.0, scaled as u64, zeros);
                return Ok(());
            }
        }
        self.number(number)
    }

    /// `scaled` with a point before the last digits, without zeros at the end but that of x.0.
    fn decimal(&mut self, negative: bool, scaled: u64, decimals: usize) {
        if negative {
            self.text.push(b'-');
        }
        let mut room = [b'0'; DIGITS];
        let length = digits(scaled, &mut room).len().max(decimals + 1);
        let (whole, fraction) = room[DIGITS - length..].split_at(length - decimals);
        let used = fraction.iter().rposition(|&digit| digit != b'0').map_or(0, |last| last + 1);
        self.text.extend_from_slice(whole);
        self.text.push(b'.');
        self.written(if used == 0 { b"0" } else { &fraction[..used] }, b"");
    }

    /// The text, once the engine has written the numbers that are its to write.
    pub fn finish<'py>(self, py: Python<'py>, encode: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        if self.numbers.is_empty() {
            return Ok(PyBytes::new(py, without_last(&self.text)));
        }
        let numbers = PyList::new(py, self.numbers.iter().map(|&number| PyFloat::new(py, number)))?;
        let written: Bound<'py, PyBytes> = encode.call1((numbers,))?.extract()?;
        let written = written.as_bytes();
        let inside = written.get(1..written.len().saturating_sub(1)).unwrap_or_default();
        let mut texts = inside.split(|&byte| byte == b',');
        let mut whole = Vec::with_capacity(self.text.len() + inside.len());
        let mut from = 0;
        for &at in &self.places {
            let text = texts.next().ok_or_else(|| PyRuntimeError::new_err("fewer numbers written than given"))?;
            whole.extend_from_slice(&self.text[from..at]);
            whole.extend_from_slice(text);
            from = at;
        }
        whole.extend_from_slice(&self.text[from..]);
        Ok(PyBytes::new(py, without_last(&whole)))
    }
}

fn without_last(text: &[u8]) -> &[u8] {
    text.strip_suffix(b",").unwrap_or_default()
}

/// A number in decimal.
#[inline]
pub fn digits(mut number: u64, room: &mut [u8; DIGITS]) -> &[u8] {
    let mut at = DIGITS;
    loop {
        at -= 1;
        room[at] = b"0123456789"[(number % 10) as usize];
        number /= 10;
        if number == 0 {
            return &room[at..];
        }
    }
}
