//! Descriptors that another OS thread has closed, for the hubs that may have operations in flight on them.
//!
//! Such an operation keeps the file open, so that the peer would see no end of the stream until it is over.
//!
//! The locks here are only held with the GIL held, and so never while another thread forks.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::proactor::Waker;

static HUBS: Mutex<Vec<Weak<Closings>>> = Mutex::new(Vec::new());
static HUBS_COUNT: AtomicUsize = AtomicUsize::new(0);

/// What others have closed, for one hub.
pub struct Closings {
    numbers: Mutex<Vec<RawFd>>,
    has_some: AtomicBool,
    /// The hub's thread has not ended.
    is_live: AtomicBool,
    waker: Waker,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Closings {
    /// Those of a new hub.
    pub fn new(waker: Waker) -> Arc<Self> {
        let closings = Arc::new(Self {
            numbers: Mutex::default(),
            has_some: AtomicBool::new(false),
            is_live: AtomicBool::new(true),
            waker,
        });
        let mut hubs = lock(&HUBS);
        hubs.retain(|hub| hub.strong_count() > 0);
        hubs.push(Arc::downgrade(&closings));
        HUBS_COUNT.fetch_add(1, Ordering::Relaxed);
        closings
    }

    /// The hub's thread ends: nobody is to be told any more.
    pub fn end(&self) {
        if self.is_live.swap(false, Ordering::Relaxed) {
            HUBS_COUNT.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// What was closed since the last call.
    #[inline]
    pub fn take(&self) -> Vec<RawFd> {
        // Acquire pairs with the Release in `announce`, which also wakes the hub's wait.
        if !self.has_some.load(Ordering::Acquire) {
            return Vec::new();
        }
        self.has_some.store(false, Ordering::Relaxed);
        std::mem::take(&mut *lock(&self.numbers))
    }
}

impl Drop for Closings {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether there are hubs besides the calling thread's.
#[inline]
pub fn concern_others(own: Option<&Closings>) -> bool {
    HUBS_COUNT.load(Ordering::Relaxed) > usize::from(own.is_some())
}

/// Tells the hubs of other threads that the number has been closed.
pub fn announce(fd: RawFd, own: Option<&Closings>) {
    for hub in lock(&HUBS).iter().filter_map(Weak::upgrade) {
        let is_own = own.is_some_and(|own| std::ptr::eq(own, Arc::as_ptr(&hub)));
        if !is_own && hub.is_live.load(Ordering::Relaxed) {
            lock(&hub.numbers).push(fd);
            hub.has_some.store(true, Ordering::Release);
            hub.waker.wake();
        }
    }
}
