//! eventlet's functions, native: what replaces the bodies of `sleep`, `trampoline`, `spawn` and the rest.
//!
//! Each falls back to eventlet's own code when the calling thread's hub is not one of ours, because the
//! replacement is process-wide and a hub belongs to a thread.

use std::ffi::CStr;
use std::os::fd::RawFd;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyInt, PyTuple};

use super::core::Core;
use super::state::{Outcome, Runnable, Side, State};
use super::wait::{Request, Waiting};
use super::{closings, current, hooks, sys, wait};
use crate::asyncio::closing_in_loops;
use crate::fastcall::{Arguments, Function};
use crate::raised::{Raised, raise};

/// eventlet's own functions and classes, by name; see `uringhub/_eventlet.py`.
static ORIGINALS: PyOnceLock<Py<PyDict>> = PyOnceLock::new();

/// eventlet's own function or class of that name.
pub fn original<'py>(
    py: Python<'py>,
    name: &Bound<'py, pyo3::types::PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    let originals = ORIGINALS
        .get(py)
        .ok_or_else(|| PyRuntimeError::new_err("uringhub's operations are used before a hub was made"))?;
    originals.bind(py).as_any().get_item(name)
}

/// Tells the native functions where eventlet's own ones are, once.
#[pyfunction]
pub fn set_originals(py: Python<'_>, originals: Py<PyDict>) -> PyResult<()> {
    let bound = originals.bind(py).as_any();
    let plain = [bound.get_item("greenlet")?.unbind(), bound.get_item("GreenThread")?.unbind()];
    let sockets = bound.get_item("sockets")?.extract()?;
    hooks::set_classes(py, plain, bound.get_item("GreenSocket")?.unbind(), sockets);
    let _ = ORIGINALS.set(py, originals);
    Ok(())
}

/// This thread's hub is about to be replaced: native functions run eventlet's own code until then.
#[pyfunction]
pub fn leave_hub() {
    current::set(None);
}

/// Whether the calling thread's hub is one of ours.
#[pyfunction]
pub fn has_hub(py: Python<'_>) -> bool {
    current::get(py).is_some()
}

/// `eventlet.sleep`.
pub struct Sleep;

impl Function for Sleep {
    const NAME: &'static CStr = c"sleep";
    const DOC: &'static CStr = c"sleep($module, /, seconds=0)\n--\n\n\
        Yield control to another eligible green thread for at least *seconds*, of which fractions count.\n\n\
        With 0 the others that are ready get their turn first.";
    type Error = Raised;

    fn call<'py>(
        module: &Bound<'py, PyAny>,
        arguments: Arguments<'_, 'py>,
    ) -> Result<Bound<'py, PyAny>, Raised> {
        if let Some((core, waiting)) = Self::begin(module.py(), &arguments)? {
            waiting.sleep(&core)?;
        }
        Ok(module.py().None().into_bound(module.py()))
    }
}

impl Sleep {
    /// The wait that is left to do.
    #[inline(never)]
    fn begin<'py>(
        py: Python<'py>,
        arguments: &Arguments<'_, 'py>,
    ) -> Result<Option<(Bound<'py, Core>, Waiting<'py>)>, Raised> {
        raise(py, Self::try_begin(py, arguments))
    }

    fn try_begin<'py>(
        py: Python<'py>,
        arguments: &Arguments<'_, 'py>,
    ) -> PyResult<Option<(Bound<'py, Core>, Waiting<'py>)>> {
        arguments.check(&["seconds"])?;
        let seconds = arguments.named(0, "seconds")?;
        let Some(core) = current::get(py) else {
            let seconds = seconds.map_or_else(|| 0.into_pyobject(py).map(Bound::into_any), Ok)?;
            original(py, intern!(py, "sleep"))?.call1((seconds,))?;
            return Ok(None);
        };
        let seconds_s = seconds.map_or(Ok(0.0), |seconds| number_of_seconds(&seconds))?;
        Ok(wait::lie_down(&core, seconds_s)?.map(|waiting| (core, waiting)))
    }
}

/// A number as a float; most are small integers, which need no float object made for that.
#[inline]
fn number_of_seconds(seconds: &Bound<'_, PyAny>) -> PyResult<f64> {
    match seconds.cast_exact::<PyInt>().ok().and_then(|seconds| seconds.extract::<i32>().ok()) {
        Some(seconds) => Ok(seconds.into()),
        None => seconds.extract(),
    }
}

/// `eventlet.hubs.trampoline`.
#[pyfunction]
#[pyo3(signature = (fd, read, write, timeout, timeout_exc, mark_as_closed))]
pub fn trampoline<'py>(
    py: Python<'py>,
    fd: &Bound<'py, PyAny>,
    read: &Bound<'py, PyAny>,
    write: &Bound<'py, PyAny>,
    timeout: &Bound<'py, PyAny>,
    timeout_exc: &Bound<'py, PyAny>,
    mark_as_closed: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let Some(core) = current::get(py) else {
        return original(py, intern!(py, "trampoline"))?.call1((
            fd,
            read,
            write,
            timeout,
            timeout_exc,
            mark_as_closed,
        ));
    };
    let (read, write) = (read.is_truthy()?, write.is_truthy()?);
    if wait::in_mainloop(&core)? {
        return Err(PyRuntimeError::new_err("do not call blocking functions from the mainloop"));
    }
    if read && write {
        return Err(PyRuntimeError::new_err("not allowed to trampoline for reading and writing"));
    }
    let number = number(fd)?;
    known_open(&core, number)?;
    if read && core.get().with_state(|state| state.leftovers().offer(number)) == Some(true) {
        return number.into_pyobject(py).map_err(Into::into).map(Bound::into_any);
    }
    let timeout_s = if timeout.is_none() { None } else { Some(timeout.extract::<f64>()?) };
    let side = if write { Side::Write } else { Side::Read };
    loop {
        let waiting =
            wait::begin(&core, number, side, Request::Poll, timeout_s)?.ok_or_else(wait::mainloop_error)?;
        waiting.park(&core).map_err(|raised| raised.fetch(py))?;
        if polled(&core, waiting, timeout_exc, mark_as_closed)? {
            return number.into_pyobject(py).map_err(Into::into).map(Bound::into_any);
        }
    }
}

/// Whether a wait for readiness is over; false if it is to be tried again.
#[inline(never)]
fn polled<'py>(
    core: &Bound<'py, Core>,
    waiting: wait::Waiting<'py>,
    timeout_exc: &Bound<'py, PyAny>,
    mark_as_closed: &Bound<'py, PyAny>,
) -> PyResult<bool> {
    let py = core.py();
    match waiting.outcome(core) {
        Outcome::Completed(completion) => match completion.result {
            Ok(_) => Ok(true),
            Err(errno) => Err(sys::os_error(errno.raw_os_error())),
        },
        Outcome::Expired => Err(as_error(timeout_exc)?),
        // The caller tries its operation again, and gets the bytes, or EBADF.
        Outcome::Closed | Outcome::Leftover(_) => Ok(true),
        // Leftover bytes came first: whoever waits for readiness looks for them now.
        Outcome::Woken => Ok(true),
        Outcome::Reopened => {
            if !mark_as_closed.is_none() {
                mark_as_closed.call0()?;
            }
            let class = original(py, intern!(py, "IOClosed"))?;
            Err(PyErr::from_value(class.call1((libc::ENOTCONN, "Operation on closed file"))?))
        }
    }
}

/// What `greenlet.throw(exception)` would raise for an exception class or instance.
fn as_error(exception: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    if exception.is_instance_of::<pyo3::types::PyType>() {
        return Ok(PyErr::from_value(exception.call0()?));
    }
    Ok(PyErr::from_value(exception.clone()))
}

/// The number of a file object or integer; an error at once for what is not an open descriptor.
#[pyfunction]
pub fn fileno(fd: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    let number = number(fd)?;
    if sys::is_open(number) { Ok(number) } else { Err(sys::os_error(libc::EBADF)) }
}

fn number(fd: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    let number = match fd.getattr_opt(intern!(fd.py(), "fileno"))? {
        Some(method) => method.call0()?.extract::<RawFd>()?,
        None => fd.extract::<RawFd>()?,
    };
    if number < 0 {
        return Err(PyValueError::new_err(format!(
            "file descriptor cannot be a negative integer ({number})"
        )));
    }
    Ok(number)
}

/// Raises EBADF at once, as epoll does, where the ring would say so by a completion; asks the kernel only
/// until the number has been seen open.
fn known_open(core: &Bound<'_, Core>, fd: RawFd) -> PyResult<()> {
    let mut local = core.get().local()?.borrow_mut();
    // A wrong number must not cost its size in memory.
    if !local.state.known(fd).is_some_and(|known| known.seen_open) {
        if !sys::is_open(fd) {
            return Err(sys::os_error(libc::EBADF));
        }
        local.state.descriptor(fd).seen_open = true;
    }
    Ok(())
}

/// Queues the first switch into a green thread that has not started.
#[pyfunction]
#[pyo3(signature = (core, target, args, kwargs=None))]
pub fn start(
    core: &Bound<'_, Core>,
    target: Py<PyAny>,
    args: Py<PyTuple>,
    kwargs: Option<Py<PyDict>>,
) -> PyResult<()> {
    core.get().local()?.borrow_mut().state.engine.turn.push(Runnable::Start(target, args, kwargs));
    Ok(())
}

/// Called with the number of a socket that is about to be closed.
#[pyfunction]
pub fn closing(py: Python<'_>, fd: RawFd) {
    if fd < 0 {
        return;
    }
    closing_in_loops(py, fd);
    let Some(core) = current::get(py) else { return closings::announce(fd, None) };
    let core = core.get();
    // What this thread's hub has worked on is not another's.
    let is_own = core.with_state(|state| state.known(fd).is_some_and(|known| known.is_used())) == Some(true);
    core.closing(fd);
    if !is_own {
        closings::announce(fd, Some(core.closings()));
    }
}

/// Called with the number of a socket whose object gives it away: another may go on with the file, and with what a
/// killed receive had taken from it.
#[pyfunction]
pub fn leaving(py: Python<'_>, fd: RawFd) {
    if let Some(core) = current::get(py) {
        core.get().leaving(fd);
    }
}

/// Called with a socket or pipe that gets an object of eventlet's.
#[pyfunction]
pub fn wrapped(fd: &Bound<'_, PyAny>) -> PyResult<()> {
    let Some(core) = current::get(fd.py()) else { return Ok(()) };
    // What has no number is for eventlet's own code to refuse.
    if let Some(fileno) = fd.getattr_opt(intern!(fd.py(), "fileno"))?
        && let Ok(fd) = fileno.call0()?.extract()
    {
        core.get().wrapped(fd);
    }
    Ok(())
}

/// Called with a descriptor number that the kernel has just given out; false if the hub's own method must
/// be called, because the thread's hub is not one of ours, somebody has put a `mark_as_reopened` of his own on
/// it, or listeners of eventlet's are on the number.
#[pyfunction]
pub fn reopened(py: Python<'_>, fd: RawFd) -> bool {
    current::get(py).is_some_and(|core| {
        let own = core.as_any().getattr(intern!(py, "__dict__"));
        if own.and_then(|own| own.contains(intern!(py, "mark_as_reopened"))).unwrap_or(false) {
            return false;
        }
        let has_listeners =
            |state: &mut State| state.known(fd).is_some_and(|known| !known.listeners.is_empty());
        let listened = core.get().with_state(has_listeners);
        listened == Some(false) && !core.get().reopened(fd)
    })
}
