//! Answers of the kernel that cannot be had at will: a queue that is taken in part.

use std::cell::RefCell;
use std::collections::VecDeque;

/// What happens to one call of `io_uring_enter`.
pub(super) enum Fault {
    /// It takes so many entries at most.
    Partial(u32),
}

thread_local! {
    static NEXT: RefCell<VecDeque<Fault>> = const { RefCell::new(VecDeque::new()) };
}

/// What happens to the next calls of this thread; then all is well again.
pub(super) fn plan(faults: impl IntoIterator<Item = Fault>) {
    NEXT.with_borrow_mut(|next| next.extend(faults));
}

/// How many of `submit` entries this call may take.
pub(super) fn meet(submit: u32) -> u32 {
    match NEXT.with_borrow_mut(VecDeque::pop_front) {
        Some(Fault::Partial(most)) => submit.min(most),
        None => submit,
    }
}
