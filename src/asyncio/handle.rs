//! Handles: real `asyncio.Handle` objects, made, cancelled and run natively.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::exceptions::{PyKeyboardInterrupt, PyRuntimeError, PySystemExit};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyFloat, PyInt, PyTuple, PyType};
use slotmap::{Key, KeyData};

use super::context;
use super::core::LoopCore;
use super::slots::{self, Slot};
use super::spare::{self, Place};
use crate::fastcall::{self, Arguments, Function};
use crate::turn::TimerKey;

/// What is known of the handle classes.
pub struct Handles {
    plain: Py<PyType>,
    timer: Py<PyType>,
    /// `asyncio.Handle` and its `_run` as they were; monitors replace the latter.
    stock: Py<PyType>,
    stock_timer: Py<PyType>,
    stock_run: Py<PyAny>,
    /// The version of `asyncio.Handle` at which its `_run` was seen to be its own.
    unwatched: AtomicU32,
    /// `report(handle, exception)`.
    report: Py<PyAny>,
    callback: Slot,
    args: Slot,
    cancelled: Slot,
    the_loop: Slot,
    repr: Slot,
    context: Slot,
    when: Slot,
    scheduled: Slot,
    key: Slot,
}

static HANDLES: PyOnceLock<Handles> = PyOnceLock::new();

/// The handle classes; known once `uringhub.loop` is imported.
#[inline]
pub fn handles(py: Python<'_>) -> PyResult<&'static Handles> {
    HANDLES.get(py).ok_or_else(|| PyRuntimeError::new_err("uringhub.loop has not been imported"))
}

/// Tells the classes of handles: subclasses of `asyncio.Handle` and `asyncio.TimerHandle` (with a slot
/// `_key`), and what reports a failed callback.
#[pyfunction]
pub fn set_handle_classes(
    plain: &Bound<'_, PyType>,
    timer: &Bound<'_, PyType>,
    report: Py<PyAny>,
) -> PyResult<()> {
    let py = plain.py();
    let stock = plain.getattr("__base__")?.cast_into::<PyType>()?;
    let stock_timer = timer.getattr("__base__")?.cast_into::<PyType>()?;
    let handles = Handles {
        stock_run: stock.getattr("_run")?.unbind(),
        unwatched: AtomicU32::new(0),
        stock: stock.clone().unbind(),
        stock_timer: stock_timer.clone().unbind(),
        plain: plain.clone().unbind(),
        timer: timer.clone().unbind(),
        report,
        callback: Slot::find(&stock, "_callback")?,
        args: Slot::find(&stock, "_args")?,
        cancelled: Slot::find(&stock, "_cancelled")?,
        the_loop: Slot::find(&stock, "_loop")?,
        repr: Slot::find(&stock, "_repr")?,
        context: Slot::find(&stock, "_context")?,
        when: Slot::find(&stock_timer, "_when")?,
        scheduled: Slot::find(&stock_timer, "_scheduled")?,
        key: Slot::find(timer, "_key")?,
    };
    let source_traceback = Slot::find(&stock, "_source_traceback")?;
    let slots = || {
        vec![
            Place::empty(handles.callback),
            Place::empty(handles.args),
            Place::no(handles.cancelled),
            Place::empty(handles.the_loop),
            Place::none(source_traceback),
            Place::none(handles.repr),
            Place::empty(handles.context),
        ]
    };
    spare::keep(plain, slots(), None)?;
    let of_timers = [handles.when, handles.scheduled, handles.key].map(Place::empty);
    spare::keep(timer, slots().into_iter().chain(of_timers).collect(), None)?;
    fastcall::bind::<Cancel>(plain)?;
    fastcall::bind::<CancelTimer>(timer)?;
    let _ = HANDLES.set(py, handles);
    Ok(())
}

struct Cancel;

impl Function for Cancel {
    const NAME: &'static CStr = c"cancel";
    const DOC: &'static CStr = c"cancel($self)\n--\n\nPrevent the call, if it has not happened yet.";
    type Error = PyErr;

    fn call<'py>(handle: &Bound<'py, PyAny>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let py = handle.py();
        arguments.check(&[])?;
        handles(py)?.cancel(handle)?;
        Ok(py.None().into_bound(py))
    }
}

struct CancelTimer;

impl Function for CancelTimer {
    const NAME: &'static CStr = Cancel::NAME;
    const DOC: &'static CStr = Cancel::DOC;
    type Error = PyErr;

    fn call<'py>(handle: &Bound<'py, PyAny>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let py = handle.py();
        arguments.check(&[])?;
        handles(py)?.cancel_timer(handle)?;
        Ok(py.None().into_bound(py))
    }
}

impl Handles {
    /// A handle that is not scheduled yet; `context` is copied from the caller's if there is none.
    #[inline]
    pub fn make<'py>(
        &self,
        the_loop: &Bound<'py, LoopCore>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let handle = spare::make(self.plain.bind(the_loop.py()))?;
        self.fill(&handle, the_loop, callback, args, context)?;
        Ok(handle)
    }

    /// A handle for the time `when` of the loop's clock.
    #[inline]
    pub fn make_timer<'py>(
        &self,
        the_loop: &Bound<'py, LoopCore>,
        when: Bound<'py, PyAny>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = the_loop.py();
        let handle = spare::make(self.timer.bind(py))?;
        self.fill(&handle, the_loop, callback, args, context)?;
        // SAFETY: `handle` is an instance of the timer class.
        unsafe {
            self.when.fill(&handle, when);
            self.scheduled.fill(&handle, PyBool::new(py, true).to_owned().into_any());
        }
        Ok(handle)
    }

    #[inline]
    fn fill<'py>(
        &self,
        handle: &Bound<'py, PyAny>,
        the_loop: &Bound<'py, LoopCore>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let py = handle.py();
        let context = match context {
            Some(context) => context,
            None => context::copy_current(py)?,
        };
        // SAFETY: `handle` is a new instance of a subclass of asyncio.Handle: these slots are empty, and it is not
        // cancelled.
        unsafe {
            self.callback.fill(handle, callback);
            self.args.fill(handle, args.into_any());
            self.the_loop.fill(handle, the_loop.clone().into_any());
            self.context.fill(handle, context);
        }
        Ok(())
    }

    /// Remembers under which key a timer handle waits.
    #[inline]
    pub fn set_key(&self, handle: &Bound<'_, PyAny>, key: TimerKey) -> PyResult<()> {
        let number = key.data().as_ffi().into_pyobject(handle.py())?;
        // SAFETY: only called with handles of the timer class.
        unsafe { self.key.set(handle, number.into_any()) };
        Ok(())
    }

    /// Whether this is a handle whose slots are known here.
    #[inline]
    fn is_known(&self, handle: &Bound<'_, PyAny>) -> bool {
        [&self.plain, &self.timer, &self.stock, &self.stock_timer]
            .into_iter()
            .any(|class| slots::is_exactly(handle, class))
    }

    /// Whether the handle was cancelled.
    pub fn is_cancelled(&self, handle: &Bound<'_, PyAny>) -> PyResult<bool> {
        if self.is_known(handle) {
            // SAFETY: a known class.
            return Ok(unsafe { !self.cancelled.is(handle, ffi::Py_False()) });
        }
        handle.getattr(intern!(handle.py(), "_cancelled"))?.is_truthy()
    }

    /// Marks a timer handle as no longer scheduled, as the stock loop does.
    pub fn unschedule(&self, handle: &Bound<'_, PyAny>) {
        if slots::is_exactly(handle, &self.timer) {
            // SAFETY: an instance of the timer class.
            unsafe { self.scheduled.set(handle, PyBool::new(handle.py(), false).to_owned().into_any()) };
        }
    }

    fn cancel(&self, handle: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = handle.py();
        // SAFETY: the method is bound to instances of our classes only.
        unsafe {
            if !self.cancelled.is(handle, ffi::Py_False()) {
                return Ok(());
            }
            let the_loop = self.the_loop.get(handle);
            self.cancelled.set(handle, PyBool::new(py, true).to_owned().into_any());
            if the_loop.is_some_and(|the_loop| {
                the_loop.cast::<LoopCore>().is_ok_and(|the_loop| the_loop.get().debug())
            }) {
                // The callback is dropped below: keep what it looked like for warnings.
                self.repr.set(handle, handle.repr()?.into_any());
            }
            let callback = self.callback.set(handle, py.None().into_bound(py));
            let args = self.args.set(handle, py.None().into_bound(py));
            drop((callback, args));
        }
        Ok(())
    }

    fn cancel_timer(&self, handle: &Bound<'_, PyAny>) -> PyResult<()> {
        // SAFETY: the method is bound to instances of the timer class only.
        let (cancelled, the_loop, key) = unsafe {
            (!self.cancelled.is(handle, ffi::Py_False()), self.the_loop.get(handle), self.key.get(handle))
        };
        if !cancelled
            && let (Some(the_loop), Some(key)) = (the_loop, key)
            && let Ok(the_loop) = the_loop.cast_into::<LoopCore>()
        {
            let key = TimerKey::from(KeyData::from_ffi(key.extract()?));
            if the_loop.get().cancel_timer(key) {
                self.unschedule(handle);
            }
        }
        self.cancel(handle)
    }

    /// Whether somebody has replaced `asyncio.Handle._run` to watch the callbacks.
    #[inline]
    pub fn is_monitored(&self, py: Python<'_>) -> PyResult<bool> {
        let version = slots::version(self.stock.bind(py));
        if version != 0 && version == self.unwatched.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let monitored = !self.stock.bind(py).getattr(intern!(py, "_run"))?.is(&self.stock_run);
        // The look-up has given the class a version if it had none.
        let seen = if monitored { 0 } else { slots::version(self.stock.bind(py)) };
        self.unwatched.store(seen, Ordering::Relaxed);
        Ok(monitored)
    }

    /// Runs a handle whose turn has come, unless it was cancelled.
    #[inline]
    pub fn step(
        &self,
        the_loop: &Bound<'_, LoopCore>,
        handle: &Bound<'_, PyAny>,
        monitored: bool,
    ) -> PyResult<()> {
        let plain = slots::is_exactly(handle, &self.plain);
        if !plain {
            self.unschedule(handle);
        }
        let cancelled = if plain || slots::is_exactly(handle, &self.timer) {
            // SAFETY: a known class.
            unsafe { !self.cancelled.is(handle, ffi::Py_False()) }
        } else {
            self.is_cancelled(handle)?
        };
        if cancelled {
            Ok(())
        } else if the_loop.get().debug() {
            LoopCore::run_in_debug(the_loop, handle)
        } else {
            self.run(handle, monitored)
        }
    }

    /// Calls a handle's callback in its context, as `Handle._run` does; an exception goes to the loop's
    /// exception handler, except those that end the loop.
    #[inline]
    pub fn run(&self, handle: &Bound<'_, PyAny>, monitored: bool) -> PyResult<()> {
        let py = handle.py();
        if monitored || !self.is_known(handle) {
            return handle.call_method0(intern!(py, "_run")).map(drop);
        }
        // SAFETY: a known class. Owned references: the callback may cancel its own handle.
        let (callback, args, context) =
            unsafe { (self.callback.get(handle), self.args.get(handle), self.context.get(handle)) };
        let (Some(callback), Some(args), Some(context)) = (callback, args, context) else { return Ok(()) };
        let result = match args.cast::<PyTuple>() {
            Ok(args) => context::with(&context, || context::call(&callback, args)),
            // A stock handle made by others with a list of arguments.
            Err(_) => context::with(&context, || {
                context::call(
                    &callback,
                    &args
                        .extract::<Bound<'_, PyAny>>()?
                        .try_iter()?
                        .collect::<PyResult<Vec<_>>>()
                        .and_then(|items| PyTuple::new(py, items))?,
                )
            }),
        };
        match result {
            Ok(_) => Ok(()),
            Err(error) => self.failed(handle, error),
        }
    }

    #[cold]
    fn failed(&self, handle: &Bound<'_, PyAny>, error: PyErr) -> PyResult<()> {
        let py = handle.py();
        if error.is_instance_of::<PySystemExit>(py) || error.is_instance_of::<PyKeyboardInterrupt>(py) {
            return Err(error);
        }
        self.report.bind(py).call1((handle, error.into_value(py))).map(drop)
    }
}

/// The time `delay` after `now`, by Python's addition, which refuses what is no number of seconds.
pub fn after(now: f64, delay: &Bound<'_, PyAny>) -> PyResult<f64> {
    if delay.is_exact_instance_of::<PyFloat>() || delay.is_exact_instance_of::<PyInt>() {
        return Ok(now + delay.extract::<f64>()?);
    }
    float(delay.py(), now).add(delay)?.extract()
}

/// `when` as the float that a timer handle shows.
pub fn float(py: Python<'_>, seconds: f64) -> Bound<'_, PyAny> {
    PyFloat::new(py, seconds).into_any()
}
