//! The buffer that `recv_into` fills.

use crate::export::Export;
use pyo3::prelude::*;

/// Where `recv_into` puts what it receives.
pub struct Target {
    buffer: Export,
    /// How much of it to fill.
    pub limit: usize,
}

impl Target {
    /// None for what eventlet's own code must refuse.
    pub fn new(buffer: &Bound<'_, PyAny>, nbytes: isize) -> Option<Self> {
        let buffer = Export::get(buffer).ok()?;
        let room = buffer.len_bytes();
        let limit = if nbytes == 0 { room } else { usize::try_from(nbytes).ok()? };
        let fits = !buffer.readonly() && limit > 0 && limit <= room;
        fits.then_some(Self { buffer, limit })
    }

    /// Copies bytes to its beginning; returns how many.
    pub fn fill(&self, py: Python<'_>, bytes: &[u8]) -> PyResult<usize> {
        self.write(py, |room| {
            let count = room.len().min(bytes.len());
            room[..count].copy_from_slice(&bytes[..count]);
            count
        })
    }

    /// Has `write` fill it, from its beginning; returns what `write` does.
    pub fn write<T>(&self, py: Python<'_>, write: impl FnOnce(&mut [u8]) -> T) -> PyResult<T> {
        self.buffer.fill(py, self.limit, write)
    }
}
