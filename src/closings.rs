//! Files that another thread than the one that waits on them is about to close.
//!
//! An operation in flight keeps its file open, so that the peer would see no end of the stream until it is over. The number
//! alone does not tell whose operation is meant: it may name another file before the waiting thread has heard of the close.
//! So closes are counted, each wait remembers how many there were when it began, and a close ends those that began before it.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

static CLOSES: AtomicU64 = AtomicU64::new(0);

/// The moment at which a wait began, among those at which others closed a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// This one.
    #[inline]
    pub fn now() -> Self {
        // Relaxed: whoever closes and whoever waits hold the GIL, which orders them.
        Self(CLOSES.load(Ordering::Relaxed))
    }
}

/// A close of what the number names at this moment.
#[derive(Clone, Copy, Debug)]
pub struct Closing {
    /// The number.
    pub fd: RawFd,
    after: Moment,
}

impl Closing {
    /// The number is about to be closed.
    pub fn now(fd: RawFd) -> Self {
        Self { fd, after: Moment(CLOSES.fetch_add(1, Ordering::Relaxed)) }
    }

    /// Whether it is meant by a wait on the number that began then.
    pub fn ends(self, begun: Moment) -> bool {
        begun <= self.after
    }
}

/// Closes that the owner is to be told of. It is only used with the GIL held, and so never while another thread forks.
#[derive(Default)]
pub struct Mailbox {
    closings: Mutex<Vec<Closing>>,
    has_some: AtomicBool,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Vec<Closing>> {
        self.closings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For any thread; to wake the owner is the caller's next step.
    pub fn put(&self, closing: Closing) {
        self.lock().push(closing);
        self.has_some.store(true, Ordering::Release);
    }

    /// Whether any came since the last call of `take`.
    #[inline]
    pub fn has_some(&self) -> bool {
        // Acquire pairs with the Release in `put`.
        self.has_some.load(Ordering::Acquire)
    }

    /// What came since the last call.
    #[cold]
    pub fn take(&self) -> Vec<Closing> {
        self.has_some.store(false, Ordering::Relaxed);
        std::mem::take(&mut *self.lock())
    }
}
