//! The methods of `GreenSocket`: arguments in, eventlet's own code where the native operation does not apply.

use std::ffi::CStr;
use std::os::fd::RawFd;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyType};

use super::core::Core;
use super::current;
use super::green::original;
use super::hooks;
use super::socket::{Descriptor, Socket};
use super::target::Target;
use crate::fastcall::{self, Arguments, Function};
use crate::raised::{Raised, raise};

/// Replaces the methods of eventlet's socket class; returns the ones it had, by name.
#[pyfunction]
pub fn bind_socket<'py>(socket_class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyDict>> {
    let originals = PyDict::new(socket_class.py());
    for name in ["recv", "recv_into", "recvfrom", "recvfrom_into", "send", "sendall"] {
        originals.set_item(name, socket_class.getattr(name)?)?;
    }
    fastcall::bind::<Recv>(socket_class)?;
    fastcall::bind::<RecvInto>(socket_class)?;
    fastcall::bind::<RecvFrom>(socket_class)?;
    fastcall::bind::<RecvFromInto>(socket_class)?;
    fastcall::bind::<Send>(socket_class)?;
    fastcall::bind::<SendAll>(socket_class)?;
    Ok(originals)
}

fn int_or_zero(value: Option<Bound<'_, PyAny>>) -> PyResult<i32> {
    value.map_or(Ok(0), |value| value.extract())
}

/// A size that can be had.
fn size(bufsize: &Bound<'_, PyAny>) -> Option<usize> {
    bufsize.extract::<usize>().ok().filter(|&size| (1..=isize::MAX as usize).contains(&size))
}

/// What a method has to do once its arguments are known.
enum Begun<'py, T> {
    Done(Bound<'py, PyAny>),
    Native(Bound<'py, Core>, Descriptor, T),
    Eventlet,
}

/// A receive: `begin` looks at the arguments, `wait` does it natively where that applies, and `eventlets` elsewhere.
/// Only `wait` is in a frame that waits.
#[inline]
fn receive<'py, T>(
    green: &Bound<'py, PyAny>,
    arguments: &Arguments<'_, 'py>,
    begin: fn(&Bound<'py, PyAny>, &Arguments<'_, 'py>) -> PyResult<Begun<'py, T>>,
    wait: impl FnOnce(Socket<'_, 'py>, &T) -> Result<Option<Bound<'py, PyAny>>, Raised>,
    eventlets: fn(&Bound<'py, PyAny>, &Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>>,
) -> Result<Bound<'py, PyAny>, Raised> {
    match apart(green, arguments, begin)? {
        Begun::Done(value) => return Ok(value),
        Begun::Native(core, descriptor, what) => {
            if let Some(value) = wait(Socket::new(green, &core, descriptor), &what)? {
                return Ok(value);
            }
        }
        Begun::Eventlet => {}
    }
    apart(green, arguments, eventlets)
}

/// Runs a part of a call in a frame of its own.
#[inline(never)]
fn apart<'py, T>(
    green: &Bound<'py, PyAny>,
    arguments: &Arguments<'_, 'py>,
    part: fn(&Bound<'py, PyAny>, &Arguments<'_, 'py>) -> PyResult<T>,
) -> Result<T, Raised> {
    raise(green.py(), part(green, arguments))
}

struct Recv;

impl Function for Recv {
    const NAME: &'static CStr = c"recv";
    const DOC: &'static CStr = c"recv($self, bufsize, flags=0)\n--\n\n\
        Receive at most *bufsize* bytes; no bytes at the end of the stream.";
    type Error = Raised;

    fn call<'py>(
        green: &Bound<'py, PyAny>,
        arguments: Arguments<'_, 'py>,
    ) -> Result<Bound<'py, PyAny>, Raised> {
        let wait = |socket: Socket<'_, 'py>, &limit: &usize| Ok(socket.recv(limit)?.map(Bound::into_any));
        receive(green, &arguments, Self::begin, wait, Self::eventlets)
    }
}

impl Recv {
    fn begin<'py>(green: &Bound<'py, PyAny>, arguments: &Arguments<'_, 'py>) -> PyResult<Begun<'py, usize>> {
        let py = green.py();
        arguments.check(&["bufsize", "flags"])?;
        let bufsize = arguments.require(0, "bufsize")?;
        let flags = int_or_zero(arguments.named(1, "flags")?)?;
        // A size that is no positive number is for eventlet's own code to refuse.
        let Some(core) = current::get(py) else { return Ok(Begun::Eventlet) };
        let Some(limit) = size(&bufsize) else { return Ok(Begun::Eventlet) };
        if let Some(bytes) = leftover(green, &core, limit, flags)? {
            return Ok(Begun::Done(PyBytes::new(py, &bytes).into_any()));
        }
        let descriptor = if flags == 0 { Descriptor::of(green, &core)? } else { None };
        Ok(descriptor.map_or(Begun::Eventlet, |descriptor| Begun::Native(core, descriptor, limit)))
    }

    fn eventlets<'py>(
        green: &Bound<'py, PyAny>,
        arguments: &Arguments<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let bufsize = arguments.require(0, "bufsize")?;
        let flags = int_or_zero(arguments.named(1, "flags")?)?;
        original(green.py(), intern!(green.py(), "recv"))?.call1((green, bufsize, flags))
    }
}

struct RecvInto;

impl Function for RecvInto {
    const NAME: &'static CStr = c"recv_into";
    const DOC: &'static CStr = c"recv_into($self, buffer, nbytes=0, flags=0)\n--\n\n\
        Receive into *buffer*; returns how many bytes came.";
    type Error = Raised;

    fn call<'py>(
        green: &Bound<'py, PyAny>,
        arguments: Arguments<'_, 'py>,
    ) -> Result<Bound<'py, PyAny>, Raised> {
        let wait = |socket: Socket<'_, 'py>, target: &Target| socket.recv_into(target);
        receive(green, &arguments, Self::begin, wait, Self::eventlets)
    }
}

impl RecvInto {
    fn begin<'py>(green: &Bound<'py, PyAny>, arguments: &Arguments<'_, 'py>) -> PyResult<Begun<'py, Target>> {
        let py = green.py();
        arguments.check(&["buffer", "nbytes", "flags"])?;
        let (buffer, nbytes, flags) = Self::parameters(arguments)?;
        let Some(core) = current::get(py) else { return Ok(Begun::Eventlet) };
        let Some(target) = Target::new(&buffer, nbytes) else { return Ok(Begun::Eventlet) };
        if let Some(bytes) = leftover(green, &core, target.limit, flags)? {
            return Ok(Begun::Done(target.fill(py, &bytes)?.into_pyobject(py)?.into_any()));
        }
        let descriptor = if flags == 0 { Descriptor::of(green, &core)? } else { None };
        Ok(descriptor.map_or(Begun::Eventlet, |descriptor| Begun::Native(core, descriptor, target)))
    }

    fn parameters<'py>(arguments: &Arguments<'_, 'py>) -> PyResult<(Bound<'py, PyAny>, isize, i32)> {
        let buffer = arguments.require(0, "buffer")?;
        let nbytes = arguments.named(1, "nbytes")?.map_or(Ok(0), |nbytes| nbytes.extract())?;
        Ok((buffer, nbytes, int_or_zero(arguments.named(2, "flags")?)?))
    }

    fn eventlets<'py>(
        green: &Bound<'py, PyAny>,
        arguments: &Arguments<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (buffer, nbytes, flags) = Self::parameters(arguments)?;
        original(green.py(), intern!(green.py(), "recv_into"))?.call1((green, buffer, nbytes, flags))
    }
}

struct RecvFrom;

impl Function for RecvFrom {
    const NAME: &'static CStr = c"recvfrom";
    const DOC: &'static CStr = c"recvfrom($self, bufsize, flags=0)\n--\n\n\
        Receive at most *bufsize* bytes; returns them and the sender's address.";
    type Error = PyErr;

    fn call<'py>(green: &Bound<'py, PyAny>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let py = green.py();
        arguments.check(&["bufsize", "flags"])?;
        let bufsize = arguments.require(0, "bufsize")?;
        let flags = int_or_zero(arguments.named(1, "flags")?)?;
        if let Some(core) = current::get(py)
            && let Some(limit) = size(&bufsize)
            && let Some(bytes) = leftover(green, &core, limit, flags)?
        {
            // A stream names no sender.
            return Ok((PyBytes::new(py, &bytes), py.None()).into_pyobject(py)?.into_any());
        }
        original(py, intern!(py, "recvfrom"))?.call1((green, bufsize, flags))
    }
}

struct RecvFromInto;

impl Function for RecvFromInto {
    const NAME: &'static CStr = c"recvfrom_into";
    const DOC: &'static CStr = c"recvfrom_into($self, buffer, nbytes=0, flags=0)\n--\n\n\
        Receive into *buffer*; returns how many bytes came, and the sender's address.";
    type Error = PyErr;

    fn call<'py>(green: &Bound<'py, PyAny>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let py = green.py();
        arguments.check(&["buffer", "nbytes", "flags"])?;
        let buffer = arguments.require(0, "buffer")?;
        let nbytes: isize = arguments.named(1, "nbytes")?.map_or(Ok(0), |nbytes| nbytes.extract())?;
        let flags = int_or_zero(arguments.named(2, "flags")?)?;
        if let Some(core) = current::get(py)
            && let Some(target) = Target::new(&buffer, nbytes)
            && let Some(bytes) = leftover(green, &core, target.limit, flags)?
        {
            let count = target.fill(py, &bytes)?;
            return Ok((count, py.None()).into_pyobject(py)?.into_any());
        }
        original(py, intern!(py, "recvfrom_into"))?.call1((green, buffer, nbytes, flags))
    }
}

struct Send;

impl Function for Send {
    const NAME: &'static CStr = c"send";
    const DOC: &'static CStr = c"send($self, data, flags=0)\n--\n\n\
        Send what fits, waiting until something does; returns how many bytes that were.";
    type Error = PyErr;

    fn call<'py>(green: &Bound<'py, PyAny>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let py = green.py();
        arguments.check(&["data", "flags"])?;
        let data = arguments.require(0, "data")?;
        let flags = int_or_zero(arguments.named(1, "flags")?)?;
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

impl Function for SendAll {
    const NAME: &'static CStr = c"sendall";
    const DOC: &'static CStr = c"sendall($self, data, flags=0)\n--\n\n\
        Send all of *data*.";
    type Error = PyErr;

    fn call<'py>(green: &Bound<'py, PyAny>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let py = green.py();
        arguments.check(&["data", "flags"])?;
        let data = arguments.require(0, "data")?;
        let flags = int_or_zero(arguments.named(1, "flags")?)?;
        if let Some(core) = current::get(py)
            && !hooks::overrides_send(green)?
            && let Some(descriptor) = Descriptor::of(green, &core)?
        {
            Socket::new(green, &core, descriptor).sendall(&data, flags)?;
            return Ok(py.None().into_bound(py));
        }
        original(py, intern!(py, "sendall"))?.call1((green, data, flags))
    }
}

/// `leftover(fd, size, flags)`: at most `size` bytes that a killed receive had taken from the socket; None without any.
#[pyfunction(name = "leftover")]
pub fn py_leftover<'py>(py: Python<'py>, fd: RawFd, size: usize, flags: i32) -> Option<Bound<'py, PyBytes>> {
    let bytes = kept(&current::get(py)?, fd, size, flags)?;
    Some(PyBytes::new(py, &bytes))
}

/// Bytes that a killed receive had taken, for the ways to receive that are otherwise eventlet's own:
/// non-blocking, with flags, with an address.
#[inline]
fn leftover(
    green: &Bound<'_, PyAny>,
    core: &Bound<'_, Core>,
    limit: usize,
    flags: i32,
) -> PyResult<Option<Box<[u8]>>> {
    if core.get().with_state(|state| state.leftovers().is_empty()) != Some(false) {
        return Ok(None);
    }
    let fd: RawFd = fastcall::attribute(green, intern!(green.py(), "fileno"))?.call0()?.extract()?;
    Ok(kept(core, fd, limit, flags))
}

#[cold]
#[inline(never)]
fn kept(core: &Bound<'_, Core>, fd: RawFd, limit: usize, flags: i32) -> Option<Box<[u8]>> {
    let bytes = core.get().with_state(|state| {
        if flags & libc::MSG_PEEK != 0 {
            state.leftovers().peek(fd, limit)
        } else {
            state.leftovers().take(fd, limit)
        }
    });
    bytes.flatten()
}
