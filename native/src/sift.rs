//! Which points rules drop, of those whose rules are decided by metric or by the marks of their attributes.

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

/// A code from here on asks for the marks of each point, in the dictionary of that number; a smaller one is the verdict of
/// all points of its metric.
const ASK: u8 = 128;

/// A verdict for each point, as `lmstream.engine.shaping` has them: 0, or the number behind that of the rule that drops it.
///
/// `codes` are of metrics, whose points end at `stops`; `tails` are the attributes of each point, `known` dictionaries from
/// their marks to a verdict. None where one of these is not there yet. Raises `ValueError` for columns of unequal length,
/// `TypeError`, `IndexError`, and what asking for marks raises.
#[pyfunction]
pub fn sift<'py>(
    codes: &[u8],
    stops: &Bound<'py, PyList>,
    tails: &Bound<'py, PyList>,
    known: &Bound<'py, PyList>,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let py = stops.py();
    let unequal = || PyValueError::new_err("columns of unequal length");
    let mut verdicts = Vec::with_capacity(tails.len());
    // Those of the metric before: points of the same instances follow, in the same order.
    let mut before = Vec::<(Bound<'py, PyAny>, u8)>::new();
    let mut asked = 0;
    for (&code, stop) in codes.iter().zip(stops) {
        let (start, stop) = (verdicts.len(), stop.extract::<usize>()?);
        if stop < start || stop > tails.len() {
            return Err(unequal());
        }
        if code < ASK {
            verdicts.resize(stop, code);
            continue;
        }
        if code != asked {
            before.clear();
            asked = code;
        }
        let verdict_of = known.get_item(usize::from(code - ASK))?.cast_into::<PyDict>()?;
        for number in 0..stop - start {
            let tail = tails.get_item(start + number)?;
            let verdict = match before.get(number) {
                Some((same, verdict)) if tail.is(same) => *verdict,
                _ => {
                    let marks = tail.getattr(intern!(py, "rules"))?;
                    let Some(verdict) = verdict_of.get_item(marks)? else { return Ok(None) };
                    let verdict = verdict.extract()?;
                    match before.get_mut(number) {
                        Some(known) => *known = (tail, verdict),
                        None => before.push((tail, verdict)),
                    }
                    verdict
                }
            };
            verdicts.push(verdict);
        }
    }
    if verdicts.len() != tails.len() || codes.len() != stops.len() {
        return Err(unequal());
    }
    Ok(Some(PyBytes::new(py, &verdicts)))
}
