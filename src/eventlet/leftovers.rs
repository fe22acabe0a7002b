//! Bytes that a receive had taken from the kernel when its green thread was killed, for the next receive.
//!
//! They belong to a socket, whatever number names it: one that was duplicated has them under each of its numbers, a
//! number that names another socket by now has none, and neither has a forked child, whose parent has them.

use std::collections::{HashMap, VecDeque};
use std::os::fd::RawFd;

use super::sys;
use crate::proactor::fork_generation;

/// So many sockets that were closed may have bytes: one that goes on under another number comes for them soon.
const CLOSED_MAX: usize = 16;

/// So often who waits for readiness is told of the same bytes: who reads past our hooks would be told for ever.
const OFFERS_MAX: u32 = 1000;

/// The kernel's cookie of a socket, which no other ever has.
type Cookie = u64;

#[derive(Default)]
struct Kept {
    bytes: VecDeque<Box<[u8]>>,
    /// How often who waits for readiness was told of these bytes, and has not come for them.
    offers: u32,
}

/// The bytes, by socket.
#[derive(Default)]
pub struct Leftovers {
    by_socket: HashMap<Cookie, Kept>,
    closed: VecDeque<Cookie>,
    fork_generation: u64,
}

impl Leftovers {
    /// Whether any socket has some.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.by_socket.is_empty()
    }

    /// Forgets everything in a forked child.
    fn settle_fork(&mut self) {
        if self.fork_generation != fork_generation() {
            *self = Self { fork_generation: fork_generation(), ..Self::default() };
        }
    }

    fn of(&mut self, fd: RawFd) -> Option<&mut Kept> {
        if self.is_empty() {
            return None;
        }
        self.settle_fork();
        self.by_socket.get_mut(&sys::cookie(fd)?)
    }

    /// Where bytes of the socket go; None for what is no socket any more.
    fn entry(&mut self, fd: RawFd) -> Option<&mut Kept> {
        self.settle_fork();
        let cookie = sys::cookie(fd)?;
        self.closed.retain(|closed| *closed != cookie);
        let kept = self.by_socket.entry(cookie).or_default();
        kept.offers = 0;
        Some(kept)
    }

    /// Whether the socket has some.
    pub fn has(&mut self, fd: RawFd) -> bool {
        self.of(fd).is_some()
    }

    /// Whether who waits for the socket's readiness is to be told of some.
    pub fn offer(&mut self, fd: RawFd) -> bool {
        self.of(fd).is_some_and(|kept| {
            kept.offers = kept.offers.saturating_add(1);
            kept.offers <= OFFERS_MAX
        })
    }

    /// Bytes that came after those that are kept.
    pub fn push_back(&mut self, fd: RawFd, bytes: Box<[u8]>) {
        if let Some(kept) = self.entry(fd) {
            kept.bytes.push_back(bytes);
        }
    }

    /// Bytes that were handed out and come back.
    pub fn push_front(&mut self, fd: RawFd, bytes: Box<[u8]>) {
        if let Some(kept) = self.entry(fd) {
            kept.bytes.push_front(bytes);
        }
    }

    /// A copy of what [`Leftovers::take`] would give.
    pub fn peek(&mut self, fd: RawFd, limit: usize) -> Option<Box<[u8]>> {
        let first = self.of(fd)?.bytes.front()?;
        Some(first[..first.len().min(limit)].into())
    }

    /// At most `limit` bytes.
    pub fn take(&mut self, fd: RawFd, limit: usize) -> Option<Box<[u8]>> {
        let kept = self.of(fd)?;
        kept.offers = 0;
        let first = kept.bytes.front_mut()?;
        let taken = if first.len() > limit {
            let rest = first[limit..].into();
            std::mem::replace(first, rest)[..limit].into()
        } else {
            kept.bytes.pop_front()?
        };
        if kept.bytes.is_empty()
            && let Some(cookie) = sys::cookie(fd)
        {
            self.by_socket.remove(&cookie);
        }
        Some(taken)
    }

    /// The number is about to be closed; the socket may have others.
    pub fn closing(&mut self, fd: RawFd) {
        if self.of(fd).is_none() {
            return;
        }
        self.closed.extend(sys::cookie(fd));
        if self.closed.len() > CLOSED_MAX
            && let Some(cookie) = self.closed.pop_front()
        {
            self.by_socket.remove(&cookie);
        }
    }
}
