//! The native part of the hub: scheduling, and the attributes eventlet and its users look at.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::closings::{Closings, Moment};
use super::runner::{self, Runners};
use super::state::{Descriptor, Outcome, Runnable, Side, State, Waiter};
use super::thread_bound::ThreadBound;
use super::timer::Timer;
use super::unlock::Relay;
use super::{greenlet, host, run, wait};
use crate::asyncio::{Loan, LoopCore};
use crate::proactor::Waker;
use crate::turn::now_ns;

/// What the hub's thread alone may touch.
pub struct Local {
    pub state: State,
    /// The hub's greenlet, `hub.greenlet`.
    pub greenlet: Option<Py<PyAny>>,
    pub running: bool,
    pub stopping: bool,
    pub debug_blocking: bool,
    /// `block_detect_pre` was called for the turn under way.
    pub blocking_is_watched: bool,
    /// The hub's greenlet is inside a callback, which goes on when control comes back to it.
    pub calling: bool,
    /// The hand-over between those that wait for a queue which that callback is.
    pub relay: Option<Relay>,
    /// Turns that green threads have begun since the hub's greenlet last did.
    pub renewals: u32,
    /// The asyncio loop that runs on this hub's turn and driver.
    pub guest: Option<Py<LoopCore>>,
    pub runners: Runners,
}

/// The native base of `uringhub.hub.Hub`.
#[pyclass(subclass, frozen, module = "uringhub._native", weakref)]
pub struct Core {
    local: ThreadBound<Local>,
    /// Timers that other threads scheduled; they wake the hub's wait.
    inbox: Mutex<Vec<Py<Timer>>>,
    has_inbox: AtomicBool,
    /// Descriptors that other threads closed.
    closings: Arc<Closings>,
    /// Its thread has ended.
    has_ended: AtomicBool,
    waker: Waker,
}

impl Core {
    /// The hub's own state; an error on any thread but the hub's.
    pub fn local(&self) -> PyResult<&std::cell::RefCell<Local>> {
        self.local.get().ok_or_else(|| {
            PyRuntimeError::new_err(
                "this hub belongs to another thread: a hub is only usable from the thread that made it; \
                 call eventlet.hubs.get_hub() in this thread, or schedule_call_global() on that one",
            )
        })
    }

    /// Runs `change` on the state if this is the hub's thread.
    pub fn with_state<T>(&self, change: impl FnOnce(&mut State) -> T) -> Option<T> {
        self.local.get().map(|local| change(&mut local.borrow_mut().state))
    }

    /// Ends all waits on a descriptor that is about to be closed.
    pub fn closing(&self, fd: i32) {
        self.leaving(fd);
        self.with_state(|state| {
            state.engine.closing(fd);
            state.leftovers().closing(fd);
        });
    }

    /// Ends all waits on a descriptor that its object gives away.
    pub fn leaving(&self, fd: i32) {
        self.with_state(|state| state.end_waits(fd, || Outcome::Closed));
    }

    /// Ends all waits on a descriptor number that names another file now; true if it has listeners, which the hub's
    /// greenlet then tells before anything else runs.
    pub fn reopened(&self, fd: i32) -> bool {
        if fd < 0 {
            return false;
        }
        let listened = self.with_state(|state| {
            let listened = state.known(fd).is_some_and(|known| !known.listeners.is_empty());
            state.end_waits(fd, || Outcome::Reopened);
            state.engine.closing(fd);
            listened
        });
        if listened == Some(true)
            && let Some(local) = self.local.get()
        {
            local.borrow_mut().renewals = run::RENEWALS_MAX;
        }
        listened.unwrap_or(false)
    }

    /// Whether its thread has ended.
    pub fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// What wakes the hub's wait, from any thread.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// What other threads have closed.
    pub fn closings(&self) -> &Closings {
        &self.closings
    }

    /// Moves what other threads scheduled into the turn, and ends the waits on what they closed.
    pub fn empty_inbox(slf: &Bound<'_, Self>) {
        let closings = slf.get().closings.mailbox();
        if closings.has_some() {
            slf.get().with_state(|state| {
                closings.take().into_iter().for_each(|closing| state.closing_elsewhere(closing));
            });
        }
        // Acquire pairs with the Release in `schedule`; a timer that comes later also wakes the wait.
        if slf.get().has_inbox.load(Ordering::Acquire) {
            let timers = {
                let mut inbox = slf.get().inbox.lock().unwrap_or_else(PoisonError::into_inner);
                slf.get().has_inbox.store(false, Ordering::Relaxed);
                std::mem::take(&mut *inbox)
            };
            for timer in timers {
                Self::enqueue(slf, timer);
            }
        }
        let py = slf.py();
        let guest = slf.get().with_state_of(|local| local.guest.as_ref().map(|guest| guest.clone_ref(py)));
        if let Some(guest) = guest.flatten() {
            guest.get().empty_inbox();
        }
    }

    /// A number was given to a new object: what is known of its file may be another's.
    pub fn wrapped(&self, fd: i32) {
        self.with_state(|state| state.known(fd).map(Descriptor::doubt));
    }

    fn with_state_of<T>(&self, look: impl FnOnce(&Local) -> T) -> Option<T> {
        self.local.get().map(|local| look(&local.borrow()))
    }

    /// Queues a timer on the hub's thread.
    fn enqueue(slf: &Bound<'_, Self>, timer: Py<Timer>) {
        let seconds = timer.get().seconds();
        let runnable = Runnable::Fire(timer.clone_ref(slf.py()));
        if seconds > 0.0 {
            let due_ns = deadline_ns(seconds);
            let key = slf.get().with_state(|state| state.engine.turn.push_at(due_ns, runnable));
            timer.get().set_scheduled(slf.clone().unbind(), key, due_ns as f64 / 1e9);
        } else {
            slf.get().with_state(|state| state.engine.turn.push(runnable));
        }
    }

    /// Schedules a timer, from any thread.
    pub fn schedule(slf: &Bound<'_, Self>, timer: Timer) -> PyResult<Py<Timer>> {
        let py = slf.py();
        if timer.seconds().is_nan() {
            return Err(PyValueError::new_err("a timer's delay cannot be NaN; give seconds as a number"));
        }
        let timer = Py::new(py, timer)?;
        let core = slf.get();
        if core.local.get().is_some() {
            Self::enqueue(slf, timer.clone_ref(py));
        } else {
            core.inbox.lock().unwrap_or_else(PoisonError::into_inner).push(timer.clone_ref(py));
            core.has_inbox.store(true, Ordering::Release);
            core.waker.wake();
        }
        Ok(timer)
    }
}

/// The monotonic nanosecond at which a delay of `seconds` ends; far delays saturate.
pub fn deadline_ns(seconds: f64) -> u64 {
    // `as` saturates: a negative or NaN delay is due now, an endless one never.
    now_ns().saturating_add((seconds * 1e9) as u64)
}

#[pymethods]
impl Core {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(
        py: Python<'_>,
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        greenlet::import(py)?;
        let proactor = super::config::open_proactor(py)?;
        let waker = proactor.waker();
        let local = Local {
            state: State::new(proactor),
            greenlet: None,
            running: false,
            stopping: false,
            debug_blocking: false,
            blocking_is_watched: false,
            calling: false,
            relay: None,
            renewals: 0,
            guest: None,
            runners: Runners::default(),
        };
        Ok(Self {
            local: ThreadBound::new(local),
            inbox: Mutex::default(),
            has_inbox: AtomicBool::new(false),
            closings: Closings::new(waker.clone()),
            has_ended: AtomicBool::new(false),
            waker,
        })
    }

    /// The driver under this hub, "io_uring" or "epoll".
    #[getter]
    fn driver(&self) -> PyResult<String> {
        Ok(self.local()?.borrow().state.engine.proactor.driver().to_string())
    }

    /// Why io_uring is not the driver, or None.
    #[getter]
    fn fallback_reason(&self) -> PyResult<Option<String>> {
        Ok(self.local()?.borrow().state.engine.proactor.fallback_reason().map(ToString::to_string))
    }

    /// Operations that the kernel has not completed.
    #[getter]
    fn in_flight(&self) -> PyResult<usize> {
        Ok(self.local()?.borrow().state.engine.proactor.in_flight())
    }

    /// Batches run so far.
    #[getter]
    fn turns(&self) -> PyResult<u64> {
        Ok(self.local()?.borrow().state.engine.turn.turns())
    }

    #[getter]
    fn greenlet(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        Ok(self.local()?.borrow().greenlet.as_ref().map(|greenlet| greenlet.clone_ref(py)))
    }

    #[setter]
    fn set_greenlet(&self, greenlet: Py<PyAny>) -> PyResult<()> {
        let old = self.local()?.borrow_mut().greenlet.replace(greenlet);
        drop(old);
        Ok(())
    }

    #[getter]
    fn running(&self) -> PyResult<bool> {
        Ok(self.local()?.borrow().running)
    }

    #[setter]
    fn set_running(&self, running: bool) -> PyResult<()> {
        self.local()?.borrow_mut().running = running;
        Ok(())
    }

    #[getter]
    fn stopping(&self) -> PyResult<bool> {
        Ok(self.local()?.borrow().stopping)
    }

    #[setter]
    fn set_stopping(&self, stopping: bool) -> PyResult<()> {
        self.local()?.borrow_mut().stopping = stopping;
        Ok(())
    }

    #[getter]
    fn debug_blocking(&self) -> PyResult<bool> {
        Ok(self.local()?.borrow().debug_blocking)
    }

    #[setter]
    fn set_debug_blocking(&self, debug_blocking: bool) -> PyResult<()> {
        self.local()?.borrow_mut().debug_blocking = debug_blocking;
        Ok(())
    }

    /// Makes this the hub that this thread's native operations use.
    fn make_current(slf: &Bound<'_, Self>) {
        super::current::set(Some(slf.clone().unbind()));
    }

    /// Calls `cb(*args, **kwargs)` after `seconds`; from any thread.
    #[pyo3(signature = (seconds, cb, *args, **kwargs))]
    fn schedule_call_global(
        slf: &Bound<'_, Self>,
        seconds: f64,
        cb: Py<PyAny>,
        args: Py<PyTuple>,
        kwargs: Option<Py<PyDict>>,
    ) -> PyResult<Py<Timer>> {
        Self::schedule(slf, Timer::call(seconds, cb, args, kwargs, None))
    }

    /// As `schedule_call_global`, but not if the calling green thread has ended by then.
    #[pyo3(signature = (seconds, cb, *args, **kwargs))]
    fn schedule_call_local(
        slf: &Bound<'_, Self>,
        seconds: f64,
        cb: Py<PyAny>,
        args: Py<PyTuple>,
        kwargs: Option<Py<PyDict>>,
    ) -> PyResult<Py<Timer>> {
        let owner = greenlet::current(slf.py())?.unbind();
        Self::schedule(slf, Timer::call(seconds, cb, args, kwargs, Some(owner)))
    }

    /// Throws `exception` into the calling green thread after `seconds`, unless cancelled.
    fn schedule_throw(slf: &Bound<'_, Self>, seconds: f64, exception: Py<PyAny>) -> PyResult<Py<Timer>> {
        let target = greenlet::current(slf.py())?.unbind();
        Self::schedule(slf, Timer::throw(seconds, target, exception))
    }

    /// Whether its thread has ended: nothing that is scheduled runs any more.
    #[getter(has_ended)]
    fn py_has_ended(&self) -> bool {
        self.has_ended()
    }

    /// Gives everything up, on a thread that ends: the driver, what waits, the hub's greenlet.
    fn _end(slf: &Bound<'_, Self>) -> PyResult<()> {
        let core = slf.get();
        if super::current::get(slf.py()).is_some_and(|current| current.is(slf)) {
            super::current::set(None);
        }
        core.has_ended.store(true, Ordering::Release);
        core.closings.end();
        let all = {
            let mut local = core.local()?.borrow_mut();
            local.stopping = true;
            let state = local.state.retire();
            let greenlets = (local.greenlet.take(), std::mem::take(&mut local.runners.idle));
            (state, greenlets, local.guest.take(), local.relay.take())
        };
        drop(all);
        let inbox = std::mem::take(&mut *core.inbox.lock().unwrap_or_else(PoisonError::into_inner));
        drop(inbox);
        super::held::bury();
        Ok(())
    }

    /// Suspends the calling green thread until something switches to it; returns what that passes.
    fn switch<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        wait::switch(slf)
    }

    /// Lends the hub's engine to the loop that is to run on it.
    fn _lend(slf: &Bound<'_, Self>) -> Loan {
        host::lend(slf)
    }

    /// The loop that the engine was lent to.
    fn _take_in(&self, guest: Py<LoopCore>) -> PyResult<()> {
        let old = self.local()?.borrow_mut().guest.replace(guest);
        drop(old);
        Ok(())
    }

    /// The function of the greenlets that run handles.
    fn _run_handles(slf: &Bound<'_, Self>) -> PyResult<()> {
        runner::live(slf)
    }

    /// Waits for completions at most `seconds`, or without end, and takes them.
    #[pyo3(signature = (seconds=None))]
    fn _poll(slf: &Bound<'_, Self>, seconds: Option<f64>) -> PyResult<()> {
        run::poll(slf, seconds)
    }

    /// Ends all waits on a descriptor number that names another file now; True if it has listeners.
    fn _reopened(&self, fd: i32) -> bool {
        self.reopened(fd)
    }

    /// Watches a descriptor for a listener, level-triggered, until `_unwatch`; returns the watch's number.
    fn _watch(&self, fd: i32, write: bool, listener: Py<PyAny>) -> PyResult<u64> {
        let side = if write { Side::Write } else { Side::Read };
        let mut local = self.local()?.borrow_mut();
        let waiter = Waiter {
            who: listener,
            is_listener: true,
            place: Some((fd, side)),
            op: None,
            pending: None,
            timer: None,
            outcome: None,
            begun: Moment::now(),
        };
        let id = local.state.waiters.insert(waiter);
        local.state.descriptor(fd).listeners.push(id);
        local.state.rearm(id);
        Ok(id.token())
    }

    /// Ends a watch.
    fn _unwatch(&self, watch: u64) -> PyResult<()> {
        let waiter = self.local()?.borrow_mut().state.unwatch(watch);
        drop(waiter);
        Ok(())
    }

    /// The native waits of one side, as `(fd, green thread)` pairs.
    fn _waiting(&self, py: Python<'_>, write: bool) -> PyResult<Vec<(i32, Py<PyAny>)>> {
        let side = if write { Side::Write } else { Side::Read };
        let local = self.local()?.borrow();
        Ok(local.state.waiting(side).map(|(fd, waiter)| (fd, waiter.who.clone_ref(py))).collect())
    }

    /// The scheduled calls as `(scheduled_time, Timer)` pairs: those with a deadline, or those due now.
    fn _timers(&self, py: Python<'_>, due: bool) -> PyResult<Vec<(Option<f64>, Py<Timer>)>> {
        let local = self.local()?.borrow();
        let turn = &local.state.engine.turn;
        let pick = |runnable: &Runnable| match runnable {
            Runnable::Fire(timer) => Some(timer.clone_ref(py)),
            _ => None,
        };
        let timers: Vec<_> = if due {
            turn.ready().filter_map(pick).collect()
        } else {
            turn.timed().filter_map(pick).collect()
        };
        drop(local);
        Ok(timers.into_iter().map(|timer| (timer.get().scheduled(), timer)).collect())
    }

    /// Scheduled calls and sleeping green threads, with the ready ones and the cancelled ones not yet
    /// removed.
    fn get_timers_count(&self) -> PyResult<usize> {
        let local = self.local()?.borrow();
        Ok(local.state.engine.turn.timed_len()
            + local.state.engine.turn.cancelled_len()
            + local.state.engine.turn.ready_len())
    }

    /// Cancelled calls not yet removed.
    #[getter]
    fn timers_canceled(&self) -> PyResult<usize> {
        Ok(self.local()?.borrow().state.engine.turn.cancelled_len())
    }

    /// Forgets all that is scheduled, as the end of `run` does.
    fn _clear(&self) -> PyResult<()> {
        let all = self.local()?.borrow_mut().state.engine.turn.drain();
        drop(all);
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(local) = self.local.get() else { return Ok(()) };
        let Ok(local) = local.try_borrow() else { return Ok(()) };
        visit.call(&local.greenlet)?;
        for waiter in local.state.waiters.values() {
            visit.call(&waiter.who)?;
        }
        visit.call(&local.guest)?;
        if let Some(relay) = &local.relay {
            relay.traverse(&visit)?;
        }
        for runnable in local.state.engine.turn.ready() {
            if let Runnable::Grant(semaphore) = runnable {
                visit.call(semaphore)?;
            }
        }
        local.state.engine.traverse(&visit)
    }

    fn __clear__(&self) {
        let Some(local) = self.local.get() else { return };
        let Ok(mut local) = local.try_borrow_mut() else { return };
        let all = local.state.engine.turn.drain();
        let greenlet = local.greenlet.take();
        let guest = local.guest.take();
        let idle = std::mem::take(&mut local.runners.idle);
        drop(local);
        drop((all, greenlet, guest, idle));
    }
}
