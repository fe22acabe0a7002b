//! State that belongs to the OS thread that made it.
//!
//! A hub is used by one thread. Python cannot forbid another thread to call its methods, so every access is
//! checked, and a stranger gets an answer instead of a data race.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

/// A cell that only its own thread can open.
#[derive(Debug)]
pub struct ThreadBound<T> {
    owner: NonZeroU64,
    value: RefCell<T>,
}

// SAFETY: `get` gives out the value on the owner's thread only, and `T` is only dropped elsewhere when the
// thread has ended (the last reference to a hub of a dead thread), so there is never a second user.
unsafe impl<T> Send for ThreadBound<T> {}
// SAFETY: as above: `get` is the only access.
unsafe impl<T> Sync for ThreadBound<T> {}

thread_local! {
    /// The thread's number, once it has one; `std::thread::current` costs more than what is guarded here.
    static THREAD: Cell<Option<NonZeroU64>> = const { Cell::new(None) };
}

/// The calling thread's number: no other thread of the process ever has the same.
#[cold]
fn number() -> NonZeroU64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let number =
        THREAD.get().unwrap_or_else(|| NonZeroU64::MIN.saturating_add(LAST.fetch_add(1, Ordering::Relaxed)));
    THREAD.set(Some(number));
    number
}

impl<T> ThreadBound<T> {
    /// Binds the value to the calling thread.
    pub fn new(value: T) -> Self {
        Self { owner: number(), value: RefCell::new(value) }
    }

    /// The cell, on the owner's thread.
    #[inline]
    pub fn get(&self) -> Option<&RefCell<T>> {
        (THREAD.get() == Some(self.owner)).then_some(&self.value)
    }
}
