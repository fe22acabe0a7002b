//! Python instances with `__slots__`, read and written by offset.
//!
//! A handle of this loop is an instance of a Python subclass of `asyncio.Handle`, so that everybody's
//! `isinstance`, `repr` and patches of `Handle._run` hold. Making one through its Python `__init__` costs
//! more than the whole rest of `call_soon`; the slots' member descriptors say where each value lives.
#![allow(unsafe_code)]

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
pub unsafe fn instance_size(slots: &[Slot], class: *const ffi::PyTypeObject) -> usize {
    // SAFETY: the caller keeps the type alive, which owns the field. Since 3.12 weak references may be kept before
    // the object.
    let has_list = unsafe { (*class).tp_weaklistoffset } > 0;
    size_of::<ffi::PyObject>() + (slots.len() + usize::from(has_list)) * size_of::<*mut ffi::PyObject>()
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
