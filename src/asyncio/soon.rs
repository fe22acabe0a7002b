//! `call_soon`, as CPython's tasks and futures call it: by vectorcall, with or without a context.
#![allow(unsafe_code)]

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;

use super::core::LoopCore;
use super::method::{self, Arguments};
use super::slots;

static CALL_SOON: slots::Definition = slots::Definition::new(method::definition(
    c"call_soon",
    call_soon,
    c"call_soon($self, callback, *args, context=None)\n--\n\n\
      Arrange for callback(*args) in the next turn; returns its handle.",
));

/// Gives the class its `call_soon`.
pub fn install(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<LoopCore>();
    // SAFETY: `call_soon` takes instances of the class.
    class.setattr("call_soon", unsafe { slots::method(&class, &CALL_SOON)? })
}

unsafe extern "C" fn call_soon(
    the_loop: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: passed on as they came.
    unsafe { method::enter::<LoopCore>(the_loop, args, count, names, soon) }
}

#[inline]
fn soon<'py>(core: &Bound<'py, LoopCore>, args: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    let py = core.py();
    let (Some(callback), Ok(context)) = (args.get(0), args.only(intern!(py, "context").as_any())) else {
        // The callback by name, or a wrong call: seldom, and worded by the general method.
        return args.pass_to(&core.getattr(intern!(py, "_call_soon"))?);
    };
    let context = context.filter(|context| !context.is_none()).map(|context| context.to_owned());
    let handle = LoopCore::make(core, "call_soon", callback.to_owned(), args.tuple_from(1)?, context)?;
    core.get().push(handle.clone().unbind())?;
    Ok(handle)
}
