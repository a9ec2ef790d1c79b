//! The columns of a bundle while it is read.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyInt, PyList, PyTuple};

use crate::decimal::Values;
use crate::memory::grow;
use crate::text::Odd;

/// Bytes of a payload for each of its points, at least: room is made for so many.
const POINT: usize = 256;

/// Why a bundle is not read to its end.
pub enum Stop {
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

pub type Found<T> = Result<T, Stop>;
pub type Object<'py> = Bound<'py, PyAny>;

/// What a cache has of these bytes, or makes of them. A subclass of dict would look itself up for each by its method.
#[inline]
pub fn cached<'py>(cache: &Bound<'py, PyDict>, bytes: &[u8]) -> PyResult<Object<'py>> {
    let key = PyBytes::new(cache.py(), bytes);
    match cache.get_item(&key)? {
        Some(found) => Ok(found),
        None => cache.as_any().get_item(key),
    }
}

/// Bytes of a number, and the number.
type Known<'a, 'py> = (&'a [u8], Object<'py>);

pub struct Columns<'a, 'py> {
    py: Python<'py>,
    zero: Object<'py>,
    /// Each with the scopes up to its last.
    resources: Vec<(Object<'py>, usize)>,
    /// Each with the points up to its last.
    scopes: Vec<(Object<'py>, usize)>,
    heads: Vec<Object<'py>>,
    stops: Vec<usize>,
    times: Vec<Object<'py>>,
    starts: Vec<Object<'py>>,
    pub values: Values,
    tails: Vec<Object<'py>>,
    time: Known<'a, 'py>,
    start: Known<'a, 'py>,
    /// What a number's bytes say.
    read: fn(&[u8]) -> u64,
    most: usize,
}

impl<'a, 'py> Columns<'a, 'py> {
    pub fn new(py: Python<'py>, bytes: usize, read: fn(&[u8]) -> u64, most: usize) -> Self {
        let zero = PyInt::new(py, 0).into_any();
        let room = bytes / POINT;
        Self {
            py,
            resources: Vec::new(),
            scopes: Vec::new(),
            heads: Vec::with_capacity(room / 2),
            stops: Vec::with_capacity(room / 2),
            times: Vec::with_capacity(room),
            starts: Vec::with_capacity(room),
            values: Values::with_capacity(room),
            tails: Vec::with_capacity(room),
            time: (b"", zero.clone()),
            start: (b"", zero.clone()),
            zero,
            read,
            most,
        }
    }

    /// Points so far.
    #[inline]
    pub fn points(&self) -> usize {
        self.tails.len()
    }

    /// The rest of a point, whose value stands already.
    pub fn point(&mut self, start: Option<&'a [u8]>, time: Option<&'a [u8]>, tail: Object<'py>) -> Found<()> {
        if self.tails.len() == self.most {
            return Err(Stop::Odd);
        }
        grow(&mut self.tails, 1)?;
        grow(&mut self.times, 1)?;
        grow(&mut self.starts, 1)?;
        self.values.grow()?;
        self.tails.push(tail);
        self.times.push(number(&mut self.time, time, &self.zero, self.read));
        self.starts.push(number(&mut self.start, start, &self.zero, self.read));
        Ok(())
    }

    /// The points since the last call are those of a metric.
    pub fn metric(&mut self, head: Object<'py>) -> Found<()> {
        grow(&mut self.heads, 1)?;
        grow(&mut self.stops, 1)?;
        self.heads.push(head);
        self.stops.push(self.tails.len());
        Ok(())
    }

    /// The metrics since the last call are those of a scope.
    pub fn scope(&mut self, scope: Object<'py>) -> Found<()> {
        grow(&mut self.scopes, 1)?;
        self.scopes.push((scope, self.tails.len()));
        Ok(())
    }

    /// The scopes since the last call are those of a resource.
    pub fn resource(&mut self, resource: Object<'py>) -> Found<()> {
        grow(&mut self.resources, 1)?;
        self.resources.push((resource, self.scopes.len()));
        Ok(())
    }

    /// What Python gets; None where the bundle was not read to its end. Raises what stopped it.
    pub fn answer(self, read: Found<()>, encode: &Object<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        match read {
            Ok(()) => {}
            Err(Stop::Odd) => return Ok(None),
            Err(Stop::Python(error)) => return Err(error),
        }
        let py = self.py;
        let series = PyList::empty(py);
        let mut scopes = self.scopes.iter();
        let mut from = 0;
        for (resource, to) in &self.resources {
            for (scope, stop) in scopes.by_ref().take(to - from) {
                series.append((resource, scope, stop))?;
            }
            from = *to;
        }
        let columns = (
            series,
            self.resources.len(),
            PyList::new(py, self.heads)?,
            PyList::new(py, self.stops)?,
            PyList::new(py, self.times)?,
            PyList::new(py, self.starts)?,
            self.values.finish(py, encode)?,
            PyList::new(py, self.tails)?,
        );
        columns.into_pyobject(py).map(Some)
    }
}

/// The number of these bytes. Points of a bundle share their times, so that the one before is likely.
#[inline]
fn number<'a, 'py>(
    before: &mut Known<'a, 'py>,
    bytes: Option<&'a [u8]>,
    zero: &Object<'py>,
    read: fn(&[u8]) -> u64,
) -> Object<'py> {
    let Some(bytes) = bytes else { return zero.clone() };
    if bytes != before.0 {
        *before = (bytes, PyInt::new(zero.py(), read(bytes)).into_any());
    }
    before.1.clone()
}
