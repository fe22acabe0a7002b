//! Errors of setting a driver up: errno, operation, likely cause and the next command.

use std::fmt;

pub use rustix::io::Errno;

/// Why a driver could not be had.
///
/// Only an *unavailable* interface lets `auto` fall back to epoll; a resource that ran out is shown,
/// because epoll would soon run out of it too, and silently losing io_uring hides a mended-in-a-minute
/// limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetupError {
    /// The operation that failed, e.g. `io_uring_setup`.
    pub operation: &'static str,
    /// What the kernel answered.
    pub errno: Errno,
    /// The likely cause, one sentence without a full stop.
    pub cause: &'static str,
    /// What to do about it: a command or a setting.
    pub remedy: &'static str,
}

impl SetupError {
    /// Names the likely cause and remedy of `errno` from `operation`.
    pub(crate) fn new(operation: &'static str, errno: Errno) -> Self {
        let (cause, remedy) = explain(errno);
        SetupError { operation, errno, cause, remedy }
    }

    /// An interface the running kernel lacks although the call itself is known.
    pub(crate) fn missing(operation: &'static str) -> Self {
        SetupError::new(operation, Errno::INVAL)
    }

    /// True if the interface is absent or forbidden here, so that `auto` may use epoll instead.
    pub fn is_unavailable(&self) -> bool {
        matches!(self.errno, Errno::NOSYS | Errno::PERM | Errno::ACCESS | Errno::INVAL | Errno::OPNOTSUPP)
    }
}

fn explain(errno: Errno) -> (&'static str, &'static str) {
    match errno {
        Errno::NOSYS => (
            "the kernel has no io_uring, or a seccomp filter hides it",
            "use Linux 6.1 or newer and allow io_uring_setup, io_uring_enter and io_uring_register in the \
             container's seccomp profile, or set URINGHUB_DRIVER=epoll",
        ),
        Errno::PERM | Errno::ACCESS => (
            "io_uring is forbidden by sysctl kernel.io_uring_disabled, by a seccomp filter or by an LSM",
            "check `sysctl kernel.io_uring_disabled kernel.io_uring_group` and the container's seccomp \
             profile, or set URINGHUB_DRIVER=epoll",
        ),
        Errno::INVAL | Errno::OPNOTSUPP => (
            "the kernel is older than Linux 6.1 and lacks a needed io_uring feature",
            "use Linux 6.1 or newer, or set URINGHUB_DRIVER=epoll",
        ),
        Errno::MFILE => (
            "this process has used up its open files",
            "raise the limit: `ulimit -n` or LimitNOFILE= in the unit",
        ),
        Errno::NFILE => ("the system has used up its open files", "raise it: `sysctl -w fs.file-max=...`"),
        Errno::NOMEM => (
            "the memlock limit (or memory) does not suffice for the rings",
            "raise the limit: `ulimit -l` or LimitMEMLOCK= in the unit; limits freed by a process that \
             just ended may take a moment",
        ),
        _ => ("unexpected answer of the kernel", "run `python -m uringhub`, or set URINGHUB_DRIVER=epoll"),
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} (errno {}): {}; {}",
            self.operation,
            std::io::Error::from(self.errno),
            self.errno.raw_os_error(),
            self.cause,
            self.remedy
        )
    }
}

impl std::error::Error for SetupError {}

impl From<SetupError> for std::io::Error {
    fn from(error: SetupError) -> Self {
        std::io::Error::new(std::io::Error::from(error.errno).kind(), error)
    }
}
