//! Cuts plain bundles into columns and weaves columns into lines, for lmstream's codecs and engine.
//!
//! It judges nothing. What is not plain is answered with None, and then the codec in Python decides: it alone knows the
//! rules. Caches, pieces and errors are Python's too; they are handed in, and asked by the bytes that were cut out.

mod attributes;
mod columns;
mod decimal;
mod json;
mod memory;
mod proto;
mod scaling;
mod scopes;
mod shortest;
mod sieve;
mod sift;
mod text;
mod weave;
mod wire;

use pyo3::prelude::*;

/// Functions of `lmstream._native`.
#[pymodule]
mod _native {
    /// Counts how functions are called and what they answer: raise it, here and in lmstream/native.py, with each change.
    #[pymodule_export]
    const INTERFACE: u32 = 12;
    #[pymodule_export]
    use super::attributes::{tail, tail_proto};
    #[pymodule_export]
    use super::json::scan;
    #[pymodule_export]
    use super::proto::scan_proto;
    #[pymodule_export]
    use super::scaling::scale;
    #[pymodule_export]
    use super::sieve::{Decided, Sieve};
    #[pymodule_export]
    use super::sift::sift;
    #[pymodule_export]
    use super::weave::weave;
}
