//! `spawn`, `spawn_n` and the life of a GreenThread.
//!
//! A GreenThread is started by the hub straight from the ready queue. The event that its end is announced
//! through is made when somebody first looks at it, which for most green threads of a pool is never.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};

use super::core::Core;
use super::state::Runnable;
use super::{current, event, greenlet, tasks};

struct Eventlets {
    green_thread: Py<PyType>,
    spawn: Py<PyAny>,
    spawn_n: Py<PyAny>,
    /// The keyword arguments of most calls. `main` only unpacks them, so one dict serves all; a dict for
    /// each green thread that has not started is a burden on the garbage collector.
    no_kwargs: Py<PyDict>,
}

static EVENTLETS: PyOnceLock<Eventlets> = PyOnceLock::new();

/// Names eventlet's own class and functions, once.
#[pyfunction]
pub fn set_spawn(py: Python<'_>, green_thread: Py<PyType>, spawn: Py<PyAny>, spawn_n: Py<PyAny>) {
    let no_kwargs = PyDict::new(py).unbind();
    let _ = EVENTLETS.set(py, Eventlets { green_thread, spawn, spawn_n, no_kwargs });
}

fn eventlets(py: Python<'_>) -> &Eventlets {
    EVENTLETS.get(py).expect("eventlet's functions call these only after set_spawn")
}

/// The greenlet of our hub, which is the parent of what is spawned.
fn parent<'py>(core: &Bound<'py, Core>) -> PyResult<Option<Bound<'py, PyAny>>> {
    Ok(core
        .get()
        .local()?
        .borrow()
        .greenlet
        .as_ref()
        .map(|hub| hub.clone_ref(core.py()).into_bound(core.py())))
}

fn start(
    core: &Bound<'_, Core>,
    target: Py<PyAny>,
    args: Py<PyTuple>,
    kwargs: Option<Py<PyDict>>,
) -> PyResult<()> {
    core.get().local()?.borrow_mut().state.engine.turn.push(Runnable::Start(target, args, kwargs));
    Ok(())
}

/// `eventlet.spawn(function, *args, **kwargs)`.
#[pyfunction]
pub fn spawn<'py>(
    function: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = function.py();
    if let Some(core) = current::get(py)
        && let Some(parent) = parent(&core)?
    {
        let green = greenlet::allocate(eventlets(py).green_thread.bind(py))?;
        let main = green.getattr(intern!(py, "main"))?;
        greenlet::init(&green, &main, &parent)?;
        tasks::inherit_context(&green)?;
        let kwargs = if kwargs.is_empty() { eventlets(py).no_kwargs.bind(py) } else { kwargs };
        let main_args = (function, args, kwargs).into_pyobject(py)?;
        start(&core, green.clone().unbind(), main_args.unbind(), None)?;
        return Ok(green);
    }
    eventlets(py).spawn.bind(py).call(with_first(function, args)?, Some(kwargs))
}

/// `eventlet.spawn_n(function, *args, **kwargs)`.
#[pyfunction]
pub fn spawn_n<'py>(
    function: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = function.py();
    if let Some(core) = current::get(py)
        && let Some(parent) = parent(&core)?
    {
        let green = greenlet::new(function, &parent)?;
        tasks::inherit_context(&green)?;
        let kwargs = (!kwargs.is_empty()).then(|| kwargs.clone().unbind());
        start(&core, green.clone().unbind(), args.clone().unbind(), kwargs)?;
        return Ok(green);
    }
    eventlets(py).spawn_n.bind(py).call(with_first(function, args)?, Some(kwargs))
}

fn with_first<'py>(first: &Bound<'py, PyAny>, rest: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyTuple>> {
    PyTuple::new(first.py(), std::iter::once(first.clone()).chain(rest.iter()).collect::<Vec<_>>())
}

/// Announces that the function of a GreenThread returned `result`: the second half of `GreenThread.main`.
#[pyfunction]
pub fn ended<'py>(green: &Bound<'py, PyAny>, result: Bound<'py, PyAny>) -> PyResult<()> {
    let py = green.py();
    let dict = greenlet::dict(green)?;
    match dict.get_item(intern!(py, "_exit_event"))? {
        Some(event) => event.call_method1(intern!(py, "send"), (result,)).map(drop)?,
        None => dict.set_item(intern!(py, "_uringhub_result"), result)?,
    }
    if dict.get_item(intern!(py, "_exit_funcs"))?.is_some_and(|functions| !functions.is_none()) {
        green.call_method0(intern!(py, "_resolve_links"))?;
    }
    Ok(())
}

/// `GreenThread.wait()`: a green thread that has ended needs no event to say so.
#[pyfunction]
pub fn wait_for_end<'py>(green: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = green.py();
    match greenlet::dict(green)?.get_item(intern!(py, "_uringhub_result"))? {
        Some(result) => Ok(result),
        None => green.getattr(intern!(py, "_exit_event"))?.call_method0(intern!(py, "wait")),
    }
}

/// `GreenThread._exit_event`: makes the event on first access. Not a data descriptor, so that the event then
/// stands in the instance's dict, and so does one that somebody else puts there.
#[pyclass(frozen, module = "uringhub._native")]
pub struct LazyExitEvent;

#[pymethods]
impl LazyExitEvent {
    #[new]
    fn new() -> Self {
        Self
    }

    fn __get__<'py>(
        slf: Bound<'py, Self>,
        instance: &Bound<'py, PyAny>,
        _owner: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        if instance.is_none() {
            return Ok(slf.into_any());
        }
        let dict = greenlet::dict(instance)?;
        let event = event::new(py)?;
        if let Some(result) = dict.get_item(intern!(py, "_uringhub_result"))? {
            event::set_result(&event, result)?;
            dict.del_item(intern!(py, "_uringhub_result"))?;
        }
        dict.set_item(intern!(py, "_exit_event"), &event)?;
        Ok(event)
    }
}
