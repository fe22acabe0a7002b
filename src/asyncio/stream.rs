//! What a socket transport receives, and what it can send at once.
//!
//! The transport owns its socket, so a multishot receive reads ahead of the protocol. Pausing cancels it and
//! keeps what had already come. The rest of a transport (closing, flow control, sendfile) is the stock one.

use std::os::fd::RawFd;

use pyo3::exceptions::{PyKeyboardInterrupt, PyRuntimeError, PySystemExit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::bytes;
use super::context;
use super::core::LoopCore;
use super::engine::{Engine, Runnable, Side, Sink, SinkId};
use super::handle::handles;
use super::reader;
use crate::export::Export;
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
enum Kind {
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
    kind: Kind,
    fd: RawFd,
    incoming: Vec<Lease>,
    /// Receives in large pieces for so many more small ones; 0 for the multishot receive.
    bulk: u8,
    /// In bulk: the poll has completed.
    readable: bool,
    /// The operation in flight is a poll.
    polling: bool,
    /// How the stream ended: at its end, or with an error.
    end: Option<Result<(), Errno>>,
    /// Reading is not paused.
    wanted: bool,
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

    fn recycle(&mut self, leases: Vec<Lease>) {
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
    let (entry, transport) = (entry.bind(py), transport.bind(py));
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
    core.get().with_engine(|engine| engine.resume(id));
    Ok(())
}

/// Takes note of how a direct receive went; True if it brought bytes.
fn note(core: &Bound<'_, LoopCore>, id: SinkId, received: &Result<usize, &std::io::Error>) -> PyResult<bool> {
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

/// Receives straight into the buffer that the protocol offers.
fn fill_direct(
    core: &Bound<'_, LoopCore>,
    id: SinkId,
    protocol: &Bound<'_, PyAny>,
    transport: &Bound<'_, PyAny>,
    fd: RawFd,
) -> PyResult<()> {
    let py = core.py();
    let received = offered(protocol)
        .and_then(|target| bytes::with_target(py, &target, |room| bytes::recv_now(fd, room)));
    let received = match received {
        Ok(received) => received,
        Err(error) => return fatal(transport, error, "Fatal error: protocol.get_buffer() call failed."),
    };
    if note(core, id, &received.as_ref().map(|count| *count))?
        && let Ok(count) = received
        && let Err(error) = protocol.call_method1(intern!(py, "buffer_updated"), (count,))
    {
        return fatal(transport, error, "Fatal error: protocol.buffer_updated() call failed.");
    }
    Ok(())
}

/// The buffer that a protocol offers.
fn offered(protocol: &Bound<'_, PyAny>) -> PyResult<Export> {
    let buffer = protocol.call_method1(intern!(protocol.py(), "get_buffer"), (-1,))?;
    let target = Export::get(&buffer)?;
    if target.len_bytes() == 0 {
        return Err(PyRuntimeError::new_err("get_buffer() returned an empty buffer"));
    }
    Ok(target)
}

fn finish(transport: &Bound<'_, PyAny>, end: Result<(), Errno>) -> PyResult<()> {
    match end {
        Ok(()) => transport.call_method0(intern!(transport.py(), "_read_ready__on_eof")).map(drop),
        Err(errno) => {
            fatal(transport, bytes::os_error(errno.raw_os_error()), "Fatal read error on socket transport")
        }
    }
}

/// Copies into the buffers that the protocol offers, for as long as it reads and is the same protocol.
fn fill_buffers(
    core: &Bound<'_, LoopCore>,
    id: SinkId,
    transport: &Bound<'_, PyAny>,
    leases: Vec<Lease>,
) -> PyResult<()> {
    let py = core.py();
    let mut rest: Vec<u8> = Vec::new();
    let mut result = Ok(());
    let mut leases = leases.into_iter();
    for lease in leases.by_ref() {
        let mut offset = 0;
        while offset < lease.len() {
            let protocol = {
                let mut engine = core.get().engine()?.borrow_mut();
                match engine.receiver(id) {
                    Some(receiver) if receiver.wanted && receiver.kind == Kind::Buffered => {
                        receiver.entry.clone_ref(py).into_bound(py)
                    }
                    _ => break,
                }
            };
            match fill_one(&protocol, transport, &lease.bytes()[offset..])? {
                Some(count) => offset += count,
                None => {
                    result = Err(());
                    break;
                }
            }
        }
        let unread = offset < lease.len();
        if unread && result.is_ok() {
            rest.extend_from_slice(&lease.bytes()[offset..]);
        }
        core.get().with_engine(|engine| engine.recycle(vec![lease]));
        if unread {
            break;
        }
    }
    let others: Vec<Lease> = leases.collect();
    core.get().with_engine(|engine| match engine.receiver(id) {
        Some(receiver) if result.is_ok() => {
            let mut queue = Vec::new();
            if !rest.is_empty() {
                let len = rest.len() as u32;
                queue.push(Lease::heap(rest.into_boxed_slice(), len));
            }
            queue.extend(others);
            queue.append(&mut receiver.incoming);
            receiver.incoming = queue;
        }
        _ => engine.recycle(others),
    });
    Ok(())
}

/// One `get_buffer` and `buffer_updated`; how many bytes went in, or None after a fatal error.
fn fill_one(
    protocol: &Bound<'_, PyAny>,
    transport: &Bound<'_, PyAny>,
    data: &[u8],
) -> PyResult<Option<usize>> {
    let py = protocol.py();
    let filled = offered(protocol).and_then(|target| {
        bytes::with_target(py, &target, |room| {
            let count = room.len().min(data.len());
            room[..count].copy_from_slice(&data[..count]);
            count
        })
    });
    match filled {
        Err(error) => {
            fatal(transport, error, "Fatal error: protocol.get_buffer() call failed.")?;
            Ok(None)
        }
        Ok(count) => match protocol.call_method1(intern!(py, "buffer_updated"), (count,)) {
            Ok(_) => Ok(Some(count)),
            Err(error) => {
                fatal(transport, error, "Fatal error: protocol.buffer_updated() call failed.")?;
                Ok(None)
            }
        },
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
