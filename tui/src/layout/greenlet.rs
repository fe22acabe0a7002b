//! The greenlet structure, worked out from the running process instead of from a table of versions.
//!
//! greenlet keeps its state in a C++ object behind `PyGreenlet.pimpl`, whose layout moves with the greenlet version,
//! the Python version and the compiler. Three facts hold in all of them: the main greenlet's `stack_stop` is all ones,
//! the object's `_self` holds the address of the Python object, and the Python state follows the 40-byte stack state.

use crate::remote::{Memory, word_at};

/// `PyGreenlet.pimpl`; the head of `PyGreenlet` is public (`greenlet.h`) and has not moved since 2.0.
pub const PIMPL: usize = 32;
/// Bytes of the implementation object that are looked at.
pub const IMPL_BYTES: usize = 224;
/// `sizeof(StackState)`: stack_start, stack_stop, stack_copy, stack_saved, stack_prev.
const STACK_STATE_BYTES: usize = 40;

/// Offsets inside a greenlet's implementation object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GreenletLayout {
    /// Back pointer to the Python object.
    pub this: usize,
    /// Lowest address of the saved stack; zero when dead, not started or just starting.
    pub stack_start: usize,
    /// Highest address; zero when not started, all ones for a main greenlet.
    pub stack_stop: usize,
    /// Frame object of a suspended greenlet; zero while it runs.
    pub top_frame: usize,
    /// A user greenlet's main greenlet, which tells its thread; zero until one was seen.
    pub main: usize,
    /// A user greenlet's parent; zero until one was seen.
    pub parent: usize,
    /// A user greenlet's callable until it starts; zero until one was seen.
    pub run: usize,
    /// A main greenlet's thread state (C++), whose first two words are the main and the current greenlet.
    pub thread_state: usize,
}

/// Works the layout out from a main greenlet's implementation object.
pub fn calibrate(memory: &dyn Memory, main_impl: u64, main_object: u64) -> Option<GreenletLayout> {
    let record = memory.bytes(main_impl, IMPL_BYTES)?;
    let words = || (0..IMPL_BYTES / 8).map(|index| (index * 8, word_at(&record, index * 8)));
    let stack_stop = words().find(|&(offset, word)| offset >= 16 && word == u64::MAX)?.0;
    let stack_start = stack_stop - 8;
    // The base class has a `_self`; the main greenlet has a second one in front of its thread state. Only the first
    // is where a user greenlet has it too. On 2.0 and 3.0 there is one, behind the Python state.
    let selves: Vec<usize> =
        words().filter(|&(_, word)| word == main_object).map(|(offset, _)| offset).collect();
    let this = *selves.first()?;
    let thread_state = words()
        .filter(|&(offset, _)| offset >= stack_start + STACK_STATE_BYTES)
        .find(|&(_, word)| word != 0 && memory.word(word) == Some(main_object))
        .map(|(offset, _)| offset)?;
    Some(GreenletLayout {
        this,
        stack_start,
        stack_stop,
        top_frame: stack_start + STACK_STATE_BYTES + 8,
        main: 0,
        parent: 0,
        run: 0,
        thread_state,
    })
}

impl GreenletLayout {
    /// Learns where a user greenlet keeps its main greenlet and its parent, from one whose main greenlet is known.
    pub fn learn_parent(&mut self, record: &[u8], main_object: u64, is_greenlet: impl Fn(u64) -> bool) {
        let from = self.top_frame + 8;
        let Some(main) =
            (from..record.len().saturating_sub(7)).step_by(8).find(|&o| word_at(record, o) == main_object)
        else {
            return;
        };
        // `_main_greenlet`, `_run_callable`, `_parent` stand in this order in every release since 2.0.
        if is_greenlet(word_at(record, main + 16)) {
            (self.main, self.run, self.parent) = (main, main + 8, main + 16);
        }
    }
}
