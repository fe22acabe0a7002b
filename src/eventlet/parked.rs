//! A green thread that waits for nothing but to be woken with a value: `Event.wait` and what is built on it.
//!
//! Whoever wakes it leaves the value here and makes the wait ready; there is no callback in between, and the
//! green thread is resumed by hand-off like any other. A green thread is parked at most once, so that its
//! address finds the wait; one that leaves for another reason takes its entry away, and a value that was
//! meant for it with the entry.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::core::{Core, deadline_ns};
use super::state::{Outcome, Runnable, WaiterId};
use super::wait;
use crate::raised::Raised;

/// What a wait ends with.
pub enum Delivery {
    /// The wait returns this.
    Value(Py<PyAny>),
    /// The wait raises this: the arguments of `greenlet.throw`.
    Throw(Py<PyTuple>),
}

struct Parked {
    wait: WaiterId,
    /// The address of what it waits on, which the waiting green thread keeps alive.
    on: usize,
    delivery: Option<Delivery>,
}

/// Addresses are their own hash: objects are aligned, so the low bits are of no use.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn write(&mut self, _bytes: &[u8]) {
        debug_assert!(false, "only addresses are hashed");
    }

    fn write_usize(&mut self, address: usize) {
        self.0 = (address as u64 >> 4).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type Table = HashMap<usize, Parked, BuildHasherDefault<AddressHasher>>;

thread_local! {
    /// By the address of the parked greenlet, which its own frame keeps alive.
    static PARKED: RefCell<Table> = RefCell::default();
}

/// Has `me`, the calling green thread, woken by `wake`, after `timeout_s` at the latest. The caller leaves next, and
/// then calls `get_up`.
pub fn lie_down<'py>(
    core: &Bound<'py, Core>,
    me: &Bound<'py, PyAny>,
    on: &Bound<'py, PyAny>,
    timeout_s: Option<f64>,
) -> PyResult<WaiterId> {
    wait::enter(core, me)?;
    let id = {
        let mut local = core.get().local()?.borrow_mut();
        let state = &mut local.state;
        let id = state.waiters.insert(wait::plain(me));
        match timeout_s {
            Some(seconds) if seconds > 0.0 => {
                let timer = state.engine.turn.push_at(deadline_ns(seconds), Runnable::Resume(id));
                state.waiters[id].timer = Some(timer);
            }
            Some(_) => state.engine.turn.push(Runnable::Resume(id)),
            None => {}
        }
        id
    };
    let parked = Parked { wait: id, on: on.as_ptr() as usize, delivery: None };
    let old = PARKED.with_borrow_mut(|table| table.insert(me.as_ptr() as usize, parked));
    drop(old);
    Ok(id)
}

/// What a wait ended with; None when the time is up.
///
/// A stray switch ends the wait too, with what it passes, as on eventlet's hubs.
pub fn get_up<'py>(
    core: &Bound<'py, Core>,
    me: &Bound<'py, PyAny>,
    id: WaiterId,
    left: Result<Bound<'py, PyAny>, Raised>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = core.py();
    let left = left.map_err(|raised| raised.fetch(py));
    let parked = PARKED.with_borrow_mut(|table| table.remove(&(me.as_ptr() as usize)));
    let waiter = core.get().with_state(|state| state.finish(id));
    drop(waiter);
    let delivery = parked.and_then(|parked| parked.delivery);
    let passed = left?;
    match delivery {
        Some(Delivery::Value(value)) => Ok(Some(value.into_bound(py))),
        Some(Delivery::Throw(args)) => me.call_method1(intern!(py, "throw"), args.bind(py)).map(Some),
        // A resumption by the hub passes nothing, a stray switch may pass something.
        None if passed.cast::<PyTuple>().is_ok_and(|passed| passed.is_empty()) => Ok(None),
        None => Ok(Some(passed)),
    }
}

/// Has a green thread that is parked on `on` woken in its turn; false if it is not, or was woken before.
pub fn wake(
    core: &Bound<'_, Core>,
    who: &Bound<'_, PyAny>,
    on: &Bound<'_, PyAny>,
    delivery: impl FnOnce() -> Delivery,
) -> bool {
    PARKED.with_borrow_mut(|table| {
        let Some(parked) = table.get_mut(&(who.as_ptr() as usize)) else { return false };
        if parked.on != on.as_ptr() as usize || parked.delivery.is_some() {
            return false;
        }
        let woken = core.get().with_state(|state| state.wake(parked.wait, Outcome::Woken));
        if woken == Some(true) {
            parked.delivery = Some(delivery());
        }
        woken == Some(true)
    })
}
