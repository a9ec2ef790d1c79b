//! JSON as text: where a value ends, by RFC 8259, and stricter where readers differ.

/// Why a bundle is left to the codec: something is not plain. There is no more to say, for the codec says it.
pub struct Odd;

pub type Cut<T> = Result<T, Odd>;

/// Containers that a value may nest; deeper ones are the codec's.
const DEEP: usize = 32;
/// Characters of a number in a value that is passed over. Longer ones may be out of range, which is the codec's to say.
const LONG: usize = 18;
const ONES: u64 = u64::MAX / 255;
/// Bytes that compilers compare at once.
const BLOCK: usize = 32;

/// A place in a text.
pub struct Cursor<'a> {
    pub text: &'a [u8],
    pub at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// The byte here; 0, which is no JSON, behind the end.
    #[inline]
    pub fn peek(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or(0)
    }

    /// Behind the first of these bytes; the end where there are none. Looks for the first byte of `end` only.
    #[inline]
    pub fn behind(&self, end: &[u8]) -> usize {
        let mut at = self.at;
        loop {
            at = first(self.text, at, end[0]);
            if at == self.text.len() || self.text[at..].starts_with(end) {
                return (at + end.len()).min(self.text.len());
            }
            at += 1;
        }
    }

    /// The next byte that is no white space.
    #[inline]
    pub fn next(&mut self) -> u8 {
        while matches!(self.peek(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
        self.peek()
    }

    /// Pass over this text, if it is what comes next, and any.
    #[inline]
    pub fn pass(&mut self, text: &[u8]) -> bool {
        let passed = !text.is_empty() && self.text[self.at..].starts_with(text);
        if passed {
            self.at += text.len();
        }
        passed
    }

    /// Pass over this byte, and white space before it.
    #[inline]
    pub fn expect(&mut self, byte: u8) -> Cut<()> {
        if self.next() != byte {
            return Err(Odd);
        }
        self.at += 1;
        Ok(())
    }

    /// Behind an item: true when another follows, false when `close` ended the container.
    #[inline]
    pub fn another(&mut self, close: u8) -> Cut<bool> {
        let byte = self.next();
        self.at += 1;
        match byte {
            b',' => Ok(true),
            _ if byte == close => Ok(false),
            _ => Err(Odd),
        }
    }

    /// Open a container: false when it is empty, and passed over.
    #[inline]
    pub fn open(&mut self, open: u8, close: u8) -> Cut<bool> {
        self.expect(open)?;
        if self.next() == close {
            self.at += 1;
            return Ok(false);
        }
        Ok(true)
    }

    /// The name of a member, up to its value. One with an escape may be another spelling of a known name: the codec's.
    #[inline]
    pub fn name(&mut self) -> Cut<&'a [u8]> {
        let (name, plain) = self.string()?;
        self.expect(b':')?;
        if plain { Ok(name) } else { Err(Odd) }
    }

    /// The inside of a string, and whether it has no escapes.
    #[inline]
    pub fn string(&mut self) -> Cut<(&'a [u8], bool)> {
        self.expect(b'"')?;
        let start = self.at;
        let mut plain = true;
        loop {
            self.at = end_of_run(self.text, self.at);
            match self.peek() {
                b'"' => {
                    self.at += 1;
                    return Ok((&self.text[start..self.at - 1], plain));
                }
                b'\\' => {
                    plain = false;
                    self.escape()?;
                }
                _ => return Err(Odd), // a control character, or the end
            }
        }
    }

    fn escape(&mut self) -> Cut<()> {
        self.at += 1;
        let byte = self.peek();
        self.at += 1;
        match byte {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(()),
            b'u' => match self.hex()? {
                // Half a character: its other half must follow.
                0xD800..=0xDBFF => {
                    if self.text.get(self.at..self.at + 2) != Some(b"\\u") {
                        return Err(Odd);
                    }
                    self.at += 2;
                    if matches!(self.hex()?, 0xDC00..=0xDFFF) { Ok(()) } else { Err(Odd) }
                }
                0xDC00..=0xDFFF => Err(Odd),
                _ => Ok(()),
            },
            _ => Err(Odd),
        }
    }

    fn hex(&mut self) -> Cut<u32> {
        let mut number = 0;
        for &digit in self.text.get(self.at..self.at + 4).ok_or(Odd)? {
            number = 16 * number + char::from(digit).to_digit(16).ok_or(Odd)?;
        }
        self.at += 4;
        Ok(number)
    }

    /// Digits here, at least one, without a zero before others.
    #[inline]
    pub fn digits(&mut self) -> Cut<&'a [u8]> {
        let start = self.at;
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        let found = &self.text[start..self.at];
        if found.is_empty() || (found[0] == b'0' && found.len() > 1) { Err(Odd) } else { Ok(found) }
    }

    /// Pass over any value.
    pub fn skip(&mut self) -> Cut<()> {
        self.skip_within(0)
    }

    fn skip_within(&mut self, depth: usize) -> Cut<()> {
        if depth == DEEP {
            return Err(Odd);
        }
        match self.next() {
            b'"' => {
                self.string()?;
            }
            b'{' => {
                let mut more = self.open(b'{', b'}')?;
                while more {
                    self.string()?;
                    self.expect(b':')?;
                    self.skip_within(depth + 1)?;
                    more = self.another(b'}')?;
                }
            }
            b'[' => {
                let mut more = self.open(b'[', b']')?;
                while more {
                    self.skip_within(depth + 1)?;
                    more = self.another(b']')?;
                }
            }
            b't' => self.word(b"true")?,
            b'f' => self.word(b"false")?,
            b'n' => self.word(b"null")?,
            _ => self.number()?,
        }
        Ok(())
    }

    fn word(&mut self, word: &[u8]) -> Cut<()> {
        if self.text.get(self.at..self.at + word.len()) != Some(word) {
            return Err(Odd);
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Cut<()> {
        let start = self.at;
        if self.peek() == b'-' {
            self.at += 1;
        }
        self.digits()?;
        if self.peek() == b'.' {
            self.at += 1;
            let fraction = self.at;
            while self.peek().is_ascii_digit() {
                self.at += 1;
            }
            if self.at == fraction {
                return Err(Odd);
            }
        }
        if self.at - start > LONG || matches!(self.peek(), b'e' | b'E') { Err(Odd) } else { Ok(()) }
    }
}

/// Whether a text is written in JSON as itself.
pub fn plain(text: &[u8]) -> bool {
    end_of_run(text, 0) == text.len()
}

/// Where a run of characters that stand for themselves ends: at a quote, a backslash, a control character or the end.
/// Eight bytes at a time, by the exact test for a zero byte; what it says of bytes behind the first hit does not count.
#[inline]
fn end_of_run(text: &[u8], mut at: usize) -> usize {
    while let Some(eight) = text.get(at..at + 8) {
        let eight = u64::from_le_bytes(eight.try_into().unwrap_or_default());
        let quote = eight ^ (ONES * u64::from(b'"'));
        let slash = eight ^ (ONES * u64::from(b'\\'));
        // All three have the high bits of the eight bytes themselves.
        let below = quote.wrapping_sub(ONES) | slash.wrapping_sub(ONES) | eight.wrapping_sub(ONES * 0x20);
        let hits = below & !eight & (ONES * 0x80);
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while at < text.len() && !matches!(text[at], b'"' | b'\\' | 0..0x20) {
        at += 1;
    }
    at
}

/// Where a byte is next; the end where it is not. Whole blocks without it are passed over.
#[inline]
pub fn first(text: &[u8], mut at: usize, byte: u8) -> usize {
    while let Some(block) = text.get(at..at + BLOCK) {
        if block.iter().fold(0, |found, &each| found | u8::from(each == byte)) != 0 {
            break;
        }
        at += BLOCK;
    }
    near(text, at, byte)
}

/// The same where it is not far.
#[inline]
pub fn near(text: &[u8], mut at: usize, byte: u8) -> usize {
    let wanted = ONES * u64::from(byte);
    while let Some(eight) = text.get(at..at + 8) {
        let eight = u64::from_le_bytes(eight.try_into().unwrap_or_default()) ^ wanted;
        let hits = eight.wrapping_sub(ONES) & !eight & (ONES * 0x80);
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while at < text.len() && text[at] != byte {
        at += 1;
    }
    at
}

/// The parts between a byte, as of `slice::split`. Eight bytes at a time, by the exact test for each zero byte: parts are
/// short, and where one ends cannot be foretold.
pub fn split<'a>(text: &'a [u8], byte: u8, parts: &mut Vec<&'a [u8]>) {
    let wanted = ONES * u64::from(byte);
    let (mut from, mut at) = (0, 0);
    while let Some(eight) = text.get(at..at + 8) {
        let eight = u64::from_le_bytes(eight.try_into().unwrap_or_default()) ^ wanted;
        let mut hits = !(((eight & (ONES * 0x7F)) + ONES * 0x7F) | eight | (ONES * 0x7F));
        while hits != 0 {
            let end = at + (hits.trailing_zeros() / 8) as usize;
            parts.push(&text[from..end]);
            from = end + 1;
            hits &= hits - 1;
        }
        at += 8;
    }
    parts.extend(text[from..].split(|&each| each == byte));
}

/// Behind the n-th of a byte from a place on; None where it is not there so often. Counts whole blocks.
#[inline]
pub fn behind_nth(text: &[u8], mut at: usize, byte: u8, mut n: usize) -> Option<usize> {
    while let Some(block) = text.get(at..at + BLOCK) {
        let found = usize::from(block.iter().fold(0, |found, &each| found + u8::from(each == byte)));
        if found >= n {
            break;
        }
        at += BLOCK;
        n -= found;
    }
    while n > 0 {
        at += 1 + text.get(at..)?.iter().position(|&each| each == byte)?;
        n -= 1;
    }
    Some(at)
}
