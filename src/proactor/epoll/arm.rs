//! Putting files into the epoll set and keeping them there.

use std::os::fd::RawFd;

use rustix::event::epoll::{self, EventData, EventFlags};

use super::super::driver::Core;
use super::super::error::Errno;
use super::super::op::{OpId, Payload};
use super::super::sys;
use super::super::table::Pending;
use super::Poller;
use super::registration::{Line, Mode, Registration};

impl Poller {
    /// The registration of a number, made if it is new.
    fn entry(&mut self, fd: RawFd) -> Result<&mut Registration, Errno> {
        let index = usize::try_from(fd).map_err(|_| Errno::BADF)?;
        if self.files.len() <= index {
            // A wrong number must not cost its size in memory.
            rustix::io::fcntl_getfd(sys::borrow(fd)?)?;
            self.files.resize_with(index + 1, || None);
        }
        let next_generation = &mut self.next_generation;
        Ok(self.files[index].get_or_insert_with(|| {
            *next_generation = next_generation.wrapping_add(1);
            // The all-ones pattern is the waker's.
            Registration::new(*next_generation & 0x7fff_ffff)
        }))
    }

    /// Makes sure that edges of `fd` are reported.
    pub(super) fn watch(&mut self, fd: RawFd) -> Result<(), Errno> {
        let file = self.entry(fd)?;
        if matches!(file.mode, Mode::Edge | Mode::AlwaysReady) {
            return Ok(());
        }
        file.doubt();
        self.arm_edge(fd, None)
    }

    fn arm_edge(&mut self, fd: RawFd, newcomer: Option<OpId>) -> Result<(), Errno> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::PRI | EventFlags::RDHUP | EventFlags::ET;
        self.control(fd, flags, Mode::Edge, newcomer)
    }

    pub(super) fn arm_poll(&mut self, core: &mut Core, fd: RawFd, id: OpId) {
        let mode = match self.entry(fd) {
            Ok(file) => {
                file.unasked = 0;
                file.others().polls.push(id);
                file.mode
            }
            Err(errno) => return core.complete(id, Err(errno), Payload::None, false),
        };
        // Streams and polls on one file: the edges stay, and arming them again reports the present state.
        match mode {
            Mode::Edge => {
                let armed = self.arm_edge(fd, Some(id));
                self.conclude_polls(core, fd, armed);
            }
            Mode::AlwaysReady | Mode::Absent | Mode::OneShot => self.arm_oneshot(core, fd, Some(id)),
        }
    }

    /// Arms the polls of a file, of which `newcomer` was just submitted.
    pub(super) fn arm_oneshot(&mut self, core: &mut Core, fd: RawFd, newcomer: Option<OpId>) {
        let Some(file) = self.file(fd) else { return };
        let mut flags = EventFlags::ONESHOT;
        for id in file.others().polls.iter() {
            if let Some(Pending::Poll { interest, .. }) = core.table.get(id).map(|entry| &entry.pending) {
                flags |= EventFlags::from_bits_retain(interest.poll_mask());
            }
        }
        let armed = self.control(fd, flags, Mode::OneShot, newcomer);
        self.conclude_polls(core, fd, armed);
    }

    /// Ends the polls of a file of which no event will come: it could not be armed, or turned out to be always ready.
    fn conclude_polls(&mut self, core: &mut Core, fd: RawFd, armed: Result<(), Errno>) {
        if let Err(errno) = armed {
            self.fail_polls(core, fd, errno);
        } else if self.file(fd).is_some_and(|file| file.mode == Mode::AlwaysReady) {
            self.finish_polls(core, fd, EventFlags::IN | EventFlags::OUT);
        }
    }

    fn fail_polls(&mut self, core: &mut Core, fd: RawFd, errno: Errno) {
        let polls = self.file(fd).map(|file| std::mem::take(&mut file.others().polls)).unwrap_or_default();
        for id in polls.iter() {
            core.complete(id, Err(errno), Payload::None, false);
        }
    }

    /// `epoll_ctl`, following files that were closed, opened anew or registered before.
    fn control(
        &mut self,
        fd: RawFd,
        flags: EventFlags,
        mode: Mode,
        newcomer: Option<OpId>,
    ) -> Result<(), Errno> {
        let Some(file) = self.file(fd) else { return Err(Errno::BADF) };
        let data = EventData::new_u64((u64::from(file.generation) << 32) | fd as u64);
        let known = file.mode;
        let borrowed = sys::borrow(fd)?;
        let result = match known {
            Mode::Absent | Mode::AlwaysReady => epoll::add(&self.epoll, borrowed, data, flags),
            Mode::Edge | Mode::OneShot => epoll::modify(&self.epoll, borrowed, data, flags),
        };
        let result = match result {
            Err(Errno::EXIST) => epoll::modify(&self.epoll, borrowed, data, flags),
            Err(Errno::NOENT) => {
                // Another file has taken the number: operations on the old one are left behind.
                self.strand(fd, newcomer);
                epoll::add(&self.epoll, borrowed, data, flags)
            }
            result => result,
        };
        let Some(file) = self.file(fd) else { return Err(Errno::BADF) };
        match result {
            Ok(()) => {
                file.mode = mode;
                Ok(())
            }
            Err(Errno::PERM) => {
                file.mode = Mode::AlwaysReady;
                file.readable = true;
                file.writable = true;
                Ok(())
            }
            Err(errno) => {
                file.mode = Mode::Absent;
                Err(errno)
            }
        }
    }

    /// The number means another file now: of the polls only `newcomer`, which found that out, is about it.
    fn strand(&mut self, fd: RawFd, newcomer: Option<OpId>) {
        if let Some(file) = self.file(fd) {
            let others = file.others();
            others.polls = newcomer.map_or(Line::Empty, Line::One);
            others.writers = Line::Empty;
            file.readers = Line::Empty;
            file.doubt();
        }
    }
}
