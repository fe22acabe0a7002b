//! The native base of `uringhub.loop.Loop`: scheduling, readers and writers, and the loop's flags.

use std::cell::RefMut;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::cell::LoopCell;
use super::closing::Numbers;
use super::engine::{Engine, Runnable, Side, Sink, SinkId};
use super::handle::{self, handles};
use super::home::{Home, Loan, Place};
use super::kept::Kept;
use super::{run, stream};
use crate::closings::Mailbox;
use crate::proactor::{DriverKind, Waker};
use crate::turn::{TimerKey, now_ns};

/// The native base of an asyncio loop.
#[pyclass(subclass, frozen, module = "uringhub._native", weakref)]
pub struct LoopCore {
    pub(super) engine: Home,
    /// Handles that other threads scheduled; they wake the wait.
    pub(super) inbox: Mutex<Vec<Py<PyAny>>>,
    pub(super) has_inbox: AtomicBool,
    waker: Mutex<Waker>,
    closed: AtomicBool,
    debug: AtomicBool,
    stopping: AtomicBool,
    pub(super) parked: AtomicBool,
    /// Of the loop's own engine.
    pub(super) numbers: Option<Arc<Numbers>>,
    /// What other threads have closed.
    pub(super) closings: Mailbox,
    /// Made with the first large receive.
    scratch: Mutex<Vec<u8>>,
    /// `{"loop": self}`, what every future is made with; nobody changes it.
    named_loop: Kept<PyDict>,
    /// `self.call_soon`.
    call_soon: Kept<PyAny>,
}

impl LoopCore {
    /// The engine; an error on a closed loop, and on a thread other than that which runs it.
    #[inline]
    pub fn engine(&self) -> PyResult<Place<'_>> {
        let Some(place) = self.engine.get() else {
            return Err(PyRuntimeError::new_err(
                "Non-thread-safe operation invoked on an event loop other than the current one",
            ));
        };
        if place.is_open() { Ok(place) } else { Err(closed()) }
    }

    /// The engine, to be changed; fails as `engine` does. No Python code may run and no reference be dropped meanwhile.
    #[inline]
    pub fn engine_mut(&self) -> PyResult<RefMut<'_, Engine>> {
        match self.engine.get().and_then(|place| place.try_borrow_mut()) {
            Some(engine) => Ok(engine),
            None => Ok(self.engine()?.borrow_mut()),
        }
    }

    /// Runs `change` if the loop is open and this thread may touch it.
    pub fn with_engine<T>(&self, change: impl FnOnce(&mut Engine) -> T) -> Option<T> {
        let mut engine = self.engine.get()?.try_borrow_mut()?;
        Some(change(&mut engine))
    }

    /// Lends the buffer for large receives.
    pub fn with_scratch<T>(&self, fill: impl FnOnce(&mut [u8]) -> T) -> T {
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        if scratch.is_empty() {
            scratch.resize(super::stream::PIECE_MAX, 0);
        }
        fill(&mut scratch)
    }

    /// The keyword arguments of a future of this loop.
    #[inline]
    pub fn named_loop<'py>(&self, core: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        self.named_loop.get(core.py(), || {
            let named = PyDict::new(core.py());
            named.set_item(intern!(core.py(), "loop"), core)?;
            Ok(named)
        })
    }

    /// `self.call_soon`, which `make` makes the first time.
    #[inline]
    pub fn bound_call_soon<'py>(
        &self,
        py: Python<'py>,
        make: impl FnOnce() -> PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.call_soon.get(py, make)
    }

    /// Drops what the engine could not drop while it was borrowed.
    pub fn bury(&self) {
        let dead = self.with_engine(|engine| {
            (!engine.graveyard.is_empty()).then(|| std::mem::take(&mut engine.graveyard))
        });
        drop(dead);
    }

    /// Debug mode.
    #[inline]
    pub fn debug(&self) -> bool {
        self.debug.load(Ordering::Relaxed)
    }

    /// `stop()` was called.
    #[inline]
    pub fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Takes a timer out of the store.
    pub fn cancel_timer(&self, key: TimerKey) -> bool {
        let cancelled = self.with_engine(|engine| engine.turn.cancel(key)).flatten();
        cancelled.is_some()
    }

    /// Runs a handle as the stock loop does in debug mode: timed, and reported when slow.
    pub fn run_in_debug(slf: &Bound<'_, Self>, handle: &Bound<'_, PyAny>) -> PyResult<()> {
        slf.call_method1(intern!(slf.py(), "_run_in_debug"), (handle,)).map(drop)
    }

    /// Whether the loop is closed.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Whether the calling thread was the last to run the loop.
    pub fn ran_here(&self) -> bool {
        self.engine.was_mine()
    }

    /// An error on a closed loop.
    #[inline]
    pub fn check_closed(&self) -> PyResult<()> {
        if self.closed.load(Ordering::Relaxed) { Err(closed()) } else { Ok(()) }
    }

    /// Wakes the wait.
    pub fn waker(&self) -> std::sync::MutexGuard<'_, Waker> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> PyErr {
    PyRuntimeError::new_err("Event loop is closed")
}

#[pymethods]
impl LoopCore {
    #[new]
    #[pyo3(signature = (*args, **_kwargs))]
    fn new(py: Python<'_>, args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let loan = args.get_item(0).ok().and_then(|loan| loan.cast_into::<Loan>().ok());
        let (engine, waker, numbers) = match loan.and_then(|loan| loan.get().take()) {
            Some(host) => {
                let waker = host.waker();
                (Home::Lent(host), waker, None)
            }
            None => {
                let engine = Engine::new(super::config::open_proactor(py)?);
                let (waker, numbers) = (engine.proactor.waker(), engine.numbers.clone());
                (Home::Own(LoopCell::new(Some(engine))), waker, Some(numbers))
            }
        };
        Ok(Self {
            engine,
            inbox: Mutex::default(),
            has_inbox: AtomicBool::new(false),
            waker: Mutex::new(waker),
            closed: AtomicBool::new(false),
            debug: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            parked: AtomicBool::new(false),
            numbers,
            closings: Mailbox::default(),
            scratch: Mutex::default(),
            named_loop: Kept::default(),
            call_soon: Kept::default(),
        })
    }

    /// The driver under this loop, "io_uring" or "epoll".
    #[getter]
    fn driver(&self) -> PyResult<&'static str> {
        Ok(match self.engine()?.borrow().proactor.driver() {
            DriverKind::Uring => "io_uring",
            DriverKind::Epoll => "epoll",
        })
    }

    /// Why io_uring is not the driver, or None.
    #[getter]
    fn fallback_reason(&self) -> PyResult<Option<String>> {
        Ok(self.engine()?.borrow().proactor.fallback_reason().map(ToString::to_string))
    }

    /// Operations that the kernel has not completed.
    #[getter]
    fn in_flight(&self) -> PyResult<usize> {
        Ok(self.engine()?.borrow().proactor.in_flight())
    }

    /// Batches run so far.
    #[getter]
    fn turns(&self) -> PyResult<u64> {
        Ok(self.engine()?.borrow().turn.turns())
    }

    #[getter(_closed)]
    fn closed_flag(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    #[setter(_closed)]
    fn set_closed_flag(&self, closed: bool) {
        self.closed.store(closed, Ordering::Relaxed);
    }

    #[getter(_debug)]
    fn debug_flag(&self) -> bool {
        self.debug()
    }

    #[setter(_debug)]
    fn set_debug_flag(&self, debug: &Bound<'_, PyAny>) -> PyResult<()> {
        self.debug.store(debug.is_truthy()?, Ordering::Relaxed);
        Ok(())
    }

    #[getter(_stopping)]
    fn stopping_flag(&self) -> bool {
        self.stopping()
    }

    #[setter(_stopping)]
    fn set_stopping_flag(&self, stopping: bool) {
        self.stopping.store(stopping, Ordering::Relaxed);
    }

    /// Debug mode; the C futures and tasks ask with each one made.
    fn get_debug(&self) -> bool {
        self.debug()
    }

    /// A future of this loop.
    fn create_future<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        super::future::create_future(slf)
    }

    /// A task of this loop, of the task factory if there is one.
    #[pyo3(signature = (coro, *, name=None, context=None, **kwargs))]
    fn create_task<'py>(
        slf: &Bound<'py, Self>,
        coro: Bound<'py, PyAny>,
        name: Option<Bound<'py, PyAny>>,
        context: Option<Bound<'py, PyAny>>,
        kwargs: Option<Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        super::future::create_task(slf, coro, name, context, kwargs)
    }

    /// Seconds of the monotonic clock.
    fn time(&self) -> f64 {
        now_ns() as f64 / 1e9
    }

    /// Arranges for `callback(*args)` in the next turn; returns its handle.
    ///
    /// The general form of what `soon` does.
    #[pyo3(signature = (callback, *args, context=None))]
    fn _call_soon<'py>(
        slf: &Bound<'py, Self>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let core = slf.get();
        let handle = Self::make(slf, "call_soon", callback, args, context)?;
        core.push(handle.clone().unbind())?;
        Ok(handle)
    }

    /// As `call_soon`, from any thread.
    #[pyo3(signature = (callback, *args, context=None))]
    fn call_soon_threadsafe<'py>(
        slf: &Bound<'py, Self>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let core = slf.get();
        let handle = Self::make(slf, "call_soon_threadsafe", callback, args, context)?;
        core.post(handle.clone().unbind());
        Ok(handle)
    }

    /// Arranges for `callback(*args)` after `delay` seconds; returns its handle.
    #[pyo3(signature = (delay, callback, *args, context=None))]
    fn call_later<'py>(
        slf: &Bound<'py, Self>,
        delay: &Bound<'py, PyAny>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if delay.is_none() {
            return Err(PyTypeError::new_err("delay must not be None"));
        }
        let when = handle::after(slf.get().time(), delay)?;
        Self::at(slf, when, handle::float(slf.py(), when), callback, args, context)
    }

    /// Arranges for `callback(*args)` at the time `when` of the loop's clock; returns its handle.
    #[pyo3(signature = (when, callback, *args, context=None))]
    fn call_at<'py>(
        slf: &Bound<'py, Self>,
        when: Bound<'py, PyAny>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if when.is_none() {
            return Err(PyTypeError::new_err("when cannot be None"));
        }
        Self::at(slf, when.extract()?, when, callback, args, context)
    }

    /// Enters a timer handle that a foreign thread has made.
    fn _put_in_timer(slf: &Bound<'_, Self>, when: f64, handle: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::put_in_timer(slf, when, handle)
    }

    /// Queues a handle that was made elsewhere.
    fn _add_callback(slf: &Bound<'_, Self>, handle: &Bound<'_, PyAny>) -> PyResult<()> {
        if handles(slf.py())?.is_cancelled(handle)? {
            return Ok(());
        }
        slf.get().push(handle.clone().unbind())
    }

    /// Wakes the wait, from any thread.
    fn _write_to_self(&self) {
        self.waker().wake();
    }

    /// Watches a descriptor for reading; the callback runs while it is readable. Returns the handle.
    #[pyo3(signature = (fd, callback, *args))]
    fn _add_reader<'py>(
        slf: &Bound<'py, Self>,
        fd: &Bound<'py, PyAny>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::add(slf, fd, Side::Read, callback, args)
    }

    /// Watches a descriptor for writing.
    #[pyo3(signature = (fd, callback, *args))]
    fn _add_writer<'py>(
        slf: &Bound<'py, Self>,
        fd: &Bound<'py, PyAny>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::add(slf, fd, Side::Write, callback, args)
    }

    /// Ends a reader; True if there was one.
    fn _remove_reader(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        Self::unwatch(slf, fd, Side::Read)
    }

    /// Ends a writer; True if there was one.
    fn _remove_writer(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        Self::unwatch(slf, fd, Side::Write)
    }

    /// Calls back in a later turn once a child has ended; returns a pidfd for `_reap_child`.
    fn _watch_child(slf: &Bound<'_, Self>, pid: i32, callback: Bound<'_, PyAny>) -> PyResult<RawFd> {
        Self::watch_child(slf, pid, callback)
    }

    /// For that callback: the child's return code; None if somebody else has taken it.
    fn _reap_child(slf: &Bound<'_, Self>, pidfd: RawFd, pid: i32) -> PyResult<Option<i32>> {
        Self::reap(slf, pidfd, pid)
    }

    /// The handles that watch a descriptor, as `(reader, writer)`; a receiving transport counts as True.
    fn _watchers(&self, py: Python<'_>, fd: RawFd) -> PyResult<(Py<PyAny>, Py<PyAny>)> {
        let engine = self.engine()?;
        let engine = engine.borrow();
        let show = |side| match engine.watcher(fd, side) {
            Some(Sink::Watch(watch)) => watch.handle.clone_ref(py),
            Some(Sink::Receiver(receiver)) => {
                pyo3::types::PyBool::new(py, receiver.is_wanted()).to_owned().into_any().unbind()
            }
            _ => py.None(),
        };
        Ok((show(Side::Read), show(Side::Write)))
    }

    /// The handles that are ready to run.
    fn _ready_handles(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.with_engine(|engine| engine.turn.ready().filter_map(|entry| shown(py, entry)).collect())
            .unwrap_or_default()
    }

    /// The handles that wait for their time, in no particular order.
    fn _scheduled_handles(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.with_engine(|engine| engine.turn.timed().filter_map(|entry| shown(py, entry)).collect())
            .unwrap_or_default()
    }

    /// Hands over what a receiver has got.
    fn _deliver(slf: &Bound<'_, Self>, receiver: u64) -> PyResult<()> {
        stream::deliver(slf, SinkId::from_token(receiver))
    }

    /// The calling thread runs the loop from now on.
    fn _enter(&self, py: Python<'_>) -> PyResult<()> {
        self.enter(py)
    }

    /// The loop has stopped. With `park`, it may go on on another thread.
    fn _leave(&self, park: bool) {
        self.leave(park);
        self.bury();
    }

    /// Runs turns until `stop()`.
    fn _run_turns(slf: &Bound<'_, Self>) -> PyResult<()> {
        while !run::turn(slf)? {}
        Ok(())
    }

    /// Runs one turn.
    fn _run_once(slf: &Bound<'_, Self>) -> PyResult<()> {
        run::turn(slf).map(drop)
    }

    /// From now on the loop is told of sockets that are about to be closed.
    fn _follow_closes(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::follow_closes(slf)
    }

    /// Gives everything up: handles, operations, the driver.
    fn _close(&self) {
        // Dropping references runs code, and the driver waits for its cancelled operations.
        if let Some(mut engine) = self.engine.get().and_then(|place| place.take()) {
            let held = engine.retire();
            drop(engine);
            drop(held);
        }
        let inbox = std::mem::take(&mut *self.inbox.lock().unwrap_or_else(PoisonError::into_inner));
        drop((inbox, self.named_loop.take(), self.call_soon.take()));
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(inbox) = self.inbox.try_lock() {
            for handle in inbox.iter() {
                visit.call(handle)?;
            }
        }
        self.named_loop.traverse(&visit)?;
        self.call_soon.traverse(&visit)?;
        match &self.engine {
            // What a lent engine holds, its host shows.
            Home::Lent(host) => visit.call(host.object()),
            Home::Own(cell) => match cell.get().and_then(|cell| cell.try_borrow().ok()) {
                Some(engine) => engine.as_ref().map_or(Ok(()), |engine| engine.traverse(&visit)),
                None => Ok(()),
            },
        }
    }

    fn __clear__(&self) {
        self._close();
    }
}

fn shown(py: Python<'_>, runnable: &Runnable) -> Option<Py<PyAny>> {
    match runnable {
        Runnable::Handle(handle) => Some(handle.clone_ref(py)),
        _ => None,
    }
}
