//! What `python -m uringhub` asks the core.

use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict, PyList};

use crate::proactor::{self, Choice, SetupError};

/// Tries what the drivers need, as `choice` (auto, uring, epoll) allows, and tells what came of it.
///
/// The keys are those of `ProbeReport`; `chosen` is "io_uring", "epoll" or None, an errno is a number.
///
/// # Errors
/// `ValueError` if `choice` is none of the valid values.
#[pyfunction]
pub fn probe<'py>(py: Python<'py>, choice: &str) -> PyResult<Bound<'py, PyDict>> {
    let choice: Choice = choice.parse().map_err(|error| PyValueError::new_err(format!("{error}")))?;
    let report = proactor::probe(choice);
    let answer = PyDict::new(py);
    answer.set_item("kernel_release", report.kernel_release)?;
    answer.set_item("chosen", report.chosen.ok().map(|driver| driver.to_string()))?;
    answer.set_item("unavailable", report.unavailable.map(|error| setup_error(py, &error)).transpose()?)?;
    answer.set_item("io_uring_disabled", report.io_uring_disabled)?;
    answer.set_item("io_uring_group", report.io_uring_group)?;
    answer.set_item("memlock_limit_bytes", report.memlock_limit)?;
    answer.set_item("open_files_limit", report.nofile_limit)?;
    answer.set_item("seccomp_mode", report.seccomp_mode)?;
    let checks = report.checks.into_iter().map(|check| {
        let errno = check.result.err().map(|errno| errno.raw_os_error());
        [("name", check.name.into_py_any(py)?), ("errno", errno.into_py_any(py)?)].into_py_dict(py)
    });
    answer.set_item("checks", PyList::new(py, checks.collect::<PyResult<Vec<_>>>()?)?)?;
    let findings = report
        .findings
        .into_iter()
        .map(|found| [("finding", found.finding), ("remedy", found.remedy)].into_py_dict(py));
    answer.set_item("findings", PyList::new(py, findings.collect::<PyResult<Vec<_>>>()?)?)?;
    Ok(answer)
}

fn setup_error<'py>(py: Python<'py>, error: &SetupError) -> PyResult<Bound<'py, PyDict>> {
    let answer = PyDict::new(py);
    answer.set_item("operation", error.operation)?;
    answer.set_item("errno", error.errno.raw_os_error())?;
    answer.set_item("cause", error.cause)?;
    answer.set_item("remedy", error.remedy)?;
    Ok(answer)
}
