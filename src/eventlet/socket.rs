//! Green socket operations: what `GreenSocket`'s methods do on one of our hubs.
//!
//! A receive goes to the ring at once and the green thread leaves: the kernel copies the bytes when they
//! come, and no `EAGAIN` is ever asked for. Only when the last completion said that more bytes are waiting
//! is a direct receive tried first. A send is tried directly, so that a send that fits does not yield, as
//! on eventlet's own hubs; the ring finishes what did not fit.
//!
//! Each operation is a loop of three steps in frames of their own: look (`*_now`), wait (`park`), take what
//! came (`*_done`). Only small values live in the frame that waits, because it is copied at every switch.

use std::io::ErrorKind;
use std::os::fd::RawFd;

use pyo3::exceptions::{PyEOFError, PyOSError, PyTimeoutError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::core::Core;
use super::hooks;
use super::state::{Kind, Outcome, Side};
use super::sys::{self, os_error};
use super::target::Target;
use super::wait::{self, Request, Waiting};
use crate::fastcall;
use crate::proactor::{Completion, Errno, Payload};
use crate::raised::{Raised, raise};

/// A receive of more than this is worth a second, direct call when the socket holds more.
const POOLED_LEN: usize = 4096;

/// The file of a GreenSocket when a call began.
#[derive(Clone, Copy)]
pub struct Descriptor {
    pub(super) fd: RawFd,
    /// After a wait the number may be another file's.
    generation: u32,
}

/// A GreenSocket during one call.
pub struct Socket<'a, 'py> {
    pub(super) green: &'a Bound<'py, PyAny>,
    pub(super) core: &'a Bound<'py, Core>,
    pub(super) descriptor: Descriptor,
}

/// What one step of an operation came to.
pub(super) enum Step<'py, T> {
    Done(T),
    Wait(Waiting<'py>),
    Again,
    /// Not connected yet, closed meanwhile, or called from the hub: eventlet's own code knows what to do.
    Eventlet,
}

impl<'py> Step<'py, usize> {
    /// A number of bytes as Python has it.
    fn count(self, py: Python<'py>) -> PyResult<Step<'py, Bound<'py, PyAny>>> {
        Ok(match self {
            Self::Done(count) => Step::Done(count.into_pyobject(py)?.into_any()),
            Self::Wait(waiting) => Step::Wait(waiting),
            Self::Again => Step::Again,
            Self::Eventlet => Step::Eventlet,
        })
    }
}

impl Descriptor {
    /// None where eventlet's own code must run: non-blocking, closed, no stream, or with methods of its own.
    #[inline(never)]
    pub fn of(green: &Bound<'_, PyAny>, core: &Bound<'_, Core>) -> PyResult<Option<Self>> {
        let py = green.py();
        if fastcall::attribute(green, intern!(py, "act_non_blocking"))?.is_truthy()? {
            return Ok(None);
        }
        if !hooks::is_plain_socket(&fastcall::attribute(green, intern!(py, "fd"))?)? {
            return Ok(None);
        }
        let fd: RawFd = fastcall::attribute(green, intern!(py, "fileno"))?.call0()?.extract()?;
        if fd < 0 {
            return Ok(None);
        }
        let mut local = core.get().local()?.borrow_mut();
        let descriptor = local.state.descriptor(fd);
        if descriptor.kind == Kind::Unknown {
            descriptor.kind = if sys::is_stream(fd) { Kind::Stream } else { Kind::Other };
        }
        let generation = descriptor.generation;
        Ok((descriptor.kind == Kind::Stream).then_some(Self { fd, generation }))
    }
}

impl<'a, 'py> Socket<'a, 'py> {
    /// A call on the socket whose descriptor that is.
    pub fn new(green: &'a Bound<'py, PyAny>, core: &'a Bound<'py, Core>, descriptor: Descriptor) -> Self {
        Self { green, core, descriptor }
    }

    /// Whether the number still names the file that it named when the call began.
    pub(super) fn is_same_file(&self) -> PyResult<bool> {
        let mut local = self.core.get().local()?.borrow_mut();
        Ok(local.state.descriptor(self.descriptor.fd).generation == self.descriptor.generation)
    }

    fn timeout_s(&self) -> PyResult<Option<f64>> {
        let py = self.green.py();
        let timeout = if hooks::is_green_socket(self.green) {
            fastcall::attribute(self.green, intern!(py, "_timeout"))?
        } else {
            self.green.call_method0(intern!(py, "gettimeout"))?
        };
        if timeout.is_none() { Ok(None) } else { timeout.extract().map(Some) }
    }

    pub(super) fn wait<T>(&self, side: Side, request: Request) -> PyResult<Step<'py, T>> {
        // A socket that eventlet has marked as closed must not wait on a number that is somebody else's.
        if fastcall::attribute(self.green, intern!(self.green.py(), "_closed"))?.is_truthy()? {
            return Ok(Step::Eventlet);
        }
        let begun = wait::begin(self.core, self.descriptor.fd, side, request, self.timeout_s()?)?;
        Ok(begun.map_or(Step::Eventlet, Step::Wait))
    }

    fn note(&self, has_more: bool) -> PyResult<()> {
        self.core.get().local()?.borrow_mut().state.descriptor(self.descriptor.fd).has_more = has_more;
        Ok(())
    }

    pub(super) fn reopened(&self) -> PyResult<()> {
        self.green.call_method0(intern!(self.green.py(), "_mark_as_closed")).map(drop)
    }

    /// The first step of a receive: what is at hand, by `leftover` or `direct`, or a wait.
    fn look<T>(
        &self,
        limit: usize,
        leftover: impl FnOnce(&[u8]) -> PyResult<T>,
        direct: impl FnOnce() -> PyResult<std::io::Result<(T, usize)>>,
        end: impl FnOnce() -> T,
    ) -> PyResult<Step<'py, T>> {
        let (bytes, has_more) = {
            let mut local = self.core.get().local()?.borrow_mut();
            let state = &mut local.state;
            let descriptor = state.descriptor(self.descriptor.fd);
            if descriptor.generation != self.descriptor.generation {
                return Ok(Step::Eventlet);
            }
            let has_more = descriptor.has_more;
            (state.leftovers().take(self.descriptor.fd, limit), has_more)
        };
        if let Some(bytes) = bytes {
            return leftover(&bytes).map(Step::Done);
        }
        if !has_more {
            return self.wait(Side::Read, Request::Recv(u32::try_from(limit).unwrap_or(u32::MAX)));
        }
        match direct()? {
            Ok((value, count)) => {
                self.note(count == limit)?;
                return Ok(Step::Done(value));
            }
            Err(error) if not_now(&error) => self.note(false)?,
            Err(error) if error.kind() == ErrorKind::Interrupted => self.green.py().check_signals()?,
            Err(error) => return failed(&error).map(|()| Step::Done(end())),
        }
        Ok(Step::Again)
    }

    /// The completion of a receive that waited.
    fn completed(&self, waiting: Waiting<'py>) -> PyResult<Step<'py, Received>> {
        match waiting.outcome(self.core) {
            Outcome::Leftover(bytes) => Ok(Step::Done(Received::Leftover(bytes))),
            Outcome::Completed(completion) => match completion.result {
                Ok(_) => Ok(Step::Done(Received::Completed(completion))),
                Err(Errno::AGAIN | Errno::INTR | Errno::CANCELED) => Ok(Step::Again),
                Err(Errno::NOTCONN) => Ok(Step::Eventlet),
                Err(errno) => {
                    failed(&errno.into())?;
                    Ok(Step::Done(Received::Leftover(Box::default())))
                }
            },
            Outcome::Expired => Err(timed_out()),
            Outcome::Woken => Ok(Step::Again),
            Outcome::Closed => Ok(Step::Eventlet),
            Outcome::Reopened => {
                self.reopened()?;
                Err(PyEOFError::new_err(()))
            }
        }
    }

    // recv -------------------------------------------------------------------------------------------------

    /// `GreenSocket.recv` of at most `limit` bytes; None where eventlet's own code must run.
    #[inline]
    pub fn recv(&self, limit: usize) -> Result<Option<Bound<'py, PyBytes>>, Raised> {
        loop {
            let waiting = match self.recv_now(limit)? {
                Step::Done(bytes) => return Ok(Some(bytes)),
                Step::Again => continue,
                Step::Eventlet => return Ok(None),
                Step::Wait(waiting) => waiting,
            };
            waiting.park(self.core)?;
            match self.recv_done(waiting, limit)? {
                Step::Done(bytes) => return Ok(Some(bytes)),
                Step::Again | Step::Wait(_) => {}
                Step::Eventlet => return Ok(None),
            }
        }
    }

    #[inline(never)]
    fn recv_now(&self, limit: usize) -> Result<Step<'py, Bound<'py, PyBytes>>, Raised> {
        let py = self.green.py();
        let step = self.look(
            limit,
            |bytes| Ok(PyBytes::new(py, bytes)),
            || {
                let received = sys::bytes_from(py, limit, |room| sys::recv_now(self.descriptor.fd, room))?;
                Ok(received.map(|bytes| {
                    let count = bytes.as_bytes().len();
                    (bytes, count)
                }))
            },
            || PyBytes::new(py, b""),
        );
        raise(py, step)
    }

    #[inline(never)]
    fn recv_done(
        &self,
        waiting: Waiting<'py>,
        limit: usize,
    ) -> Result<Step<'py, Bound<'py, PyBytes>>, Raised> {
        raise(self.green.py(), self.received(waiting, limit))
    }

    fn received(&self, waiting: Waiting<'py>, limit: usize) -> PyResult<Step<'py, Bound<'py, PyBytes>>> {
        let received = match self.completed(waiting)? {
            Step::Done(received) => received,
            Step::Eventlet => return Ok(Step::Eventlet),
            Step::Again | Step::Wait(_) => return Ok(Step::Again),
        };
        let first = received.bytes();
        let more = received.more_waits();
        if more && first.len() < limit && limit > POOLED_LEN && self.is_same_file()? {
            return self.rest(first, limit).map(Step::Done);
        }
        let bytes = PyBytes::new(self.green.py(), first);
        self.settle(received, more)?;
        Ok(Step::Done(bytes))
    }

    /// Gives the pooled buffer back, if the bytes came in one, and notes whether the socket has more.
    fn settle(&self, received: Received, has_more: bool) -> PyResult<()> {
        let mut local = self.core.get().local()?.borrow_mut();
        if let Received::Completed(Completion { payload: Payload::Lease(lease), .. }) = received {
            local.state.engine.proactor.recycle(lease);
        }
        let descriptor = local.state.descriptor(self.descriptor.fd);
        if descriptor.generation == self.descriptor.generation {
            descriptor.has_more = has_more;
        }
        Ok(())
    }

    /// `first`, and what the socket holds besides, up to `limit` in all.
    fn rest(&self, first: &[u8], limit: usize) -> PyResult<Bound<'py, PyBytes>> {
        let mut more = false;
        let bytes = sys::bytes_from(self.green.py(), limit, |room| {
            room[..first.len()].copy_from_slice(first);
            let rest = &mut room[first.len()..];
            let wanted = rest.len();
            // An error shows again at the next receive; the bytes at hand come first.
            let got = sys::recv_now(self.descriptor.fd, rest).unwrap_or(0);
            more = got == wanted;
            Ok(first.len() + got)
        })?;
        self.note(more)?;
        bytes.map_err(|error| os_error(error.raw_os_error().unwrap_or(0)))
    }

    // recv_into --------------------------------------------------------------------------------------------

    /// `GreenSocket.recv_into`: how many bytes came; None where eventlet's own code must run.
    #[inline]
    pub fn recv_into(&self, target: &Target) -> Result<Option<Bound<'py, PyAny>>, Raised> {
        loop {
            let waiting = match self.recv_into_now(target)? {
                Step::Done(count) => return Ok(Some(count)),
                Step::Again => continue,
                Step::Eventlet => return Ok(None),
                Step::Wait(waiting) => waiting,
            };
            waiting.park(self.core)?;
            match self.recv_into_done(waiting, target)? {
                Step::Done(count) => return Ok(Some(count)),
                Step::Again | Step::Wait(_) => {}
                Step::Eventlet => return Ok(None),
            }
        }
    }

    #[inline(never)]
    fn recv_into_now(&self, target: &Target) -> Result<Step<'py, Bound<'py, PyAny>>, Raised> {
        let py = self.green.py();
        let step = self.look(
            target.limit,
            |bytes| self.deliver(target, bytes),
            || {
                let received = target.write(py, |room| sys::recv_now(self.descriptor.fd, room))?;
                Ok(received.map(|count| (count, count)))
            },
            || 0,
        );
        raise(py, step.and_then(|step| step.count(py)))
    }

    #[inline(never)]
    fn recv_into_done(
        &self,
        waiting: Waiting<'py>,
        target: &Target,
    ) -> Result<Step<'py, Bound<'py, PyAny>>, Raised> {
        let py = self.green.py();
        raise(py, self.received_into(waiting, target).and_then(|step| step.count(py)))
    }

    /// Fills the caller's buffer. What it has no room for any more, because it changed in the wait, stays for the next
    /// receive.
    fn deliver(&self, target: &Target, bytes: &[u8]) -> PyResult<usize> {
        let filled = target.fill(self.green.py(), bytes);
        let rest = filled.as_ref().map_or(bytes, |&count| &bytes[count..]);
        if !rest.is_empty() && self.is_same_file()? {
            let mut local = self.core.get().local()?.borrow_mut();
            local.state.leftovers().push_front(self.descriptor.fd, rest.into());
        }
        filled
    }

    fn received_into(&self, waiting: Waiting<'py>, target: &Target) -> PyResult<Step<'py, usize>> {
        let received = match self.completed(waiting)? {
            Step::Done(received) => received,
            Step::Eventlet => return Ok(Step::Eventlet),
            Step::Again | Step::Wait(_) => return Ok(Step::Again),
        };
        let py = self.green.py();
        let count = self.deliver(target, received.bytes())?;
        let more = received.more_waits();
        let is_cut = count < received.bytes().len();
        if is_cut || !(more && count < target.limit && target.limit > POOLED_LEN && self.is_same_file()?) {
            self.settle(received, more)?;
            return Ok(Step::Done(count));
        }
        let rest = target.write(py, |room| {
            let rest = room.get_mut(count..).unwrap_or_default();
            let wanted = rest.len();
            sys::recv_now(self.descriptor.fd, rest).map(|got| (got, got == wanted))
        })?;
        let (total, more) = rest.map_or((count, false), |(got, full)| (count + got, full));
        self.settle(received, more)?;
        Ok(Step::Done(total))
    }
}

/// What a receive that waited has got; no bytes at the end of the stream.
enum Received {
    Completed(Completion),
    Leftover(Box<[u8]>),
}

impl Received {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Completed(Completion { payload: Payload::Lease(lease), .. }) => lease.bytes(),
            Self::Completed(_) => &[],
            Self::Leftover(bytes) => bytes,
        }
    }

    fn more_waits(&self) -> bool {
        matches!(self, Self::Completed(completion) if completion.sock_nonempty)
    }
}

/// Nothing is there, or the socket is not connected yet: wait.
fn not_now(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOTCONN))
}

/// eventlet takes a reset or broken connection for the end of the stream, and raises anything else.
fn failed(error: &std::io::Error) -> PyResult<()> {
    match error.raw_os_error() {
        Some(libc::ECONNRESET | libc::ESHUTDOWN | libc::EPIPE) => Ok(()),
        errno => Err(os_error(errno.unwrap_or(0))),
    }
}

/// `socket.timeout('timed out')`, which is TimeoutError since Python 3.10.
pub(super) fn timed_out() -> PyErr {
    PyTimeoutError::new_err("timed out")
}

pub(super) fn reset_by_another() -> PyErr {
    PyOSError::new_err((libc::ECONNRESET, "Connection closed by another thread"))
}
