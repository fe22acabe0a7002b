//! Objects that refer to the loop and that it keeps, so as not to make them anew each time.

use std::sync::{Mutex, PoisonError};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

/// One such object; it and the loop keep each other alive until the loop is closed or collected.
pub struct Kept<T>(Mutex<Option<Py<T>>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Kept<T> {
    /// The object; `make` makes it the first time.
    #[inline]
    pub fn get<'py>(
        &self,
        py: Python<'py>,
        make: impl FnOnce() -> PyResult<Bound<'py, T>>,
    ) -> PyResult<Bound<'py, T>> {
        if let Some(kept) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(kept.bind(py).clone());
        }
        // Not while it is locked: making an object can run the collector, and that any code.
        let made = make()?;
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(made.clone().unbind());
        drop(before);
        Ok(made)
    }

    /// Gives the object up.
    pub fn take(&self) -> Option<Py<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Shows it to the garbage collector.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.0.try_lock() {
            Ok(kept) => visit.call(&*kept),
            Err(_) => Ok(()),
        }
    }
}
