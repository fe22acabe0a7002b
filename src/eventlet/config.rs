//! Opening the driver that `URINGHUB_DRIVER` asks for, and saying once which one runs.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

use crate::proactor::{Choice, Config, DriverKind, Proactor};

/// The environment variable that chooses the driver.
pub const DRIVER_VARIABLE: &str = "URINGHUB_DRIVER";

static TOLD: AtomicBool = AtomicBool::new(false);

/// The driver's name in messages.
pub fn driver_name(driver: DriverKind) -> &'static str {
    match driver {
        DriverKind::Uring => "io_uring",
        DriverKind::Epoll => "epoll",
    }
}

/// A proactor on the driver of the environment; logs the choice, once in a process.
pub fn open_proactor(py: Python<'_>) -> PyResult<Proactor> {
    let name = std::env::var(DRIVER_VARIABLE).unwrap_or_default();
    let driver: Choice = name.parse().map_err(|error| PyValueError::new_err(format!("{error}")))?;
    let proactor = Proactor::new(Config { driver, ..Config::default() })
        .map_err(|error| PyOSError::new_err((error.errno.raw_os_error(), error.to_string())))?;
    if !TOLD.swap(true, Ordering::Relaxed) {
        tell(py, &proactor, &name)?;
    }
    Ok(proactor)
}

fn tell(py: Python<'_>, proactor: &Proactor, asked: &str) -> PyResult<()> {
    let logger = py.import("logging")?.call_method1("getLogger", ("uringhub",))?;
    let driver = driver_name(proactor.driver());
    match proactor.fallback_reason() {
        Some(reason) => logger.call_method1(
            "warning",
            ("driver %s, because io_uring is not available: %s", driver, reason.to_string()),
        ),
        None if asked.is_empty() => logger.call_method1("info", ("driver %s", driver)),
        None => logger.call_method1("info", ("driver %s (%s=%s)", driver, DRIVER_VARIABLE, asked)),
    }
    .map(drop)
}
