//! `spawn`, `spawn_n` and the life of a GreenThread.
//!
//! A GreenThread is started by the hub straight from the ready queue. The event that its end is announced
//! through is made when somebody first looks at it, which for most green threads of a pool is never.

use std::ffi::CStr;

use pyo3::Borrowed;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};

use super::core::Core;
use super::state::Runnable;
use super::{current, event, greenlet, tasks};
use crate::fastcall::{self, Arguments, Function, Handling};
use crate::raised::{Failure, Raised, raise};

struct Eventlets {
    green_thread: Py<PyType>,
    /// The names of `eventlet.greenthread`, where programs may put a class of their own.
    names: Py<PyDict>,
    spawn: Py<PyAny>,
    spawn_n: Py<PyAny>,
    /// The keyword arguments of most calls. `main` only unpacks them, so one dict serves all; a dict for
    /// each green thread that has not started is a burden on the garbage collector.
    no_kwargs: Py<PyDict>,
}

static EVENTLETS: PyOnceLock<Eventlets> = PyOnceLock::new();

/// Names eventlet's own class and functions, once, and replaces the class's `main` and `wait`.
#[pyfunction]
pub fn bind_spawn(green_thread: &Bound<'_, PyType>, spawn: Py<PyAny>, spawn_n: Py<PyAny>) -> PyResult<()> {
    let py = green_thread.py();
    let no_kwargs = PyDict::new(py).unbind();
    let names = spawn.bind(py).getattr("__globals__")?.cast_into()?.unbind();
    let class = green_thread.clone().unbind();
    let _ = EVENTLETS.set(py, Eventlets { green_thread: class, names, spawn, spawn_n, no_kwargs });
    fastcall::bind::<Main>(green_thread)?;
    fastcall::bind::<Wait>(green_thread)
}

fn eventlets(py: Python<'_>) -> &Eventlets {
    EVENTLETS.get(py).expect("eventlet's functions call these only after bind_spawn")
}

/// Our hub, its greenlet, which is the parent of what is spawned, and the function to run.
type Begun<'a, 'py> = (Bound<'py, Core>, Bound<'py, PyAny>, Borrowed<'a, 'py, PyAny>);

/// None where eventlet's own code must run.
#[inline]
fn begin<'a, 'py>(py: Python<'py>, arguments: &Arguments<'a, 'py>) -> PyResult<Option<Begun<'a, 'py>>> {
    let Some(core) = current::get(py) else { return Ok(None) };
    let parent = core.get().local()?.borrow().greenlet.as_ref().map(|hub| hub.clone_ref(py).into_bound(py));
    Ok(parent.zip(arguments.get(0)).map(|(parent, function)| (core, parent, function)))
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
pub struct Spawn;

impl Function for Spawn {
    const NAME: &'static CStr = c"spawn";
    const DOC: &'static CStr = c"spawn($module, func, /, *args, **kwargs)\n--\n\n\
        Run func(*args, **kwargs) in a green thread; returns its GreenThread.";
    type Error = PyErr;

    fn call<'py>(module: &Bound<'py, PyAny>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let py = module.py();
        let class = eventlets(py).green_thread.bind(py);
        if let Some((core, parent, function)) = begin(py, &arguments)?
            && eventlets(py)
                .names
                .bind(py)
                .get_item(intern!(py, "GreenThread"))?
                .is_some_and(|own| own.is(class))
        {
            let green = greenlet::allocate(class)?;
            let main = green.getattr(intern!(py, "main"))?;
            greenlet::init(&green, &main, &parent)?;
            tasks::inherit_context(&green)?;
            let args = arguments.tuple_from(1)?;
            let kwargs = match arguments.keyword_dict()? {
                Some(kwargs) => kwargs,
                None => eventlets(py).no_kwargs.bind(py).clone(),
            };
            let main_args = (function, args, kwargs).into_pyobject(py)?;
            start(&core, green.clone().unbind(), main_args.unbind(), None)?;
            return Ok(green);
        }
        arguments.pass_to(eventlets(py).spawn.bind(py))
    }
}

/// `eventlet.spawn_n(function, *args, **kwargs)`.
pub struct SpawnN;

impl Function for SpawnN {
    const NAME: &'static CStr = c"spawn_n";
    const DOC: &'static CStr = c"spawn_n($module, func, /, *args, **kwargs)\n--\n\n\
        Run func(*args, **kwargs) in a green thread whose end nobody can wait for; returns its greenlet.";
    type Error = PyErr;

    fn call<'py>(module: &Bound<'py, PyAny>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let py = module.py();
        if let Some((core, parent, function)) = begin(py, &arguments)? {
            let green = greenlet::new(&function, &parent)?;
            tasks::inherit_context(&green)?;
            let (args, kwargs) = (arguments.tuple_from(1)?, arguments.keyword_dict()?);
            start(&core, green.clone().unbind(), args.unbind(), kwargs.map(Bound::unbind))?;
            return Ok(green);
        }
        arguments.pass_to(eventlets(py).spawn_n.bind(py))
    }
}

/// `GreenThread.main(function, args, kwargs)`: what a GreenThread runs.
struct Main;

impl Function for Main {
    const NAME: &'static CStr = c"main";
    const DOC: &'static CStr = c"main($self, function, args, kwargs, /)\n--\n\n\
        Run function(*args, **kwargs) and announce its end to those who wait for it.";
    type Error = Raised;

    fn call<'py>(
        green: &Bound<'py, PyAny>,
        arguments: Arguments<'_, 'py>,
    ) -> Result<Bound<'py, PyAny>, Raised> {
        match arguments.apply() {
            Ok(result) => Self::ended(green, result),
            Err(raised) => Err(Self::failed(green, raised)),
        }
    }
}

impl Main {
    #[inline(never)]
    fn ended<'py>(green: &Bound<'py, PyAny>, result: Bound<'py, PyAny>) -> Result<Bound<'py, PyAny>, Raised> {
        let py = green.py();
        raise(py, ended(green, result).map(|()| py.None().into_bound(py)))
    }

    #[cold]
    #[inline(never)]
    fn failed(green: &Bound<'_, PyAny>, raised: Raised) -> Raised {
        let py = green.py();
        let error = raised.fetch(py);
        let announced = {
            let _handling = Handling::new(py, &error);
            failed(green, &error)
        };
        announced.err().unwrap_or(error).raise(py)
    }
}

/// Announces that the function of a GreenThread returned `result`.
fn ended<'py>(green: &Bound<'py, PyAny>, result: Bound<'py, PyAny>) -> PyResult<()> {
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

/// Announces that the function of a GreenThread raised `error`.
fn failed(green: &Bound<'_, PyAny>, error: &PyErr) -> PyResult<()> {
    let py = green.py();
    let event = green.getattr(intern!(py, "_exit_event"))?;
    let exc_info = (error.get_type(py), error.value(py), error.traceback(py));
    event.call_method1(intern!(py, "send_exception"), exc_info)?;
    green.call_method0(intern!(py, "_resolve_links")).map(drop)
}

struct Wait;

impl Function for Wait {
    const NAME: &'static CStr = c"wait";
    const DOC: &'static CStr = c"wait($self)\n--\n\n\
        Return the result of the green thread when it has ended, or raise what ended it.";
    type Error = Raised;

    fn call<'py>(
        green: &Bound<'py, PyAny>,
        arguments: Arguments<'_, 'py>,
    ) -> Result<Bound<'py, PyAny>, Raised> {
        Self::begin(green, &arguments)?.end()
    }
}

impl Wait {
    /// A green thread that has ended needs no event to say so.
    #[inline(never)]
    fn begin<'py>(
        green: &Bound<'py, PyAny>,
        arguments: &Arguments<'_, 'py>,
    ) -> Result<event::Waiting<'py>, Raised> {
        let py = green.py();
        let begin = || {
            arguments.check(&[])?;
            if let Some(result) = greenlet::dict(green)?.get_item(intern!(py, "_uringhub_result"))? {
                return Ok(event::Waiting::Over(result));
            }
            let event = green.getattr(intern!(py, "_exit_event"))?;
            if event::is_exact(&event) {
                return event::Waiting::begin(&event, None);
            }
            event.call_method0(intern!(py, "wait")).map(event::Waiting::Over)
        };
        raise(py, begin())
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
