//! A plain OTLP/JSON bundle into columns.
//!
//! Plain is: resources, scopes, gauges and sums with their known members once each, and points with a time, one number
//! and attributes. What a row needs of a resource, a scope, a metric or a list of attributes is asked of Python's caches
//! by its bytes; of a metric these are its bytes without its points.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyFloat, PyInt, PyList, PyTuple};

use crate::text::{Cursor, Cut, Odd};

/// Digits of an integer that surely fit 64 bits.
const INTEGER: usize = 18;
/// Significant digits of a decimal that survive the way through a double: `DBL_DIG`.
const DECIMAL: usize = 15;

enum Stop {
    Odd,
    Python(PyErr),
}

impl From<Odd> for Stop {
    fn from(_: Odd) -> Self {
        Self::Odd
    }
}

impl From<PyErr> for Stop {
    fn from(error: PyErr) -> Self {
        Self::Python(error)
    }
}

type Found<T> = Result<T, Stop>;
type Object<'py> = Bound<'py, PyAny>;

/// What a value's text is without being read and written: itself, or a number to be written by the engine.
enum Value<'a> {
    Text(&'a [u8]),
    Whole(&'a [u8]),
    Number(f64),
}

/// A point as far as it was read; `from` and `to` are where its value stands.
#[derive(Default)]
struct Point<'a, 'py> {
    start: Option<&'a [u8]>,
    time: Option<&'a [u8]>,
    value: Option<Value<'a>>,
    tail: Option<Object<'py>>,
    from: usize,
    to: usize,
}

/// How the last point began, up to its value, and what that says.
#[derive(Default)]
struct Alike<'a> {
    text: &'a [u8],
    start: Option<&'a [u8]>,
    time: Option<&'a [u8]>,
    double: bool,
}

struct Scan<'a, 'py> {
    py: Python<'py>,
    cursor: Cursor<'a>,
    resources_of: &'a Bound<'py, PyDict>,
    scope_of: &'a Object<'py>,
    heads_of: &'a Object<'py>,
    tails_of: &'a Bound<'py, PyDict>,
    series: Vec<Object<'py>>,
    heads: Vec<Object<'py>>,
    stops: Vec<usize>,
    times: Vec<Object<'py>>,
    starts: Vec<Object<'py>>,
    /// With commas between.
    values: Vec<u8>,
    tails: Vec<Object<'py>>,
    /// Attributes of the metric before and what they became: those of the same instances follow, in the same order.
    lists: Vec<(&'a [u8], Object<'py>)>,
    alike: Alike<'a>,
    /// What stood behind the values of the metric before, and what its list became.
    rests: Vec<(&'a [u8], Object<'py>)>,
    numbers: Vec<f64>,
    number_at: Vec<usize>,
    time: (&'a [u8], Object<'py>),
    start: (&'a [u8], Object<'py>),
    zero: Object<'py>,
    most: usize,
    resources: usize,
    key: Vec<u8>,
}

/// Columns of a plain bundle, or None.
///
/// `resources`, `heads` and `tails` are dictionaries that make what they lack; `scope` is called. Answers (series,
/// resources, heads, stops, times, starts, values, tails): series as (resource, scope, stop), values as their JSON text,
/// written by `encode` where it is not the sender's. More than `most` points are not plain. Raises what making raises.
#[pyfunction]
pub fn scan<'py>(
    payload: &Bound<'py, PyBytes>,
    resources: &Bound<'py, PyDict>,
    scope: &Object<'py>,
    heads: &Object<'py>,
    tails: &Bound<'py, PyDict>,
    encode: &Object<'py>,
    most: usize,
) -> PyResult<Option<Bound<'py, PyTuple>>> {
    let py = payload.py();
    let text = payload.as_bytes();
    if std::str::from_utf8(text).is_err() {
        return Ok(None);
    }
    let zero = PyInt::new(py, 0).into_any();
    let room = text.len() / 256;
    let mut scan = Scan {
        py,
        cursor: Cursor::new(text),
        resources_of: resources,
        scope_of: scope,
        heads_of: heads,
        tails_of: tails,
        series: Vec::new(),
        heads: Vec::new(),
        stops: Vec::new(),
        times: Vec::with_capacity(room),
        starts: Vec::with_capacity(room),
        values: Vec::with_capacity(8 * room),
        tails: Vec::with_capacity(room),
        lists: Vec::new(),
        alike: Alike::default(),
        rests: Vec::new(),
        numbers: Vec::new(),
        number_at: Vec::new(),
        time: (b"", zero.clone()),
        start: (b"", zero.clone()),
        zero,
        most,
        resources: 0,
        key: Vec::new(),
    };
    match scan.bundle().and_then(|()| scan.write_numbers(encode)) {
        Ok(()) => scan.columns().map(Some),
        Err(Stop::Odd) => Ok(None),
        Err(Stop::Python(error)) => Err(error),
    }
}

impl<'a, 'py> Scan<'a, 'py> {
    fn bundle(&mut self) -> Found<()> {
        self.cursor.expect(b'{')?;
        if self.cursor.name()? != b"resourceMetrics" || !self.cursor.open(b'[', b']')? {
            return Err(Stop::Odd);
        }
        loop {
            self.resource_metrics()?;
            self.resources += 1;
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
        if let Some(found) = of.get_item(PyBytes::new(self.py, likely))? {
            self.cursor.at = stop;
            return Ok((likely, found));
        }
        let value = self.raw(open)?;
        let found = of.as_any().get_item(PyBytes::new(self.py, value))?;
        Ok((value, found))
    }

    fn resource_metrics(&mut self) -> Found<()> {
        let first = self.series.len();
        let (mut resource, mut scopes) = (None, false);
        self.cursor.expect(b'{')?;
        loop {
            match self.cursor.name()? {
                b"resource" if resource.is_none() => resource = Some(self.known(self.resources_of, b'{', b"]}")?.1),
                b"scopeMetrics" if !scopes && self.cursor.open(b'[', b']')? => {
                    scopes = true;
                    loop {
                        self.scope_metrics()?;
                        if !self.cursor.another(b']')? {
                            break;
                        }
                    }
                }
                b"schemaUrl" => self.cursor.skip()?,
                _ => return Err(Stop::Odd),
            }
            if !self.cursor.another(b'}')? {
                break;
            }
        }
        let (Some(resource), true) = (resource, scopes) else { return Err(Stop::Odd) };
        for series in &mut self.series[first..] {
            let (scope, stop): (Object<'py>, usize) = series.extract()?;
            *series = (&resource, scope, stop).into_pyobject(self.py)?.into_any();
        }
        Ok(())
    }

    fn scope_metrics(&mut self) -> Found<()> {
        let (mut scope, mut metrics) = (None, false);
        self.lists.clear();
        self.rests.clear();
        self.cursor.expect(b'{')?;
        loop {
            match self.cursor.name()? {
                b"scope" if scope.is_none() => scope = Some(self.raw(b'{')?),
                b"metrics" if !metrics && self.cursor.open(b'[', b']')? => {
                    metrics = true;
                    loop {
                        self.metric()?;
                        if !self.cursor.another(b']')? {
                            break;
                        }
                    }
                }
                b"schemaUrl" => self.cursor.skip()?,
                _ => return Err(Stop::Odd),
            }
            if !self.cursor.another(b'}')? {
                break;
            }
        }
        let (Some(scope), true) = (scope, metrics) else { return Err(Stop::Odd) };
        let scope = self.scope_of.call1((PyBytes::new(self.py, scope),))?;
        self.series.push((scope, self.tails.len()).into_pyobject(self.py)?.into_any());
        Ok(())
    }

    fn metric(&mut self) -> Found<()> {
        self.cursor.next();
        let start = self.cursor.at;
        let mut points = None;
        self.cursor.expect(b'{')?;
        loop {
            match self.cursor.name()? {
                b"gauge" | b"sum" if points.is_none() => points = Some(self.data()?),
                b"gauge" | b"sum" => return Err(Stop::Odd),
                _ => self.cursor.skip()?,
            }
            if !self.cursor.another(b'}')? {
                break;
            }
        }
        let Some((from, to)) = points else { return Err(Stop::Odd) };
        let text = self.cursor.text;
        self.key.clear();
        self.key.extend_from_slice(&text[start..from]);
        self.key.extend_from_slice(&text[to..self.cursor.at]);
        let head = self.heads_of.get_item(PyBytes::new(self.py, &self.key))?;
        self.heads.push(head);
        self.stops.push(self.tails.len());
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
                    let first = self.tails.len();
                    loop {
                        self.point(self.tails.len() - first)?;
                        if !self.cursor.another(b']')? {
                            break;
                        }
                    }
                    points = Some((from, self.cursor.at - 1));
                }
                b"dataPoints" => return Err(Stop::Odd),
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
        let text = self.cursor.text;
        let begin = self.cursor.at;
        let mut point = Point::default();
        // A reader that has read the same bytes is in the same state. Points of a bundle have their times in common, so
        // that they are the same up to the value, and behind it those of the same instance of two metrics.
        let alike = !self.alike.text.is_empty() && text[begin..].starts_with(self.alike.text);
        let mut more = true;
        if alike {
            self.cursor.at += self.alike.text.len();
            let from = self.cursor.at;
            point = Point { start: self.alike.start, time: self.alike.time, ..point };
            point.value = Some(if self.alike.double { self.double()? } else { self.integer()? });
            (point.from, point.to) = (from, self.cursor.at);
            if let Some((rest, tail)) = self.rests.get(number).filter(|(rest, _)| text[point.to..].starts_with(rest)) {
                self.cursor.at += rest.len();
                point.tail = Some(tail.clone());
                return self.add(point);
            }
            more = self.cursor.another(b'}')?;
        } else {
            self.cursor.at += 1;
        }
        while more {
            let name = self.cursor.name()?;
            match name {
                b"startTimeUnixNano" if point.start.is_none() => point.start = Some(self.nanoseconds()?),
                b"timeUnixNano" if point.time.is_none() => point.time = Some(self.nanoseconds()?),
                b"asDouble" | b"asInt" if point.value.is_none() => {
                    point.from = self.cursor.at;
                    point.value = Some(if name == b"asInt" { self.integer()? } else { self.double()? });
                    point.to = self.cursor.at;
                    // Only what stands before the value is remembered.
                    if point.tail.is_none() {
                        let (start, time) = (point.start, point.time);
                        self.alike = Alike { text: &text[begin..point.from], start, time, double: name != b"asInt" };
                    }
                }
                b"attributes" if point.tail.is_none() => point.tail = Some(self.attributes(number)?),
                _ => return Err(Stop::Odd),
            }
            more = self.cursor.another(b'}')?;
        }
        let rest = &text[point.to..self.cursor.at];
        let only_list =
            point.start.is_some() == self.alike.start.is_some() && point.time.is_some() == self.alike.time.is_some();
        if let (true, Some(tail)) = (alike && only_list, &point.tail) {
            if number < self.rests.len() {
                self.rests[number] = (rest, tail.clone());
            } else if number == self.rests.len() {
                self.rests.push((rest, tail.clone()));
            }
        }
        self.add(point)
    }

    fn add(&mut self, point: Point<'a, 'py>) -> Found<()> {
        let (Some(value), Some(tail)) = (point.value, point.tail) else { return Err(Stop::Odd) };
        if self.tails.len() == self.most {
            return Err(Stop::Odd);
        }
        self.tails.push(tail);
        let time = integer(&mut self.time, point.time, &self.zero)?;
        self.times.push(time);
        let start = integer(&mut self.start, point.start, &self.zero)?;
        self.starts.push(start);
        match value {
            Value::Text(text) => self.values.extend_from_slice(text),
            Value::Whole(text) => {
                self.values.extend_from_slice(text);
                self.values.extend_from_slice(b".0");
            }
            Value::Number(number) => {
                self.number_at.push(self.values.len());
                self.numbers.push(number);
            }
        }
        self.values.push(b',');
        Ok(())
    }

    /// What a list of attributes became. That of the point of the same number in the metric before is likely.
    fn attributes(&mut self, number: usize) -> Found<Object<'py>> {
        self.cursor.next();
        let rest = &self.cursor.text[self.cursor.at..];
        if let Some((list, piece)) = self.lists.get(number).filter(|(list, _)| rest.starts_with(list)) {
            self.cursor.at += list.len();
            return Ok(piece.clone());
        }
        let (list, piece) = self.known(self.tails_of, b'[', b"]")?;
        if number == self.lists.len() {
            self.lists.push((list, piece.clone()));
        } else if let Some(known) = self.lists.get_mut(number) {
            *known = (list, piece.clone());
        }
        Ok(piece)
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

    fn integer(&mut self) -> Cut<Value<'a>> {
        let found = self.quoted_digits(true)?;
        if found.len() > INTEGER { Err(Odd) } else { Ok(Value::Text(found)) }
    }

    /// A decimal: its own text where reading and writing it gives just that, else the number.
    fn double(&mut self) -> Cut<Value<'a>> {
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
            if fraction.is_empty() && !(negative && whole == b"0") {
                return Ok(Value::Whole(text));
            }
            // No zero at the end but that of x.0, and none of the small numbers that may be written with an exponent.
            let small = whole == b"0" && fraction.starts_with(b"00");
            if fraction == b"0" || (fraction.last() != Some(&b'0') && !fraction.is_empty() && !small) {
                return Ok(Value::Text(text));
            }
        }
        let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok()).ok_or(Odd)?;
        // Readers differ in the sign of -0.
        if number.is_finite() && (number != 0.0 || !negative) { Ok(Value::Number(number)) } else { Err(Odd) }
    }

    /// Have the numbers written that are not written as they were sent.
    fn write_numbers(&mut self, encode: &Object<'py>) -> Found<()> {
        if self.numbers.is_empty() {
            return Ok(());
        }
        let numbers = PyList::new(self.py, self.numbers.iter().map(|&number| PyFloat::new(self.py, number)))?;
        let written: Bound<'py, PyBytes> = encode.call1((numbers,))?.extract().map_err(PyErr::from)?;
        let written = written.as_bytes();
        let inside = written.get(1..written.len().saturating_sub(1)).unwrap_or_default();
        let mut texts = inside.split(|&byte| byte == b',');
        let given = std::mem::take(&mut self.values);
        let mut from = 0;
        for &at in &self.number_at {
            let text = texts.next().ok_or_else(|| PyRuntimeError::new_err("fewer numbers written than given"))?;
            self.values.extend_from_slice(&given[from..at]);
            self.values.extend_from_slice(text);
            from = at;
        }
        self.values.extend_from_slice(&given[from..]);
        Ok(())
    }

    fn columns(self) -> PyResult<Bound<'py, PyTuple>> {
        let py = self.py;
        (
            PyList::new(py, self.series)?,
            self.resources,
            PyList::new(py, self.heads)?,
            PyList::new(py, self.stops)?,
            PyList::new(py, self.times)?,
            PyList::new(py, self.starts)?,
            PyBytes::new(py, self.values.strip_suffix(b",").unwrap_or_default()),
            PyList::new(py, self.tails)?,
        )
            .into_pyobject(py)
    }
}

fn ends_number(byte: u8) -> bool {
    matches!(byte, b',' | b'}' | b' ' | b'\n' | b'\r' | b'\t')
}

/// The integer of these digits. Points of a bundle share their times, so that the one before is likely.
fn integer<'a, 'py>(
    before: &mut (&'a [u8], Object<'py>),
    digits: Option<&'a [u8]>,
    zero: &Object<'py>,
) -> Found<Object<'py>> {
    let Some(digits) = digits else { return Ok(zero.clone()) };
    if digits != before.0 {
        let number = std::str::from_utf8(digits).ok().and_then(|text| text.parse::<i64>().ok()).ok_or(Stop::Odd)?;
        *before = (digits, PyInt::new(zero.py(), number).into_any());
    }
    Ok(before.1.clone())
}
