//! Files of our own that a forked child may have lost.
//!
//! A daemon closes every number it inherited, and what it opens next gets the numbers that were ours. A driver
//! that closes "its" file then, or puts a new one in its place, takes a log file or a connection away.

use std::os::fd::RawFd;

/// What the kernel calls the files that drivers make.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Epoll,
    Event,
    Ring,
}

impl Kind {
    fn link(self) -> &'static str {
        match self {
            Kind::Epoll => "anon_inode:[eventpoll]",
            Kind::Event => "anon_inode:[eventfd]",
            Kind::Ring => "anon_inode:[io_uring]",
        }
    }
}

/// Whether the number may be closed or replaced: it names such a file, or none. Where `/proc` is not there to
/// ask, yes.
pub(super) fn is_ours(fd: RawFd, kind: Kind) -> bool {
    std::fs::read_link(format!("/proc/self/fd/{fd}")).map_or(true, |target| target.as_os_str() == kind.link())
}
