//! Numbers as the engine's encoder writes them, where that is certain; the others are given to it.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyFloat, PyList};

use crate::memory::grow;
use crate::shortest::shortest;
use crate::text::{Cut, Odd, near};

/// Digits of a 64-bit number, at most.
pub const DIGITS: usize = 20;
/// Of decimals with up to 15 digits (`DBL_DIG`) no two read as the same double, so that one which reads as a double is
/// the shortest that does. Its integer is below this.
const DECIMALS: f64 = 1e15;
/// Powers of ten, and their zeros: the first with which a number stays below `DECIMALS` is tried. They and integers below
/// `DECIMALS` are doubles, and a division of two doubles is exact but for its last bit: it gives what reading the decimal
/// gives.
const SCALES: [(f64, usize); 3] = [(1e6, 6), (1e3, 3), (1e0, 0)];
/// Smaller ones have more digits behind the point.
const SMALL: f64 = 0.01;
/// Zeros behind the point, at most: with more, an exponent is written.
const ZEROS: usize = 4;
/// Digits of the shortest decimal of a double, at most, and those that `shortest` answers, at least.
const MOST: usize = 17;
const SHORTEST: usize = 16;
/// Places in the text of a number of 17 digits, which are written twice: the first digit and all others, then those
/// behind the point.
#[derive(Clone, Copy)]
struct Layout {
    first: u8,
    point: u8,
    behind: u8,
    /// Bits of the digits between the first one and the point.
    passed: u8,
    /// The end is behind so many places and the digits that are used, but not before `least`; it is one place after the
    /// first digit where that is the only one and `alone`.
    before: u8,
    least: u8,
    alone: u8,
    /// What stands behind the digits, and its bytes.
    exponent: [u8; 4],
    length: u8,
}

/// Of number / 10^decimals, for a number of so many digits.
#[allow(clippy::cast_possible_truncation, reason = "places in less than 48 bytes")]
const fn layout(count: usize, decimals: usize) -> Layout {
    let none = Layout {
        first: 0,
        point: 1,
        behind: 2,
        passed: 0,
        before: 1,
        least: 0,
        alone: 0,
        exponent: *b"    ",
        length: 0,
    };
    // Zeros between the point and the first digit, where there are such.
    let zeros = decimals.wrapping_sub(count);
    if zeros <= ZEROS {
        let first = 2 + zeros as u8;
        return Layout { first, behind: first + 1, before: first, ..none };
    }
    if decimals >= count {
        let [tens, ones] = PAIRS[(zeros + 1) % PAIRS.len()];
        let (exponent, length) =
            if zeros + 1 < 10 { ([b'e', b'-', ones, b'0'], 3) } else { ([b'e', b'-', tens, ones], 4) };
        return Layout { alone: 1, exponent, length, ..none };
    }
    let whole = (count - decimals) as u8;
    Layout { point: whole, behind: whole + 1, passed: 8 * (whole - 1), least: whole + 2, ..none }
}

/// Of what `shortest` answers: 16 digits, or 17, and so many decimals.
const LAYOUTS: [[Layout; 2]; 32] = {
    let mut layouts = [[layout(SHORTEST, 0); 2]; 32];
    let mut decimals = 1;
    while decimals < layouts.len() {
        layouts[decimals] = [layout(SHORTEST, decimals), layout(MOST, decimals)];
        decimals += 1;
    }
    layouts
};
/// Bytes of a value and the comma behind it, mostly less.
const LONG: usize = 16;
/// Bytes that one may be written in before it is cut, and that a value may take, more than any that is copied.
const ROOM: usize = 48;
const VALUE: usize = 64;
const TENS: [u64; MOST] = {
    let mut powers = [1; MOST];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = 10 * powers[at - 1];
        at += 1;
    }
    powers
};

/// Values of a bundle as JSON text, with commas between.
#[derive(Default)]
pub struct Values {
    text: Vec<u8>,
    /// Numbers that are for the engine to write, and where in the text.
    numbers: Vec<f64>,
    places: Vec<usize>,
    /// Room for `keep`.
    spare: Vec<u8>,
}

impl Values {
    pub fn with_capacity(values: usize) -> Self {
        Self { text: Vec::with_capacity(LONG * values + VALUE), ..Self::default() }
    }

    /// Makes room for one more value.
    #[inline]
    pub fn grow(&mut self) -> Cut<()> {
        grow(&mut self.text, VALUE)
    }

    /// The same for so many.
    pub fn grow_by(&mut self, values: usize) -> Cut<()> {
        grow(&mut self.text, VALUE * values)
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
        if number == 0.0 && number.is_sign_positive() {
            self.written(b"0.0", b"");
            return Ok(());
        }
        if size >= SMALL {
            let fits = SCALES.into_iter().find(|(scale, _)| size * scale < DECIMALS - 1.0);
            if let Some((scale, zeros)) = fits {
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and below 1e15")]
                let scaled = (size * scale + 0.5) as u64;
                #[allow(clippy::cast_precision_loss, clippy::float_cmp, reason = "exactly equal is what is asked")]
                if scaled as f64 / scale == size {
                    self.decimal(number < 0.0, scaled, zeros);
                    return Ok(());
                }
            }
        }
        match shortest(size) {
            Some((digits, decimals)) => {
                self.long(number < 0.0, digits, decimals);
                Ok(())
            }
            None => self.number(number),
        }
    }

    /// What `shortest` answers.
    #[inline]
    pub fn long(&mut self, negative: bool, digits: u64, decimals: usize) {
        let most = digits >= TENS[SHORTEST];
        self.write(
            negative,
            if most { digits } else { 10 * digits },
            &LAYOUTS[decimals % LAYOUTS.len()][usize::from(most)],
        );
    }

    /// number / 10^decimals, for numbers of at most 15 digits.
    fn decimal(&mut self, negative: bool, number: u64, decimals: usize) {
        let count = count(number);
        self.write(negative, number * TENS[MOST - count], &layout(count, decimals));
    }

    /// A number of 17 digits, without zeros at the end but that of x.0. A processor cannot foretell where digits, point and
    /// exponent stand, and is quicker to write more than to be wrong: all is written at places that are computed, in stores
    /// of one size, and behind the end the text is cut. Places are cut to what they are at most, so that they need no check.
    fn write(&mut self, negative: bool, number: u64, layout: &Layout) {
        let (high, low) = (number / TENS[8], number % TENS[8]);
        let front = high / TENS[8];
        let others = u128::from(eight(high - front * TENS[8])) | u128::from(eight(low)) << 64;
        let used = MOST - (others.leading_zeros() / 8) as usize;
        #[allow(clippy::cast_possible_truncation, reason = "a digit")]
        let front = front as u8 | b'0';
        let others = others | u128::from_le_bytes([b'0'; 16]);
        if negative {
            self.text.push(b'-');
        }
        let start = self.text.len();
        self.text.extend_from_slice(&[b'0'; ROOM]);
        let Some(text) = self.text.last_chunk_mut::<ROOM>() else { return };
        let [first, point, behind] = [layout.first, layout.point, layout.behind].map(|place| usize::from(place) % 32);
        text[first % 8] = front;
        text[first % 8 + 1..first % 8 + 17].copy_from_slice(&others.to_le_bytes());
        text[behind..behind + 16].copy_from_slice(&(others >> (layout.passed % 128)).to_le_bytes());
        text[point] = b'.';
        let end = (used + usize::from(layout.before)).max(usize::from(layout.least));
        let end = (end - usize::from(layout.alone) * usize::from(used == 1)) % 32;
        text[end..end + 4].copy_from_slice(&layout.exponent);
        let end = (end + usize::from(layout.length)) % 32;
        text[end] = b',';
        self.text.truncate(start + end + 1);
    }

    /// Bytes that were written.
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// Forget what was written behind these bytes.
    pub fn truncate(&mut self, bytes: usize) {
        self.text.truncate(bytes);
        while self.places.last().is_some_and(|&place| place >= bytes) {
            self.places.pop();
            self.numbers.pop();
        }
    }

    /// Forget those values behind these bytes that have a verdict. Which these are a processor cannot foretell: all are
    /// copied, and where the next one goes depends on the verdict.
    pub fn keep(&mut self, from: usize, verdicts: &[u8]) -> Cut<()> {
        if self.places.last().is_some_and(|&place| place >= from) {
            return Err(Odd); // the engine's to write
        }
        let mut text = std::mem::take(&mut self.spare);
        text.clear();
        grow(&mut text, self.text.len() - from + ROOM)?;
        grow(&mut self.text, ROOM)?;
        text.extend_from_slice(&self.text[from..]);
        text.extend_from_slice(&[0; ROOM]);
        self.text.extend_from_slice(&[0; ROOM]);
        let (mut at, mut end) = (0, from);
        for &verdict in verdicts {
            let length = near(&text, at, b',') + 1 - at;
            let copied = if length > ROOM { length } else { ROOM };
            let (Some(to), Some(of)) = (self.text.get_mut(end..end + copied), text.get(at..at + copied)) else {
                return Err(Odd);
            };
            if copied == ROOM {
                to[..ROOM].copy_from_slice(&of[..ROOM]); // of one size, in few stores
            } else {
                to.copy_from_slice(of);
            }
            at += length;
            end += if verdict == 0 { length } else { 0 };
        }
        self.text.truncate(end);
        self.spare = text;
        Ok(())
    }

    /// Take over what is written in others from one byte to another; `number` counts the numbers of others that were.
    pub fn take(&mut self, others: &Self, from: usize, to: usize, number: &mut usize) -> Cut<()> {
        let text = others.text.get(from..to).ok_or(Odd)?;
        while let Some(&place) = others.places.get(*number).filter(|&&place| place < to) {
            grow(&mut self.numbers, 1)?;
            grow(&mut self.places, 1)?;
            self.places.push(self.text.len() + place.checked_sub(from).ok_or(Odd)?);
            self.numbers.push(others.numbers[*number]);
            *number += 1;
        }
        grow(&mut self.text, text.len() + VALUE)?;
        self.text.extend_from_slice(text);
        Ok(())
    }

    /// All that is written, the numbers that are for the engine left out.
    pub fn text(&self) -> &[u8] {
        &self.text
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

/// Digits of numbers below 100.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut at = 0;
    while at < 100 {
        pairs[at as usize] = [b'0' + at / 10, b'0' + at % 10];
        at += 1;
    }
    pairs
};

/// A number in decimal.
#[inline]
pub fn digits(mut number: u64, room: &mut [u8; DIGITS]) -> &[u8] {
    let mut at = DIGITS;
    while number > 9 {
        at -= 2;
        room[at..at + 2].copy_from_slice(&PAIRS[(number % 100) as usize]);
        number /= 100;
    }
    if number > 0 || at == DIGITS {
        at -= 1;
        room[at] = PAIRS[(number % 10) as usize][1];
    }
    &room[at..]
}

/// One of two numbers, without a branch: for what a processor cannot foretell.
#[inline]
pub fn either(condition: bool, one: usize, other: usize) -> usize {
    other ^ ((one ^ other) & usize::from(condition).wrapping_neg())
}

/// How many digits a number of 1 to 17 has.
#[inline]
fn count(number: u64) -> usize {
    let tens = (((u64::BITS - number.leading_zeros()) * 1233) >> 12) as usize; // by the logarithm of 2
    tens + usize::from(TENS.get(tens).is_some_and(|&least| number >= least))
}

/// The values of eight digits, each a byte, the first the lowest. They are cut into fours, twos and ones side by side,
/// by multiplications with what is about 1/100 and 1/10.
#[inline]
fn eight(number: u64) -> u64 {
    let fours = (number / 10_000) | ((number % 10_000) << 32);
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007F_0000_007F;
    let twos = hundreds | (fours - 100 * hundreds) << 16;
    let tens = ((twos * 103) >> 10) & 0x000F_000F_000F_000F;
    tens | (twos - 10 * tens) << 8
}
