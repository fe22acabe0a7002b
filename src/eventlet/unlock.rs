//! `eventlet.queue`: the hand-over between those that put and those that get, `LightQueue._unlock`.
//!
//! Eventlet runs it in the hub, which switches to one green thread after the other, and looks again when control
//! comes back to it. So each that waits again costs a switch to the hub and one from it. Here the green thread that
//! leaves looks on the hub's behalf, and switches to the next itself. The hub stands in its own switch meanwhile:
//! it goes on when nobody is left to hand anything to, when the next is one that only the hub can switch to, and
//! when a green thread ends. Who runs when, with what, and in which of their frames exceptions come up stay as they
//! are. What ordered queues hold is compared by Python code, which belongs in the hub: they are not relayed.

use std::ffi::CStr;

use pyo3::exceptions::PyException;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PySet, PyTuple};

use super::core::Core;
use super::greenlet;
use super::queue::{Kind, Queue, eventlets};
use super::timer::Timer;
use super::wait::{self, Onward};
use crate::fastcall::{Arguments, Function};

/// What the hand-over does next.
enum Step<'py> {
    /// Go on in a green thread that waits, with what it waits for.
    Pass(Bound<'py, PyAny>, Bound<'py, PyAny>),
    /// Have it get the error of the queue's own `_get`.
    Throw(Bound<'py, PyAny>, PyErr),
    /// Look again.
    Again,
    /// Nothing is left to hand over.
    Over,
}

/// A hand-over that the hub is in, for green threads that leave to go on with.
pub struct Relay {
    queue: Py<PyAny>,
    /// Whose item was handed over, and who goes on next.
    putter: Option<Py<PyAny>>,
    left: Option<Left>,
}

/// A step that was begun, and that the hub must do.
enum Left {
    Pass(Py<PyAny>, Py<PyAny>),
    Throw(Py<PyAny>, PyErr),
    Fail(PyErr),
}

/// The green thread that waits, if it still does.
fn waiting<'py>(waiter: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let green = eventlets(waiter.py()).greenlet.get(waiter)?;
    Ok((!green.is_none()).then_some(green))
}

/// `waiter.switch(value)`: what the green thread lets escape is printed, and nothing else stops.
fn switch<'py>(green: &Bound<'py, PyAny>, value: &Bound<'py, PyAny>) -> PyResult<()> {
    let py = green.py();
    let args = PyTuple::new(py, [value])?;
    match super::hooks::switch_with(green, &args) {
        Err(error) if error.is_instance_of::<PyException>(py) => {
            py.import("traceback")?.call_method1("print_exception", (error.value(py),)).map(drop)
        }
        other => other.map(drop),
    }
}

impl<'py> Queue<'_, 'py> {
    /// One step of `queue._unlock()`. `putter` is one whose item was handed over and who has not gone on yet.
    fn step(&self, putter: &mut Option<Bound<'py, PyAny>>) -> PyResult<Step<'py>> {
        if let Some(putter) = putter.take() {
            // It may have been killed by the one that got its item.
            return Ok(waiting(&putter)?.map_or(Step::Again, |green| Step::Pass(green, putter)));
        }
        let (getters, putters, items) = (self.getters()?, self.putters()?, self.items()?);
        let len = items.len()?;
        if len > 0 && getters.len() > 0 {
            let Some(green) = getters.pop().map_or(Ok(None), |getter| waiting(&getter))? else {
                return Ok(Step::Again);
            };
            return Ok(match self.take(&items) {
                Ok(item) => Step::Pass(green, item),
                Err(error) => Step::Throw(green, error),
            });
        }
        if putters.len() == 0 {
            return Ok(Step::Over);
        }
        if getters.len() > 0 {
            return self.hand_over(&getters, &putters, &items, putter);
        }
        if self.has_room(len)? {
            let Some(putter) = putters.pop() else { return Ok(Step::Again) };
            return Ok(waiting(&putter)?.map_or(Step::Again, |green| Step::Pass(green, putter)));
        }
        self.refuse(&putters)
    }

    /// Gives a putter's item to a getter, through the queue, which decides which item comes out.
    fn hand_over(
        &self,
        getters: &Bound<'py, PySet>,
        putters: &Bound<'py, PySet>,
        items: &Bound<'py, PyAny>,
        goes_on: &mut Option<Bound<'py, PyAny>>,
    ) -> PyResult<Step<'py>> {
        let known = eventlets(self.py());
        let Some(putter) = putters.pop() else { return Ok(Step::Again) };
        if waiting(&putter)?.is_none() {
            return Ok(Step::Again);
        }
        let Some(getting) = getters.pop().map_or(Ok(None), |getter| waiting(&getter))? else {
            return putters.add(putter).map(|()| Step::Again);
        };
        let item = known.item.get(&putter)?;
        // This makes the green thread that calls put() not put it again.
        known.item.set(&putter, known.none.bind(self.py()))?;
        self.add(items, &item)?;
        let item = self.take(items)?;
        *goes_on = Some(putter);
        Ok(Step::Pass(getting, item))
    }

    /// Tells putters that do not block that the queue is full.
    #[cold]
    fn refuse(&self, putters: &Bound<'py, PySet>) -> PyResult<Step<'py>> {
        let py = self.py();
        let mut refused = Vec::new();
        for putter in putters.iter() {
            if !eventlets(py).block.get(&putter)?.is_truthy()? {
                refused.push(putter);
            }
        }
        for putter in &refused {
            putters.discard(putter)?;
            if let Some(green) = waiting(putter)? {
                let throw = green.getattr(intern!(py, "throw"))?.unbind();
                let args = (&eventlets(py).full,).into_pyobject(py)?.unbind();
                Core::schedule(&self.core, Timer::call(0.0, throw, args, None::<Py<PyDict>>, None))?;
            }
        }
        Ok(if refused.is_empty() { Step::Over } else { Step::Again })
    }

    /// `queue._unlock()`, in the hub.
    fn unlock(&self) -> PyResult<()> {
        let mut putter = None;
        let mut left = None;
        loop {
            let step = match left.take() {
                Some(step) => step,
                None => self.step(&mut putter)?,
            };
            match step {
                Step::Pass(green, value) => {
                    left = self.relayed(&mut putter, || switch(&green, &value))?;
                }
                Step::Throw(green, error) => {
                    greenlet::throw(&green, error.value(self.py()).as_any()).map(drop)?;
                }
                Step::Again => {}
                Step::Over => return Ok(()),
            }
        }
    }

    /// Leaves the hub by `switch`, and has those that leave go on meanwhile; returns what they could not do.
    fn relayed(
        &self,
        putter: &mut Option<Bound<'py, PyAny>>,
        switch: impl FnOnce() -> PyResult<()>,
    ) -> PyResult<Option<Step<'py>>> {
        let py = self.py();
        if self.kind == Kind::Ordered {
            return switch().map(|()| None);
        }
        let queue = self.this.clone().unbind();
        let relay = Relay { queue, putter: putter.take().map(Bound::unbind), left: None };
        let before = self.core.get().local()?.borrow_mut().relay.replace(relay);
        let switched = switch();
        let relay = std::mem::replace(&mut self.core.get().local()?.borrow_mut().relay, before);
        greenlet::forget_passed();
        let left = relay.and_then(|relay| {
            *putter = relay.putter.map(|putter| putter.into_bound(py));
            relay.left
        });
        switched?;
        Ok(match left {
            None => None,
            Some(Left::Pass(green, value)) => Some(Step::Pass(green.into_bound(py), value.into_bound(py))),
            Some(Left::Throw(green, error)) => Some(Step::Throw(green.into_bound(py), error)),
            Some(Left::Fail(error)) => return Err(error),
        })
    }
}

/// Goes on with the hand-over that the hub is in, on its behalf, as `me` leaves; None if the hub must.
#[inline(never)]
pub fn relay<'py>(core: &Bound<'py, Core>, me: &Bound<'py, PyAny>) -> PyResult<Option<Onward<'py>>> {
    let py = core.py();
    let relay = core.get().local()?.borrow_mut().relay.take();
    let Some(mut relay) = relay else { return Ok(None) };
    let mut next = None;
    if relay.left.is_none() {
        let mut putter = relay.putter.take().map(|putter| putter.into_bound(py));
        match look(core, relay.queue.bind(py), &mut putter) {
            Ok(found) => next = found,
            Err(left) => relay.left = Some(left),
        }
        relay.putter = putter.map(Bound::unbind);
    }
    core.get().local()?.borrow_mut().relay = Some(relay);
    match next {
        Some((green, value)) if green.is(me) => Ok(Some(Onward::Stay(value))),
        Some((green, value)) => greenlet::pass(&value).map(|()| Some(Onward::Pass(green))),
        None => Ok(None),
    }
}

/// A green thread that goes on, with what it waits for.
type Passing<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>);

/// The next to go on; `Err` is what the hub must do.
fn look<'py>(
    core: &Bound<'py, Core>,
    this: &Bound<'py, PyAny>,
    putter: &mut Option<Bound<'py, PyAny>>,
) -> Result<Option<Passing<'py>>, Left> {
    let Some(queue) = Queue::open(this) else { return Ok(None) };
    loop {
        match queue.step(putter).map_err(Left::Fail)? {
            Step::Pass(green, value) => {
                if wait::can_go_straight_to(core, &green).map_err(Left::Fail)? {
                    return Ok(Some((green, value)));
                }
                return Err(Left::Pass(green.unbind(), value.unbind()));
            }
            Step::Throw(green, error) => return Err(Left::Throw(green.unbind(), error)),
            Step::Again => {}
            Step::Over => return Ok(None),
        }
    }
}

impl Relay {
    /// Shows the garbage collector what is held.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.queue)?;
        visit.call(&self.putter)?;
        match &self.left {
            Some(Left::Pass(green, value)) => {
                visit.call(green)?;
                visit.call(value)
            }
            Some(Left::Throw(green, _)) => visit.call(green),
            Some(Left::Fail(_)) | None => Ok(()),
        }
    }
}

/// `LightQueue._unlock`.
pub struct Unlock;

impl Function for Unlock {
    const NAME: &'static CStr = c"_unlock";
    type Error = PyErr;

    fn call<'py>(this: &Bound<'py, PyAny>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        arguments.check(&[])?;
        match Queue::open(this) {
            Some(queue) if wait::in_mainloop(&queue.core)? => {
                let result = queue.unlock();
                this.setattr(intern!(py, "_event_unlock"), py.None())?;
                result.map(|()| py.None().into_bound(py))
            }
            _ => eventlets(py).unlock.bind(py).call1((this,)),
        }
    }
}
