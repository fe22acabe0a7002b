//! One file in the epoll set: how it is registered, what is known of its readiness, who waits.

use std::collections::VecDeque;
use std::os::fd::RawFd;

use rustix::event::epoll::EventFlags;

use super::super::op::OpId;
use super::super::sys;

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

/// Operations of one kind, in the order in which they came. Nearly always there is one, which takes no memory of
/// its own.
#[derive(Default)]
pub(super) enum Line {
    #[default]
    Empty,
    One(OpId),
    #[allow(clippy::box_collection)]
    // The other two are what most files have, and kept as small as they can be.
    Many(Box<VecDeque<OpId>>),
}

impl Line {
    pub(super) fn push(&mut self, id: OpId) {
        match self {
            Line::Empty => *self = Line::One(id),
            Line::One(first) => *self = Line::Many(Box::new(VecDeque::from([*first, id]))),
            Line::Many(ids) => ids.push_back(id),
        }
    }

    pub(super) fn first(&self) -> Option<OpId> {
        self.iter().next()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first().is_none()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = OpId> {
        let (one, many) = match self {
            Line::Empty => (None, None),
            Line::One(id) => (Some(*id), None),
            Line::Many(ids) => (None, Some(ids)),
        };
        one.into_iter().chain(many.into_iter().flat_map(|ids| ids.iter().copied()))
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(OpId) -> bool) {
        match self {
            Line::Empty => {}
            Line::One(id) => {
                if !keep(*id) {
                    *self = Line::Empty;
                }
            }
            Line::Many(ids) => ids.retain(|&id| keep(id)),
        }
    }
}

/// Who waits on a file for something else than reading: few files ever have any.
#[derive(Default)]
pub(super) struct Others {
    pub(super) writers: Line,
    pub(super) polls: Line,
}

/// The state of one fd number. There is one for each connection, however idle: kept small.
pub(super) struct Registration {
    /// Told apart in the event's data, so that late events of a forgotten registration are dropped.
    pub(super) generation: u32,
    pub(super) mode: Mode,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// End of stream, hang-up, error or urgent data was seen: a short read no longer proves that another
    /// edge will come.
    pub(super) sticky: bool,
    /// A short read proves emptiness. Asked at the first one after the file came into the set: a mark that was
    /// there before, its byte taken by hand, is in no event.
    pub(super) tcp: Option<bool>,
    pub(super) readers: Line,
    others: Option<Box<Others>>,
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
            readers: Line::Empty,
            others: None,
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
        self.tcp = None;
    }

    /// Takes note of a short read of `fd`, this file.
    pub(super) fn note_short_read(&mut self, fd: RawFd) {
        let drained = self.tcp.unwrap_or_else(|| {
            let tcp = sys::is_tcp(fd);
            self.tcp = Some(tcp);
            tcp && !sys::is_at_mark(fd)
        });
        if drained && !self.sticky {
            self.readable = false;
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.readers.is_empty() && self.first_writer().is_none() && !self.is_polled()
    }

    /// Writers and polls, to add one or to take some out.
    pub(super) fn others(&mut self) -> &mut Others {
        self.others.get_or_insert_default()
    }

    pub(super) fn first_writer(&self) -> Option<OpId> {
        self.others.as_ref()?.writers.first()
    }

    pub(super) fn is_polled(&self) -> bool {
        self.others.as_ref().is_some_and(|others| !others.polls.is_empty())
    }

    /// Takes `id` out of whichever queue it waits in.
    pub(super) fn withdraw(&mut self, id: OpId) {
        self.readers.retain(|other| other != id);
        if let Some(others) = &mut self.others {
            others.writers.retain(|other| other != id);
            others.polls.retain(|other| other != id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_keeps_the_order_in_which_they_came() {
        let [a, b, c] = [1, 2, 3].map(|slot| OpId::new(slot, 7));
        let mut line = Line::default();
        assert!(line.is_empty());
        for id in [a, b, c] {
            line.push(id);
            assert_eq!(line.first(), Some(a));
        }
        line.retain(|id| id != a);
        assert_eq!(line.iter().collect::<Vec<_>>(), [b, c]);
        line.retain(|_| false);
        assert!(line.is_empty());
        line.push(a);
        assert_eq!(line.iter().collect::<Vec<_>>(), [a]);
    }
}
