//! What rules decide of a metric and its points, as soon as these are read: what they drop leaves nothing behind, values
//! that they scale are scaled, and a metric that they change has another in its place.

use std::sync::{Mutex, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple, PyType};

use crate::columns::{Found, Object, Stop, asked};

/// Resources and scopes of other bits that are known. With more all is asked again.
const KNOWN: usize = 256;
/// Classes whose verdicts are at hand.
const SEEN: usize = 8;

/// What rules decide of a metric below a resource and scope, where that is more than which metric it becomes.
#[pyclass(frozen)]
pub struct Decided {
    /// What it becomes.
    pub metric: Py<PyAny>,
    /// The number behind that of the rule that drops all of its points; 0 where none does.
    pub drop: u8,
    /// Its values are multiplied by two to this.
    pub power: i32,
    /// Where rules decide by the point: from the class of its attributes to a number as above, or to None where that says
    /// too little.
    pub points: Option<Py<PyDict>>,
}

#[pymethods]
impl Decided {
    #[new]
    fn new(metric: Py<PyAny>, drop: u8, power: i32, points: Option<Py<PyDict>>) -> Self {
        Self { metric, drop, power, points }
    }
}

/// Of the bits of a resource and of a scope, which are known by where they are.
struct Kind {
    above: [Py<PyAny>; 2],
    heads: Option<Py<PyDict>>,
}

/// What `lmstream.engine.shaping.sieving` decides for one codec, remembered from bundle to bundle.
#[pyclass(frozen)]
pub struct Sieve {
    /// From the `rules` of a resource and of a scope to a dictionary, which from the bytes of a metric has what becomes of
    /// it: another metric, or `Decided`, or None where a bundle that has it has to stay whole. None for a resource and
    /// scope whose bundle has to.
    below: Py<PyAny>,
    /// The class of attributes that are counted by point, dropped points too; its `seen` says whether there are any.
    counted: Py<PyType>,
    /// Of all rules.
    names: Vec<Py<PyString>>,
    known: Mutex<Vec<Kind>>,
}

#[pymethods]
impl Sieve {
    #[new]
    fn new(below: Py<PyAny>, counted: Py<PyType>, names: Vec<Py<PyString>>) -> Self {
        Self { below, counted, names, known: Mutex::default() }
    }
}

/// A bundle on its way through a sieve.
pub struct Sifting<'py> {
    sieve: Bound<'py, Sieve>,
    /// The sieve's, which has none meanwhile: another thread that comes while Python is asked begins anew.
    known: Vec<Kind>,
    /// The bits of the resource that is read.
    resource: Option<Object<'py>>,
    /// What becomes of metrics of the scope that is read, once its resource is known.
    pub heads: Option<Bound<'py, PyDict>>,
    /// Verdicts of the dictionary that was asked last.
    seen: Vec<(Bound<'py, PyType>, u8)>,
    asked: Option<Bound<'py, PyDict>>,
    /// Metrics that have no points left, and points that are dropped.
    pub metrics: usize,
    pub points: usize,
    /// Ordinals of points that are left, (first, behind the last), up to the last one that is dropped; and where the next
    /// of these ranges begins.
    kept: Vec<(usize, usize)>,
    open: usize,
    /// (rule, points that it drops).
    dropped: Vec<(u8, usize)>,
}

impl<'py> Sifting<'py> {
    pub fn new(sieve: &Bound<'py, Sieve>) -> Self {
        let known = std::mem::take(&mut *sieve.get().known.lock().unwrap_or_else(PoisonError::into_inner));
        Self {
            sieve: sieve.clone(),
            known,
            resource: None,
            heads: None,
            seen: Vec::new(),
            asked: None,
            metrics: 0,
            points: 0,
            kept: Vec::new(),
            open: 0,
            dropped: Vec::new(),
        }
    }

    /// What follows is below this resource, or below none that is known.
    pub fn below(&mut self, resource: Option<&Object<'py>>) -> PyResult<()> {
        self.heads = None;
        self.resource = resource.map(rules).transpose()?;
        Ok(())
    }

    /// The same of a scope; whether the bundle may go through. Raises what asking raises.
    pub fn within(&mut self, scope: Option<&Object<'py>>) -> PyResult<bool> {
        self.heads = None;
        let (Some(scope), Some(resource)) = (scope, &self.resource) else { return Ok(true) };
        let py = scope.py();
        let above = [resource, &rules(scope)?];
        let same = |kind: &&Kind| kind.above.iter().zip(above).all(|(one, other)| one.is(other));
        let heads = if let Some(kind) = self.known.iter().find(same) {
            kind.heads.as_ref().map(|heads| heads.bind(py).clone())
        } else {
            let heads: Option<Bound<'py, PyDict>> =
                self.sieve.get().below.bind(py).call1((above[0], above[1]))?.extract()?;
            if self.known.len() == KNOWN {
                self.known.clear();
            }
            let above = above.map(|bits| bits.clone().unbind());
            self.known.push(Kind { above, heads: heads.clone().map(Bound::unbind) });
            heads
        };
        self.heads = heads;
        Ok(self.heads.is_some())
    }

    /// The verdicts of points with these attributes, as of `Decided.points`; None where there are only zeros. Raises what
    /// asking raises.
    pub fn verdicts(&mut self, of: &Bound<'py, PyDict>, attributes: &[Object<'py>]) -> Found<Option<Vec<u8>>> {
        if !self.asked.as_ref().is_some_and(|asked| asked.is(of)) {
            self.seen.clear();
            self.asked = Some(of.clone());
        }
        let mut found = Vec::with_capacity(attributes.len());
        let mut any = 0;
        for each in attributes {
            let verdict = match self.seen.iter().find(|(class, _)| each.is_exact_instance(class)) {
                Some((_, verdict)) => *verdict,
                None => self.ask(of, each)?,
            };
            any |= verdict;
            found.push(verdict);
        }
        Ok(Some(found).filter(|_| any != 0))
    }

    #[inline(never)]
    fn ask(&mut self, of: &Bound<'py, PyDict>, attributes: &Object<'py>) -> Found<u8> {
        let class = attributes.get_type();
        let Some(verdict) = asked(of, class.clone().into_any())?.extract()? else { return Err(Stop::Whole) };
        if self.seen.len() == SEEN {
            self.seen.clear();
        }
        self.seen.push((class, verdict));
        Ok(verdict)
    }

    /// Whether any of these points has to be counted, dropped or not.
    pub fn counts(&self, tails: &[Object<'py>]) -> PyResult<bool> {
        let counted = self.sieve.get().counted.bind(self.sieve.py());
        // Asked each time: the first one may be in this bundle.
        let any = counted.getattr(intern!(counted.py(), "seen"))?.is_truthy()?;
        Ok(any && tails.iter().any(|tail| tail.is_exact_instance(counted)))
    }

    /// Points of these ordinals are dropped by a rule; the next ones stand behind those of the last call.
    pub fn drop(&mut self, start: usize, stop: usize, rule: u8) {
        if start > self.open {
            self.kept.push((self.open, start));
        }
        self.open = stop;
        self.points += stop - start;
        match self.dropped.iter_mut().find(|each| each.0 == rule) {
            Some(each) => each.1 += stop - start,
            None => self.dropped.push((rule, stop - start)),
        }
    }

    /// What Python gets of a bundle of so many points: see `scan`.
    pub fn answer(mut self, points: usize) -> PyResult<Bound<'py, PyTuple>> {
        let py = self.sieve.py();
        let dropped = PyDict::new(py);
        let mut ordinals = Vec::new();
        if self.points > 0 {
            if points > self.open {
                self.kept.push((self.open, points));
            }
            ordinals.reserve_exact(2 * size_of::<u32>() * self.kept.len());
            for each in self.kept.iter().flat_map(|&(start, stop)| [start, stop]) {
                ordinals.extend_from_slice(&u32::try_from(each)?.to_le_bytes());
            }
            for &(rule, points) in &self.dropped {
                if let Some(name) = self.sieve.get().names.get(usize::from(rule)) {
                    dropped.set_item(name, points)?;
                }
            }
        }
        (points, PyBytes::new(py, &ordinals), dropped).into_pyobject(py)
    }
}

impl Drop for Sifting<'_> {
    fn drop(&mut self) {
        let known = std::mem::take(&mut self.known);
        *self.sieve.get().known.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }
}

fn rules<'py>(part: &Object<'py>) -> PyResult<Object<'py>> {
    part.getattr(intern!(part.py(), "rules"))
}
