//! Values of a bundle in another unit: those of some metrics times a power of two, where that is exact.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::columns::Object;
use crate::decimal::{Values, either};
use crate::memory::{SCALED, has_room};
use crate::shortest::shortest;
use crate::text::{Cursor, Cut, Odd, behind_nth};

/// What digits have, in each of sixteen bytes, and what else stands in numbers (`,-.Ee`) has not.
const DIGIT: u128 = 0x10 * (u128::MAX / 255);

/// Digits of an integer that fit 64 bits without a sign.
const INTEGER: usize = 19;
/// Digits of a decimal whose integer is a double, as the powers of ten that it is divided by are: the division gives what
/// reading the decimal gives.
const EXACT: usize = 15;
const TENS: [f64; EXACT + 1] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
/// Numbers that are read before they are written: of steps that wait for one another a processor does several such chains
/// side by side, if they are short.
const AHEAD: usize = 8;
/// Digits that are read at once.
const EIGHT: usize = 8;
const INTEGERS: [u64; EIGHT + 1] = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];
/// Powers of two below this are doubles, as their inverses are.
const FAR: i32 = 1000;
/// Bytes that are looked at at once.
const AT_ONCE: usize = 16;

/// The values again, with commas between, of which those of `runs` are in another unit; None where any of them has to be
/// looked at alone.
///
/// `runs` are of metrics, each three 32-bit integers: the first, the one behind the last, and the power of two. `stops`
/// are those of all metrics' values. `encode` writes numbers that are the engine's to write. Raises `IndexError` for a
/// metric without a stop.
#[pyfunction]
pub fn scale<'py>(
    texts: &Bound<'py, PyBytes>,
    stops: &Object<'py>,
    runs: &[u8],
    encode: &Object<'py>,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let text = texts.as_bytes();
    if !has_room(SCALED * text.len()) {
        return Ok(None);
    }
    let mut values = Values::with_capacity(text.len() / 4);
    let (mut at, mut passed) = (0, 0);
    for run in runs.chunks_exact(3 * size_of::<i32>()) {
        let [first, last, power] =
            [0, 4, 8].map(|at| i32::from_le_bytes([run[at], run[at + 1], run[at + 2], run[at + 3]]));
        let start = if first == 0 { 0 } else { stops.get_item(first - 1)?.extract::<usize>()? };
        let stop: usize = stops.get_item(last - 1)?.extract()?;
        let Some(between) = start.checked_sub(passed) else { return Ok(None) };
        if between > 0 {
            let Some(behind) = behind_nth(text, at, b',', between) else { return Ok(None) };
            values.written(&text[at..behind - 1], b"");
            at = behind;
        }
        let mut scaling = Scaling { cursor: Cursor { at, ..Cursor::new(text) }, values: &mut values };
        if scaling.run(stop.saturating_sub(start), power).is_err() {
            return Ok(None);
        }
        (at, passed) = (scaling.cursor.at, stop);
    }
    if at < text.len() {
        values.written(&text[at..], b"");
    }
    values.finish(texts.py(), encode).map(Some)
}

/// Values that follow one another in a text: its bytes, how many they are, and the power of two.
pub struct Run {
    pub from: usize,
    pub to: usize,
    pub count: usize,
    pub power: i32,
}

/// The values again, of which those of `runs` are in another unit: all at once, as code that runs once in a while is in no
/// cache of the processor.
pub fn scaled(values: &Values, runs: &[Run]) -> Cut<Values> {
    if !has_room(SCALED * values.len()) {
        return Err(Odd);
    }
    let mut made = Values::with_capacity(values.len() / 4);
    let (mut at, mut number) = (0, 0);
    for run in runs {
        made.take(values, at, run.from, &mut number)?;
        let mut scaling = Scaling { cursor: Cursor { at: run.from, ..Cursor::new(values.text()) }, values: &mut made };
        scaling.run(run.count, run.power)?;
        if scaling.cursor.at != run.to {
            return Err(Odd); // one of them is the engine's to write
        }
        at = run.to;
    }
    made.take(values, at, values.len(), &mut number)?;
    Ok(made)
}

struct Scaling<'a, 'b> {
    cursor: Cursor<'a>,
    values: &'b mut Values,
}

impl Scaling<'_, '_> {
    fn run(&mut self, mut count: usize, power: i32) -> Cut<()> {
        if power.abs() >= FAR {
            return Err(Odd);
        }
        let (factor, inverse) = (two_to(power), two_to(-power));
        let mut found = [(0, 0); AHEAD];
        while count > 0 {
            let mut read = 0;
            while read < count.min(AHEAD) {
                let Some(decimal) = self.usual(power, factor, inverse) else { break };
                found[read] = decimal;
                read += 1;
            }
            self.values.grow_by(read)?;
            for &(digits, decimals) in &found[..read] {
                self.values.long(false, digits, decimals);
            }
            count -= read;
            if read < AHEAD && count > 0 {
                self.values.grow()?;
                self.any(power, factor, inverse)?;
                count -= 1;
            }
        }
        Ok(())
    }

    /// A number that becomes a double, as `shortest` has it, and the comma behind it. None is passed over where it is
    /// another.
    #[inline]
    fn usual(&mut self, power: i32, factor: f64, inverse: f64) -> Option<(u64, usize)> {
        let at = self.cursor.at;
        let made = self.short().filter(|(_, decimals)| *decimals > 0 || power < 0).and_then(|(digits, decimals)| {
            #[allow(clippy::cast_precision_loss, reason = "an integer below 1e15")]
            let number = digits as f64 / TENS[decimals];
            let made = number * factor;
            #[allow(clippy::float_cmp, reason = "exactly equal is what is asked")]
            if made * inverse == number { shortest(made) } else { None }
        });
        if made.is_none() {
            self.cursor.at = at;
        }
        made
    }

    /// Any number, and the comma behind it.
    fn any(&mut self, power: i32, factor: f64, inverse: f64) -> Cut<()> {
        let at = self.cursor.at;
        if let Some((digits, 0)) = self.short().filter(|_| power >= 0) {
            self.values.integer(shifted(digits.into(), power)?);
            return Ok(());
        }
        self.cursor.at = at;
        match self.number()? {
            Number::Integer(number) if power >= 0 => self.values.integer(shifted(number.into(), power)?),
            Number::Integer(number) => self.double(exact(number)?, factor, inverse)?,
            Number::Double(number) => self.double(number, factor, inverse)?,
        }
        if self.cursor.peek() == b',' {
            self.cursor.at += 1;
        } else if self.cursor.at < self.cursor.text.len() {
            return Err(Odd);
        }
        Ok(())
    }

    /// What loses bits does not come back.
    #[inline]
    fn double(&mut self, number: f64, factor: f64, inverse: f64) -> Cut<()> {
        let made = number * factor;
        #[allow(clippy::float_cmp, reason = "exactly equal is what is asked")]
        if made.is_finite() && made * inverse == number { self.values.double(made) } else { Err(Odd) }
    }

    /// A number without a sign and an exponent, of 15 digits at most, and the comma behind it, as (digits, decimals). None
    /// is passed over where it is another.
    ///
    /// Eight digits at a time, for a loop that ends nobody knows when costs more than what it does: those before the point
    /// and those behind it, or an integer's first eight and its others. Which of both it is cannot be foretold either, and
    /// is computed with.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "a call costs a sixth of it")]
    #[allow(clippy::needless_bitwise_bool, reason = "no branches")]
    fn short(&mut self) -> Option<(u64, usize)> {
        let at = self.cursor.at;
        let text = self.cursor.text.get(at..at + AT_ONCE)?;
        let others = !u128::from_le_bytes(text.try_into().ok()?) & DIGIT;
        let whole = (others.trailing_zeros() / 8) as usize;
        let point = *text.get(whole)? == b'.';
        let behind_point = ((others & others.wrapping_sub(1)).trailing_zeros() / 8) as usize;
        let end = either(point, behind_point, whole);
        let from = either(point, whole + 1, EIGHT);
        let first = whole.min(EIGHT);
        let behind = end.saturating_sub(from);
        let zero = (text[0] == b'0') & (whole > 1);
        let bad = point & ((whole > EIGHT) | (behind == 0) | (behind > EIGHT));
        if zero | bad | (whole == 0) | (first + behind > EXACT) || *text.get(end)? != b',' {
            return None;
        }
        let rest = self.cursor.text.get(at + from..at + from + EIGHT)?;
        let first = u64::from_le_bytes(text[..EIGHT].try_into().ok()?) << (8 * (EIGHT - first));
        let none = 4 * (EIGHT - behind); // in two steps, for nothing is shifted by 64 at once
        let rest = (u64::from_le_bytes(rest.try_into().ok()?) << none) << none;
        self.cursor.at = at + end + 1;
        Some((eight(first) * INTEGERS[behind] + eight(rest), behind * usize::from(point)))
    }

    /// A number as the engine's encoder writes it, by RFC 8259.
    #[inline]
    fn number(&mut self) -> Cut<Number> {
        let start = self.cursor.at;
        let negative = self.cursor.peek() == b'-';
        self.cursor.at += usize::from(negative);
        let first = self.cursor.at;
        let mut digits = self.digits(0);
        let whole = self.cursor.at - first;
        if whole == 0 || whole > INTEGER || (whole > 1 && self.cursor.text[first] == b'0') {
            return Err(Odd);
        }
        let decimals = if self.cursor.peek() == b'.' {
            self.cursor.at += 1;
            let from = self.cursor.at;
            digits = self.digits(digits);
            if self.cursor.at == from {
                return Err(Odd);
            }
            self.cursor.at - from
        } else {
            0
        };
        let exponent = matches!(self.cursor.peek(), b'e' | b'E');
        if decimals == 0 && !exponent {
            let integer = i64::try_from(digits).map_err(|_| Odd)?;
            return Ok(Number::Integer(if negative { -integer } else { integer }));
        }
        if whole + decimals <= EXACT && !exponent {
            #[allow(clippy::cast_precision_loss, reason = "an integer below 1e15")]
            let size = digits as f64 / TENS[decimals];
            return Ok(Number::Double(if negative { -size } else { size }));
        }
        if exponent {
            self.cursor.at += 1;
            self.cursor.at += usize::from(matches!(self.cursor.peek(), b'+' | b'-'));
            let from = self.cursor.at;
            self.digits(0);
            if self.cursor.at == from {
                return Err(Odd);
            }
        }
        let text = std::str::from_utf8(&self.cursor.text[start..self.cursor.at]).map_err(|_| Odd)?;
        text.parse().map(Number::Double).map_err(|_| Odd)
    }

    /// Pass over digits, and count them up behind those before. What is too large for 64 bits is cut.
    #[inline]
    fn digits(&mut self, before: u64) -> u64 {
        let mut number = before;
        while let digit @ b'0'..=b'9' = self.cursor.peek() {
            number = number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            self.cursor.at += 1;
        }
        number
    }
}

/// The number of eight digits, each a byte, the first the lowest: in twos, fours, and all. A zero byte is one too.
#[inline]
fn eight(digits: u64) -> u64 {
    let digits = digits & 0x0F0F_0F0F_0F0F_0F0F;
    let twos = (digits.wrapping_mul(1 + (10 << 8)) >> 8) & 0x00FF_00FF_00FF_00FF;
    let fours = (twos.wrapping_mul(1 + (100 << 16)) >> 16) & 0x0000_FFFF_0000_FFFF;
    fours.wrapping_mul(1 + (10_000 << 32)) >> 32
}

enum Number {
    Integer(i64),
    Double(f64),
}

/// A power of two: its exponent is all that there is of it.
fn two_to(power: i32) -> f64 {
    f64::from_bits(u64::from((1023 + power).unsigned_abs()) << 52)
}

/// An integer as a double, where there is one: with 53 bits between its first and its last.
#[inline]
fn exact(number: i64) -> Cut<f64> {
    let size = number.unsigned_abs();
    #[allow(clippy::cast_precision_loss, reason = "none is lost")]
    if size >> 53 == 0 || size >> size.trailing_zeros() >> 53 == 0 { Ok(number as f64) } else { Err(Odd) }
}

/// An integer that is multiplied stays one.
#[inline]
fn shifted(number: i128, power: i32) -> Cut<i64> {
    i64::try_from(number << power.min(64)).map_err(|_| Odd)
}
