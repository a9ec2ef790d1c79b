//! What rules decide for a metric below a resource and scope: metrics that they drop are taken out before anything is
//! made of them, values that they scale are scaled, and metrics that they change are put in place of those that were read.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};

use crate::columns::{Columns, Object};
use crate::scaling::{Run, scaled};

/// Resources and scopes of other bits, and classes of metrics below one of them, of which is known what rules decide. Full,
/// all is asked again.
const KNOWN: usize = 1024;

/// What rules decide of metrics of one class below resources and scopes of the same bits.
struct Verdict {
    /// The rule that drops them.
    drop: Option<u8>,
    /// Their values are multiplied by two to this.
    power: i32,
    /// From a metric to what takes its place.
    again: Option<Py<PyDict>>,
}

/// Of the bits of a resource and of a scope, which are held, for they are known by where they are: verdicts by the class of
/// a metric, likewise.
struct Kinds {
    _held: [Py<PyAny>; 2],
    verdicts: Vec<(Py<PyType>, usize)>,
}

/// What was asked.
#[derive(Default)]
struct Known {
    verdicts: Vec<Verdict>,
    kinds: HashMap<(usize, usize), Kinds>,
}

/// What `lmstream.engine.shaping.sieving` decides, remembered from bundle to bundle.
#[pyclass(frozen)]
pub struct Sieve {
    /// From the `rules` of a resource and of a scope, and a class of metrics, to (number of the rule that drops these or
    /// -1, power of two, dictionary of other metrics or None), or None: then nothing is to be done in a bundle that has
    /// one.
    ask: Py<PyAny>,
    /// The class of attributes that are counted by point, dropped points too; its `seen` says whether there are any.
    counted: Py<PyType>,
    known: Mutex<Known>,
}

/// What was read, and what of it is left.
pub struct Sifted {
    pub metrics: usize,
    pub points: usize,
    /// Points that are left: (first, behind the last).
    pub kept: Vec<(usize, usize)>,
    /// (rule, points that it drops).
    pub dropped: Vec<(u8, usize)>,
}

#[pymethods]
impl Sieve {
    #[new]
    fn new(ask: Py<PyAny>, counted: Py<PyType>) -> Self {
        Self { ask, counted, known: Mutex::default() }
    }
}

impl Sieve {
    /// Leave in columns what rules leave, as they make it. None where all stays, and is decided elsewhere: for what
    /// resource, scope or attributes say of points has to be counted, or a value has to be looked at alone. Raises what
    /// asking raises.
    pub fn sift(&self, columns: &mut Columns<'_, '_>) -> PyResult<Option<Sifted>> {
        // Taken out, as another thread may come while Python is asked: it begins anew.
        let mut known = std::mem::take(&mut *self.known.lock().unwrap_or_else(PoisonError::into_inner));
        let sifted = self.sifted(&mut known, columns);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
        sifted
    }

    fn sifted(&self, known: &mut Known, columns: &mut Columns<'_, '_>) -> PyResult<Option<Sifted>> {
        if known.verdicts.len() > KNOWN || known.kinds.len() > KNOWN {
            *known = Known::default();
        }
        let Some(verdicts) = self.verdicts(known, columns)? else { return Ok(None) };
        let of_metrics = || verdicts.iter().map(|&at| &known.verdicts[at]);
        let drops = of_metrics().any(|verdict| verdict.drop.is_some());
        if drops && self.any_counted(columns, of_metrics())? {
            return Ok(None);
        }
        let mut runs = Vec::<Run>::new();
        let mut start = 0;
        for (&stop, verdict) in columns.stops.iter().zip(of_metrics()) {
            if verdict.power != 0 {
                match runs.last_mut() {
                    Some(last) if last.1 == start && last.2 == verdict.power => last.1 = stop,
                    _ => runs.push((start, stop, verdict.power)),
                }
            }
            start = stop;
        }
        if !runs.is_empty() {
            let Some(values) = columns.values.text().and_then(|text| scaled(text, &runs)) else { return Ok(None) };
            columns.values = values;
        }
        for (metric, verdict) in columns.heads.iter_mut().zip(of_metrics()) {
            if let Some(again) = &verdict.again {
                let again = again.bind(metric.py());
                let made = again.get_item(&*metric)?;
                *metric = made.map_or_else(|| again.as_any().get_item(&*metric), Ok)?;
            }
        }
        if drops {
            let drops: Vec<_> = of_metrics().map(|verdict| verdict.drop).collect();
            return Ok(Some(without(columns, &drops)));
        }
        let (metrics, points) = (columns.heads.len(), columns.points());
        Ok(Some(Sifted { metrics, points, kept: Vec::new(), dropped: Vec::new() }))
    }

    /// By metric, its place among those that are known; None where one wants all to stay.
    fn verdicts(&self, known: &mut Known, columns: &Columns<'_, '_>) -> PyResult<Option<Vec<usize>>> {
        let mut found = Vec::with_capacity(columns.heads.len());
        let mut scopes = columns.scopes.iter();
        let mut from = 0;
        for (resource, to) in &columns.resources {
            let name = intern!(resource.py(), "rules");
            let of_resource = resource.getattr(name)?;
            for (scope, stop) in scopes.by_ref().take(to - from) {
                let of_scope = scope.getattr(name)?;
                let Known { verdicts, kinds } = known;
                let kinds =
                    kinds.entry((of_resource.as_ptr() as usize, of_scope.as_ptr() as usize)).or_insert_with(|| Kinds {
                        _held: [&of_resource, &of_scope].map(|bits| bits.clone().unbind()),
                        verdicts: Vec::new(),
                    });
                while columns.stops.get(found.len()).is_some_and(|end| end <= stop) {
                    let metric = &columns.heads[found.len()];
                    let of_class = |each: &&(Py<PyType>, usize)| metric.is_exact_instance(each.0.bind(metric.py()));
                    if let Some((_, at)) = kinds.verdicts.iter().find(of_class) {
                        found.push(*at);
                        continue;
                    }
                    let Some(verdict) = self.asked(&of_resource, &of_scope, metric)? else { return Ok(None) };
                    kinds.verdicts.push((metric.get_type().unbind(), verdicts.len()));
                    found.push(verdicts.len());
                    verdicts.push(verdict);
                }
            }
            from = *to;
        }
        Ok(Some(found))
    }

    fn asked(&self, resource: &Object<'_>, scope: &Object<'_>, metric: &Object<'_>) -> PyResult<Option<Verdict>> {
        let answer = self.ask.bind(metric.py()).call1((resource, scope, metric.get_type()))?;
        let Some((drop, power, again)) = answer.extract::<Option<(i32, i32, Option<Py<PyDict>>)>>()? else {
            return Ok(None);
        };
        Ok(Some(Verdict { drop: u8::try_from(drop).ok(), power, again }))
    }

    /// Whether any point that is dropped is counted by its attributes.
    fn any_counted<'a>(
        &self,
        columns: &Columns<'_, '_>,
        verdicts: impl Iterator<Item = &'a Verdict>,
    ) -> PyResult<bool> {
        let Some(metric) = columns.heads.first() else { return Ok(false) };
        let counted = self.counted.bind(metric.py());
        if !counted.getattr(intern!(counted.py(), "seen"))?.is_truthy()? {
            return Ok(false);
        }
        let mut start = 0;
        Ok(columns.stops.iter().zip(verdicts).any(|(&stop, verdict)| {
            let points = &columns.tails[start..stop];
            start = stop;
            verdict.drop.is_some() && points.iter().any(|tail| tail.is_exact_instance(counted))
        }))
    }
}

/// Take out the metrics that are dropped; `drops` says by metric which rule does.
fn without(columns: &mut Columns<'_, '_>, drops: &[Option<u8>]) -> Sifted {
    let mut sifted = Sifted { metrics: drops.len(), points: columns.points(), kept: Vec::new(), dropped: Vec::new() };
    // Behind each metric: points that were there, and that are left.
    let mut ends = Vec::with_capacity(drops.len());
    let (mut start, mut left) = (0, 0);
    for (&stop, drop) in columns.stops.iter().zip(drops) {
        if let Some(rule) = *drop {
            match sifted.dropped.iter_mut().find(|each| each.0 == rule) {
                Some(each) => each.1 += stop - start,
                None => sifted.dropped.push((rule, stop - start)),
            }
        } else {
            left += stop - start;
            match sifted.kept.last_mut() {
                Some(last) if last.1 == start => last.1 = stop,
                _ => sifted.kept.push((start, stop)),
            }
        }
        ends.push((stop, left));
        start = stop;
    }
    if left == 0 {
        columns.clear();
        return sifted;
    }
    let is_left = || drops.iter().map(Option::is_none);
    let mut keep = is_left();
    columns.heads.retain(|_| keep.next().unwrap_or(false));
    columns.stops = ends.iter().zip(is_left()).filter(|each| each.1).map(|each| each.0.1).collect();
    columns.scopes.iter_mut().for_each(|scope| scope.1 = left_before(&ends, scope.1));
    let mut points = std::mem::take(&mut columns.tails).into_iter();
    columns.tails.reserve(left);
    let mut passed = 0;
    for &(start, stop) in &sifted.kept {
        points.by_ref().take(start - passed).for_each(drop);
        columns.tails.extend(points.by_ref().take(stop - start));
        passed = stop;
    }
    columns.times.iter_mut().for_each(|run| run.2 = left_before(&ends, run.2));
    let stops: Vec<usize> = columns.times.iter().skip(1).map(|run| run.2).chain([left]).collect();
    let mut stops = stops.into_iter();
    columns.times.retain(|run| stops.next().is_some_and(|stop| run.2 < stop));
    columns.values.keep(&sifted.kept);
    sifted
}

/// How many points before one are left. Of the points of its metric all are, or none.
fn left_before(ends: &[(usize, usize)], point: usize) -> usize {
    let metric = ends.partition_point(|end| end.0 <= point);
    let (start, left) = metric.checked_sub(1).map_or((0, 0), |before| ends[before]);
    let of_metric = ends.get(metric).map_or(0, |end| end.1 - left);
    left + of_metric.min(point - start)
}
