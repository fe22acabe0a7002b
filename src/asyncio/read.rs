//! `StreamReader.read`, and what every method of a reader waits by, without their Python frames.
//!
//! The methods are those of `uringhub.readers.StreamReader` and `StreamReaderProtocol`, which the stream objects of our
//! transports become. They do to the same attributes what the standard library's do, and stand aside where these
//! have been replaced.
//!
//! Source: CPython, `asyncio/streams.py`; the functions do the same in 3.10 to 3.13.

use std::ffi::CStr;

use pyo3::exceptions::{PyAssertionError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyByteArray, PyByteArrayMethods, PyInt, PyString, PyType};

use super::attributes::{Attributes, Name};
use super::core::LoopCore;
use super::operation::{self, About, Begun};
use super::{bytes, future, reader};
use crate::fastcall::{self, Arguments, Function};

/// Gives the classes their methods.
pub fn install(protocol: &Bound<'_, PyType>, reader: &Bound<'_, PyType>) -> PyResult<()> {
    fastcall::bind::<Read>(reader)?;
    fastcall::bind::<WaitForData>(reader)?;
    fastcall::bind::<Exception>(reader)?;
    fastcall::bind::<DrainHelper>(protocol)
}

static LOOP: Name = Name::new("_loop");
static EXCEPTION: Name = Name::new("_exception");
static BUFFER: Name = Name::new("_buffer");
static EOF: Name = Name::new("_eof");
static WAITER: Name = Name::new("_waiter");
static PAUSED: Name = Name::new("_paused");
static TRANSPORT: Name = Name::new("_transport");
static CONNECTION_LOST: Name = Name::new("_connection_lost");
static WRITING_PAUSED: Name = Name::new("_paused");

/// The first step: takes what is there, or waits.
pub fn begin<'py>(about: &About<'py>) -> PyResult<Begun<'py>> {
    let reader = Attributes::of(&about.subject)?;
    if is_read(about) {
        let error = reader.get(&EXCEPTION)?;
        if !error.is_none() {
            return Err(PyErr::from_value(error));
        }
        if !buffer(&reader)?.is_empty() || reader.is_set(&EOF)? {
            return take(about, &reader).map(Begun::Done);
        }
    } else if reader.is_set(&EOF)? {
        return Err(PyAssertionError::new_err("_wait_for_data after EOF"));
    }
    if !reader.get(&WAITER)?.is_none() {
        // The argument of `_wait_for_data` is the name of its caller.
        let caller = if is_read(about) { &about.name } else { &about.argument };
        return Err(PyRuntimeError::new_err(format!(
            "{caller}() called while another coroutine is already waiting for incoming data"
        )));
    }
    if reader.is_set(&PAUSED)? {
        reader.set(&PAUSED, &PyBool::new(about.name.py(), false).to_owned().into_any())?;
        reader.get(&TRANSPORT)?.call_method0(intern!(about.name.py(), "resume_reading"))?;
    }
    let waiter = future::create_future(&about.the_loop)?;
    reader.set(&WAITER, &waiter)?;
    Ok(Begun::Waits(waiter, about.argument.clone()))
}

/// The wait has ended: the bytes that `read` returns, or nothing.
pub fn after<'py>(about: &About<'py>, outcome: PyResult<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
    let reader = Attributes::of(&about.subject)?;
    match outcome {
        // Whoever ended the wait has taken the waiter out.
        Ok(_) if is_read(about) => take(about, &reader),
        Ok(value) => Ok(value),
        Err(error) => {
            reader.set(&WAITER, &about.name.py().None().into_bound(about.name.py()))?;
            Err(error)
        }
    }
}

fn is_read(about: &About<'_>) -> bool {
    about.name.is(intern!(about.name.py(), "read"))
}

/// At most as many bytes as `read` was called with, out of the buffer.
fn take<'py>(about: &About<'py>, reader: &Attributes<'py>) -> PyResult<Bound<'py, PyAny>> {
    let limit: usize = about.argument.extract()?;
    let taken = bytes::take(&buffer(reader)?, limit)?;
    if reader.is_set(&PAUSED)? {
        about.subject.call_method0(intern!(about.name.py(), "_maybe_resume_transport"))?;
    }
    Ok(taken.into_any())
}

fn buffer<'py>(reader: &Attributes<'py>) -> PyResult<Bound<'py, PyByteArray>> {
    Ok(reader.get(&BUFFER)?.cast_into()?)
}

/// The loop of a reader, if it is one of ours.
fn loop_of<'py>(reader: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let the_loop = Attributes::of(reader)?.get(&LOOP)?;
    Ok(the_loop.is_instance_of::<LoopCore>().then_some(the_loop))
}

struct Read;

impl Function for Read {
    const NAME: &'static CStr = c"read";
    const DOC: &'static CStr = c"read($self, n=-1)\n--\n\n\
        Read up to n bytes; up to the end of the stream if n is negative.";
    type Error = PyErr;

    fn call<'py>(reader: &Bound<'py, PyAny>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (py, name) = (reader.py(), intern!(reader.py(), "read"));
        if let (Some(limit), None, true) = (arguments.get(0), arguments.get(1), arguments.is_plain())
            && limit.is_exact_instance_of::<PyInt>()
            && limit.extract::<isize>().is_ok_and(|limit| limit > 0)
            && reader::classes(py).is_some_and(|classes| classes.reader.holds(reader).unwrap_or(false))
            && let Some(the_loop) = loop_of(reader)?
        {
            return operation::make(&the_loop, name, reader.clone(), limit.to_owned());
        }
        stock(reader, name, arguments)
    }
}

struct WaitForData;

impl Function for WaitForData {
    const NAME: &'static CStr = c"_wait_for_data";
    type Error = PyErr;

    fn call<'py>(reader: &Bound<'py, PyAny>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (py, name) = (reader.py(), intern!(reader.py(), "_wait_for_data"));
        if let (Some(caller), None, true) = (arguments.get(0), arguments.get(1), arguments.is_plain())
            && reader::classes(py).is_some_and(|classes| classes.reader.holds(reader).unwrap_or(false))
            && let Some(the_loop) = loop_of(reader)?
        {
            return operation::make(&the_loop, name, reader.clone(), caller.to_owned());
        }
        stock(reader, name, arguments)
    }
}

struct Exception;

impl Function for Exception {
    const NAME: &'static CStr = c"exception";
    const DOC: &'static CStr = c"exception($self)\n--\n\nWhat reading fails with from now on, or None.";
    type Error = PyErr;

    fn call<'py>(reader: &Bound<'py, PyAny>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let py = reader.py();
        if reader::classes(py).is_some_and(|classes| classes.reader.holds(reader).unwrap_or(false)) {
            arguments.check(&[])?;
            return Attributes::of(reader)?.get(&EXCEPTION);
        }
        stock(reader, intern!(py, "exception"), arguments)
    }
}

fn stock<'py>(
    reader: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    arguments: Arguments<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    match reader::classes(reader.py()) {
        Some(classes) => classes.reader.pass_to(name, reader, arguments),
        None => Err(PyRuntimeError::new_err("uringhub.readers has not been imported")),
    }
}

/// What `_drain_helper` returns when there is nothing to wait for.
#[pyclass(frozen, module = "uringhub._native")]
struct Drained;

#[pymethods]
impl Drained {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self) -> Option<Py<PyAny>> {
        None
    }
}

static DRAINED: PyOnceLock<Py<Drained>> = PyOnceLock::new();

struct DrainHelper;

impl Function for DrainHelper {
    const NAME: &'static CStr = c"_drain_helper";
    type Error = PyErr;

    fn call<'py>(protocol: &Bound<'py, PyAny>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (py, name) = (protocol.py(), intern!(protocol.py(), "_drain_helper"));
        let Some(classes) = reader::classes(py) else {
            return Err(PyRuntimeError::new_err("uringhub.readers has not been imported"));
        };
        let attributes = Attributes::of(protocol)?;
        if classes.protocol.holds(protocol)?
            && !attributes.is_set(&CONNECTION_LOST)?
            && !attributes.is_set(&WRITING_PAUSED)?
        {
            arguments.check(&[])?;
            let drained = DRAINED.get_or_try_init(py, || Py::new(py, Drained))?;
            return Ok(drained.bind(py).clone().into_any());
        }
        classes.protocol.pass_to(name, protocol, arguments)
    }
}
