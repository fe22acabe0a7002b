//! Native functions as methods of Python classes, and attributes without `__getattr__`.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::{PySystemError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};

use super::raised::{Raised, raise};

/// The arguments of one call: positional ones, then those given by keyword.
pub struct Arguments<'a, 'py> {
    py: Python<'py>,
    values: &'a [*mut ffi::PyObject],
    positional: usize,
    keywords: Option<&'a Bound<'py, pyo3::types::PyTuple>>,
}

impl<'py> Arguments<'_, 'py> {
    /// The argument at `index`, or of that name.
    pub fn get(&self, index: usize, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        if index < self.positional {
            return Ok(Some(self.value(index)));
        }
        let Some(keywords) = self.keywords else { return Ok(None) };
        for (offset, keyword) in keywords.iter_borrowed().enumerate() {
            if keyword.cast::<PyString>()?.to_str()? == name {
                return Ok(Some(self.value(self.positional + offset)));
            }
        }
        Ok(None)
    }

    /// The argument at `index`, or of that name, which must be given.
    pub fn require(&self, index: usize, name: &str) -> PyResult<Bound<'py, PyAny>> {
        self.get(index, name)?
            .ok_or_else(|| PyTypeError::new_err(format!("missing required argument: '{name}'")))
    }

    /// An error for what a method with these parameters does not take.
    pub fn check(&self, names: &[&str]) -> PyResult<()> {
        if self.positional > names.len() {
            return Err(PyTypeError::new_err(format!(
                "takes at most {} arguments ({} given)",
                names.len(),
                self.positional
            )));
        }
        for keyword in self.keywords.iter().flat_map(|keywords| keywords.iter_borrowed()) {
            let keyword = keyword.cast::<PyString>()?;
            let keyword = keyword.to_str()?;
            if !names.contains(&keyword) {
                return Err(PyTypeError::new_err(format!("got an unexpected keyword argument '{keyword}'")));
            }
        }
        Ok(())
    }

    fn value(&self, index: usize) -> Bound<'py, PyAny> {
        // SAFETY: the caller's argument array holds a live reference at every index below its length.
        unsafe { Bound::from_borrowed_ptr(self.py, self.values[index]) }
    }
}

/// A method of a Python class.
pub trait Method {
    /// Its name in Python.
    const NAME: &'static CStr;

    /// The call: the instance it is called on, and the arguments.
    fn call<'py>(this: &Bound<'py, PyAny>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>>;

    /// The call as CPython makes it. A method that waits in it has one of its own, to keep its frame small.
    #[inline]
    fn run<'py>(
        this: &Bound<'py, PyAny>,
        arguments: Arguments<'_, 'py>,
    ) -> Result<Bound<'py, PyAny>, Raised> {
        raise(this.py(), Self::call(this, arguments))
    }
}

/// Calls a method from CPython: the one place where its vectorcall convention is unpacked.
///
/// # Safety
/// To be called by CPython with the GIL held, as a `METH_FASTCALL | METH_KEYWORDS` method.
unsafe extern "C" fn enter<M: Method>(
    this: *mut ffi::PyObject,
    values: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    Python::attach(|py| {
        // SAFETY: CPython passes a live instance, and null or a tuple of names.
        let (this, keywords) = unsafe {
            let keywords = Bound::from_borrowed_ptr_or_opt(py, keywords);
            (
                Bound::from_borrowed_ptr(py, this),
                keywords.map(|names| names.cast_into_unchecked::<pyo3::types::PyTuple>()),
            )
        };
        let positional = usize::try_from(count).unwrap_or(0);
        let total = positional + keywords.as_ref().map_or(0, |names| names.len());
        let values: &[*mut ffi::PyObject] = if total == 0 {
            &[]
        } else {
            // SAFETY: the array holds the positional values and then one value for each keyword; it lives in
            // the caller's frame, which outlives this call, also while the green thread is suspended.
            unsafe { std::slice::from_raw_parts(values, total) }
        };
        let arguments = Arguments { py, values, positional, keywords: keywords.as_ref() };
        match catch_unwind(AssertUnwindSafe(|| M::run(&this, arguments))) {
            Ok(Ok(value)) => value.into_ptr(),
            Ok(Err(Raised)) => std::ptr::null_mut(),
            Err(_) => panicked(py),
        }
    })
}

/// A panic must not cross into C, where it would abort the process.
#[cold]
#[inline(never)]
fn panicked(py: Python<'_>) -> *mut ffi::PyObject {
    PySystemError::new_err("uringhub panicked; see stderr, and please report it").restore(py);
    std::ptr::null_mut()
}

/// Makes a method of a class: unlike a builtin function it binds to the instance, at no cost.
pub fn bind<M: Method>(class: &Bound<'_, PyType>) -> PyResult<()> {
    // Allocated once for each method and never freed: the descriptor points at it for ever.
    let definition = Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: M::NAME.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: enter::<M> },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: std::ptr::null(),
    }));
    // SAFETY: the class is alive and the definition is never freed; the result is a new reference or null.
    let descriptor = unsafe {
        Bound::from_owned_ptr_or_err(class.py(), ffi::PyDescr_NewMethod(class.as_type_ptr(), definition))
    }?;
    class.setattr(PyString::intern(class.py(), &M::NAME.to_string_lossy()), descriptor)
}

/// `getattr` without the class's `__getattr__`: for attributes that the instance or the class has.
pub fn attribute<'py>(
    object: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: both objects are alive; the result is a new reference or null with an exception.
    unsafe {
        Bound::from_owned_ptr_or_err(
            object.py(),
            ffi::PyObject_GenericGetAttr(object.as_ptr(), name.as_ptr()),
        )
    }
}
