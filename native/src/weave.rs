//! Columns of pieces into lines.

use pyo3::exceptions::{PyMemoryError, PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::decimal::{DIGITS, digits};
use crate::memory::{WOVEN, has_room};
use crate::text::split;

type Piece<'py> = Bound<'py, PyBytes>;

/// What closes an ordinal: it is the end of a row's id.
const BEHIND_ORDINAL: &[u8] = b"\",";

/// Pieces, of which each is that of several rows, up to its stop.
struct Runs<'py>(Vec<Piece<'py>>, Vec<usize>);

/// The lines of each group of rows, as `lmstream.engine.lines` has them.
///
/// `begins`, `metrics` and `times` are pieces, and the stops of their rows; `values` have commas between; of the rows those
/// are left of which `verdicts` has a zero, all where it is empty. `kept` are the ordinals of all rows, as 32-bit
/// integers; where it is empty they count from 0. Each of `groups` is a list of ranges
/// among these, (first row, behind the last), whose lines follow one another, or the row behind its last, where it begins
/// behind the group before. Raises `ValueError` for columns of unequal length, `TypeError`, `MemoryError`.
#[pyfunction]
#[allow(clippy::too_many_arguments, reason = "what lines are made of")]
pub fn weave<'py>(
    begins: &Bound<'py, PyList>,
    begin_stops: &Bound<'py, PyList>,
    metrics: &Bound<'py, PyList>,
    metric_stops: &Bound<'py, PyList>,
    times: &Bound<'py, PyList>,
    time_stops: &Bound<'py, PyList>,
    values: &Bound<'py, PyBytes>,
    tails: &Bound<'py, PyList>,
    verdicts: &[u8],
    kept: &[u8],
    groups: &Bound<'py, PyList>,
) -> PyResult<Bound<'py, PyList>> {
    let rows = tails.len();
    if !(verdicts.is_empty() || verdicts.len() == rows) {
        return Err(PyValueError::new_err("columns of unequal length"));
    }
    if !has_room(WOVEN * rows) {
        return Err(PyMemoryError::new_err("rows of a bundle"));
    }
    let begins = Runs::new(begins, begin_stops)?;
    let metrics = Runs::new(metrics, metric_stops)?;
    let times = Runs::new(times, time_stops)?;
    let mut texts = Vec::with_capacity(rows);
    split(values.as_bytes(), b',', &mut texts);
    let complete = begins.complete(rows) && metrics.complete(rows) && times.complete(rows);
    if texts.len() != rows || !complete {
        return Err(PyValueError::new_err("columns of unequal length"));
    }
    let ordinals = if kept.is_empty() { counted(rows) } else { unpacked(kept) };
    if ordinals.len() != rows {
        return Err(PyValueError::new_err("columns of unequal length"));
    }
    let columns = Columns { begins, metrics, times, ordinals, texts, tails };
    if verdicts.is_empty() {
        return columns.lines(groups, rows, |at| at);
    }
    let left: Vec<usize> = (0..rows).filter(|&row| verdicts[row] == 0).collect();
    columns.lines(groups, left.len(), |at| left[at])
}

struct Columns<'a, 'py> {
    begins: Runs<'py>,
    metrics: Runs<'py>,
    times: Runs<'py>,
    ordinals: Vec<u32>,
    texts: Vec<&'a [u8]>,
    tails: &'a Bound<'py, PyList>,
}

impl<'py> Columns<'_, 'py> {
    /// `row_of` is the row of each of so many lines; a function of its own for each, as nearly all bundles keep all rows.
    fn lines(
        &self,
        groups: &Bound<'py, PyList>,
        lines: usize,
        row_of: impl Fn(usize) -> usize,
    ) -> PyResult<Bound<'py, PyList>> {
        let Self { begins, metrics, times, ordinals, texts, .. } = self;
        let mut kept = Vec::with_capacity(lines);
        for at in 0..lines {
            kept.push(self.tails.get_item(row_of(at))?.cast_into::<PyBytes>()?);
        }
        let tails: Vec<&[u8]> = kept.iter().map(PyBytesMethods::as_bytes).collect();
        let found = PyList::empty(groups.py());
        let mut room = [0; DIGITS];
        let mut ranges = Vec::<(usize, usize)>::new();
        let mut runs = Vec::with_capacity(begins.0.len() + metrics.0.len() + times.0.len());
        for group in groups {
            if let Ok(list) = group.cast::<PyList>() {
                ranges.clear();
                for range in list {
                    ranges.push(range.extract()?);
                }
            } else {
                let last = ranges.last().map_or(0, |range| range.1);
                ranges.clear();
                ranges.push((last, group.extract()?));
            }
            runs.clear();
            let mut size = 0;
            for &(mut start, stop) in &ranges {
                if start > stop || stop > lines {
                    return Err(PyValueError::new_err("no such rows"));
                }
                if start == stop {
                    continue;
                }
                let first = row_of(start);
                let (mut begin, mut metric, mut time) = (begins.run(first), metrics.run(first), times.run(first));
                while start < stop {
                    let row = row_of(start);
                    (begin, metric, time) = (begins.next(begin, row), metrics.next(metric, row), times.next(time, row));
                    let behind = begins.1[begin].min(metrics.1[metric]).min(times.1[time]);
                    let shared = [begins.piece(begin), metrics.piece(metric), times.piece(time)];
                    let from = start;
                    while start < stop && row_of(start) < behind {
                        let row = row_of(start);
                        size += width(ordinals[row]) + texts[row].len() + tails[start].len();
                        start += 1;
                    }
                    size +=
                        (start - from) * (BEHIND_ORDINAL.len() + shared.iter().map(|piece| piece.len()).sum::<usize>());
                    runs.push((shared, from..start));
                }
            }
            found.append(PyBytes::new_with(groups.py(), size, |buffer| {
                let mut rest = Rest(buffer);
                for ([begin, metric, time], lines) in &runs {
                    for at in lines.clone() {
                        let row = row_of(at);
                        rest.put(begin)?;
                        rest.put(digits(ordinals[row].into(), &mut room))?;
                        rest.put(BEHIND_ORDINAL)?;
                        rest.put(metric)?;
                        rest.put(time)?;
                        rest.put(texts[row])?;
                        rest.put(tails[at])?;
                    }
                }
                Ok(())
            })?)?;
        }
        Ok(found)
    }
}

fn pieces<'py>(list: &Bound<'py, PyList>) -> PyResult<Vec<Piece<'py>>> {
    let mut found = Vec::with_capacity(list.len());
    for piece in list {
        found.push(piece.cast_into()?);
    }
    Ok(found)
}

/// Digits of an ordinal.
fn width(ordinal: u32) -> usize {
    ordinal.checked_ilog10().map_or(1, |tens| tens as usize + 1)
}

/// The ordinals of so many rows of which none is missing.
fn counted(rows: usize) -> Vec<u32> {
    (0..).take(rows).collect()
}

/// Ordinals from 32-bit integers, the lowest byte first.
fn unpacked(packed: &[u8]) -> Vec<u32> {
    packed.chunks_exact(4).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).collect()
}

impl<'py> Runs<'py> {
    fn new(list: &Bound<'py, PyList>, stops: &Bound<'py, PyList>) -> PyResult<Self> {
        let mut found = Vec::with_capacity(stops.len());
        for stop in stops {
            found.push(stop.extract()?);
        }
        Ok(Self(pieces(list)?, found))
    }

    fn piece(&self, run: usize) -> &[u8] {
        self.0[run].as_bytes()
    }

    /// Whether each has a stop, and the last one's is the last row's.
    fn complete(&self, rows: usize) -> bool {
        self.0.len() == self.1.len() && self.1.last() == Some(&rows) && self.1.is_sorted()
    }

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
