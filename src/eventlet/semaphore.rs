//! `eventlet.semaphore.Semaphore`, bounded or not.
//!
//! This is eventlet's own algorithm: who must wait enters the deque `_waiters`, and a release has the hub look
//! at it in its turn. That look (`_do_acquire`) is an entry of the ready queue here, not a timer, so that a green
//! thread which leaves can take it and switch straight to the one that waited. Waits with a timeout, and those of
//! subclasses, are for eventlet's own code. That includes its Lock, on which the patched `threading` stands: by the
//! frame of its `acquire` evtop tells what a thread waits for.

use std::ffi::CStr;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyType};

use super::core::Core;
use super::{current, tasks, wait};
use crate::fastcall::{self, Arguments, Function, attribute};
use crate::raised::{Raised, raise};
use crate::runnable::Runnable;

struct Eventlets {
    /// The classes that are served where somebody has to wait.
    exact: [Py<PyType>; 2],
    acquire: Py<PyAny>,
    release: Py<PyAny>,
}

static EVENTLETS: PyOnceLock<Eventlets> = PyOnceLock::new();

/// Replaces the methods of eventlet's Semaphore.
#[pyfunction]
pub fn bind_semaphore(semaphore: &Bound<'_, PyType>, bounded: &Bound<'_, PyType>) -> PyResult<()> {
    let eventlets = Eventlets {
        exact: [semaphore, bounded].map(|class| class.clone().unbind()),
        acquire: semaphore.getattr("acquire")?.unbind(),
        release: semaphore.getattr("release")?.unbind(),
    };
    let _ = EVENTLETS.set(semaphore.py(), eventlets);
    fastcall::bind::<Acquire>(semaphore)?;
    fastcall::bind::<Release>(semaphore)?;
    fastcall::bind::<Locked>(semaphore)
}

fn eventlets(py: Python<'_>) -> &Eventlets {
    EVENTLETS.get(py).expect("the methods were bound after this was set")
}

fn is_exact(semaphore: &Bound<'_, PyAny>) -> bool {
    let class = semaphore.get_type();
    eventlets(semaphore.py()).exact.iter().any(|exact| class.is(exact))
}

fn counter(semaphore: &Bound<'_, PyAny>) -> PyResult<i64> {
    attribute(semaphore, intern!(semaphore.py(), "counter"))?.extract()
}

fn set_counter(semaphore: &Bound<'_, PyAny>, counter: i64) -> PyResult<()> {
    semaphore.setattr(intern!(semaphore.py(), "counter"), counter)
}

fn waiters<'py>(semaphore: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    attribute(semaphore, intern!(semaphore.py(), "_waiters"))
}

fn yes(py: Python<'_>) -> Bound<'_, PyAny> {
    PyBool::new(py, true).to_owned().into_any()
}

struct Acquire;

impl Function for Acquire {
    const NAME: &'static CStr = c"acquire";
    type Error = Raised;

    fn call<'py>(
        semaphore: &Bound<'py, PyAny>,
        arguments: Arguments<'_, 'py>,
    ) -> Result<Bound<'py, PyAny>, Raised> {
        let (core, me) = match Self::begin(semaphore, &arguments)? {
            Begun::Done(value) => return Ok(value),
            Begun::Wait(core, me) => (core, me),
        };
        loop {
            let left = wait::leave(&core, &me);
            if Self::is_over(semaphore, &core, &me, left.map(drop))? {
                return Ok(yes(core.py()));
            }
        }
    }
}

/// What a call has still to do.
enum Begun<'py> {
    Done(Bound<'py, PyAny>),
    Wait(Bound<'py, Core>, Bound<'py, PyAny>),
}

impl Acquire {
    /// A call up to the wait, in a frame that is gone by then.
    #[inline(never)]
    fn begin<'py>(
        semaphore: &Bound<'py, PyAny>,
        arguments: &Arguments<'_, 'py>,
    ) -> Result<Begun<'py>, Raised> {
        raise(semaphore.py(), Self::try_begin(semaphore, arguments))
    }

    fn try_begin<'py>(semaphore: &Bound<'py, PyAny>, arguments: &Arguments<'_, 'py>) -> PyResult<Begun<'py>> {
        let py = semaphore.py();
        arguments.check(&["blocking", "timeout"])?;
        let blocking = arguments.named(0, "blocking")?;
        let timeout = arguments.named(1, "timeout")?;
        if blocking.is_none() && timeout.is_none() {
            let (waiters, counter) = (waiters(semaphore)?, counter(semaphore)?);
            if counter > 0 && waiters.len()? == 0 {
                set_counter(semaphore, counter - 1)?;
                return Ok(Begun::Done(yes(py)));
            }
            if is_exact(semaphore)
                && let Some(core) = current::get(py)
            {
                let me = tasks::getcurrent(py)?;
                if !waiters.contains(&me)? {
                    waiters.call_method1(intern!(py, "append"), (&me,))?;
                }
                return match wait::enter(&core, &me) {
                    Ok(()) => Ok(Begun::Wait(core, me)),
                    Err(error) => Self::withdraw(semaphore, &me).and(Err(error)),
                };
            }
        }
        let blocking = blocking.unwrap_or_else(|| yes(py));
        eventlets(py).acquire.bind(py).call1((semaphore, blocking, timeout)).map(Begun::Done)
    }

    /// Whether the semaphore is the caller's now, who was switched to; an exception ends the wait.
    #[inline(never)]
    fn is_over(
        semaphore: &Bound<'_, PyAny>,
        core: &Bound<'_, Core>,
        me: &Bound<'_, PyAny>,
        left: Result<(), Raised>,
    ) -> Result<bool, Raised> {
        let py = core.py();
        let left = left.map_err(|raised| raised.fetch(py)).and_then(|()| {
            let is_free = counter(semaphore)? > 0;
            // A stray switch: the wait goes on.
            if is_free { Ok(true) } else { wait::enter(core, me).map(|()| false) }
        });
        let result = match left {
            Ok(false) => Ok(false),
            ended => Self::withdraw(semaphore, me).and(ended).and_then(|_| {
                set_counter(semaphore, counter(semaphore)? - 1)?;
                Ok(true)
            }),
        };
        raise(py, result)
    }

    /// Takes a green thread out of those that wait, if it is still among them.
    fn withdraw(semaphore: &Bound<'_, PyAny>, me: &Bound<'_, PyAny>) -> PyResult<()> {
        let waiters = waiters(semaphore)?;
        if waiters.len()? > 0 && waiters.contains(me)? {
            waiters.call_method1(intern!(me.py(), "remove"), (me,))?;
        }
        Ok(())
    }
}

struct Release;

impl Function for Release {
    const NAME: &'static CStr = c"release";
    type Error = PyErr;

    fn call<'py>(
        semaphore: &Bound<'py, PyAny>,
        arguments: Arguments<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = semaphore.py();
        arguments.check(&["blocking"])?;
        let counter = counter(semaphore)?;
        if release(semaphore, counter)? {
            return Ok(yes(py));
        }
        eventlets(py).release.bind(py).call1((semaphore,))
    }
}

/// Counts one up, and has the first that waits looked after in its turn; false if that is for eventlet's code.
fn release(semaphore: &Bound<'_, PyAny>, counter: i64) -> PyResult<bool> {
    let py = semaphore.py();
    if waiters(semaphore)?.len()? > 0 {
        let Some(core) = current::get(py).filter(|_| is_exact(semaphore)) else { return Ok(false) };
        set_counter(semaphore, counter + 1)?;
        let grant = Runnable::Grant(semaphore.clone().unbind());
        core.get().local()?.borrow_mut().state.engine.turn.push(grant);
    } else {
        set_counter(semaphore, counter + 1)?;
    }
    Ok(true)
}

/// The first that waits for a semaphore that is free.
pub fn first<'py>(semaphore: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let waiters = waiters(semaphore)?;
    if waiters.len()? == 0 || counter(semaphore)? <= 0 {
        return Ok(None);
    }
    waiters.get_item(0).map(Some)
}

/// Takes the first out of those that wait.
pub fn grant<'py>(semaphore: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    waiters(semaphore)?.call_method0(intern!(semaphore.py(), "popleft"))
}

struct Locked;

impl Function for Locked {
    const NAME: &'static CStr = c"locked";
    type Error = PyErr;

    fn call<'py>(
        semaphore: &Bound<'py, PyAny>,
        arguments: Arguments<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        arguments.check(&[])?;
        Ok(PyBool::new(semaphore.py(), counter(semaphore)? <= 0).to_owned().into_any())
    }
}
