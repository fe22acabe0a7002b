//! What `GreenSocket.send` and `sendall` do: a direct send, and the ring for what did not fit.

use std::io::ErrorKind;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::held::{self, Held};
use super::socket::{Socket, Step, reset_by_another, timed_out};
use super::state::{Outcome, Side};
use super::sys::{self, os_error};
use super::wait::{self, Request, Waiting};
use crate::proactor::{Errno, StableBytes};

impl<'py> Socket<'_, 'py> {
    /// `GreenSocket.sendall`.
    pub fn sendall(&self, data: &Bound<'py, PyAny>, flags: i32) -> PyResult<()> {
        let mut sent = 0;
        // The descriptor was looked at when the call began; anything may have happened to it after that.
        let mut is_fresh = true;
        loop {
            if !std::mem::take(&mut is_fresh) && !self.is_same_file()? {
                return Err(os_error(libc::EBADF));
            }
            let waiting = match self.sendall_now(data, &mut sent, flags)? {
                Step::Done(()) => return Ok(()),
                Step::Wait(waiting) => waiting,
                Step::Again => continue,
                Step::Eventlet => return Err(self.refusal()?),
            };
            waiting.park(self.core).map_err(|raised| raised.fetch(self.green.py()))?;
            let count = self.sendall_done(waiting)?;
            // Of anything else than bytes only the room for it was waited for.
            sent += if data.is_instance_of::<PyBytes>() { count } else { 0 };
        }
    }

    /// Why a send that does not fit cannot wait.
    #[cold]
    fn refusal(&self) -> PyResult<PyErr> {
        if wait::in_mainloop(self.core)? {
            return Ok(wait::mainloop_error());
        }
        Ok(reset_by_another())
    }

    #[inline(never)]
    fn sendall_now(&self, data: &Bound<'py, PyAny>, sent: &mut usize, flags: i32) -> PyResult<Step<'py, ()>> {
        let held;
        let bytes = match data.cast::<PyBytes>() {
            Ok(bytes) => bytes.as_bytes(),
            Err(_) => {
                held = Held::new(data)?;
                held.bytes()
            }
        };
        let len = bytes.len();
        match sys::send_now(self.descriptor.fd, bytes.get(*sent..).unwrap_or_default(), flags) {
            Ok(count) => *sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                self.green.py().check_signals()?;
                return Ok(Step::Again);
            }
            Err(error) => return Err(os_error(error.raw_os_error().unwrap_or(0))),
        }
        if *sent >= len {
            return Ok(Step::Done(()));
        }
        let Ok(bytes) = data.cast::<PyBytes>() else {
            // A buffer lent to the kernel could not be resized while this waits.
            return self.wait(Side::Write, Request::Poll);
        };
        // The ring gives up at once what must not wait.
        let flags = flags & !libc::MSG_DONTWAIT;
        self.wait(Side::Write, Request::Send(Held::new(bytes)?, *sent, flags))
    }

    /// How many more bytes a wait for a send has sent; fewer than all of them if its timeout came half-way, and then
    /// the rest has a timeout of its own, as each of eventlet's sends has.
    #[inline(never)]
    fn sendall_done(&self, waiting: Waiting<'py>) -> PyResult<usize> {
        let outcome = waiting.outcome(self.core);
        held::bury();
        match outcome {
            Outcome::Completed(completion) => match completion.result {
                Ok(count) => Ok(count as usize),
                Err(Errno::AGAIN | Errno::INTR | Errno::CANCELED) => Ok(0),
                Err(errno) => Err(os_error(errno.raw_os_error())),
            },
            Outcome::Expired => Err(timed_out()),
            Outcome::Woken | Outcome::Leftover(_) => Ok(0),
            Outcome::Closed => Err(os_error(libc::EBADF)),
            Outcome::Reopened => {
                self.reopened()?;
                Err(reset_by_another())
            }
        }
    }

    /// `GreenSocket.send`; None where eventlet's own code must run.
    #[inline(never)]
    pub fn send(&self, data: &Bound<'py, PyAny>, flags: i32) -> PyResult<Option<usize>> {
        let held = Held::new(data)?;
        let sent = sys::send_now(self.descriptor.fd, held.bytes(), flags);
        drop(held);
        held::bury();
        match sent {
            Ok(count) => Ok(Some(count)),
            // eventlet's own loop waits for the socket to become writable.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
            Err(error) => Err(os_error(error.raw_os_error().unwrap_or(0))),
        }
    }
}
