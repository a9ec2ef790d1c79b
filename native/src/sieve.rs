//! What rules decide for a metric below a resource and scope, as soon as it is read: one that they drop leaves nothing
//! behind, values that they scale are scaled, and one that they change has another in its place.

use std::sync::{Mutex, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};

use crate::columns::{Object, asked};

/// Resources and scopes of other bits that are known, and verdicts. With more all is asked again.
const KNOWN: usize = 256;
const VERDICTS: usize = 4096;

/// What rules decide of metrics of one class below resources and scopes of the same bits.
pub struct Verdict {
    /// The rule that drops them.
    pub drop: Option<u8>,
    /// Their values are multiplied by two to this.
    pub power: i32,
    /// From a metric to what takes its place.
    again: Option<Py<PyDict>>,
    /// Which rules that are, until that is told.
    rules: Option<Py<PyAny>>,
}

impl Verdict {
    /// What takes the place of a metric.
    #[inline]
    pub fn made<'py>(&self, metric: Object<'py>) -> PyResult<Object<'py>> {
        let Some(again) = &self.again else { return Ok(metric) };
        asked(again.bind(metric.py()), metric)
    }
}

/// Of the bits of a resource and of a scope, which are known by where they are: verdicts by the class of a metric.
struct Kinds {
    above: [Py<PyAny>; 2],
    /// Whether a bundle that has them may go through.
    passes: bool,
    verdicts: Vec<(Py<PyType>, Option<Verdict>)>,
}

type Answer = (i32, i32, Option<Py<PyDict>>, Py<PyAny>);

/// What `lmstream.engine.shaping.sieving` decides, remembered from bundle to bundle.
#[pyclass(frozen)]
pub struct Sieve {
    /// From the `rules` of a resource and of a scope to whether a bundle that has them may go through.
    passes: Py<PyAny>,
    /// From these and a class of metrics to (number of the rule that drops these or -1, power of two, dictionary of other
    /// metrics or None, the rules that apply), or None: then the bundle has to stay whole.
    ask: Py<PyAny>,
    /// Called with rules that apply to something in a bundle that was read to its end.
    tell: Py<PyAny>,
    /// The class of attributes that are counted by point, dropped points too; its `seen` says whether there are any.
    counted: Py<PyType>,
    known: Mutex<Vec<Kinds>>,
}

#[pymethods]
impl Sieve {
    #[new]
    fn new(passes: Py<PyAny>, ask: Py<PyAny>, tell: Py<PyAny>, counted: Py<PyType>) -> Self {
        Self { passes, ask, tell, counted, known: Mutex::default() }
    }
}

/// A bundle on its way through a sieve.
pub struct Sifting<'py> {
    sieve: Bound<'py, Sieve>,
    /// The sieve's, which has none meanwhile: another thread that comes while Python is asked begins anew.
    known: Vec<Kinds>,
    /// The bits of the resource that is read.
    resource: Option<Object<'py>>,
    /// Of the scope that is read, once its resource is known.
    kinds: Option<usize>,
    /// Of which it is not told yet what rules apply: where they are.
    untold: Vec<(usize, usize)>,
    /// Metrics and points that were read.
    pub metrics: usize,
    pub points: usize,
    /// Points that are left, where any is dropped: (first, behind the last).
    pub kept: Vec<(usize, usize)>,
    /// (rule, points that it drops).
    pub dropped: Vec<(u8, usize)>,
}

impl<'py> Sifting<'py> {
    pub fn new(sieve: &Bound<'py, Sieve>) -> Self {
        let mut known = std::mem::take(&mut *sieve.get().known.lock().unwrap_or_else(PoisonError::into_inner));
        if known.len() > KNOWN || known.iter().map(|kinds| kinds.verdicts.len()).sum::<usize>() > VERDICTS {
            known.clear();
        }
        Self {
            sieve: sieve.clone(),
            known,
            resource: None,
            kinds: None,
            untold: Vec::new(),
            metrics: 0,
            points: 0,
            kept: Vec::new(),
            dropped: Vec::new(),
        }
    }

    /// What follows is below this resource, or below none that is known.
    pub fn below(&mut self, resource: Option<&Object<'py>>) -> PyResult<()> {
        self.kinds = None;
        self.resource = resource.map(rules).transpose()?;
        Ok(())
    }

    /// The same of a scope; whether the bundle may go through. Raises what asking raises.
    pub fn within(&mut self, scope: Option<&Object<'py>>) -> PyResult<bool> {
        self.kinds = None;
        let (Some(scope), Some(resource)) = (scope, &self.resource) else { return Ok(true) };
        let above = [resource, &rules(scope)?];
        let same = |kinds: &Kinds| kinds.above.iter().zip(above).all(|(one, other)| one.is(other));
        let at = if let Some(at) = self.known.iter().position(same) {
            at
        } else {
            let passes = self.sieve.get().passes.bind(scope.py()).call1((above[0], above[1]))?.is_truthy()?;
            let above = above.map(|bits| bits.clone().unbind());
            self.known.push(Kinds { above, passes, verdicts: Vec::new() });
            self.known.len() - 1
        };
        self.kinds = Some(at);
        Ok(self.known[at].passes)
    }

    /// Whether resource and scope of what is read are known.
    pub fn ready(&self) -> bool {
        self.kinds.is_some()
    }

    /// What rules decide of a metric of the scope that is read; None where that is not known, or the bundle has to stay
    /// whole. Raises what asking raises.
    #[inline]
    pub fn verdict(&mut self, metric: &Object<'py>) -> PyResult<Option<&Verdict>> {
        let Some(of) = self.kinds else { return Ok(None) };
        let kinds = &mut self.known[of];
        let known = kinds.verdicts.iter().position(|(class, _)| metric.is_exact_instance(class.bind(metric.py())));
        let at = if let Some(at) = known {
            at
        } else {
            let class = metric.get_type();
            let [resource, scope] = &kinds.above;
            let answer = self.sieve.get().ask.bind(metric.py()).call1((resource, scope, &class))?;
            let verdict = answer.extract::<Option<Answer>>()?.map(|(drop, power, again, rules)| Verdict {
                drop: u8::try_from(drop).ok(),
                power,
                again,
                rules: Some(rules),
            });
            kinds.verdicts.push((class.unbind(), verdict));
            kinds.verdicts.len() - 1
        };
        let verdict = kinds.verdicts[at].1.as_ref();
        if verdict.is_some_and(|verdict| verdict.rules.is_some()) {
            self.untold.push((of, at));
        }
        Ok(verdict)
    }

    /// The bundle was read to its end. Raises what telling raises.
    pub fn done(&mut self) -> PyResult<()> {
        for (of, at) in std::mem::take(&mut self.untold) {
            if let Some(rules) = self.known[of].verdicts[at].1.as_mut().and_then(|verdict| verdict.rules.take()) {
                self.sieve.get().tell.bind(self.sieve.py()).call1((rules,))?;
            }
        }
        Ok(())
    }

    /// Whether any of these points has to be counted, dropped or not.
    pub fn counts(&self, tails: &[Object<'py>]) -> PyResult<bool> {
        let counted = self.sieve.get().counted.bind(self.sieve.py());
        // Asked each time: the first one may be in this bundle.
        let any = counted.getattr(intern!(counted.py(), "seen"))?.is_truthy()?;
        Ok(any && tails.iter().any(|tail| tail.is_exact_instance(counted)))
    }

    /// The points since the last call are those of a metric, and dropped by a rule or kept.
    pub fn pass(&mut self, points: usize, drop: Option<u8>) {
        let (start, stop) = (self.points, self.points + points);
        self.metrics += 1;
        self.points = stop;
        if let Some(rule) = drop {
            if self.dropped.is_empty() && start > 0 {
                self.kept.push((0, start));
            }
            match self.dropped.iter_mut().find(|each| each.0 == rule) {
                Some(each) => each.1 += points,
                None => self.dropped.push((rule, points)),
            }
        } else if !self.dropped.is_empty() {
            match self.kept.last_mut() {
                Some(last) if last.1 == start => last.1 = stop,
                _ => self.kept.push((start, stop)),
            }
        }
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
