//! What a socket transport receives, and what it can send at once.
//!
//! The transport owns its socket, so a multishot receive reads ahead of the protocol. Pausing cancels it and
//! keeps what had already come. The rest of a transport (closing, flow control, sendfile) is the stock one.

use std::os::fd::RawFd;

use pyo3::exceptions::{PyKeyboardInterrupt, PySystemExit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::buffered::{fill_buffers, fill_direct};
use super::bytes;
use super::context;
use super::core::LoopCore;
use super::engine::{Engine, Runnable, Side, Sink, SinkId};
use super::handle::handles;
use super::reader;
use crate::proactor::{Completion, Errno, Lease, Op, OpId, Payload};

/// At most this many bytes in one `data_received`, as on the stock loop.
pub const PIECE_MAX: usize = 256 * 1024;
/// A delivery of so many bytes makes it worth while to receive in large pieces: one poll and one receive
/// into a large buffer instead of many completions of small ones.
const BULK_FROM: usize = 16 * 1024;
/// Room for what the kernel does not announce: the end of the stream, an error, a late segment.
const SMALL: usize = 4096;
/// So many small receives in a row end that.
const BULK_PATIENCE: u8 = 4;

/// What the exception handler is told of a failed `data_received`.
const NOT_RECEIVED: &str = "Fatal error: protocol.data_received() call failed.";

/// Whom received bytes go to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `protocol.data_received(bytes)`.
    Plain,
    /// `get_buffer` and `buffer_updated`.
    Buffered,
}

impl Kind {
    fn of(buffered: bool) -> Self {
        if buffered { Self::Buffered } else { Self::Plain }
    }
}

/// A transport that reads.
pub struct Receiver {
    /// For `_read_ready__on_eof` and `_fatal_error`.
    pub transport: Py<PyAny>,
    /// The protocol.
    pub entry: Py<PyAny>,
    /// The context that the protocol's callbacks run in.
    pub context: Py<PyAny>,
    /// The multishot receive in flight.
    pub op: Option<OpId>,
    /// Whom the bytes go to.
    pub kind: Kind,
    fd: RawFd,
    /// What has come.
    pub incoming: Vec<Lease>,
    /// Receives in large pieces for so many more small ones; 0 for the multishot receive.
    bulk: u8,
    /// In bulk: the poll has completed.
    readable: bool,
    /// The operation in flight is a poll.
    polling: bool,
    /// How the stream ended: at its end, or with an error.
    end: Option<Result<(), Errno>>,
    /// Reading is not paused.
    pub wanted: bool,
    queued: bool,
}

impl Receiver {
    /// A receiver that is wanted and has nothing yet.
    pub fn new(
        fd: RawFd,
        transport: Py<PyAny>,
        entry: Py<PyAny>,
        buffered: bool,
        context: Py<PyAny>,
    ) -> Self {
        Self {
            transport,
            entry,
            context,
            op: None,
            kind: Kind::of(buffered),
            fd,
            incoming: Vec::new(),
            bulk: 0,
            readable: false,
            polling: false,
            end: None,
            wanted: true,
            queued: false,
        }
    }

    /// Hands what comes from now on to another protocol; returns the old entry.
    pub fn set_entry(&mut self, entry: Py<PyAny>, buffered: bool) -> Py<PyAny> {
        self.kind = Kind::of(buffered);
        std::mem::replace(&mut self.entry, entry)
    }

    /// Chooses between many small receives and few large ones by what came last.
    fn adapt(&mut self, received: usize) {
        self.bulk = if received >= BULK_FROM { BULK_PATIENCE } else { self.bulk.saturating_sub(1) };
    }

    /// Whether reading is not paused.
    pub fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Takes a completion in; true if the receiver is to be run.
    pub fn take(&mut self, completion: Completion) -> bool {
        if !completion.more {
            self.op = None;
        }
        match (completion.result, completion.payload) {
            (Ok(_), Payload::Lease(lease)) => self.incoming.push(lease),
            // A poll's mask is never zero, and a receive of zero bytes is the end.
            (Ok(mask), _) if mask != 0 => self.readable = true,
            (Ok(_), _) if !completion.more => self.end = Some(Ok(())),
            (Err(Errno::CANCELED), _) | (Ok(_), _) => {}
            (Err(errno), _) => self.end = Some(Err(errno)),
        }
        self.wanted && !std::mem::replace(&mut self.queued, true)
    }

    /// As many of the leases as go into one callback.
    fn next_piece(&mut self) -> Vec<Lease> {
        let mut total = 0;
        let fits = self.incoming.iter().take_while(|lease| {
            total += lease.len();
            total <= PIECE_MAX
        });
        let count = fits.count().max(1).min(self.incoming.len());
        if count == self.incoming.len() {
            return std::mem::take(&mut self.incoming);
        }
        let rest = self.incoming.split_off(count);
        std::mem::replace(&mut self.incoming, rest)
    }
}

impl Engine {
    /// The receiver of a sink.
    pub fn receiver(&mut self, id: SinkId) -> Option<&mut Receiver> {
        match self.sinks.get_mut(id) {
            Some(Sink::Receiver(receiver)) => Some(receiver),
            _ => None,
        }
    }

    /// Reading is no longer paused.
    pub fn want(&mut self, id: SinkId) {
        if let Some(receiver) = self.receiver(id) {
            receiver.wanted = true;
        }
        self.resume(id);
    }

    /// Goes on receiving if that is wanted and not under way; queues what has come already.
    pub fn resume(&mut self, id: SinkId) {
        let Some(receiver) = self.receiver(id) else { return };
        if !receiver.wanted {
            return;
        }
        let waiting = !receiver.incoming.is_empty() || receiver.end.is_some() || receiver.readable;
        if waiting && !std::mem::replace(&mut receiver.queued, true) {
            self.turn.push(Runnable::Ready(id));
        }
        let Some(receiver) = self.receiver(id) else { return };
        let (fd, bulk) = (receiver.fd, receiver.bulk > 0);
        match receiver.op {
            Some(op) if bulk && !receiver.polling => drop(self.proactor.cancel(op)),
            Some(_) => {}
            None if receiver.end.is_some() || receiver.readable => {}
            None => {
                receiver.polling = bulk;
                let op = if bulk {
                    self.poll(id, fd, Side::Read)
                } else {
                    self.proactor.submit(Op::RecvMany { fd }, id.token())
                };
                if let Some(receiver) = self.receiver(id) {
                    receiver.op = Some(op);
                }
            }
        }
    }

    /// Pauses a receiver: its operation is cancelled, and what it had received is kept.
    pub fn pause(&mut self, id: SinkId) -> bool {
        let Some(receiver) = self.receiver(id) else { return false };
        let was_wanted = std::mem::replace(&mut receiver.wanted, false);
        if let Some(op) = receiver.op {
            self.proactor.cancel(op);
        }
        was_wanted
    }

    /// The error that a receiver's stream ended with, if it has; its operation ends.
    pub fn final_error(&mut self, id: SinkId) -> Option<Errno> {
        let op = self.receiver(id)?.op;
        if let Some(completion) = op.and_then(|op| self.proactor.settle(op)) {
            self.complete(completion);
        }
        self.receiver(id)?.end?.err()
    }

    /// Ends a receiver before its socket is closed: nothing may be in flight on it then, or no FIN is sent.
    pub fn detach(&mut self, id: SinkId) {
        if let Some(op) = self.receiver(id).and_then(|receiver| receiver.op.take())
            && let Some(completion) = self.proactor.settle(op)
        {
            self.discard(completion);
        }
        let Some(Sink::Receiver(mut receiver)) = self.sinks.remove(id) else { return };
        for lease in receiver.incoming.drain(..) {
            self.proactor.recycle(lease);
        }
        let descriptor = self.descriptor(receiver.fd);
        if descriptor.reader == Some(id) {
            descriptor.reader = None;
        }
        self.proactor.forget_fd(receiver.fd);
        self.graveyard.push(Sink::Receiver(receiver));
    }

    pub fn recycle(&mut self, leases: Vec<Lease>) {
        for lease in leases {
            self.proactor.recycle(lease);
        }
    }
}

/// Runs a receiver that has been told something.
pub fn run(core: &Bound<'_, LoopCore>, id: SinkId, monitored: bool) -> PyResult<()> {
    let py = core.py();
    let context = {
        let mut engine = core.get().engine()?.borrow_mut();
        let Some(receiver) = engine.receiver(id) else { return Ok(()) };
        receiver.context.clone_ref(py).into_bound(py)
    };
    if monitored || core.get().debug() {
        // Somebody looks at handles: let there be one.
        let callback = core.getattr(intern!(py, "_deliver"))?;
        let args = (id.token(),).into_pyobject(py)?;
        let handle = handles(py)?.make(core, callback, args, Some(context))?;
        return if core.get().debug() {
            LoopCore::run_in_debug(core, &handle)
        } else {
            handles(py)?.run(&handle, true)
        };
    }
    context::with(&context, || deliver(core, id))
}

/// What a receiver has for its protocol.
enum Delivery {
    Nothing,
    Leases(Vec<Lease>),
    /// The socket is readable.
    Direct(RawFd),
    End(Result<(), Errno>),
}

impl Receiver {
    fn delivery(&mut self) -> Delivery {
        self.queued = false;
        if !self.wanted {
            return Delivery::Nothing;
        }
        let leases = self.next_piece();
        if !leases.is_empty() {
            self.adapt(leases.iter().map(Lease::len).sum());
            return Delivery::Leases(leases);
        }
        if std::mem::take(&mut self.readable) {
            return Delivery::Direct(self.fd);
        }
        match self.end.take() {
            Some(end) => {
                self.wanted = false;
                Delivery::End(end)
            }
            None => Delivery::Nothing,
        }
    }
}

/// Hands over what has come: bytes, the end of the stream, or its error.
pub fn deliver(core: &Bound<'_, LoopCore>, id: SinkId) -> PyResult<()> {
    let py = core.py();
    let (delivery, kind, entry, transport) = {
        let mut engine = core.get().engine()?.borrow_mut();
        let Some(receiver) = engine.receiver(id) else { return Ok(()) };
        let delivery = receiver.delivery();
        if let Delivery::Nothing = delivery {
            engine.resume(id);
            return Ok(());
        }
        (delivery, receiver.kind, receiver.entry.clone_ref(py), receiver.transport.clone_ref(py))
    };
    let handed = hand(core, id, delivery, kind, (entry.bind(py), transport.bind(py)));
    // Also after an exception that ends the loop: it may run again.
    core.get().with_engine(|engine| engine.resume(id));
    handed
}

fn hand(
    core: &Bound<'_, LoopCore>,
    id: SinkId,
    delivery: Delivery,
    kind: Kind,
    (entry, transport): (&Bound<'_, PyAny>, &Bound<'_, PyAny>),
) -> PyResult<()> {
    let py = core.py();
    match (delivery, kind) {
        (Delivery::Nothing, _) => {}
        (Delivery::End(end), _) => finish(transport, end)?,
        (Delivery::Leases(leases), Kind::Plain) => {
            let fed = reader::feed(entry, &leases);
            let data = if matches!(fed, Ok(false)) { bytes::join(py, &leases).map(Some) } else { Ok(None) };
            core.get().with_engine(|engine| engine.recycle(leases));
            match (fed, data?) {
                (_, Some(data)) => hand_over(entry, transport, data)?,
                (Err(error), _) => fatal(transport, error, NOT_RECEIVED)?,
                _ => {}
            }
        }
        (Delivery::Leases(leases), Kind::Buffered) => fill_buffers(core, id, transport, leases)?,
        (Delivery::Direct(fd), Kind::Plain) => {
            // Straight into the object that the protocol gets: copying so much costs more than asking how much.
            let capacity = bytes::waiting(fd).clamp(SMALL, PIECE_MAX);
            let received = bytes::bytes_from(py, capacity, |room| bytes::recv_now(fd, room))?;
            let count = note(core, id, &received.as_ref().map(|data| data.as_bytes().len()))?;
            if let (true, Ok(data)) = (count, received) {
                hand_over(entry, transport, data)?;
            }
        }
        (Delivery::Direct(fd), Kind::Buffered) => fill_direct(core, id, entry, transport, fd)?,
    }
    Ok(())
}

/// Takes note of how a direct receive went; True if it brought bytes.
pub fn note(
    core: &Bound<'_, LoopCore>,
    id: SinkId,
    received: &Result<usize, &std::io::Error>,
) -> PyResult<bool> {
    let mut engine = core.get().engine()?.borrow_mut();
    let Some(receiver) = engine.receiver(id) else { return Ok(false) };
    match received {
        Ok(0) => receiver.end = Some(Ok(())),
        Ok(count) => receiver.adapt(*count),
        Err(error) if bytes::not_now(error) => {}
        Err(error) => {
            receiver.end = Some(Err(Errno::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO))));
        }
    }
    Ok(matches!(received, Ok(count) if *count > 0))
}

fn hand_over(
    entry: &Bound<'_, PyAny>,
    transport: &Bound<'_, PyAny>,
    data: Bound<'_, PyBytes>,
) -> PyResult<()> {
    match entry.call_method1(intern!(entry.py(), "data_received"), (data,)) {
        Ok(_) => Ok(()),
        Err(error) => fatal(transport, error, NOT_RECEIVED),
    }
}

fn finish(transport: &Bound<'_, PyAny>, end: Result<(), Errno>) -> PyResult<()> {
    match end {
        Ok(()) => transport.call_method0(intern!(transport.py(), "_read_ready__on_eof")).map(drop),
        Err(errno) => {
            fatal(transport, bytes::os_error(errno.raw_os_error()), "Fatal read error on socket transport")
        }
    }
}

/// Ends a connection for an exception, unless it is one that ends the loop.
pub fn fatal(transport: &Bound<'_, PyAny>, error: PyErr, message: &str) -> PyResult<()> {
    let py = transport.py();
    if error.is_instance_of::<PySystemExit>(py) || error.is_instance_of::<PyKeyboardInterrupt>(py) {
        return Err(error);
    }
    transport.call_method1(intern!(py, "_fatal_error"), (error.into_value(py), message)).map(drop)
}
