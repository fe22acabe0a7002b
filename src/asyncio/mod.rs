//! The asyncio face: a loop whose handles, timers and sockets run on the turn and the proactor.
//!
//! `core` is the native base of `uringhub.loop.Loop`, `engine` what it knows, `run` its turns, `handle` the
//! objects of `call_soon` and `call_at`, `watch` readers and writers, `closing` what becomes of them when a file
//! is closed, `child` how processes end, `stream` and `transport` what a
//! socket transport receives and sends, `reader` what it feeds to a StreamReader and `read` how that is read, `datagram`
//! the same for datagrams, `sock` the `loop.sock_*` operations, `operation` what they and `read` return.
//! `slots`, `method`, `context`, `cell` and `bytes` are the unsafe boundary.
//!
//! The engine neither waits nor runs anything by itself: another face's turn can drive it.

use pyo3::prelude::*;

mod attributes;
mod buffered;
mod bytes;
mod cell;
mod child;
mod closing;
mod config;
mod context;
mod core;
mod datagram;
mod engine;
mod future;
mod handle;
mod home;
mod kept;
mod operation;
mod ownership;
mod read;
mod reader;
mod run;
mod schedule;
mod slots;
mod sock;
mod soon;
mod spare;
mod stream;
mod transport;
mod watch;

pub use closing::closing_in_loops;
pub use context::{copy_current, set_swap};
pub use core::LoopCore;
pub use engine::Engine;
pub use handle::handles;
pub use home::{Host, Loan};
pub use run::step;

/// Registers the face in the extension module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<core::LoopCore>()?;
    module.add_class::<home::Loan>()?;
    module.add_class::<transport::Stream>()?;
    module.add_class::<datagram::Datagrams>()?;
    soon::install(module.py())?;
    sock::install(module.py())?;
    module.add_function(wrap_pyfunction!(handle::set_handle_classes, module)?)?;
    module.add_function(wrap_pyfunction!(operation::set_operation_class, module)?)?;
    module.add_function(wrap_pyfunction!(transport::set_stream_class, module)?)?;
    module.add_function(wrap_pyfunction!(reader::set_reader_classes, module)?)?;
    module.add_function(wrap_pyfunction!(closing::closing_in_loops, module)?)?;
    module.add_function(wrap_pyfunction!(reader::adopted, module)?)?;
    module.add_function(wrap_pyfunction!(datagram::set_datagram_class, module)?)?;
    Ok(())
}
