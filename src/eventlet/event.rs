//! `eventlet.event.Event`: waiting and sending without a callback in the hub.

use std::ffi::CStr;

use pyo3::exceptions::PyAssertionError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PySet, PyTuple, PyType};

use super::core::Core;

use super::parked::{self, Delivery};
use super::state::WaiterId;
use super::timer::Timer;
use super::{current, greenlet, wait};
use crate::fastcall::{self, Arguments, Function, attribute};
use crate::raised::{Raised, raise};

struct Eventlets {
    class: Py<PyType>,
    /// What `_result` is until something was sent.
    not_used: Py<PyAny>,
    wait: Py<PyAny>,
    send: Py<PyAny>,
}

static EVENTLETS: PyOnceLock<Eventlets> = PyOnceLock::new();

/// Replaces the methods of eventlet's Event.
#[pyfunction]
pub fn bind_event(event: &Bound<'_, PyType>, not_used: Py<PyAny>) -> PyResult<()> {
    let py = event.py();
    let eventlets = Eventlets {
        class: event.clone().unbind(),
        not_used,
        wait: event.getattr("wait")?.unbind(),
        send: event.getattr("send")?.unbind(),
    };
    let _ = EVENTLETS.set(py, eventlets);
    fastcall::bind::<Wait>(event)?;
    fastcall::bind::<Send>(event)
}

fn eventlets(py: Python<'_>) -> &Eventlets {
    EVENTLETS.get(py).expect("the methods were bound after this was set")
}

/// A fresh event, as `Event()` makes it.
pub fn new<'py>(py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
    let event = greenlet::allocate(eventlets(py).class.bind(py))?;
    event.setattr(intern!(py, "_waiters"), PySet::empty(py)?)?;
    event.setattr(intern!(py, "_result"), &eventlets(py).not_used)?;
    Ok(event)
}

/// Records a result in an event that nobody waits on.
pub fn set_result(event: &Bound<'_, PyAny>, result: Bound<'_, PyAny>) -> PyResult<()> {
    event.setattr(intern!(event.py(), "_result"), result)
}

/// `event.ready()`, of any class of event.
pub fn is_ready(event: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = event.py();
    if is_exact(event) {
        return Ok(!attribute(event, intern!(py, "_result"))?.is(&eventlets(py).not_used));
    }
    event.call_method0(intern!(py, "ready"))?.is_truthy()
}

/// Whether the event is of eventlet's own class: a subclass may see its methods called.
pub fn is_exact(event: &Bound<'_, PyAny>) -> bool {
    event.get_type().is(&eventlets(event.py()).class)
}

struct Wait;

impl Function for Wait {
    const NAME: &'static CStr = c"wait";
    type Error = Raised;

    fn call<'py>(
        event: &Bound<'py, PyAny>,
        arguments: Arguments<'_, 'py>,
    ) -> Result<Bound<'py, PyAny>, Raised> {
        Self::begin(event, &arguments)?.end()
    }
}

impl Wait {
    #[inline(never)]
    fn begin<'py>(event: &Bound<'py, PyAny>, arguments: &Arguments<'_, 'py>) -> Result<Waiting<'py>, Raised> {
        let parse = || {
            arguments.check(&["timeout"])?;
            let timeout = arguments.named(0, "timeout")?.filter(|timeout| !timeout.is_none());
            Waiting::begin(event, timeout)
        };
        raise(event.py(), parse())
    }
}

/// `event.wait(timeout)`, under way.
pub enum Waiting<'py> {
    Over(Bound<'py, PyAny>),
    Parked { core: Bound<'py, Core>, waiters: Bound<'py, PySet>, me: Bound<'py, PyAny>, id: WaiterId },
}

impl<'py> Waiting<'py> {
    /// Enters the calling green thread among those that wait, if there is something to wait for.
    pub fn begin(event: &Bound<'py, PyAny>, timeout: Option<Bound<'py, PyAny>>) -> PyResult<Self> {
        let py = event.py();
        if is_exact(event)
            && let Some(core) = current::get(py)
            && let Ok(timeout_s) = timeout.as_ref().map(|timeout| timeout.extract::<f64>()).transpose()
            && let Some(waiters) = pending(event)?
        {
            let me = greenlet::current(py)?;
            waiters.add(&me)?;
            return match parked::lie_down(&core, &me, event, timeout_s) {
                Ok(id) => Ok(Self::Parked { core, waiters, me, id }),
                Err(error) => {
                    waiters.discard(me)?;
                    Err(error)
                }
            };
        }
        eventlets(py).wait.bind(py).call1((event, timeout)).map(Self::Over)
    }

    /// Waits, if it is not over, and returns what was sent.
    #[inline]
    pub fn end(self) -> Result<Bound<'py, PyAny>, Raised> {
        match self {
            Self::Over(value) => Ok(value),
            Self::Parked { core, waiters, me, id } => {
                let left = wait::leave(&core, &me);
                Self::get_up(&core, &waiters, &me, id, left)
            }
        }
    }

    #[inline(never)]
    fn get_up(
        core: &Bound<'py, Core>,
        waiters: &Bound<'py, PySet>,
        me: &Bound<'py, PyAny>,
        id: WaiterId,
        left: Result<Bound<'py, PyAny>, Raised>,
    ) -> Result<Bound<'py, PyAny>, Raised> {
        let py = core.py();
        let woken = parked::get_up(core, me, id, left);
        let left = waiters.discard(me).map(drop).and(woken);
        raise(py, left.map(|woken| woken.unwrap_or_else(|| py.None().into_bound(py))))
    }
}

/// The waiters of an event that nothing was sent to; None if there is something to return at once.
fn pending<'py>(event: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PySet>>> {
    let py = event.py();
    if !attribute(event, intern!(py, "_result"))?.is(&eventlets(py).not_used) {
        return Ok(None);
    }
    Ok(attribute(event, intern!(py, "_waiters"))?.cast_into::<PySet>().ok())
}

struct Send;

impl Function for Send {
    const NAME: &'static CStr = c"send";
    type Error = PyErr;

    fn call<'py>(event: &Bound<'py, PyAny>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let py = event.py();
        arguments.check(&["result", "exc"])?;
        let none = || py.None().into_bound(py);
        let result = arguments.named(0, "result")?.unwrap_or_else(none);
        let exc = arguments.named(1, "exc")?.unwrap_or_else(none);
        if is_exact(event)
            && let Some(core) = current::get(py)
        {
            send(&core, event, result, exc)?;
        } else {
            eventlets(py).send.bind(py).call1((event, result, exc))?;
        }
        Ok(none())
    }
}

/// `event.send(result, exc)`: the waiters run in their turn, in the order of eventlet's set.
pub fn send<'py>(
    core: &Bound<'py, Core>,
    event: &Bound<'py, PyAny>,
    result: Bound<'py, PyAny>,
    exc: Bound<'py, PyAny>,
) -> PyResult<()> {
    let py = core.py();
    if !attribute(event, intern!(py, "_result"))?.is(&eventlets(py).not_used) {
        return Err(PyAssertionError::new_err("Trying to re-send() an already-triggered event."));
    }
    let exc = match exc.cast::<PyTuple>() {
        Ok(exc) => Some(exc.clone()),
        Err(_) if exc.is_none() => None,
        Err(_) => Some(PyTuple::new(py, [&exc])?),
    };
    event.setattr(intern!(py, "_result"), &result)?;
    event.setattr(intern!(py, "_exc"), &exc)?;
    let waiters = attribute(event, intern!(py, "_waiters"))?;
    if waiters.len()? == 0 {
        return Ok(());
    }
    // Copied, because what is scheduled may not run Python code now, but a deallocation may.
    let waiters: Vec<_> = waiters.try_iter()?.collect::<PyResult<_>>()?;
    for waiter in waiters {
        let delivery = || match &exc {
            None => Delivery::Value(result.clone().unbind()),
            Some(exc) => Delivery::Throw(exc.clone().unbind()),
        };
        if !parked::wake(core, &waiter, event, delivery) {
            let callback = event.getattr(intern!(py, "_do_send"))?;
            let args = (&result, &exc, waiter).into_pyobject(py)?;
            Core::schedule(
                core,
                Timer::call(0.0, callback.unbind(), args.unbind(), None::<Py<PyDict>>, None),
            )?;
        }
    }
    Ok(())
}
