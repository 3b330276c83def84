//! A position in a record, and what JSON may stand there. Everything answers `None` for what is not plainly fine.
//!
//! Whoever makes a cursor has checked that the bytes are UTF-8 and that the only control characters are the newlines
//! after the documents; so strings need no second look, and space is the only blank.

/// Deeper nesting in a value that nobody wants is left to the general decoder: it bounds the recursion here.
const DEPTH_MAX: usize = 32;
/// Any integer of so many digits fits 64 bits; longer ones are near the bounds, or beyond.
const DIGITS_MAX: usize = 18;
/// Numbers of more bytes are left to the general decoder, which may find them out of range.
const NUMBER_BYTES_MAX: usize = 32;

const LOW: u128 = u128::from_ne_bytes([0x01; 16]);
const HIGH: u128 = u128::from_ne_bytes([0x80; 16]);

pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub fn position(&self) -> usize {
        self.at
    }

    pub fn since(&self, begin: usize) -> &'a [u8] {
        &self.bytes[begin..self.at]
    }

    /// The next 16 bytes, the first the lowest; None close to the end.
    #[inline]
    pub fn block(&self) -> Option<u128> {
        self.bytes[self.at..].first_chunk().map(|block| u128::from_le_bytes(*block))
    }

    #[inline]
    pub fn skip(&mut self, bytes: usize) {
        self.at += bytes;
    }

    #[inline]
    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    pub fn spaces(&mut self) {
        while self.peek() == Some(b' ') {
            self.at += 1;
        }
    }

    #[inline]
    pub fn eat(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    #[inline]
    pub fn expect(&mut self, byte: u8) -> Option<()> {
        self.eat(byte).then_some(())
    }

    #[inline]
    pub fn eat_all(&mut self, text: &[u8]) -> bool {
        let is_there = self.bytes[self.at..].starts_with(text);
        if is_there {
            self.at += text.len();
        }
        is_there
    }

    #[inline]
    pub fn expect_all(&mut self, text: &[u8]) -> Option<()> {
        self.eat_all(text).then_some(())
    }

    /// A string without escapes.
    #[inline]
    pub fn text(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let begin = self.at;
        self.at = self.quote_or_backslash()?;
        let text = self.since(begin);
        self.expect(b'"')?;
        Some(text)
    }

    /// A whole number that surely fits 64 bits. Minus nought is left out: it is a fraction to some.
    pub fn integer(&mut self) -> Option<i64> {
        let is_negative = self.eat(b'-');
        let begin = self.at;
        let mut value = 0_i64;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            if self.at - begin == DIGITS_MAX {
                return None;
            }
            value = value * 10 + i64::from(digit - b'0');
            self.at += 1;
        }
        let is_odd = match self.at - begin {
            0 => true,
            1 => is_negative && value == 0,
            _ => self.bytes[begin] == b'0',
        };
        (!is_odd && !matches!(self.peek(), Some(b'.' | b'e' | b'E'))).then_some(if is_negative {
            -value
        } else {
            value
        })
    }

    /// Any finite number, rounded to the nearest double.
    pub fn float(&mut self) -> Option<f64> {
        let begin = self.at;
        self.skip_number()?;
        let text = self.since(begin);
        let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
        (value.is_finite() && text != b"-0").then_some(value)
    }

    #[inline]
    pub fn skip_value(&mut self) -> Option<()> {
        self.skip_nested(DEPTH_MAX)
    }

    fn skip_nested(&mut self, depth: usize) -> Option<()> {
        match self.peek()? {
            b'"' => self.skip_string(),
            b'-' | b'0'..=b'9' => self.skip_number(),
            b't' => self.expect_all(b"true"),
            b'f' => self.expect_all(b"false"),
            b'n' => self.expect_all(b"null"),
            b'[' => self.skip_items(b']', depth.checked_sub(1)?),
            b'{' => self.skip_items(b'}', depth.checked_sub(1)?),
            _ => None,
        }
    }

    fn skip_items(&mut self, close: u8, depth: usize) -> Option<()> {
        self.at += 1;
        self.spaces();
        if self.eat(close) {
            return Some(());
        }
        loop {
            if close == b'}' {
                self.skip_string()?;
                self.spaces();
                self.expect(b':')?;
                self.spaces();
            }
            self.skip_nested(depth)?;
            self.spaces();
            if !self.eat(b',') {
                return self.expect(close);
            }
            self.spaces();
        }
    }

    #[inline]
    fn skip_string(&mut self) -> Option<()> {
        self.expect(b'"')?;
        loop {
            self.at = self.quote_or_backslash()?;
            if self.eat(b'"') {
                return Some(());
            }
            self.skip_escape()?;
        }
    }

    /// Halves of surrogate pairs are left to the general decoder.
    fn skip_escape(&mut self) -> Option<()> {
        let escape = self.bytes.get(self.at..self.at + 2)?;
        self.at += 2;
        match escape[1] {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => {
                let digits = self.bytes.get(self.at..self.at + 4)?;
                let is_surrogate = matches!(digits[0], b'd' | b'D') && digits[1] > b'7';
                self.at += 4;
                (digits.iter().all(u8::is_ascii_hexdigit) && !is_surrogate).then_some(())
            }
            _ => None,
        }
    }

    fn skip_number(&mut self) -> Option<()> {
        let begin = self.at;
        self.eat(b'-');
        if !self.eat(b'0') {
            self.skip_digits()?;
        }
        if self.eat(b'.') {
            self.skip_digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            let _ = self.eat(b'+') || self.eat(b'-');
            self.skip_digits()?;
        }
        (self.at - begin <= NUMBER_BYTES_MAX).then_some(())
    }

    fn skip_digits(&mut self) -> Option<()> {
        let begin = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > begin).then_some(())
    }

    /// Where the next of the two is, 16 bytes at a time.
    #[inline]
    fn quote_or_backslash(&self) -> Option<usize> {
        let mut at = self.at;
        while let Some(block) = self.bytes.get(at..).and_then(<[u8]>::first_chunk) {
            let block = u128::from_le_bytes(*block);
            let hits = zero_bytes(block ^ (LOW * 0x22)) | zero_bytes(block ^ (LOW * 0x5c));
            if hits != 0 {
                return Some(at + hits.trailing_zeros() as usize / 8);
            }
            at += size_of_val(&block);
        }
        let found = self.bytes[at..].iter().position(|&byte| byte == b'"' || byte == b'\\')?;
        Some(at + found)
    }
}

/// The high bit of each byte that is nought; bits above the lowest such byte may be set wrongly.
#[inline]
fn zero_bytes(word: u128) -> u128 {
    word.wrapping_sub(LOW) & !word & HIGH
}
