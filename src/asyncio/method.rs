//! Methods that CPython calls by vectorcall, without a tuple and a dict made for the arguments.
#![allow(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use pyo3::{Borrowed, PyTypeInfo};

/// The arguments of one call.
#[derive(Clone, Copy)]
pub struct Arguments<'a, 'py> {
    py: Python<'py>,
    /// Positional values, then those of the keywords.
    values: &'a [*mut ffi::PyObject],
    positional: usize,
    names: *mut ffi::PyObject,
}

impl<'a, 'py> Arguments<'a, 'py> {
    /// # Safety
    /// The arguments of a call that is under way, as CPython passes them to a function with the flags
    /// `METH_FASTCALL | METH_KEYWORDS`.
    unsafe fn new(
        py: Python<'py>,
        args: *const *mut ffi::PyObject,
        count: ffi::Py_ssize_t,
        names: *mut ffi::PyObject,
    ) -> Self {
        let positional = count as usize;
        // SAFETY: `names` is null or a tuple with one name for each value beyond the positional ones.
        let named = if names.is_null() { 0 } else { unsafe { ffi::PyTuple_GET_SIZE(names) as usize } };
        let total = positional + named;
        // SAFETY: so many values are there; the pointer may be null if there are none.
        let values = if total == 0 { &[] } else { unsafe { std::slice::from_raw_parts(args, total) } };
        Self { py, values, positional, names }
    }

    /// Whether there are no keywords.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.values.len() == self.positional
    }

    /// A positional argument.
    #[inline]
    pub fn get(&self, index: usize) -> Option<Borrowed<'a, 'py, PyAny>> {
        let value = *self.values[..self.positional].get(index)?;
        // SAFETY: the caller of the function holds a reference to each argument until the call ends.
        Some(unsafe { Borrowed::from_ptr(self.py, value) })
    }

    /// The positional arguments from `first` on, as a tuple.
    #[inline]
    pub fn tuple_from(&self, first: usize) -> PyResult<Bound<'py, PyTuple>> {
        let rest = self.values[..self.positional].get(first..).unwrap_or(&[]);
        // SAFETY: attached; the tuple is new, has so many places, and takes a reference of its own of each.
        unsafe {
            let tuple = ffi::PyTuple_New(rest.len() as ffi::Py_ssize_t);
            let tuple = Bound::from_owned_ptr_or_err(self.py, tuple)?;
            for (index, &value) in rest.iter().enumerate() {
                ffi::Py_INCREF(value);
                ffi::PyTuple_SET_ITEM(tuple.as_ptr(), index as ffi::Py_ssize_t, value);
            }
            Ok(tuple.cast_into_unchecked())
        }
    }

    /// The keyword argument `name` if it is the only one, None if there is none; `Err` if there are others.
    #[inline]
    pub fn only(&self, name: &Bound<'py, PyAny>) -> Result<Option<Borrowed<'a, 'py, PyAny>>, ()> {
        let &[value] = &self.values[self.positional..] else {
            return if self.values.len() == self.positional { Ok(None) } else { Err(()) };
        };
        // SAFETY: one value beyond the positional ones means a tuple of one name; both live until the call ends.
        unsafe {
            let given = ffi::PyTuple_GET_ITEM(self.names, 0);
            if given != name.as_ptr() && ffi::PyUnicode_Compare(given, name.as_ptr()) != 0 {
                return Err(());
            }
            Ok(Some(Borrowed::from_ptr(self.py, value)))
        }
    }

    /// Calls `callable` with the same arguments.
    pub fn pass_to(&self, callable: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: the values and names are those of a call under way, in the form that vectorcall takes them.
        unsafe {
            let result = ffi::PyObject_Vectorcall(
                callable.as_ptr(),
                self.values.as_ptr(),
                self.positional,
                self.names,
            );
            Bound::from_owned_ptr_or_err(self.py, result)
        }
    }
}

// CPython, Objects/object.c; exported by 3.10 to 3.13, not in pyo3's bindings.
unsafe extern "C" {
    fn _PyObject_GetMethod(
        object: *mut ffi::PyObject,
        name: *mut ffi::PyObject,
        method: *mut *mut ffi::PyObject,
    ) -> libc::c_int;
}

/// Whether calling the method `name` of `object` calls `function` of its class: neither the class nor the
/// instance has another.
#[inline]
pub fn is(object: &Bound<'_, PyAny>, name: &Bound<'_, PyString>, function: &Py<PyAny>) -> bool {
    let mut found = std::ptr::null_mut();
    // SAFETY: attached, live objects, and an out-parameter that gets a new reference, or null with an exception.
    unsafe {
        let unbound = _PyObject_GetMethod(object.as_ptr(), name.as_ptr(), &raw mut found) == 1;
        if found.is_null() {
            ffi::PyErr_Clear();
            return false;
        }
        let found = Bound::from_owned_ptr(object.py(), found);
        unbound && found.is(function)
    }
}

/// What CPython calls.
pub type Entry = unsafe extern "C" fn(
    *mut ffi::PyObject,
    *const *mut ffi::PyObject,
    ffi::Py_ssize_t,
    *mut ffi::PyObject,
) -> *mut ffi::PyObject;

/// A definition of a method that is called with its arguments as they are.
pub const fn definition(
    name: &'static std::ffi::CStr,
    entry: Entry,
    doc: &'static std::ffi::CStr,
) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: entry },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: doc.as_ptr(),
    }
}

/// Runs the body of a method; an error becomes the raised exception, and a panic one instead of an abort.
///
/// # Safety
/// The arguments are those of an [`Entry`] whose descriptor was made for `T` or a class with `T`'s layout.
#[inline]
pub unsafe fn enter<T: PyTypeInfo>(
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
    body: impl for<'a, 'py> FnOnce(&Bound<'py, T>, Arguments<'a, 'py>) -> PyResult<Bound<'py, PyAny>>,
) -> *mut ffi::PyObject {
    // SAFETY: CPython calls this attached and lends live objects; the descriptor has checked the class.
    let (py, slf, arguments) = unsafe {
        let py = Python::assume_attached();
        let slf = Borrowed::from_ptr(py, slf);
        (py, slf.cast_unchecked::<T>(), Arguments::new(py, args, count, names))
    };
    let result = catch_unwind(AssertUnwindSafe(|| body(&slf, arguments)))
        .unwrap_or_else(|_| Err(PyRuntimeError::new_err("a bug in uringhub: a method panicked")));
    match result {
        Ok(value) => value.into_ptr(),
        Err(error) => {
            error.restore(py);
            std::ptr::null_mut()
        }
    }
}
