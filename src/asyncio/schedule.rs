//! `call_soon`, `call_at`, `call_soon_threadsafe`: from the caller into the turn.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::core::LoopCore;
use super::engine::{Engine, Runnable};
use super::handle::handles;

impl LoopCore {
    /// Moves what other threads scheduled into the turn.
    #[inline]
    pub fn empty_inbox(&self) {
        if self.closings.has_some() {
            self.take_closings();
        }
        // Acquire pairs with the Release in `post`; a handle that comes later also wakes the wait.
        if self.has_inbox.load(Ordering::Acquire) {
            self.with_engine(|engine| self.empty_inbox_into(engine));
        }
    }

    #[cold]
    fn empty_inbox_into(&self, engine: &mut Engine) {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        self.has_inbox.store(false, Ordering::Relaxed);
        for handle in inbox.drain(..) {
            engine.turn.push(Runnable::Handle(handle));
        }
    }

    /// Queues a handle from any thread.
    pub fn post(&self, handle: Py<PyAny>) {
        let mut handle = Some(handle);
        self.with_engine(|engine| {
            if let Some(handle) = handle.take() {
                engine.turn.push(Runnable::Handle(handle));
            }
        });
        // The engine is another thread's, or is borrowed by one that waits in a bare `_run_once`.
        if let Some(handle) = handle {
            self.inbox.lock().unwrap_or_else(PoisonError::into_inner).push(handle);
            self.has_inbox.store(true, Ordering::Release);
        }
        self.waker().wake();
    }

    /// Queues a handle.
    #[inline]
    pub fn push(&self, handle: Py<PyAny>) -> PyResult<()> {
        if let Some(mut engine) = self.engine.get().and_then(|place| place.try_borrow_mut()) {
            // What another thread scheduled before this comes before it.
            if self.has_inbox.load(Ordering::Acquire) {
                self.empty_inbox_into(&mut engine);
            }
            engine.turn.push(Runnable::Handle(handle));
            return Ok(());
        }
        self.check_closed()?;
        // A call from a foreign thread, outside of debug mode: do what call_soon_threadsafe does.
        self.post(handle);
        Ok(())
    }

    /// A timer handle for the time `when`, which shows as `shown`.
    pub fn at<'py>(
        slf: &Bound<'py, Self>,
        when: f64,
        shown: Bound<'py, PyAny>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let core = slf.get();
        core.check_closed()?;
        let handles = handles(slf.py())?;
        let handle = if core.debug() {
            let made = (shown, callback, args, context);
            slf.call_method1(intern!(slf.py(), "_make_timer_in_debug"), made)?
        } else {
            handles.make_timer(slf, shown, callback, args, context)?
        };
        if core.engine.get().is_none() {
            // A call from a foreign thread, outside of debug mode: the loop's own thread puts it in.
            let put_in = slf.getattr(intern!(slf.py(), "_put_in_timer"))?;
            let args = (when, handle.clone()).into_pyobject(slf.py())?;
            core.post(handles.make(slf, put_in, args, None)?.unbind());
            return Ok(handle);
        }
        Self::put_in_timer(slf, when, &handle)?;
        Ok(handle)
    }

    /// Enters a timer handle in the store.
    pub fn put_in_timer(slf: &Bound<'_, Self>, when: f64, handle: &Bound<'_, PyAny>) -> PyResult<()> {
        // Rounded up: a callback never sees a clock before its time. `as` saturates.
        let deadline_ns = (when * 1e9).ceil() as u64;
        let runnable = Runnable::Handle(handle.clone().unbind());
        let key = slf.get().engine()?.borrow_mut().turn.push_at(deadline_ns, runnable);
        handles(slf.py())?.set_key(handle, key)
    }

    /// A handle for the next turn, made by `method`.
    #[inline]
    pub fn make<'py>(
        slf: &Bound<'py, Self>,
        method: &str,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.get().check_closed()?;
        if slf.get().debug() {
            return slf.call_method1(intern!(slf.py(), "_make_in_debug"), (method, callback, args, context));
        }
        handles(slf.py())?.make(slf, callback, args, context)
    }
}
