//! Which thread runs the loop, and how it moves to another.

use std::sync::atomic::Ordering;
use std::time::Duration;

use pyo3::prelude::*;

use super::core::LoopCore;
use super::engine::Engine;

/// So many operations are taken back from the kernel whenever the loop stops.
const CHEAP: usize = 4;

impl LoopCore {
    /// The loop has stopped. With `park`, or when it is cheap, it may go on on another thread.
    pub fn leave(&self, park: bool) {
        let parked = self.with_engine(|engine| {
            // What was cancelled in the last turn reaches the kernel: a socket closed there gets its FIN.
            let flushed = engine.proactor.wait(Some(Duration::ZERO));
            // And what came with that is in this driver, which may not be the next one.
            engine.reap();
            let park = flushed.is_ok() && (park || engine.proactor.in_flight() <= CHEAP);
            if park {
                engine.park();
            } else {
                // Another thread may run the loop next, and this one's ring is closed there.
                engine.proactor.keep_name(false);
            }
            park
        });
        self.parked.store(parked.unwrap_or(false), Ordering::Relaxed);
        self.engine.exit();
    }

    /// Whether the calling thread, if it may touch the engine, may also end its operations.
    pub fn can_settle(&self) -> bool {
        self.engine.was_mine() || !self.engine.had_owner() || self.parked.load(Ordering::Relaxed)
    }

    /// The calling thread runs the loop from now on.
    pub fn enter(&self, py: Python<'_>) -> PyResult<()> {
        let moved = !self.engine.was_mine() && self.engine.had_owner();
        if moved && !self.parked.load(Ordering::Relaxed) {
            // A ring belongs to the thread that used it: the other's is given up with its operations.
            let proactor = super::config::open_proactor(py)?;
            *self.waker() = proactor.waker();
            let old = self.with_engine(|engine| engine.replace_proactor(proactor));
            drop(old);
            self.parked.store(true, Ordering::Relaxed);
        }
        self.engine.enter();
        self.with_engine(|engine| engine.proactor.keep_name(true));
        if self.parked.swap(false, Ordering::Relaxed) {
            self.with_engine(Engine::unpark);
        }
        Ok(())
    }
}
