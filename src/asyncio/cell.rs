//! Who may touch a loop's engine: the thread that runs it, or any thread while nobody does.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A cell that is open to the thread that entered it, and to whoever holds the GIL while none has.
///
/// A loop may be made on one thread, run on a second and closed on a third, so it is not bound to its maker.
#[derive(Debug)]
pub struct LoopCell<T> {
    owner: AtomicUsize,
    /// Who entered last.
    last: AtomicUsize,
    value: RefCell<T>,
}

// SAFETY: every caller holds the GIL, which orders all accesses while nobody has entered. The GIL is released
// with the value borrowed only by the thread that entered (around the wait), and then `get` refuses others.
unsafe impl<T> Send for LoopCell<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for LoopCell<T> {}

fn current() -> usize {
    // SAFETY: pthread_self takes nothing and cannot fail.
    unsafe { libc::pthread_self() as usize }
}

impl<T> LoopCell<T> {
    /// Nobody has entered yet.
    pub fn new(value: T) -> Self {
        Self { owner: AtomicUsize::new(0), last: AtomicUsize::new(0), value: RefCell::new(value) }
    }

    /// The value, unless another thread has entered. The GIL must be held.
    #[inline]
    pub fn get(&self) -> Option<&RefCell<T>> {
        // Relaxed: the GIL orders this against `enter` and `exit`, which are called with it held too.
        let owner = self.owner.load(Ordering::Relaxed);
        (owner == 0 || owner == current()).then_some(&self.value)
    }

    /// Makes the calling thread the only user until `exit`.
    pub fn enter(&self) {
        self.owner.store(current(), Ordering::Relaxed);
        self.last.store(current(), Ordering::Relaxed);
    }

    /// Opens the cell to whoever holds the GIL.
    pub fn exit(&self) {
        self.owner.store(0, Ordering::Relaxed);
    }

    /// Whether any thread has entered so far.
    pub fn had_owner(&self) -> bool {
        self.last.load(Ordering::Relaxed) != 0
    }

    /// Whether the calling thread was the last to enter.
    pub fn was_mine(&self) -> bool {
        self.last.load(Ordering::Relaxed) == current()
    }
}
