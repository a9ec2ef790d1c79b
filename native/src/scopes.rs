//! Scopes by their bytes: one that is new in nothing but LMDP's time of the poll is made of what the others gave.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::columns::Object;
use crate::text::first;

/// Digits of the time of a poll.
const DIGITS: usize = 13;

/// What `lmstream.codecs.scope_cache` hands in.
pub struct Scopes<'py> {
    /// From a scope's bytes to the scope.
    find: Object<'py>,
    /// From a scope's bytes with zeros for the digits to what makes the scope of digits, or None.
    polled: Bound<'py, PyDict>,
    /// What stands before the digits.
    mark: Bound<'py, PyBytes>,
}

impl<'py> Scopes<'py> {
    pub fn new(parts: &Bound<'py, PyTuple>) -> PyResult<Self> {
        let (find, polled, mark) = parts.extract()?;
        Ok(Self { find, polled, mark })
    }

    /// The scope of these bytes. Raises what making it raises.
    pub fn find(&self, scope: &[u8]) -> PyResult<Object<'py>> {
        match self.known(scope)? {
            Some(found) => Ok(found),
            None => self.find.call1((PyBytes::new(self.find.py(), scope),)),
        }
    }

    /// The same, where another poll's was read before.
    pub fn known(&self, scope: &[u8]) -> PyResult<Option<Object<'py>>> {
        let Some(from) = behind(self.mark.as_bytes(), scope) else { return Ok(None) };
        let digits = from..from + DIGITS;
        let Some(epoch) = scope.get(digits.clone()).filter(|epoch| epoch.iter().all(u8::is_ascii_digit)) else {
            return Ok(None);
        };
        let py = self.find.py();
        let key = PyBytes::new_with(py, scope.len(), |key| {
            key.copy_from_slice(scope);
            key[digits].fill(b'0');
            Ok(())
        })?;
        let Some(polled) = self.polled.get_item(key)? else { return Ok(None) };
        let found = polled.call1((PyBytes::new(py, epoch),))?;
        Ok(Some(found).filter(|found| !found.is_none()))
    }
}

/// Behind the first place of a mark. Its second byte is looked for, for its first is a quote or a line feed.
fn behind(mark: &[u8], text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at = first(text, at, *mark.get(1)?);
        if text.get(at - 1..)?.starts_with(mark) {
            return Some(at - 1 + mark.len());
        }
        at += 1;
    }
}
