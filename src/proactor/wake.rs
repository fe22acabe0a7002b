//! Waking a waiting proactor from any thread, through one eventfd.

use std::os::fd::{BorrowedFd, IntoRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use rustix::event::{EventfdFlags, eventfd};

use super::error::{Errno, SetupError};
use super::{fork, sys};

/// Wakes [`super::Proactor::wait`] from any thread. Wake-ups that meet an unseen one are one.
///
/// After a fork the waker held by the child wakes the child.
#[derive(Clone)]
pub struct Waker(Arc<Shared>);

struct Shared {
    /// Owned, except in a forked child that has not made its own yet.
    eventfd: AtomicI32,
    /// Set by the first `wake`, cleared by the driver when it has seen it. The `AcqRel` swap on this side
    /// and the one in `clear` order whatever the waker published before `wake` before the driver's return
    /// from `wait`.
    pending: AtomicBool,
    /// The process the eventfd belongs to; an inherited one would wake the parent.
    generation: AtomicU64,
}

impl Waker {
    pub(crate) fn new() -> Result<Self, SetupError> {
        // Blocking on purpose: it is never read. Both drivers watch it edge-triggered, and a counter that
        // only grows needs 2^64 wake-ups to block a writer.
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC).map_err(|errno| SetupError::new("eventfd", errno))?;
        Ok(Waker(Arc::new(Shared {
            eventfd: AtomicI32::new(eventfd.into_raw_fd()),
            pending: AtomicBool::new(false),
            generation: AtomicU64::new(fork::watch()),
        })))
    }

    /// Makes the current or next `wait` return.
    pub fn wake(&self) {
        if self.0.pending.swap(true, Ordering::AcqRel) {
            return;
        }
        if self.0.generation.load(Ordering::Acquire) == fork::generation() {
            // The only errors are a full counter (never) and a signal, which cannot hit an eventfd write
            // that does not block.
            self.write();
        }
        // Otherwise we are in a child whose driver was not made again yet: it looks at `pending` then.
    }

    /// Seen: the next `wake` writes again. True if there was one.
    pub(crate) fn clear(&self) -> bool {
        self.0.pending.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.0.pending.load(Ordering::Acquire)
    }

    /// In a forked child: makes an eventfd of its own, which wakers held elsewhere in this process follow. The inherited
    /// number is left alone, as it may mean something else by now. Does nothing if that was done.
    pub(crate) fn renew(&self) -> Result<(), SetupError> {
        if self.0.generation.load(Ordering::Acquire) == fork::generation() {
            return Ok(());
        }
        let fresh = eventfd(0, EventfdFlags::CLOEXEC).map_err(|errno| SetupError::new("eventfd", errno))?;
        // Nobody writes before the generation is told: no number is used that was replaced meanwhile.
        self.0.eventfd.store(fresh.into_raw_fd(), Ordering::Relaxed);
        self.0.generation.store(fork::generation(), Ordering::Release);
        if self.is_pending() {
            self.write();
        }
        Ok(())
    }

    fn write(&self) {
        if let Ok(eventfd) = self.as_fd() {
            let _ = rustix::io::write(eventfd, &1u64.to_ne_bytes());
        }
    }

    pub(crate) fn raw_fd(&self) -> RawFd {
        self.0.eventfd.load(Ordering::Relaxed)
    }

    pub(crate) fn as_fd(&self) -> Result<BorrowedFd<'_>, Errno> {
        sys::borrow(self.raw_fd())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if *self.generation.get_mut() == fork::generation() {
            let _ = sys::close(*self.eventfd.get_mut());
        }
    }
}
