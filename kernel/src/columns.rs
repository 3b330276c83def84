//! Columns as they grow, one kind each. A column takes the next value from the cursor, or refuses it with `None`.

use std::ffi::CStr;

use crate::arrow::{Array, Buffer, vector};
use crate::cursor::Cursor;

/// Arrow's views hold strings of so many bytes themselves.
const INLINE_BYTES_MAX: usize = 12;

const COPIED_BYTES: usize = 64;

pub trait Values: Send {
    fn take<'a>(&mut self, cursor: Cursor<'a>) -> Option<Cursor<'a>>;
    /// A place holder, for a null.
    fn blank(&mut self);
    fn len(&self) -> usize;
    fn truncate(&mut self, rows: usize);
    /// Arrow's name of the type, and the buffers after the validity.
    fn finish(self: Box<Self>) -> (&'static CStr, Vec<Buffer>);
}

/// Makes an empty column with room for so many rows.
pub type Make = fn(usize) -> Box<dyn Values>;

/// The kinds of columns by Polars' names.
pub const KINDS: [(&str, Make); 10] = [
    ("String", |rows| Box::new(Texts { views: vector(rows), bytes: vector(0) })),
    ("Boolean", Fixed::<bool>::make),
    ("Float64", Fixed::<f64>::make),
    ("Int8", Fixed::<i8>::make),
    ("Int16", Fixed::<i16>::make),
    ("Int32", Fixed::<i32>::make),
    ("Int64", Fixed::<i64>::make),
    ("UInt8", Fixed::<u8>::make),
    ("UInt16", Fixed::<u16>::make),
    ("UInt32", Fixed::<u32>::make),
];

/// The values of one field, with its nulls.
pub struct Column {
    values: Box<dyn Values>,
    nulls: Vec<usize>,
}

impl Column {
    pub fn new(values: Box<dyn Values>) -> Self {
        let nulls = Vec::new();
        Self { values, nulls }
    }

    #[inline]
    pub fn take(&mut self, cursor: &mut Cursor, nullable: bool) -> Option<()> {
        if nullable && cursor.eat_all(b"null") {
            self.null();
            return Some(());
        }
        *cursor = self.values.take(*cursor)?;
        Some(())
    }

    pub fn null(&mut self) {
        self.nulls.push(self.values.len());
        self.values.blank();
    }

    pub fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
        self.nulls.truncate(self.nulls.partition_point(|&row| row < rows));
    }

    pub fn finish(self) -> Array {
        let length = self.values.len();
        let validity = (!self.nulls.is_empty()).then(|| {
            let mut bits = vec![u8::MAX; length.div_ceil(8)];
            for row in &self.nulls {
                bits[row / 8] &= !(1 << (row % 8));
            }
            Buffer::of(bits)
        });
        let (format, buffers) = self.values.finish();
        Array::new(format, length, self.nulls.len(), validity, buffers)
    }
}

/// A value of fixed size.
trait Value: Default + Send + Sync + 'static {
    const FORMAT: &'static CStr;

    fn read(cursor: &mut Cursor) -> Option<Self>;

    fn buffer(values: Vec<Self>) -> Buffer {
        Buffer::of(values)
    }
}

macro_rules! integers {
    ($($kind:ty: $format:literal),*) => {
        $(impl Value for $kind {
            const FORMAT: &'static CStr = $format;

            fn read(cursor: &mut Cursor) -> Option<Self> {
                Self::try_from(cursor.integer()?).ok()
            }
        })*
    };
}

integers!(i8: c"c", i16: c"s", i32: c"i", i64: c"l", u8: c"C", u16: c"S", u32: c"I");

impl Value for f64 {
    const FORMAT: &'static CStr = c"g";

    fn read(cursor: &mut Cursor) -> Option<Self> {
        cursor.float()
    }
}

impl Value for bool {
    const FORMAT: &'static CStr = c"b";

    fn read(cursor: &mut Cursor) -> Option<Self> {
        let value = cursor.eat_all(b"true");
        (value || cursor.eat_all(b"false")).then_some(value)
    }

    /// A bit each, the first the lowest.
    fn buffer(values: Vec<Self>) -> Buffer {
        let pack = |bits: &[bool]| bits.iter().rev().fold(0, |byte, &bit| byte << 1 | u8::from(bit));
        Buffer::of(values.chunks(8).map(pack).collect())
    }
}

struct Fixed<T>(Vec<T>);

impl<T: Value> Fixed<T> {
    fn make(rows: usize) -> Box<dyn Values> {
        Box::new(Self(vector(rows)))
    }
}

impl<T: Value> Values for Fixed<T> {
    fn take<'a>(&mut self, mut cursor: Cursor<'a>) -> Option<Cursor<'a>> {
        self.0.push(T::read(&mut cursor)?);
        Some(cursor)
    }

    fn blank(&mut self) {
        self.0.push(T::default());
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn truncate(&mut self, rows: usize) {
        self.0.truncate(rows);
    }

    fn finish(self: Box<Self>) -> (&'static CStr, Vec<Buffer>) {
        (T::FORMAT, vec![T::buffer(self.0)])
    }
}

/// Strings as Polars holds them itself, so that it takes them as they are: views, and the bytes of the long ones.
struct Texts {
    views: Vec<u128>,
    bytes: Vec<u8>,
}

impl Values for Texts {
    fn take<'a>(&mut self, mut cursor: Cursor<'a>) -> Option<Cursor<'a>> {
        let (tail, size) = cursor.string_ahead()?;
        let head = if size <= INLINE_BYTES_MAX {
            let mut bytes = [0; 16];
            match tail.first_chunk() {
                Some(more) => bytes = *more,
                None => bytes[..size].copy_from_slice(&tail[..size]),
            }
            (u128::from_le_bytes(bytes) & !(u128::MAX << (8 * size))) << 32
        } else {
            let begin = i32::try_from(self.bytes.len()).ok()?;
            match tail.first_chunk::<COPIED_BYTES>() {
                // A copy of a fixed size is a few instructions, of another one a call.
                Some(more) if size <= COPIED_BYTES => {
                    self.bytes.extend_from_slice(more);
                    self.bytes.truncate(begin as usize + size);
                }
                _ => self.bytes.extend_from_slice(&tail[..size]),
            }
            let head = u32::from_le_bytes(*tail.first_chunk()?);
            // The index of the one buffer is 0.
            u128::from(head) << 32 | u128::from(begin as u32) << 96
        };
        self.views.push(u128::from(u32::try_from(size).ok()?) | head);
        Some(cursor)
    }

    fn blank(&mut self) {
        self.views.push(0);
    }

    fn len(&self) -> usize {
        self.views.len()
    }

    /// The bytes of a refused record stay behind, unseen.
    fn truncate(&mut self, rows: usize) {
        self.views.truncate(rows);
    }

    fn finish(self: Box<Self>) -> (&'static CStr, Vec<Buffer>) {
        let sizes = vec![self.bytes.len() as i64];
        (c"vu", vec![Buffer::of(self.views), Buffer::of(self.bytes), Buffer::of(sizes)])
    }
}
