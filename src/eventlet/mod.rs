//! The Eventlet face: a hub, and eventlet's blocking functions on it.
//!
//! `core` is the hub, `state` what it knows, `run` its loop, `wait` how a green thread suspends,
//! `socket`, `send`, `green_socket` and `green` what users call. `greenlet`, `thread_bound`, `sys`, and `held` are the
//! unsafe boundary.

use pyo3::prelude::*;

use crate::fastcall;

mod arena;
mod closings;
mod config;
mod conflict;
mod core;
mod current;
mod event;
mod green;
mod green_socket;
mod greenlet;
mod held;
mod hooks;
mod host;
mod leftovers;
mod parked;
mod primitives;
mod queue;
mod run;
mod runner;
mod semaphore;
mod send;
mod socket;
mod spawn;
mod state;
mod sys;
mod target;
mod tasks;
mod thread_bound;
mod timeout;
mod timer;
mod unlock;
mod wait;

pub use timer::Timer;

/// Registers the face in the extension module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<core::Core>()?;
    fastcall::bind::<run::Run>(&module.py().get_type::<core::Core>())?;
    module.add_class::<timer::Timer>()?;
    module.add_function(wrap_pyfunction!(green::set_originals, module)?)?;
    module.add_function(wrap_pyfunction!(green::leave_hub, module)?)?;
    module.add_function(wrap_pyfunction!(green::has_hub, module)?)?;
    fastcall::add::<green::Sleep>(module)?;
    module.add_function(wrap_pyfunction!(green::trampoline, module)?)?;
    module.add_function(wrap_pyfunction!(green::fileno, module)?)?;
    module.add_function(wrap_pyfunction!(green::start, module)?)?;
    module.add_function(wrap_pyfunction!(green::closing, module)?)?;
    module.add_function(wrap_pyfunction!(green::leaving, module)?)?;
    module.add_function(wrap_pyfunction!(green::wrapped, module)?)?;
    module.add_function(wrap_pyfunction!(green::reopened, module)?)?;
    module.add_function(wrap_pyfunction!(green_socket::bind_socket, module)?)?;
    module.add_function(wrap_pyfunction!(green_socket::py_leftover, module)?)?;
    module.add_function(wrap_pyfunction!(tasks::set_bridge, module)?)?;
    module.add_function(wrap_pyfunction!(tasks::leave_task, module)?)?;
    module.add_function(wrap_pyfunction!(tasks::enter_task, module)?)?;
    module.add_function(wrap_pyfunction!(tasks::getcurrent, module)?)?;
    module.add_function(wrap_pyfunction!(tasks::inherit_context, module)?)?;
    primitives::register(module)?;
    Ok(())
}
