//! Timers as eventlet's users see them: what `schedule_call_global` returns.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::core::Core;
use super::greenlet;
use crate::turn::TimerKey;

/// What a timer does when it is due.
enum Action {
    Call(Py<PyAny>, Py<PyTuple>, Option<Py<PyDict>>),
    /// `greenlet.throw(exception)`: an `eventlet.Timeout`.
    Throw(Py<PyAny>, Py<PyAny>),
}

#[derive(Default)]
struct Inner {
    action: Option<Action>,
    /// A local timer does nothing once the green thread that made it has ended.
    local_to: Option<Py<PyAny>>,
    core: Option<Py<Core>>,
    key: Option<TimerKey>,
    scheduled_time: Option<f64>,
}

/// A call scheduled on a hub; `cancel()` prevents it if it has not happened yet.
///
/// Has the attributes of `eventlet.hubs.timer.Timer`: `seconds`, `called`, `pending`, `tpl`,
/// `scheduled_time`.
#[pyclass(frozen, module = "uringhub._native", weakref)]
pub struct Timer {
    /// The delay that was asked for, in seconds.
    #[pyo3(get)]
    seconds: f64,
    /// Any thread may schedule and cancel a timer; nothing runs and nothing is dropped with this locked.
    inner: Mutex<Inner>,
}

impl Timer {
    /// A timer that calls `callback(*args, **kwargs)`.
    pub fn call(
        seconds: f64,
        callback: Py<PyAny>,
        args: Py<PyTuple>,
        kwargs: Option<Py<PyDict>>,
        local_to: Option<Py<PyAny>>,
    ) -> Self {
        Self::new(seconds, Action::Call(callback, args, kwargs), local_to)
    }

    /// A timer that throws `exception` into `target`.
    pub fn throw(seconds: f64, target: Py<PyAny>, exception: Py<PyAny>) -> Self {
        Self::new(seconds, Action::Throw(target, exception), None)
    }

    fn new(seconds: f64, action: Action, local_to: Option<Py<PyAny>>) -> Self {
        let inner = Inner { action: Some(action), local_to, core: None, key: None, scheduled_time: None };
        Self { seconds, inner: Mutex::new(inner) }
    }

    /// The delay that was asked for.
    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    /// The clock reading at which the call is due.
    pub fn scheduled(&self) -> Option<f64> {
        self.lock().scheduled_time
    }

    /// Remembers where the timer waits, so that it can be cancelled.
    pub fn set_scheduled(&self, core: Py<Core>, key: Option<TimerKey>, scheduled_time: f64) {
        let mut inner = self.lock();
        let old = inner.core.replace(core);
        inner.key = key;
        inner.scheduled_time = Some(scheduled_time);
        drop(inner);
        drop(old);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out all that the timer holds, so that it is dropped where any code may run.
    fn take(&self) -> Inner {
        let mut inner = self.lock();
        let scheduled_time = inner.scheduled_time;
        let taken = std::mem::take(&mut *inner);
        inner.scheduled_time = scheduled_time;
        taken
    }

    /// The green thread that it throws an exception into, if the delay was none.
    pub fn throws_at_once(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        if self.seconds > 0.0 {
            return None;
        }
        match &self.lock().action {
            Some(Action::Throw(target, _)) => Some(target.clone_ref(py)),
            _ => None,
        }
    }

    /// Calls the timer, once.
    pub fn fire(&self, py: Python<'_>) -> PyResult<()> {
        let Inner { action, local_to, .. } = self.take();
        if local_to.is_some_and(|owner| greenlet::is_dead(owner.bind(py))) {
            return Ok(());
        }
        match action {
            None => Ok(()),
            Some(Action::Call(callback, args, kwargs)) => {
                let kwargs = kwargs.as_ref().map(|kwargs| kwargs.bind(py));
                callback.bind(py).call(args.bind(py), kwargs).map(drop)
            }
            Some(Action::Throw(target, exception)) => {
                greenlet::throw(target.bind(py), exception.bind(py)).map(drop)
            }
        }
    }
}

#[pymethods]
impl Timer {
    /// Prevents the call; without effect if it happened or was cancelled before.
    pub fn cancel(&self) {
        let taken = self.take();
        if let (Some(core), Some(key)) = (&taken.core, taken.key) {
            // Taken out of the store first: dropping what it held may run any code.
            let entry = core.get().with_state(|state| state.engine.turn.cancel(key));
            drop(entry);
        }
    }

    /// Whether the call happened or was cancelled.
    #[getter]
    fn called(&self) -> bool {
        self.lock().action.is_none()
    }

    /// Whether the call is still to come.
    #[getter]
    fn pending(&self, py: Python<'_>) -> bool {
        let owner = self.lock().local_to.as_ref().map(|owner| owner.clone_ref(py));
        !owner.is_some_and(|owner| greenlet::is_dead(owner.bind(py))) && !self.called()
    }

    /// The clock reading, in seconds, at which the call is due.
    #[getter]
    fn scheduled_time(&self) -> Option<f64> {
        self.scheduled()
    }

    /// `(callback, args, kwargs)`, or None when the call happened or was cancelled.
    #[getter]
    fn tpl<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let parts = match &self.lock().action {
            None => return Ok(None),
            Some(Action::Call(callback, args, kwargs)) => (
                callback.clone_ref(py),
                args.clone_ref(py),
                kwargs.as_ref().map(|kwargs| kwargs.clone_ref(py)),
                None,
            ),
            Some(Action::Throw(target, exception)) => {
                (target.clone_ref(py), PyTuple::empty(py).unbind(), None, Some(exception.clone_ref(py)))
            }
        };
        let (callback, args, kwargs, exception) = parts;
        let kwargs = kwargs.map_or_else(|| PyDict::new(py), |kwargs| kwargs.into_bound(py));
        match exception {
            None => (callback, args, kwargs).into_pyobject(py).map(Some),
            Some(exception) => {
                let throw = callback.bind(py).getattr("throw")?;
                (throw, (exception,), kwargs).into_pyobject(py).map(Some)
            }
        }
    }

    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let (core, key) = {
            let mut inner = self.lock();
            (inner.core.take(), inner.key.take())
        };
        if let (Some(core), Some(key)) = (core, key) {
            drop(core.get().with_state(|state| state.engine.turn.cancel(key)));
        }
        self.fire(py)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let call = match self.tpl(py)? {
            Some(call) => call.repr()?.to_string(),
            None => "called or cancelled".to_owned(),
        };
        Ok(format!("Timer({}, {call})", self.seconds))
    }

    fn __lt__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>) -> bool {
        (slf.as_ptr() as usize) < (other.as_ptr() as usize)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Ok(inner) = self.inner.try_lock() else { return Ok(()) };
        match &inner.action {
            Some(Action::Call(callback, args, kwargs)) => {
                visit.call(callback)?;
                visit.call(args)?;
                visit.call(kwargs)?;
            }
            Some(Action::Throw(target, exception)) => {
                visit.call(target)?;
                visit.call(exception)?;
            }
            None => {}
        }
        visit.call(&inner.local_to)?;
        visit.call(&inner.core)
    }

    fn __clear__(&self) {
        drop(self.take());
    }
}
