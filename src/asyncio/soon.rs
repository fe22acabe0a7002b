//! `call_soon`, as CPython's tasks and futures call it: by vectorcall, with or without a context.
//!
//! A C task looks its loop's `call_soon` up for each of its steps, and gets a new bound method each time, which
//! costs as much as making the handle. So the attribute of the class is a descriptor of its own kind: it gives every
//! instance the bound method that it keeps. For Python code it is a method descriptor like any other, which the
//! interpreter calls without binding it.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int};
use std::mem::offset_of;

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use super::core::LoopCore;
use crate::fastcall::{self, Arguments, Function};

/// Gives the class its `call_soon`.
pub fn install(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<LoopCore>();
    let descriptor = make(py)?;
    class.setattr(intern!(py, "call_soon"), descriptor)
}

struct CallSoon;

impl Function for CallSoon {
    const NAME: &'static CStr = c"call_soon";
    const DOC: &'static CStr = c"call_soon($self, callback, *args, context=None)\n--\n\n\
        Arrange for callback(*args) in the next turn; returns its handle.";
    type Error = PyErr;
    const IS_LIGHT: bool = true;

    #[inline]
    fn call<'py>(the_loop: &Bound<'py, PyAny>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: the method was bound to an instance of this class, or `call` has looked.
        soon(unsafe { the_loop.cast_unchecked::<LoopCore>() }, arguments)
    }
}

/// The keyword as CPython's tasks and futures spell it.
static CONTEXT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

#[inline]
fn soon<'py>(core: &Bound<'py, LoopCore>, args: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    let py = core.py();
    let (Some(callback), Ok(context)) = (args.get(0), args.only(intern!(py, "context"), &CONTEXT)) else {
        // The callback by name, or a wrong call: seldom, and worded by the general method.
        return args.pass_to(&core.getattr(intern!(py, "_call_soon"))?);
    };
    let context = context.filter(|context| !context.is_none()).map(|context| context.to_owned());
    let handle = LoopCore::make(core, "call_soon", callback.to_owned(), args.tuple_from(1)?, context)?;
    core.get().push(handle.clone().unbind())?;
    Ok(handle)
}

/// The descriptor: there is one, and it is never freed.
#[repr(C)]
struct Descriptor {
    base: ffi::PyObject,
    vectorcall: ffi::vectorcallfunc,
    definition: *mut ffi::PyMethodDef,
    name: *const c_char,
    doc: *const c_char,
    text_signature: *const c_char,
}

fn member(name: &'static CStr, type_code: c_int, offset: usize) -> ffi::PyMemberDef {
    ffi::PyMemberDef {
        name: name.as_ptr(),
        type_code,
        offset: offset as ffi::Py_ssize_t,
        flags: ffi::Py_READONLY,
        doc: std::ptr::null(),
    }
}

fn make(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let end = ffi::PyMemberDef { name: std::ptr::null(), ..member(c"", 0, 0) };
    // CPython keeps pointing at them, like the type, for ever.
    let members = Box::leak(Box::new([
        member(c"__vectorcalloffset__", ffi::Py_T_PYSSIZET, offset_of!(Descriptor, vectorcall)),
        member(c"__name__", ffi::Py_T_STRING, offset_of!(Descriptor, name)),
        member(c"__doc__", ffi::Py_T_STRING, offset_of!(Descriptor, doc)),
        member(c"__text_signature__", ffi::Py_T_STRING, offset_of!(Descriptor, text_signature)),
        end,
    ]));
    let slot = |slot, pfunc| ffi::PyType_Slot { slot, pfunc };
    let mut slots = [
        slot(ffi::Py_tp_descr_get, get as *mut _),
        slot(ffi::Py_tp_call, ffi::PyVectorcall_Call as *mut _),
        slot(ffi::Py_tp_members, members.as_mut_ptr().cast()),
        slot(0, std::ptr::null_mut()),
    ];
    let mut spec = ffi::PyType_Spec {
        name: c"uringhub._native.method_descriptor".as_ptr(),
        basicsize: size_of::<Descriptor>() as c_int,
        itemsize: 0,
        // The interpreter trusts a descriptor only if its type cannot change.
        flags: (ffi::Py_TPFLAGS_DEFAULT
            | ffi::Py_TPFLAGS_IMMUTABLETYPE
            | ffi::Py_TPFLAGS_METHOD_DESCRIPTOR
            | ffi::Py_TPFLAGS_HAVE_VECTORCALL) as _,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: attached; the type is made from a description that says how large its instances are, which begin with an
    // object's head; an instance is new and not seen by anybody before its fields are filled.
    unsafe {
        let class = Bound::from_owned_ptr_or_err(py, ffi::PyType_FromSpec(&raw mut spec))?;
        let class = class.cast_into_unchecked::<PyType>();
        let object = super::slots::allocate(&class)?;
        let place = object.as_ptr().cast::<Descriptor>();
        (*place).vectorcall = call;
        (*place).definition = fastcall::definition::<CallSoon>();
        (*place).name = CallSoon::NAME.as_ptr();
        (*place).doc = c"Arrange for callback(*args) in the next turn; returns its handle.".as_ptr();
        (*place).text_signature = c"($self, callback, *args, context=None)".as_ptr();
        Ok(object)
    }
}

/// `LoopCore.call_soon(loop, callback, ...)`, which is also how the interpreter calls `loop.call_soon(callback, ...)`.
unsafe extern "C" fn call(
    _descriptor: *mut ffi::PyObject,
    values: *const *mut ffi::PyObject,
    count: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: CPython calls this with the GIL held, and its frame owns the arguments until the return. The first is
    // the instance if it is one of the class, which is looked at before anything else.
    unsafe {
        if ffi::PyVectorcall_NARGS(count) < 1 || !is_loop(*values) {
            PyTypeError::new_err("call_soon() takes a loop of uringhub as its first argument")
                .restore(Python::assume_attached());
            return std::ptr::null_mut();
        }
        fastcall::enter_unbound::<CallSoon>(values, count, names)
    }
}

/// Whether the object is an instance of `LoopCore`.
///
/// # Safety
/// The GIL is held, and the caller owns a reference to the object.
#[inline]
unsafe fn is_loop(object: *mut ffi::PyObject) -> bool {
    // SAFETY: attached, and the caller keeps the object alive; its type is only compared.
    unsafe {
        let class = Python::assume_attached().get_type::<LoopCore>().as_type_ptr();
        ffi::PyType_IsSubtype(ffi::Py_TYPE(object), class) != 0
    }
}

/// `loop.call_soon`: the bound method that the loop keeps.
unsafe extern "C" fn get(
    descriptor: *mut ffi::PyObject,
    object: *mut ffi::PyObject,
    _class: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: CPython calls this with the GIL held and live objects; a null object means the class itself was asked. The
    // definition is never freed, and the result is a reference of its own, or null with an exception.
    unsafe {
        let py = Python::assume_attached();
        if object.is_null() || !is_loop(object) {
            ffi::Py_INCREF(descriptor);
            return descriptor;
        }
        let the_loop = pyo3::Borrowed::from_ptr(py, object);
        let core = the_loop.cast_unchecked::<LoopCore>();
        let definition = (*descriptor.cast::<Descriptor>()).definition;
        let bound = core.get().bound_call_soon(py, || {
            let made = ffi::PyCFunction_NewEx(definition, object, std::ptr::null_mut());
            Bound::from_owned_ptr_or_err(py, made)
        });
        match bound {
            Ok(bound) => bound.into_ptr(),
            Err(error) => {
                error.restore(py);
                std::ptr::null_mut()
            }
        }
    }
}
