//! `loop.sock_recv`, `sock_recv_into` and `sock_sendall`: try, wait for readiness, try again.
//!
//! Nothing is taken from the socket before the caller is sure to get it: a cancelled receive has only
//! cancelled a poll.

use std::os::fd::RawFd;

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyKeyboardInterrupt, PySystemExit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use super::bytes;
use super::core::LoopCore;
use super::engine::{Side, Sink, SinkId};
use crate::proactor::OpId;

/// What is tried when the descriptor is ready.
pub enum Action {
    /// `recv(n)`.
    Recv(usize),
    /// `recv_into(buffer)`.
    RecvInto(PyUntypedBuffer),
    /// The bytes of the buffer from the offset on.
    SendAll(PyUntypedBuffer, usize),
}

/// An operation that waits for its descriptor.
pub struct Wait {
    /// What the caller awaits.
    pub future: Py<PyAny>,
    /// The armed poll.
    pub op: Option<OpId>,
    /// The descriptor.
    pub fd: RawFd,
    /// Its half.
    pub side: Side,
    action: Option<Action>,
}

/// One try: the value, or None if it would block.
fn attempt(core: &Bound<'_, LoopCore>, fd: RawFd, action: &mut Action) -> PyResult<Option<Py<PyAny>>> {
    let py = core.py();
    let outcome = match action {
        Action::Recv(limit) => {
            let limit = *limit;
            bytes::bytes_from(py, limit, |room| bytes::recv_now(fd, room))?.map(|data| {
                note(core, fd, data.as_bytes().len() < limit);
                data.into_any().unbind()
            })
        }
        Action::RecvInto(target) => {
            let limit = target.len_bytes();
            match bytes::with_target(py, target, |room| bytes::recv_now(fd, room))? {
                Ok(count) => {
                    note(core, fd, count < limit);
                    Ok(count.into_pyobject(py)?.into_any().unbind())
                }
                Err(error) => Err(error),
            }
        }
        Action::SendAll(source, offset) => {
            let sent = bytes::with_source(py, source, |data| -> std::io::Result<usize> {
                let rest = &data[(*offset).min(data.len())..];
                if rest.is_empty() { Ok(0) } else { bytes::send_now(fd, rest) }
            })?;
            match sent {
                Ok(sent) => {
                    *offset += sent;
                    if *offset < source.len_bytes() {
                        return Ok(None);
                    }
                    Ok(py.None())
                }
                Err(error) => Err(error),
            }
        }
    };
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if bytes::not_now(&error) => Ok(None),
        Err(error) => Err(bytes::failed(&error)),
    }
}

/// Remembers that a receive took all there was. A wrong memory (the number means another socket now) costs
/// one turn, no byte.
fn note(core: &Bound<'_, LoopCore>, fd: RawFd, drained: bool) {
    core.get().with_engine(|engine| engine.descriptor(fd).drained = drained);
}

static SOCKET: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// The descriptor of a socket that the operations may use, else what the stock loop raises.
///
/// A plain socket that nobody else uses here needs no look at its class or at the transports.
pub fn check(core: &Bound<'_, LoopCore>, socket: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    let py = core.py();
    let plain = SOCKET.import(py, "socket", "socket")?;
    if !core.get().debug() && socket.get_type().is(plain) {
        let fd: RawFd = socket.call_method0(intern!(py, "fileno"))?.extract()?;
        let free = core.get().engine()?.borrow().known(fd).is_none_or(|known| known.reader.is_none());
        if free {
            return Ok(fd);
        }
    }
    core.call_method1(intern!(py, "_check_socket"), (socket,))?.extract()
}

/// Tries an operation; a future if it has to wait.
pub fn start(core: &Bound<'_, LoopCore>, fd: RawFd, side: Side, mut action: Action) -> PyResult<Py<PyAny>> {
    let py = core.py();
    let drained = side == Side::Read
        && core.get().engine()?.borrow().known(fd).is_some_and(|descriptor| descriptor.drained);
    if !drained && let Some(value) = attempt(core, fd, &mut action)? {
        return Ok(value);
    }
    let future = super::future::create_future(core)?.unbind();
    let wait = Wait { future: future.clone_ref(py), op: None, fd, side, action: Some(action) };
    let mut engine = core.get().engine()?.borrow_mut();
    let id = engine.sinks.insert(Sink::Wait(Box::new(wait)));
    let op = engine.poll(id, fd, side);
    if let Some(Sink::Wait(wait)) = engine.sinks.get_mut(id) {
        wait.op = Some(op);
    }
    Ok(future)
}

/// The descriptor of an operation is ready, or its future has been cancelled.
pub fn run(core: &Bound<'_, LoopCore>, id: SinkId) -> PyResult<()> {
    let py = core.py();
    let (future, fd, side, action) = {
        let mut engine = core.get().engine()?.borrow_mut();
        let Some(Sink::Wait(wait)) = engine.sinks.get_mut(id) else { return Ok(()) };
        (wait.future.clone_ref(py).into_bound(py), wait.fd, wait.side, wait.action.take())
    };
    let Some(mut action) = action else { return Ok(()) };
    let done = future.call_method0(intern!(py, "done"))?.is_truthy()?;
    let outcome = if done { Ok(Some(py.None())) } else { attempt(core, fd, &mut action) };
    if let Ok(None) = outcome {
        let mut engine = core.get().engine()?.borrow_mut();
        let op = engine.poll(id, fd, side);
        if let Some(Sink::Wait(wait)) = engine.sinks.get_mut(id) {
            wait.op = Some(op);
            wait.action = Some(action);
        }
        return Ok(());
    }
    core.get().with_engine(|engine| engine.end(id));
    core.get().bury();
    drop(action);
    match outcome {
        Ok(Some(value)) if !done => future.call_method1(intern!(py, "set_result"), (value,)).map(drop),
        Ok(_) => Ok(()),
        Err(error)
            if error.is_instance_of::<PySystemExit>(py)
                || error.is_instance_of::<PyKeyboardInterrupt>(py) =>
        {
            Err(error)
        }
        Err(error) => future.call_method1(intern!(py, "set_exception"), (error.into_value(py),)).map(drop),
    }
}

/// The caller of an operation has gone: forgets it.
pub fn forget(core: &Bound<'_, LoopCore>, future: &Bound<'_, PyAny>) {
    core.get().with_engine(|engine| {
        let found = engine.sinks.iter().find_map(|(id, sink)| match sink {
            Sink::Wait(wait) if wait.future.is(future) => Some(id),
            _ => None,
        });
        if let Some(id) = found {
            engine.end(id);
        }
    });
    core.get().bury();
}
