//! What the ready queue and the timers of a thread hold, whichever face put it there.
//!
//! One type for both faces, so that a hub and its asyncio loop share one turn: green threads and handles run in
//! the order in which they became ready.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use slotmap::{Key, KeyData, new_key_type};

use crate::eventlet::Timer;

new_key_type! {
    /// Names one wait of one green thread, or one persistent listener.
    pub struct WaiterId;
    /// Names whom the completions of an asyncio loop are for. A key of a sink that is gone names nothing.
    pub struct SinkId;
}

/// Set in the tokens of sinks: the highest bit of the slot number, and nobody has two thousand million slots.
const SINK: u64 = 1 << 31;

impl WaiterId {
    /// The number under which the proactor returns the completion.
    pub fn token(self) -> u64 {
        self.data().as_ffi()
    }

    /// Back from the number.
    pub fn from_token(token: u64) -> Self {
        KeyData::from_ffi(token).into()
    }
}

impl SinkId {
    /// The number under which the proactor returns the completion.
    pub fn token(self) -> u64 {
        self.data().as_ffi() | SINK
    }

    /// Back from the number.
    pub fn from_token(token: u64) -> Self {
        KeyData::from_ffi(token & !SINK).into()
    }

    /// Whether the number is a sink's and not a waiter's.
    pub fn is_token(token: u64) -> bool {
        token & SINK != 0
    }
}

/// One entry of the ready queue or the timers.
pub enum Runnable {
    /// Resume the green thread of a wait.
    Resume(WaiterId),
    /// The timeout of a wait has come.
    Expire(WaiterId),
    /// Call the callback of a listener.
    Notify(WaiterId),
    /// Call a timer (`schedule_call_*`).
    Fire(Py<Timer>),
    /// Switch into a green thread for the first time.
    Start(Py<PyAny>, Py<PyTuple>, Option<Py<PyDict>>),
    /// A semaphore was released while somebody waited for it: the first may go on.
    Grant(Py<PyAny>),
    /// Call an asyncio handle.
    Handle(Py<PyAny>),
    /// A sink of an asyncio loop has been told something.
    Ready(SinkId),
}

impl Runnable {
    /// Whether it runs on an asyncio loop.
    pub fn is_of_loop(&self) -> bool {
        matches!(self, Self::Handle(_) | Self::Ready(_))
    }
}
