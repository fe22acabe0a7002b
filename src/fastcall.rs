//! Native functions as CPython calls them: by vectorcall, with the arguments as they are, in frames kept small.
//!
//! The stack of a suspended green thread is copied at every switch and kept for as long as it waits. So a
//! function that waits is one of these, and not one with pyo3's general way of unpacking arguments.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::{PySystemError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};
use pyo3::{Borrowed, ffi};

use crate::raised::{Failure, Raised};

/// The arguments of one call.
#[derive(Clone, Copy)]
pub struct Arguments<'a, 'py> {
    py: Python<'py>,
    /// What is called, for error texts.
    function: &'static CStr,
    /// Positional values, then those of the keywords.
    values: &'a [*mut ffi::PyObject],
    positional: usize,
    /// A tuple with one name for each value beyond the positional ones, or null.
    names: *mut ffi::PyObject,
}

impl<'a, 'py> Arguments<'a, 'py> {
    /// # Safety
    /// The arguments of a call that is under way, as CPython passes them to a function with the flags
    /// `METH_FASTCALL | METH_KEYWORDS`: CPython's frame owns the array, the values and the names until the call
    /// returns, and `'a` ends before that.
    unsafe fn new(
        py: Python<'py>,
        function: &'static CStr,
        values: *const *mut ffi::PyObject,
        count: ffi::Py_ssize_t,
        names: *mut ffi::PyObject,
    ) -> Self {
        let positional = usize::try_from(count).unwrap_or(0);
        // SAFETY: `names` is null or a tuple that CPython's frame owns until the call returns.
        let named = if names.is_null() { 0 } else { unsafe { ffi::PyTuple_GET_SIZE(names) as usize } };
        let total = positional + named;
        // SAFETY: so many values are there, in CPython's frame, which owns them until the call returns, also
        // while the green thread is suspended; the pointer may be null only if there are none.
        let values = if total == 0 { &[] } else { unsafe { std::slice::from_raw_parts(values, total) } };
        Self { py, function, values, positional, names }
    }

    /// Whether there are no keywords.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.values.len() == self.positional
    }

    /// A positional argument.
    #[inline]
    pub fn get(&self, index: usize) -> Option<Borrowed<'a, 'py, PyAny>> {
        (index < self.positional).then(|| self.value(index))
    }

    /// The argument at `index`, or of that name.
    pub fn named(&self, index: usize, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        if let Some(value) = self.get(index) {
            return Ok(Some(value.to_owned()));
        }
        for (offset, keyword) in self.keywords().enumerate() {
            if keyword.cast::<PyString>()?.to_str()? == name {
                return Ok(Some(self.value(self.positional + offset).to_owned()));
            }
        }
        Ok(None)
    }

    /// The argument at `index`, or of that name, which must be given.
    pub fn require(&self, index: usize, name: &str) -> PyResult<Bound<'py, PyAny>> {
        self.named(index, name)?
            .ok_or_else(|| self.wrong(&format!("missing required argument '{name}' (pos {})", index + 1)))
    }

    /// An error for what a function with these parameters does not take.
    pub fn check(&self, names: &[&str]) -> PyResult<()> {
        if self.positional > names.len() {
            let (most, given) = (names.len(), self.positional);
            return Err(self.wrong(&format!("takes at most {most} arguments ({given} given)")));
        }
        for keyword in self.keywords() {
            let keyword = keyword.cast::<PyString>()?;
            let keyword = keyword.to_str()?;
            if !names.contains(&keyword) {
                return Err(self.wrong(&format!("got an unexpected keyword argument '{keyword}'")));
            }
        }
        Ok(())
    }

    /// An error for what a function without parameters does not take, in a frame of its own.
    #[inline(never)]
    pub fn expect_none(&self) -> Result<(), Raised> {
        self.check(&[]).map_err(|error| error.raise(self.py))
    }

    /// The error for a wrong call.
    #[cold]
    fn wrong(&self, text: &str) -> PyErr {
        PyTypeError::new_err(format!("{}() {text}", self.function.to_string_lossy()))
    }

    /// The keyword argument `name` if it is the only one, None if there is none; `Err` if there are others.
    ///
    /// C code names its arguments by strings that are not interned, but each by the same ones again and again:
    /// `seen` keeps the first.
    #[inline]
    pub fn only(
        &self,
        name: &Bound<'py, PyString>,
        seen: &PyOnceLock<Py<PyAny>>,
    ) -> Result<Option<Borrowed<'a, 'py, PyAny>>, ()> {
        let &[value] = &self.values[self.positional..] else {
            return if self.is_plain() { Ok(None) } else { Err(()) };
        };
        // SAFETY: one value beyond the positional ones means a tuple of one name; both live until the call ends.
        unsafe {
            let given = Borrowed::from_ptr(self.py, ffi::PyTuple_GET_ITEM(self.names, 0));
            if !given.is(name) && !seen.get(self.py).is_some_and(|seen| given.is(seen)) {
                if !is_text(&given, name) {
                    return Err(());
                }
                let _ = seen.set(self.py, given.to_owned().unbind());
            }
            Ok(Some(Borrowed::from_ptr(self.py, value)))
        }
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

    /// The keyword arguments as a dict; None if there are none.
    #[inline]
    pub fn keyword_dict(&self) -> PyResult<Option<Bound<'py, PyDict>>> {
        if self.is_plain() {
            return Ok(None);
        }
        let dict = PyDict::new(self.py);
        for (offset, keyword) in self.keywords().enumerate() {
            dict.set_item(keyword, self.value(self.positional + offset))?;
        }
        Ok(Some(dict))
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

    /// Calls the first argument with the tuple and the dict that follow it.
    ///
    /// Nothing of it needs a frame of its own: this is how a green thread begins.
    #[inline]
    pub fn apply(&self) -> Result<Bound<'py, PyAny>, Raised> {
        let text = "takes a function, a tuple and a dict";
        let &[function, args, kwargs] = self.values else {
            return Err(self.wrong(text).raise(self.py));
        };
        // SAFETY: CPython's frame owns the three objects until the call returns. PyObject_Call checks their types
        // in a debug build only, so this does.
        unsafe {
            if ffi::PyTuple_Check(args) == 0 || ffi::PyDict_Check(kwargs) == 0 {
                return Err(self.wrong(text).raise(self.py));
            }
            Bound::from_owned_ptr_or_opt(self.py, ffi::PyObject_Call(function, args, kwargs)).ok_or(Raised)
        }
    }

    fn value(&self, index: usize) -> Borrowed<'a, 'py, PyAny> {
        // SAFETY: the caller of the function holds a reference to each argument until the call ends.
        unsafe { Borrowed::from_ptr(self.py, self.values[index]) }
    }

    fn keywords(&self) -> impl Iterator<Item = Borrowed<'a, 'py, PyAny>> {
        let (py, names) = (self.py, self.names);
        (0..self.values.len() - self.positional).map(move |index| {
            // SAFETY: the tuple has a name for each of these values and lives until the call ends.
            unsafe { Borrowed::from_ptr(py, ffi::PyTuple_GET_ITEM(names, index as ffi::Py_ssize_t)) }
        })
    }
}

/// A function of a module, or a method of a class.
pub trait Function {
    /// Its name in Python.
    const NAME: &'static CStr;

    /// Its docstring: the signature, a line `--`, an empty one, the text.
    const DOC: &'static CStr = c"";

    /// How it fails: `PyErr`, or `Raised` for one that waits, to keep its frame small.
    type Error: Failure;

    /// Whether pyo3 need not be told that the thread is attached. For a function that no `Py` is dropped in: pyo3 keeps
    /// those that are dropped unbeknown to it until somebody attaches.
    const IS_LIGHT: bool = false;

    /// The call: the instance or module it is called on, and the arguments.
    fn call<'py>(
        this: &Bound<'py, PyAny>,
        arguments: Arguments<'_, 'py>,
    ) -> Result<Bound<'py, PyAny>, Self::Error>;
}

/// Calls a function from CPython: the one place where its vectorcall convention is unpacked.
///
/// # Safety
/// To be called by CPython with the GIL held, as a `METH_FASTCALL | METH_KEYWORDS` function.
unsafe extern "C" fn enter<F: Function>(
    this: *mut ffi::PyObject,
    values: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    let call = |py: Python<'_>| {
        // SAFETY: CPython's frame owns a reference to the instance or module until this returns, and the arguments
        // are as the flags say.
        let (this, arguments) =
            unsafe { (Borrowed::from_ptr(py, this), Arguments::new(py, F::NAME, values, count, names)) };
        match catch_unwind(AssertUnwindSafe(|| F::call(&this, arguments))) {
            Ok(Ok(value)) => value.into_ptr(),
            Ok(Err(failure)) => {
                let Raised = failure.raise(py);
                std::ptr::null_mut()
            }
            Err(_) => panicked(py),
        }
    };
    // Not `Python::attach`: at the interpreter's end, when the `finally` blocks of coroutines that never ended run, that
    // panics, since it takes nobody for attached.
    // SAFETY: CPython calls this with the GIL held, and it is held until the return.
    unsafe { if F::IS_LIGHT { call(Python::assume_attached()) } else { Python::attach_unchecked(call) } }
}

/// A panic must not cross into C, where it would abort the process.
#[cold]
#[inline(never)]
pub fn panicked(py: Python<'_>) -> *mut ffi::PyObject {
    PySystemError::new_err("uringhub panicked; see stderr, and please report it").restore(py);
    std::ptr::null_mut()
}

/// Allocated once for each function and never freed: what is made of it points at it for ever.
pub fn definition<F: Function>() -> &'static mut ffi::PyMethodDef {
    Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: F::NAME.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: enter::<F> },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: if F::DOC.is_empty() { std::ptr::null() } else { F::DOC.as_ptr() },
    }))
}

/// Calls a function of which the first argument is the instance, as CPython calls a method descriptor.
///
/// # Safety
/// To be called by CPython with the GIL held, by its vectorcall convention, with the instance first: CPython's frame
/// owns the arguments until the return.
pub unsafe fn enter_unbound<F: Function>(
    values: *const *mut ffi::PyObject,
    count: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the caller's promise; the rest of the arguments are as a bound method gets them.
    unsafe { enter::<F>(*values, values.add(1), ffi::PyVectorcall_NARGS(count) - 1, names) }
}

/// Makes a method of a class: unlike a builtin function it binds to the instance, at no cost.
pub fn bind<F: Function>(class: &Bound<'_, PyType>) -> PyResult<()> {
    // SAFETY: the class is alive and the definition is never freed; the result is a new reference or null.
    let descriptor = unsafe {
        let descriptor = ffi::PyDescr_NewMethod(class.as_type_ptr(), definition::<F>());
        Bound::from_owned_ptr_or_err(class.py(), descriptor)
    }?;
    class.setattr(name::<F>(class.py()), descriptor)
}

/// Makes a function of a module.
pub fn add<F: Function>(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let module_name = module.name()?;
    // SAFETY: module and name are alive, the definition is never freed; the result is a new reference or null.
    let function = unsafe {
        let function = ffi::PyCFunction_NewEx(definition::<F>(), module.as_ptr(), module_name.as_ptr());
        Bound::from_owned_ptr_or_err(module.py(), function)
    }?;
    module.add(name::<F>(module.py()), function)
}

fn name<F: Function>(py: Python<'_>) -> Bound<'_, PyString> {
    PyString::intern(py, &F::NAME.to_string_lossy())
}

/// An exception that is being handled, as in an `except` block, until this is dropped.
pub struct Handling<'py> {
    py: Python<'py>,
    /// Type, value and traceback of what was handled before: references that this owns, or null.
    before: [*mut ffi::PyObject; 3],
}

impl<'py> Handling<'py> {
    /// Begins to handle `error`.
    pub fn new(py: Python<'py>, error: &PyErr) -> Self {
        let (kind, value) = (error.get_type(py), error.value(py).clone());
        let traceback = error.traceback(py).map_or(std::ptr::null_mut(), Bound::into_ptr);
        let [mut old_kind, mut old_value, mut old_traceback] = [std::ptr::null_mut(); 3];
        // SAFETY: attached; getting gives references of their own to us, and setting takes over those that it is
        // given.
        unsafe {
            ffi::PyErr_GetExcInfo(&raw mut old_kind, &raw mut old_value, &raw mut old_traceback);
            ffi::PyErr_SetExcInfo(kind.into_ptr(), value.into_ptr(), traceback);
        }
        Self { py, before: [old_kind, old_value, old_traceback] }
    }
}

impl Drop for Handling<'_> {
    fn drop(&mut self) {
        let [kind, value, traceback] = self.before;
        let _attached = self.py;
        // SAFETY: attached; this owns the three references and gives them up here.
        unsafe { ffi::PyErr_SetExcInfo(kind, value, traceback) };
    }
}

/// Whether a name is that text: C code names its arguments by strings that are not interned.
fn is_text(given: &Bound<'_, PyAny>, name: &Bound<'_, PyString>) -> bool {
    let given = given.cast::<PyString>().ok().and_then(|given| given.to_str().ok());
    given.is_some() && given == name.to_str().ok()
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

/// A member of the instances of a class with `__slots__`: its descriptor is looked up once.
pub struct Slot {
    descriptor: Py<PyAny>,
    name: Py<PyString>,
}

impl Slot {
    /// The member of that name.
    pub fn of(class: &Bound<'_, PyAny>, name: &str) -> PyResult<Self> {
        let name = PyString::intern(class.py(), name);
        Ok(Self { descriptor: class.getattr(&name)?.unbind(), name: name.unbind() })
    }

    /// `object.name`.
    pub fn get<'py>(&self, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = object.py();
        let descriptor = self.descriptor.as_ptr();
        // SAFETY: descriptor and object are alive, and so are their types; the slot is only written with the GIL held.
        // It checks the object's class, and its result is a new reference or null with an exception.
        unsafe {
            match (*ffi::Py_TYPE(descriptor)).tp_descr_get {
                Some(get) => {
                    let class = ffi::Py_TYPE(object.as_ptr()).cast();
                    Bound::from_owned_ptr_or_err(py, get(descriptor, object.as_ptr(), class))
                }
                None => object.getattr(&self.name),
            }
        }
    }

    /// `object.name = value`.
    pub fn set(&self, object: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let descriptor = self.descriptor.as_ptr();
        // SAFETY: as for `get`; the slot takes a reference of its own of the value.
        let status = unsafe {
            match (*ffi::Py_TYPE(descriptor)).tp_descr_set {
                Some(set) => set(descriptor, object.as_ptr(), value.as_ptr()),
                None => return object.setattr(&self.name, value),
            }
        };
        if status < 0 { Err(PyErr::fetch(object.py())) } else { Ok(()) }
    }
}
