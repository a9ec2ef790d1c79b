//! Columns of pieces into lines.

use pyo3::exceptions::{PyMemoryError, PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::decimal::{DIGITS, digits};
use crate::memory::{WOVEN, has_room};

type Piece<'py> = Bound<'py, PyBytes>;

/// What closes an ordinal: it is the end of a row's id.
const BEHIND_ORDINAL: &[u8] = b"\",";

/// Pieces of which each is that of several rows, up to its stop.
struct Runs<'py>(Vec<Piece<'py>>, Vec<usize>);

/// The lines of each group of rows, as `lmstream.engine.lines` has them.
///
/// `begins` and `metrics` are (pieces, stops); `times` one piece for each row, or that of all; `values` have commas
/// between; each of `groups` is a list of ranges, (first row, behind the last), whose lines follow one another. Raises
/// `ValueError` for columns of unequal length, `TypeError`, `MemoryError`.
#[pyfunction]
#[pyo3(signature = (begins, metrics, times, values, tails, groups))]
#[allow(clippy::needless_pass_by_value, reason = "made for this call")]
pub fn weave<'py>(
    begins: (Bound<'py, PyList>, Vec<usize>),
    metrics: (Bound<'py, PyList>, Vec<usize>),
    times: Bound<'py, PyAny>,
    values: Bound<'py, PyBytes>,
    tails: Bound<'py, PyList>,
    groups: Bound<'py, PyList>,
) -> PyResult<Bound<'py, PyList>> {
    let py = groups.py();
    if !has_room(WOVEN * tails.len()) {
        return Err(PyMemoryError::new_err("rows of a bundle"));
    }
    let begins = Runs(pieces(&begins.0)?, begins.1);
    let metrics = Runs(pieces(&metrics.0)?, metrics.1);
    let tails = pieces(&tails)?;
    let rows = tails.len();
    let values: Vec<&[u8]> = values.as_bytes().split(|&byte| byte == b',').collect();
    let (one_time, times) = match times.cast::<PyBytes>() {
        Ok(piece) => (piece.as_bytes(), None),
        Err(_) => (&b""[..], Some(pieces(times.cast()?)?)),
    };
    let complete = |runs: &Runs| runs.0.len() == runs.1.len() && runs.1.last() == Some(&rows) && runs.1.is_sorted();
    let all_timed = times.as_ref().is_none_or(|times| times.len() == rows);
    if values.len() != rows || !all_timed || !complete(&begins) || !complete(&metrics) {
        return Err(PyValueError::new_err("columns of unequal length"));
    }
    let found = PyList::empty(py);
    let mut line = Vec::new();
    let mut room = [0; DIGITS];
    for group in groups {
        line.clear();
        let mut size = 0;
        for range in group.cast::<PyList>()? {
            let (start, stop): (usize, usize) = range.extract()?;
            if start > stop || stop > rows {
                return Err(PyValueError::new_err("no such rows"));
            }
            let (mut begin, mut metric) = (begins.run(start), metrics.run(start));
            for row in start..stop {
                begin = begins.next(begin, row);
                metric = metrics.next(metric, row);
                let pieces = [
                    begins.0[begin].as_bytes(),
                    metrics.0[metric].as_bytes(),
                    times.as_ref().map_or(one_time, |times| times[row].as_bytes()),
                    values[row],
                    tails[row].as_bytes(),
                ];
                size += pieces.iter().map(|piece| piece.len()).sum::<usize>();
                size += digits(row as u64, &mut room).len() + BEHIND_ORDINAL.len();
                line.push((row, pieces));
            }
        }
        found.append(PyBytes::new_with(py, size, |buffer| {
            let mut rest = Rest(buffer);
            for &(row, [begin, metric, time, value, tail]) in &line {
                rest.put(begin)?;
                rest.put(digits(row as u64, &mut room))?;
                rest.put(BEHIND_ORDINAL)?;
                rest.put(metric)?;
                rest.put(time)?;
                rest.put(value)?;
                rest.put(tail)?;
            }
            Ok(())
        })?)?;
    }
    Ok(found)
}

fn pieces<'py>(list: &Bound<'py, PyList>) -> PyResult<Vec<Piece<'py>>> {
    let mut found = Vec::with_capacity(list.len());
    for piece in list {
        found.push(piece.cast_into()?);
    }
    Ok(found)
}

impl Runs<'_> {
    fn run(&self, row: usize) -> usize {
        self.1.partition_point(|&stop| stop <= row)
    }

    /// The run of a row that is in this run or behind it.
    fn next(&self, mut run: usize, row: usize) -> usize {
        while self.1[run] <= row {
            run += 1;
        }
        run
    }
}

/// What of a buffer is not filled yet.
struct Rest<'a>(&'a mut [u8]);

impl Rest<'_> {
    #[inline]
    fn put(&mut self, piece: &[u8]) -> PyResult<()> {
        let (here, behind) = std::mem::take(&mut self.0)
            .split_at_mut_checked(piece.len())
            .ok_or_else(|| PyOverflowError::new_err("lines longer than their pieces"))?;
        here.copy_from_slice(piece);
        self.0 = behind;
        Ok(())
    }
}
