//! What comes for the standard library's `asyncio.StreamReader`, without its Python frames.
//!
//! A `StreamReaderProtocol` passes received bytes to its reader's `feed_data`, which appends them to a bytearray and
//! sets the result of the future that `read` waits for: four Python functions, for every message of every program
//! that uses streams. Here the same is done to the same objects. It is done only where each of these functions is
//! the standard library's own, for this class and for this instance; in every other case, and for what happens
//! seldom, nothing is touched and `data_received` is called.
//!
//! Source: CPython, `asyncio/streams.py`; the functions are the same in 3.10 to 3.13.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyString, PyType, PyWeakrefReference};

use super::attributes::{Attributes, Name};
use super::{bytes, slots};
use crate::fastcall::Arguments;
use crate::proactor::Lease;

/// A class of ours below one of the standard library's, and the functions of the latter that are passed over.
pub struct Stock {
    class: Py<PyType>,
    /// The class that a function is looked up on, its name, and what must be found.
    functions: Vec<(Py<PyType>, &'static str, Py<PyAny>)>,
    /// The version of the class, which changes with every change of a class above it, at which the functions were
    /// seen to be the standard library's own.
    unchanged: AtomicU32,
    /// So many attributes its instances have of their own as long as none of them is a function.
    attributes: AtomicUsize,
}

impl Stock {
    /// `class` must inherit directly from the one that has the functions. None if somebody has replaced one of them
    /// already: those of `asyncio.streams` have its globals.
    fn of(class: &Bound<'_, PyType>, names: &[&'static str]) -> PyResult<Option<Self>> {
        let py = class.py();
        let globals = py.import("asyncio.streams")?.dict();
        let flow_control = py.import("asyncio.protocols")?.dict();
        let base = class.getattr("__base__")?.cast_into::<PyType>()?;
        let mut functions = Vec::new();
        for &name in names {
            let found = base.getattr(name)?;
            let function = found.getattr_opt("fget")?.unwrap_or_else(|| found.clone());
            let known = function.getattr_opt("__globals__")?;
            if !known.is_some_and(|known| known.is(&globals) || known.is(&flow_control)) {
                return Ok(None);
            }
            functions.push((base.clone().unbind(), name, found.unbind()));
        }
        Ok(Some(Self {
            class: class.clone().unbind(),
            functions,
            unchanged: AtomicU32::new(0),
            attributes: AtomicUsize::new(0),
        }))
    }

    /// Whether `object` is of this very class, and the functions are as they were.
    #[inline]
    pub fn holds(&self, object: &Bound<'_, PyAny>) -> PyResult<bool> {
        if !slots::is_exactly(object, &self.class) {
            return Ok(false);
        }
        let class = self.class.bind(object.py());
        let version = slots::version(class);
        if version != 0 && version == self.unchanged.load(Ordering::Relaxed) {
            return Ok(true);
        }
        self.look_again(class)
    }

    #[cold]
    fn look_again(&self, class: &Bound<'_, PyType>) -> PyResult<bool> {
        let py = class.py();
        // The look-up gives the class a version if it has none.
        class.getattr(intern!(py, "__doc__"))?;
        for (owner, name, function) in &self.functions {
            if !owner.bind(py).getattr(*name)?.is(function) {
                self.unchanged.store(0, Ordering::Relaxed);
                return Ok(false);
            }
        }
        self.unchanged.store(slots::version(class), Ordering::Relaxed);
        Ok(true)
    }

    /// Calls the function that this one stands for: what the class above has under that name now.
    #[cold]
    pub fn pass_to<'py>(
        &self,
        name: &Bound<'py, PyString>,
        object: &Bound<'py, PyAny>,
        arguments: Arguments<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let base = self.class.bind(object.py()).getattr(intern!(object.py(), "__base__"))?;
        let method = base.getattr(name)?.call_method1(intern!(object.py(), "__get__"), (object,))?;
        arguments.pass_to(&method)
    }

    /// Takes note of how many attributes the instances have, from one that has become one.
    fn learn(&self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        let names: Vec<String> = Attributes::of(object)?.names()?;
        let is_plain =
            self.functions.iter().all(|(_, function, _)| !names.iter().any(|name| name == function));
        if is_plain && self.attributes.load(Ordering::Relaxed) == 0 {
            self.attributes.store(names.len(), Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The two classes.
pub struct Classes {
    /// `StreamReaderProtocol`.
    pub protocol: Stock,
    /// `StreamReader`.
    pub reader: Stock,
    data_received: Py<PyAny>,
    feed_data: Py<PyAny>,
    wakeup_waiter: Py<PyAny>,
}

static CLASSES: PyOnceLock<Option<Classes>> = PyOnceLock::new();

/// The classes; None if streams are left to the standard library.
#[inline]
pub fn classes(py: Python<'_>) -> Option<&'static Classes> {
    CLASSES.get(py)?.as_ref()
}

/// Tells the classes of streams: ours below `asyncio.StreamReaderProtocol` and `asyncio.StreamReader`. False if
/// somebody has replaced functions of these: they are better left alone then.
#[pyfunction]
pub fn set_reader_classes(protocol: &Bound<'_, PyType>, reader: &Bound<'_, PyType>) -> PyResult<bool> {
    let stock_protocol = Stock::of(protocol, &["data_received", "_stream_reader", "_drain_helper"])?;
    let stock_reader = Stock::of(
        reader,
        &["feed_data", "_wakeup_waiter", "read", "_wait_for_data", "_maybe_resume_transport", "exception"],
    )?;
    let classes = match (stock_protocol, stock_reader) {
        (Some(stock_protocol), Some(stock_reader)) => Some(Classes {
            data_received: protocol.getattr("data_received")?.unbind(),
            feed_data: reader.getattr("feed_data")?.unbind(),
            wakeup_waiter: reader.getattr("_wakeup_waiter")?.unbind(),
            protocol: stock_protocol,
            reader: stock_reader,
        }),
        _ => None,
    };
    if classes.is_some() {
        super::read::install(protocol, reader)?;
    }
    let known = classes.is_some();
    let _ = CLASSES.set(protocol.py(), classes);
    Ok(known)
}

/// Tells that a protocol and its reader have become instances of our classes.
#[pyfunction]
pub fn adopted(protocol: &Bound<'_, PyAny>, reader: &Bound<'_, PyAny>) -> PyResult<()> {
    let Some(classes) = classes(protocol.py()) else { return Ok(()) };
    classes.protocol.learn(protocol)?;
    classes.reader.learn(reader)
}

static READER: Name = Name::new("_stream_reader_wr");
static BUFFER: Name = Name::new("_buffer");
static LIMIT: Name = Name::new("_limit");
static EOF: Name = Name::new("_eof");
static WAITER: Name = Name::new("_waiter");

/// Feeds what has come to the reader of `protocol`; False if `data_received` is to be called instead.
///
/// An error is one that `data_received` would have raised.
pub fn feed(protocol: &Bound<'_, PyAny>, leases: &[Lease]) -> PyResult<bool> {
    let py = protocol.py();
    let Some(classes) = classes(py) else { return Ok(false) };
    if !classes.protocol.holds(protocol)? {
        return Ok(false);
    }
    let attributes = Attributes::of(protocol)?;
    if attributes.len() > classes.protocol.attributes.load(Ordering::Relaxed)
        && !slots::has_method(protocol, intern!(py, "data_received"), &classes.data_received)
    {
        return Ok(false);
    }
    let Ok(reference) = attributes.get(&READER)?.cast_into::<PyWeakrefReference>() else { return Ok(false) };
    let Some(reader) = pyo3::types::PyWeakrefMethods::upgrade(&reference) else { return Ok(false) };
    if !classes.reader.holds(&reader)? {
        return Ok(false);
    }
    let attributes = Attributes::of(&reader)?;
    if attributes.len() > classes.reader.attributes.load(Ordering::Relaxed)
        && !(slots::has_method(&reader, intern!(py, "feed_data"), &classes.feed_data)
            && slots::has_method(&reader, intern!(py, "_wakeup_waiter"), &classes.wakeup_waiter))
    {
        return Ok(false);
    }
    if !append(&attributes, leases)? {
        return Ok(false);
    }
    wake(&attributes)?;
    Ok(true)
}

/// Appends to the reader's buffer, unless it has ended, its buffer cannot grow now, or reading is to be paused.
fn append(reader: &Attributes<'_>, leases: &[Lease]) -> PyResult<bool> {
    let buffer = reader.get(&BUFFER)?;
    let Ok(buffer) = buffer.cast_exact::<PyByteArray>() else { return Ok(false) };
    let Ok(limit) = reader.get(&LIMIT)?.extract::<usize>() else { return Ok(false) };
    let total = buffer.len() + leases.iter().map(Lease::len).sum::<usize>();
    if total > limit.saturating_mul(2) || reader.is_set(&EOF)? {
        return Ok(false);
    }
    Ok(bytes::append(buffer, leases))
}

/// `StreamReader._wakeup_waiter`.
fn wake(reader: &Attributes<'_>) -> PyResult<()> {
    let waiter = reader.get(&WAITER)?;
    if waiter.is_none() {
        return Ok(());
    }
    let py = waiter.py();
    reader.set(&WAITER, &py.None().into_bound(py))?;
    match waiter.call_method1(intern!(py, "set_result"), (py.None(),)) {
        // Its task was cancelled and has not run yet.
        Err(_) if waiter.call_method0(intern!(py, "cancelled"))?.is_truthy()? => Ok(()),
        result => result.map(drop),
    }
}
