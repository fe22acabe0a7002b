//! What a hub knows: the turn, the proactor, who waits for what, and the state of each descriptor.
//!
//! Nothing here runs Python code or drops a Python reference, so a borrow of the state can never be met
//! by a second one: what must be dropped is handed out.

use std::collections::VecDeque;
use std::os::fd::RawFd;

use pyo3::prelude::*;
use slotmap::SlotMap;

use super::closings::{Closing, Moment};
use super::leftovers::Leftovers;
use crate::asyncio::Engine;
use crate::proactor::{Completion, Interest, Op, OpId, Payload, Proactor};
use crate::runnable::SinkId;
pub use crate::runnable::{Runnable, WaiterId};
use crate::turn::TimerKey;

/// Which half of a descriptor a wait occupies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Reading and accepting.
    Read,
    /// Writing and connecting.
    Write,
}

impl Side {
    /// Eventlet's own name for it, as in `hub.READ`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }

    /// What a readiness wait of this side asks the kernel for.
    pub fn interest(self) -> Interest {
        match self {
            Self::Read => Interest::READ,
            Self::Write => Interest::WRITE,
        }
    }
}

/// How a wait ended.
#[derive(Debug)]
pub enum Outcome {
    /// The operation completed.
    Completed(Completion),
    /// Bytes that a killed receive of the same socket had left, for a receive that queued behind it.
    Leftover(Box<[u8]>),
    /// The timeout came first, and the operation has been cancelled.
    Expired,
    /// The descriptor was closed by another green thread.
    Closed,
    /// The descriptor's number was given to another file (eventlet's `IOClosed`).
    Reopened,
    /// The wait was not for an operation and is over, or should be tried again.
    Woken,
}

/// One suspended green thread, or one listener added with `hub.add`.
pub struct Waiter {
    /// The green thread to resume, or the listener whose callback to call.
    pub who: Py<PyAny>,
    pub is_listener: bool,
    pub place: Option<(RawFd, Side)>,
    pub op: Option<OpId>,
    /// The operation of a wait that queues behind another one.
    pub pending: Option<Box<Op>>,
    pub timer: Option<TimerKey>,
    pub outcome: Option<Outcome>,
    /// When it began.
    pub begun: Moment,
}

/// One half of a descriptor: who holds it, and who queues behind.
#[derive(Default)]
pub struct Half {
    pub active: Option<WaiterId>,
    pub queue: VecDeque<WaiterId>,
}

/// What is known of the descriptor besides its waits; forgotten when the number is reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    #[default]
    Unknown,
    Stream,
    Other,
}

/// One descriptor number.
#[derive(Default)]
pub struct Descriptor {
    read: Half,
    write: Half,
    pub kind: Kind,
    /// The number was open when a wait began, and has not been closed through Python's sockets since.
    pub seen_open: bool,
    /// The kernel said that more bytes are waiting: try a direct receive before the next wait.
    pub has_more: bool,
    /// Listeners added with `hub.add` on this number.
    pub listeners: Vec<WaiterId>,
    /// Counts the closes and openings of the number: whoever waited compares before it uses the number.
    pub generation: u32,
}

impl Half {
    fn waits(&self) -> impl Iterator<Item = WaiterId> {
        self.active.into_iter().chain(self.queue.iter().copied())
    }

    fn remove(&mut self, id: WaiterId) {
        self.active = self.active.filter(|active| *active != id);
        self.queue.retain(|other| *other != id);
    }
}

impl Descriptor {
    fn waits(&self) -> impl Iterator<Item = WaiterId> {
        self.read.waits().chain(self.write.waits()).chain(self.listeners.iter().copied())
    }

    /// Whether neither a green thread nor a listener is on this side.
    #[inline]
    pub fn is_free(&mut self, side: Side) -> bool {
        self.listeners.is_empty() && self.half(side).active.is_none()
    }

    #[inline]
    pub fn half(&mut self, side: Side) -> &mut Half {
        match side {
            Side::Read => &mut self.read,
            Side::Write => &mut self.write,
        }
    }

    fn is_idle(&self) -> bool {
        self.read.active.is_none()
            && self.write.active.is_none()
            && self.read.queue.is_empty()
            && self.write.queue.is_empty()
            && self.listeners.is_empty()
    }

    fn forget_file(&mut self) {
        self.doubt();
        self.generation = self.generation.wrapping_add(1);
    }

    /// Whether an operation began on the file.
    pub fn is_used(&self) -> bool {
        self.kind != Kind::Unknown || self.seen_open
    }

    /// Forgets what the kernel can be asked again.
    pub fn doubt(&mut self) {
        self.kind = Kind::Unknown;
        self.seen_open = false;
        self.has_more = false;
    }
}

/// Everything of one hub that its thread owns.
pub struct State {
    /// Turn and driver, and what the asyncio loop of the thread has on them.
    pub engine: Engine,
    pub waiters: SlotMap<WaiterId, Waiter>,
    descriptors: Vec<Descriptor>,
    /// Bytes that a receive had taken from the kernel when its green thread was killed, per socket.
    leftovers: Leftovers,
    completions: Vec<Completion>,
}

impl State {
    pub fn new(proactor: Proactor) -> Self {
        Self {
            engine: Engine::new(proactor),
            waiters: SlotMap::with_key(),
            descriptors: Vec::new(),
            leftovers: Leftovers::default(),
            completions: Vec::new(),
        }
    }

    /// The entry of a descriptor number, which must not be negative.
    #[inline]
    pub fn descriptor(&mut self, fd: RawFd) -> &mut Descriptor {
        let index = fd as usize;
        if index >= self.descriptors.len() {
            self.make_room(index);
        }
        &mut self.descriptors[index]
    }

    /// The same, of a number that was in use before.
    pub fn known(&mut self, fd: RawFd) -> Option<&mut Descriptor> {
        self.descriptors.get_mut(usize::try_from(fd).ok()?)
    }

    #[cold]
    #[inline(never)]
    fn make_room(&mut self, index: usize) {
        self.descriptors.resize_with(index + 1, Descriptor::default);
    }

    /// Adds a wait and submits its operation under the wait's own number.
    pub fn submit(&mut self, mut waiter: Waiter, op: Op) -> WaiterId {
        waiter.op = None;
        let id = self.waiters.insert(waiter);
        let op = self.engine.proactor.submit(op, id.token());
        self.waiters[id].op = Some(op);
        id
    }

    /// Takes what the kernel has completed and makes the waits ready that it belongs to.
    pub fn reap(&mut self) {
        if !self.engine.proactor.has_queued() {
            return;
        }
        let mut completions = std::mem::take(&mut self.completions);
        self.engine.proactor.reap(&mut completions);
        for completion in completions.drain(..) {
            if SinkId::is_token(completion.token) {
                self.engine.complete(completion);
            } else {
                self.complete(completion);
            }
        }
        self.completions = completions;
    }

    fn complete(&mut self, completion: Completion) {
        let id = WaiterId::from_token(completion.token);
        match self.waiters.get_mut(id) {
            Some(waiter) if waiter.is_listener => {
                waiter.op = None;
                self.engine.turn.push(Runnable::Notify(id));
            }
            Some(waiter) if waiter.outcome.is_none() => {
                waiter.op = None;
                waiter.outcome = Some(Outcome::Completed(completion));
                self.engine.turn.push(Runnable::Resume(id));
            }
            // A poll whose waiter is gone: it carries nothing that could be lost.
            _ => self.discard(completion),
        }
    }

    fn discard(&mut self, completion: Completion) {
        if let Payload::Lease(lease) = completion.payload {
            self.engine.proactor.recycle(lease);
        }
    }

    /// Ends the operation of a wait now; what had won the race against the cancel becomes its outcome.
    pub fn settle(&mut self, id: WaiterId) {
        let Some(op) = self.waiters.get_mut(id).and_then(|waiter| waiter.op.take()) else { return };
        let Some(completion) = self.engine.proactor.settle(op) else { return };
        match self.waiters.get_mut(id) {
            Some(waiter) if waiter.outcome.is_none() && !waiter.is_listener && completion.result.is_ok() => {
                waiter.outcome = Some(Outcome::Completed(completion));
            }
            _ => self.discard(completion),
        }
    }

    /// Ends a wait that returned normally: frees its place. Its outcome is in what is handed out.
    pub fn finish(&mut self, id: WaiterId) -> Option<Waiter> {
        let mut waiter = self.waiters.remove(id)?;
        self.free(id, &mut waiter);
        Some(waiter)
    }

    /// Ends a wait whose green thread got an exception: no byte that was received is lost.
    pub fn abandon(&mut self, id: WaiterId) -> Option<Waiter> {
        self.settle(id);
        let mut waiter = self.waiters.remove(id)?;
        // A place that was closed meanwhile has no next receive to give the bytes to.
        match (waiter.outcome.take(), waiter.place) {
            (Some(Outcome::Completed(completion)), place) => {
                if let (Payload::Lease(lease), Some((fd, _))) = (&completion.payload, place)
                    && !lease.bytes().is_empty()
                {
                    self.leftovers.push_back(fd, lease.bytes().into());
                }
                self.discard(completion);
            }
            (Some(Outcome::Leftover(bytes)), Some((fd, _))) => {
                self.leftovers.push_front(fd, bytes);
            }
            _ => {}
        }
        self.free(id, &mut waiter);
        Some(waiter)
    }

    fn free(&mut self, id: WaiterId, waiter: &mut Waiter) {
        if let Some(timer) = waiter.timer.take() {
            self.engine.turn.cancel(timer);
        }
        if let Some((fd, side)) = waiter.place {
            self.release(fd, side, id);
        }
    }

    /// Frees half a descriptor for the next in the queue.
    fn release(&mut self, fd: RawFd, side: Side, id: WaiterId) {
        let half = self.descriptor(fd).half(side);
        if half.active == Some(id) {
            half.active = None;
            self.promote(fd, side);
        } else {
            half.queue.retain(|other| *other != id);
        }
    }

    /// Starts the operation of the first wait in the queue; leftover bytes go to the first receives.
    fn promote(&mut self, fd: RawFd, side: Side) {
        while let Some(next) = self.descriptor(fd).half(side).queue.pop_front() {
            let Some(waiter) = self.waiters.get_mut(next) else { continue };
            let Some(op) = waiter.pending.take() else { continue };
            if side == Side::Read && self.leftovers.has(fd) {
                let given = match *op {
                    Op::Recv { max_len, .. } => self.leftovers.take(fd, max_len as usize),
                    _ => None,
                };
                self.wake(next, given.map_or(Outcome::Woken, Outcome::Leftover));
                continue;
            }
            let op = self.engine.proactor.submit(*op, next.token());
            if let Some(waiter) = self.waiters.get_mut(next) {
                waiter.op = Some(op);
            }
            self.descriptor(fd).half(side).active = Some(next);
            return;
        }
    }

    /// Makes a wait ready with an outcome, unless it has one already.
    pub fn wake(&mut self, id: WaiterId, outcome: Outcome) -> bool {
        match self.waiters.get_mut(id) {
            Some(waiter) if waiter.outcome.is_none() => {
                waiter.outcome = Some(outcome);
                self.engine.turn.push(Runnable::Resume(id));
                true
            }
            _ => false,
        }
    }

    /// The number is about to be closed, or was given to another file: every wait on it ends.
    ///
    /// Operations are cancelled before this returns, because a close with anything in flight on the file
    /// would send no FIN. Bytes that were already received still go to the green thread that waits.
    pub fn end_waits(&mut self, fd: RawFd, outcome: fn() -> Outcome) {
        let Some(descriptor) = self.known(fd) else { return };
        descriptor.forget_file();
        if !descriptor.is_idle() {
            let mut waiters = Vec::new();
            for side in [Side::Read, Side::Write] {
                let half = descriptor.half(side);
                waiters.extend(half.active.take());
                waiters.extend(half.queue.drain(..));
            }
            let listeners = std::mem::take(&mut descriptor.listeners);
            for id in waiters {
                self.end_wait(id, outcome());
            }
            for id in listeners {
                self.settle(id);
            }
        }
        self.engine.proactor.forget_fd(fd);
    }

    fn end_wait(&mut self, id: WaiterId, outcome: Outcome) {
        // Whatever the wait still gets belongs to the file that was here.
        if let Some(waiter) = self.waiters.get_mut(id) {
            waiter.place = None;
        }
        let had_outcome = self.waiters.get(id).is_some_and(|waiter| waiter.outcome.is_some());
        self.settle(id);
        let won = self.waiters.get(id).is_some_and(|waiter| waiter.outcome.is_some());
        if !had_outcome {
            if won {
                self.engine.turn.push(Runnable::Resume(id));
            } else {
                self.wake(id, outcome);
            }
        }
    }

    /// Another thread closes the number, which may name another file by now: the waits that began before it end.
    pub fn closing_elsewhere(&mut self, closing: Closing) {
        let fd = closing.fd;
        self.engine.closing_elsewhere(closing);
        let Some(descriptor) = self.descriptors.get(fd as usize) else { return };
        let is_meant = |id: &WaiterId| self.waiters.get(*id).is_none_or(|waiter| closing.ends(waiter.begun));
        let ended: Vec<WaiterId> = descriptor.waits().filter(is_meant).collect();
        if ended.len() == descriptor.waits().count() {
            self.end_waits(fd, || Outcome::Closed);
            self.leftovers.closing(fd);
            return;
        }
        for id in ended {
            let is_listener = self.waiters.get(id).is_some_and(|waiter| waiter.is_listener);
            let descriptor = self.descriptor(fd);
            descriptor.listeners.retain(|other| *other != id);
            descriptor.read.remove(id);
            descriptor.write.remove(id);
            if is_listener {
                self.settle(id);
            } else {
                self.end_wait(id, Outcome::Closed);
            }
        }
        for side in [Side::Read, Side::Write] {
            if self.descriptor(fd).half(side).active.is_none() {
                self.promote(fd, side);
            }
        }
    }

    /// Ends everything, because the thread does: what is handed out may run code when it is dropped.
    pub fn retire(&mut self) -> impl Sized + use<> {
        self.engine.proactor.close();
        self.descriptors.clear();
        let waiters: Vec<Waiter> = self.waiters.drain().map(|(_, waiter)| waiter).collect();
        (waiters, self.engine.retire())
    }

    /// What killed receives had taken from the kernel.
    pub fn leftovers(&mut self) -> &mut Leftovers {
        &mut self.leftovers
    }

    /// Ends a persistent listener; its poll, if one is armed, completes unheard.
    pub fn unwatch(&mut self, token: u64) -> Option<Waiter> {
        let mut waiter = self.waiters.remove(WaiterId::from_token(token))?;
        if let Some(op) = waiter.op.take() {
            self.engine.proactor.cancel(op);
        }
        if let Some((fd, _)) = waiter.place {
            self.descriptor(fd).listeners.retain(|id| id.token() != token);
        }
        Some(waiter)
    }

    /// Arms a listener's poll again after its callback has run.
    pub fn rearm(&mut self, id: WaiterId) {
        let Some(waiter) = self.waiters.get(id) else { return };
        let (None, Some((fd, side))) = (waiter.op, waiter.place) else { return };
        if side == Side::Read && self.leftovers.offer(fd) {
            self.engine.turn.push(Runnable::Notify(id));
            return;
        }
        let op = self.engine.proactor.submit(Op::Poll { fd, interest: side.interest() }, id.token());
        self.waiters[id].op = Some(op);
    }

    /// The waits of one side of all descriptors, for eventlet's debug listings.
    pub fn waiting(&self, side: Side) -> impl Iterator<Item = (RawFd, &Waiter)> {
        self.waiters.values().filter_map(move |waiter| match waiter.place {
            Some((fd, its_side)) if its_side == side && !waiter.is_listener => Some((fd, waiter)),
            _ => None,
        })
    }
}
