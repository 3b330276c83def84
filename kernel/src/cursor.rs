//! A position in a record, and what JSON may stand there. Everything answers `None` for what is not plainly fine.
//!
//! The bytes are UTF-8, and control characters are marked as quotes are, so that no string reaches beyond one; space is
//! the only blank.

use crate::marks::Marks;

/// Deeper nesting in a value that nobody wants is left to the general decoder: it bounds the recursion here.
const DEPTH_MAX: usize = 32;
/// Any integer of so many digits fits 64 bits; longer ones are near the bounds, or beyond.
const DIGITS_MAX: usize = 18;
/// Numbers of more bytes are left to the general decoder, which may find them out of range.
const NUMBER_BYTES_MAX: usize = 32;

pub struct Text<'a> {
    pub bytes: &'a [u8],
    pub marks: &'a Marks,
}

/// Small enough to be handed over, and back, in two registers.
#[derive(Clone, Copy)]
pub struct Cursor<'a> {
    text: &'a Text<'a>,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a Text<'a>) -> Self {
        Self { text, at: 0 }
    }

    pub fn is_at_end(&self) -> bool {
        self.at == self.text.bytes.len()
    }

    pub fn position(&self) -> usize {
        self.at
    }

    pub fn since(&self, begin: usize) -> &'a [u8] {
        &self.text.bytes[begin..self.at]
    }

    /// The next 16 bytes, the first the lowest; None close to the end.
    #[inline]
    pub fn block(&self) -> Option<u128> {
        self.text.bytes[self.at..].first_chunk().map(|block| u128::from_le_bytes(*block))
    }

    #[inline]
    pub fn skip(&mut self, bytes: usize) {
        self.at += bytes;
    }

    #[inline]
    pub fn peek(&self) -> Option<u8> {
        self.text.bytes.get(self.at).copied()
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
        let is_there = self.text.bytes[self.at..].starts_with(text);
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
    #[inline(always)]
    pub fn string(&mut self) -> Option<&'a [u8]> {
        let (tail, size) = self.string_ahead()?;
        Some(&tail[..size])
    }

    /// The record from the begin of a string without escapes on, and the size of the string.
    #[inline(always)]
    pub fn string_ahead(&mut self) -> Option<(&'a [u8], usize)> {
        self.expect(b'"')?;
        let begin = self.at;
        self.at = self.text.marks.next(begin)?;
        let size = self.at - begin;
        self.expect(b'"')?;
        Some((&self.text.bytes[begin..], size))
    }

    /// A whole number that surely fits 64 bits. Minus nought is left out: it is a fraction to some.
    #[inline]
    pub fn integer(&mut self) -> Option<i64> {
        let is_negative = self.eat(b'-');
        let begin = self.at;
        let mut value = 0;
        while let Some(eight) = self.text.bytes[self.at..].first_chunk().and_then(eight_digits) {
            if self.at - begin > DIGITS_MAX - 8 {
                return None;
            }
            value = value * 100_000_000 + eight;
            self.at += 8;
        }
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
            _ => self.text.bytes[begin] == b'0',
        };
        if is_odd || matches!(self.peek(), Some(b'.' | b'e' | b'E')) {
            return None;
        }
        Some(if is_negative { -value } else { value })
    }

    /// Any finite number, rounded to the nearest double.
    pub fn float(&mut self) -> Option<f64> {
        let begin = self.at;
        self.skip_number()?;
        let text = self.since(begin);
        let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
        (value.is_finite() && text != b"-0").then_some(value)
    }

    #[inline(always)]
    pub fn skip_value(&mut self) -> Option<()> {
        if self.peek() == Some(b'"') {
            return self.skip_string();
        }
        self.aside(|cursor| cursor.skip_nested(DEPTH_MAX))
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

    #[inline(always)]
    fn skip_string(&mut self) -> Option<()> {
        self.expect(b'"')?;
        self.at = self.text.marks.next(self.at)?;
        if self.eat(b'"') { Some(()) } else { self.aside(Self::skip_escapes) }
    }

    /// The rest of a string, from an escape on.
    fn skip_escapes(&mut self) -> Option<()> {
        while !self.eat(b'"') {
            self.skip_escape()?;
            self.at = self.text.marks.next(self.at)?;
        }
        Some(())
    }

    /// By way of a copy: what is never lent itself stays in the processor's registers.
    #[inline]
    pub fn aside<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let mut copy = *self;
        let read = read(&mut copy)?;
        self.at = copy.at;
        Some(read)
    }

    /// Halves of surrogate pairs are left to the general decoder.
    fn skip_escape(&mut self) -> Option<()> {
        // A control character is marked as a backslash is.
        self.expect(b'\\')?;
        let escaped = self.peek()?;
        self.at += 1;
        match escaped {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => {
                let digits = self.text.bytes.get(self.at..self.at + 4)?;
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
}

/// The number that eight digits are; None if they are not all digits.
#[inline]
fn eight_digits(digits: &[u8; 8]) -> Option<i64> {
    let word = u64::from_le_bytes(*digits);
    let high = word & 0xf0f0_f0f0_f0f0_f0f0;
    let above = word.wrapping_add(0x0606_0606_0606_0606) & 0xf0f0_f0f0_f0f0_f0f0;
    let is_digits = high | above >> 4 == 0x3333_3333_3333_3333;
    // Neighbours come together: eight digits, four pairs, two fours, one eight.
    let pairs = (word & 0x0f0f_0f0f_0f0f_0f0f).wrapping_mul(10 << 8 | 1) >> 8 & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(100 << 16 | 1) >> 16 & 0x0000_ffff_0000_ffff;
    let eight = fours.wrapping_mul(10_000 << 32 | 1) >> 32;
    is_digits.then_some(eight as i64)
}
