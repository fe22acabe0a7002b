//! The readiness driver: the same contract over epoll and non-blocking calls.
//!
//! Files that operations work on are registered once, edge-triggered for everything, and their readiness
//! is cached: an event sets it, `EAGAIN` (on TCP also a short read) clears it. In steady state an echo
//! costs `recv`, `send` and its share of one `epoll_wait`.
//!
//! A TCP read is short at an urgent mark too. `EPOLLPRI` tells of a mark as long as nobody has taken its byte;
//! of one whose byte was taken before its file came into the set, the first short read asks. What stays unseen is
//! a byte taken by hand (`MSG_OOB`) between its arrival and the wait that would have told of it: the bytes
//! behind its mark then come with the next ones.
//!
//! A poll cannot trust the cache, because whoever polls also reads by himself. Arming it is an
//! `EPOLL_CTL_MOD`, which reports the state of the moment again, and at the same time notices a number
//! that means another file now (`ENOENT`).

mod arm;
mod attempt;
mod registration;

use std::collections::{BTreeSet, VecDeque};
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};

use super::driver::Core;
use super::error::{Errno, SetupError};
use super::op::{OpId, Payload};
use super::sys;
use super::table::{Pending, Stage};
use super::wake::Waker;
use attempt::{Attempt, Left};
use registration::{Mode, Registration};

/// Events taken by one wait.
const EVENTS: usize = 128;
/// Completions one multishot operation may make in one wait, so that a flood on one socket starves nobody.
const BURST: usize = 32;
/// Edges in a row that nobody waited for, until the file leaves the epoll set.
const UNASKED_EDGES: u32 = 4;
const WAKE: u64 = u64::MAX;

/// The epoll set and the files in it.
pub(crate) struct Poller {
    epoll: OwnedFd,
    files: Vec<Option<Registration>>,
    next_generation: u32,
    /// Files believed ready, to be tried without an event.
    ready: VecDeque<RawFd>,
    /// Multishot receives that wait for a buffer.
    starved: Vec<RawFd>,
    deadlines: BTreeSet<(Instant, OpId)>,
}

enum Side {
    Read,
    Write,
}

impl Poller {
    pub(super) fn new(waker: &Waker) -> Result<Self, SetupError> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|errno| SetupError::new("epoll_create1", errno))?;
        let eventfd = waker.as_fd().map_err(|errno| SetupError::new("epoll_ctl", errno))?;
        epoll::add(&epoll, eventfd, EventData::new_u64(WAKE), EventFlags::IN | EventFlags::ET)
            .map_err(|errno| SetupError::new("epoll_ctl", errno))?;
        Ok(Poller {
            epoll,
            files: Vec::new(),
            next_generation: 0,
            ready: VecDeque::new(),
            starved: Vec::new(),
            deadlines: BTreeSet::new(),
        })
    }

    /// In a forked child: lets go of the parent's set, of which the child has a number at most, and cannot tell whether
    /// it has.
    pub(super) fn leave(self) {
        let _ = self.epoll.into_raw_fd();
    }

    pub(super) fn submit(&mut self, core: &mut Core, id: OpId) {
        let Some(entry) = core.table.get(id) else { return };
        let side = match &entry.pending {
            Pending::Timeout { deadline, .. } => {
                self.deadlines.insert((*deadline, id));
                return;
            }
            Pending::Close { fd } => {
                let fd = *fd;
                self.forget(fd);
                core.complete(id, sys::close(fd), Payload::None, false);
                return;
            }
            Pending::Poll { fd, .. } => {
                let fd = *fd;
                return self.arm_poll(core, fd, id);
            }
            Pending::Send { .. } | Pending::SendMsg { .. } | Pending::Connect { .. } => Side::Write,
            _ => Side::Read,
        };
        let Some(fd) = entry.pending.fd() else { return };
        if let Pending::Connect { stage: Stage::New, .. } = entry.pending {
            match attempt::attempt(&mut entry.pending, &mut core.pool) {
                Attempt::Done(result, payload, _) => return core.complete(id, result, payload, false),
                // What was known of the socket before it began to connect says nothing.
                _ => self.doubt(fd),
            }
        }
        if let Err(errno) = self.watch(fd) {
            return core.complete(id, Err(errno), Payload::None, false);
        }
        let Some(file) = self.file(fd) else { return };
        file.unasked = 0;
        let ready = match side {
            Side::Read => {
                file.readers.push(id);
                file.readable
            }
            Side::Write => {
                file.others().writers.push(id);
                file.writable
            }
        };
        if ready {
            self.list(fd);
        }
    }

    pub(super) fn cancel(&mut self, core: &mut Core, id: OpId) {
        let Some(entry) = core.table.get(id) else { return };
        if let Pending::Timeout { deadline, .. } = entry.pending {
            self.deadlines.remove(&(deadline, id));
        }
        if let Some(fd) = entry.pending.fd()
            && let Some(file) = self.file(fd)
        {
            file.withdraw(id);
            // One that waited for a buffer held up those behind it, which may need none.
            if file.readable && !file.readers.is_empty() {
                self.list(fd);
            }
        }
        core.give_up(id);
    }

    /// The number means, or will mean, another file. Operations on the old one stay in the table without
    /// progress until they are cancelled: they can no longer be named to the kernel.
    pub(super) fn forget(&mut self, fd: RawFd) {
        let Some(slot) = usize::try_from(fd).ok().and_then(|index| self.files.get_mut(index)) else { return };
        let registered = slot.take().is_some_and(|file| matches!(file.mode, Mode::Edge | Mode::OneShot));
        // A close takes the file out of the set only if nobody else has it open: a duplicate or a forked
        // child's copy would go on waking us. For a number that is another file already this says ENOENT.
        if registered && let Ok(borrowed) = sys::borrow(fd) {
            let _ = epoll::delete(&self.epoll, borrowed);
        }
    }

    pub(super) fn wait(&mut self, core: &mut Core, timeout: Option<Duration>) -> std::io::Result<()> {
        if !self.starved.is_empty() && core.pool.has_free() {
            core.pool.await_buffer(false);
            for fd in std::mem::take(&mut self.starved) {
                self.list(fd);
            }
        }
        for _ in 0..self.ready.len() {
            let Some(fd) = self.ready.pop_front() else { break };
            if let Some(file) = self.file(fd) {
                file.listed = false;
                self.progress(core, fd);
            }
        }
        let mut room = [epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; EVENTS];
        let taken = take_events(&self.epoll, &mut room, self.limit(core, timeout));
        self.expire(core);
        let count = match taken {
            Err(Errno::INTR) => 0,
            taken => taken?,
        };
        for event in &room[..count] {
            self.dispatch(core, event.data.u64(), event.flags);
        }
        Ok(())
    }

    /// How long the wait may block.
    fn limit(&self, core: &Core, timeout: Option<Duration>) -> Option<Duration> {
        let is_fed = !self.starved.is_empty() && core.pool.has_free();
        if !core.queued.is_empty() || !self.ready.is_empty() || is_fed {
            return Some(Duration::ZERO);
        }
        let Some((deadline, _)) = self.deadlines.first() else { return timeout };
        let left = deadline.saturating_duration_since(Instant::now());
        Some(timeout.map_or(left, |timeout| timeout.min(left)))
    }

    fn expire(&mut self, core: &mut Core) {
        if self.deadlines.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(&(deadline, id)) = self.deadlines.first() {
            if deadline > now {
                return;
            }
            self.deadlines.pop_first();
            core.complete(id, Ok(0), Payload::None, false);
        }
    }

    fn dispatch(&mut self, core: &mut Core, data: u64, flags: EventFlags) {
        if data == WAKE {
            core.waker.clear();
            return;
        }
        let (fd, generation) = ((data & 0xffff_ffff) as RawFd, (data >> 32) as u32);
        let Some(file) = self.file(fd) else { return };
        if file.generation != generation {
            return;
        }
        if file.is_idle() {
            file.unasked += 1;
            if file.mode == Mode::Edge && file.unasked > UNASKED_EDGES {
                // Nobody reads it any more: the next submit registers it again.
                file.mode = Mode::Absent;
                file.doubt();
                if let Ok(borrowed) = sys::borrow(fd) {
                    let _ = epoll::delete(&self.epoll, borrowed);
                }
                return;
            }
        }
        if file.mode == Mode::Edge {
            file.note(flags);
        }
        // What came before what can be sent: a reset takes both, and the bytes were there first.
        self.progress(core, fd);
        self.finish_polls(core, fd, flags);
    }

    /// Completes the polls that `flags` answers, and arms the others again.
    fn finish_polls(&mut self, core: &mut Core, fd: RawFd, flags: EventFlags) {
        let Some(file) = self.file(fd) else { return };
        if !file.is_polled() {
            return;
        }
        let mut answered = Vec::new();
        file.others().polls.retain(|id| {
            let wanted = match core.table.get(id).map(|entry| &entry.pending) {
                Some(Pending::Poll { interest, .. }) => interest.poll_mask(),
                _ => 0,
            };
            let mask = flags.bits() & (wanted | (libc::POLLERR | libc::POLLHUP) as u32);
            if mask != 0 {
                answered.push((id, mask));
            }
            mask == 0
        });
        let rearm = file.mode == Mode::OneShot && file.is_polled();
        for (id, mask) in answered {
            core.complete(id, Ok(mask), Payload::None, false);
        }
        if rearm {
            self.arm_oneshot(core, fd, None);
        }
    }

    /// Tries the operations of a file for as long as it is ready.
    fn progress(&mut self, core: &mut Core, fd: RawFd) {
        for side in [Side::Read, Side::Write] {
            let mut budget = BURST;
            while let Some(file) = self.file(fd) {
                let next = match side {
                    Side::Read if file.readable => file.readers.first(),
                    Side::Write if file.writable => file.first_writer(),
                    _ => None,
                };
                let Some(id) = next else { break };
                if budget == 0 {
                    self.list(fd);
                    break;
                }
                budget -= 1;
                if !self.step(core, fd, id, &side) {
                    break;
                }
            }
        }
    }

    /// One try of the first operation of one side. False if the side goes no further now.
    fn step(&mut self, core: &mut Core, fd: RawFd, id: OpId, side: &Side) -> bool {
        let Some(entry) = core.table.get(id) else {
            if let Some(file) = self.file(fd) {
                file.withdraw(id);
            }
            return true;
        };
        let outcome = attempt::attempt(&mut entry.pending, &mut core.pool);
        let token = entry.token;
        let Some(file) = self.file(fd) else { return false };
        let left = match outcome {
            Attempt::Blocked => {
                let always = file.mode == Mode::AlwaysReady;
                match side {
                    Side::Read => file.readable = always,
                    Side::Write => file.writable = always,
                }
                return false;
            }
            Attempt::Starved => {
                self.starved.push(fd);
                // `limit` looks once more before the next sleep.
                core.pool.await_buffer(true);
                return false;
            }
            Attempt::More(result, payload, left) => {
                core.queue_more(id, token, result, payload, left == Left::More);
                left
            }
            Attempt::Done(result, payload, left) => {
                file.withdraw(id);
                core.complete(id, result, payload, left == Left::More);
                left
            }
        };
        if left == Left::Short {
            let Some(file) = self.file(fd) else { return false };
            file.note_short_read(fd);
        }
        true
    }

    fn file(&mut self, fd: RawFd) -> Option<&mut Registration> {
        let index = usize::try_from(fd).ok()?;
        self.files.get_mut(index)?.as_mut()
    }

    fn list(&mut self, fd: RawFd) {
        if let Some(file) = self.file(fd)
            && !std::mem::replace(&mut file.listed, true)
        {
            self.ready.push_back(fd);
        }
    }

    fn doubt(&mut self, fd: RawFd) {
        if let Some(file) = self.file(fd) {
            file.doubt();
            if file.mode == Mode::Edge {
                file.mode = Mode::OneShot;
            }
        }
    }
}

/// Nanoseconds where the kernel has `epoll_pwait2` (5.11), else milliseconds rounded up: early would be a
/// busy loop. How many events were taken.
fn take_events(
    epoll: &OwnedFd,
    room: &mut [epoll::Event],
    timeout: Option<Duration>,
) -> Result<usize, Errno> {
    let timespec = |timeout: Duration| rustix::event::Timespec {
        tv_sec: timeout.as_secs().min(i64::MAX as u64 / 4) as i64,
        tv_nsec: timeout.subsec_nanos().into(),
    };
    match epoll::wait(epoll, &mut *room, timeout.map(timespec).as_ref()) {
        Err(Errno::NOSYS | Errno::PERM) => {
            // rustix asks for whole milliseconds by the older call.
            let ms = |timeout: Duration| timeout.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128);
            let rounded = timeout.map(|timeout| timespec(Duration::from_millis(ms(timeout) as u64)));
            epoll::wait(epoll, room, rounded.as_ref())
        }
        result => result,
    }
}
