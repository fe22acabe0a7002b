//! Notices a fork without a system call.
//!
//! A ring belongs to one task: in a forked child its submissions fail (`EEXIST`) or, worse, land in the
//! parent's completion queue. `pthread_atfork` runs a handler in the child that bumps a counter; each use
//! of a driver compares it. `vfork` and `posix_spawn` run no handler, so a child that only execs pays
//! nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

static GENERATION: AtomicU64 = AtomicU64::new(0);

extern "C" fn in_child() {
    // Only the forking thread exists in the child, so no other thread can observe an order.
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// How many forks lie between the first process and this one; registers the handler on first use.
///
/// No `Once`: a fork while another thread is inside one leaves it running for ever in the child, and the
/// child's first use would hang. Two threads may both register; then a fork counts twice, which is a
/// change all the same.
pub(crate) fn watch() -> u64 {
    static REGISTERED: AtomicBool = AtomicBool::new(false);
    if !REGISTERED.load(Ordering::Acquire) {
        // SAFETY: the handler is a static function that only touches an atomic, hence is safe to run in
        // the child between fork and return; it stays valid because this library is never unloaded
        // (Python does not dlclose extension modules).
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        REGISTERED.store(true, Ordering::Release);
    }
    generation()
}

/// The current count; a relaxed load.
#[inline]
pub(crate) fn generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}
