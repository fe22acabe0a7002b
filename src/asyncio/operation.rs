//! Awaitables without a frame: what `sock_recv` and its kin and a stream reader's `read` return.
//!
//! A coroutine that does one thing costs more to make, resume and free than the thing itself. These are instances
//! of a Python class with slots (`uringhub.operations.Operation`, where a debugger and evtop can read what they are
//! about), made and stepped natively. They behave as coroutines do: nothing happens before the first step, they can
//! be made a task of, they can be thrown into, and one that nobody awaited says so.
//!
//! What an operation does is in `sock` and `read`; here is what is the same for all.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::{PyRuntimeError, PyRuntimeWarning, PyStopIteration, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};
use pyo3::{Borrowed, ffi, intern};

use super::core::LoopCore;
use super::slots::Slot;
use super::spare::{self, Place};
use super::{read, sock};
use crate::fastcall::{self, Arguments, Function, panicked};

/// The class of operations and its slots.
pub struct Operations {
    class: Py<PyType>,
    name: Slot,
    subject: Slot,
    argument: Slot,
    the_loop: Slot,
    waiting: Slot,
}

static OPERATIONS: PyOnceLock<Operations> = PyOnceLock::new();

/// What an operation is about, as its slots say.
pub struct About<'py> {
    /// The method that made it, an interned string.
    pub name: Bound<'py, PyAny>,
    /// The socket or reader.
    pub subject: Bound<'py, PyAny>,
    /// What the method was called with; once it waits, what `begin` returned to know it by.
    pub argument: Bound<'py, PyAny>,
    /// The loop.
    pub the_loop: Bound<'py, LoopCore>,
}

/// How the first step went.
pub enum Begun<'py> {
    /// There was nothing to wait for.
    Done(Bound<'py, PyAny>),
    /// A future, and what the operation is known by meanwhile.
    Waits(Bound<'py, PyAny>, Bound<'py, PyAny>),
}

/// How one step went.
enum Step<'py> {
    Yields(Bound<'py, PyAny>),
    Returns(Bound<'py, PyAny>),
}

/// Tells the class of operations; it has these slots, and no subclasses.
#[pyfunction]
pub fn set_operation_class(cls: &Bound<'_, PyType>) -> PyResult<()> {
    let class = cls;
    let py = class.py();
    let operations = Operations {
        class: class.clone().unbind(),
        name: Slot::find(class, "name")?,
        subject: Slot::find(class, "subject")?,
        argument: Slot::find(class, "argument")?,
        the_loop: Slot::find(class, "loop")?,
        waiting: Slot::find(class, "waiting")?,
    };
    let slots =
        [operations.waiting, operations.argument, operations.subject, operations.the_loop, operations.name];
    spare::keep(class, slots.map(Place::empty).into(), Some(warn_if_unawaited))?;
    fastcall::bind::<Await>(class)?;
    fastcall::bind::<Iterate>(class)?;
    fastcall::bind::<Next>(class)?;
    fastcall::bind::<Send>(class)?;
    fastcall::bind::<Throw>(class)?;
    fastcall::bind::<Close>(class)?;
    let raw = class.as_type_ptr();
    // SAFETY: attached; a live heap type, which owns its table of asynchronous slots. The functions take instances
    // of it. Setting the methods above has made the type ready; nothing sets its slots again.
    unsafe {
        (*raw).tp_iter = Some(itself);
        (*raw).tp_iternext = Some(next);
        let asynchronous = (*raw).tp_as_async;
        (*asynchronous).am_await = Some(itself);
        (*asynchronous).am_send = Some(send);
    }
    let _ = OPERATIONS.set(py, operations);
    Ok(())
}

/// An operation that has not begun.
#[inline]
pub fn make<'py>(
    the_loop: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    subject: Bound<'py, PyAny>,
    argument: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let operations = operations(the_loop.py())?;
    let operation = spare::make(operations.class.bind(the_loop.py()))?;
    // SAFETY: a new instance of the class, all of its slots are empty.
    unsafe {
        operations.name.fill(&operation, name.clone().into_any());
        operations.subject.fill(&operation, subject);
        operations.argument.fill(&operation, argument);
        operations.the_loop.fill(&operation, the_loop.clone());
    }
    Ok(operation)
}

#[inline]
fn operations(py: Python<'_>) -> PyResult<&'static Operations> {
    OPERATIONS.get(py).ok_or_else(|| PyRuntimeError::new_err("uringhub.loop has not been imported"))
}

impl Operations {
    /// What the operation is about; None once it has ended.
    #[inline]
    fn about<'py>(&self, operation: &Bound<'py, PyAny>) -> Option<About<'py>> {
        // SAFETY: only called with instances of the class. The loop was one when it was put there.
        unsafe {
            Some(About {
                subject: self.subject.get(operation)?,
                name: self.name.get(operation)?,
                argument: self.argument.get(operation)?,
                the_loop: self.the_loop.get(operation)?.cast_into_unchecked(),
            })
        }
    }

    /// Forgets what it was about: it has ended. Its name is kept, for `repr`.
    #[inline]
    fn end(&self, operation: &Bound<'_, PyAny>) {
        // SAFETY: only called with instances of the class, which own what the slots hold and are alive.
        unsafe {
            self.subject.clear(operation.as_ptr());
            self.argument.clear(operation.as_ptr());
            self.waiting.clear(operation.as_ptr());
        }
    }

    /// One step, as `coroutine.send(value)`.
    #[inline]
    fn step<'py>(&self, operation: &Bound<'py, PyAny>, value: &Bound<'py, PyAny>) -> PyResult<Step<'py>> {
        let Some(about) = self.about(operation) else {
            return Err(PyRuntimeError::new_err("cannot reuse already awaited coroutine"));
        };
        // SAFETY: only called with instances of the class.
        if let Some(waiting) = unsafe { self.waiting.get(operation) } {
            return self.advance(operation, &about, &waiting, value);
        }
        if !value.is_none() {
            return Err(PyTypeError::new_err("can't send non-None value to a just-started coroutine"));
        }
        match begin(&about) {
            Ok(Begun::Done(value)) => {
                self.end(operation);
                Ok(Step::Returns(value))
            }
            Ok(Begun::Waits(future, known_by)) => {
                let waiting = iterator(&future)?;
                // SAFETY: as above; the argument is dropped when its slot has another value already.
                unsafe {
                    self.waiting.set(operation, waiting.clone());
                    drop(self.argument.set(operation, known_by.clone()));
                }
                self.advance(operation, &About { argument: known_by, ..about }, &waiting, value)
            }
            Err(error) => {
                self.end(operation);
                Err(error)
            }
        }
    }

    /// Goes on with what it waits for.
    fn advance<'py>(
        &self,
        operation: &Bound<'py, PyAny>,
        about: &About<'py>,
        waiting: &Bound<'py, PyAny>,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<Step<'py>> {
        let py = operation.py();
        let mut result = std::ptr::null_mut();
        // SAFETY: attached, live objects; the result is a new reference, or null with an exception.
        let (sent, result) = unsafe {
            let sent = ffi::PyIter_Send(waiting.as_ptr(), value.as_ptr(), &raw mut result);
            (sent, Bound::from_owned_ptr_or_opt(py, result))
        };
        let outcome = match (sent, result) {
            (ffi::PySendResult::PYGEN_NEXT, Some(yielded)) => return Ok(Step::Yields(yielded)),
            (ffi::PySendResult::PYGEN_RETURN, Some(value)) => Ok(value),
            _ => Err(PyErr::fetch(py)),
        };
        self.end(operation);
        after(about, outcome).map(Step::Returns)
    }

    /// `coroutine.throw`.
    fn throw<'py>(
        &self,
        operation: &Bound<'py, PyAny>,
        arguments: Arguments<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = operation.py();
        // SAFETY: only called with instances of the class.
        let waiting = unsafe { self.waiting.get(operation) };
        let Some((about, waiting)) = self.about(operation).zip(waiting) else {
            self.end(operation);
            return Err(thrown(py, arguments)?);
        };
        match arguments.pass_to(&waiting.getattr(intern!(py, "throw"))?) {
            Ok(yielded) => Ok(yielded),
            Err(error) => {
                self.end(operation);
                after(&about, Err(error)).and_then(|value| Err(stop(value)))
            }
        }
    }

    /// `coroutine.close`.
    fn close(&self, operation: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = operation.py();
        // SAFETY: only called with instances of the class.
        let waiting = unsafe { self.waiting.get(operation) };
        let about = self.about(operation);
        self.end(operation);
        if let Some((about, waiting)) = about.zip(waiting) {
            waiting.call_method0(intern!(py, "close"))?;
            let closed = pyo3::exceptions::PyGeneratorExit::new_err(());
            drop(after(&about, Err(closed)));
        }
        Ok(())
    }
}

/// The first step.
fn begin<'py>(about: &About<'py>) -> PyResult<Begun<'py>> {
    if is_of_reader(about) { read::begin(about) } else { sock::begin(about) }
}

/// The wait is over: the value of the operation, or what went wrong.
fn after<'py>(about: &About<'py>, outcome: PyResult<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
    if is_of_reader(about) { read::after(about, outcome) } else { sock::after(about, outcome) }
}

fn is_of_reader(about: &About<'_>) -> bool {
    let py = about.name.py();
    about.name.is(intern!(py, "read")) || about.name.is(intern!(py, "_wait_for_data"))
}

/// `future.__await__()`.
fn iterator<'py>(future: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: attached, a live object; a new reference, or null with an exception.
    unsafe { Bound::from_owned_ptr_or_err(future.py(), ffi::PyObject_GetIter(future.as_ptr())) }
}

/// The exception that `throw` is called with: an instance, or a class with an instance or argument, and a traceback.
fn thrown(py: Python<'_>, arguments: Arguments<'_, '_>) -> PyResult<PyErr> {
    let Some(kind) = arguments.get(0) else {
        return Err(PyTypeError::new_err("throw expected at least 1 argument, got 0"));
    };
    let value = arguments.get(1).filter(|value| !value.is_none());
    let error = match (kind.cast::<PyType>(), value) {
        (Ok(_), Some(value)) if value.is_instance(&kind)? => value.to_owned(),
        (Ok(_), Some(value)) => kind.call1((value,))?,
        (Ok(_), None) => kind.call0()?,
        (Err(_), _) => kind.to_owned(),
    };
    let error = PyErr::from_value(error);
    if let Some(traceback) = arguments.get(2).filter(|traceback| !traceback.is_none()) {
        error.set_traceback(py, Some(traceback.to_owned().cast_into()?));
    }
    Ok(error)
}

/// `StopIteration(value)`: by a tuple, since a value that is one itself would be taken apart.
fn stop(value: Bound<'_, PyAny>) -> PyErr {
    PyStopIteration::new_err((value.unbind(),))
}

/// Says that an operation that is being freed was never awaited, as CPython says of a coroutine.
fn warn_if_unawaited(py: Python<'_>, operation: *mut ffi::PyObject) {
    let Some(operations) = OPERATIONS.get(py) else { return };
    // SAFETY: an instance of the class that is being freed: its slots are still filled. Nobody refers to it, so only
    // addresses are looked at, and the name, which is borrowed while the instance owns it.
    let name = unsafe {
        if operations.subject.is_empty(operation) || !operations.waiting.is_empty(operation) {
            return;
        }
        operations.name.get_of_freed(py, operation)
    };
    let Some(name) = name else { return };
    // An exception that is under way is put aside and put back, since a warning may be one.
    let before = PyErr::take(py);
    let text = format!("coroutine '{name}' was never awaited");
    if let Ok(text) = std::ffi::CString::new(text)
        && let Err(error) = PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), &text, 1)
    {
        error.write_unraisable(py, None);
    }
    if let Some(before) = before {
        before.restore(py);
    }
}

/// `__await__` and `__iter__`, as a slot.
unsafe extern "C" fn itself(operation: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: CPython calls this attached with a live instance; the result is a reference of its own.
    unsafe {
        ffi::Py_INCREF(operation);
        operation
    }
}

/// `send`, as a slot: without a `StopIteration`.
unsafe extern "C" fn send(
    operation: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    let step = |py: Python<'_>| {
        // SAFETY: CPython's frame owns both objects until this returns.
        let (operation, value) =
            unsafe { (Borrowed::from_ptr(py, operation), Borrowed::from_ptr(py, value)) };
        let outcome = catch_unwind(AssertUnwindSafe(|| operations(py)?.step(&operation, &value)));
        let (object, sent) = match outcome {
            Ok(Ok(Step::Yields(yielded))) => (yielded.into_ptr(), ffi::PySendResult::PYGEN_NEXT),
            Ok(Ok(Step::Returns(value))) => (value.into_ptr(), ffi::PySendResult::PYGEN_RETURN),
            Ok(Err(error)) => {
                error.restore(py);
                (std::ptr::null_mut(), ffi::PySendResult::PYGEN_ERROR)
            }
            Err(_) => (panicked(py), ffi::PySendResult::PYGEN_ERROR),
        };
        // SAFETY: the place that CPython's frame gives for the result, which takes over the reference.
        unsafe { *result = object };
        sent
    };
    // SAFETY: CPython calls this with the GIL held, and it is held until the return.
    unsafe { Python::attach_unchecked(step) }
}

/// `__next__`, as a slot: CPython 3.12 and later go on by it.
unsafe extern "C" fn next(operation: *mut ffi::PyObject) -> *mut ffi::PyObject {
    let step = |py: Python<'_>| {
        // SAFETY: CPython's frame owns the object until this returns.
        let operation = unsafe { Borrowed::from_ptr(py, operation) };
        let none = py.None().into_bound(py);
        match catch_unwind(AssertUnwindSafe(|| operations(py)?.step(&operation, &none))) {
            Ok(Ok(Step::Yields(yielded))) => yielded.into_ptr(),
            // Null without an exception means a StopIteration of None.
            Ok(Ok(Step::Returns(value))) if value.is_none() => std::ptr::null_mut(),
            Ok(Ok(Step::Returns(value))) => {
                stop(value).restore(py);
                std::ptr::null_mut()
            }
            Ok(Err(error)) => {
                error.restore(py);
                std::ptr::null_mut()
            }
            Err(_) => panicked(py),
        }
    };
    // SAFETY: CPython calls this with the GIL held, and it is held until the return.
    unsafe { Python::attach_unchecked(step) }
}

/// What `send` and `__next__` give back.
fn given<'py>(operation: &Bound<'py, PyAny>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    match operations(operation.py())?.step(operation, value)? {
        Step::Yields(yielded) => Ok(yielded),
        Step::Returns(value) => Err(stop(value)),
    }
}

macro_rules! method {
    ($class:ident, $name:literal, $doc:literal, |$operation:ident, $arguments:ident| $body:expr) => {
        struct $class;

        impl Function for $class {
            const NAME: &'static CStr = $name;
            const DOC: &'static CStr = $doc;
            type Error = PyErr;

            fn call<'py>(
                $operation: &Bound<'py, PyAny>,
                $arguments: Arguments<'_, 'py>,
            ) -> PyResult<Bound<'py, PyAny>> {
                $body
            }
        }
    };
}

method!(Await, c"__await__", c"__await__($self)\n--\n\nThe operation itself.", |operation, arguments| {
    arguments.check(&[])?;
    Ok(operation.clone())
});
method!(Iterate, c"__iter__", c"__iter__($self)\n--\n\nThe operation itself.", |operation, arguments| {
    arguments.check(&[])?;
    Ok(operation.clone())
});
method!(Next, c"__next__", c"__next__($self)\n--\n\nOne step.", |operation, arguments| {
    arguments.check(&[])?;
    given(operation, &operation.py().None().into_bound(operation.py()))
});
method!(
    Send,
    c"send",
    c"send($self, value)\n--\n\nOne step, as coroutine.send().",
    |operation, arguments| {
        arguments.check(&["value"])?;
        given(operation, &arguments.require(0, "value")?)
    }
);
method!(
    Throw,
    c"throw",
    c"throw($self, type, value=None, traceback=None)\n--\n\nEnds the wait by an exception, as coroutine.throw().",
    |operation, arguments| operations(operation.py())?.throw(operation, arguments)
);
method!(
    Close,
    c"close",
    c"close($self)\n--\n\nEnds the wait, as coroutine.close().",
    |operation, arguments| {
        arguments.check(&[])?;
        operations(operation.py())?.close(operation)?;
        Ok(operation.py().None().into_bound(operation.py()))
    }
);
