//! Attributes of instances of Python classes, found where they were the last time.
//!
//! An instance keeps its attributes in a dict, in the order in which `__init__` first set them: the same for all
//! instances of a class. So each name remembers a position, and one look there, by `PyDict_Next`, is enough if the
//! name at that position is the right one. If it is another, the dict is asked in the ordinary way.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicIsize, Ordering};

use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString};
use pyo3::{Borrowed, ffi};

/// The name of an attribute, and where it was.
pub struct Name {
    text: &'static str,
    interned: PyOnceLock<Py<PyString>>,
    position: AtomicIsize,
}

impl Name {
    /// To be kept in a static.
    pub const fn new(text: &'static str) -> Self {
        Self { text, interned: PyOnceLock::new(), position: AtomicIsize::new(0) }
    }

    #[inline]
    fn interned<'py>(&self, py: Python<'py>) -> &Bound<'py, PyString> {
        self.interned.get_or_init(py, || PyString::intern(py, self.text).unbind()).bind(py)
    }
}

/// The attributes that an instance has itself.
pub struct Attributes<'py>(Bound<'py, PyDict>);

impl<'py> Attributes<'py> {
    /// Those of `object`, whose class gives its instances a dict.
    #[inline]
    pub fn of(object: &Bound<'py, PyAny>) -> PyResult<Self> {
        // SAFETY: attached, a live object; the result is a new reference, or null with an exception, and what the
        // function gives is a dict.
        unsafe {
            let dict = ffi::PyObject_GenericGetDict(object.as_ptr(), std::ptr::null_mut());
            Ok(Self(Bound::from_owned_ptr_or_err(object.py(), dict)?.cast_into_unchecked()))
        }
    }

    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Their names.
    pub fn names(&self) -> PyResult<Vec<String>> {
        self.0.keys().extract()
    }

    /// The value of an attribute.
    #[inline]
    pub fn get(&self, name: &Name) -> PyResult<Bound<'py, PyAny>> {
        match self.at(name) {
            Some(value) => Ok(value.to_owned()),
            None => self.search(name),
        }
    }

    /// Whether the value of an attribute is true.
    #[inline]
    pub fn is_set(&self, name: &Name) -> PyResult<bool> {
        match self.at(name) {
            Some(value) if value.as_ptr() == false_object() => Ok(false),
            Some(value) => value.to_owned().is_truthy(),
            None => self.search(name)?.is_truthy(),
        }
    }

    /// Changes an attribute.
    #[inline]
    pub fn set(&self, name: &Name, value: &Bound<'py, PyAny>) -> PyResult<()> {
        self.0.set_item(name.interned(self.0.py()), value)
    }

    /// The value at the remembered position, if the name there is the right one; valid until any code runs.
    #[inline]
    fn at(&self, name: &Name) -> Option<Borrowed<'_, 'py, PyAny>> {
        let py = self.0.py();
        let mut position = name.position.load(Ordering::Relaxed);
        let (mut key, mut value) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: attached, a live dict, out-parameters that are live locals. The dict owns what they get; nothing
        // runs before the caller takes a reference of its own. A position that is none ends the iteration.
        unsafe {
            let found = ffi::PyDict_Next(self.0.as_ptr(), &raw mut position, &raw mut key, &raw mut value);
            (found != 0 && key == name.interned(py).as_ptr()).then(|| Borrowed::from_ptr(py, value))
        }
    }

    #[cold]
    fn search(&self, name: &Name) -> PyResult<Bound<'py, PyAny>> {
        let wanted = name.interned(self.0.py());
        let position = self.0.keys().iter().position(|key| key.is(wanted));
        if let Some(position) = position {
            name.position.store(position as isize, Ordering::Relaxed);
        }
        self.0.get_item(wanted)?.ok_or_else(|| PyAttributeError::new_err(name.text))
    }
}

fn false_object() -> *mut ffi::PyObject {
    // SAFETY: a static object of the interpreter; only its address is taken.
    unsafe { ffi::Py_False() }
}
