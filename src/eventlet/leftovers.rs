//! Bytes that a receive had taken from the kernel when its green thread was killed, for the next receive.
//!
//! They are filed by number, and belong to a file: a number that names another file by now has none, and neither has a
//! forked child, whose parent has them.

use std::collections::{HashMap, VecDeque};
use std::os::fd::RawFd;

use super::sys;
use crate::proactor::fork_generation;

struct Kept {
    /// Device and inode of the file.
    file: Option<(u64, u64)>,
    fork_generation: u64,
    bytes: VecDeque<Box<[u8]>>,
}

impl Kept {
    fn of(fd: RawFd) -> Self {
        Self { file: sys::identity(fd), fork_generation: fork_generation(), bytes: VecDeque::new() }
    }

    fn is_of(&self, fd: RawFd) -> bool {
        self.fork_generation == fork_generation() && self.file.is_some() && self.file == sys::identity(fd)
    }
}

/// The bytes, by number.
#[derive(Default)]
pub struct Leftovers(HashMap<RawFd, Kept>);

impl Leftovers {
    /// Whether any file has some.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn of(&mut self, fd: RawFd) -> Option<&mut Kept> {
        if self.0.get(&fd)?.is_of(fd) {
            return self.0.get_mut(&fd);
        }
        self.0.remove(&fd);
        None
    }

    fn entry(&mut self, fd: RawFd) -> &mut Kept {
        if self.of(fd).is_none() {
            self.0.insert(fd, Kept::of(fd));
        }
        self.0.entry(fd).or_insert_with(|| Kept::of(fd))
    }

    /// Whether the file behind the number has some.
    pub fn has(&mut self, fd: RawFd) -> bool {
        !self.0.is_empty() && self.of(fd).is_some()
    }

    /// Bytes that came after those that are kept.
    pub fn push_back(&mut self, fd: RawFd, bytes: Box<[u8]>) {
        self.entry(fd).bytes.push_back(bytes);
    }

    /// Bytes that were handed out and come back.
    pub fn push_front(&mut self, fd: RawFd, bytes: Box<[u8]>) {
        self.entry(fd).bytes.push_front(bytes);
    }

    /// A copy of what [`Leftovers::take`] would give.
    pub fn peek(&mut self, fd: RawFd, limit: usize) -> Option<Box<[u8]>> {
        let first = self.of(fd)?.bytes.front()?;
        Some(first[..first.len().min(limit)].into())
    }

    /// At most `limit` bytes.
    pub fn take(&mut self, fd: RawFd, limit: usize) -> Option<Box<[u8]>> {
        if self.0.is_empty() {
            return None;
        }
        let queue = &mut self.of(fd)?.bytes;
        let first = queue.front_mut()?;
        let taken = if first.len() > limit {
            let rest = first[limit..].into();
            std::mem::replace(first, rest)[..limit].into()
        } else {
            queue.pop_front()?
        };
        if queue.is_empty() {
            self.0.remove(&fd);
        }
        Some(taken)
    }

    /// The file was closed.
    pub fn forget(&mut self, fd: RawFd) {
        self.0.remove(&fd);
    }
}
