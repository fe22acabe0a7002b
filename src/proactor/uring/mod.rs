//! The io_uring driver. Linux 6.1 or newer, probed by doing.

mod complete;
#[cfg(test)]
mod faults;
mod provided;
mod setup;
mod submit;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use io_uring::{IoUring, squeue};

use super::config::Config;
use super::driver::Core;
use super::error::{Errno, SetupError};
use super::op::{Completion, OpId};
use super::own_file::Identity;
use super::table::{Entry, Pending};
use super::thread::ThreadMark;
pub(super) use setup::check_setup;
use setup::{GETEVENTS, Gate};

/// How long a drop or a settle waits for a cancelled operation. Sockets answer at once; only a file
/// operation stuck in a worker thread could take longer.
const PATIENCE: Duration = Duration::from_secs(2);

/// A receive waits for readiness before it tries, since who submits one has usually just drained its socket. Where so many
/// entries go to the kernel at once, the first peers answer before the last entry is written: trying comes first there.
const BUSY_BATCH: u32 = 8;

/// One ring and what waits to enter it.
pub(crate) struct Ring {
    // Closed before the buffer ring it reads is unmapped.
    ring: IoUring,
    provided: provided::ProvidedBuffers,
    gate: Gate,
    /// Known by it in a forked child, which may have lost it.
    identity: Option<Identity>,
    /// The thread that enabled the ring, its only user since.
    owner: Option<ThreadMark>,
    /// Entries put into the submission queue so far, which is the newest one's ticket.
    pushed: u64,
    /// How many of them the kernel has taken. A note of our own: a forked child shares the queue itself with a parent
    /// that goes on. While a call runs, all of them: a child forked by another thread meanwhile cannot know better.
    taken: u64,
    /// How many entries the latest call that had any gave to the kernel.
    batch: u32,
    /// Operations that found no room in the submission queue, in order.
    backlog: VecDeque<OpId>,
    /// Operations whose cancel found no room there either.
    cancels: VecDeque<OpId>,
    /// Multishot receives that wait for a buffer.
    starved: VecDeque<OpId>,
    wake_armed: bool,
    /// A wake-up was met outside of `reap`: the next wait returns at once.
    woken: bool,
}

impl Ring {
    pub(super) fn new(config: &Config, core: &mut Core) -> Result<Self, SetupError> {
        let ring = setup::open(config)?;
        let mut provided = provided::ProvidedBuffers::register(&ring, &core.pool)?;
        provided.fill(&mut core.pool);
        let gate = Gate::unregistered(&ring);
        let identity = Identity::of(ring.as_raw_fd(), core.waker.raw_fd());
        Ok(Ring {
            ring,
            provided,
            gate,
            identity,
            owner: None,
            pushed: 0,
            taken: 0,
            batch: 0,
            backlog: VecDeque::new(),
            cancels: VecDeque::new(),
            starved: VecDeque::new(),
            wake_armed: false,
            woken: false,
        })
    }

    /// Puts an operation of the table into the submission queue, or behind those that wait for room.
    ///
    /// A full queue is not flushed before the first wait: the enter would make this thread the ring's, and the
    /// one that waits may be another. Half of the queue is left for cancels, of which each operation in it has one.
    #[inline]
    pub(super) fn submit(&mut self, core: &mut Core, id: OpId) {
        let is_held_back = self.owner.is_none() && {
            let queue = self.ring.submission();
            queue.len() >= queue.capacity() / 2
        };
        if is_held_back || !self.backlog.is_empty() || !self.try_submit(core, id) {
            if let Some(entry) = core.table.get(id) {
                entry.ticket = None;
            }
            self.backlog.push_back(id);
        }
    }

    fn try_submit(&mut self, core: &mut Core, id: OpId) -> bool {
        let buffer_len = core.pool.buffer_len();
        let Some(entry) = core.table.get(id) else { return true };
        // No more than there are buffers: one that found none would get memory of its own, and may then wait for long.
        let queued = self.pushed - self.taken;
        let tries_first = self.batch >= BUSY_BATCH && queued < self.provided.held_count();
        let sqe = submit::encode(&mut entry.pending, id, buffer_len, tries_first);
        let pushed = self.push(&sqe);
        if pushed {
            entry.ticket = NonZeroU64::new(self.pushed);
        }
        pushed
    }

    /// Pushes an entry, flushing a full queue once.
    fn push(&mut self, sqe: &squeue::Entry) -> bool {
        if self.push_once(sqe) {
            return true;
        }
        // An error leaves the queue full: the caller keeps the operation and tries again in `wait`.
        let _ = self.enter(0, 0, None);
        self.push_once(sqe)
    }

    #[inline]
    fn push_once(&mut self, sqe: &squeue::Entry) -> bool {
        // SAFETY: the entry's addresses point into boxes owned by the op table until its completion, or
        // it has none.
        let pushed = unsafe { self.ring.submission().push(sqe) }.is_ok();
        self.pushed += u64::from(pushed);
        pushed
    }

    /// Enters the kernel with everything queued. On first use the calling thread becomes the issuer.
    fn enter(&mut self, complete: u32, flags: u32, timeout: Option<Duration>) -> Result<u32, Errno> {
        let current = ThreadMark::current();
        if self.owner.is_none() {
            self.ring.submitter().register_enable_rings().map_err(|error| setup::errno(&error))?;
            self.owner = Some(current);
            self.gate = Gate::register(&self.ring);
        }
        // A registered number means another ring on another thread; the kernel says EEXIST for a plain one.
        if self.owner != Some(current) {
            return Err(Errno::EXIST);
        }
        let queued = self.ring.submission().len() as u32;
        if queued > 0 {
            self.batch = queued;
        }
        self.taken = self.pushed;
        let entered = self.gate.enter(queued, complete, flags, timeout);
        // After an error or for want of memory some are left, and are first in line for the next call.
        self.taken = self.pushed - self.ring.submission().len() as u64;
        entered
    }

    pub(super) fn cancel(&mut self, core: &mut Core, id: OpId) {
        for waiting in [&mut self.backlog, &mut self.starved] {
            if let Some(position) = waiting.iter().position(|&other| other == id) {
                waiting.remove(position);
                // The kernel does not know it (any more).
                return core.give_up(id);
            }
        }
        if core.table.get(id).is_some_and(|entry| matches!(entry.pending, Pending::Close { .. })) {
            // It comes to its end by itself. Called back half-way, nobody could tell whether the number is closed.
            return;
        }
        // Full even after a flush: it goes with the next call that finds room.
        if !self.push(&submit::cancel(id)) && !self.cancels.contains(&id) {
            self.cancels.push_back(id);
        }
    }

    fn push_cancels(&mut self, core: &Core) {
        while let Some(&id) = self.cancels.front() {
            if core.table.contains(id) && !self.push(&submit::cancel(id)) {
                return;
            }
            self.cancels.pop_front();
        }
    }

    /// Cancels `id` and drives the ring until its terminal completion is queued.
    ///
    /// With deferred task work one enter both runs the cancel and delivers the two completions.
    pub(super) fn settle(&mut self, core: &mut Core, id: OpId) {
        self.drain_completions(core);
        let begin = Instant::now();
        let mut complete = 0;
        while let Some(entry) = core.table.get(id) {
            entry.cancelled = true;
            self.cancel(core, id);
            let step = self.enter(complete, GETEVENTS, Some(Duration::from_millis(50)));
            self.drain_completions(core);
            let hopeless = matches!(step, Err(Errno::EXIST | Errno::BADF | Errno::BADFD));
            if hopeless || begin.elapsed() > PATIENCE {
                log::error!(target: "uringhub", "cancelled {id:?} did not complete: {step:?}");
                return;
            }
            complete = 1;
        }
    }

    pub(super) fn wait(&mut self, core: &mut Core, timeout: Option<Duration>) -> io::Result<()> {
        self.prepare(core);
        let submission = self.ring.submission();
        let to_submit = !submission.is_empty();
        let deferred = submission.taskrun() || submission.cq_overflow();
        drop(submission);
        // What the kernel would not take yet is not heard of: no sleep before it has everything.
        let is_held_up = !self.wake_armed || !self.cancels.is_empty() || !self.backlog.is_empty();
        let ready = std::mem::take(&mut self.woken) || !self.ring.completion().is_empty() || is_held_up;
        let poll_only = ready || timeout.is_some_and(|timeout| timeout.is_zero());
        if poll_only && !to_submit && !deferred {
            return Ok(());
        }
        let complete = u32::from(!poll_only);
        match self.enter(complete, GETEVENTS, if poll_only { None } else { timeout }) {
            Ok(_) | Err(Errno::INTR | Errno::TIME) => Ok(()),
            // The kernel is short of memory for requests or for overflowed completions: take what is
            // there, the queue keeps the rest for the next call.
            Err(Errno::BUSY | Errno::AGAIN) => {
                self.drain_completions(core);
                let _ = self.enter(0, GETEVENTS, None);
                Ok(())
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Fills the submission queue with what waits: wake-up watch, cancels, backlog, receives out of buffers.
    fn prepare(&mut self, core: &mut Core) {
        if !self.wake_armed {
            self.wake_armed = self.push(&submit::watch_eventfd(core.waker.raw_fd()));
        }
        self.push_cancels(core);
        if core.pool.has_returned() {
            self.provided.fill(&mut core.pool);
        }
        if !self.starved.is_empty() && self.provided.fill(&mut core.pool) {
            core.pool.await_buffer(false);
            self.backlog.append(&mut self.starved);
        }
        while let Some(&id) = self.backlog.front() {
            if !self.try_submit(core, id) {
                break;
            }
            self.backlog.pop_front();
        }
    }

    /// Moves the queue's entries into `out`.
    pub(super) fn reap(&mut self, core: &mut Core, out: &mut Vec<Completion>) {
        loop {
            let Some(cqe) = self.ring.completion().next() else { return };
            out.extend(self.complete(core, &cqe));
        }
    }

    fn drain_completions(&mut self, core: &mut Core) {
        loop {
            let Some(cqe) = self.ring.completion().next() else { return };
            self.woken |= cqe.user_data() == submit::WAKE;
            let done = self.complete(core, &cqe);
            core.queued.extend(done);
        }
    }

    pub(super) fn has_completions(&mut self) -> bool {
        !self.ring.completion().is_empty()
    }

    #[inline]
    pub(super) fn recycle(&mut self, core: &mut Core, buffer: u16) {
        self.provided.recycle(&mut core.pool, buffer);
    }

    /// Takes or gives up this thread's short name for the ring; only for the ring's own thread.
    pub(super) fn keep_name(&mut self, kept: bool) {
        if self.owner != Some(ThreadMark::current()) || self.gate.is_registered() == kept {
            return;
        }
        self.gate = if kept {
            Gate::register(&self.ring)
        } else {
            self.gate.unregister(&self.ring);
            Gate::unregistered(&self.ring)
        };
    }

    /// True if another thread may take over: the kernel has none of the operations.
    pub(super) fn is_portable(&self, core: &mut Core) -> bool {
        self.owner != Some(ThreadMark::current()) && !core.table.entries().any(|entry| self.has_taken(entry))
    }

    /// Whether the kernel has the operation, as far as this process knows.
    fn has_taken(&self, entry: &Entry) -> bool {
        entry.ticket.is_some_and(|ticket| ticket.get() <= self.taken)
    }

    /// Leaves a ticket only to those operations that the kernel has.
    fn take_back(&self, core: &mut Core) {
        for entry in core.table.entries() {
            if !self.has_taken(entry) {
                entry.ticket = None;
            }
        }
    }

    /// Lets go of a ring without entering it, because it is the parent's (`inherited`), or has nothing of ours. A parent's
    /// kernel writes only into the parent's memory, so everything is free at once.
    pub(super) fn abandon(self: Box<Self>, core: &mut Core, inherited: bool) {
        self.take_back(core);
        core.pool.reclaim(self.provided.held());
        let is_lost =
            inherited && !self.identity.is_some_and(|identity| identity.is_at(self.ring.as_raw_fd()));
        if is_lost {
            // Its drop would close the number.
            std::mem::forget(self.ring);
        }
    }

    /// Cancels everything and waits for the last completion, so that the table's memory may be freed.
    pub(super) fn drain(&mut self, core: &mut Core) {
        let own_thread = self.owner == Some(ThreadMark::current());
        let begin = Instant::now();
        if own_thread {
            for id in core.table.ids() {
                if let Some(entry) = core.table.get(id) {
                    entry.cancelled = true;
                }
                self.cancel(core, id);
            }
            let mut complete = 0;
            while core.table.len() > 0 && begin.elapsed() < PATIENCE {
                self.push_cancels(core);
                let _ = self.enter(complete, GETEVENTS, Some(Duration::from_millis(50)));
                self.drain_completions(core);
                core.queued.clear();
                complete = 1;
            }
            self.gate.unregister(&self.ring);
        }
        self.take_back(core);
        core.end_closes();
        if core.table.entries().any(|entry| entry.ticket.is_some()) {
            // Another thread's ring, or an operation that cannot be cancelled: its memory must outlive us.
            log::warn!(target: "uringhub", "{} operations outlive their ring; their memory is kept", core.table.len());
            core.table.leak();
            core.pool.leak();
        } else {
            core.pool.reclaim(self.provided.held());
        }
    }
}
