//! Python threads and the GIL.

use super::objects::Python;
use crate::remote::{int_at, word_at};

/// More threads than this are not listed.
const THREAD_LIMIT: usize = 4096;
/// Bytes of a thread state that are read.
pub const STATE_BYTES: usize = 264;
/// Bytes of a `_PyCFrame` that are read (3.11, 3.12).
pub const CFRAME_BYTES: usize = 24;
/// Bytes of the GIL's state, with its condition variables.
pub const GIL_BYTES: u64 = 208;

/// One Python thread as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadRecord {
    /// The thread state's address.
    pub state: u64,
    /// Its kernel thread id, in the process's PID namespace; zero on 3.10.
    pub native_id: u64,
    /// Its pthread handle.
    pub handle: u64,
    /// Rises with each greenlet switch and each context entered.
    pub context_version: u64,
    /// Its innermost frame; zero if none.
    pub frame: u64,
    /// An address in the interpreter loop's part of its C stack (3.10 to 3.12); zero if unknown.
    pub c_stack: u64,
}

impl Python<'_> {
    /// The interpreter's threads, as far as they could be listed.
    pub fn threads(&self) -> Vec<ThreadRecord> {
        self.list_threads().0
    }

    /// The interpreter's threads, and whether these are all: a list that changes while it is read, or is longer than is read,
    /// ends too early.
    pub fn list_threads(&self) -> (Vec<ThreadRecord>, bool) {
        let layout = self.layout();
        let mut threads = Vec::new();
        let first = self.field(self.interpreter.interpreter, layout.interp_threads as u64);
        let Some(mut next) = first else { return (threads, false) };
        while next != 0 && threads.len() < THREAD_LIMIT {
            let Some(record) = self.memory.bytes(next, STATE_BYTES) else { break };
            if word_at(&record, layout.thread_interp) != self.interpreter.interpreter {
                break;
            }
            threads.push(self.thread(next, &record));
            next = word_at(&record, layout.thread_next);
        }
        (threads, next == 0)
    }

    /// One thread, read anew; `None` if it is gone.
    pub fn thread_at(&self, state: u64) -> Option<ThreadRecord> {
        let record = self.memory.bytes(state, STATE_BYTES)?;
        let is_own = word_at(&record, self.layout().thread_interp) == self.interpreter.interpreter;
        is_own.then(|| self.thread(state, &record))
    }

    fn thread(&self, state: u64, record: &[u8]) -> ThreadRecord {
        let layout = self.layout();
        let frame = word_at(record, layout.thread_frame);
        let optional = |offset: usize| if offset == 0 { 0 } else { word_at(record, offset) };
        ThreadRecord {
            state,
            native_id: optional(layout.thread_native_id),
            handle: word_at(record, layout.thread_id),
            context_version: word_at(record, layout.thread_context_version),
            frame: if layout.has_cframe {
                self.field(frame, layout.cframe_frame as u64).unwrap_or(0)
            } else {
                frame
            },
            c_stack: optional(layout.thread_cframe),
        }
    }

    /// Whether a thread state's bytes, and on 3.11 and 3.12 those of its `_PyCFrame`, still lead to this frame.
    pub fn is_head(&self, thread: &ThreadRecord, state: &[u8], cframe: &[u8]) -> bool {
        let layout = self.layout();
        let pointer = word_at(state, layout.thread_frame);
        let frame = if layout.has_cframe { word_at(cframe, layout.cframe_frame) } else { pointer };
        word_at(state, layout.thread_context_version) == thread.context_version
            && frame == thread.frame
            && (!layout.has_cframe || pointer == thread.c_stack)
    }

    /// The thread state that holds the GIL; `None` while nobody does.
    pub fn gil_holder(&self) -> Option<u64> {
        let record = self.memory.bytes(self.interpreter.gil, 24)?;
        (int_at(&record, 16) == 1).then(|| word_at(&record, 8))
    }

    /// Whether an address belongs to the GIL: a thread asleep on it waits for the GIL, not for a lock.
    pub fn is_in_gil(&self, address: u64) -> bool {
        (self.interpreter.gil..self.interpreter.gil + GIL_BYTES).contains(&address)
    }

    /// Whether the cyclic garbage collector runs.
    pub fn is_collecting(&self) -> bool {
        let at = self.layout().interp_collecting as u64;
        self.int_field(self.interpreter.interpreter, at) == Some(1)
    }
}
