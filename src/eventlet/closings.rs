//! Descriptors that another OS thread is about to close, for the hubs that may have operations in flight on them.
//!
//! The locks here are only held with the GIL held, and so never while another thread forks.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::closings::Mailbox;
pub use crate::closings::{Closing, Moment};
use crate::proactor::Waker;

static HUBS: Mutex<Vec<Weak<Closings>>> = Mutex::new(Vec::new());
static HUBS_COUNT: AtomicUsize = AtomicUsize::new(0);

/// What others close, for one hub.
pub struct Closings {
    mailbox: Mailbox,
    /// The hub's thread has not ended.
    is_live: AtomicBool,
    waker: Waker,
}

fn hubs() -> MutexGuard<'static, Vec<Weak<Closings>>> {
    HUBS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Closings {
    /// Those of a new hub.
    pub fn new(waker: Waker) -> Arc<Self> {
        let closings = Arc::new(Self { mailbox: Mailbox::default(), is_live: AtomicBool::new(true), waker });
        let mut hubs = hubs();
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

    /// Those that the hub has not been told of.
    #[inline]
    pub fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }
}

impl Drop for Closings {
    fn drop(&mut self) {
        self.end();
    }
}

/// Tells the hubs of other threads that the number is about to be closed.
pub fn announce(fd: RawFd, own: Option<&Closings>) {
    // The count spares the lock where there is no other, as nearly everywhere.
    if HUBS_COUNT.load(Ordering::Relaxed) <= usize::from(own.is_some()) {
        return;
    }
    let closing = Closing::now(fd);
    for hub in hubs().iter().filter_map(Weak::upgrade) {
        let is_own = own.is_some_and(|own| std::ptr::eq(own, Arc::as_ptr(&hub)));
        if !is_own && hub.is_live.load(Ordering::Relaxed) {
            hub.mailbox.put(closing);
            hub.waker.wake();
        }
    }
}
