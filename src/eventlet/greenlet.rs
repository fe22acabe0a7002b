//! The greenlet boundary: the C API of the `greenlet` package, through its capsule.
//!
//! A switch copies the C stack of the greenlet that leaves to the heap and the stack of the one that
//! enters back into place. So a reference held by a Rust frame below a switch stays valid for that frame
//! (it sees the same addresses again when it returns), but for nobody else: neither the kernel nor another
//! greenlet may be handed an address on the stack, and no borrow or lock may be held across a switch.
//! A switch and the loss of a last reference can run any Python code.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ffi::{CStr, c_int, c_void};

use pyo3::exceptions::{PyImportError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};

use crate::raised::Raised;

const CAPSULE: &CStr = c"greenlet._C_API";

// Slots of the capsule's table, `greenlet.h` (unchanged since greenlet 1.0; the last three since 2.0).
const TYPE: usize = 0;
const NEW: usize = 3;
const GET_CURRENT: usize = 4;
const THROW: usize = 5;
const SWITCH: usize = 6;
const SET_PARENT: usize = 7;
const STARTED: usize = 9;
const ACTIVE: usize = 10;
const GET_PARENT: usize = 11;

type Object = *mut ffi::PyObject;

struct Api {
    class: *mut ffi::PyTypeObject,
    new: unsafe extern "C" fn(Object, Object) -> Object,
    get_current: unsafe extern "C" fn() -> Object,
    throw: unsafe extern "C" fn(Object, Object, Object, Object) -> Object,
    switch: unsafe extern "C" fn(Object, Object, Object) -> Object,
    set_parent: unsafe extern "C" fn(Object, Object) -> c_int,
    started: unsafe extern "C" fn(Object) -> c_int,
    active: unsafe extern "C" fn(Object) -> c_int,
    get_parent: unsafe extern "C" fn(Object) -> Object,
}

// SAFETY: the functions and the type are static data of the greenlet module, used with the GIL held.
unsafe impl Send for Api {}
// SAFETY: as above.
unsafe impl Sync for Api {}

static API: PyOnceLock<Api> = PyOnceLock::new();

/// Imports greenlet and its C API; every other function of this module needs that done once.
pub fn import(py: Python<'_>) -> PyResult<()> {
    API.get_or_try_init(py, || load(py)).map(|_| ())
}

fn load(py: Python<'_>) -> PyResult<Api> {
    py.import("greenlet")?;
    // SAFETY: the name is a NUL-terminated literal; the interpreter is attached.
    let table = unsafe { ffi::PyCapsule_Import(CAPSULE.as_ptr(), 0) } as *const *const c_void;
    if table.is_null() {
        return Err(PyErr::take(py).unwrap_or_else(|| {
            PyImportError::new_err("greenlet offers no C API; install greenlet 2.0 or newer")
        }));
    }
    // SAFETY: greenlet.h declares twelve entries, each a function of exactly these signatures; the table is
    // static data of a module that is never unloaded.
    unsafe {
        use std::mem::transmute;
        let slot = |index: usize| *table.add(index);
        Ok(Api {
            class: slot(TYPE).cast_mut().cast(),
            new: transmute::<*const c_void, unsafe extern "C" fn(Object, Object) -> Object>(slot(NEW)),
            get_current: transmute::<*const c_void, unsafe extern "C" fn() -> Object>(slot(GET_CURRENT)),
            throw: transmute::<*const c_void, unsafe extern "C" fn(Object, Object, Object, Object) -> Object>(
                slot(THROW),
            ),
            switch: transmute::<*const c_void, unsafe extern "C" fn(Object, Object, Object) -> Object>(slot(
                SWITCH,
            )),
            set_parent: transmute::<*const c_void, unsafe extern "C" fn(Object, Object) -> c_int>(slot(
                SET_PARENT,
            )),
            started: transmute::<*const c_void, unsafe extern "C" fn(Object) -> c_int>(slot(STARTED)),
            active: transmute::<*const c_void, unsafe extern "C" fn(Object) -> c_int>(slot(ACTIVE)),
            get_parent: transmute::<*const c_void, unsafe extern "C" fn(Object) -> Object>(slot(GET_PARENT)),
        })
    }
}

fn api(py: Python<'_>) -> &Api {
    API.get(py).expect("greenlet::import ran when the first hub was made")
}

/// The running greenlet.
pub fn current(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: attached; the function returns a new reference or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, (api(py).get_current)()) }
}

/// The running greenlet, for the function that it runs, without a reference: one on its own stack would keep
/// a greenlet alive that nobody else knows, since the garbage collector does not see it.
pub fn current_unowned<'a, 'py>(py: Python<'py>) -> PyResult<Borrowed<'a, 'py, PyAny>> {
    let me = current(py)?;
    // SAFETY: greenlet keeps the running greenlet, also one that is being destroyed while its function ends;
    // and no frame of that function goes on while another greenlet runs.
    Ok(unsafe { Borrowed::from_ptr(py, me.as_ptr()) })
}

/// `greenlet(run, parent)`.
pub fn new<'py>(run: &Bound<'py, PyAny>, parent: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = run.py();
    // SAFETY: both objects are alive, greenlet takes references of its own and checks the parent's type; the
    // result is a new reference or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, (api(py).new)(run.as_ptr(), parent.as_ptr())) }
}

/// `class.__new__(class)`: an instance of any class, without its `__init__`.
pub fn allocate<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    let none = PyTuple::empty(py);
    // SAFETY: the type object is alive, and its slots are only written with the GIL held.
    let new = unsafe { (*class.as_type_ptr()).tp_new };
    let new = new.ok_or_else(|| PyTypeError::new_err("the class makes no instances"))?;
    // SAFETY: the type, the tuple and the absent keywords are what a tp_new takes; the result is a new
    // reference or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, new(class.as_type_ptr(), none.as_ptr(), std::ptr::null_mut())) }
}

/// `greenlet.__init__(instance, run, parent)`.
pub fn init(instance: &Bound<'_, PyAny>, run: &Bound<'_, PyAny>, parent: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = instance.py();
    let args = (run, parent).into_pyobject(py)?;
    // SAFETY: the type object of the running interpreter's greenlet module, alive as long as that.
    let init = unsafe { (*api(py).class).tp_init };
    let init = init.ok_or_else(|| PyTypeError::new_err("greenlet has no __init__"))?;
    // SAFETY: the instance is a greenlet (callers pass what `allocate` made) and the arguments are alive.
    let status = unsafe { init(instance.as_ptr(), args.as_ptr(), std::ptr::null_mut()) };
    if status < 0 { Err(PyErr::fetch(py)) } else { Ok(()) }
}

/// The dict of an instance whose class has one, made if need be.
pub fn dict<'py>(instance: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    // SAFETY: the object is alive; the result is a new reference or null with an exception set.
    let dict = unsafe {
        Bound::from_owned_ptr_or_err(
            instance.py(),
            ffi::PyObject_GenericGetDict(instance.as_ptr(), std::ptr::null_mut()),
        )
    }?;
    Ok(dict.cast_into::<PyDict>()?)
}

/// `target.switch(*args, **kwargs)`: returns when something switches back to the caller.
///
/// No exception may be pending: greenlet would deliver it to the target instead of the value.
#[inline]
pub fn switch<'py>(
    target: &Bound<'py, PyAny>,
    args: Option<&Bound<'py, PyTuple>>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> Result<Bound<'py, PyAny>, Raised> {
    let py = target.py();
    debug_assert!(!PyErr::occurred(py), "switch with an exception pending");
    let args = args.map_or(std::ptr::null_mut(), |args| args.as_ptr());
    let kwargs = kwargs.map_or(std::ptr::null_mut(), |kwargs| kwargs.as_ptr());
    // SAFETY: the three objects are alive in the caller's frame until this returns in that same frame;
    // greenlet checks the type of the target and takes references of its own. Null stands for no arguments,
    // and the result is a new reference or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_opt(py, (api(py).switch)(target.as_ptr(), args, kwargs)) }.ok_or(Raised)
}

thread_local! {
    /// What the last [`pass`] of this thread was given.
    static PASSED: RefCell<Option<Py<PyTuple>>> = const { RefCell::new(None) };
}

/// Keeps what [`switch_passing`] passes: in the frame that switches it would be kept for as long as that waits.
pub fn pass(value: &Bound<'_, PyAny>) -> PyResult<()> {
    let args = PyTuple::new(value.py(), [value])?.unbind();
    drop(PASSED.replace(Some(args)));
    Ok(())
}

/// Drops what was passed last: the green thread that got it has taken it.
pub fn forget_passed() {
    drop(PASSED.take());
}

/// `target.switch(value)` with the value that [`pass`] was given.
#[inline]
pub fn switch_passing<'py>(target: &Bound<'py, PyAny>) -> Result<Bound<'py, PyAny>, Raised> {
    let py = target.py();
    debug_assert!(!PyErr::occurred(py), "switch with an exception pending");
    let args = PASSED.with_borrow(|args| args.as_ref().map_or(std::ptr::null_mut(), |args| args.as_ptr()));
    // SAFETY: the target is alive in the caller's frame until this returns in that same frame. The tuple is this
    // thread's, until the next `pass` or `forget_passed`; before anything else can run greenlet has taken a
    // reference of its own. The result is a new reference or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_opt(py, (api(py).switch)(target.as_ptr(), args, std::ptr::null_mut())) }
        .ok_or(Raised)
}

/// `target.throw(exception)`, with an exception instance or class.
pub fn throw<'py>(target: &Bound<'py, PyAny>, exception: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = target.py();
    let none = std::ptr::null_mut();
    // SAFETY: as for `switch`; null stands for an absent value and traceback.
    unsafe {
        Bound::from_owned_ptr_or_err(py, (api(py).throw)(target.as_ptr(), exception.as_ptr(), none, none))
    }
}

/// Makes `parent` the greenlet that runs when `child` ends.
pub fn set_parent(child: &Bound<'_, PyAny>, parent: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: both objects are alive; a failure leaves an exception set.
    let status = unsafe { (api(child.py()).set_parent)(child.as_ptr(), parent.as_ptr()) };
    if status < 0 { Err(PyErr::fetch(child.py())) } else { Ok(()) }
}

/// How many references there are to a greenlet: its children hold one each.
pub fn references(greenlet: &Bound<'_, PyAny>) -> isize {
    // SAFETY: the object is alive.
    unsafe { ffi::Py_REFCNT(greenlet.as_ptr()) }
}

/// The parent of a greenlet; a main greenlet has none.
pub fn parent<'py>(child: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    // SAFETY: the child is alive; the result is a new reference, or null for a main greenlet, without an
    // exception.
    unsafe { Bound::from_owned_ptr_or_opt(child.py(), (api(child.py()).get_parent)(child.as_ptr())) }
}

/// Whether `parent` is the parent of `child`.
pub fn has_parent(child: &Bound<'_, PyAny>, parent: &Bound<'_, PyAny>) -> bool {
    self::parent(child).is_some_and(|found| found.is(parent))
}

/// Whether the greenlet has run at all (it may have ended since).
pub fn is_started(target: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the object is alive; greenlet checks its type.
    unsafe { (api(target.py()).started)(target.as_ptr()) > 0 }
}

/// Whether the greenlet has started and not ended.
pub fn is_active(target: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the object is alive; greenlet checks its type.
    unsafe { (api(target.py()).active)(target.as_ptr()) > 0 }
}

/// Whether the greenlet has ended.
pub fn is_dead(target: &Bound<'_, PyAny>) -> bool {
    is_started(target) && !is_active(target)
}
