//! Instances of the handle classes that are used again.
//!
//! A handle lives for one turn, and there is one for every step of every task. Python's general way to free an
//! instance with slots looks each slot up in the class, and the next instance comes from the allocator again.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::slots::{self, Slot};

/// So many instances are kept of each class.
const KEPT: usize = 256;

/// A class whose instances are used again.
struct Kept {
    class: *mut ffi::PyTypeObject,
    /// Never freed, like the class.
    slots: &'static [Slot],
    /// Instances without content: off the collector's list, their type given up, memory of `class`.
    free: Vec<*mut ffi::PyObject>,
}

/// The classes; written when `uringhub.loop` is imported, their lists with every handle.
struct All(UnsafeCell<Vec<Kept>>);

// SAFETY: only touched with the GIL held, and never across a call that could give it up.
unsafe impl Sync for All {}

static ALL: All = All(UnsafeCell::new(Vec::new()));

/// Makes `class` one whose instances are used again. `slots` are all that it has.
pub fn keep(class: &Bound<'_, PyType>, slots: Vec<Slot>) -> PyResult<()> {
    let class = class.as_ptr().cast::<ffi::PyTypeObject>();
    // SAFETY: attached, and a ready heap type that nobody has made an instance of. A subclass would free its
    // instances through this class's function, which knows this layout only: there can be none.
    unsafe {
        if (*class).tp_basicsize as usize != slots::instance_size(&slots, class) || (*class).tp_itemsize != 0
        {
            return Err(PyTypeError::new_err("a handle class has more than its slots"));
        }
        (*class).tp_flags &= !ffi::Py_TPFLAGS_BASETYPE;
        (*class).tp_dealloc = Some(dealloc);
        (*ALL.0.get()).push(Kept { class, slots: slots.leak(), free: Vec::new() });
    }
    Ok(())
}

/// An instance with all slots empty; `__init__` does not run.
#[inline]
pub fn make<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: attached. What `free` holds is memory of this class with all slots empty, as `dealloc` left it.
    unsafe {
        let wanted = class.as_ptr().cast::<ffi::PyTypeObject>();
        let kept = (*ALL.0.get()).iter_mut().find(|kept| kept.class == wanted);
        if let Some(object) = kept.and_then(|kept| kept.free.pop()) {
            ffi::PyObject_Init(object, wanted);
            ffi::PyObject_GC_Track(object.cast());
            return Ok(Bound::from_owned_ptr(class.py(), object));
        }
    }
    slots::allocate(class)
}

/// Frees an instance: what Python's own function does for a class with slots, and no others.
unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: CPython calls this attached, with an instance of one of the classes that nobody refers to any
    // more. The references are given up one by one, each when its slot is empty already, since that can run
    // any code. The lists are looked at afterwards, when nothing more runs.
    unsafe {
        let class = ffi::Py_TYPE(object);
        if (*class).tp_finalize.is_some() && ffi::PyObject_CallFinalizerFromDealloc(object) < 0 {
            return;
        }
        ffi::PyObject_GC_UnTrack(object.cast());
        if slots::has_weak_references(object) {
            ffi::PyObject_ClearWeakRefs(object);
        }
        let slots = (*ALL.0.get()).iter().find(|kept| kept.class == class).map_or(&[][..], |kept| kept.slots);
        for slot in slots {
            slot.clear(object);
        }
        match (*ALL.0.get()).iter_mut().find(|kept| kept.class == class) {
            Some(kept) if kept.free.len() < KEPT && (*class).tp_finalize.is_none() => kept.free.push(object),
            _ => ffi::PyObject_GC_Del(object.cast()),
        }
        ffi::Py_DECREF(class.cast());
    }
}
