//! What rules decide for a resource and scope, or for a metric alone: metrics that they drop are taken out before anything
//! is made of them, and values that they scale are scaled.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};

use crate::columns::{Columns, Object};
use crate::scaling::{FAR, Run, scaled};

/// The code of what no rule decides about: behind all rules.
const OPEN: u8 = u8::MAX;
/// Classes whose codes are at hand.
const SEEN: usize = 8;

/// What `lmstream.engine.shaping.sieving` hands in. Codes are 2 n + 1 where rule n drops, 2 n where it keeps: the rule that
/// comes first decides.
pub struct Sieve<'py> {
    /// From a resource and a scope to the code of what is decided by these, or None: then nothing is to be done.
    of_series: Object<'py>,
    /// The class of metrics that no rule is about.
    usual: Bound<'py, PyType>,
    /// The codes of other classes, and the powers of two that their values are multiplied by.
    of_metric: Bound<'py, PyDict>,
    /// The class of attributes that are counted by point, dropped points too; its `seen` says whether there are any.
    counted: Bound<'py, PyType>,
    /// Of `of_metric`, what was asked for.
    seen: Vec<(Bound<'py, PyType>, u8, i32)>,
}

/// What was read, and what of it is left.
#[derive(Default)]
pub struct Sifted {
    pub metrics: usize,
    pub points: usize,
    /// Points that are left: (first, behind the last).
    pub kept: Vec<(usize, usize)>,
    /// (rule, points that it drops).
    pub dropped: Vec<(u8, usize)>,
}

/// Of a metric: the rule that drops it, or the power of two for its values.
type Verdict = (Option<u8>, i32);

impl<'py> Sieve<'py> {
    pub fn new(parts: &Bound<'py, PyTuple>) -> PyResult<Self> {
        let (of_series, usual, of_metric, counted) = parts.extract()?;
        Ok(Self { of_series, usual, of_metric, counted, seen: Vec::new() })
    }

    /// Leave in columns what rules leave, in the units that they give. None where all stays, and is decided elsewhere: for
    /// what resource, scope or attributes say of points has to be counted, or a value has to be looked at alone. Raises
    /// what asking raises.
    pub fn sift(mut self, columns: &mut Columns<'_, 'py>) -> PyResult<Option<Sifted>> {
        let Some(verdicts) = self.verdicts(columns)? else { return Ok(None) };
        let counted = self.counted.getattr(intern!(self.counted.py(), "seen"))?.is_truthy()?;
        let is_counted = |tail: &Object<'py>| tail.is_exact_instance(&self.counted);
        let mut runs = Vec::<Run>::new();
        let mut start = 0;
        for (&stop, &(drop, power)) in columns.stops.iter().zip(&verdicts) {
            if drop.is_some() && counted && columns.tails[start..stop].iter().any(is_counted) {
                return Ok(None);
            }
            if power != 0 && drop.is_none() {
                match runs.last_mut() {
                    Some(last) if last.1 == start && last.2 == power => last.1 = stop,
                    _ => runs.push((start, stop, power)),
                }
            }
            start = stop;
        }
        if !runs.is_empty() {
            let Some(values) = columns.values.text().and_then(|text| scaled(text, &runs)) else { return Ok(None) };
            columns.values = values;
        }
        if verdicts.iter().all(|verdict| verdict.0.is_none()) {
            let (metrics, points) = (columns.heads.len(), columns.points());
            return Ok(Some(Sifted { metrics, points, ..Sifted::default() }));
        }
        Ok(Some(without(columns, &verdicts)))
    }

    /// By metric; None where a series or a metric wants all to stay.
    fn verdicts(&mut self, columns: &Columns<'_, 'py>) -> PyResult<Option<Vec<Verdict>>> {
        let mut verdicts = Vec::with_capacity(columns.heads.len());
        let mut scopes = columns.scopes.iter();
        let mut from = 0;
        for (resource, to) in &columns.resources {
            for (scope, stop) in scopes.by_ref().take(to - from) {
                let code: Option<u8> = self.of_series.call1((resource, scope))?.extract()?;
                let Some(of_series) = code else { return Ok(None) };
                while columns.stops.get(verdicts.len()).is_some_and(|end| end <= stop) {
                    let (of_metric, power) = self.metric(&columns.heads[verdicts.len()])?;
                    if power.abs() >= FAR {
                        return Ok(None);
                    }
                    let code = of_series.min(of_metric);
                    verdicts.push(((code != OPEN && code % 2 == 1).then_some(code / 2), power));
                }
            }
            from = *to;
        }
        Ok(Some(verdicts))
    }

    fn metric(&mut self, metric: &Object<'py>) -> PyResult<(u8, i32)> {
        if metric.is_exact_instance(&self.usual) {
            return Ok((OPEN, 0));
        }
        if let Some((_, code, power)) = self.seen.iter().find(|(class, ..)| metric.is_exact_instance(class)) {
            return Ok((*code, *power));
        }
        let kind = metric.get_type();
        let (code, power) = self.of_metric.as_any().get_item(&kind)?.extract()?;
        if self.seen.len() == SEEN {
            self.seen.clear();
        }
        self.seen.push((kind, code, power));
        Ok((code, power))
    }
}

/// Take out the metrics that are dropped.
fn without(columns: &mut Columns<'_, '_>, verdicts: &[Verdict]) -> Sifted {
    let mut sifted =
        Sifted { metrics: verdicts.len(), points: columns.points(), kept: Vec::new(), dropped: Vec::new() };
    // Behind each metric: points that were there, and that are left.
    let mut ends = Vec::with_capacity(verdicts.len());
    let (mut start, mut left) = (0, 0);
    for (&stop, verdict) in columns.stops.iter().zip(verdicts) {
        if let Some(rule) = verdict.0 {
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
    let is_left = || verdicts.iter().map(|verdict| verdict.0.is_none());
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
