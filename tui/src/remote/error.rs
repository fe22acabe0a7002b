//! Why a process cannot be observed, as a sentence that names the remedy.

use crate::layout::PythonVersion;
use thiserror::Error;

/// Why attaching failed.
#[derive(Debug, Error)]
pub enum AttachError {
    /// No process has this id.
    #[error(
        "no process has the id {pid}: it has ended, or lives in another PID namespace (run evtop on the host, or in that container)"
    )]
    NoSuchProcess {
        /// The id asked for.
        pid: i32,
    },
    /// It has ended, but its parent has not asked how.
    #[error("process {pid} has ended and is kept only until its parent asks for its exit code (a zombie)")]
    Zombie {
        /// The process.
        pid: i32,
    },
    /// The kernel refuses to let us read it.
    #[error(
        "not permitted to read process {pid} ({operation}: {reason}): run evtop as the same user or with sudo; if \
         /proc/sys/kernel/yama/ptrace_scope is 1 or more, CAP_SYS_PTRACE is needed (in a container: --cap-add=SYS_PTRACE, \
         and --pid=container:NAME or --pid=host to see the process)"
    )]
    Permission {
        /// The process.
        pid: i32,
        /// What was refused.
        operation: &'static str,
        /// The error text of the system.
        reason: String,
    },
    /// Not a Python interpreter.
    #[error(
        "process {pid} ({command}) is not a CPython process: no mapping of it has the symbol _PyRuntime; give the id of the Python process itself, not of a shell or launcher around it"
    )]
    NotPython {
        /// The process.
        pid: i32,
        /// Its command name.
        command: String,
    },
    /// A 32-bit process.
    #[error("process {pid} is a 32-bit program; evtop reads 64-bit x86-64 processes only")]
    Not64Bit {
        /// The process.
        pid: i32,
    },
    /// Another processor architecture.
    #[error("process {pid} is built for {machine}; evtop reads x86-64 processes only")]
    WrongArchitecture {
        /// The process.
        pid: i32,
        /// Name of the architecture.
        machine: String,
    },
    /// A Python version that is not understood.
    #[error("process {pid} runs CPython {version}; evtop understands 3.10, 3.11, 3.12 and 3.13")]
    UnsupportedVersion {
        /// The process.
        pid: i32,
        /// Its version, as far as it is known.
        version: String,
    },
    /// A build without the GIL.
    #[error(
        "process {pid} runs a free-threaded build of CPython {version}; evtop reads builds with the GIL only"
    )]
    FreeThreaded {
        /// The process.
        pid: i32,
        /// Its version.
        version: PythonVersion,
    },
    /// The interpreter is not where it should be.
    #[error(
        "process {pid} is CPython {version}, but its interpreter cannot be read ({what}): it may be starting or ending; try again"
    )]
    Unreadable {
        /// The process.
        pid: i32,
        /// Its version.
        version: PythonVersion,
        /// What could not be read.
        what: &'static str,
    },
    /// Anything else the system said.
    #[error("cannot {operation} of process {pid}: {source}")]
    System {
        /// The process.
        pid: i32,
        /// What was attempted.
        operation: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
}

impl AttachError {
    /// Sorts a system error into a missing process, a refusal, or the rest.
    pub fn from_io(pid: i32, operation: &'static str, source: std::io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                Self::Permission { pid, operation, reason: source.to_string() }
            }
            Some(libc::ESRCH | libc::ENOENT) => Self::NoSuchProcess { pid },
            _ => Self::System { pid, operation, source },
        }
    }

    /// The documented exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoSuchProcess { .. } | Self::Zombie { .. } => 3,
            Self::Permission { .. } => 4,
            Self::NotPython { .. } => 5,
            Self::Not64Bit { .. } | Self::WrongArchitecture { .. } => 6,
            Self::UnsupportedVersion { .. } | Self::FreeThreaded { .. } => 7,
            Self::Unreadable { .. } | Self::System { .. } => 1,
        }
    }
}
