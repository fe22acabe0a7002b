//! `eventlet.semaphore.Semaphore` where nobody has to wait; the rest is eventlet's own code.

use std::ffi::CStr;

use crate::fastcall::{self, Arguments, Function, attribute};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyType};

struct Eventlets {
    acquire: Py<PyAny>,
    release: Py<PyAny>,
}

static EVENTLETS: PyOnceLock<Eventlets> = PyOnceLock::new();

/// Replaces the methods of eventlet's Semaphore.
#[pyfunction]
pub fn bind_semaphore(semaphore: &Bound<'_, PyType>) -> PyResult<()> {
    let eventlets = Eventlets {
        acquire: semaphore.getattr("acquire")?.unbind(),
        release: semaphore.getattr("release")?.unbind(),
    };
    let _ = EVENTLETS.set(semaphore.py(), eventlets);
    fastcall::bind::<Acquire>(semaphore)?;
    fastcall::bind::<Release>(semaphore)?;
    fastcall::bind::<Locked>(semaphore)
}

fn eventlets(py: Python<'_>) -> &Eventlets {
    EVENTLETS.get(py).expect("the methods were bound after this was set")
}

fn counter(semaphore: &Bound<'_, PyAny>) -> PyResult<i64> {
    attribute(semaphore, intern!(semaphore.py(), "counter"))?.extract()
}

fn set_counter(semaphore: &Bound<'_, PyAny>, counter: i64) -> PyResult<()> {
    semaphore.setattr(intern!(semaphore.py(), "counter"), counter)
}

fn has_waiters(semaphore: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(attribute(semaphore, intern!(semaphore.py(), "_waiters"))?.len()? > 0)
}

fn yes(py: Python<'_>) -> Bound<'_, PyAny> {
    PyBool::new(py, true).to_owned().into_any()
}

struct Acquire;

impl Function for Acquire {
    const NAME: &'static CStr = c"acquire";
    type Error = PyErr;

    fn call<'py>(
        semaphore: &Bound<'py, PyAny>,
        arguments: Arguments<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = semaphore.py();
        arguments.check(&["blocking", "timeout"])?;
        let blocking = arguments.named(0, "blocking")?;
        let timeout = arguments.named(1, "timeout")?;
        if blocking.is_none() && timeout.is_none() && !has_waiters(semaphore)? {
            let counter = counter(semaphore)?;
            if counter > 0 {
                set_counter(semaphore, counter - 1)?;
                return Ok(yes(py));
            }
        }
        let blocking = blocking.unwrap_or_else(|| yes(py));
        eventlets(py).acquire.bind(py).call1((semaphore, blocking, timeout))
    }
}

struct Release;

impl Function for Release {
    const NAME: &'static CStr = c"release";
    type Error = PyErr;

    fn call<'py>(
        semaphore: &Bound<'py, PyAny>,
        arguments: Arguments<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = semaphore.py();
        arguments.check(&["blocking"])?;
        if has_waiters(semaphore)? {
            return eventlets(py).release.bind(py).call1((semaphore,));
        }
        set_counter(semaphore, counter(semaphore)? + 1)?;
        Ok(yes(py))
    }
}

struct Locked;

impl Function for Locked {
    const NAME: &'static CStr = c"locked";
    type Error = PyErr;

    fn call<'py>(
        semaphore: &Bound<'py, PyAny>,
        arguments: Arguments<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        arguments.check(&[])?;
        Ok(PyBool::new(semaphore.py(), counter(semaphore)? <= 0).to_owned().into_any())
    }
}
