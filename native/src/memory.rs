//! Room for what is made of a large bundle. Where memory ends Rust ends the process, while Python raises `MemoryError`,
//! of which the engine makes a dead letter: so it is asked for first.

use std::hint::black_box;

use crate::text::{Cut, Odd};

/// Bytes of room for each byte of a bundle: columns, and the Python objects in them.
pub const CUT: usize = 8;
/// Bytes of room for each row of lines, beside the lines.
pub const WOVEN: usize = 160;
/// Bytes of room for each byte of values in another unit: `0,` can become a number of 24 characters.
pub const SCALED: usize = 32;
/// Bytes that are taken without asking: nearly all bundles need less.
const LITTLE: usize = 8 << 20;

/// Whether so many bytes can be had now. They are given back at once, and the interpreter's lock is held meanwhile.
pub fn has_room(bytes: usize) -> bool {
    let mut room = Vec::<u8>::new();
    bytes <= LITTLE || {
        let had = room.try_reserve_exact(bytes).is_ok();
        black_box(&mut room); // else the compiler leaves out what nobody reads
        had
    }
}

/// Makes room for so many more. What is not had is not plain.
#[inline]
pub fn grow<T>(of: &mut Vec<T>, by: usize) -> Cut<()> {
    of.try_reserve(by).map_err(|_| Odd)
}
