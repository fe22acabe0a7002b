//! The hub's loop: batches of what is ready, then one look at the kernel.

use std::ffi::CStr;
use std::time::Duration;

use pyo3::exceptions::PyOSError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::core::{Core, Local};
use super::state::{Outcome, Runnable, WaiterId};
use super::timer::Timer;
use super::{greenlet, hooks, runner, semaphore};
use crate::fastcall::{Arguments, Function};
use crate::raised::{Failure, Raised, raise};
use crate::turn::now_ns;

/// `Hub._run()`: runs turns until `hub.stopping`; an exception of `hub.SYSTEM_EXCEPTIONS` ends it too.
///
/// The hub's stack is copied like any other, so only the switch itself is done in this frame.
pub struct Run;

impl Function for Run {
    const NAME: &'static CStr = c"_run";
    type Error = Raised;

    fn call<'py>(
        hub: &Bound<'py, PyAny>,
        arguments: Arguments<'_, 'py>,
    ) -> Result<Bound<'py, PyAny>, Raised> {
        arguments.expect_none()?;
        let Ok(core) = hub.cast::<Core>() else { return Err(no_hub(hub)) };
        while begin_turn(core)? {
            while let Some(green) = next(core)? {
                let switched = greenlet::switch(&green.target, green.args.as_ref(), green.kwargs.as_ref());
                if let Err(raised) = switched {
                    report_raised(core, raised)?;
                }
            }
            end_turn(core)?;
        }
        Ok(hub.py().None().into_bound(hub.py()))
    }
}

/// A green thread to switch to; with the arguments of its function if it has not started.
struct Green<'py> {
    target: Bound<'py, PyAny>,
    args: Option<Bound<'py, PyTuple>>,
    kwargs: Option<Bound<'py, PyDict>>,
}

#[cold]
#[inline(never)]
fn no_hub(hub: &Bound<'_, PyAny>) -> Raised {
    pyo3::exceptions::PyTypeError::new_err("not a hub").raise(hub.py())
}

#[cold]
#[inline(never)]
fn report_raised(core: &Bound<'_, Core>, raised: Raised) -> Result<(), Raised> {
    raise(core.py(), report(core, raised.fetch(core.py())))
}

/// False if the hub is to stop.
#[inline(never)]
fn begin_turn(core: &Bound<'_, Core>) -> Result<bool, Raised> {
    raise(core.py(), try_begin_turn(core))
}

fn try_begin_turn(core: &Bound<'_, Core>) -> PyResult<bool> {
    close_obsolete(core)?;
    Core::empty_inbox(core);
    let debug_blocking = {
        let mut local = core.get().local()?.borrow_mut();
        if local.stopping {
            return Ok(false);
        }
        begin(&mut local);
        local.renewals = 0;
        local.blocking_is_watched = local.debug_blocking;
        local.debug_blocking
    };
    if debug_blocking {
        core.call_method0(intern!(core.py(), "block_detect_pre"))?;
    }
    Ok(true)
}

#[inline(never)]
fn end_turn(core: &Bound<'_, Core>) -> Result<(), Raised> {
    raise(core.py(), try_end_turn(core))
}

fn try_end_turn(core: &Bound<'_, Core>) -> PyResult<()> {
    let watched = std::mem::take(&mut core.get().local()?.borrow_mut().blocking_is_watched);
    if watched {
        core.call_method0(intern!(core.py(), "block_detect_post"))?;
    }
    look(core)
}

/// Begins a batch of what is ready and what is due.
fn begin(local: &mut Local) {
    let turn = &mut local.state.engine.turn;
    turn.expire(now_ns());
    turn.begin();
    if local.guest.is_some() {
        // A coroutine that is to wait for a green thread is there before that starts, as on eventlet's asyncio
        // hub, where handles run between the batches of green threads.
        turn.hoist(Runnable::is_of_loop, |runnable| matches!(runnable, Runnable::Start(..)));
    }
}

/// eventlet's listeners whose descriptor number was given to another file are told first of all.
fn close_obsolete(core: &Bound<'_, Core>) -> PyResult<()> {
    let py = core.py();
    while core.getattr(intern!(py, "closed"))?.is_truthy()? {
        core.call_method0(intern!(py, "close_one"))?;
    }
    Ok(())
}

/// Runs what was ready when the turn began, up to the next green thread; None at the end of the batch.
#[inline(never)]
fn next<'py>(core: &Bound<'py, Core>) -> Result<Option<Green<'py>>, Raised> {
    raise(core.py(), try_next(core))
}

fn try_next<'py>(core: &Bound<'py, Core>) -> PyResult<Option<Green<'py>>> {
    let py = core.py();
    let plainly = |target| Green { target, args: None, kwargs: None };
    loop {
        let runnable = {
            let mut local = core.get().local()?.borrow_mut();
            let turn = &mut local.state.engine.turn;
            if turn.peek().is_some_and(Runnable::is_of_loop) { None } else { Some(turn.next()) }
        };
        match runnable {
            // A runner takes the handles.
            None => return runner::next(core).map(|runner| Some(plainly(runner))),
            Some(None) => return Ok(None),
            Some(Some(Runnable::Resume(id))) => {
                if let Some(target) = resume(core, id)? {
                    return Ok(Some(plainly(target)));
                }
            }
            Some(Some(Runnable::Start(target, args, kwargs))) => {
                let kwargs = kwargs.map(|kwargs| kwargs.into_bound(py));
                let (target, args) = (target.into_bound(py), Some(args.into_bound(py)));
                return Ok(Some(Green { target, args, kwargs }));
            }
            Some(Some(other)) => {
                if let Some(target) = step(core, other)? {
                    return Ok(Some(plainly(target)));
                }
            }
        }
    }
}

/// The green thread of a wait that is over; None if there is none, or its own `switch` has been called.
fn resume<'py>(core: &Bound<'py, Core>, id: WaiterId) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = core.py();
    let who = core.get().local()?.borrow_mut().state.resume(py, id);
    who.map_or(Ok(None), |who| go_on(core, who.into_bound(py)))
}

/// A suspended green thread, for the caller to switch to; None if its own `switch` has been called.
fn go_on<'py>(core: &Bound<'py, Core>, green: Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    if hooks::is_plain(&green) {
        return Ok(Some(green));
    }
    match hooks::resume(&green) {
        Ok(_) => Ok(None),
        Err(error) => report(core, error).map(|()| None),
    }
}

/// Does what is neither a green thread that goes on nor one that starts; returns one that is to go on now.
fn step<'py>(core: &Bound<'py, Core>, runnable: Runnable) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = core.py();
    match runnable {
        Runnable::Expire(id) => {
            let live = {
                let mut local = core.get().local()?.borrow_mut();
                let live = local.state.waiters.get(id).is_some_and(|waiter| waiter.outcome.is_none());
                if live {
                    // Data that won the race against the timeout is delivered; no byte is lost.
                    local.state.settle(id);
                    let waiter = local.state.waiters.get_mut(id);
                    waiter.is_some_and(|waiter| {
                        waiter.outcome.get_or_insert(Outcome::Expired);
                        true
                    })
                } else {
                    false
                }
            };
            if live { resume(core, id) } else { Ok(None) }
        }
        Runnable::Fire(timer) if is_beaten(core, &timer)? => {
            core.get().local()?.borrow_mut().state.engine.turn.push(Runnable::Fire(timer));
            Ok(None)
        }
        Runnable::Fire(timer) => match calling(core, || timer.get().fire(py))? {
            Ok(()) => Ok(None),
            Err(error) => {
                let timer = timer.clone_ref(py).into_any();
                report_with(core, error, "squelch_timer_exception", timer).map(|()| None)
            }
        },
        Runnable::Notify(id) => {
            let listener = {
                let local = core.get().local()?.borrow();
                local.state.waiters.get(id).map(|waiter| {
                    (waiter.who.clone_ref(py).into_bound(py), waiter.place.map_or(-1, |(fd, _)| fd))
                })
            };
            let Some((listener, fd)) = listener else { return Ok(None) };
            let called = calling(core, || {
                listener.getattr(intern!(py, "cb")).and_then(|callback| callback.call1((fd,)))
            })?;
            let result = match called {
                Ok(_) => Ok(()),
                Err(error) => {
                    let fd = fd.into_pyobject(py)?.into_any().unbind();
                    report_with(core, error, "squelch_exception", fd)
                }
            };
            core.get().with_state(|state| state.rearm(id));
            result.map(|()| None)
        }
        Runnable::Grant(semaphore) => {
            let semaphore = semaphore.bind(py);
            let green = match semaphore::first(semaphore)? {
                Some(_) => semaphore::grant(semaphore)?,
                None => return Ok(None),
            };
            go_on(core, green)
        }
        // Taken by the caller, or by a runner.
        Runnable::Resume(_) | Runnable::Start(..) | Runnable::Handle(_) | Runnable::Ready(_) => Ok(None),
    }
}

/// Whether a `Timeout(0)` comes to a green thread whose operation had nothing to wait for: on eventlet's hubs such an
/// operation does not even look at the hub.
fn is_beaten(core: &Bound<'_, Core>, timer: &Py<Timer>) -> PyResult<bool> {
    let Some(target) = timer.get().throws_at_once(core.py()) else { return Ok(false) };
    // Nothing is lost by an error: the hub's own look meets it again and reports it.
    if take(core, Some(Duration::ZERO)).is_err() {
        return Ok(false);
    }
    let local = core.get().local()?.borrow();
    let state = &local.state;
    Ok(state.engine.turn.ready().any(|runnable| match runnable {
        Runnable::Resume(id) => state.waiters.get(*id).is_some_and(|waiter| {
            waiter.who.is(&target)
                && matches!(waiter.outcome, Some(Outcome::Completed(_) | Outcome::Leftover(_)))
        }),
        _ => false,
    }))
}

/// Runs a callback in the hub's greenlet. If it switches to a green thread that then waits, control comes
/// back into the callback, as on eventlet's hubs, and not to the next green thread that is ready.
fn calling<T>(core: &Bound<'_, Core>, callback: impl FnOnce() -> T) -> PyResult<T> {
    core.get().local()?.borrow_mut().calling = true;
    let result = callback();
    core.get().local()?.borrow_mut().calling = false;
    Ok(result)
}

/// One look at the kernel; waits only if nothing is ready.
fn look(core: &Bound<'_, Core>) -> PyResult<()> {
    let py = core.py();
    let timeout = {
        let mut local = core.get().local()?.borrow_mut();
        if local.stopping {
            return Ok(());
        }
        local.state.engine.turn.timeout(now_ns())
    };
    if timeout == Some(Duration::ZERO) {
        return take(core, Some(Duration::ZERO));
    }
    let seconds = timeout.map(|timeout| timeout.as_secs_f64());
    core.call_method1(intern!(py, "wait"), (seconds,)).map(drop)
}

/// `hub._poll(seconds)`: the wait itself, called through the hub's Python method `do_poll`.
pub fn poll(core: &Bound<'_, Core>, seconds: Option<f64>) -> PyResult<()> {
    let timeout =
        seconds.map(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX));
    take(core, timeout)?;
    core.py().check_signals()
}

/// Waits for completions, with the GIL released if that can block, and makes their waiters ready.
pub fn take(core: &Bound<'_, Core>, timeout: Option<Duration>) -> PyResult<()> {
    let py = core.py();
    {
        let mut local = core.get().local()?.borrow_mut();
        let proactor = &mut local.state.engine.proactor;
        let waited = if timeout == Some(Duration::ZERO) {
            proactor.wait(timeout)
        } else {
            py.detach(|| proactor.wait(timeout))
        };
        waited.map_err(|error| PyOSError::new_err((error.raw_os_error(), error.to_string())))?;
        local.state.reap();
    }
    super::held::bury();
    Ok(())
}

/// So many turns may begin one after the other without the hub's greenlet, which has more to look after.
pub const RENEWALS_MAX: u32 = 64;

/// Begins the next turn on the stack of a green thread that leaves at the end of a batch while others are
/// ready already: the hub's greenlet would do the same, two switches later. False if the hub must.
pub fn renew(core: &Bound<'_, Core>) -> PyResult<bool> {
    {
        let mut local = core.get().local()?.borrow_mut();
        let turn = &local.state.engine.turn;
        if !turn.has_ready()
            || turn.peek().is_some()
            || !local.running
            || local.stopping
            || local.debug_blocking
            || local.renewals >= RENEWALS_MAX
        {
            return Ok(false);
        }
        local.renewals += 1;
        // Nothing is lost by an error: the hub's own look meets it again and reports it.
        if local.state.engine.proactor.wait(Some(Duration::ZERO)).is_err() {
            return Ok(false);
        }
        local.state.reap();
    }
    // A wake-up that was just seen does not end the hub's next wait: what it was for is taken now.
    Core::empty_inbox(core);
    begin(&mut core.get().local()?.borrow_mut());
    Ok(true)
}

/// For `sleep(0)`: looks for something else to run, and says whether there is nothing.
///
/// Between batches of a running hub an empty ready queue means that only the kernel or a due timer could
/// have work; both are asked here, without a switch to the hub's greenlet.
pub fn nothing_to_yield_to(core: &Bound<'_, Core>) -> PyResult<bool> {
    {
        let local = core.get().local()?.borrow();
        if local.state.engine.turn.has_ready() || !local.running || local.stopping || local.calling {
            return Ok(false);
        }
    }
    take(core, Some(Duration::ZERO))?;
    Core::empty_inbox(core);
    let mut local = core.get().local()?.borrow_mut();
    local.state.engine.turn.expire(now_ns());
    // Listeners on a number that names another file now are the hub's to tell.
    Ok(!local.state.engine.turn.has_ready() && local.renewals < RENEWALS_MAX)
}

/// Prints an exception as eventlet's hubs do, or passes it on if it must end the hub.
pub fn report(core: &Bound<'_, Core>, error: PyErr) -> PyResult<()> {
    let py = core.py();
    if is_system(core, &error)? {
        return Err(error);
    }
    core.call_method1(intern!(py, "squelch_generic_exception"), (exc_info(py, &error),)).map(drop)
}

fn report_with(core: &Bound<'_, Core>, error: PyErr, method: &str, what: Py<PyAny>) -> PyResult<()> {
    let py = core.py();
    if is_system(core, &error)? {
        return Err(error);
    }
    core.call_method1(method, (what, exc_info(py, &error))).map(drop)
}

fn is_system(core: &Bound<'_, Core>, error: &PyErr) -> PyResult<bool> {
    // The GreenletExit by which the hub's greenlet ends with its thread.
    if core.get().has_ended() {
        return Ok(true);
    }
    let py = core.py();
    error.matches(py, core.getattr(intern!(py, "SYSTEM_EXCEPTIONS"))?).map_err(Into::into)
}

type ExcInfo<'py> =
    (Bound<'py, pyo3::types::PyType>, Py<pyo3::exceptions::PyBaseException>, Option<Bound<'py, PyAny>>);

fn exc_info<'py>(py: Python<'py>, error: &PyErr) -> ExcInfo<'py> {
    let traceback = error.traceback(py).map(Bound::into_any);
    (error.get_type(py), error.value(py).clone().unbind(), traceback)
}
