//! The methods of `GreenSocket`: arguments in, eventlet's own code where the native operation does not apply.

use std::ffi::CStr;

use pyo3::buffer::PyUntypedBuffer;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyType};

use super::core::Core;
use super::current;
use super::green::original;
use super::held;
use super::method::{self, Arguments, Method};
use super::raised::{Raised, raise};
use super::socket::{self, Descriptor, Socket};

/// Replaces the methods of eventlet's socket class; returns the ones it had, by name.
#[pyfunction]
pub fn bind_socket<'py>(socket_class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyDict>> {
    let originals = PyDict::new(socket_class.py());
    for name in ["recv", "recv_into", "recvfrom", "recvfrom_into", "send", "sendall"] {
        originals.set_item(name, socket_class.getattr(name)?)?;
    }
    method::bind::<Recv>(socket_class)?;
    method::bind::<RecvInto>(socket_class)?;
    method::bind::<RecvFrom>(socket_class)?;
    method::bind::<RecvFromInto>(socket_class)?;
    method::bind::<Send>(socket_class)?;
    method::bind::<SendAll>(socket_class)?;
    Ok(originals)
}

fn int_or_zero(value: Option<Bound<'_, PyAny>>) -> PyResult<i32> {
    value.map_or(Ok(0), |value| value.extract())
}

/// What a method has to do once its arguments are known.
enum Begun<'py, T> {
    Done(Bound<'py, PyAny>),
    Native(Bound<'py, Core>, Descriptor, T),
    Eventlet,
}

struct Recv;

impl Method for Recv {
    const NAME: &'static CStr = c"recv";

    fn call<'py>(green: &Bound<'py, PyAny>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        Self::run(green, arguments).map_err(|raised| raised.fetch(green.py()))
    }

    fn run<'py>(
        green: &Bound<'py, PyAny>,
        arguments: Arguments<'_, 'py>,
    ) -> Result<Bound<'py, PyAny>, Raised> {
        match Self::begin(green, &arguments)? {
            Begun::Done(bytes) => return Ok(bytes),
            Begun::Native(core, descriptor, limit) => {
                if let Some(bytes) = Socket::new(green, &core, descriptor).recv(limit)? {
                    return Ok(bytes.into_any());
                }
            }
            Begun::Eventlet => {}
        }
        Self::eventlets(green, &arguments)
    }
}

impl Recv {
    #[inline(never)]
    fn begin<'py>(
        green: &Bound<'py, PyAny>,
        arguments: &Arguments<'_, 'py>,
    ) -> Result<Begun<'py, usize>, Raised> {
        raise(green.py(), Self::try_begin(green, arguments))
    }

    fn try_begin<'py>(
        green: &Bound<'py, PyAny>,
        arguments: &Arguments<'_, 'py>,
    ) -> PyResult<Begun<'py, usize>> {
        let py = green.py();
        arguments.check(&["bufsize", "flags"])?;
        let bufsize = arguments.require(0, "bufsize")?;
        let flags = int_or_zero(arguments.get(1, "flags")?)?;
        // A size that is no positive number is for eventlet's own code to refuse.
        let Some(core) = current::get(py) else { return Ok(Begun::Eventlet) };
        let Ok(limit @ 1..) = bufsize.extract::<usize>() else { return Ok(Begun::Eventlet) };
        if let Some(bytes) = socket::leftover(green, &core, limit, flags)? {
            return Ok(Begun::Done(PyBytes::new(py, &bytes).into_any()));
        }
        let descriptor = if flags == 0 { Descriptor::of(green, &core)? } else { None };
        Ok(descriptor.map_or(Begun::Eventlet, |descriptor| Begun::Native(core, descriptor, limit)))
    }

    #[inline(never)]
    fn eventlets<'py>(
        green: &Bound<'py, PyAny>,
        arguments: &Arguments<'_, 'py>,
    ) -> Result<Bound<'py, PyAny>, Raised> {
        let py = green.py();
        let call = || {
            let bufsize = arguments.require(0, "bufsize")?;
            let flags = int_or_zero(arguments.get(1, "flags")?)?;
            original(py, intern!(py, "recv"))?.call1((green, bufsize, flags))
        };
        raise(py, call())
    }
}

struct RecvInto;

impl Method for RecvInto {
    const NAME: &'static CStr = c"recv_into";

    fn call<'py>(green: &Bound<'py, PyAny>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let py = green.py();
        arguments.check(&["buffer", "nbytes", "flags"])?;
        let buffer = arguments.require(0, "buffer")?;
        let nbytes: isize = arguments.get(1, "nbytes")?.map_or(Ok(0), |nbytes| nbytes.extract())?;
        let flags = int_or_zero(arguments.get(2, "flags")?)?;
        if let Some(core) = current::get(py)
            && let Some((target, limit)) = writable(&buffer, nbytes)
        {
            if let Some(bytes) = socket::leftover(green, &core, limit, flags)? {
                return Ok(held::copy_into(py, &target, limit, &bytes)?.into_pyobject(py)?.into_any());
            }
            if flags == 0
                && let Some(descriptor) = Descriptor::of(green, &core)?
                && let Some(count) = Socket::new(green, &core, descriptor).recv_into(&target, limit)?
            {
                return Ok(count.into_pyobject(py)?.into_any());
            }
        }
        original(py, intern!(py, "recv_into"))?.call1((green, buffer, nbytes, flags))
    }
}

/// The buffer and how much of it to fill; None for what eventlet's own code must refuse.
fn writable(buffer: &Bound<'_, PyAny>, nbytes: isize) -> Option<(PyUntypedBuffer, usize)> {
    let target = PyUntypedBuffer::get(buffer).ok()?;
    let room = target.len_bytes();
    let limit = if nbytes == 0 { room } else { usize::try_from(nbytes).ok()? };
    (!target.readonly() && target.is_c_contiguous() && limit > 0 && limit <= room).then_some((target, limit))
}

struct RecvFrom;

impl Method for RecvFrom {
    const NAME: &'static CStr = c"recvfrom";

    fn call<'py>(green: &Bound<'py, PyAny>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let py = green.py();
        arguments.check(&["bufsize", "flags"])?;
        let bufsize = arguments.require(0, "bufsize")?;
        let flags = int_or_zero(arguments.get(1, "flags")?)?;
        if let Some(core) = current::get(py)
            && let Ok(limit @ 1..) = bufsize.extract::<usize>()
            && let Some(bytes) = socket::leftover(green, &core, limit, flags)?
        {
            // A stream names no sender.
            return Ok((PyBytes::new(py, &bytes), py.None()).into_pyobject(py)?.into_any());
        }
        original(py, intern!(py, "recvfrom"))?.call1((green, bufsize, flags))
    }
}

struct RecvFromInto;

impl Method for RecvFromInto {
    const NAME: &'static CStr = c"recvfrom_into";

    fn call<'py>(green: &Bound<'py, PyAny>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let py = green.py();
        arguments.check(&["buffer", "nbytes", "flags"])?;
        let buffer = arguments.require(0, "buffer")?;
        let nbytes: isize = arguments.get(1, "nbytes")?.map_or(Ok(0), |nbytes| nbytes.extract())?;
        let flags = int_or_zero(arguments.get(2, "flags")?)?;
        if let Some(core) = current::get(py)
            && let Some((target, limit)) = writable(&buffer, nbytes)
            && let Some(bytes) = socket::leftover(green, &core, limit, flags)?
        {
            let count = held::copy_into(py, &target, limit, &bytes)?;
            return Ok((count, py.None()).into_pyobject(py)?.into_any());
        }
        original(py, intern!(py, "recvfrom_into"))?.call1((green, buffer, nbytes, flags))
    }
}

struct Send;

impl Method for Send {
    const NAME: &'static CStr = c"send";

    fn call<'py>(green: &Bound<'py, PyAny>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let py = green.py();
        arguments.check(&["data", "flags"])?;
        let data = arguments.require(0, "data")?;
        let flags = int_or_zero(arguments.get(1, "flags")?)?;
        if let Some(core) = current::get(py)
            && let Some(descriptor) = Descriptor::of(green, &core)?
            && let Some(count) = Socket::new(green, &core, descriptor).send(&data, flags)?
        {
            return Ok(count.into_pyobject(py)?.into_any());
        }
        original(py, intern!(py, "send"))?.call1((green, data, flags))
    }
}

struct SendAll;

impl Method for SendAll {
    const NAME: &'static CStr = c"sendall";

    fn call<'py>(green: &Bound<'py, PyAny>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let py = green.py();
        arguments.check(&["data", "flags"])?;
        let data = arguments.require(0, "data")?;
        let flags = int_or_zero(arguments.get(1, "flags")?)?;
        if let Some(core) = current::get(py)
            && let Some(descriptor) = Descriptor::of(green, &core)?
        {
            Socket::new(green, &core, descriptor).sendall(&data, flags)?;
            return Ok(py.None().into_bound(py));
        }
        original(py, intern!(py, "sendall"))?.call1((green, data, flags))
    }
}
