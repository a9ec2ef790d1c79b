//! The columns of a bundle while it is read.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyInt, PyList, PyTuple};

use crate::decimal::Values;
use crate::memory::grow;
use crate::scaling::{Run, scaled};
use crate::sieve::{Decided, Sieve, Sifting};
use crate::text::Odd;

/// Bytes of a payload for each of its points, at least: room is made for so many.
const POINT: usize = 256;

/// Why a bundle is not read to its end.
pub enum Stop {
    Odd,
    /// It has to be read once more, without a sieve.
    Whole,
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
    asked(cache, PyBytes::new(cache.py(), bytes).into_any())
}

/// The same by any key.
#[inline]
pub fn asked<'py>(cache: &Bound<'py, PyDict>, key: Object<'py>) -> PyResult<Object<'py>> {
    match cache.get_item(&key)? {
        Some(found) => Ok(found),
        None => cache.as_any().get_item(key),
    }
}

/// The start and the time of a point, as they were sent.
type Began<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

/// The time and the start of points that follow one another, the first of these points, and how they were sent.
type Times<'a, 'py> = (Object<'py>, Object<'py>, usize, Began<'a>);

pub struct Columns<'a, 'py> {
    py: Python<'py>,
    zero: Object<'py>,
    /// Each with the scopes up to its last.
    resources: Vec<(Object<'py>, usize)>,
    /// Each with the points up to its last.
    scopes: Vec<(Object<'py>, usize)>,
    heads: Vec<Object<'py>>,
    stops: Vec<usize>,
    times: Vec<Times<'a, 'py>>,
    pub values: Values,
    tails: Vec<Object<'py>>,
    /// Of the run of times that is read.
    began: Began<'a>,
    /// What a number's bytes say.
    read: fn(&[u8]) -> u64,
    /// Points that there may be, beside those that were dropped.
    most: usize,
    sifting: Option<Sifting<'py>>,
    /// Where the values of the metric that is read begin.
    from: usize,
    /// Values that are in another unit, once all are read.
    runs: Vec<Run>,
}

impl<'a, 'py> Columns<'a, 'py> {
    pub fn new(
        py: Python<'py>,
        bytes: usize,
        read: fn(&[u8]) -> u64,
        most: usize,
        sieve: Option<&Bound<'py, Sieve>>,
    ) -> Self {
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
            sifting: sieve.map(Sifting::new),
            from: 0,
            runs: Vec::new(),
        }
    }

    /// Points of the metrics that were read, dropped ones too.
    pub fn read(&self) -> usize {
        self.tails.len() + self.sifting.as_ref().map_or(0, |sifting| sifting.points)
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
            if self.times.last().is_some_and(|run| run.2 == self.tails.len()) {
                self.times.pop(); // all of its points are dropped
            }
            self.times.push((self.number(time), self.number(start), self.tails.len(), (start, time)));
            self.began = (start, time);
        }
        grow(&mut self.tails, 1)?;
        self.values.grow()?;
        self.tails.push(tail);
        Ok(())
    }

    /// The points since the last call are those of a metric.
    pub fn metric(&mut self, head: Object<'py>) -> Found<()> {
        let head = match self.sifting {
            None => head,
            Some(_) => match self.sift(head)? {
                Some(head) => head,
                None => return Ok(()),
            },
        };
        grow(&mut self.heads, 1)?;
        grow(&mut self.stops, 1)?;
        self.heads.push(head);
        self.stops.push(self.tails.len());
        Ok(())
    }

    /// The points since the last call are those of a metric that is dropped, as all of its scope.
    pub fn dropped(&mut self) -> Found<()> {
        let Some(rule) = self.sifting.as_ref().and_then(Sifting::all) else { return Err(Stop::Whole) };
        self.drop(rule)
    }

    /// In place of attributes of a point that is dropped.
    pub fn nothing(&self) -> Object<'py> {
        self.py.None().into_bound(self.py)
    }

    /// Whether all is dropped of the scope that is read.
    pub fn drops(&self) -> bool {
        self.sifting.as_ref().is_some_and(|sifting| sifting.all().is_some())
    }

    /// What follows is below this resource.
    pub fn below(&mut self, resource: &Object<'py>) -> Found<()> {
        Ok(self.sifting.as_mut().map_or(Ok(()), |sifting| sifting.below(Some(resource)))?)
    }

    /// The same of a scope.
    pub fn within(&mut self, scope: &Object<'py>) -> Found<()> {
        let Some(sifting) = &mut self.sifting else { return Ok(()) };
        if sifting.within(Some(scope))? { Ok(()) } else { self.leave() }
    }

    /// What becomes of the metric that was read, by its bytes, where it goes through a sieve.
    #[inline]
    pub fn sifted(&mut self) -> Found<Option<&Bound<'py, PyDict>>> {
        if self.sifting.as_ref().is_some_and(|sifting| !sifting.ready()) {
            self.leave()?; // its resource or scope stands behind it
        }
        Ok(self.sifting.as_ref().and_then(Sifting::heads))
    }

    /// The metrics since the last call are those of a scope.
    pub fn scope(&mut self, scope: Object<'py>) -> Found<()> {
        if let Some(sifting) = &mut self.sifting {
            sifting.within(None)?;
        }
        grow(&mut self.scopes, 1)?;
        self.scopes.push((scope, self.tails.len()));
        Ok(())
    }

    /// The scopes since the last call are those of a resource.
    pub fn resource(&mut self, resource: Object<'py>) -> Found<()> {
        if let Some(sifting) = &mut self.sifting {
            sifting.below(None)?;
        }
        grow(&mut self.resources, 1)?;
        self.resources.push((resource, self.scopes.len()));
        Ok(())
    }

    /// What rules leave of a metric whose points were read; None where they drop all of it. Apart, so that without
    /// rules less code is run.
    #[inline(never)]
    fn sift(&mut self, head: Object<'py>) -> Found<Option<Object<'py>>> {
        let Ok(decided) = head.cast_exact::<Decided>() else {
            self.from = self.values.len();
            return if head.is_none() { Err(Stop::Whole) } else { Ok(Some(head)) };
        };
        let decided = decided.get();
        if let Some(rule) = decided.drop.checked_sub(1) {
            self.drop(rule)?;
            return Ok(None);
        }
        let (first, points) = (self.stops.last().map_or(0, |stop| *stop), self.tails.len());
        if let Some(verdicts) = &decided.points {
            self.sift_points(verdicts.bind(self.py), first)?;
        }
        let left = self.tails.len();
        if left < points {
            self.lost(points - left);
        }
        if left == first {
            self.sifting.iter_mut().for_each(|sifting| sifting.metrics += 1);
            return Ok(None);
        }
        let (from, to) = (self.from, self.values.len());
        self.from = to;
        if decided.power != 0 {
            let (power, count) = (decided.power, left - first);
            if let Some(run) = self.runs.last_mut().filter(|run| run.to == from && run.power == power) {
                (run.to, run.count) = (to, run.count + count);
            } else {
                grow(&mut self.runs, 1)?;
                self.runs.push(Run { from, to, count, power });
            }
        }
        Ok(Some(decided.metric.bind(self.py).clone()))
    }

    /// Forget the points of the metric that was read.
    fn drop(&mut self, rule: u8) -> Found<()> {
        let Some(sifting) = &mut self.sifting else { return Err(Stop::Whole) };
        let (first, points) = (self.stops.last().map_or(0, |stop| *stop), self.tails.len());
        if sifting.counts(&self.tails[first..])? {
            return Err(Stop::Whole);
        }
        sifting.drop(first, points - first, rule)?;
        sifting.metrics += 1;
        self.tails.truncate(first);
        self.values.truncate(self.from);
        while self.times.last().is_some_and(|run| run.2 > first) {
            self.times.pop();
        }
        self.lost(points - first);
        Ok(())
    }

    /// So many points are there no more.
    fn lost(&mut self, points: usize) {
        self.most -= points;
        self.began = self.times.last().map_or((None, None), |run| run.3);
    }

    /// Drop those of the points behind the first ones that have a verdict.
    fn sift_points(&mut self, verdicts: &Bound<'py, PyDict>, first: usize) -> Found<()> {
        let Some(sifting) = &mut self.sifting else { return Err(Stop::Whole) };
        if !sifting.judge(verdicts, &self.tails[first..])? {
            return Ok(());
        }
        self.values.keep(self.from, &sifting.verdicts).map_err(|_| Stop::Whole)?;
        let mut left = first;
        for (at, &verdict) in (first..).zip(&sifting.verdicts) {
            self.tails.swap(left, at);
            left += usize::from(verdict == 0);
        }
        self.tails.truncate(left);
        let later = self.times.partition_point(|run| run.2 <= first);
        if later < self.times.len() {
            let mut left = first;
            let mut runs = self.times.split_off(later).into_iter().peekable();
            for (at, &verdict) in (first..).zip(&sifting.verdicts) {
                while let Some(mut run) = runs.next_if(|run| run.2 == at) {
                    run.2 = left;
                    if self.times.last().is_some_and(|last| last.2 == left) {
                        self.times.pop(); // all of its points are dropped
                    }
                    self.times.push(run);
                }
                left += usize::from(verdict == 0);
            }
        }
        Ok(sifting.drop_some(first)?)
    }

    /// All is read: put values into their units.
    pub fn end(&mut self) -> Found<()> {
        if !self.runs.is_empty() {
            self.values = scaled(&self.values, &self.runs).map_err(|_| Stop::Whole)?;
        }
        Ok(())
    }

    /// Do without the sieve, unless metrics went through it.
    fn leave(&mut self) -> Found<()> {
        let begun = !self.heads.is_empty();
        if self.sifting.take().is_some_and(|sifting| begun || sifting.points > 0) { Err(Stop::Whole) } else { Ok(()) }
    }

    /// A time for each point.
    fn each(&self, of: impl Fn(&Times<'a, 'py>) -> Object<'py>) -> PyResult<Bound<'py, PyList>> {
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

    /// What Python gets; None where the bundle was not read to its end. Raises what stopped it.
    pub fn answer(mut self, read: Found<()>, encode: &Object<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        match read {
            Ok(()) => {}
            Err(Stop::Odd | Stop::Whole) => return Ok(None),
            Err(Stop::Python(error)) => return Err(error),
        }
        let py = self.py;
        let (read, sifted) = (self.read(), self.sifting.take());
        if self.times.last().is_some_and(|run| run.2 == self.tails.len()) {
            self.times.pop(); // all of its points are dropped
        }
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
            for (at, (time, start, ..)) in self.times.iter().enumerate() {
                moments.push((time, start, self.times.get(at + 1).map_or(self.tails.len(), |run| run.2)));
            }
        }
        let (times, starts) = (self.each(|run| run.0.clone())?, self.each(|run| run.1.clone())?);
        let moments = PyList::new(py, moments)?;
        let (resources, scopes) = (self.resources.len(), self.scopes.len());
        let metrics = self.heads.len() + sifted.as_ref().map_or(0, |sifting| sifting.metrics);
        let columns = (
            series,
            (resources, scopes, metrics, read),
            PyList::new(py, self.heads)?,
            PyList::new(py, self.stops)?,
            times,
            starts,
            moments,
            self.values.finish(py, encode)?,
            PyList::new(py, self.tails)?,
            sifted.map(|sifting| sifting.answer(read)).transpose()?,
        );
        columns.into_pyobject(py).map(Some)
    }
}
