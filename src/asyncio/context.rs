//! Calling Python in a `contextvars.Context`, as `Context.run` does.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// A copy of the current context.
pub fn copy_current(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: attached; a new reference, or null with an exception.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()) }
}

/// Makes a context the current one and returns the one before.
pub type Swap = for<'py> fn(&Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>;

thread_local! {
    static SWAP: Cell<Option<Swap>> = const { Cell::new(None) };
}

/// Whether any thread has a swap: cheaper to ask than the thread's own.
static SWAPS: AtomicBool = AtomicBool::new(false);

/// From now on `with` changes the context of this thread by `swap`, and does not enter it.
///
/// Where callbacks may be suspended half-way and others run meanwhile, two that share a context must not
/// exclude each other.
pub fn set_swap(swap: Swap) {
    SWAP.set(Some(swap));
    // Relaxed: a thread reads what it wrote itself, and another's swap does not concern it.
    SWAPS.store(true, Ordering::Relaxed);
}

/// Calls `call` with `context` entered; fails without calling if somebody has entered it already.
pub fn with<'py, T>(context: &Bound<'py, PyAny>, call: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    let py = context.py();
    if SWAPS.load(Ordering::Relaxed)
        && let Some(swap) = SWAP.get()
    {
        let before = swap(context)?;
        let result = call();
        swap(&before)?;
        return result;
    }
    // SAFETY: attached, and the object is alive; a wrong type or state is an exception.
    if unsafe { ffi::PyContext_Enter(context.as_ptr()) } != 0 {
        return Err(PyErr::fetch(py));
    }
    let result = call();
    // SAFETY: entered above on this thread, and `call` leaves the context as it found it. No exception is
    // set: `call` has returned it as a value.
    if unsafe { ffi::PyContext_Exit(context.as_ptr()) } != 0 {
        let error = PyErr::fetch(py);
        return result.and(Err(error));
    }
    result
}

/// `callable(*args)`, by vectorcall where the callable has it.
pub fn call<'py>(callable: &Bound<'py, PyAny>, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: attached; both are alive, args is a tuple; a new reference, or null with an exception.
    unsafe {
        let count = ffi::PyTuple_GET_SIZE(args.as_ptr());
        let result = if count == 0 {
            ffi::PyObject_CallNoArgs(callable.as_ptr())
        } else {
            // The tuple's own array, which it keeps alive and nobody changes.
            let values = (&raw const (*args.as_ptr().cast::<ffi::PyTupleObject>()).ob_item).cast();
            ffi::PyObject_Vectorcall(callable.as_ptr(), values, count as usize, std::ptr::null_mut())
        };
        Bound::from_owned_ptr_or_err(callable.py(), result)
    }
}
