//! Files of our own that a forked child may have lost.
//!
//! A daemon closes every number it inherited, and what it opens next gets the numbers that were ours: a log file, a
//! connection, or an epoll set and an eventfd of its own. A driver that closes "its" file then, or puts a new one
//! in its place, takes that away. So a child closes only what it can prove to be the file it inherited. A ring has an
//! inode of its own; epoll sets and eventfds all share one, and whatever else `/proc` tells of them (kind, count,
//! `eventfd-id`) may be the same for another. Those the child leaves open: two numbers at most for each fork, closed by
//! exec, of files that nobody uses there.

use std::os::fd::RawFd;

use super::error::Errno;
use super::sys;

/// Tells a file from any other that its number may mean later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn read(fd: RawFd) -> Result<Self, Errno> {
        let stat = rustix::fs::fstat(sys::borrow(fd)?)?;
        Ok(Identity { device: stat.st_dev, inode: stat.st_ino })
    }

    /// None if it has the same inode as `other`, an anonymous file of another kind: then it tells nothing.
    pub(super) fn of(fd: RawFd, other: RawFd) -> Option<Self> {
        let identity = Identity::read(fd).ok()?;
        (Identity::read(other) != Ok(identity)).then_some(identity)
    }

    /// Whether the number still means the file.
    pub(super) fn is_at(self, fd: RawFd) -> bool {
        Identity::read(fd) == Ok(self)
    }
}
