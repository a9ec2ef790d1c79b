//! Protobuf's wire format as its usual serializers write it; a number in more bytes than it needs is not plain.

use crate::text::{Cut, Odd};

/// What of a message is not read yet.
pub struct Message<'a>(pub &'a [u8]);

impl<'a> Message<'a> {
    /// The next tag. Those that are known have one byte; another's first byte is none of them.
    #[inline]
    pub fn tag(&mut self) -> Option<u8> {
        let (&tag, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(tag)
    }

    /// A varint of one byte.
    #[inline]
    pub fn small(&mut self) -> Cut<u8> {
        self.tag().filter(|&byte| byte < 0x80).ok_or(Odd)
    }

    /// What is as long as the number before it says.
    #[inline]
    pub fn bytes(&mut self) -> Cut<&'a [u8]> {
        let mut length = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.tag().ok_or(Odd)?;
            length |= usize::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                if byte == 0 && shift > 0 {
                    return Err(Odd);
                }
                let (found, rest) = self.0.split_at_checked(length).ok_or(Odd)?;
                self.0 = rest;
                return Ok(found);
            }
        }
        Err(Odd)
    }
}
