//! How a green thread suspends: for an operation, for a delay, or until someone switches to it.
//!
//! Every wait is an entry in the table of waiters, named by slot and generation. Whoever wants to end it
//! makes the entry ready; a green thread that leaves for another reason (kill, Timeout, a stray switch)
//! removes its entry, so that what is still queued for it names nothing any more.
//!
//! The one that leaves switches straight to the next ready green thread of the batch if that one has
//! started already, and to the hub's greenlet otherwise. A green thread is only ever *started* from the
//! hub's greenlet: started from another's stack it would inherit its recursion depth and sit on its C stack.

use std::os::fd::RawFd;

use pyo3::exceptions::{PyAssertionError, PyRuntimeError};
use pyo3::prelude::*;

use super::closings::Moment;
use super::core::{Core, deadline_ns};
use super::held::Held;
use super::state::{Outcome, Runnable, Side, State, Waiter, WaiterId};
use super::{conflict, greenlet, hooks, semaphore, tasks, unlock};
use crate::proactor::Op;
use crate::raised::{Raised, raise};

/// Where the green thread that leaves goes to.
enum Next {
    /// Its own wake-up is next: no switch at all.
    Myself,
    Another(Py<PyAny>),
    /// A handle is next, which a runner takes.
    Handles,
    /// A semaphore is next, for the first that waits for it.
    Grant(Py<PyAny>),
    /// The hub is handing over what is in a queue.
    Relay,
    Hub,
}

/// How the green thread that leaves goes there.
pub enum Onward<'py> {
    /// By a switch.
    Switch(Bound<'py, PyAny>),
    /// By a switch with what `greenlet::pass` was given.
    Pass(Bound<'py, PyAny>),
    /// Not at all: it goes on itself, with this.
    Stay(Bound<'py, PyAny>),
}

impl State {
    /// Takes the next runnable if it resumes a suspended green thread; leaves anything else to the hub.
    fn hand_off(&mut self, py: Python<'_>, me: *mut pyo3::ffi::PyObject) -> Next {
        loop {
            let id = match self.engine.turn.peek() {
                Some(Runnable::Resume(id)) => *id,
                Some(Runnable::Grant(semaphore)) => return Next::Grant(semaphore.clone_ref(py)),
                Some(runnable) if runnable.is_of_loop() => return Next::Handles,
                _ => return Next::Hub,
            };
            let waiter = self.waiters.get(id);
            if waiter.is_some_and(|waiter| !hooks::is_plain(waiter.who.bind(py))) {
                // Its own `switch` method is Python code, for the hub to call.
                return Next::Hub;
            }
            self.engine.turn.next();
            let Some(who) = self.resume(py, id) else { continue };
            return if who.as_ptr() == me { Next::Myself } else { Next::Another(who) };
        }
    }

    /// Marks a wait as woken and returns its green thread; None if the wait is over.
    pub fn resume(&mut self, py: Python<'_>, id: WaiterId) -> Option<Py<PyAny>> {
        let waiter = self.waiters.get_mut(id)?;
        waiter.outcome.get_or_insert(Outcome::Woken);
        Some(waiter.who.clone_ref(py))
    }
}

/// Leaves the calling green thread until something switches to it; returns what that passes.
pub fn switch<'py>(core: &Bound<'py, Core>) -> PyResult<Bound<'py, PyAny>> {
    let me = greenlet::current(core.py())?;
    enter(core, &me)?;
    leave(core, &me).map_err(|raised| raised.fetch(core.py()))
}

/// Makes the calling greenlet a child of the hub's, as eventlet's `hub.switch` does.
#[inline(never)]
pub fn enter(core: &Bound<'_, Core>, me: &Bound<'_, PyAny>) -> PyResult<()> {
    let hub = hub_greenlet(core)?;
    if hub.is(me) {
        return Err(PyAssertionError::new_err("Cannot switch to MAINLOOP from MAINLOOP"));
    }
    prepare(core, me, &hub)
}

/// What eventlet's hub does before it leaves a green thread.
fn prepare(core: &Bound<'_, Core>, me: &Bound<'_, PyAny>, hub: &Bound<'_, PyAny>) -> PyResult<()> {
    if let Some(switch_out) = super::hooks::find(me)?
        && let Err(error) = switch_out.call0()
    {
        super::run::report(core, error)?;
    }
    adopt(me, hub)
}

/// The hub's greenlet, a fresh one if the last has ended.
fn hub_greenlet<'py>(core: &Bound<'py, Core>) -> PyResult<Bound<'py, PyAny>> {
    let py = core.py();
    let (hub, running) = {
        let local = core.get().local()?.borrow();
        (local.greenlet.as_ref().map(|hub| hub.clone_ref(py).into_bound(py)), local.running)
    };
    match hub {
        Some(hub) if running || !greenlet::is_dead(&hub) => Ok(hub),
        _ => {
            core.call_method0(pyo3::intern!(py, "ensure_greenlet"))?;
            let hub = core.get().local()?.borrow().greenlet.as_ref().map(|hub| hub.clone_ref(py));
            hub.map(|hub| hub.into_bound(py))
                .ok_or_else(|| PyRuntimeError::new_err("the hub has no greenlet: Hub.__init__ did not run"))
        }
    }
}

/// So far up a coroutine's greenlet is looked for.
const ANCESTORS_MAX: usize = 8;

/// A green thread that ends must continue in the hub, so the hub becomes its parent.
fn adopt(me: &Bound<'_, PyAny>, hub: &Bound<'_, PyAny>) -> PyResult<()> {
    if greenlet::has_parent(me, hub) || greenlet::has_parent(hub, me) {
        return Ok(());
    }
    // What a coroutine runs in a greenlet of its own (SQLAlchemy and awaitlet do) must come back to that coroutine.
    let ancestors = std::iter::successors(greenlet::parent(me), greenlet::parent);
    if ancestors.take(ANCESTORS_MAX).any(|ancestor| tasks::is_runner(&ancestor)) {
        return Ok(());
    }
    match greenlet::set_parent(me, hub) {
        // A cycle of parents: eventlet's hub leaves such a greenlet as it is.
        Err(error) if error.is_instance_of::<pyo3::exceptions::PyValueError>(me.py()) => Ok(()),
        other => other,
    }
}

/// Switches to who is next; returns what the switch back passes.
#[inline]
pub fn leave<'py>(core: &Bound<'py, Core>, me: &Bound<'py, PyAny>) -> Result<Bound<'py, PyAny>, Raised> {
    let task = set_aside(core, me)?;
    let switched = match next(core, me) {
        Ok(Onward::Switch(other)) => greenlet::switch(&other, None, None),
        Ok(Onward::Pass(other)) => greenlet::switch_passing(&other),
        Ok(Onward::Stay(value)) => Ok(value),
        Err(raised) => Err(raised),
    };
    match task {
        None => switched,
        Some(task) => take_up(core, task, switched),
    }
}

/// The task that leaves, if one does.
#[inline(never)]
fn set_aside(core: &Bound<'_, Core>, me: &Bound<'_, PyAny>) -> Result<Option<Py<PyAny>>, Raised> {
    raise(core.py(), tasks::leave(core, me))
}

/// Makes the task that comes back the current one again.
#[inline(never)]
fn take_up<'py>(
    core: &Bound<'py, Core>,
    task: Py<PyAny>,
    switched: Result<Bound<'py, PyAny>, Raised>,
) -> Result<Bound<'py, PyAny>, Raised> {
    let switched = switched.map_err(|raised| raised.fetch(core.py()));
    let entered = tasks::enter(core, task);
    raise(core.py(), entered.and(switched))
}

/// Makes the hub's greenlet the parent of one that is about to leave.
pub fn adopt_by_hub(core: &Bound<'_, Core>, me: &Bound<'_, PyAny>) -> PyResult<()> {
    adopt(me, &hub_greenlet(core)?)
}

/// Where the caller is to go.
#[inline(never)]
fn next<'py>(core: &Bound<'py, Core>, me: &Bound<'py, PyAny>) -> Result<Onward<'py>, Raised> {
    raise(core.py(), choose(core, me))
}

fn choose<'py>(core: &Bound<'py, Core>, me: &Bound<'py, PyAny>) -> PyResult<Onward<'py>> {
    let py = core.py();
    let next = loop {
        let next = {
            let mut local = core.get().local()?.borrow_mut();
            // A callback of the hub that was left half-way goes on first.
            if local.calling {
                break if local.relay.is_some() { Next::Relay } else { Next::Hub };
            }
            local.state.hand_off(py, me.as_ptr())
        };
        match next {
            Next::Grant(semaphore) => match grant(core, semaphore.bind(py))? {
                Granted::Nobody => {}
                Granted::Somebody(other) if other.is(me) => break Next::Myself,
                Granted::Somebody(other) => break Next::Another(other.unbind()),
                Granted::ByHub => break Next::Hub,
            },
            Next::Hub if super::run::renew(core)? => {}
            next => break next,
        }
    };
    let next = match next {
        Next::Myself => None,
        Next::Another(other) => Some(other.into_bound(py)),
        Next::Handles => match super::runner::waiting(core)? {
            Some(runner) => Some(runner).filter(|runner| !runner.is(me)),
            None => Some(hub_greenlet(core)?),
        },
        Next::Relay => match unlock::relay(core, me)? {
            Some(onward) => return Ok(onward),
            None => Some(hub_greenlet(core)?),
        },
        Next::Hub | Next::Grant(_) => Some(hub_greenlet(core)?),
    };
    Ok(next.map_or_else(|| Onward::Stay(py.None().into_bound(py)), Onward::Switch))
}

/// Who goes on when a semaphore's turn has come.
enum Granted<'py> {
    Nobody,
    Somebody(Bound<'py, PyAny>),
    /// Only the hub can switch to the one that is to go on.
    ByHub,
}

/// Does the front of the batch, which grants a semaphore, unless that is for the hub to do.
fn grant<'py>(core: &Bound<'py, Core>, semaphore: &Bound<'py, PyAny>) -> PyResult<Granted<'py>> {
    let first = semaphore::first(semaphore)?;
    if let Some(first) = &first
        && !can_go_straight_to(core, first)?
    {
        return Ok(Granted::ByHub);
    }
    let done = core.get().local()?.borrow_mut().state.engine.turn.next();
    drop(done);
    match first {
        Some(_) => semaphore::grant(semaphore).map(Granted::Somebody),
        None => Ok(Granted::Nobody),
    }
}

/// Whether a green thread that leaves may switch to this one, which waits: it has no `switch` of its own, and it is
/// the hub's child or its parent, and so of this thread.
pub fn can_go_straight_to(core: &Bound<'_, Core>, green: &Bound<'_, PyAny>) -> PyResult<bool> {
    if !hooks::is_plain(green) {
        return Ok(false);
    }
    let hub = hub_greenlet(core)?;
    Ok(greenlet::has_parent(green, &hub) || greenlet::has_parent(&hub, green))
}

/// A wait for nothing but to be woken.
pub fn plain(who: &Bound<'_, PyAny>) -> Waiter {
    let who = who.clone().unbind();
    let begun = Moment::now();
    Waiter {
        who,
        is_listener: false,
        place: None,
        op: None,
        pending: None,
        timer: None,
        outcome: None,
        begun,
    }
}

/// Has the calling green thread woken after `seconds`; to sleep is the caller's next step. None if there is
/// nothing to do.
pub fn lie_down<'py>(core: &Bound<'py, Core>, seconds: f64) -> PyResult<Option<Waiting<'py>>> {
    let (me, hub) = (greenlet::current(core.py())?, hub_greenlet(core)?);
    if hub.is(&me) {
        // A yield from a callback of the hub: it is not blocking, and there is nowhere to go.
        return if seconds <= 0.0 { Ok(None) } else { Err(mainloop_error()) };
    }
    if seconds <= 0.0 && super::run::nothing_to_yield_to(core)? {
        return Ok(None);
    }
    prepare(core, &me, &hub)?;
    let mut local = core.get().local()?.borrow_mut();
    let state = &mut local.state;
    let id = state.waiters.insert(plain(&me));
    if seconds > 0.0 {
        let timer = state.engine.turn.push_at(deadline_ns(seconds), Runnable::Resume(id));
        state.waiters[id].timer = Some(timer);
    } else {
        state.engine.turn.push(Runnable::Resume(id));
    }
    Ok(Some(Waiting { me, id }))
}

fn is_hub(core: &Bound<'_, Core>, me: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(core.get().local()?.borrow().greenlet.as_ref().is_some_and(|hub| hub.is(me)))
}

/// eventlet's error for a blocking call in a callback of the hub.
pub fn mainloop_error() -> PyErr {
    PyRuntimeError::new_err("do not call blocking functions from the mainloop")
}

/// Whether the caller is the hub's own greenlet, which must not wait.
pub fn in_mainloop(core: &Bound<'_, Core>) -> PyResult<bool> {
    is_hub(core, &greenlet::current(core.py())?)
}

/// What a green thread waits for on a descriptor.
pub enum Request {
    /// At most this many bytes of a stream.
    Recv(u32),
    /// The rest of these bytes, from the offset, to be sent with these flags.
    Send(Held, usize, i32),
    /// Readiness.
    Poll,
}

impl Request {
    fn into_op(self, fd: RawFd, side: Side) -> Op {
        match self {
            Self::Recv(max_len) => Op::Recv { fd, max_len },
            Self::Send(data, offset, flags) => Op::Send { fd, data: Box::new(data), offset, flags },
            Self::Poll => Op::Poll { fd, interest: side.interest() },
        }
    }
}

/// A wait that has been entered in the tables: to be parked, and then asked for its outcome.
pub struct Waiting<'py> {
    me: Bound<'py, PyAny>,
    id: WaiterId,
}

/// Starts a wait of the calling green thread; parking it is the caller's next step. None in the hub's own
/// greenlet, which must not wait.
///
/// The stack of a suspended green thread is copied at every switch, so the frames below the switch are kept
/// small: what needs room is done in frames of its own before (`begin`) and after it (`outcome`).
#[inline(never)]
pub fn begin<'py>(
    core: &Bound<'py, Core>,
    fd: RawFd,
    side: Side,
    request: Request,
    timeout_s: Option<f64>,
) -> PyResult<Option<Waiting<'py>>> {
    let (me, hub) = (greenlet::current(core.py())?, hub_greenlet(core)?);
    if hub.is(&me) {
        return Ok(None);
    }
    prepare(core, &me, &hub)?;
    let id = place(core, &me, fd, side, request.into_op(fd, side), timeout_s)?;
    Ok(Some(Waiting { me, id }))
}

impl Waiting<'_> {
    /// Suspends the green thread until its time has come; a stray switch ends it early, as on eventlet's hubs.
    #[inline]
    pub fn sleep(&self, core: &Bound<'_, Core>) -> Result<(), Raised> {
        let left = leave(core, &self.me);
        self.get_up(core, left)
    }

    #[inline(never)]
    fn get_up(&self, core: &Bound<'_, Core>, left: Result<Bound<'_, PyAny>, Raised>) -> Result<(), Raised> {
        match left {
            Ok(_) => {
                let waiter = core.get().with_state(|state| state.finish(self.id));
                drop(waiter);
                Ok(())
            }
            Err(raised) => Err(abandon(core, self.id, raised)),
        }
    }

    /// Suspends the green thread until the wait has an outcome.
    ///
    /// If an exception is thrown into it, the operation is cancelled before this returns, and bytes it had
    /// received already are kept for the next receive on the descriptor.
    #[inline]
    pub fn park(&self, core: &Bound<'_, Core>) -> Result<(), Raised> {
        loop {
            match leave(core, &self.me) {
                Ok(_) if has_outcome(core, self.id) => return Ok(()),
                // A stray switch: the operation is still in flight, so is the wait.
                Ok(_) => {}
                Err(raised) => return Err(abandon(core, self.id, raised)),
            }
        }
    }

    /// How the wait ended.
    pub fn outcome(self, core: &Bound<'_, Core>) -> Outcome {
        let waiter = core.get().with_state(|state| state.finish(self.id)).flatten();
        waiter.and_then(|waiter| waiter.outcome).unwrap_or(Outcome::Woken)
    }
}

#[inline(never)]
fn has_outcome(core: &Bound<'_, Core>, id: WaiterId) -> bool {
    let found =
        core.get().with_state(|state| state.waiters.get(id).is_none_or(|waiter| waiter.outcome.is_some()));
    found.unwrap_or(true)
}

#[cold]
#[inline(never)]
fn abandon(core: &Bound<'_, Core>, id: WaiterId, raised: Raised) -> Raised {
    // What is dropped can run any code, which must not see the exception as its own.
    let error = raised.fetch(core.py());
    let waiter = core.get().with_state(|state| state.abandon(id));
    drop(waiter);
    super::held::bury();
    error.restore(core.py());
    Raised
}

/// Enters the wait in the tables and submits its operation, or queues it behind the one under way.
fn place(
    core: &Bound<'_, Core>,
    me: &Bound<'_, PyAny>,
    fd: RawFd,
    side: Side,
    op: Op,
    timeout_s: Option<f64>,
) -> PyResult<WaiterId> {
    let py = core.py();
    if !core.get().local()?.borrow_mut().state.descriptor(fd).is_free(side) && conflict::is_refused(py)? {
        // Whoever is there may have all that it waits for, and need only be told.
        super::run::take(core, Some(std::time::Duration::ZERO))?;
        if let Some(other) = occupant(core, fd, side)? {
            return Err(conflict::error(side, fd, me, other.bind(py)));
        }
    }
    let mut waiter = plain(me);
    waiter.place = Some((fd, side));
    let mut local = core.get().local()?.borrow_mut();
    let state = &mut local.state;
    let half = state.descriptor(fd).half(side);
    let id = if half.active.is_some() {
        waiter.pending = Some(Box::new(op));
        let id = state.waiters.insert(waiter);
        state.descriptor(fd).half(side).queue.push_back(id);
        id
    } else {
        let id = state.submit(waiter, op);
        state.descriptor(fd).half(side).active = Some(id);
        id
    };
    if let Some(timeout_s) = timeout_s {
        let timer = state.engine.turn.push_at(deadline_ns(timeout_s), Runnable::Expire(id));
        state.waiters[id].timer = Some(timer);
    }
    Ok(id)
}

/// Who waits on this side of the descriptor already, and has nothing yet.
#[cold]
#[inline(never)]
fn occupant(core: &Bound<'_, Core>, fd: RawFd, side: Side) -> PyResult<Option<Py<PyAny>>> {
    let py = core.py();
    let mut local = core.get().local()?.borrow_mut();
    let state = &mut local.state;
    let descriptor = state.descriptor(fd);
    let active = descriptor.half(side).active;
    let listener = descriptor.listeners.clone();
    let same_side = |id: &WaiterId| {
        state.waiters.get(*id).filter(|waiter| {
            waiter.outcome.is_none() && waiter.place.is_some_and(|(_, its_side)| its_side == side)
        })
    };
    let found = active.iter().chain(listener.iter()).find_map(same_side);
    Ok(found.map(|waiter| waiter.who.clone_ref(py)))
}
