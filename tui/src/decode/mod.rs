//! Python objects, frames, greenlets and tasks, decoded from bytes of another process.
//!
//! Nothing read is trusted: every length is bounded, every chain has a limit, every pointer is checked by the type it
//! leads to, and what does not decode is counted rather than shown.
#![forbid(unsafe_code)]

mod code;
mod dicts;
mod frames;
mod greenlets;
mod live;
mod objects;
mod pools;
mod tasks;
mod threads;

pub use code::{Code, CodeCache};
pub use frames::{ChainEnd, RawFrame, STACK_LIMIT, Walk};
pub use greenlets::{GreenletFinder, GreenletRecord, GreenletState};
pub use objects::Python;
pub use tasks::{AwaitStep, TaskRecord, TaskState};
pub use threads::ThreadRecord;

use crate::remote::{Interpreter, Memory};

/// The micro version, from `sys.hexversion`, where no symbol tells it.
pub fn micro_version(memory: &dyn Memory, interpreter: &Interpreter) -> Option<u8> {
    let python = Python::new(memory, interpreter);
    let sys = python.module("sys")?;
    let hex = python.integer(python.lookup(python.module_dict(sys)?, "hexversion")?)?;
    Some((hex >> 8) as u8)
}
