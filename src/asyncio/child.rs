//! The end of a child process: its pidfd becomes readable.
//!
//! Source: `pidfd_open(2)`, Linux 5.3.

use std::os::fd::RawFd;

use pyo3::exceptions::PyProcessLookupError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, PidfdFlags, WaitOptions, WaitStatus, pidfd_open, waitpid};

use super::bytes;
use super::core::LoopCore;
use super::engine::Side;

impl LoopCore {
    /// Calls back in a later turn once the child has ended; returns the pidfd, which `reap` takes.
    pub fn watch_child<'py>(
        slf: &Bound<'py, Self>,
        pid: i32,
        callback: Bound<'py, PyAny>,
    ) -> PyResult<RawFd> {
        let child =
            Pid::from_raw(pid).ok_or_else(|| PyProcessLookupError::new_err("no process has this id"))?;
        let pidfd = pidfd_open(child, PidfdFlags::empty()).map_err(failed)?;
        let handle = Self::make(slf, "watch_child", callback, PyTuple::empty(slf.py()), None)?;
        Ok(slf.get().engine()?.borrow_mut().watch_own(pidfd, handle.unbind()))
    }

    /// Within the callback: closes the pidfd and takes the child's return code as `subprocess` has it; None if it is not
    /// ours to know any more.
    pub fn reap(slf: &Bound<'_, Self>, pidfd: RawFd, pid: i32) -> PyResult<Option<i32>> {
        let watched = slf.get().engine()?.borrow_mut().unwatch(pidfd, Side::Read, false);
        drop(watched);
        let ended = slf.py().detach(|| retry_on_intr(|| waitpid(Pid::from_raw(pid), WaitOptions::empty())));
        match ended {
            Ok(status) => Ok(status.map(|(_pid, status)| returncode(status))),
            Err(Errno::CHILD) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
}

fn returncode(status: WaitStatus) -> i32 {
    match status.terminating_signal() {
        Some(signal) => -signal,
        None => status.exit_status().unwrap_or(0),
    }
}

fn failed(error: Errno) -> PyErr {
    bytes::os_error(error.raw_os_error())
}
