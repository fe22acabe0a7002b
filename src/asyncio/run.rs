//! One turn of the loop: wait, make ready what is due, run the batch.

use std::time::Duration;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

use super::core::LoopCore;
use super::engine::{Engine, Runnable, Sink};
use super::handle::{Handles, handles};
use super::{sock, stream, watch};
use crate::turn::now_ns;

/// Runs one turn; True if the loop is to stop.
pub fn turn(core: &Bound<'_, LoopCore>) -> PyResult<bool> {
    let py = core.py();
    core.get().empty_inbox();
    take(core)?;
    py.check_signals()?;
    core.get().empty_inbox();
    let handles = handles(py)?;
    let monitored = handles.is_monitored(py)?;
    let mut next = begin(&mut *core.get().engine_mut()?);
    while let Some(runnable) = next {
        step(core, handles, runnable, monitored)?;
        next = core.get().engine_mut()?.turn.next();
    }
    core.get().bury();
    Ok(core.get().stopping())
}

/// Makes ready what is due, and takes the first of the batch.
#[inline]
fn begin(engine: &mut Engine) -> Option<Runnable> {
    if engine.turn.timed_len() > 0 {
        engine.turn.expire(now_ns());
    }
    engine.turn.begin();
    engine.turn.next()
}

/// Runs one entry of the ready queue.
#[inline]
pub fn step(
    core: &Bound<'_, LoopCore>,
    handles: &Handles,
    runnable: Runnable,
    monitored: bool,
) -> PyResult<()> {
    let py = core.py();
    match runnable {
        Runnable::Handle(handle) => handles.step(core, &handle.into_bound(py), monitored),
        Runnable::Ready(id) => {
            enum Kind {
                Watch,
                Receiver,
                Wait,
            }
            let kind = match core.get().engine()?.borrow().sinks.get(id) {
                None => return Ok(()),
                Some(Sink::Watch(_)) => Kind::Watch,
                Some(Sink::Receiver(_)) => Kind::Receiver,
                Some(Sink::Wait(_)) => Kind::Wait,
            };
            match kind {
                Kind::Watch => watch::run(core, id, monitored),
                Kind::Receiver => stream::run(core, id, monitored),
                Kind::Wait => sock::run(core, id),
            }
        }
        // Green threads are the hub's, and only in its queue.
        _ => Ok(()),
    }
}

/// Waits for completions, with the GIL released if that can block, and makes ready whom they are for.
fn take(core: &Bound<'_, LoopCore>) -> PyResult<()> {
    let py = core.py();
    let mut engine = core.get().engine_mut()?;
    let timeout = if core.get().stopping() || engine.turn.has_ready() {
        Some(Duration::ZERO)
    } else {
        engine.turn.timeout(now_ns())
    };
    let proactor = &mut engine.proactor;
    let waited = if timeout == Some(Duration::ZERO) {
        proactor.wait(timeout)
    } else {
        py.detach(|| proactor.wait(timeout))
    };
    waited.map_err(|error| PyOSError::new_err((error.raw_os_error(), error.to_string())))?;
    engine.reap();
    Ok(())
}
