//! `eventlet.Timeout`: started and cancelled without Python code.
//!
//! Subclasses are served too; what they override is called, and what they may override is looked up.

use std::ffi::CStr;

use pyo3::exceptions::PyAssertionError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyString, PyType};

use super::core::Core;

use super::timer::Timer;
use super::{current, greenlet, tasks};
use crate::fastcall::{self, Arguments, Function, attribute};

struct Eventlets {
    class: Py<PyType>,
    start: Py<PyAny>,
}

static EVENTLETS: PyOnceLock<Eventlets> = PyOnceLock::new();

/// Replaces the methods of eventlet's Timeout.
#[pyfunction]
pub fn bind_timeout(timeout: &Bound<'_, PyType>) -> PyResult<()> {
    let eventlets = Eventlets { class: timeout.clone().unbind(), start: timeout.getattr("start")?.unbind() };
    let _ = EVENTLETS.set(timeout.py(), eventlets);
    fastcall::bind::<Init>(timeout)?;
    fastcall::bind::<Start>(timeout)?;
    fastcall::bind::<Cancel>(timeout)?;
    fastcall::bind::<Enter>(timeout)?;
    fastcall::bind::<Exit>(timeout)
}

fn eventlets(py: Python<'_>) -> &Eventlets {
    EVENTLETS.get(py).expect("the methods were bound after this was set")
}

fn is_exact(timeout: &Bound<'_, PyAny>) -> bool {
    timeout.get_type().is(&eventlets(timeout.py()).class)
}

fn timer<'py>(timeout: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let name = intern!(timeout.py(), "timer");
    if is_exact(timeout)
        && let Some(timer) = greenlet::dict(timeout)?.get_item(name)?
    {
        return Ok(timer);
    }
    timeout.getattr(name)
}

/// Sets an attribute; eventlet's own class has no descriptors for those that are set here.
fn set<'py>(
    timeout: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    value: impl IntoPyObject<'py>,
) -> PyResult<()> {
    if is_exact(timeout) {
        greenlet::dict(timeout)?.set_item(name, value)
    } else {
        timeout.setattr(name, value)
    }
}

fn set_timer<'py>(timeout: &Bound<'py, PyAny>, timer: impl IntoPyObject<'py>) -> PyResult<()> {
    set(timeout, intern!(timeout.py(), "timer"), timer)
}

/// Schedules the exception and returns the timer; None if the timeout never comes.
fn schedule<'py>(
    core: &Bound<'py, Core>,
    timeout: &Bound<'py, PyAny>,
    seconds: &Bound<'py, PyAny>,
    exception: &Bound<'py, PyAny>,
) -> PyResult<Option<Py<Timer>>> {
    if seconds.is_none() {
        return Ok(None);
    }
    let is_own = exception.is_none() || exception.is_instance_of::<PyBool>();
    let thrown = if is_own { timeout } else { exception };
    let (py, seconds) = (core.py(), seconds.extract()?);
    let timer = match (tasks::current(core)?, tasks::expire(py)) {
        // A greenlet is no address for a task: it may run in another one when the time is up.
        (Some(task), Some(expire)) => {
            let args = (timeout, task, thrown).into_pyobject(py)?;
            Timer::call(seconds, expire.clone().unbind(), args.unbind(), None, None)
        }
        _ => Timer::throw(seconds, greenlet::current(py)?.unbind(), thrown.clone().unbind()),
    };
    Core::schedule(core, timer).map(Some)
}

struct Init;

impl Function for Init {
    const NAME: &'static CStr = c"__init__";
    type Error = PyErr;

    fn call<'py>(timeout: &Bound<'py, PyAny>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let py = timeout.py();
        arguments.check(&["seconds", "exception"])?;
        let none = || py.None().into_bound(py);
        let seconds = arguments.named(0, "seconds")?.unwrap_or_else(none);
        let exception = arguments.named(1, "exception")?.unwrap_or_else(none);
        set(timeout, intern!(py, "seconds"), &seconds)?;
        set(timeout, intern!(py, "exception"), &exception)?;
        if is_exact(timeout)
            && let Some(core) = current::get(py)
        {
            let timer = schedule(&core, timeout, &seconds, &exception)?;
            set_timer(timeout, timer)?;
        } else {
            set_timer(timeout, none())?;
            timeout.call_method0(intern!(py, "start"))?;
        }
        Ok(none())
    }
}

struct Start;

impl Function for Start {
    const NAME: &'static CStr = c"start";
    type Error = PyErr;

    fn call<'py>(timeout: &Bound<'py, PyAny>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let py = timeout.py();
        arguments.check(&[])?;
        let Some(core) = current::get(py) else {
            return eventlets(py).start.bind(py).call1((timeout,));
        };
        if timeout.getattr(intern!(py, "pending"))?.is_truthy()? {
            let text = format!("{} is already started; to restart it, cancel it first", timeout.repr()?);
            return Err(PyAssertionError::new_err(text));
        }
        let seconds = attribute(timeout, intern!(py, "seconds"))?;
        let exception = attribute(timeout, intern!(py, "exception"))?;
        let timer = schedule(&core, timeout, &seconds, &exception)?;
        set_timer(timeout, timer)?;
        Ok(timeout.clone())
    }
}

/// `Timeout.cancel`, of any class of timer.
fn cancel(timeout: &Bound<'_, PyAny>) -> PyResult<()> {
    let timer = timer(timeout)?;
    if timer.is_none() {
        return Ok(());
    }
    match timer.cast::<Timer>() {
        Ok(timer) => timer.get().cancel(),
        Err(_) => timer.call_method0(intern!(timer.py(), "cancel")).map(drop)?,
    }
    set_timer(timeout, timer.py().None())
}

/// Gives an exception that passed for a CancelledError in a task its own class back (`uringhub._timeouts`);
/// true if it was one.
fn undisguise(exception: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = exception.py();
    if exception.is_none() || is_exact(exception) {
        return Ok(false);
    }
    match exception.get_type().getattr_opt(intern!(py, "_uringhub_undisguised"))? {
        Some(class) => exception.setattr(intern!(py, "__class__"), class).map(|()| true),
        None => Ok(false),
    }
}

struct Cancel;

impl Function for Cancel {
    const NAME: &'static CStr = c"cancel";
    type Error = PyErr;

    fn call<'py>(timeout: &Bound<'py, PyAny>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        arguments.check(&[])?;
        cancel(timeout)?;
        if timeout.py().version_info() >= (3, 11) {
            undisguise(timeout)?;
        }
        Ok(timeout.py().None().into_bound(timeout.py()))
    }
}

struct Enter;

impl Function for Enter {
    const NAME: &'static CStr = c"__enter__";
    type Error = PyErr;

    fn call<'py>(timeout: &Bound<'py, PyAny>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        arguments.check(&[])?;
        if timer(timeout)?.is_none() {
            timeout.call_method0(intern!(timeout.py(), "start"))?;
        }
        Ok(timeout.clone())
    }
}

struct Exit;

impl Function for Exit {
    const NAME: &'static CStr = c"__exit__";
    type Error = PyErr;

    fn call<'py>(timeout: &Bound<'py, PyAny>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let py = timeout.py();
        arguments.check(&["typ", "value", "tb"])?;
        let value = arguments.require(1, "value")?;
        let was_disguised = undisguise(&value)?;
        if is_exact(timeout) {
            cancel(timeout)?;
        } else {
            timeout.call_method0(intern!(py, "cancel"))?;
        }
        if value.is(timeout) && attribute(timeout, intern!(py, "exception"))?.is(PyBool::new(py, false)) {
            return Ok(PyBool::new(py, true).to_owned().into_any());
        }
        if was_disguised && py.version_info() < (3, 11) {
            // Python 3.10 keeps the class of an exception in flight beside it: raised anew, it has the right one.
            return Err(PyErr::from_value(value));
        }
        Ok(py.None().into_bound(py))
    }
}
