//! State that belongs to the OS thread that made it.
//!
//! A hub is used by one thread. Python cannot forbid another thread to call its methods, so every access is
//! checked, and a stranger gets an answer instead of a data race.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::thread::ThreadId;

/// A cell that only its own thread can open.
#[derive(Debug)]
pub struct ThreadBound<T> {
    owner: ThreadId,
    value: RefCell<T>,
}

// SAFETY: `get` gives out the value on the owner's thread only, and `T` is only dropped elsewhere when the
// thread has ended (the last reference to a hub of a dead thread), so there is never a second user.
unsafe impl<T> Send for ThreadBound<T> {}
// SAFETY: as above: `get` is the only access.
unsafe impl<T> Sync for ThreadBound<T> {}

thread_local! {
    static THREAD: ThreadId = std::thread::current().id();
}

impl<T> ThreadBound<T> {
    /// Binds the value to the calling thread.
    pub fn new(value: T) -> Self {
        Self { owner: THREAD.with(|id| *id), value: RefCell::new(value) }
    }

    /// The cell, on the owner's thread.
    pub fn get(&self) -> Option<&RefCell<T>> {
        (THREAD.with(|id| *id) == self.owner).then_some(&self.value)
    }
}
