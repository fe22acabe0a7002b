//! A cheap name for the current thread.

use std::cell::Cell;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

/// Never reused, unlike the kernel's thread ids. A ring's registered number means another ring, or none, on
/// another thread, so each enter compares this; it costs one thread-local load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ThreadMark(NonZeroU64);

static NEXT: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static MARK: Cell<u64> = const { Cell::new(0) };
}

impl ThreadMark {
    #[inline]
    pub(crate) fn current() -> Self {
        MARK.with(|mark| match NonZeroU64::new(mark.get()) {
            Some(value) => ThreadMark(value),
            None => Self::assign(mark),
        })
    }

    #[cold]
    fn assign(mark: &Cell<u64>) -> Self {
        let value = NonZeroU64::new(NEXT.fetch_add(1, Ordering::Relaxed)).expect("fewer than 2^64 threads");
        mark.set(value.get());
        ThreadMark(value)
    }
}
