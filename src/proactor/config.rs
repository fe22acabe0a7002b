//! Which driver to use and how large its rings and buffers are.

use std::fmt;
use std::str::FromStr;

/// The environment variable that chooses the driver.
const VARIABLE: &str = "URINGHUB_DRIVER";

/// How to build a [`super::Proactor`].
#[derive(Clone, Debug)]
pub struct Config {
    /// Which driver; `URINGHUB_DRIVER` parses into it.
    pub driver: Choice,
    /// Submission queue entries; the completion queue has four times as many.
    pub ring_entries: u32,
    /// Upper bound of pooled receive buffers (a power of two, at most 32,768). Memory is touched lazily.
    pub buffer_count: u16,
    /// Bytes of one pooled receive buffer.
    pub buffer_len: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config { driver: Choice::Auto, ring_entries: 256, buffer_count: 1024, buffer_len: 4096 }
    }
}

/// What the user asked for. Only `Auto` falls back; `Epoll` makes no io_uring syscall at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// io_uring where it can be had, else epoll with a reason.
    #[default]
    Auto,
    /// io_uring or an error.
    Uring,
    /// epoll; some seccomp profiles kill a process that merely tries io_uring.
    Epoll,
}

impl Choice {
    /// What the environment variable `URINGHUB_DRIVER` says; `Auto` if it is not set.
    ///
    /// # Errors
    /// It is none of the valid values.
    pub fn from_environment() -> Result<Self, UnknownDriver> {
        std::env::var_os(VARIABLE).unwrap_or_default().to_string_lossy().parse()
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Choice::Auto => "auto",
            Choice::Uring => "uring",
            Choice::Epoll => "epoll",
        })
    }
}

/// The driver that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverKind {
    /// Linux io_uring.
    Uring,
    /// Linux epoll.
    Epoll,
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DriverKind::Uring => "io_uring",
            DriverKind::Epoll => "epoll",
        })
    }
}

/// A driver name that is none of the valid values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownDriver(pub String);

impl fmt::Display for UnknownDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "URINGHUB_DRIVER={:?} is unknown; valid values: auto, uring, epoll", self.0)
    }
}

impl std::error::Error for UnknownDriver {}

impl FromStr for Choice {
    type Err = UnknownDriver;

    fn from_str(name: &str) -> Result<Self, UnknownDriver> {
        match name {
            "auto" | "" => Ok(Choice::Auto),
            "uring" => Ok(Choice::Uring),
            "epoll" => Ok(Choice::Epoll),
            _ => Err(UnknownDriver(name.to_owned())),
        }
    }
}
