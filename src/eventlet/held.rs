//! Python's bytes, lent to the kernel.
#![allow(unsafe_code)]

use std::cell::RefCell;

use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::export::Export;
use crate::proactor::StableBytes;

enum Source {
    /// Immutable, so a reference suffices.
    #[expect(dead_code, reason = "held for its lifetime, read through the address")]
    Bytes(Py<PyBytes>),
    /// An export of the buffer protocol: as long as it is held, a bytearray cannot be resized.
    #[expect(dead_code, reason = "held for its lifetime, read through the address")]
    Export(Export),
}

thread_local! {
    /// Sources whose operation has ended. An operation ends inside the driver, where no Python code may
    /// run; the last reference to an exporter can run any.
    static ENDED: RefCell<Vec<Source>> = const { RefCell::new(Vec::new()) };
}

/// Drops the sources of operations that have ended; called where any Python code may run.
pub fn bury() {
    let ended = ENDED.try_with(|ended| {
        if ended.borrow().is_empty() { Vec::new() } else { std::mem::take(&mut *ended.borrow_mut()) }
    });
    drop(ended);
}

/// The bytes of an object with the buffer protocol, at an address that is stable until it is dropped.
pub struct Held {
    source: Option<Source>,
    address: *const u8,
    len: usize,
}

// SAFETY: the address belongs to `source`, which is held until drop and may move between threads.
unsafe impl Send for Held {}

// SAFETY: bytes objects never move nor change; an export pins the address and length of its object until it
// is released. Python code of other green threads may write into a bytearray meanwhile: the kernel then
// sends what it finds, as send(2) does with the GIL released.
unsafe impl StableBytes for Held {
    fn bytes(&self) -> &[u8] {
        // SAFETY: see above; `source` is only taken in drop.
        unsafe { std::slice::from_raw_parts(self.address, self.len) }
    }
}

impl Held {
    /// Holds the bytes of `object`: bytes, bytearray, memoryview, array, mmap.
    pub fn new(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(bytes) = object.cast::<PyBytes>() {
            let slice = bytes.as_bytes();
            let (address, len) = (slice.as_ptr(), slice.len());
            return Ok(Self { source: Some(Source::Bytes(bytes.clone().unbind())), address, len });
        }
        let export = Export::get(object).map_err(|error| {
            if error.is_instance_of::<PyBufferError>(object.py()) {
                error
            } else {
                let class = object.get_type().name().map_or_else(|_| "object".to_owned(), |n| n.to_string());
                PyTypeError::new_err(format!("a bytes-like object is required, not '{class}'"))
            }
        })?;
        let (address, len) = if export.len_bytes() == 0 {
            (std::ptr::NonNull::<u8>::dangling().as_ptr().cast_const(), 0)
        } else {
            (export.start(), export.len_bytes())
        };
        Ok(Self { source: Some(Source::Export(export)), address, len })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(source) = self.source.take() {
            // At thread exit the list may be gone; then nobody's operation is running either.
            let mut source = Some(source);
            let _ = ENDED.try_with(|ended| {
                if let Some(source) = source.take() {
                    ended.borrow_mut().push(source);
                }
            });
        }
    }
}
