//! An error that stays in the interpreter.
//!
//! A `PyErr` is several words, and every `Result` of one has them in the frame of whoever calls. In a frame
//! that waits they would be copied at each switch and kept with every idle connection.

use pyo3::prelude::*;

/// Says that an exception is set in the interpreter, for the caller to return to Python or to fetch.
#[derive(Debug)]
#[must_use = "an exception is set: return to Python, or fetch it"]
pub struct Raised;

impl Raised {
    /// Takes the exception out of the interpreter.
    #[cold]
    #[inline(never)]
    pub fn fetch(self, py: Python<'_>) -> PyErr {
        PyErr::fetch(py)
    }
}

/// Leaves the error of a result in the interpreter.
#[inline]
pub fn raise<T>(py: Python<'_>, result: PyResult<T>) -> Result<T, Raised> {
    result.map_err(|error| set(py, error))
}

#[cold]
#[inline(never)]
fn set(py: Python<'_>, error: PyErr) -> Raised {
    error.restore(py);
    Raised
}

/// How a native function fails.
pub trait Failure {
    /// Leaves the error in the interpreter.
    fn raise(self, py: Python<'_>) -> Raised;
}

impl Failure for PyErr {
    #[inline]
    fn raise(self, py: Python<'_>) -> Raised {
        set(py, self)
    }
}

impl Failure for Raised {
    #[inline]
    fn raise(self, _py: Python<'_>) -> Raised {
        self
    }
}
