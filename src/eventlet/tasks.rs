//! Which asyncio task is current, across switches of green threads.
//!
//! asyncio keeps the current task per loop. Code of a task that blocks in the green world leaves its task half-way
//! and others run meanwhile, so the task is taken out at the switch and put back after it. The switch is the
//! only place that sees both, and it holds for every greenlet: eager tasks (3.12) can start inside any of them.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

use super::core::Core;
use super::{current, greenlet};

/// What `uringhub._worlds` provides.
struct Bridge {
    /// The class of the greenlets that run handles.
    runner: Py<PyType>,
    /// `asyncio.tasks._current_tasks`: the current task of each loop that has one.
    current: Py<PyDict>,
    /// `left(task, greenlet)`: the task blocks in the green world.
    left: Py<PyAny>,
    /// `entered(task)`: it goes on.
    entered: Py<PyAny>,
    /// `expire(timeout, task, exception)`: the time of an `eventlet.Timeout` of a task is up.
    expire: Py<PyAny>,
}

static BRIDGE: PyOnceLock<Bridge> = PyOnceLock::new();

/// Sets what both worlds need of each other; called when the first hub of the process gets its loop.
#[pyfunction]
pub fn set_bridge(
    py: Python<'_>,
    runner: Py<PyType>,
    current: Py<PyDict>,
    left: Py<PyAny>,
    entered: Py<PyAny>,
    expire: Py<PyAny>,
) {
    let _ = BRIDGE.set(py, Bridge { runner, current, left, entered, expire });
}

/// The class of the greenlets that run handles.
pub fn runner_class(py: Python<'_>) -> Option<&Bound<'_, PyType>> {
    BRIDGE.get(py).map(|bridge| bridge.runner.bind(py))
}

/// Whether the greenlet is one that runs handles.
pub fn is_runner(greenlet: &Bound<'_, PyAny>) -> bool {
    BRIDGE.get(greenlet.py()).is_some_and(|bridge| greenlet.get_type().is(&bridge.runner))
}

/// What an expired `eventlet.Timeout` of a task calls.
pub fn expire(py: Python<'_>) -> Option<&Bound<'_, PyAny>> {
    BRIDGE.get(py).map(|bridge| bridge.expire.bind(py))
}

type Current<'py> = (&'py Bridge, Bound<'py, PyAny>, Bound<'py, PyAny>);

/// The hub's loop and its current task.
fn find<'py>(core: &Bound<'py, Core>) -> PyResult<Option<Current<'py>>> {
    let py = core.py();
    let Some(bridge) = BRIDGE.get(py) else { return Ok(None) };
    let tasks = bridge.current.bind(py);
    if tasks.is_empty() {
        return Ok(None);
    }
    let the_loop = core.get().local()?.borrow().guest.as_ref().map(|guest| guest.bind(py).clone().into_any());
    let Some(the_loop) = the_loop else { return Ok(None) };
    Ok(tasks.get_item(&the_loop)?.map(|task| (bridge, the_loop, task)))
}

/// The current task of the hub's loop.
pub fn current<'py>(core: &Bound<'py, Core>) -> PyResult<Option<Bound<'py, PyAny>>> {
    Ok(find(core)?.map(|(_, _, task)| task))
}

/// The calling greenlet is about to be left: its task, if it has one, is not the current one until `enter`.
#[inline(never)]
pub fn leave(core: &Bound<'_, Core>, me: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
    let Some((bridge, the_loop, task)) = find(core)? else { return Ok(None) };
    let py = core.py();
    bridge.current.bind(py).del_item(the_loop)?;
    core.get().local()?.borrow_mut().runners.leaves += 1;
    bridge.left.bind(py).call1((&task, me))?;
    Ok(Some(task.unbind()))
}

/// The greenlet goes on with the task that `leave` returned.
#[inline(never)]
pub fn enter(core: &Bound<'_, Core>, task: Py<PyAny>) -> PyResult<()> {
    let py = core.py();
    let bridge = BRIDGE.get(py).expect("`leave` found a task through it");
    let the_loop = core.get().local()?.borrow().guest.as_ref().map(|guest| guest.clone_ref(py));
    if let Some(the_loop) = the_loop {
        bridge.current.bind(py).set_item(the_loop, &task)?;
    }
    bridge.entered.bind(py).call1((task,)).map(drop)
}

/// Leaves the current task around a switch that is not the hub's, as `greenlet.throw` is in `eventlet.kill`.
#[pyfunction]
pub fn leave_task(py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
    match current::get(py) {
        Some(core) => leave(&core, &greenlet::current(py)?),
        None => Ok(None),
    }
}

/// Goes on with the task that `leave_task` returned.
#[pyfunction]
pub fn enter_task(py: Python<'_>, task: Option<Py<PyAny>>) -> PyResult<()> {
    match (current::get(py), task) {
        (Some(core), Some(task)) => enter(&core, task),
        _ => Ok(()),
    }
}

/// `getcurrent()`: the running greenlet. A task that asks keeps the greenlet it has now until it is done, so
/// that it is the same at each of its steps and nobody else's.
#[pyfunction]
pub fn getcurrent(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    greenlet::import(py)?;
    let me = greenlet::current(py)?;
    if is_runner(&me)
        && let Some(core) = current::get(py)
        && let Some(task) = current(&core)?
    {
        super::runner::pin(&core, &me, &task)?;
    }
    Ok(me)
}

/// Gives a greenlet that was just made in a task a copy of the task's context, as a task that is made there gets.
#[pyfunction]
pub fn inherit_context(green: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = green.py();
    if BRIDGE.get(py).is_none() || !is_runner(&greenlet::current(py)?) {
        return Ok(());
    }
    green.setattr(intern!(py, "gr_context"), crate::asyncio::copy_current(py)?)
}

/// Whether a task has ended.
pub fn is_done(task: &Bound<'_, PyAny>) -> PyResult<bool> {
    task.call_method0(intern!(task.py(), "done"))?.is_truthy()
}
