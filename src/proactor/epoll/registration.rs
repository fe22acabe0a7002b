//! One file in the epoll set: how it is registered, what is known of its readiness, who waits.

use std::collections::VecDeque;

use rustix::event::epoll::EventFlags;

use super::super::op::OpId;

/// How the file is in the epoll set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Absent,
    /// Edge-triggered for everything, once and for all: readiness is cached and echo traffic costs no
    /// `epoll_ctl`.
    Edge,
    /// Armed for one event, by polls only: whoever polls reads the file behind our back, so nothing can be
    /// cached, and unasked-for edges would only wake us.
    OneShot,
    /// Regular files cannot be in an epoll set (`EPERM`) and are always ready.
    AlwaysReady,
}

/// The state of one fd number.
pub(super) struct Registration {
    /// Told apart in the event's data, so that late events of a forgotten registration are dropped.
    pub(super) generation: u32,
    pub(super) mode: Mode,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// End of stream, hang-up, error or urgent data was seen: a short read no longer proves that another
    /// edge will come.
    pub(super) sticky: bool,
    /// A short read proves emptiness (asked once).
    pub(super) tcp: Option<bool>,
    pub(super) readers: VecDeque<OpId>,
    pub(super) writers: VecDeque<OpId>,
    pub(super) polls: Vec<OpId>,
    /// In the driver's list of files to try without an event.
    pub(super) listed: bool,
    /// Edges that nobody waited for since the last submit.
    pub(super) unasked: u32,
}

impl Registration {
    pub(super) fn new(generation: u32) -> Self {
        Registration {
            generation,
            mode: Mode::Absent,
            readable: false,
            writable: false,
            sticky: false,
            tcp: None,
            readers: VecDeque::new(),
            writers: VecDeque::new(),
            polls: Vec::new(),
            listed: false,
            unasked: 0,
        }
    }

    /// Takes note of an event.
    pub(super) fn note(&mut self, flags: EventFlags) {
        let broken = EventFlags::HUP | EventFlags::ERR;
        let read = EventFlags::IN | EventFlags::RDHUP | EventFlags::PRI | broken;
        self.readable |= flags.intersects(read);
        self.writable |= flags.intersects(EventFlags::OUT | broken);
        self.sticky |= flags.intersects(EventFlags::RDHUP | EventFlags::PRI | broken);
    }

    /// Forgets what is known of readiness; the next event tells it afresh.
    pub(super) fn doubt(&mut self) {
        self.readable = false;
        self.writable = false;
        self.sticky = false;
    }

    pub(super) fn is_idle(&self) -> bool {
        self.readers.is_empty() && self.writers.is_empty() && self.polls.is_empty()
    }

    /// Takes `id` out of whichever queue it waits in.
    pub(super) fn withdraw(&mut self, id: OpId) {
        self.readers.retain(|&other| other != id);
        self.writers.retain(|&other| other != id);
        self.polls.retain(|&other| other != id);
    }
}
