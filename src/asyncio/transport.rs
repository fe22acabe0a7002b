//! `uringhub._native.Stream`: the native half of a transport, and its `write`.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::RawFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyType};

use super::bytes;
use super::context;
use super::core::LoopCore;
use super::engine::{Sink, SinkId};
use super::slots::Slot;
use super::stream::{Receiver, fatal};
use crate::fastcall::{self, Arguments, Function};
use crate::proactor::Errno;

/// The native half of a socket transport.
#[pyclass(frozen, module = "uringhub._native")]
pub struct Stream {
    core: Py<LoopCore>,
    fd: RawFd,
    /// Nothing speaks against sending at once: no backlog, not closing, no end written.
    direct: AtomicBool,
    sink: Mutex<Option<SinkId>>,
}

impl Stream {
    fn sink(&self) -> Option<SinkId> {
        *self.sink.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[pymethods]
impl Stream {
    #[new]
    fn new(core: Py<LoopCore>, fd: RawFd) -> Self {
        Self { core, fd, direct: AtomicBool::new(false), sink: Mutex::new(None) }
    }

    /// Whether a write may try to send at once.
    #[getter]
    fn direct(&self) -> bool {
        self.direct.load(Ordering::Relaxed)
    }

    #[setter]
    fn set_direct(&self, direct: bool) {
        self.direct.store(direct, Ordering::Relaxed);
    }

    /// Starts or goes on receiving for `transport`; `entry` is its protocol.
    fn start(&self, py: Python<'_>, transport: Py<PyAny>, entry: Py<PyAny>, buffered: bool) -> PyResult<()> {
        let mut context = context::copy_current(py)?.unbind();
        let mut engine = self.core.get().engine()?.borrow_mut();
        if let Some(id) = self.sink() {
            // As on the stock loop, whose reader is a new handle then.
            if let Some(receiver) = engine.receiver(id) {
                std::mem::swap(&mut receiver.context, &mut context);
            }
            engine.want(id);
            // What is dropped may run any code, which must not find the engine borrowed.
            drop(engine);
            drop(context);
            return Ok(());
        }
        let receiver = Receiver::new(self.fd, transport, entry, buffered, context);
        let id = engine.sinks.insert(Sink::Receiver(Box::new(receiver)));
        engine.descriptor(self.fd).reader = Some(id);
        engine.resume(id);
        *self.sink.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(id);
        Ok(())
    }

    /// The transport has another protocol.
    fn set_entry(&self, entry: Py<PyAny>, buffered: bool) -> PyResult<()> {
        let Some(id) = self.sink() else { return Ok(()) };
        let old = {
            let mut engine = self.core.get().engine()?.borrow_mut();
            engine.receiver(id).map(|receiver| receiver.set_entry(entry, buffered))
        };
        drop(old);
        Ok(())
    }

    /// Whether bytes are being received.
    #[getter]
    fn reading(&self) -> bool {
        let Some(id) = self.sink() else { return false };
        self.core
            .get()
            .with_engine(|engine| engine.receiver(id).is_some_and(|r| r.is_wanted()))
            .unwrap_or(false)
    }

    /// Whether the connection was reset: a receive in flight is told of it before a write is, which then finds the pipe
    /// broken only. Nothing is received afterwards.
    fn was_reset(&self) -> bool {
        let Some(id) = self.sink() else { return false };
        let was_reset =
            self.core.get().with_engine(|engine| engine.final_error(id) == Some(Errno::CONNRESET));
        was_reset == Some(true)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.core)
    }

    /// Ends receiving for good, before the socket is closed.
    fn detach(&self) {
        let sink = self.sink.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        self.set_direct(false);
        if let Some(id) = sink {
            self.core.get().with_engine(|engine| engine.detach(id));
        }
        self.core.get().bury();
    }
}

static STREAM_SLOT: PyOnceLock<Slot> = PyOnceLock::new();

/// Gives a transport class its native `write`; the class has a slot `_stream`.
#[pyfunction]
pub fn set_stream_class(cls: &Bound<'_, PyType>) -> PyResult<()> {
    let _ = STREAM_SLOT.set(cls.py(), Slot::find(cls, "_stream")?);
    fastcall::bind::<Write>(cls)
}

struct Write;

impl Function for Write {
    const NAME: &'static CStr = c"write";
    const DOC: &'static CStr = c"write($self, data)\n--\n\n\
        Send data, now as far as possible and the rest when the socket takes it.";
    type Error = PyErr;

    fn call<'py>(
        transport: &Bound<'py, PyAny>,
        arguments: Arguments<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = transport.py();
        arguments.check(&["data"])?;
        send(transport, &arguments.require(0, "data")?)?;
        Ok(py.None().into_bound(py))
    }
}

/// Sends plain bytes at once where nothing speaks against it; everything else is for the Python methods.
fn send(transport: &Bound<'_, PyAny>, data: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = transport.py();
    let Some(slot) = STREAM_SLOT.get(py) else { return Ok(()) };
    // SAFETY: the method is bound to instances of the class with the slot only.
    let stream = unsafe { slot.get(transport) };
    if let Some(stream) = &stream
        && let Ok(stream) = stream.cast::<Stream>()
        && stream.get().direct()
        && let Ok(data) = data.cast_exact::<PyBytes>()
        && !data.as_bytes().is_empty()
    {
        let sent = match bytes::send_now(stream.get().fd, data.as_bytes()) {
            Ok(sent) if sent == data.as_bytes().len() => return Ok(()),
            Ok(sent) => sent,
            Err(error) if bytes::not_now(&error) => 0,
            Err(error) => {
                return fatal(transport, bytes::failed(&error), "Fatal write error on socket transport");
            }
        };
        return transport.call_method1(intern!(py, "_write_rest"), (data, sent)).map(drop);
    }
    transport.call_method1(intern!(py, "_write_slowly"), (data,)).map(drop)
}
