//! `create_future` and `create_task`, the calls that a program of coroutines makes most.

use pyo3::exceptions::PyAttributeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use super::core::LoopCore;

static FUTURES: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
static TASKS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

fn module<'py>(
    py: Python<'py>,
    place: &PyOnceLock<Py<PyModule>>,
    name: &str,
) -> PyResult<Bound<'py, PyModule>> {
    place.get_or_try_init(py, || py.import(name).map(Bound::unbind)).map(|module| module.bind(py).clone())
}

/// `asyncio.futures.Future(loop=self)`; the class is looked up each time, so that a replaced one is honoured.
pub fn create_future<'py>(core: &Bound<'py, LoopCore>) -> PyResult<Bound<'py, PyAny>> {
    let py = core.py();
    let class = module(py, &FUTURES, "asyncio.futures")?.dict().get_item(intern!(py, "Future"))?;
    let Some(class) = class else { return Err(PyAttributeError::new_err("asyncio.futures.Future")) };
    class.call((), Some(&core.get().named_loop(core)?))
}

/// `asyncio.tasks.Task(coro, loop=self, ...)`; with a task factory, in debug mode or with arguments of a newer
/// Python the base class decides.
pub fn create_task<'py>(
    core: &Bound<'py, LoopCore>,
    coro: Bound<'py, PyAny>,
    name: Option<Bound<'py, PyAny>>,
    context: Option<Bound<'py, PyAny>>,
    kwargs: Option<Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = core.py();
    core.get().check_closed()?;
    let plain = kwargs.is_none() && !core.get().debug();
    let kwargs = kwargs.unwrap_or_else(|| PyDict::new(py));
    if let Some(name) = name {
        kwargs.set_item(intern!(py, "name"), name)?;
    }
    if let Some(context) = context {
        kwargs.set_item(intern!(py, "context"), context)?;
    }
    if !plain || !core.getattr(intern!(py, "_task_factory"))?.is_none() {
        return core.call_method(intern!(py, "_create_task_of_base"), (coro,), Some(&kwargs));
    }
    let class = module(py, &TASKS, "asyncio.tasks")?.getattr(intern!(py, "Task"))?;
    kwargs.set_item(intern!(py, "loop"), core)?;
    class.call((coro,), Some(&kwargs))
}
