//! The columns of a bundle while it is read.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyInt, PyList, PyTuple};

use crate::decimal::Values;
use crate::memory::grow;
use crate::sieve::Sieve;
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

/// The time and the start of points that follow one another, and the first of these points.
type Times<'py> = (Object<'py>, Object<'py>, usize);

pub struct Columns<'a, 'py> {
    py: Python<'py>,
    zero: Object<'py>,
    /// Each with the scopes up to its last.
    pub resources: Vec<(Object<'py>, usize)>,
    /// Each with the points up to its last.
    pub scopes: Vec<(Object<'py>, usize)>,
    pub heads: Vec<Object<'py>>,
    pub stops: Vec<usize>,
    pub times: Vec<Times<'py>>,
    pub values: Values,
    pub tails: Vec<Object<'py>>,
    /// Of the point before.
    began: (Option<&'a [u8]>, Option<&'a [u8]>),
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
            times: Vec::new(),
            values: Values::with_capacity(room),
            tails: Vec::with_capacity(room),
            began: (None, None),
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
        if (start, time) != self.began || self.times.is_empty() {
            grow(&mut self.times, 1)?;
            self.times.push((self.number(time), self.number(start), self.tails.len()));
            self.began = (start, time);
        }
        grow(&mut self.tails, 1)?;
        self.values.grow()?;
        self.tails.push(tail);
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

    /// Forget all points.
    pub fn clear(&mut self) {
        (self.heads, self.stops, self.tails) = (Vec::new(), Vec::new(), Vec::new());
        (self.times, self.values) = (Vec::new(), Values::default());
        self.scopes.iter_mut().for_each(|scope| scope.1 = 0);
    }

    /// A time for each point.
    fn each(&self, of: impl Fn(&Times<'py>) -> Object<'py>) -> PyResult<Bound<'py, PyList>> {
        let mut run = 0;
        PyList::new(
            self.py,
            (0..self.tails.len()).map(|point| {
                while self.times.get(run + 1).is_some_and(|next| next.2 <= point) {
                    run += 1;
                }
                of(&self.times[run])
            }),
        )
    }

    fn number(&self, bytes: Option<&[u8]>) -> Object<'py> {
        match bytes {
            Some(bytes) => PyInt::new(self.py, (self.read)(bytes)).into_any(),
            None => self.zero.clone(),
        }
    }

    /// What Python gets; None where the bundle was not read to its end. Raises what stopped it, and what the sieve raises.
    pub fn answer(
        mut self,
        read: Found<()>,
        encode: &Object<'py>,
        sieve: Option<&Bound<'py, Sieve>>,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        match read {
            Ok(()) => {}
            Err(Stop::Odd) => return Ok(None),
            Err(Stop::Python(error)) => return Err(error),
        }
        let py = self.py;
        let scopes = self.scopes.len();
        let sifted = match sieve {
            Some(sieve) => sieve.get().sift(&mut self)?,
            None => None,
        };
        let series = PyList::empty(py);
        let mut ends = self.scopes.iter();
        let (mut from, mut start) = (0, 0);
        for (resource, to) in &self.resources {
            for (scope, stop) in ends.by_ref().take(to - from) {
                if *stop > start || sifted.is_none() {
                    series.append((resource, scope, stop))?;
                }
                start = *stop;
            }
            from = *to;
        }
        let mut moments = Vec::new();
        if self.times.len() > 1 {
            for (at, (time, start, _)) in self.times.iter().enumerate() {
                moments.push((time, start, self.times.get(at + 1).map_or(self.tails.len(), |run| run.2)));
            }
        }
        let (times, starts) = (self.each(|run| run.0.clone())?, self.each(|run| run.1.clone())?);
        let moments = PyList::new(py, moments)?;
        let columns = (
            series,
            self.resources.len(),
            PyList::new(py, self.heads)?,
            PyList::new(py, self.stops)?,
            times,
            starts,
            moments,
            self.values.finish(py, encode)?,
            PyList::new(py, self.tails)?,
            sifted.map(|sifted| (scopes, sifted.metrics, (sifted.points, sifted.kept, sifted.dropped))),
        );
        columns.into_pyobject(py).map(Some)
    }
}
