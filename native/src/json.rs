//! A plain OTLP/JSON bundle into columns.
//!
//! Plain is: resources, scopes, gauges and sums with their known members once each, and points with a time, one number
//! and attributes. What a row needs of a resource, a scope, a metric or a list of attributes is asked of Python's caches
//! by its bytes; of a metric these are its bytes without its points.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::attributes;
use crate::columns::{Columns, Found, Object, Stop, cached};
use crate::memory::{CUT, grow, has_room};
use crate::scopes::Scopes;
use crate::sieve::Sieve;
use crate::text::{Cursor, Cut, Odd};

/// Digits of an integer that surely fit 64 bits.
const INTEGER: usize = 18;
/// Bytes of a metric without its points, mostly.
const KEY: usize = 256;
/// Significant digits of a decimal that survive the way through a double: `DBL_DIG`.
const DECIMAL: usize = 15;

/// A point as far as it was read.
#[derive(Default)]
struct Point<'a, 'py> {
    start: Option<&'a [u8]>,
    time: Option<&'a [u8]>,
    tail: Option<Object<'py>>,
    /// Whether its value was.
    valued: bool,
}

/// How the last point began, up to its value, and what that says; and what stood between the value and the attributes,
/// and behind these to the end, where that was nothing else.
#[derive(Default)]
struct Alike<'a> {
    text: &'a [u8],
    start: Option<&'a [u8]>,
    time: Option<&'a [u8]>,
    double: bool,
    between: &'a [u8],
    end: &'a [u8],
}

struct Scan<'a, 'py> {
    py: Python<'py>,
    cursor: Cursor<'a>,
    resources_of: &'a Bound<'py, PyDict>,
    scopes: Scopes<'py>,
    heads_of: &'a Bound<'py, PyDict>,
    tails_of: &'a Bound<'py, PyDict>,
    columns: Columns<'a, 'py>,
    /// Attributes of the metric before and what they became: those of the same instances follow, in the same order.
    lists: Vec<(&'a [u8], Object<'py>)>,
    alike: Alike<'a>,
    key: Vec<u8>,
    /// Whether all is dropped of the scope that is read. Nothing is made of it then but what may be wrong.
    drops: bool,
    /// Whether nothing can be wrong with the metric that is read.
    fine: bool,
}

/// Columns of a plain bundle, or None.
///
/// `resources`, `heads` and `tails` are dictionaries that make what they lack; `scopes` are as of `Scopes`. Answers
/// (series, (resources, scopes, metrics, points), heads, stops, times, starts, moments, values, tails, sifted): series as
/// (resource, scope, stop), what was read in numbers, moments as (time, start, stop) where there are more than one, values
/// as their JSON text, written by `encode` where it is not the sender's. What `sieve` drops is left out, and then sifted is
/// (points that were read, ordinals of those that are left, points that each rule drops by its name), ordinals as `weave`
/// takes them. It is empty where all are left, and None for a bundle that did not go through a sieve. More than `most`
/// points are not plain. Raises what making raises.
#[pyfunction]
#[pyo3(signature = (payload, resources, scopes, heads, tails, encode, most, sieve=None))]
#[allow(clippy::too_many_arguments, reason = "what is asked while a bundle is read")]
pub fn scan<'py>(
    payload: &Bound<'py, PyBytes>,
    resources: &Bound<'py, PyDict>,
    scopes: &Bound<'py, PyTuple>,
    heads: &Bound<'py, PyDict>,
    tails: &Bound<'py, PyDict>,
    encode: &Object<'py>,
    most: usize,
    sieve: Option<&Bound<'py, Sieve>>,
) -> PyResult<Option<Bound<'py, PyTuple>>> {
    let py = payload.py();
    let text = payload.as_bytes();
    // Nearly all is ASCII, which is seen in a third of the time.
    if !(text.is_ascii() || std::str::from_utf8(text).is_ok()) || !has_room(CUT * text.len()) {
        return Ok(None);
    }
    for sieve in [sieve, None] {
        let mut scan = Scan {
            py,
            cursor: Cursor::new(text),
            resources_of: resources,
            scopes: Scopes::new(scopes)?,
            heads_of: heads,
            tails_of: tails,
            columns: Columns::new(py, text.len(), nanoseconds_of, most, sieve),
            lists: Vec::new(),
            alike: Alike::default(),
            key: Vec::with_capacity(KEY),
            drops: false,
            fine: false,
        };
        let read = scan.bundle().and_then(|()| scan.columns.end());
        if !matches!(read, Err(Stop::Whole)) {
            return scan.columns.answer(read, encode);
        }
    }
    Ok(None)
}

impl<'a, 'py> Scan<'a, 'py> {
    fn bundle(&mut self) -> Found<()> {
        self.cursor.expect(b'{')?;
        if self.cursor.name()? != b"resourceMetrics" || !self.cursor.open(b'[', b']')? {
            return Err(Stop::Odd);
        }
        loop {
            self.resource_metrics()?;
            if !self.cursor.another(b']')? {
                break;
            }
        }
        self.cursor.expect(b'}')?;
        self.cursor.next();
        if self.cursor.at == self.cursor.text.len() { Ok(()) } else { Err(Stop::Odd) }
    }

    /// A value as it was sent.
    fn raw(&mut self, open: u8) -> Cut<&'a [u8]> {
        if self.cursor.next() != open {
            return Err(Odd);
        }
        let start = self.cursor.at;
        self.cursor.skip()?;
        Ok(&self.cursor.text[start..self.cursor.at])
    }

    /// A value and what it became. What is remembered was read before, so that a text of which one begins with it has it
    /// whole: nearly always the text up to the first `end`. Else its end is looked for.
    fn known(&mut self, of: &Bound<'py, PyDict>, open: u8, end: &[u8]) -> Found<(&'a [u8], Object<'py>)> {
        if self.cursor.next() != open {
            return Err(Stop::Odd);
        }
        let start = self.cursor.at;
        let stop = self.cursor.behind(end);
        let likely = &self.cursor.text[start..stop];
        let key = PyBytes::new(self.py, likely);
        if let Some(found) = of.get_item(&key)? {
            self.cursor.at = stop;
            return Ok((likely, found));
        }
        let value = self.raw(open)?;
        let found = if value.len() == likely.len() { of.as_any().get_item(key)? } else { cached(of, value)? };
        Ok((value, found))
    }

    fn resource_metrics(&mut self) -> Found<()> {
        let known = |scan: &mut Self| {
            let (_, resource) = scan.known(scan.resources_of, b'{', b"]}")?;
            scan.columns.below(&resource)?;
            Ok(resource)
        };
        let resource = self.level(b"resource", known, b"scopeMetrics", Self::scope_metrics)?;
        self.columns.resource(resource)?;
        Ok(())
    }

    fn scope_metrics(&mut self) -> Found<()> {
        let scope = self.level(b"scope", Self::scope, b"metrics", Self::metric)?;
        self.columns.scope(scope)?;
        if std::mem::take(&mut self.drops) {
            self.lists.clear(); // of which nothing was made
        }
        Ok(())
    }

    /// A scope. One of another poll's bytes is whole where that was, as of `known`: digits in a text end nothing.
    fn scope(&mut self) -> Found<Object<'py>> {
        let scope = self.any_scope()?;
        self.columns.within(&scope)?;
        self.drops = self.columns.drops();
        Ok(scope)
    }

    fn any_scope(&mut self) -> Found<Object<'py>> {
        if self.cursor.next() == b'{' {
            let stop = self.cursor.behind(b"]}");
            if let Some(found) = self.scopes.known(&self.cursor.text[self.cursor.at..stop])? {
                self.cursor.at = stop;
                return Ok(found);
            }
        }
        let scope = self.raw(b'{')?;
        Ok(self.scopes.find(scope)?)
    }

    /// A resource or scope, which `head` reads, and what is below it, which `item` reads, in either order.
    fn level(
        &mut self,
        name: &[u8],
        head: impl Fn(&mut Self) -> Found<Object<'py>>,
        below: &[u8],
        item: fn(&mut Self) -> Found<()>,
    ) -> Found<Object<'py>> {
        let (mut found, mut items) = (None, false);
        self.cursor.expect(b'{')?;
        loop {
            let member = self.cursor.name()?;
            if member == name && found.is_none() {
                found = Some(head(self)?);
            } else if member == below && !items && self.cursor.open(b'[', b']')? {
                items = true;
                loop {
                    item(self)?;
                    if !self.cursor.another(b']')? {
                        break;
                    }
                }
            } else if member == b"schemaUrl" {
                self.cursor.skip()?;
            } else {
                return Err(Stop::Odd);
            }
            if !self.cursor.another(b'}')? {
                break;
            }
        }
        found.filter(|_| items).ok_or(Stop::Odd)
    }

    fn metric(&mut self) -> Found<()> {
        self.cursor.next();
        let start = self.cursor.at;
        let mut points = None;
        self.fine = self.drops;
        self.cursor.expect(b'{')?;
        loop {
            match self.cursor.name()? {
                b"gauge" | b"sum" if points.is_none() => points = Some(self.data()?),
                b"gauge" | b"sum" => return Err(Stop::Odd),
                name if self.fine => self.check(name)?,
                _ => self.cursor.skip()?,
            }
            if !self.cursor.another(b'}')? {
                break;
            }
        }
        let Some((from, to)) = points else { return Err(Stop::Odd) };
        if self.fine {
            return self.columns.dropped();
        }
        let text = self.cursor.text;
        self.key.clear();
        self.key.extend_from_slice(&text[start..from]);
        self.key.extend_from_slice(&text[to..self.cursor.at]);
        let head = cached(self.columns.sifted()?.unwrap_or(self.heads_of), &self.key)?;
        if self.drops { self.columns.dropped() } else { self.columns.metric(head) }
    }

    /// Pass over a member of a metric, gauge or sum that is dropped, and see whether anything can be wrong with it.
    #[inline(never)]
    fn check(&mut self, name: &[u8]) -> Cut<()> {
        self.cursor.next();
        let start = self.cursor.at;
        self.cursor.skip()?;
        let value = &self.cursor.text[start..self.cursor.at];
        self.fine = match name {
            b"name" | b"description" | b"unit" => value.starts_with(b"\"") && !value.contains(&b'\\'),
            b"aggregationTemporality" => matches!(value, b"0" | b"1" | b"2"),
            b"isMonotonic" => matches!(value, b"true" | b"false"),
            _ => false,
        };
        Ok(())
    }

    /// The points of a gauge or sum, and where their array's inside is.
    fn data(&mut self) -> Found<(usize, usize)> {
        let mut points = None;
        self.cursor.expect(b'{')?;
        loop {
            match self.cursor.name()? {
                b"dataPoints" if points.is_none() => {
                    self.cursor.expect(b'[')?;
                    let from = self.cursor.at;
                    let first = self.columns.points();
                    loop {
                        self.point(self.columns.points() - first)?;
                        if !self.cursor.another(b']')? {
                            break;
                        }
                    }
                    points = Some((from, self.cursor.at - 1));
                }
                b"dataPoints" => return Err(Stop::Odd),
                name if self.fine => self.check(name)?,
                _ => self.cursor.skip()?,
            }
            if !self.cursor.another(b'}')? {
                break;
            }
        }
        points.ok_or(Stop::Odd)
    }

    fn point(&mut self, number: usize) -> Found<()> {
        if self.cursor.next() != b'{' {
            return Err(Stop::Odd);
        }
        let begin = self.cursor.at;
        let mut point = Point::default();
        let mut more = true;
        // A reader that has read the same bytes is in the same state. Points of a bundle have their times in common, so
        // that they are the same up to the value, and between it and the attributes all are.
        if self.cursor.pass(self.alike.text) {
            (point.start, point.time) = (self.alike.start, self.alike.time);
            self.number(self.alike.double)?;
            point.valued = true;
            if self.cursor.pass(self.alike.between) {
                let tail = self.attributes(number)?;
                if self.cursor.pass(self.alike.end) {
                    return self.columns.point(point.start, point.time, tail);
                }
                point.tail = Some(tail);
            }
            more = self.cursor.another(b'}')?;
        } else {
            self.cursor.at += 1;
        }
        let text = self.cursor.text;
        let mut value_end = None; // of the member before
        while more {
            let name = self.cursor.name()?;
            let value_before = value_end.take();
            let mut list = None;
            match name {
                b"startTimeUnixNano" if point.start.is_none() => point.start = Some(self.nanoseconds()?),
                b"timeUnixNano" if point.time.is_none() => point.time = Some(self.nanoseconds()?),
                b"asDouble" | b"asInt" if !point.valued => {
                    let double = name == b"asDouble";
                    // Only what stands before the value is remembered.
                    if point.tail.is_none() {
                        let text = &text[begin..self.cursor.at];
                        self.alike = Alike { text, start: point.start, time: point.time, double, ..self.alike };
                    }
                    self.number(double)?;
                    point.valued = true;
                    value_end = Some(self.cursor.at);
                }
                b"attributes" if point.tail.is_none() => {
                    self.cursor.next();
                    let from = self.cursor.at;
                    point.tail = Some(self.attributes(number)?);
                    list = value_before.map(|value| (value, from, self.cursor.at));
                }
                _ => return Err(Stop::Odd),
            }
            more = self.cursor.another(b'}')?;
            if let (Some((value, from, to)), false) = (list, more) {
                (self.alike.between, self.alike.end) = (&text[value..from], &text[to..self.cursor.at]);
            }
        }
        let (true, Some(tail)) = (point.valued, point.tail) else { return Err(Stop::Odd) };
        self.columns.point(point.start, point.time, tail)
    }

    /// What a list of attributes became. That of the point of the same number in the metric before is likely.
    fn attributes(&mut self, number: usize) -> Found<Object<'py>> {
        if let Some((_, piece)) = self.lists.get(number).filter(|(list, _)| self.cursor.pass(list)) {
            return Ok(piece.clone());
        }
        let (list, piece) = if self.drops { self.passed() } else { self.known(self.tails_of, b'[', b"]") }?;
        if number == self.lists.len() {
            grow(&mut self.lists, 1)?;
            self.lists.push((list, piece.clone()));
        } else if let Some(known) = self.lists.get_mut(number) {
            *known = (list, piece.clone());
        }
        Ok(piece)
    }

    /// A list of attributes that is dropped: nothing is made of it where nothing can be wrong with it.
    #[inline(never)]
    fn passed(&mut self) -> Found<(&'a [u8], Object<'py>)> {
        self.cursor.next();
        let start = self.cursor.at;
        if attributes::pass(&mut self.cursor).is_ok() {
            return Ok((&self.cursor.text[start..self.cursor.at], self.columns.nothing()));
        }
        self.cursor.at = start;
        self.known(self.tails_of, b'[', b"]")
    }

    /// A 64-bit integer's digits, as text or as number.
    fn quoted_digits(&mut self, signed: bool) -> Cut<&'a [u8]> {
        let quoted = self.cursor.next() == b'"';
        if quoted {
            self.cursor.at += 1;
        }
        let start = self.cursor.at;
        if signed && self.cursor.peek() == b'-' {
            self.cursor.at += 1;
        }
        if self.cursor.digits()? == b"0" && self.cursor.at - start > 1 {
            return Err(Odd); // -0
        }
        let found = &self.cursor.text[start..self.cursor.at];
        if quoted {
            if self.cursor.peek() != b'"' {
                return Err(Odd);
            }
            self.cursor.at += 1;
        } else if !ends_number(self.cursor.peek()) {
            return Err(Odd);
        }
        Ok(found)
    }

    fn nanoseconds(&mut self) -> Cut<&'a [u8]> {
        let found = self.quoted_digits(false)?;
        if found.len() > INTEGER + 1 { Err(Odd) } else { Ok(found) }
    }

    fn number(&mut self, double: bool) -> Cut<()> {
        if double { self.double() } else { self.integer() }
    }

    fn integer(&mut self) -> Cut<()> {
        let found = self.quoted_digits(true)?;
        if found.len() > INTEGER {
            return Err(Odd);
        }
        self.columns.values.written(found, b"");
        Ok(())
    }

    /// A decimal: its own text where reading and writing it gives just that, else the number.
    fn double(&mut self) -> Cut<()> {
        self.cursor.next();
        let start = self.cursor.at;
        let negative = self.cursor.peek() == b'-';
        if negative {
            self.cursor.at += 1;
        }
        let whole = self.cursor.digits()?;
        let mut plain = true;
        let mut fraction: &[u8] = b"";
        if self.cursor.peek() == b'.' {
            self.cursor.at += 1;
            let from = self.cursor.at;
            while self.cursor.peek().is_ascii_digit() {
                self.cursor.at += 1;
            }
            fraction = &self.cursor.text[from..self.cursor.at];
            if fraction.is_empty() {
                return Err(Odd);
            }
        }
        if matches!(self.cursor.peek(), b'e' | b'E') {
            plain = false;
            self.cursor.at += 1;
            if matches!(self.cursor.peek(), b'+' | b'-') {
                self.cursor.at += 1;
            }
            let from = self.cursor.at;
            while self.cursor.peek().is_ascii_digit() {
                self.cursor.at += 1;
            }
            if self.cursor.at == from {
                return Err(Odd);
            }
        }
        if !ends_number(self.cursor.peek()) {
            return Err(Odd);
        }
        let text = &self.cursor.text[start..self.cursor.at];
        if plain && whole.len() + fraction.len() <= DECIMAL {
            let zero = negative && whole == b"0";
            // No zero at the end but that of x.0, and none of the small numbers that may be written with an exponent.
            let small = whole == b"0" && fraction.starts_with(b"00");
            if fraction.is_empty() && !zero {
                self.columns.values.written(text, b".0");
                return Ok(());
            }
            if fraction == b"0" || (fraction.last().is_some_and(|&last| last != b'0') && !small) {
                self.columns.values.written(text, b"");
                return Ok(());
            }
        }
        let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok()).ok_or(Odd)?;
        // Readers differ in the sign of -0.
        if number.is_finite() && (number != 0.0 || !negative) { self.columns.values.double(number) } else { Err(Odd) }
    }
}

fn ends_number(byte: u8) -> bool {
    matches!(byte, b',' | b'}' | b' ' | b'\n' | b'\r' | b'\t')
}

/// Of so few digits that 64 bits hold them.
fn nanoseconds_of(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |number, digit| 10 * number + u64::from(digit - b'0'))
}
