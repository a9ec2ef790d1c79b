//! What rules decide of a metric and its points, as soon as these are read: what they drop leaves nothing behind, values
//! that they scale are scaled, and a metric that they change has another in its place.

use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyMemoryError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple, PyType};

use crate::columns::{Found, Object, Stop, asked};
use crate::memory::grow;
use crate::text::{Cut, Odd};

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
    below: Below<Py<PyDict>>,
}

/// What there is below a resource and scope.
enum Below<T> {
    /// From the bytes of a metric to what becomes of it: another metric, or `Decided`, or None where a bundle that has it
    /// has to stay whole.
    Heads(T),
    /// All of it is dropped by a rule.
    Dropped(u8),
    /// The bundle has to stay whole.
    Whole,
}

impl<T> Below<T> {
    fn map<U>(&self, of: impl Fn(&T) -> U) -> Below<U> {
        match self {
            Self::Heads(heads) => Below::Heads(of(heads)),
            Self::Dropped(rule) => Below::Dropped(*rule),
            Self::Whole => Below::Whole,
        }
    }
}

/// What `lmstream.engine.shaping.sieving` decides for one codec, remembered from bundle to bundle.
#[pyclass(frozen)]
pub struct Sieve {
    /// From the `rules` of a resource and of a scope to what there is below them: a dictionary, or the number of a rule, or
    /// None: see `Below`.
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

    /// Ask again what there is below resources and scopes.
    fn clear(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A bundle on its way through a sieve.
pub struct Sifting<'py> {
    sieve: Bound<'py, Sieve>,
    /// The sieve's, which has none meanwhile: another thread that comes while Python is asked begins anew.
    known: Vec<Kind>,
    /// The bits of the resource that is read.
    resource: Option<Object<'py>>,
    /// What there is below the scope that is read, once its resource is known.
    below: Option<Below<Bound<'py, PyDict>>>,
    /// Verdicts of the dictionary that was asked last.
    seen: Vec<(Bound<'py, PyType>, u8)>,
    asked: Option<Bound<'py, PyDict>>,
    /// Of the points that were asked for last.
    pub verdicts: Vec<u8>,
    /// Metrics that have no points left, and points that are dropped.
    pub metrics: usize,
    pub points: usize,
    /// Ordinals of the points that are left, up to the last one that is dropped.
    ordinals: Vec<u32>,
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
            below: None,
            seen: Vec::new(),
            asked: None,
            verdicts: Vec::new(),
            metrics: 0,
            points: 0,
            ordinals: Vec::new(),
            dropped: Vec::new(),
        }
    }

    /// What follows is below this resource, or below none that is known.
    pub fn below(&mut self, resource: Option<&Object<'py>>) -> PyResult<()> {
        self.below = None;
        self.resource = resource.map(rules).transpose()?;
        Ok(())
    }

    /// The same of a scope; whether the bundle may go through. Raises what asking raises.
    pub fn within(&mut self, scope: Option<&Object<'py>>) -> PyResult<bool> {
        self.below = None;
        let (Some(scope), Some(resource)) = (scope, &self.resource) else { return Ok(true) };
        let py = scope.py();
        let above = [resource, &rules(scope)?];
        let same = |kind: &&Kind| kind.above.iter().zip(above).all(|(one, other)| one.is(other));
        let below = if let Some(kind) = self.known.iter().find(same) {
            kind.below.map(|heads| heads.bind(py).clone())
        } else {
            let found = self.sieve.get().below.bind(py).call1((above[0], above[1]))?;
            let below = match found.cast_into::<PyDict>() {
                Ok(heads) => Below::Heads(heads),
                Err(other) => other.into_inner().extract::<Option<u8>>()?.map_or(Below::Whole, Below::Dropped),
            };
            if self.known.len() == KNOWN {
                self.known.clear();
            }
            let above = above.map(|bits| bits.clone().unbind());
            self.known.push(Kind { above, below: below.map(|heads| heads.clone().unbind()) });
            below
        };
        let whole = matches!(below, Below::Whole);
        self.below = Some(below);
        Ok(!whole)
    }

    /// Whether resource and scope of what is read are known.
    pub fn ready(&self) -> bool {
        self.below.is_some()
    }

    /// What becomes of metrics of the scope that is read, by their bytes.
    pub fn heads(&self) -> Option<&Bound<'py, PyDict>> {
        match &self.below {
            Some(Below::Heads(heads)) => Some(heads),
            _ => None,
        }
    }

    /// The rule that drops all of the scope that is read.
    pub fn all(&self) -> Option<u8> {
        match self.below {
            Some(Below::Dropped(rule)) => Some(rule),
            _ => None,
        }
    }

    /// Find the verdicts of points with these attributes, as of `Decided.points`; whether any of them is dropped. Raises
    /// what asking raises.
    ///
    /// There are few classes, and which one comes next a processor cannot foretell: it is compared with all.
    pub fn judge(&mut self, of: &Bound<'py, PyDict>, attributes: &[Object<'py>]) -> Found<bool> {
        if !self.asked.as_ref().is_some_and(|asked| asked.is(of)) {
            self.seen.clear();
            self.asked = Some(of.clone());
        }
        self.verdicts.clear();
        grow(&mut self.verdicts, attributes.len())?;
        let mut any = 0;
        for each in attributes {
            let class = each.get_type_ptr();
            let (mut verdict, mut found) = (0, false);
            for (known, of_known) in &self.seen {
                let same = class == known.as_type_ptr();
                verdict |= if same { *of_known } else { 0 };
                found |= same;
            }
            if !found {
                verdict = self.ask(of, each)?;
            }
            any |= verdict;
            self.verdicts.push(verdict);
        }
        Ok(any != 0)
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
        if tails.iter().all(PyAnyMethods::is_none) {
            return Ok(false); // nothing was made of them
        }
        let counted = self.sieve.get().counted.bind(self.sieve.py());
        // Asked each time: the first one may be in this bundle.
        let any = counted.getattr(intern!(counted.py(), "seen"))?.is_truthy()?;
        Ok(any && tails.iter().any(|tail| tail.is_exact_instance(counted)))
    }

    /// So many points behind the first ones that are left are dropped by a rule.
    pub fn drop(&mut self, first: usize, points: usize, rule: u8) -> Cut<()> {
        self.number(first)?;
        self.points += points;
        self.count(rule, points);
        Ok(())
    }

    /// Points behind the first ones that are left are dropped where they have a verdict.
    pub fn drop_some(&mut self, first: usize) -> Cut<()> {
        self.number(first)?;
        let ordinal = u32::try_from(first + self.points).map_err(|_| Odd)?;
        grow(&mut self.ordinals, self.verdicts.len())?;
        self.ordinals.resize(first + self.verdicts.len(), 0);
        let mut left = first;
        for (ordinal, &verdict) in (ordinal..).zip(&self.verdicts) {
            self.ordinals[left] = ordinal;
            left += usize::from(verdict == 0);
        }
        self.points += self.ordinals.len() - left;
        self.ordinals.truncate(left);
        let any = self.verdicts.iter().fold(0, |any, verdict| any | verdict);
        if self.verdicts.iter().all(|&verdict| verdict == 0 || verdict == any) {
            let dropped = self.verdicts.iter().fold(0, |count, &verdict| count + usize::from(verdict != 0));
            self.count(any - 1, dropped);
        } else {
            for verdict in std::mem::take(&mut self.verdicts) {
                if verdict > 0 {
                    self.count(verdict - 1, 1);
                }
            }
        }
        Ok(())
    }

    fn count(&mut self, rule: u8, points: usize) {
        match self.dropped.iter_mut().find(|each| each.0 == rule) {
            Some(each) => each.1 += points,
            None => self.dropped.push((rule, points)),
        }
    }

    /// Number points up to so many that are left: all that were read since the last one that is dropped.
    fn number(&mut self, left: usize) -> Cut<()> {
        let numbered = self.ordinals.len();
        let start = u32::try_from(numbered + self.points).map_err(|_| Odd)?;
        grow(&mut self.ordinals, left - numbered)?;
        self.ordinals.extend((start..).take(left - numbered));
        Ok(())
    }

    /// What Python gets of a bundle of so many points: see `scan`.
    pub fn answer(mut self, points: usize) -> PyResult<Bound<'py, PyTuple>> {
        let py = self.sieve.py();
        if self.points == 0 {
            return Ok(PyTuple::empty(py));
        }
        self.number(points - self.points).map_err(|_| PyMemoryError::new_err("points of a bundle"))?;
        let ordinals = PyBytes::new_with(py, size_of::<u32>() * self.ordinals.len(), |bytes| {
            for (bytes, ordinal) in bytes.chunks_exact_mut(size_of::<u32>()).zip(&self.ordinals) {
                bytes.copy_from_slice(&ordinal.to_le_bytes());
            }
            Ok(())
        })?;
        let dropped = PyDict::new(py);
        for &(rule, points) in &self.dropped {
            if let Some(name) = self.sieve.get().names.get(usize::from(rule)) {
                dropped.set_item(name, points)?;
            }
        }
        (points, ordinals, dropped).into_pyobject(py)
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
