//! The buffer that `recv_into` fills.

use pyo3::prelude::*;

use crate::export::Export;

/// Where `recv_into` puts what it receives. It is free to change while nothing has come.
pub struct Target {
    buffer: Py<PyAny>,
    /// How much of it to fill.
    pub limit: usize,
}

impl Target {
    /// None for what eventlet's own code must refuse.
    pub fn new(buffer: &Bound<'_, PyAny>, nbytes: isize) -> Option<Self> {
        let export = Export::get(buffer).ok()?;
        let room = export.len_bytes();
        let limit = if nbytes == 0 { room } else { usize::try_from(nbytes).ok()? };
        let fits = !export.readonly() && limit > 0 && limit <= room;
        fits.then(|| Self { buffer: buffer.clone().unbind(), limit })
    }

    /// Copies bytes to its beginning; returns how many had room.
    pub fn fill(&self, py: Python<'_>, bytes: &[u8]) -> PyResult<usize> {
        self.write(py, |room| {
            let count = room.len().min(bytes.len());
            room[..count].copy_from_slice(&bytes[..count]);
            count
        })
    }

    /// Has `write` fill it, from its beginning; returns what `write` does.
    pub fn write<T>(&self, py: Python<'_>, write: impl FnOnce(&mut [u8]) -> T) -> PyResult<T> {
        Export::get(self.buffer.bind(py))?.fill(py, self.limit, write)
    }
}
