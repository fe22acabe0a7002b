//! `eventlet.queue`: put and get; `unlock` hands over between them.
//!
//! This is eventlet's own algorithm, with eventlet's own waiters in the same sets, so that what a program
//! sees of a queue (`getters`, `putters`, who runs when) does not change. Queues of eventlet's four classes
//! are served; of those, the two ordered ones keep their Python `_put` and `_get`. A subclass may override
//! anything, and gets eventlet's own code, as does every call that neither succeeds at once nor waits
//! without a timeout.

use std::ffi::CStr;

use pyo3::exceptions::PyAssertionError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PySet, PyTuple, PyType};

use super::core::Core;

use super::timer::Timer;
use super::{current, event, greenlet, unlock, wait};
use crate::fastcall::{self, Arguments, Function, Slot, attribute};
use crate::raised::{Raised, raise};

pub struct Eventlets {
    light: Py<PyType>,
    queue: Py<PyType>,
    /// The classes that order their items.
    ordered: [Py<PyType>; 2],
    waiter: Py<PyType>,
    item_waiter: Py<PyType>,
    /// `Waiter.greenlet`, `ItemWaiter.item` and `ItemWaiter.block`.
    pub greenlet: Slot,
    pub item: Slot,
    pub block: Slot,
    /// The item of a putter whose item was taken.
    pub none: Py<PyAny>,
    pub full: Py<PyAny>,
    put: Py<PyAny>,
    get: Py<PyAny>,
    pub unlock: Py<PyAny>,
}

static EVENTLETS: PyOnceLock<Eventlets> = PyOnceLock::new();

/// Replaces the methods of eventlet's queues.
#[pyfunction]
pub fn bind_queue(module: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = module.py();
    let class =
        |name: &str| -> PyResult<Py<PyType>> { Ok(module.getattr(name)?.cast_into::<PyType>()?.unbind()) };
    let light = module.getattr("LightQueue")?.cast_into::<PyType>()?;
    let slot = |class: &str, name: &str| -> PyResult<Slot> { Slot::of(&module.getattr(class)?, name) };
    let eventlets = Eventlets {
        light: light.clone().unbind(),
        queue: class("Queue")?,
        ordered: [class("PriorityQueue")?, class("LifoQueue")?],
        waiter: class("Waiter")?,
        item_waiter: class("ItemWaiter")?,
        greenlet: slot("Waiter", "greenlet")?,
        item: slot("ItemWaiter", "item")?,
        block: slot("ItemWaiter", "block")?,
        none: module.getattr("_NONE")?.unbind(),
        full: module.getattr("Full")?.unbind(),
        put: light.getattr("put")?.unbind(),
        get: light.getattr("get")?.unbind(),
        unlock: light.getattr("_unlock")?.unbind(),
    };
    let _ = EVENTLETS.set(py, eventlets);
    fastcall::bind::<Put>(&light)?;
    fastcall::bind::<Get>(&light)?;
    fastcall::bind::<unlock::Unlock>(&light)
}

pub fn eventlets(py: Python<'_>) -> &Eventlets {
    EVENTLETS.get(py).expect("the methods were bound after this was set")
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Light,
    Counting,
    Ordered,
}

/// A queue of one of eventlet's own classes, on a thread whose hub is ours.
pub struct Queue<'a, 'py> {
    pub this: &'a Bound<'py, PyAny>,
    pub core: Bound<'py, Core>,
    pub kind: Kind,
}

impl<'a, 'py> Queue<'a, 'py> {
    /// None where eventlet's own code must run.
    pub fn open(this: &'a Bound<'py, PyAny>) -> Option<Self> {
        let py = this.py();
        let (known, class) = (eventlets(py), this.get_type());
        let kind = if class.is(&known.queue) {
            Kind::Counting
        } else if class.is(&known.light) {
            Kind::Light
        } else if known.ordered.iter().any(|ordered| class.is(ordered)) {
            Kind::Ordered
        } else {
            return None;
        };
        Some(Self { this, core: current::get(py)?, kind })
    }

    pub fn py(&self) -> Python<'py> {
        self.this.py()
    }

    /// What the queue holds: a deque, or a list where items are ordered.
    pub fn items(&self) -> PyResult<Bound<'py, PyAny>> {
        attribute(self.this, intern!(self.py(), "queue"))
    }

    /// Whether one more item fits besides so many.
    pub fn has_room(&self, len: usize) -> PyResult<bool> {
        let maxsize = attribute(self.this, intern!(self.py(), "maxsize"))?;
        Ok(maxsize.is_none() || maxsize.gt(len)?)
    }

    pub fn getters(&self) -> PyResult<Bound<'py, PySet>> {
        Ok(attribute(self.this, intern!(self.py(), "getters"))?.cast_into()?)
    }

    pub fn putters(&self) -> PyResult<Bound<'py, PySet>> {
        Ok(attribute(self.this, intern!(self.py(), "putters"))?.cast_into()?)
    }

    /// `queue._put(item)`; `items` is what the queue holds.
    #[inline(never)]
    pub fn add(&self, items: &Bound<'py, PyAny>, item: &Bound<'py, PyAny>) -> PyResult<()> {
        let py = self.py();
        if self.kind == Kind::Ordered {
            return self.this.call_method1(intern!(py, "_put"), (item,)).map(drop);
        }
        items.call_method1(intern!(py, "append"), (item,))?;
        if self.kind == Kind::Counting {
            let tasks = attribute(self.this, intern!(py, "unfinished_tasks"))?.extract::<i64>()?;
            self.this.setattr(intern!(py, "unfinished_tasks"), tasks + 1)?;
            let cond = attribute(self.this, intern!(py, "_cond"))?;
            if event::is_ready(&cond)? {
                cond.call_method0(intern!(py, "reset"))?;
            }
        }
        Ok(())
    }

    /// `queue._get()`.
    #[inline(never)]
    pub fn take(&self, items: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py();
        if self.kind == Kind::Ordered {
            return self.this.call_method0(intern!(py, "_get"));
        }
        items.call_method0(intern!(py, "popleft"))
    }

    /// `queue._schedule_unlock()`.
    #[inline(never)]
    pub fn schedule_unlock(&self) -> PyResult<()> {
        let py = self.py();
        if !attribute(self.this, intern!(py, "_event_unlock"))?.is_none() {
            return Ok(());
        }
        let unlock = self.this.getattr(intern!(py, "_unlock"))?.unbind();
        let timer = Timer::call(0.0, unlock, PyTuple::empty(py).unbind(), None::<Py<PyDict>>, None);
        let timer = Core::schedule(&self.core, timer)?;
        self.this.setattr(intern!(py, "_event_unlock"), timer)
    }

    /// Enters the calling green thread among the putters, until its item was taken or there is room for it.
    fn enter_putters(&self, item: &Bound<'py, PyAny>) -> PyResult<Parked<'py>> {
        let py = self.py();
        let waiter = greenlet::allocate(eventlets(py).item_waiter.bind(py))?;
        let known = eventlets(py);
        known.item.set(&waiter, item)?;
        known.block.set(&waiter, &PyBool::new(py, true))?;
        let me = greenlet::current(py)?;
        known.greenlet.set(&waiter, &me)?;
        self.putters()?.add(&waiter)?;
        if self.getters()?.len() > 0 {
            self.schedule_unlock()?;
        }
        Ok(Parked { waiter, me })
    }

    fn leave_putters(
        &self,
        waiter: &Bound<'py, PyAny>,
        woken: PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py();
        let known = eventlets(py);
        known.greenlet.set(waiter, py.None().bind(py))?;
        let result = woken.and_then(|woken| {
            if !woken.is(waiter) {
                let text = format!("Invalid switch into Queue.put: {}", woken.repr()?);
                return Err(PyAssertionError::new_err(text));
            }
            let item = known.item.get(waiter)?;
            if item.is(&known.none) { Ok(()) } else { self.add(&self.items()?, &item) }
        });
        self.putters()?.discard(waiter)?;
        result.map(|()| py.None().into_bound(py))
    }

    /// Enters the calling green thread among the getters, until there is an item for it.
    fn enter_getters(&self) -> PyResult<Parked<'py>> {
        let py = self.py();
        let waiter = greenlet::allocate(eventlets(py).waiter.bind(py))?;
        let me = greenlet::current(py)?;
        eventlets(py).greenlet.set(&waiter, &me)?;
        self.getters()?.add(&waiter)?;
        if self.putters()?.len() > 0 {
            self.schedule_unlock()?;
        }
        Ok(Parked { waiter, me })
    }

    fn leave_getters(
        &self,
        waiter: &Bound<'py, PyAny>,
        woken: PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py();
        eventlets(py).greenlet.set(waiter, py.None().bind(py))?;
        if woken.is_err() {
            self.schedule_unlock()?;
        }
        self.getters()?.discard(waiter)?;
        woken
    }

    /// Leaves the calling green thread, once it has been entered.
    #[inline]
    fn leave(&self, parked: &Parked<'py>) -> Result<Bound<'py, PyAny>, Raised> {
        self.is_to_leave(parked)?;
        wait::leave(&self.core, &parked.me)
    }

    #[inline(never)]
    fn get_up(
        &self,
        parked: &Parked<'py>,
        woken: Result<Bound<'py, PyAny>, Raised>,
        end: End<'a, 'py>,
    ) -> Result<Bound<'py, PyAny>, Raised> {
        let woken = woken.map_err(|raised| raised.fetch(self.py()));
        raise(self.py(), end(self, &parked.waiter, woken))
    }

    #[inline(never)]
    fn is_to_leave(&self, parked: &Parked<'py>) -> Result<(), Raised> {
        raise(self.py(), wait::enter(&self.core, &parked.me))
    }
}

/// A green thread among the putters or getters.
struct Parked<'py> {
    waiter: Bound<'py, PyAny>,
    me: Bound<'py, PyAny>,
}

/// What a call has still to do.
enum Begun<'a, 'py> {
    Done(Bound<'py, PyAny>),
    Wait(Queue<'a, 'py>, Parked<'py>),
}

/// Makes of what woke a green thread what its call returns.
type End<'a, 'py> =
    fn(&Queue<'a, 'py>, &Bound<'py, PyAny>, PyResult<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>>;

impl<'a, 'py> Begun<'a, 'py> {
    /// A call up to the wait, in a frame that is gone by then.
    #[inline(never)]
    fn new(
        this: &'a Bound<'py, PyAny>,
        arguments: &Arguments<'_, 'py>,
        begin: fn(&'a Bound<'py, PyAny>, &Arguments<'_, 'py>) -> PyResult<Self>,
    ) -> Result<Self, Raised> {
        raise(this.py(), begin(this, arguments))
    }

    /// Waits, if there is something to wait for.
    #[inline]
    fn finish(self, end: End<'a, 'py>) -> Result<Bound<'py, PyAny>, Raised> {
        match self {
            Self::Done(value) => Ok(value),
            Self::Wait(queue, parked) => {
                let woken = queue.leave(&parked);
                queue.get_up(&parked, woken, end)
            }
        }
    }
}

struct Put;

impl Function for Put {
    const NAME: &'static CStr = c"put";
    type Error = Raised;

    fn call<'py>(
        this: &Bound<'py, PyAny>,
        arguments: Arguments<'_, 'py>,
    ) -> Result<Bound<'py, PyAny>, Raised> {
        Begun::new(this, &arguments, Self::begin)?.finish(Queue::leave_putters)
    }
}

impl Put {
    fn begin<'a, 'py>(
        this: &'a Bound<'py, PyAny>,
        arguments: &Arguments<'_, 'py>,
    ) -> PyResult<Begun<'a, 'py>> {
        let py = this.py();
        arguments.check(&["item", "block", "timeout"])?;
        let item = arguments.require(0, "item")?;
        let (block, timeout) = (arguments.named(1, "block")?, arguments.named(2, "timeout")?);
        if let Some(queue) = Queue::open(this) {
            let items = queue.items()?;
            if queue.has_room(items.len()?)? {
                queue.add(&items, &item)?;
                if queue.getters()?.len() > 0 {
                    queue.schedule_unlock()?;
                }
                return Ok(Begun::Done(py.None().into_bound(py)));
            }
            if block.is_none() && timeout.as_ref().is_none_or(|timeout| timeout.is_none()) {
                let parked = queue.enter_putters(&item)?;
                return Ok(Begun::Wait(queue, parked));
            }
        }
        let block = block.unwrap_or_else(|| PyBool::new(py, true).to_owned().into_any());
        eventlets(py).put.bind(py).call1((this, item, block, timeout)).map(Begun::Done)
    }
}

struct Get;

impl Function for Get {
    const NAME: &'static CStr = c"get";
    type Error = Raised;

    fn call<'py>(
        this: &Bound<'py, PyAny>,
        arguments: Arguments<'_, 'py>,
    ) -> Result<Bound<'py, PyAny>, Raised> {
        Begun::new(this, &arguments, Self::begin)?.finish(Queue::leave_getters)
    }
}

impl Get {
    fn begin<'a, 'py>(
        this: &'a Bound<'py, PyAny>,
        arguments: &Arguments<'_, 'py>,
    ) -> PyResult<Begun<'a, 'py>> {
        let py = this.py();
        arguments.check(&["block", "timeout"])?;
        let (block, timeout) = (arguments.named(0, "block")?, arguments.named(1, "timeout")?);
        if let Some(queue) = Queue::open(this) {
            let items = queue.items()?;
            if items.len()? > 0 {
                if queue.putters()?.len() > 0 {
                    queue.schedule_unlock()?;
                }
                return queue.take(&items).map(Begun::Done);
            }
            if block.is_none() && timeout.as_ref().is_none_or(|timeout| timeout.is_none()) {
                let parked = queue.enter_getters()?;
                return Ok(Begun::Wait(queue, parked));
            }
        }
        let block = block.unwrap_or_else(|| PyBool::new(py, true).to_owned().into_any());
        eventlets(py).get.bind(py).call1((this, block, timeout)).map(Begun::Done)
    }
}
