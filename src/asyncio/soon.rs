//! `call_soon`, as CPython's tasks and futures call it: by vectorcall, with or without a context.
#![allow(unsafe_code)]

use std::ffi::CStr;

use pyo3::intern;
use pyo3::prelude::*;

use super::core::LoopCore;
use crate::fastcall::{self, Arguments, Function};

/// Gives the class its `call_soon`.
pub fn install(py: Python<'_>) -> PyResult<()> {
    fastcall::bind::<CallSoon>(&py.get_type::<LoopCore>())
}

struct CallSoon;

impl Function for CallSoon {
    const NAME: &'static CStr = c"call_soon";
    const DOC: &'static CStr = c"call_soon($self, callback, *args, context=None)\n--\n\n\
        Arrange for callback(*args) in the next turn; returns its handle.";
    type Error = PyErr;

    #[inline]
    fn call<'py>(the_loop: &Bound<'py, PyAny>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: the method was bound to this class, and its descriptor takes no other instances.
        soon(unsafe { the_loop.cast_unchecked::<LoopCore>() }, arguments)
    }
}

#[inline]
fn soon<'py>(core: &Bound<'py, LoopCore>, args: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    let py = core.py();
    let (Some(callback), Ok(context)) = (args.get(0), args.only(intern!(py, "context"))) else {
        // The callback by name, or a wrong call: seldom, and worded by the general method.
        return args.pass_to(&core.getattr(intern!(py, "_call_soon"))?);
    };
    let context = context.filter(|context| !context.is_none()).map(|context| context.to_owned());
    let handle = LoopCore::make(core, "call_soon", callback.to_owned(), args.tuple_from(1)?, context)?;
    core.get().push(handle.clone().unbind())?;
    Ok(handle)
}
