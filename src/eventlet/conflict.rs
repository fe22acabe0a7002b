//! eventlet's protection against two green threads on one side of one descriptor.

use std::os::fd::RawFd;

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;

use super::state::Side;

/// Whether a second one is refused: unless `eventlet.debug.hub_prevent_multiple_readers(False)` was called.
pub fn is_refused(py: Python<'_>) -> PyResult<bool> {
    let hub = py.import(intern!(py, "eventlet.hubs.hub"))?;
    hub.getattr(intern!(py, "g_prevent_multiple_readers"))?.is_truthy()
}

/// The error of the second one.
pub fn error(side: Side, fd: RawFd, me: &Bound<'_, PyAny>, other: &Bound<'_, PyAny>) -> PyErr {
    let side = side.name();
    PyRuntimeError::new_err(format!(
        "Second simultaneous {side} on fileno {fd} detected.  Unless you really know what you're doing, \
         make sure that only one greenthread can {side} any particular socket.  Consider using a \
         pools.Pool. If you do know what you're doing and want to disable this error, call \
         eventlet.debug.hub_prevent_multiple_readers(False) - MY THREAD={me}; THAT THREAD={other}"
    ))
}
