//! A plain OTLP/protobuf bundle into columns.
//!
//! Plain is what JSON's plain is (see json.rs): known fields, once each. Number points begin as serializers that write
//! fields by number begin them; what stands behind the value is asked of Python by its bytes, as are resources, scopes
//! and metrics: a metric without its points, which is a metric.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::attributes::pass_proto;
use crate::columns::{Columns, Found, Object, Stop, cached};
use crate::memory::{CUT, grow, has_room};
use crate::scopes::Scopes;
use crate::sieve::Sieve;
use crate::text::{Cut, Odd};
use crate::wire::Message;

/// Bytes of a resource, scope, point or text: in large payloads the codec refuses longer ones.
const LEAF: usize = 1 << 20;
/// Field 1 of a request, and the points of a gauge or sum.
const ITEM: u8 = 0x0A;
/// Fields of `ResourceMetrics` and of `ScopeMetrics`: the resource or scope, what is below it, and the schema's address.
const HEAD: u8 = 0x0A;
const BELOW: u8 = 0x12;
const SCHEMA: u8 = 0x1A;
/// Fields of `Metric`.
const NAME: u8 = 0x0A;
const DESCRIPTION: u8 = 0x12;
const UNIT: u8 = 0x1A;
const GAUGE: u8 = 0x2A;
const SUM: u8 = 0x3A;
const METADATA: u8 = 0x62;
/// Fields of `Sum`.
const TEMPORALITY: u8 = 0x10;
const MONOTONIC: u8 = 0x18;
/// The last one of temporalities.
const ENUM: u8 = 2;
/// Fields of `NumberDataPoint`, and where those that it must have stand behind the start.
const START: u8 = 0x11;
const TIME: u8 = 0x19;
const DOUBLE: u8 = 0x21;
const INTEGER: u8 = 0x31;
const FIXED: usize = 9;
/// Of a point.
const ATTRIBUTES: u8 = 0x3A;

/// Fields of a message that were there.
#[derive(Default)]
struct Seen(u32);

impl Seen {
    fn once(&mut self, tag: u8) -> Cut<()> {
        let bit = 1 << (tag >> 3);
        if self.0 & bit != 0 {
            return Err(Odd);
        }
        self.0 |= bit;
        Ok(())
    }
}

struct Scan<'a, 'py> {
    resource_of: &'a Bound<'py, PyDict>,
    scopes: Scopes<'py>,
    head_of: &'a Bound<'py, PyDict>,
    tail_of: &'a Bound<'py, PyDict>,
    columns: Columns<'a, 'py>,
    /// Attributes of the metric before and what they became: those of the same instances follow, in the same order.
    lists: Vec<(&'a [u8], Object<'py>)>,
    key: Vec<u8>,
    /// As of JSON's.
    drops: bool,
    fine: bool,
}

/// Columns of a plain bundle, or None, as `scan`. A tail that became None is not plain.
#[pyfunction]
#[pyo3(signature = (payload, resources, scopes, heads, tails, encode, most, sieve=None))]
#[allow(clippy::too_many_arguments, reason = "what is asked while a bundle is read")]
pub fn scan_proto<'py>(
    payload: &Bound<'py, PyBytes>,
    resources: &Bound<'py, PyDict>,
    scopes: &Bound<'py, PyTuple>,
    heads: &Bound<'py, PyDict>,
    tails: &Bound<'py, PyDict>,
    encode: &Object<'py>,
    most: usize,
    sieve: Option<&Bound<'py, Sieve>>,
) -> PyResult<Option<Bound<'py, PyTuple>>> {
    if !has_room(CUT * payload.as_bytes().len()) {
        return Ok(None);
    }
    for sieve in [sieve, None] {
        let mut scan = Scan {
            resource_of: resources,
            scopes: Scopes::new(scopes)?,
            head_of: heads,
            tail_of: tails,
            columns: Columns::new(payload.py(), payload.as_bytes().len(), nanoseconds, most, sieve),
            lists: Vec::new(),
            key: Vec::new(),
            drops: false,
            fine: false,
        };
        let read = scan.request(payload.as_bytes()).and_then(|()| scan.columns.end());
        if !matches!(read, Err(Stop::Whole)) {
            return scan.columns.answer(read, encode);
        }
    }
    Ok(None)
}

impl<'a, 'py> Scan<'a, 'py> {
    fn request(&mut self, encoded: &'a [u8]) -> Found<()> {
        let mut message = Message(encoded);
        while let Some(tag) = message.tag() {
            if tag != ITEM {
                return Err(Stop::Odd);
            }
            let resource = self.level(message.bytes()?, Self::resource, Self::scope_metrics)?;
            self.columns.resource(resource)?;
        }
        if self.columns.read() > 0 { Ok(()) } else { Err(Stop::Odd) }
    }

    fn resource(&mut self, encoded: &'a [u8]) -> Found<Object<'py>> {
        let resource = cached(self.resource_of, encoded)?;
        self.columns.below(&resource)?;
        Ok(resource)
    }

    fn scope_metrics(&mut self, encoded: &'a [u8]) -> Found<()> {
        let scope = self.level(encoded, Self::scope, Self::metric)?;
        self.columns.scope(scope)?;
        if std::mem::take(&mut self.drops) {
            self.lists.clear(); // of which nothing was made
        }
        Ok(())
    }

    fn scope(&mut self, encoded: &'a [u8]) -> Found<Object<'py>> {
        let scope = self.scopes.find(encoded)?;
        self.columns.within(&scope)?;
        self.drops = self.columns.drops();
        Ok(scope)
    }

    /// A resource or scope, of which `made` makes something, and what is below it.
    fn level(
        &mut self,
        encoded: &'a [u8],
        made: fn(&mut Self, &'a [u8]) -> Found<Object<'py>>,
        below: fn(&mut Self, &'a [u8]) -> Found<()>,
    ) -> Found<Object<'py>> {
        let (mut head, mut seen) = (None, Seen::default());
        let before = self.columns.read();
        let mut message = Message(encoded);
        while let Some(tag) = message.tag() {
            match tag {
                HEAD if head.is_none() => head = Some(made(self, leaf(&mut message)?)?),
                BELOW => below(self, message.bytes()?)?,
                SCHEMA => {
                    seen.once(tag)?;
                    std::str::from_utf8(leaf(&mut message)?).map_err(|_| Odd)?;
                }
                _ => return Err(Stop::Odd),
            }
        }
        head.filter(|_| self.columns.read() > before).ok_or(Stop::Odd)
    }

    fn metric(&mut self, encoded: &'a [u8]) -> Found<()> {
        let (mut data, mut seen) = (None, Seen::default());
        let mut message = Message(encoded);
        self.key.clear();
        self.fine = self.drops;
        loop {
            let from = message.0;
            let Some(tag) = message.tag() else { break };
            match tag {
                NAME | DESCRIPTION | UNIT | METADATA => {
                    seen.once(tag)?;
                    let text = leaf(&mut message)?;
                    self.fine = self.fine && tag != METADATA && std::str::from_utf8(text).is_ok();
                    self.key.extend_from_slice(&from[..from.len() - message.0.len()]);
                }
                GAUGE | SUM if data.is_none() => data = Some((tag, message.bytes()?)),
                _ => return Err(Stop::Odd),
            }
        }
        let Some((tag, data)) = data else { return Err(Stop::Odd) };
        self.data(tag, data)?;
        if self.fine {
            return self.columns.dropped();
        }
        let head = cached(self.columns.sifted()?.unwrap_or(self.head_of), &self.key)?;
        if self.drops { self.columns.dropped() } else { self.columns.metric(head) }
    }

    /// The points of a gauge or sum. What is not points joins the metric's key.
    fn data(&mut self, kind: u8, encoded: &'a [u8]) -> Found<()> {
        let mut seen = Seen::default();
        let mut message = Message(encoded);
        self.key.extend_from_slice(&[kind, 0]);
        let length = self.key.len() - 1;
        let first = self.columns.points();
        while let Some(tag) = message.tag() {
            match tag {
                ITEM => self.point(leaf(&mut message)?, self.columns.points() - first)?,
                TEMPORALITY | MONOTONIC if kind == SUM => {
                    seen.once(tag)?;
                    let value = message.small()?;
                    self.fine = self.fine && value <= ENUM;
                    self.key.extend_from_slice(&[tag, value]);
                    self.key[length] += 2;
                }
                _ => return Err(Stop::Odd),
            }
        }
        if self.columns.points() > first { Ok(()) } else { Err(Stop::Odd) }
    }

    fn point(&mut self, encoded: &'a [u8], number: usize) -> Found<()> {
        let (start, rest) = match encoded.split_at_checked(FIXED) {
            Some(([START, start @ ..], rest)) => (Some(start), rest),
            _ => (None, encoded),
        };
        let Some(([TIME, time @ ..], rest)) = rest.split_at_checked(FIXED) else { return Err(Stop::Odd) };
        let Some(([kind, value @ ..], tail)) = rest.split_at_checked(FIXED) else { return Err(Stop::Odd) };
        let value = value.try_into().map_err(|_| Odd)?;
        match *kind {
            DOUBLE => {
                let value = f64::from_le_bytes(value);
                if !value.is_finite() {
                    return Err(Stop::Odd);
                }
                self.columns.values.double(value)?;
            }
            INTEGER => self.columns.values.integer(i64::from_le_bytes(value)),
            _ => return Err(Stop::Odd),
        }
        let tail = self.tail(tail, number)?;
        self.columns.point(start, Some(time), tail)
    }

    /// What the bytes behind a value became. Those of the point of the same number in the metric before are likely.
    fn tail(&mut self, encoded: &'a [u8], number: usize) -> Found<Object<'py>> {
        if let Some((_, piece)) = self.lists.get(number).filter(|(list, _)| *list == encoded) {
            return Ok(piece.clone());
        }
        let piece = if self.drops && pass_proto(encoded, ATTRIBUTES).is_ok() {
            self.columns.nothing()
        } else {
            let piece = cached(self.tail_of, encoded)?;
            if piece.is_none() {
                return Err(Stop::Odd);
            }
            piece
        };
        if number == self.lists.len() {
            grow(&mut self.lists, 1)?;
            self.lists.push((encoded, piece.clone()));
        } else if let Some(known) = self.lists.get_mut(number) {
            *known = (encoded, piece.clone());
        }
        Ok(piece)
    }
}

fn leaf<'a>(message: &mut Message<'a>) -> Cut<&'a [u8]> {
    message.bytes().and_then(|bytes| if bytes.len() > LEAF { Err(Odd) } else { Ok(bytes) })
}

/// Of a fixed64.
fn nanoseconds(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}
