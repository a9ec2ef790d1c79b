//! Which points rules drop, of those whose rules are decided by metric or by the class of their attributes.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyType};

/// A code from here on asks for the marks of each point, in the dictionary of that number; a smaller one is the verdict of
/// all points of its metric.
const ASK: u8 = 128;
/// Classes whose verdicts are at hand.
const SEEN: usize = 8;

/// A verdict for each point, as `lmstream.engine.shaping` has them: 0, or the number behind that of the rule that drops it.
///
/// `codes` are of metrics, whose points end at `stops`; `tails` are the attributes of each point, `known` dictionaries from
/// their classes to a verdict. None where one of these is not there yet. Raises `ValueError` for columns of unequal length,
/// `TypeError`, `IndexError`.
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
    // Of the metric's points: there are few classes.
    let mut seen = Vec::<(Bound<'py, PyType>, u8)>::with_capacity(SEEN);
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
            seen.clear();
            asked = code;
        }
        for at in start..stop {
            let tail = tails.get_item(at)?;
            if let Some((_, verdict)) = seen.iter().find(|(class, _)| tail.is_exact_instance(class)) {
                verdicts.push(*verdict);
                continue;
            }
            let kind = tail.get_type();
            let verdict_of = known.get_item(usize::from(code - ASK))?.cast_into::<PyDict>()?;
            let Some(verdict) = verdict_of.get_item(&kind)? else { return Ok(None) };
            let verdict = verdict.extract()?;
            if seen.len() == SEEN {
                seen.clear();
            }
            seen.push((kind, verdict));
            verdicts.push(verdict);
        }
    }
    if verdicts.len() != tails.len() || codes.len() != stops.len() {
        return Err(unequal());
    }
    Ok(Some(PyBytes::new(py, &verdicts)))
}
