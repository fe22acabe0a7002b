//! `loop.sock_recv`, `sock_recv_into` and `sock_sendall`: try, wait for readiness, try again.
//!
//! Each returns an `operation`, whose first step is `begin` and whose last is `after`.
//!
//! Nothing is taken from the socket before the caller is sure to get it: a cancelled receive has only
//! cancelled a poll.

use std::ffi::CStr;
use std::os::fd::RawFd;

use pyo3::exceptions::{PyKeyboardInterrupt, PySystemExit, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyString, PyType};

use super::core::LoopCore;
use super::engine::{Side, Sink, SinkId};
use super::operation::{About, Begun};
use super::{bytes, operation};
use crate::closings::Moment;
use crate::export::Export;
use crate::fastcall::{self, Arguments, Function};
use crate::proactor::OpId;

/// Up to so many bytes are received into the loop's own buffer first.
const COPIED_MAX: usize = 16 * 1024;

/// What is tried when the descriptor is ready.
pub enum Action {
    /// `recv(n)`.
    Recv(usize),
    /// `recv_into(buffer)`.
    RecvInto(Py<PyAny>),
    /// The bytes of the buffer from the offset on.
    SendAll(Export, usize),
}

/// An operation that waits for its descriptor.
pub struct Wait {
    /// What the caller awaits.
    pub future: Py<PyAny>,
    /// The armed poll.
    pub op: Option<OpId>,
    /// The socket; once it is closed its number may be another's.
    pub socket: Py<PyAny>,
    /// The descriptor.
    pub fd: RawFd,
    /// Its half.
    pub side: Side,
    /// When it began.
    pub begun: Moment,
    /// The descriptor was closed under it.
    pub is_closed: bool,
    action: Option<Action>,
}

impl Wait {
    /// Shows the garbage collector what it receives into.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match &self.action {
            Some(Action::RecvInto(target)) => visit.call(target),
            _ => Ok(()),
        }
    }
}

/// One try: the value, or None if it would block.
fn attempt(core: &Bound<'_, LoopCore>, fd: RawFd, action: &mut Action) -> PyResult<Option<Py<PyAny>>> {
    let py = core.py();
    let outcome = match action {
        Action::Recv(limit) => receive(core, fd, *limit)?.map(|data| {
            note(core, fd, data.as_bytes().len() < *limit);
            data.into_any().unbind()
        }),
        Action::RecvInto(target) => {
            // Asked for anew: while nothing has come the buffer is free to change.
            let target = Export::get(target.bind(py))?;
            let limit = target.len_bytes();
            match target.fill(py, limit, |room| bytes::recv_now(fd, room))? {
                Ok(count) => {
                    note(core, fd, count < limit);
                    Ok(count.into_pyobject(py)?.into_any().unbind())
                }
                Err(error) => Err(error),
            }
        }
        Action::SendAll(source, offset) => {
            let sent = source.read(py, |data| -> std::io::Result<usize> {
                // Of no bytes, too: as a datagram they are one.
                bytes::send_now(fd, &data[(*offset).min(data.len())..])
            });
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

/// Receives at most `limit` bytes.
fn receive<'py>(
    core: &Bound<'py, LoopCore>,
    fd: RawFd,
    limit: usize,
) -> PyResult<std::io::Result<Bound<'py, PyBytes>>> {
    if limit > COPIED_MAX {
        return bytes::bytes_from(core.py(), limit, |room| bytes::recv_now(fd, room));
    }
    // An object with room for all of it, most of which is given back, costs the allocator more than this copy.
    let received = core.get().with_scratch(|room| {
        let count = bytes::recv_now(fd, &mut room[..limit])?;
        Ok(PyBytes::new(core.py(), &room[..count]))
    });
    Ok(received)
}

/// Remembers that a receive took all there was. A wrong memory (the number means another socket now) costs
/// one turn, no byte.
fn note(core: &Bound<'_, LoopCore>, fd: RawFd, drained: bool) {
    core.get().with_engine(|engine| {
        engine.descriptor(fd).drained = drained;
        // A close makes it forget.
        engine.numbers.add(fd);
    });
}

static SOCKET: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// Python's own class of sockets.
fn plain(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    SOCKET.import(py, "socket", "socket")
}

/// The descriptor of a socket that the operations may use, else what the stock loop raises.
///
/// A plain socket that nobody else uses here needs no look at its class or at the transports.
fn check(core: &Bound<'_, LoopCore>, socket: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    let py = core.py();
    let plain = plain(py)?;
    if !core.get().debug() && socket.get_type().is(plain) {
        let fd: RawFd = socket.call_method0(intern!(py, "fileno"))?.extract()?;
        let free = core.get().engine()?.borrow().known(fd).is_none_or(|known| known.reader.is_none());
        if free {
            return Ok(fd);
        }
    }
    core.call_method1(intern!(py, "_check_socket"), (socket,))?.extract()
}

/// The first step of an operation: tries, and waits if it has to.
pub fn begin<'py>(about: &About<'py>) -> PyResult<Begun<'py>> {
    let py = about.name.py();
    let core = &about.the_loop;
    let fd = check(core, &about.subject)?;
    let (side, mut action) = if about.name.is(intern!(py, "sock_recv")) {
        let Ok(limit) = usize::try_from(about.argument.extract::<isize>()?) else {
            return Err(PyValueError::new_err("negative buffersize in recv"));
        };
        if limit == 0 {
            return Ok(Begun::Done(PyBytes::new(py, b"").into_any()));
        }
        (Side::Read, Action::Recv(limit))
    } else if about.name.is(intern!(py, "sock_sendall")) {
        let mut sent = 0;
        if let Ok(data) = about.argument.cast_exact::<PyBytes>() {
            sent = match bytes::send_now(fd, data.as_bytes()) {
                Ok(sent) if sent == data.as_bytes().len() => {
                    return Ok(Begun::Done(py.None().into_bound(py)));
                }
                Ok(sent) => sent,
                Err(error) if bytes::not_now(&error) => 0,
                Err(error) => return Err(bytes::failed(&error)),
            };
        }
        (Side::Write, Action::SendAll(Export::get(&about.argument)?, sent))
    } else {
        let target = Export::get(&about.argument)?;
        if target.readonly() {
            return Err(PyTypeError::new_err("read-write bytes-like object expected"));
        }
        if target.len_bytes() == 0 {
            return Ok(Begun::Done(0_usize.into_pyobject(py)?.into_any()));
        }
        (Side::Read, Action::RecvInto(about.argument.clone().unbind()))
    };
    let drained = side == Side::Read
        && core.get().engine()?.borrow().known(fd).is_some_and(|descriptor| descriptor.drained);
    if !drained && let Some(value) = attempt(core, fd, &mut action)? {
        return Ok(Begun::Done(value.into_bound(py)));
    }
    let future = super::future::create_future(core)?;
    let socket = about.subject.clone().unbind();
    let wait = Wait {
        future: future.clone().unbind(),
        op: None,
        socket,
        fd,
        side,
        begun: Moment::now(),
        is_closed: false,
        action: Some(action),
    };
    let id = {
        let mut engine = core.get().engine_mut()?;
        let id = engine.sinks.insert(Sink::Wait(Box::new(wait)));
        engine.descriptor(fd).waits += 1;
        engine.numbers.add(fd);
        let op = engine.poll(id, fd, side);
        if let Some(Sink::Wait(wait)) = engine.sinks.get_mut(id) {
            wait.op = Some(op);
        }
        id
    };
    Ok(Begun::Waits(future, id.token().into_pyobject(py)?.into_any()))
}

/// The wait has ended. If by an exception that the caller threw, the operation is forgotten: it takes no byte.
pub fn after<'py>(about: &About<'py>, outcome: PyResult<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
    if outcome.is_err() {
        let id = SinkId::from_token(about.argument.extract()?);
        about.the_loop.get().with_engine(|engine| engine.end(id));
        about.the_loop.get().bury();
    }
    outcome
}

/// An error if the socket was closed meanwhile: what its number names now is nobody's of this operation.
fn still_open(socket: &Bound<'_, PyAny>, fd: RawFd) -> PyResult<()> {
    let number: RawFd = socket.call_method0(intern!(socket.py(), "fileno"))?.extract()?;
    if number == fd { Ok(()) } else { Err(bytes::os_error(libc::EBADF)) }
}

/// The descriptor of an operation is ready, or its future has been cancelled.
pub fn run(core: &Bound<'_, LoopCore>, id: SinkId) -> PyResult<()> {
    let py = core.py();
    let (future, socket, fd, side, action) = {
        let mut engine = core.get().engine()?.borrow_mut();
        let Some(Sink::Wait(wait)) = engine.sinks.get_mut(id) else { return Ok(()) };
        let (future, socket) = (wait.future.clone_ref(py), wait.socket.clone_ref(py));
        (future.into_bound(py), socket.into_bound(py), wait.fd, wait.side, wait.action.take())
    };
    let Some(mut action) = action else { return Ok(()) };
    let done = future.call_method0(intern!(py, "done"))?.is_truthy()?;
    let outcome = if done {
        Ok(Some(py.None()))
    } else {
        still_open(&socket, fd).and_then(|()| attempt(core, fd, &mut action))
    };
    if let Ok(None) = outcome {
        let mut engine = core.get().engine()?.borrow_mut();
        let op = engine.poll(id, fd, side);
        if let Some(Sink::Wait(wait)) = engine.sinks.get_mut(id) {
            wait.op = Some(op);
            wait.action = Some(action);
        }
        return Ok(());
    }
    let sink = core.get().with_engine(|engine| {
        let sink = engine.sinks.remove(id);
        engine.descriptor(fd).waits -= u32::from(sink.is_some());
        sink
    });
    drop((sink, action));
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

/// The methods of a loop that make one.
pub fn install(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<LoopCore>();
    fastcall::bind::<SockRecv>(&class)?;
    fastcall::bind::<SockRecvInto>(&class)?;
    fastcall::bind::<SockSendAll>(&class)
}

/// An operation of the method `name` on the socket and the argument, which is called `argument`.
fn made<'py>(
    the_loop: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    argument: &str,
    given: Arguments<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let (socket, value) = match (given.get(0), given.get(1), given.get(2), given.is_plain()) {
        (Some(socket), Some(value), None, true) => (socket.to_owned(), value.to_owned()),
        _ => {
            given.check(&["sock", argument])?;
            (given.require(0, "sock")?, given.require(1, argument)?)
        }
    };
    if !socket.get_type().is(plain(the_loop.py())?)
        && the_loop.call_method1(intern!(the_loop.py(), "_has_own_methods"), (&socket,))?.is_truthy()?
    {
        return the_loop.call_method1(intern!(the_loop.py(), "_by_its_methods"), (name, socket, value));
    }
    operation::make(the_loop, name, socket, value)
}

struct SockRecv;

impl Function for SockRecv {
    const NAME: &'static CStr = c"sock_recv";
    const DOC: &'static CStr = c"sock_recv($self, sock, n)\n--\n\n\
        Receive at most n bytes; empty at the end of the stream.";
    type Error = PyErr;

    fn call<'py>(the_loop: &Bound<'py, PyAny>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        made(the_loop, intern!(the_loop.py(), "sock_recv"), "n", arguments)
    }
}

struct SockRecvInto;

impl Function for SockRecvInto {
    const NAME: &'static CStr = c"sock_recv_into";
    const DOC: &'static CStr = c"sock_recv_into($self, sock, buf)\n--\n\n\
        Receive into buf; returns how many bytes it got.";
    type Error = PyErr;

    fn call<'py>(the_loop: &Bound<'py, PyAny>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        made(the_loop, intern!(the_loop.py(), "sock_recv_into"), "buf", arguments)
    }
}

struct SockSendAll;

impl Function for SockSendAll {
    const NAME: &'static CStr = c"sock_sendall";
    const DOC: &'static CStr = c"sock_sendall($self, sock, data)\n--\n\nSend all of data.";
    type Error = PyErr;

    fn call<'py>(the_loop: &Bound<'py, PyAny>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        made(the_loop, intern!(the_loop.py(), "sock_sendall"), "data", arguments)
    }
}
