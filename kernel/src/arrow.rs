//! Finished columns as Arrow's C data interface hands them on: <https://arrow.apache.org/docs/format/CDataInterface.html>.

use std::any::Any;
use std::ffi::{CStr, c_char, c_void};
use std::ptr::{null, null_mut};
use std::sync::{Arc, Mutex, PoisonError};

/// Memory that does not change any more, of any type.
pub struct Buffer {
    pointer: *const c_void,
    bytes: usize,
    owner: Option<Owner>,
}

type Owner = Box<dyn Any + Send + Sync>;

impl Buffer {
    pub fn of<T: Send + Sync + 'static>(values: Vec<T>) -> Self {
        let bytes = values.capacity() * size_of::<T>();
        Self { pointer: values.as_ptr().cast(), bytes, owner: Some(Box::new(values)) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut spares = SPARES.lock().unwrap_or_else(PoisonError::into_inner);
        let held: usize = spares.iter().map(|(_, bytes)| bytes).sum();
        if self.bytes >= SPARE_BYTES_MIN && held + self.bytes <= SPARES_BYTES_MAX {
            spares.extend(self.owner.take().map(|owner| (owner, self.bytes)));
        }
    }
}

/// Vectors of columns that nobody has any more, and their bytes, for the next columns: to get fresh pages from the
/// system takes longer than to fill them.
static SPARES: Mutex<Vec<(Owner, usize)>> = Mutex::new(Vec::new());
/// Smaller ones come from memory that the process has.
const SPARE_BYTES_MIN: usize = 1 << 16;
/// What a process keeps that has nothing to decode.
const SPARES_BYTES_MAX: usize = 1 << 24;

/// An empty vector with room for so many values.
pub fn vector<T: Send + Sync + 'static>(capacity: usize) -> Vec<T> {
    let mut spares = SPARES.lock().unwrap_or_else(PoisonError::into_inner);
    let place = spares.iter().position(|(owner, _)| owner.is::<Vec<T>>());
    let spare = place.and_then(|place| spares.swap_remove(place).0.downcast().ok());
    drop(spares);
    let mut vector = spare.map_or_else(Vec::new, |vector| *vector);
    vector.clear();
    vector.reserve(capacity);
    vector
}

/// A column. It may be exported any number of times; the memory is freed with the last export.
pub struct Array {
    format: &'static CStr,
    length: usize,
    null_count: usize,
    pointers: Vec<*const c_void>,
    _buffers: Vec<Buffer>,
}

// SAFETY: the pointers are into `_buffers`, which are Send and Sync and which nobody changes.
unsafe impl Send for Array {}
// SAFETY: as above.
unsafe impl Sync for Array {}

impl Array {
    pub fn new(
        format: &'static CStr,
        length: usize,
        null_count: usize,
        validity: Option<Buffer>,
        values: Vec<Buffer>,
    ) -> Self {
        let first = validity.as_ref().map_or(null(), |buffer| buffer.pointer);
        let pointers = std::iter::once(first).chain(values.iter().map(|buffer| buffer.pointer)).collect();
        Self { format, length, null_count, pointers, _buffers: validity.into_iter().chain(values).collect() }
    }

    pub fn schema(&self) -> ArrowSchema {
        ArrowSchema {
            format: self.format.as_ptr(),
            name: c"".as_ptr(),
            metadata: null(),
            flags: ArrowSchema::NULLABLE,
            n_children: 0,
            children: null_mut(),
            dictionary: null_mut(),
            release: Some(release_schema),
            private_data: null_mut(),
        }
    }

    pub fn export(self: Arc<Self>) -> ArrowArray {
        ArrowArray {
            length: self.length as i64,
            null_count: self.null_count as i64,
            offset: 0,
            n_buffers: self.pointers.len() as i64,
            n_children: 0,
            buffers: self.pointers.as_ptr(),
            children: null_mut(),
            dictionary: null_mut(),
            release: Some(release_array),
            private_data: Arc::into_raw(self).cast_mut().cast(),
        }
    }
}

#[repr(C)]
pub struct ArrowSchema {
    format: *const c_char,
    name: *const c_char,
    metadata: *const c_char,
    flags: i64,
    n_children: i64,
    children: *mut *mut ArrowSchema,
    dictionary: *mut ArrowSchema,
    release: Option<unsafe extern "C" fn(*mut ArrowSchema)>,
    private_data: *mut c_void,
}

impl ArrowSchema {
    pub const CAPSULE: &'static CStr = c"arrow_schema";
    const NULLABLE: i64 = 2;
}

// SAFETY: it points to static texts only.
unsafe impl Send for ArrowSchema {}

unsafe extern "C" fn release_schema(schema: *mut ArrowSchema) {
    // SAFETY: whoever releases a schema owns it.
    unsafe { (*schema).release = None };
}

#[repr(C)]
pub struct ArrowArray {
    length: i64,
    null_count: i64,
    offset: i64,
    n_buffers: i64,
    n_children: i64,
    buffers: *const *const c_void,
    children: *mut *mut ArrowArray,
    dictionary: *mut ArrowArray,
    release: Option<unsafe extern "C" fn(*mut ArrowArray)>,
    private_data: *mut c_void,
}

impl ArrowArray {
    pub const CAPSULE: &'static CStr = c"arrow_array";
}

// SAFETY: it owns a share of an `Array`, which is Send and Sync.
unsafe impl Send for ArrowArray {}

impl Drop for ArrowArray {
    /// Of a capsule that nobody has taken the array from: who takes it sets `release` to null.
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: not released yet, or `release` were None.
            unsafe { release(self) };
        }
    }
}

unsafe extern "C" fn release_array(array: *mut ArrowArray) {
    // SAFETY: whoever releases an array owns it, and does so once; `private_data` is what `export` put there.
    unsafe {
        (*array).release = None;
        drop(Arc::from_raw((*array).private_data.cast_const().cast::<Array>()));
    }
}
