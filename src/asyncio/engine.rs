//! What a loop knows: the turn, the proactor, and who is told of which completion.
//!
//! Nothing here runs Python code or drops a Python reference: what must be dropped is handed out, or put in
//! the `graveyard` for the caller to empty when the engine is not borrowed.

use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use slotmap::SlotMap;

use super::closing::Numbers;
use super::sock::Wait;
use super::stream::Receiver;
use crate::closings::Moment;
use crate::proactor::{Completion, Errno, Interest, Op, OpId, Payload, Proactor};
pub use crate::runnable::{Runnable, SinkId};
use crate::turn::Turn;

/// Which half of a descriptor is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// `add_reader`.
    Read,
    /// `add_writer`.
    Write,
}

impl Side {
    /// What a readiness wait of this side asks the kernel for.
    pub fn interest(self) -> Interest {
        match self {
            Self::Read => Interest::READ,
            Self::Write => Interest::WRITE,
        }
    }
}

/// Whom completions are for.
pub enum Sink {
    /// `add_reader` or `add_writer`: level-triggered, one poll at a time.
    Watch(Watch),
    /// A transport that receives.
    Receiver(Box<Receiver>),
    /// A `loop.sock_*` operation.
    Wait(Box<Wait>),
}

/// A reader or writer callback.
pub struct Watch {
    /// The descriptor.
    pub fd: RawFd,
    /// Its half.
    pub side: Side,
    /// What to call.
    pub handle: Py<PyAny>,
    /// The file object that was given, if it was one: it lives as long as the watch, which it still names once closed.
    pub file: Option<Py<PyAny>>,
    /// The armed poll; none between its completion and the end of the callback.
    pub op: Option<OpId>,
    /// The descriptor itself, if it is the loop's own: it is closed with the watch.
    pub own: Option<OwnedFd>,
    /// When it began.
    pub begun: Moment,
    /// The descriptor was closed under it: its number may be another's, which must not call it.
    pub is_closed: bool,
}

/// What is registered on one descriptor number.
#[derive(Clone, Copy, Default)]
pub struct Descriptor {
    /// The watch or receiver for reading.
    pub reader: Option<SinkId>,
    /// The watch for writing.
    pub writer: Option<SinkId>,
    /// The last receive took all there was: wait before trying.
    pub drained: bool,
    /// How many `sock_*` operations wait on it.
    pub waits: u32,
}

impl Descriptor {
    /// The place of one side.
    pub fn side(&mut self, side: Side) -> &mut Option<SinkId> {
        match side {
            Side::Read => &mut self.reader,
            Side::Write => &mut self.writer,
        }
    }
}

/// Everything of one loop that its thread owns.
pub struct Engine {
    /// Ready queue and timers.
    pub turn: Turn<Runnable>,
    /// The driver.
    pub proactor: Proactor,
    /// Whom completions are for.
    pub sinks: SlotMap<SinkId, Sink>,
    descriptors: Vec<Descriptor>,
    /// Those that there may be operations on.
    pub numbers: Arc<Numbers>,
    completions: Vec<Completion>,
    /// References to be dropped when the engine is not borrowed.
    pub graveyard: Vec<Sink>,
}

impl Engine {
    /// An engine without work.
    pub fn new(proactor: Proactor) -> Self {
        Self {
            turn: Turn::default(),
            proactor,
            sinks: SlotMap::with_key(),
            descriptors: Vec::new(),
            numbers: Arc::default(),
            completions: Vec::new(),
            graveyard: Vec::new(),
        }
    }

    /// The entry of a descriptor number, which must not be negative.
    pub fn descriptor(&mut self, fd: RawFd) -> &mut Descriptor {
        let index = fd as usize;
        if index >= self.descriptors.len() {
            self.descriptors.resize(index + 1, Descriptor::default());
        }
        &mut self.descriptors[index]
    }

    /// The entry of a descriptor number, if it ever had one.
    pub fn known(&self, fd: RawFd) -> Option<&Descriptor> {
        self.descriptors.get(usize::try_from(fd).ok()?)
    }

    /// Takes what the kernel has completed and makes ready whom it is for.
    pub fn reap(&mut self) {
        if !self.proactor.has_queued() {
            return;
        }
        let mut completions = std::mem::take(&mut self.completions);
        self.proactor.reap(&mut completions);
        for completion in completions.drain(..) {
            self.complete(completion);
        }
        self.completions = completions;
    }

    /// Tells whom a completion is for.
    pub fn complete(&mut self, completion: Completion) {
        let id = SinkId::from_token(completion.token);
        match self.sinks.get_mut(id) {
            Some(Sink::Watch(watch)) => {
                watch.op = None;
                // A descriptor that cannot be polled (closed behind our back) is silent, as in an epoll set.
                if completion.result.is_ok() {
                    self.turn.push(Runnable::Ready(id));
                }
            }
            Some(Sink::Wait(wait)) => {
                wait.op = None;
                // Unless it was taken back from the kernel (see `park`), the next try tells what is wrong.
                if completion.result != Err(Errno::CANCELED) {
                    self.turn.push(Runnable::Ready(id));
                }
            }
            Some(Sink::Receiver(receiver)) => {
                if receiver.take(completion) {
                    self.turn.push(Runnable::Ready(id));
                }
            }
            None => self.discard(completion),
        }
    }

    /// Gives back the buffer of a completion that nobody wants.
    pub fn discard(&mut self, completion: Completion) {
        if let Payload::Lease(lease) = completion.payload {
            self.proactor.recycle(lease);
        }
    }

    /// Waits once for readiness on behalf of a sink.
    pub fn poll(&mut self, id: SinkId, fd: RawFd, side: Side) -> OpId {
        self.proactor.submit(Op::Poll { fd, interest: side.interest() }, id.token())
    }

    /// Ends a sink; its operation, if one is in flight, completes unheard.
    pub fn end(&mut self, id: SinkId) {
        let Some(sink) = self.sinks.remove(id) else { return };
        if let Sink::Wait(wait) = &sink {
            self.descriptor(wait.fd).waits -= 1;
        }
        let op = match &sink {
            Sink::Watch(watch) => watch.op,
            Sink::Wait(wait) => wait.op,
            Sink::Receiver(receiver) => receiver.op,
        };
        if let Some(op) = op {
            self.proactor.cancel(op);
        }
        self.graveyard.push(sink);
    }

    /// Hands out all that it holds, to be dropped where it is not borrowed.
    pub fn retire(&mut self) -> impl Sized + use<> {
        let sinks: Vec<Sink> = self.sinks.drain().map(|(_, sink)| sink).collect();
        (self.turn.drain(), sinks, std::mem::take(&mut self.graveyard))
    }

    /// Before the loop may go on on another thread: takes every operation back from the kernel.
    pub fn park(&mut self) {
        let ids: Vec<SinkId> = self.sinks.keys().collect();
        for id in ids {
            let op = match self.sinks.get_mut(id) {
                Some(Sink::Watch(watch)) => watch.op,
                Some(Sink::Wait(wait)) => wait.op,
                Some(Sink::Receiver(receiver)) => receiver.op,
                None => None,
            };
            if let Some(op) = op {
                // What had won the race is not lost: it is handled like any other completion.
                if let Some(completion) = self.proactor.settle(op) {
                    self.complete(completion);
                }
            }
        }
        self.reap();
    }

    /// Goes on with another driver, to which `unpark` gives the operations; returns the old one.
    pub fn replace_proactor(&mut self, proactor: Proactor) -> Proactor {
        self.reap();
        for sink in self.sinks.values_mut() {
            match sink {
                Sink::Watch(watch) => watch.op = None,
                Sink::Wait(wait) => wait.op = None,
                Sink::Receiver(receiver) => receiver.op = None,
            }
        }
        std::mem::replace(&mut self.proactor, proactor)
    }

    /// After `park`: gives the operations back to the kernel.
    pub fn unpark(&mut self) {
        let ids: Vec<SinkId> = self.sinks.keys().collect();
        for id in ids {
            let poll = match self.sinks.get(id) {
                Some(Sink::Watch(watch)) if watch.op.is_none() && !watch.is_closed => {
                    Some((watch.fd, watch.side))
                }
                Some(Sink::Wait(wait)) if wait.op.is_none() && !wait.is_closed => Some((wait.fd, wait.side)),
                Some(Sink::Receiver(_)) => {
                    self.resume(id);
                    None
                }
                _ => None,
            };
            let Some((fd, side)) = poll else { continue };
            let op = self.poll(id, fd, side);
            match self.sinks.get_mut(id) {
                Some(Sink::Watch(watch)) => watch.op = Some(op),
                Some(Sink::Wait(wait)) => wait.op = Some(op),
                _ => {}
            }
        }
    }

    /// Shows the garbage collector what the engine holds.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for runnable in self.turn.ready().chain(self.turn.timed()) {
            match runnable {
                Runnable::Handle(handle) => visit.call(handle)?,
                Runnable::Fire(timer) => visit.call(timer)?,
                Runnable::Start(target, args, kwargs) => {
                    visit.call(target)?;
                    visit.call(args)?;
                    visit.call(kwargs)?;
                }
                _ => {}
            }
        }
        for sink in self.sinks.values() {
            match sink {
                Sink::Watch(watch) => {
                    visit.call(&watch.handle)?;
                    visit.call(&watch.file)?;
                }
                Sink::Wait(wait) => {
                    visit.call(&wait.future)?;
                    visit.call(&wait.socket)?;
                    wait.traverse(visit)?;
                }
                Sink::Receiver(receiver) => {
                    visit.call(&receiver.transport)?;
                    visit.call(&receiver.entry)?;
                    visit.call(&receiver.context)?;
                }
            }
        }
        Ok(())
    }
}
