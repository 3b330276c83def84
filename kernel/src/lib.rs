//! Lines of JSON straight into Arrow columns. What is not plainly fine is refused, and left to a general decoder.

mod arrow;
mod columns;
mod cursor;
mod decode;
mod marks;

use std::sync::Arc;

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use arrow::{Array, ArrowArray, ArrowSchema};
use columns::KINDS;
use decode::{FIELDS_MAX, Field};

#[pyclass(frozen, module = "streamflow_kernel")]
struct Decoder(Vec<Field>);

#[pymethods]
impl Decoder {
    #[new]
    fn new(fields: Vec<(String, String, bool, bool)>) -> PyResult<Self> {
        if fields.len() > FIELDS_MAX {
            return Err(PyValueError::new_err(format!("{} fields, at most {FIELDS_MAX} are decoded", fields.len())));
        }
        let fields = fields.into_iter().map(|(name, kind, required, nullable)| {
            let known = KINDS.iter().find(|(name, _)| *name == kind);
            let (_, make) = known.ok_or_else(|| PyValueError::new_err(format!("field '{name}': no kind '{kind}'")))?;
            Ok(Field { name, make: *make, required, nullable })
        });
        Ok(Self(fields.collect::<PyResult<_>>()?))
    }

    fn decode(&self, py: Python, records: Vec<(PyBuffer<u8>, usize)>) -> PyResult<(Vec<Column>, Vec<bool>)> {
        let lines: Vec<(&[u8], usize)> =
            records.iter().map(|(lines, count)| Ok((bytes_of(lines)?, *count))).collect::<PyResult<_>>()?;
        let (arrays, taken) = py.detach(|| decode::decode(&self.0, &lines));
        Ok((arrays.into_iter().map(|array| Column(Arc::new(array))).collect(), taken))
    }
}

/// The bytes of a buffer, as long as it is held.
fn bytes_of(buffer: &PyBuffer<u8>) -> PyResult<&[u8]> {
    match buffer.as_slice_ptr() {
        // SAFETY: the buffer is held by its owner, and nobody writes what may only be read.
        Some(bytes) if buffer.readonly() => Ok(unsafe { bytes.as_ref() }),
        _ => Err(PyBufferError::new_err("lines must be contiguous bytes that can't be written to")),
    }
}

#[pyclass(frozen, module = "streamflow_kernel")]
struct Column(Arc<Array>);

#[pymethods]
impl Column {
    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
        // The interface leaves it to the exporter whether it heeds the wish.
        let _ = requested_schema;
        Ok((
            PyCapsule::new_with_value(py, self.0.schema(), ArrowSchema::CAPSULE)?,
            PyCapsule::new_with_value(py, Arc::clone(&self.0).export(), ArrowArray::CAPSULE)?,
        ))
    }
}

#[pymodule]
mod streamflow_kernel {
    use super::{Bound, FIELDS_MAX, KINDS, PyModule, PyModuleMethods, PyResult};
    #[pymodule_export]
    use super::{Column, Decoder};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("KINDS", KINDS.map(|(kind, _)| kind))?;
        module.add("FIELDS_MAX", FIELDS_MAX)
    }
}
