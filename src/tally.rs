//! A count that threads, signal handlers and finalisers may all change, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;

/// What the primitives of `uringhub.sync` count with.
#[pyclass(frozen, module = "uringhub._native")]
#[derive(Debug)]
pub struct Tally(AtomicU64);

// Relaxed: every caller holds the GIL, which orders these accesses against those to the queues of waiters.
#[pymethods]
impl Tally {
    #[new]
    fn new(value: u64) -> Self {
        Self(AtomicU64::new(value))
    }

    /// One more.
    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One less; False, and nothing done, if there is none.
    fn take(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |value| value.checked_sub(1)).is_ok()
    }

    /// How many.
    #[getter]
    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn __bool__(&self) -> bool {
        self.value() > 0
    }
}
