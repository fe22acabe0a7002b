//! Answers of the kernel that cannot be had at will: a call that is refused, a queue that is taken in part.

use std::cell::RefCell;
use std::collections::VecDeque;

use super::super::error::Errno;

/// What happens to one call of `io_uring_enter`.
pub(super) enum Fault {
    /// It is refused with this error, and takes nothing.
    Refused(Errno),
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

/// How many of `submit` entries this call may take, and how many completions it may wait for: none after it has taken
/// less than all, as in the kernel.
pub(super) fn meet(submit: u32, complete: u32) -> Result<(u32, u32), Errno> {
    match NEXT.with_borrow_mut(VecDeque::pop_front) {
        Some(Fault::Refused(errno)) => Err(errno),
        Some(Fault::Partial(most)) if most < submit => Ok((most, 0)),
        _ => Ok((submit, complete)),
    }
}
