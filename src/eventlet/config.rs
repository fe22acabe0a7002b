//! Opening the driver that `URINGHUB_DRIVER` asks for, and saying once which one runs.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

use crate::proactor::{Choice, Config, Proactor};

static TOLD: AtomicBool = AtomicBool::new(false);

/// A proactor on the driver of the environment; logs the choice, once in a process.
pub fn open_proactor(py: Python<'_>) -> PyResult<Proactor> {
    let driver = Choice::from_environment().map_err(|error| PyValueError::new_err(error.to_string()))?;
    let proactor = Proactor::new(Config { driver, ..Config::default() })
        .map_err(|error| PyOSError::new_err((error.errno.raw_os_error(), error.to_string())))?;
    if !TOLD.swap(true, Ordering::Relaxed) {
        tell(py, &proactor, driver)?;
    }
    Ok(proactor)
}

fn tell(py: Python<'_>, proactor: &Proactor, asked: Choice) -> PyResult<()> {
    let logger = py.import("logging")?.call_method1("getLogger", ("uringhub",))?;
    let driver = proactor.driver().to_string();
    match proactor.fallback_reason() {
        Some(reason) => logger.call_method1(
            "warning",
            ("driver %s, because io_uring is not available: %s", driver, reason.to_string()),
        ),
        None if asked == Choice::Auto => logger.call_method1("info", ("driver %s", driver)),
        None => logger.call_method1("info", ("driver %s (URINGHUB_DRIVER=%s)", driver, asked.to_string())),
    }
    .map(drop)
}
