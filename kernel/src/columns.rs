//! Columns as they grow, one kind each. A column takes the next value from the cursor, or refuses it with `None`.

use std::ffi::CStr;

use crate::arrow::{Array, Buffer};
use crate::cursor::Cursor;

/// Arrow's views hold strings of so many bytes themselves.
const INLINE_BYTES_MAX: usize = 12;

pub trait Values: Send {
    fn take(&mut self, cursor: &mut Cursor) -> Option<()>;
    /// A place holder, for a null.
    fn blank(&mut self);
    fn len(&self) -> usize;
    /// Make room for this many times what there is.
    fn reserve(&mut self, times: usize);
    fn truncate(&mut self, rows: usize);
    /// Arrow's name of the type, and the buffers after the validity.
    fn finish(self: Box<Self>) -> (&'static CStr, Vec<Buffer>);
}

/// Makes an empty column.
pub type Make = fn() -> Box<dyn Values>;

/// The kinds of columns by Polars' names, each with a maker of an empty one.
pub const KINDS: [(&str, Make); 10] = [
    ("String", || Box::new(Texts::default())),
    ("Boolean", || Box::new(Booleans(Vec::new()))),
    ("Float64", || Box::new(Floats(Vec::new()))),
    ("Int8", || Box::new(Integers::<i8>(Vec::new()))),
    ("Int16", || Box::new(Integers::<i16>(Vec::new()))),
    ("Int32", || Box::new(Integers::<i32>(Vec::new()))),
    ("Int64", || Box::new(Integers::<i64>(Vec::new()))),
    ("UInt8", || Box::new(Integers::<u8>(Vec::new()))),
    ("UInt16", || Box::new(Integers::<u16>(Vec::new()))),
    ("UInt32", || Box::new(Integers::<u32>(Vec::new()))),
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
        self.values.take(cursor)
    }

    pub fn null(&mut self) {
        self.nulls.push(self.values.len());
        self.values.blank();
    }

    pub fn reserve(&mut self, times: usize) {
        self.values.reserve(times);
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

trait Integer: TryFrom<i64> + Default + Send + Sync + 'static {
    const FORMAT: &'static CStr;
}

macro_rules! integer {
    ($($kind:ty: $format:literal),*) => {
        $(impl Integer for $kind { const FORMAT: &'static CStr = $format; })*
    };
}

integer!(i8: c"c", i16: c"s", i32: c"i", i64: c"l", u8: c"C", u16: c"S", u32: c"I");

struct Integers<T>(Vec<T>);

impl<T: Integer> Values for Integers<T> {
    fn take(&mut self, cursor: &mut Cursor) -> Option<()> {
        self.0.push(T::try_from(cursor.integer()?).ok()?);
        Some(())
    }

    fn blank(&mut self) {
        self.0.push(T::default());
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn reserve(&mut self, times: usize) {
        self.0.reserve(self.0.len() * times);
    }

    fn truncate(&mut self, rows: usize) {
        self.0.truncate(rows);
    }

    fn finish(self: Box<Self>) -> (&'static CStr, Vec<Buffer>) {
        (T::FORMAT, vec![Buffer::of(self.0)])
    }
}

struct Floats(Vec<f64>);

impl Values for Floats {
    fn take(&mut self, cursor: &mut Cursor) -> Option<()> {
        self.0.push(cursor.float()?);
        Some(())
    }

    fn blank(&mut self) {
        self.0.push(0.0);
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn reserve(&mut self, times: usize) {
        self.0.reserve(self.0.len() * times);
    }

    fn truncate(&mut self, rows: usize) {
        self.0.truncate(rows);
    }

    fn finish(self: Box<Self>) -> (&'static CStr, Vec<Buffer>) {
        (c"g", vec![Buffer::of(self.0)])
    }
}

struct Booleans(Vec<bool>);

impl Values for Booleans {
    fn take(&mut self, cursor: &mut Cursor) -> Option<()> {
        let value = cursor.eat_all(b"true");
        if !value {
            cursor.expect_all(b"false")?;
        }
        self.0.push(value);
        Some(())
    }

    fn blank(&mut self) {
        self.0.push(false);
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn reserve(&mut self, times: usize) {
        self.0.reserve(self.0.len() * times);
    }

    fn truncate(&mut self, rows: usize) {
        self.0.truncate(rows);
    }

    fn finish(self: Box<Self>) -> (&'static CStr, Vec<Buffer>) {
        let packed = self.0.chunks(8).map(|bits| bits.iter().rev().fold(0, |byte, &bit| byte << 1 | u8::from(bit)));
        (c"b", vec![Buffer::of(packed.collect::<Vec<u8>>())])
    }
}

/// Strings as Polars holds them itself, so that it takes them as they are: views, and the bytes of the long ones.
#[derive(Default)]
struct Texts {
    views: Vec<[u8; 16]>,
    bytes: Vec<u8>,
}

impl Values for Texts {
    fn take(&mut self, cursor: &mut Cursor) -> Option<()> {
        let text = cursor.text()?;
        let mut view = [0; 16];
        view[..4].copy_from_slice(&u32::try_from(text.len()).ok()?.to_le_bytes());
        if text.len() <= INLINE_BYTES_MAX {
            view[4..4 + text.len()].copy_from_slice(text);
        } else {
            // Of the one buffer, whose index is 0.
            view[4..8].copy_from_slice(&text[..4]);
            view[12..].copy_from_slice(&i32::try_from(self.bytes.len()).ok()?.to_le_bytes());
            self.bytes.extend_from_slice(text);
        }
        self.views.push(view);
        Some(())
    }

    fn blank(&mut self) {
        self.views.push([0; 16]);
    }

    fn len(&self) -> usize {
        self.views.len()
    }

    fn reserve(&mut self, times: usize) {
        self.views.reserve(self.views.len() * times);
        self.bytes.reserve(self.bytes.len() * times);
    }

    fn truncate(&mut self, rows: usize) {
        self.views.truncate(rows);
    }

    fn finish(self: Box<Self>) -> (&'static CStr, Vec<Buffer>) {
        let sizes = vec![self.bytes.len() as i64];
        (c"vu", vec![Buffer::of(self.views), Buffer::of(self.bytes), Buffer::of(sizes)])
    }
}
