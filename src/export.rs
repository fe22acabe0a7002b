//! An export of the buffer protocol as plain bytes, which is all that a send or a receive asks for.
//!
//! pyo3's own buffers ask for shape and strides too, which not every exporter has: ctypes' objects have none.
#![allow(unsafe_code)]

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;

/// The memory of a contiguous object, which stays where it is until this is dropped.
pub struct Export(Box<ffi::Py_buffer>);

// SAFETY: the view is read where the GIL is held, and released with it held.
unsafe impl Send for Export {}
// SAFETY: as above; it is never changed between `get` and drop.
unsafe impl Sync for Export {}

impl Export {
    /// Asks the object for its bytes.
    ///
    /// # Errors
    /// TypeError: it has none. BufferError: they are not contiguous.
    pub fn get(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: attached; the view is on the heap, because an exporter may keep its address, and is released once.
        let status = unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut *view, ffi::PyBUF_SIMPLE) };
        if status == 0 { Ok(Self(view)) } else { Err(PyErr::fetch(object.py())) }
    }

    /// Whether the bytes must not be changed.
    pub fn readonly(&self) -> bool {
        self.0.readonly != 0
    }

    /// How many there are.
    pub fn len_bytes(&self) -> usize {
        usize::try_from(self.0.len).unwrap_or(0)
    }

    /// Where they are.
    pub fn start(&self) -> *const u8 {
        self.0.buf.cast::<u8>().cast_const()
    }

    /// Hands out the bytes while the GIL is held and `use_bytes` runs, which runs no Python code.
    pub fn read<T>(&self, _py: Python<'_>, use_bytes: impl FnOnce(&[u8]) -> T) -> T {
        if self.len_bytes() == 0 {
            return use_bytes(&[]);
        }
        // SAFETY: the exporter owns this many bytes at this address and keeps them there until the view is released, in
        // our drop; the GIL is held and no Python code runs, so nobody writes them until `use_bytes` returns.
        use_bytes(unsafe { std::slice::from_raw_parts(self.start(), self.len_bytes()) })
    }

    /// Hands out the first `limit` bytes to be written while the GIL is held and `fill` runs, which runs no Python code.
    ///
    /// # Errors
    /// TypeError: the bytes must not be changed.
    pub fn fill<T>(&self, _py: Python<'_>, limit: usize, fill: impl FnOnce(&mut [u8]) -> T) -> PyResult<T> {
        if self.readonly() {
            return Err(PyTypeError::new_err("read-write bytes-like object expected"));
        }
        let count = limit.min(self.len_bytes());
        if count == 0 {
            return Ok(fill(&mut []));
        }
        // SAFETY: as in `read`, and the exporter said that the bytes may be written; nobody reads them until `fill` returns.
        Ok(fill(unsafe { std::slice::from_raw_parts_mut(self.0.buf.cast::<u8>(), count) }))
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        // At the end of the process there may be no interpreter to give it back to.
        let _ = Python::try_attach(|_| {
            // SAFETY: attached; the view was filled by PyObject_GetBuffer and is released nowhere else.
            unsafe { ffi::PyBuffer_Release(&raw mut *self.0) }
        });
    }
}
