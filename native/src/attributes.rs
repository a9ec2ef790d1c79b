//! Lists of attributes that are texts and nothing else, as those of most points are, as a row has them.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::text::{Cursor, Cut, Odd, first, plain};
use crate::wire::Message;

/// Attributes of one list; longer ones are the codec's.
const MOST: usize = 64;
/// Fields of `KeyValue`: the key, and the value, an `AnyValue` of which field 1 is a text.
const KEY: u8 = 0x0A;
const VALUE: u8 = 0x12;
const TEXT: u8 = 0x0A;

type Pairs<'a> = Vec<(&'a [u8], &'a [u8])>;

/// What a row has of a JSON array of attributes: the value of the first of `names` that is set behind `instance`, and all
/// of them as an object behind `attributes`. None where there is more than texts, each once and written as itself, or
/// nothing, or any of the texts that are `watched`.
#[pyfunction]
#[pyo3(signature = (raw, names, instance, attributes, end, watched=None))]
pub fn tail<'py>(
    raw: &Bound<'py, PyBytes>,
    names: &Bound<'py, PyTuple>,
    instance: &[u8],
    attributes: &[u8],
    end: &[u8],
    watched: Option<&Bound<'py, PyTuple>>,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    written(raw, names, [instance, attributes, end], json(&mut Cursor::new(raw.as_bytes())), watched)
}

/// The same of repeated `KeyValue` with this tag, as the usual serializers write them.
#[pyfunction]
#[pyo3(signature = (raw, names, instance, attributes, end, tag, watched=None))]
pub fn tail_proto<'py>(
    raw: &Bound<'py, PyBytes>,
    names: &Bound<'py, PyTuple>,
    instance: &[u8],
    attributes: &[u8],
    end: &[u8],
    tag: u8,
    watched: Option<&Bound<'py, PyTuple>>,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    written(raw, names, [instance, attributes, end], proto(&mut Message(raw.as_bytes()), tag), watched)
}

fn written<'py>(
    raw: &Bound<'py, PyBytes>,
    names: &Bound<'py, PyTuple>,
    [instance, attributes, end]: [&[u8]; 3],
    pairs: Cut<Pairs<'_>>,
    watched: Option<&Bound<'py, PyTuple>>,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let Ok(pairs) = pairs else { return Ok(None) };
    let twice = |at: usize| pairs[..at].iter().any(|(key, _)| *key == pairs[at].0);
    if pairs.is_empty() || std::str::from_utf8(raw.as_bytes()).is_err() || (1..pairs.len()).any(twice) {
        return Ok(None);
    }
    let mut piece = Vec::with_capacity(2 * raw.as_bytes().len());
    for name in names {
        let name = name.cast::<PyBytes>()?.as_bytes();
        if let Some((_, value)) = pairs.iter().find(|(key, value)| *key == name && !value.is_empty()) {
            piece.extend_from_slice(instance);
            quoted(&mut piece, value);
            break;
        }
    }
    piece.extend_from_slice(attributes);
    let mut before = b'{';
    for (key, value) in &pairs {
        piece.push(before);
        quoted(&mut piece, key);
        piece.push(b':');
        quoted(&mut piece, value);
        before = b',';
    }
    piece.push(b'}');
    piece.extend_from_slice(end);
    for text in watched.into_iter().flatten() {
        if has(&piece, text.cast::<PyBytes>()?.as_bytes()) {
            return Ok(None);
        }
    }
    Ok(Some(PyBytes::new(raw.py(), &piece)))
}

/// Whether a text is anywhere in a piece.
fn has(piece: &[u8], text: &[u8]) -> bool {
    let Some(&byte) = text.first() else { return true };
    let mut at = first(piece, 0, byte);
    while at < piece.len() {
        if piece[at..].starts_with(text) {
            return true;
        }
        at = first(piece, at + 1, byte);
    }
    false
}

fn quoted(into: &mut Vec<u8>, text: &[u8]) {
    into.push(b'"');
    into.extend_from_slice(text);
    into.push(b'"');
}

fn json<'a>(cursor: &mut Cursor<'a>) -> Cut<Pairs<'a>> {
    let mut pairs = Vec::new();
    each(cursor, |key, text| pairs.push((key, text)))?;
    cursor.next();
    if cursor.at == cursor.text.len() { Ok(pairs) } else { Err(Odd) }
}

/// Pass over such a list.
pub fn pass(cursor: &mut Cursor<'_>) -> Cut<()> {
    each(cursor, |_, _| ())
}

/// The same of repeated `KeyValue` with this tag and nothing else.
pub fn pass_proto(bytes: &[u8], tag: u8) -> Cut<()> {
    proto(&mut Message(bytes), tag)?;
    std::str::from_utf8(bytes).map_err(|_| Odd)?;
    Ok(())
}

fn each<'a>(cursor: &mut Cursor<'a>, mut found: impl FnMut(&'a [u8], &'a [u8])) -> Cut<()> {
    let mut more = cursor.open(b'[', b']')?;
    let mut left = MOST;
    while more {
        left = left.checked_sub(1).ok_or(Odd)?;
        cursor.expect(b'{')?;
        let key = text(cursor, b"key")?;
        cursor.expect(b',')?;
        named(cursor, b"value")?;
        cursor.expect(b'{')?;
        found(key, text(cursor, b"stringValue")?);
        cursor.expect(b'}')?;
        cursor.expect(b'}')?;
        more = cursor.another(b']')?;
    }
    Ok(())
}

fn named(cursor: &mut Cursor<'_>, name: &[u8]) -> Cut<()> {
    if cursor.name()? == name { Ok(()) } else { Err(Odd) }
}

/// The text of a member of this name.
fn text<'a>(cursor: &mut Cursor<'a>, name: &[u8]) -> Cut<&'a [u8]> {
    named(cursor, name)?;
    let (text, plain) = cursor.string()?;
    if plain { Ok(text) } else { Err(Odd) }
}

fn proto<'a>(message: &mut Message<'a>, tag: u8) -> Cut<Pairs<'a>> {
    let mut pairs = Vec::new();
    while !message.0.is_empty() && pairs.len() < MOST {
        let mut attribute = Message(only(message, tag)?);
        let key = only(&mut attribute, KEY)?;
        let mut value = Message(only(&mut attribute, VALUE)?);
        let text = only(&mut value, TEXT)?;
        if !(attribute.0.is_empty() && value.0.is_empty() && plain(key) && plain(text)) {
            return Err(Odd);
        }
        pairs.push((key, text));
    }
    if message.0.is_empty() { Ok(pairs) } else { Err(Odd) }
}

/// The next field, which must be this one.
fn only<'a>(message: &mut Message<'a>, tag: u8) -> Cut<&'a [u8]> {
    if message.tag() == Some(tag) { message.bytes() } else { Err(Odd) }
}
