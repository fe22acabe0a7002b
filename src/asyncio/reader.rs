//! What comes for the standard library's `asyncio.StreamReader`, without its Python frames.
//!
//! A `StreamReaderProtocol` passes received bytes to its reader's `feed_data`, which appends them to a bytearray and
//! sets the result of the future that `read` waits for: four Python functions, for every message of every program
//! that uses streams. Here the same is done to the same objects. It is done only where each of these functions is
//! the standard library's own, for this class and for this instance; in every other case, and for what happens
//! seldom, nothing is touched and `data_received` is called.
//!
//! Source: CPython, `asyncio/streams.py`; the functions are the same in 3.10 to 3.13.

use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyType, PyWeakrefReference};

use super::{bytes, slots};
use crate::proactor::Lease;

/// A class of the standard library, and its functions that are passed over.
struct Stock {
    class: Py<PyType>,
    functions: Vec<(&'static str, Py<PyAny>)>,
    /// The version of the class at which its functions were seen to be its own.
    unchanged: AtomicU32,
}

impl Stock {
    /// None if somebody has replaced a function already: those of `asyncio.streams` have its globals.
    fn of(class: &Bound<'_, PyType>, names: &[&'static str]) -> PyResult<Option<Self>> {
        let py = class.py();
        let globals = py.import("asyncio.streams")?.dict();
        let mut functions = Vec::new();
        for &name in names {
            let mut function = class.getattr(name)?;
            if let Ok(getter) = function.getattr("fget") {
                functions.push((name, function));
                function = getter;
            } else {
                functions.push((name, function.clone()));
            }
            if !function.getattr_opt("__globals__")?.is_some_and(|found| found.is(&globals)) {
                return Ok(None);
            }
        }
        let functions = functions.into_iter().map(|(name, function)| (name, function.unbind())).collect();
        Ok(Some(Self { class: class.clone().unbind(), functions, unchanged: AtomicU32::new(0) }))
    }

    /// Whether `object` is of this very class, and the class is as it was.
    #[inline]
    fn holds(&self, object: &Bound<'_, PyAny>) -> PyResult<bool> {
        if !slots::is_exactly(object, &self.class) {
            return Ok(false);
        }
        let class = self.class.bind(object.py());
        let version = slots::version(class);
        if version != 0 && version == self.unchanged.load(Ordering::Relaxed) {
            return Ok(true);
        }
        for (name, function) in &self.functions {
            if !class.getattr(*name)?.is(function) {
                self.unchanged.store(0, Ordering::Relaxed);
                return Ok(false);
            }
        }
        // The look-ups have given the class a version if it had none.
        self.unchanged.store(slots::version(class), Ordering::Relaxed);
        Ok(true)
    }
}

/// The two classes.
struct Classes {
    protocol: Stock,
    data_received: Py<PyAny>,
    reader: Stock,
    feed_data: Py<PyAny>,
    wakeup_waiter: Py<PyAny>,
}

static CLASSES: PyOnceLock<Option<Classes>> = PyOnceLock::new();

/// Tells the classes of streams: `asyncio.StreamReaderProtocol` and `asyncio.StreamReader`.
#[pyfunction]
pub fn set_reader_classes(protocol: &Bound<'_, PyType>, reader: &Bound<'_, PyType>) -> PyResult<()> {
    let stock_protocol = Stock::of(protocol, &["data_received", "_stream_reader"])?;
    let stock_reader = Stock::of(reader, &["feed_data", "_wakeup_waiter"])?;
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
    let _ = CLASSES.set(protocol.py(), classes);
    Ok(())
}

/// Feeds what has come to the reader of `protocol`; False if `data_received` is to be called instead.
///
/// An error is one that `data_received` would have raised.
pub fn feed(protocol: &Bound<'_, PyAny>, leases: &[Lease]) -> PyResult<bool> {
    let py = protocol.py();
    let Some(Some(classes)) = CLASSES.get(py) else { return Ok(false) };
    let data_received = intern!(py, "data_received");
    if !classes.protocol.holds(protocol)?
        || !slots::has_method(protocol, data_received, &classes.data_received)
    {
        return Ok(false);
    }
    let Some(reader) = reader_of(protocol)? else { return Ok(false) };
    if !classes.reader.holds(&reader)?
        || !slots::has_method(&reader, intern!(py, "feed_data"), &classes.feed_data)
        || !slots::has_method(&reader, intern!(py, "_wakeup_waiter"), &classes.wakeup_waiter)
        || !append(&reader, leases)?
    {
        return Ok(false);
    }
    wake(&reader)?;
    Ok(true)
}

fn reader_of<'py>(protocol: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let reference = protocol.getattr(intern!(protocol.py(), "_stream_reader_wr"))?;
    Ok(match reference.cast_into::<PyWeakrefReference>() {
        Ok(reference) => pyo3::types::PyWeakrefMethods::upgrade(&reference),
        Err(_) => None,
    })
}

/// Appends to the reader's buffer, unless it has ended, its buffer cannot grow now, or reading is to be paused.
fn append(reader: &Bound<'_, PyAny>, leases: &[Lease]) -> PyResult<bool> {
    let py = reader.py();
    let buffer = reader.getattr(intern!(py, "_buffer"))?;
    let Ok(buffer) = buffer.cast_exact::<PyByteArray>() else { return Ok(false) };
    let Ok(limit) = reader.getattr(intern!(py, "_limit"))?.extract::<usize>() else { return Ok(false) };
    let total = buffer.len() + leases.iter().map(Lease::len).sum::<usize>();
    if total > limit.saturating_mul(2) || reader.getattr(intern!(py, "_eof"))?.is_truthy()? {
        return Ok(false);
    }
    Ok(bytes::append(buffer, leases))
}

/// `StreamReader._wakeup_waiter`.
fn wake(reader: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = reader.py();
    let waiter = reader.getattr(intern!(py, "_waiter"))?;
    if !waiter.is_none() {
        reader.setattr(intern!(py, "_waiter"), py.None())?;
        if !waiter.call_method0(intern!(py, "cancelled"))?.is_truthy()? {
            waiter.call_method1(intern!(py, "set_result"), (py.None(),))?;
        }
    }
    Ok(())
}
