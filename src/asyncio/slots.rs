//! Python instances with `__slots__`, read and written by offset.
//!
//! A handle of this loop is an instance of a Python subclass of `asyncio.Handle`, so that everybody's
//! `isinstance`, `repr` and patches of `Handle._run` hold. Making one through its Python `__init__` costs
//! more than the whole rest of `call_soon`; the slots' member descriptors say where each value lives.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};

use pyo3::exceptions::{PyMemoryError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};

/// Where a slot's value lives in the instances of a class.
#[derive(Clone, Copy, Debug)]
pub struct Slot(usize);

impl Slot {
    /// Looks a slot up by name on a class or its bases.
    pub fn find(class: &Bound<'_, PyType>, name: &str) -> PyResult<Self> {
        let descriptor = class.getattr(name)?;
        // SAFETY: the type check makes the cast valid; the member definition lives as long as the class.
        unsafe {
            if ffi::Py_TYPE(descriptor.as_ptr()) != &raw mut ffi::PyMemberDescr_Type {
                return Err(PyTypeError::new_err(format!("{name} is not a slot of {class}")));
            }
            // The same layout on 3.10, where pyo3 names another type.
            let member = (*descriptor.as_ptr().cast::<ffi::PyMemberDescrObject>()).d_member;
            Ok(Slot((*member.cast::<ffi::PyMemberDef>()).offset as usize))
        }
    }

    /// The value, if the slot is filled.
    ///
    /// # Safety
    /// `object` is an instance of the class the slot was found on; it owns what the slot refers to, and `object` keeps
    /// it alive until the return.
    #[inline]
    pub unsafe fn get<'py>(self, object: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
        // SAFETY: the instance, which `object` keeps alive, owns the slot's reference; the result takes one of its
        // own before any code can run that empties the slot.
        unsafe { Bound::from_borrowed_ptr_or_opt(object.py(), *self.address(object.as_ptr())) }
    }

    /// Whether the slot holds this very object.
    ///
    /// # Safety
    /// `object` is an instance of the class the slot was found on; it owns what the slot refers to, and `object` keeps
    /// it alive until the return.
    #[inline]
    pub unsafe fn is(self, object: &Bound<'_, PyAny>, value: *mut ffi::PyObject) -> bool {
        // SAFETY: the instance, which `object` keeps alive, owns the slot's reference; only its address is compared.
        unsafe { *self.address(object.as_ptr()) == value }
    }

    /// Fills the slot and returns what it held.
    ///
    /// # Safety
    /// `object` is an instance of the class the slot was found on; it owns what the slot refers to, and `object` keeps
    /// it alive until the return.
    #[inline]
    pub unsafe fn set<'py>(
        self,
        object: &Bound<'py, PyAny>,
        value: Bound<'py, PyAny>,
    ) -> Option<Bound<'py, PyAny>> {
        // SAFETY: the instance, which `object` keeps alive, owns the slot's reference: it takes over that of `value`,
        // and the result owns the old one, which is dropped when the slot is filled again.
        unsafe {
            let old = std::mem::replace(&mut *self.address(object.as_ptr()), value.into_ptr());
            Bound::from_owned_ptr_or_opt(object.py(), old)
        }
    }

    /// Fills an empty slot.
    ///
    /// # Safety
    /// `object` is a new instance of the class the slot was found on, and the slot is empty.
    #[inline]
    pub unsafe fn fill(self, object: &Bound<'_, PyAny>, value: Bound<'_, PyAny>) {
        // SAFETY: the instance, which `object` keeps alive, takes over the reference of `value`; it had none there.
        unsafe { *self.address(object.as_ptr()) = value.into_ptr() };
    }

    /// Empties the slot of an object that is being freed.
    ///
    /// # Safety
    /// `object` is an instance of the class the slot was found on, its memory is not freed before the return, and
    /// the thread is attached.
    #[inline]
    pub unsafe fn clear(self, object: *mut ffi::PyObject) {
        // SAFETY: the instance owns the slot's reference and gives it up here; the slot is empty before code can run
        // that looks at it.
        unsafe { ffi::Py_XDECREF(std::mem::replace(&mut *self.address(object), std::ptr::null_mut())) };
    }

    /// Gives the slot of an object that is being freed, or is new, its first value: null, None or False.
    ///
    /// # Safety
    /// As for `clear`; `first` is null or an object that the interpreter keeps.
    #[inline]
    pub unsafe fn reset(self, object: *mut ffi::PyObject, first: *mut ffi::PyObject) {
        // SAFETY: the instance owns the slot's reference and gives it up, after it got one of `first`; the slot is
        // reset before code can run that looks at it.
        unsafe {
            let place = self.address(object);
            if *place != first {
                ffi::Py_XINCREF(first);
                ffi::Py_XDECREF(std::mem::replace(&mut *place, first));
            }
        }
    }

    /// Shows the collector what the slot of an object refers to, if that is anything it keeps track of: not `first`, which
    /// is null, None or False, and no number.
    ///
    /// # Safety
    /// As for `is_empty`; `visit` and `arg` are what the collector has called `tp_traverse` with.
    #[inline]
    pub unsafe fn visit(
        self,
        object: *mut ffi::PyObject,
        first: *mut ffi::PyObject,
        visit: ffi::visitproc,
        arg: *mut c_void,
    ) -> c_int {
        // SAFETY: the instance owns the slot's reference, which the collector only counts; a live object has a type.
        unsafe {
            let value = *self.address(object);
            let is_tracked =
                |value: *mut ffi::PyObject| (*ffi::Py_TYPE(value)).tp_flags & ffi::Py_TPFLAGS_HAVE_GC != 0;
            if value == first || value.is_null() || !is_tracked(value) { 0 } else { visit(value, arg) }
        }
    }

    /// Whether the slot of an object is empty.
    ///
    /// # Safety
    /// `object` is an instance of the class the slot was found on, its memory is not freed before the return, and
    /// the thread is attached.
    #[inline]
    pub unsafe fn is_empty(self, object: *mut ffi::PyObject) -> bool {
        // SAFETY: the instance owns the slot; only the address in it is looked at.
        unsafe { (*self.address(object)).is_null() }
    }

    /// The value of an object that is being freed, if the slot is filled: a reference of its own.
    ///
    /// # Safety
    /// `object` is an instance of the class the slot was found on, whose slots are not emptied before the return.
    pub unsafe fn get_of_freed<'py>(
        self,
        py: Python<'py>,
        object: *mut ffi::PyObject,
    ) -> Option<Bound<'py, PyAny>> {
        // SAFETY: the instance owns the slot's reference; the result takes one of its own.
        unsafe { Bound::from_borrowed_ptr_or_opt(py, *self.address(object)) }
    }

    /// Where the slot is in an instance, which owns the reference there.
    ///
    /// # Safety
    /// `object` is an instance of the class the slot was found on. It owns the memory at the address until it is freed.
    #[inline]
    unsafe fn address(self, object: *mut ffi::PyObject) -> *mut *mut ffi::PyObject {
        // SAFETY: the offset lies within the memory of the instance by the caller's promise.
        unsafe { object.cast::<u8>().add(self.0).cast() }
    }
}

/// How large an instance is that has these slots, and room for weak references where the class says so.
///
/// # Safety
/// `class` is a ready type that somebody keeps alive until the return.
pub unsafe fn instance_size(slots: usize, class: *const ffi::PyTypeObject) -> usize {
    // SAFETY: the caller keeps the type alive, which owns the field. Since 3.12 weak references may be kept before
    // the object.
    let has_list = unsafe { (*class).tp_weaklistoffset } > 0;
    size_of::<ffi::PyObject>() + (slots + usize::from(has_list)) * size_of::<*mut ffi::PyObject>()
}

/// Whether somebody refers weakly to the instance.
///
/// # Safety
/// `object` is an instance that is not freed before the return, and the thread is attached.
#[inline]
pub unsafe fn has_weak_references(object: *mut ffi::PyObject) -> bool {
    // SAFETY: the instance owns the list of its weak references, which is at its class's offset from it, before it
    // since 3.12; only its address is looked at.
    unsafe {
        let offset = (*ffi::Py_TYPE(object)).tp_weaklistoffset;
        offset != 0 && !(*object.cast::<u8>().offset(offset).cast::<*mut ffi::PyObject>()).is_null()
    }
}

/// An instance with all slots empty; `__init__` does not run.
#[inline]
pub fn allocate<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    let class = class.as_ptr().cast::<ffi::PyTypeObject>();
    // SAFETY: `class` is a ready heap type, so it has tp_alloc, which returns a zeroed new instance or null
    // with an exception.
    unsafe {
        let Some(alloc) = (*class).tp_alloc else { return Err(PyMemoryError::new_err(())) };
        Bound::from_owned_ptr_or_err(py, alloc(class, 0))
    }
}

/// A number that changes with every change of the class; 0 while CPython has none for it.
#[inline]
pub fn version(class: &Bound<'_, PyType>) -> u32 {
    // SAFETY: a live type object; the field is read with the GIL held, under which it is written.
    unsafe { (*class.as_ptr().cast::<ffi::PyTypeObject>()).tp_version_tag }
}

/// Whether the object's class is exactly this one.
#[inline]
pub fn is_exactly(object: &Bound<'_, PyAny>, class: &Py<PyType>) -> bool {
    // SAFETY: both are alive; only addresses are compared.
    unsafe { ffi::Py_TYPE(object.as_ptr()) == class.as_ptr().cast() }
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
pub fn has_method(object: &Bound<'_, PyAny>, name: &Bound<'_, PyString>, function: &Py<PyAny>) -> bool {
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
