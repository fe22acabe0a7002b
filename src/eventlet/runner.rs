//! Runners: the greenlets that asyncio handles run in.
//!
//! A handle may block in the green world, so none runs in the hub's own greenlet. A runner takes handles off the
//! front of the batch, one after the other, for as long as there are any: one switch for a run of handles. One
//! that blocks is suspended with its handle like any green thread, and the hub goes on with another. How far
//! the batch has come is the turn's to know, so a runner that is resumed needs no more than to look again.
//!
//! A task that asked who it is (`tasks::getcurrent`), that blocked, or whose greenlet somebody keeps is pinned: its
//! steps run in its own runner until it is done.
//! The pin is an attribute of the task, so that it goes when the task goes.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;

use super::core::Core;
use super::{greenlet, tasks, wait};
use crate::asyncio::{LoopCore, handles, step};
use crate::runnable::{Runnable, SinkId};

/// So many idle runners are kept.
const IDLE_MAX: usize = 32;

/// The runners of a hub.
#[derive(Default)]
pub struct Runners {
    pub idle: Vec<Py<PyAny>>,
    /// The idle ones that belong to a task, by address: their tasks keep them.
    resting: Vec<usize>,
    /// How many tasks have a runner of their own; none, and nobody looks for them.
    pinned: usize,
    /// How often a task has been left half-way.
    pub leaves: u64,
    /// Sinks whose callback has not returned, and whether they were told something meanwhile.
    busy: Vec<(SinkId, bool)>,
}

impl Runners {
    /// Takes a pinned runner out of those that rest; false if it does not: it is suspended with a handle.
    fn stir(&mut self, runner: &Bound<'_, PyAny>) -> bool {
        let place = self.resting.iter().position(|resting| *resting == runner.as_ptr() as usize);
        place.map(|place| self.resting.swap_remove(place)).is_some()
    }

    fn is_resting(&self, runner: &Bound<'_, PyAny>) -> bool {
        self.resting.contains(&(runner.as_ptr() as usize))
    }
}

/// Gives the task the greenlet that it runs in, if neither has another.
pub fn pin(core: &Bound<'_, Core>, me: &Bound<'_, PyAny>, task: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = core.py();
    if task_of(me)?.is_some() || task.hasattr(intern!(py, "_uringhub_runner"))? {
        return Ok(());
    }
    me.setattr(intern!(py, "task"), PyWeakrefReference::new(task)?)?;
    task.setattr(intern!(py, "_uringhub_runner"), me)?;
    core.get().local()?.borrow_mut().runners.pinned += 1;
    Ok(())
}

/// The runner that the front of the batch is to run in, if its task has one; an error is nobody's.
fn owner<'py>(core: &Bound<'py, Core>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = core.py();
    let handle = {
        let local = core.get().local()?.borrow();
        match local.state.engine.turn.peek() {
            Some(Runnable::Handle(handle)) if local.runners.pinned > 0 => handle.clone_ref(py),
            _ => return Ok(None),
        }
    };
    let mut found = handle.into_bound(py);
    for name in [intern!(py, "_callback"), intern!(py, "__self__"), intern!(py, "_uringhub_runner")] {
        match found.getattr_opt(name)? {
            Some(next) => found = next,
            None => return Ok(None),
        }
    }
    Ok(Some(found).filter(|runner| greenlet::is_active(runner)))
}

/// The runner for the front of the batch, if it is there already: the task's own, or an idle one.
pub fn waiting<'py>(core: &Bound<'py, Core>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let owner = owner(core)?;
    let runners = &mut core.get().local()?.borrow_mut().runners;
    if let Some(owner) = owner
        && runners.stir(&owner)
    {
        return Ok(Some(owner));
    }
    let idle = runners.idle.pop();
    Ok(idle.map(|runner| runner.into_bound(core.py())))
}

/// From the hub's greenlet: the runner that goes on with the batch, whose front is a handle.
pub fn next<'py>(core: &Bound<'py, Core>) -> PyResult<Bound<'py, PyAny>> {
    let py = core.py();
    match waiting(core)? {
        Some(runner) => Ok(runner),
        None => {
            let hub = greenlet::current(py)?;
            // The loop is the running one from the first handle on.
            core.getattr(intern!(py, "loop"))?;
            let class = tasks::runner_class(py).expect("a loop was lent, so the bridge is set");
            class.call1((core.getattr(intern!(py, "_run_handles"))?, hub))
        }
    }
}

/// The life of a runner: the function of its greenlet.
pub fn live(core: &Bound<'_, Core>) -> PyResult<()> {
    let py = core.py();
    let me = greenlet::current_unowned(py)?;
    let guest = core.get().local()?.borrow().guest.as_ref().map(|guest| guest.clone_ref(py));
    let Some(guest) = guest else { return Ok(()) };
    let guest = guest.bind(py);
    loop {
        let monitored = handles(py)?.is_monitored(py)?;
        while let Some(runnable) = take(core, &me)? {
            // Only what ends the hub comes out here: it ends the runner, and its parent, the hub, hears of it.
            if let Err(error) = run_one(core, &me, guest, runnable, monitored) {
                unpin(core, &me)?;
                return Err(error);
            }
            if is_over(&me)? {
                return unpin(core, &me);
            }
        }
        guest.get().bury();
        if !idle(core, &me)? {
            return unpin(core, &me);
        }
    }
}

/// The front of the batch, if it is for this runner.
fn take(core: &Bound<'_, Core>, me: &Bound<'_, PyAny>) -> PyResult<Option<Runnable>> {
    {
        let local = core.get().local()?.borrow();
        let is_handle = local.state.engine.turn.peek().is_some_and(Runnable::is_of_loop);
        // A callback of the hub that was left half-way goes on first.
        if !is_handle || local.calling {
            return Ok(None);
        }
    }
    let is_mine = match owner(core)? {
        Some(owner) if owner.is(me) => true,
        Some(owner) if core.get().local()?.borrow().runners.is_resting(&owner) => false,
        _ => !is_pinned(core, me)?,
    };
    Ok(if is_mine { core.get().local()?.borrow_mut().state.engine.turn.next() } else { None })
}

/// Runs a handle, and pins its task to this greenlet if somebody knows the two together by now.
///
/// A coroutine may make greenlets that switch back to the one they were made in, as SQLAlchemy and awaitlet do, so
/// its next step must run there again. Such a greenlet holds a reference to its parent, which is how it shows.
/// While one is suspended in the green world the count says nothing, so a task that blocked is pinned too.
fn run_handle(
    core: &Bound<'_, Core>,
    me: &Bound<'_, PyAny>,
    guest: &Bound<'_, LoopCore>,
    handle: Py<PyAny>,
    monitored: bool,
) -> PyResult<()> {
    let py = core.py();
    let kept = handle.clone_ref(py).into_bound(py);
    let seen = |core: &Bound<'_, Core>| {
        Ok::<_, PyErr>((greenlet::references(me), core.get().local()?.borrow().runners.leaves))
    };
    let (references, leaves) = seen(core)?;
    step(guest, handles(py)?, Runnable::Handle(handle), monitored)?;
    let (references_now, leaves_now) = seen(core)?;
    if references_now <= references && leaves_now == leaves {
        return Ok(());
    }
    let Some(callback) = kept.getattr_opt(intern!(py, "_callback"))? else { return Ok(()) };
    match callback.getattr_opt(intern!(py, "__self__"))? {
        Some(task) if task.hasattr(intern!(py, "_fut_waiter"))? && !tasks::is_done(&task)? => {
            pin(core, me, &task)
        }
        _ => Ok(()),
    }
}

fn run_one(
    core: &Bound<'_, Core>,
    me: &Bound<'_, PyAny>,
    guest: &Bound<'_, LoopCore>,
    runnable: Runnable,
    monitored: bool,
) -> PyResult<()> {
    let handles = handles(core.py())?;
    let id = match runnable {
        Runnable::Ready(id) => id,
        Runnable::Handle(handle) => return run_handle(core, me, guest, handle, monitored),
        _ => return Ok(()),
    };
    {
        // A callback that is suspended half-way is not called again before it has returned.
        let mut local = core.get().local()?.borrow_mut();
        if let Some((_, again)) = local.runners.busy.iter_mut().find(|(busy, _)| *busy == id) {
            *again = true;
            return Ok(());
        }
        local.runners.busy.push((id, false));
    }
    let result = step(guest, handles, Runnable::Ready(id), monitored);
    let mut local = core.get().local()?.borrow_mut();
    if let Some(place) = local.runners.busy.iter().position(|(busy, _)| *busy == id)
        && local.runners.busy.swap_remove(place).1
    {
        local.state.engine.turn.push(Runnable::Ready(id));
    }
    result
}

/// Waits for the next run of handles; false if the runner is to end.
fn idle(core: &Bound<'_, Core>, me: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = core.py();
    me.setattr(intern!(py, "gr_context"), py.None())?;
    let pinned = is_pinned(core, me)?;
    {
        let mut local = core.get().local()?.borrow_mut();
        if pinned {
            local.runners.resting.push(me.as_ptr() as usize);
        } else if local.runners.idle.len() >= IDLE_MAX {
            return Ok(false);
        } else {
            local.runners.idle.push(me.clone().unbind());
        }
    }
    wait::adopt_by_hub(core, me)?;
    let left = wait::leave(core, me).map_err(|raised| raised.fetch(core.py()));
    // A stray switch or throw has not taken it out.
    let stray = {
        let mut local = core.get().local()?.borrow_mut();
        local.runners.stir(me);
        let place = local.runners.idle.iter().position(|runner| runner.is(me));
        place.map(|place| local.runners.idle.swap_remove(place))
    };
    drop(stray);
    match left {
        Err(error) => Ok(error.get_type(py).name()? != "GreenletExit"),
        Ok(_) => Ok(true),
    }
}

/// The weak reference to the task that this greenlet is pinned to. The class of runners has the attribute too, since
/// to look for one that is missing raises an error inside, at the price of a switch.
fn task_of<'py>(me: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    Ok(me.getattr_opt(intern!(me.py(), "task"))?.filter(|reference| !reference.is_none()))
}

fn is_pinned(core: &Bound<'_, Core>, me: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(core.get().local()?.borrow().runners.pinned > 0 && task_of(me)?.is_some())
}

/// Whether the task that this runner is pinned to has ended.
fn is_over(me: &Bound<'_, PyAny>) -> PyResult<bool> {
    let Some(reference) = task_of(me)? else { return Ok(false) };
    let task = reference.call0()?;
    Ok(task.is_none() || tasks::is_done(&task)?)
}

fn unpin(core: &Bound<'_, Core>, me: &Bound<'_, PyAny>) -> PyResult<()> {
    if task_of(me)?.is_some() {
        let mut local = core.get().local()?.borrow_mut();
        local.runners.pinned = local.runners.pinned.saturating_sub(1);
    }
    Ok(())
}

/// Makes a context the current one of the running greenlet, without entering it; returns the one before.
pub fn swap_context<'py>(context: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let name = intern!(context.py(), "gr_context");
    let me = greenlet::current(context.py())?;
    let before = me.getattr(name)?;
    me.setattr(name, context)?;
    Ok(before)
}
