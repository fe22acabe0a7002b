//! Instances of the handle classes that are used again.
//!
//! A handle lives for one turn, and there is one for every step of every task. Python's general way to free an
//! instance with slots looks each slot up in the class, and the next instance comes from the allocator again.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::slots::{self, Slot};

/// So many instances are kept of each class.
const KEPT: usize = 256;

/// Looks at an instance that is about to be freed, its slots still filled; may run any code, but must not refer to it.
pub type Last = fn(Python<'_>, *mut ffi::PyObject);

/// A slot, and what it holds in a new instance: None, False, or nothing.
pub struct Place(Slot, *mut ffi::PyObject);

impl Place {
    /// A slot that is empty in a new instance.
    pub fn empty(slot: Slot) -> Self {
        Self(slot, std::ptr::null_mut())
    }

    /// A slot with None in it.
    pub fn none(slot: Slot) -> Self {
        // SAFETY: the interpreter owns None, and frees it at its own end; only its address is kept.
        Self(slot, unsafe { ffi::Py_None() })
    }

    /// A slot with False in it.
    pub fn no(slot: Slot) -> Self {
        // SAFETY: as for None.
        Self(slot, unsafe { ffi::Py_False() })
    }
}

/// A class whose instances are used again.
struct Kept {
    class: *mut ffi::PyTypeObject,
    /// Never freed, like the class.
    slots: &'static [Place],
    last: Option<Last>,
    /// Instances as new ones are: off the collector's list, their type given up, memory of `class`, which owns what is
    /// in their slots.
    free: Vec<*mut ffi::PyObject>,
}

/// The classes; written when `uringhub.loop` is imported, their lists with every handle.
struct All(UnsafeCell<Vec<Kept>>);

// SAFETY: only touched with the GIL held, and never across a call that could give it up.
unsafe impl Sync for All {}

static ALL: All = All(UnsafeCell::new(Vec::new()));

/// Makes `class` one whose instances are used again. `slots` are all that it has, in the order in which they are
/// emptied; `last` is called before.
pub fn keep(class: &Bound<'_, PyType>, slots: Vec<Place>, last: Option<Last>) -> PyResult<()> {
    let class = class.as_ptr().cast::<ffi::PyTypeObject>();
    // SAFETY: attached, and a ready heap type that nobody has made an instance of. A subclass would free its
    // instances through this class's function, which knows this layout only: there can be none.
    unsafe {
        if (*class).tp_basicsize as usize != slots::instance_size(slots.len(), class)
            || (*class).tp_itemsize != 0
        {
            return Err(PyTypeError::new_err("a handle class has more than its slots"));
        }
        (*class).tp_flags &= !ffi::Py_TPFLAGS_BASETYPE;
        (*class).tp_dealloc = Some(dealloc);
        (*class).tp_traverse = Some(traverse);
        (*ALL.0.get()).push(Kept { class, slots: slots.leak(), last, free: Vec::new() });
    }
    Ok(())
}

/// A new instance, its slots as `keep` was told; `__init__` does not run.
#[inline]
pub fn make<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: attached. What `free` holds is memory of this class with its slots as `dealloc` left them.
    unsafe {
        let wanted = class.as_ptr().cast::<ffi::PyTypeObject>();
        let kept = (*ALL.0.get()).iter_mut().find(|kept| kept.class == wanted);
        if let Some(object) = kept.and_then(|kept| kept.free.pop()) {
            ffi::PyObject_Init(object, wanted);
            ffi::PyObject_GC_Track(object.cast());
            return Ok(Bound::from_owned_ptr(class.py(), object));
        }
    }
    first(class)
}

/// An instance in memory of its own.
#[cold]
fn first<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyAny>> {
    let object = slots::allocate(class)?;
    // SAFETY: attached; a new instance of one of the classes, whose slots are found on it.
    unsafe {
        let kept = (*ALL.0.get()).iter().find(|kept| kept.class == class.as_type_ptr());
        for Place(slot, first) in kept.map_or(&[][..], |kept| kept.slots) {
            slot.reset(object.as_ptr(), *first);
        }
    }
    Ok(object)
}

/// Shows the collector what an instance refers to. Python's own function looks each slot up in the class here too, and
/// a collection may pass by every pending timer.
unsafe extern "C" fn traverse(object: *mut ffi::PyObject, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: the collector calls this attached, with a live instance of one of the classes, which owns what is in its
    // slots and a reference to its class; nothing is changed and no code runs.
    unsafe {
        let class = ffi::Py_TYPE(object);
        let kept = (&*ALL.0.get()).iter().find(|kept| kept.class == class);
        for Place(slot, first) in kept.map_or(&[][..], |kept| kept.slots) {
            let stop = slot.visit(object, *first, visit, arg);
            if stop != 0 {
                return stop;
            }
        }
        visit(class.cast(), arg)
    }
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
        // Every class that has this function is there, and none is ever taken out or moved.
        let Some(index) = (&*ALL.0.get()).iter().position(|kept| kept.class == class) else { return };
        let Kept { slots, last, .. } = (&*ALL.0.get())[index];
        if let Some(last) = last {
            last(Python::assume_attached(), object);
        }
        for Place(slot, first) in slots {
            slot.reset(object, *first);
        }
        let free = &mut (&mut *ALL.0.get())[index].free;
        if free.len() < KEPT && (*class).tp_finalize.is_none() {
            free.push(object);
        } else {
            for Place(slot, _) in slots {
                slot.clear(object);
            }
            ffi::PyObject_GC_Del(object.cast());
        }
        ffi::Py_DECREF(class.cast());
    }
}
