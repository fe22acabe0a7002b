//! Opening the driver that `URINGHUB_DRIVER` asks for.

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

use crate::proactor::{Choice, Config, Proactor};

/// A proactor on the driver of the environment.
pub fn open_proactor(py: Python<'_>) -> PyResult<Proactor> {
    let driver = Choice::from_environment().map_err(|error| PyValueError::new_err(error.to_string()))?;
    let proactor = Proactor::new(Config { driver, ..Config::default() })
        .map_err(|error| PyOSError::new_err((error.errno.raw_os_error(), error.to_string())))?;
    if let Some(reason) = proactor.fallback_reason() {
        let logger = py.import("logging")?.call_method1("getLogger", ("uringhub",))?;
        let message = "the loop runs on epoll, because io_uring is not available: %s";
        logger.call_method1("warning", (message, reason.to_string()))?;
    }
    Ok(proactor)
}
