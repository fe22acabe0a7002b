//! The table of operations in flight: owner of everything the kernel may touch.

use std::num::NonZeroU64;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use slab::Slab;

use super::address::SocketAddress;
use super::error::Errno;
use super::message::{Message, StableBytes};
use super::op::{Interest, Op, OpId, Payload};
use super::sys;

/// An operation together with the heap memory that the kernel reads or writes for it.
///
/// A slot moves when the slab grows, so every address handed to the kernel points into a box or a vector
/// owned from here, never at the slot.
pub(crate) enum Pending {
    Accept {
        fd: RawFd,
        peer: SocketAddress,
    },
    AcceptMany {
        fd: RawFd,
    },
    Connect {
        fd: RawFd,
        addr: SocketAddress,
        stage: Stage,
    },
    /// `heap` replaces the pooled buffer while the pool is lent out.
    Recv {
        fd: RawFd,
        max_len: u32,
        heap: Option<Box<[u8]>>,
    },
    RecvMany {
        fd: RawFd,
    },
    Send {
        fd: RawFd,
        data: Box<dyn StableBytes>,
        offset: usize,
        sent: u32,
        flags: i32,
    },
    RecvMsg {
        fd: RawFd,
        message: Box<Message>,
        flags: i32,
    },
    SendMsg {
        fd: RawFd,
        message: Box<Message>,
        flags: i32,
    },
    Poll {
        fd: RawFd,
        interest: Interest,
    },
    Close {
        fd: RawFd,
    },
    Timeout {
        deadline: Instant,
        timespec: Box<io_uring::types::Timespec>,
    },
}

/// How far an attempt to connect has got, as far as this process knows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Not begun: a connection that is there already is an error.
    New,
    /// Perhaps begun, by a call of ours or on the other side of a fork. Another `connect(2)` is harmless and tells the
    /// truth: it begins what was not begun, and of what was it says how it stands.
    Begun,
    /// Known to be under way: the ring waits for the socket to become writable, then asks again.
    UnderWay,
}

impl Pending {
    /// The file the operation works on.
    pub(crate) fn fd(&self) -> Option<RawFd> {
        match *self {
            Pending::Accept { fd, .. }
            | Pending::AcceptMany { fd }
            | Pending::Connect { fd, .. }
            | Pending::Recv { fd, .. }
            | Pending::RecvMany { fd }
            | Pending::Send { fd, .. }
            | Pending::RecvMsg { fd, .. }
            | Pending::SendMsg { fd, .. }
            | Pending::Poll { fd, .. }
            | Pending::Close { fd } => Some(fd),
            Pending::Timeout { .. } => None,
        }
    }
}

impl Pending {
    /// Ends the operation: what the kernel wrote for it, or what it was to send, goes to the caller.
    pub(crate) fn finish(self, result: &Result<u32, Errno>, payload: Payload) -> Payload {
        match (self, result) {
            (Pending::RecvMsg { message, .. }, Ok(len)) => {
                let (data, from, flags) = message.received(*len);
                Payload::Datagram { data, from, flags }
            }
            (Pending::Send { data, .. }, _) => Payload::Sent(data),
            (Pending::SendMsg { message, .. }, _) => message.sent().map_or(Payload::None, Payload::Sent),
            _ => payload,
        }
    }
}

impl From<Op> for Pending {
    fn from(op: Op) -> Self {
        match op {
            Op::Accept { fd } => Pending::Accept { fd, peer: SocketAddress::empty() },
            Op::AcceptMany { fd } => Pending::AcceptMany { fd },
            Op::Connect { fd, addr } => Pending::Connect { fd, addr, stage: Stage::New },
            // A receive of nothing needs no buffer, and to the kernel length 0 would mean "a whole one".
            Op::Recv { fd, max_len: 0 } => Pending::Recv { fd, max_len: 0, heap: Some(Box::default()) },
            Op::Recv { fd, max_len } => Pending::Recv { fd, max_len, heap: None },
            Op::RecvMany { fd } => Pending::RecvMany { fd },
            Op::Send { fd, data, offset, flags } => Pending::Send { fd, data, offset, sent: 0, flags },
            Op::RecvMsg { fd, max_len, flags } => {
                Pending::RecvMsg { fd, message: Message::receive(max_len as usize), flags }
            }
            Op::SendMsg { fd, data, addr, flags } => {
                Pending::SendMsg { fd, message: Message::send(data, addr), flags }
            }
            Op::Poll { fd, interest } => Pending::Poll { fd, interest },
            Op::Close { fd } => Pending::Close { fd },
            Op::Timeout { after } => {
                // Some centuries are as good as never, and keep the clock from overflowing.
                let deadline = Instant::now() + after.min(Duration::from_secs(10_000_000_000));
                Pending::Timeout { deadline, timespec: Box::new(io_uring::types::Timespec::new()) }
            }
        }
    }
}

pub(crate) struct Entry {
    generation: u32,
    pub(crate) token: u64,
    /// A cancel was asked for: the driver no longer continues or retries on its own.
    pub(crate) cancelled: bool,
    /// Its place, from 1, among all that was ever put into the ring's submission queue, which the kernel takes in order.
    /// Never wraps: an operation may be in flight for as long as the process lives. None: the kernel does not have it, as
    /// it waits for room or for a buffer.
    pub(crate) ticket: Option<NonZeroU64>,
    pub(crate) pending: Pending,
}

impl Entry {
    /// A close that the kernel took from a former ring, in the parent: the number is closed here too, and may mean another
    /// file already.
    pub(crate) fn is_closing_elsewhere(&self) -> bool {
        matches!(self.pending, Pending::Close { .. }) && self.ticket.is_some()
    }

    /// Ends an operation on which no kernel works for this process; what it came to.
    pub(crate) fn give_up(&self) -> Result<u32, Errno> {
        match self.pending {
            // What is sent cannot be called back.
            Pending::Send { sent, .. } if sent > 0 => Ok(sent),
            Pending::Close { .. } if self.is_closing_elsewhere() => Ok(0),
            // Nobody else would ever close it.
            Pending::Close { fd } => sys::close(fd),
            _ => Err(Errno::CANCELED),
        }
    }

    /// In a forked child: the parent has the operation too, and what it works on.
    pub(crate) fn follow_fork(&mut self) {
        if let Pending::Connect { stage, .. } = &mut self.pending {
            *stage = Stage::Begun;
        }
    }
}

/// Operations by [`OpId`]. The generation is one counter for the whole table, so an id comes back only
/// after 2^32 operations, and then only if it meets its own slot.
pub(crate) struct Table {
    entries: Slab<Entry>,
    next_generation: u32,
}

impl Table {
    pub(crate) fn new() -> Self {
        Table { entries: Slab::new(), next_generation: 1 }
    }

    #[inline]
    pub(crate) fn insert(&mut self, pending: Pending, token: u64) -> OpId {
        let generation = self.next_generation;
        // Generation 0 marks the driver's own submissions (wake-up, cancel).
        self.next_generation = generation.checked_add(1).unwrap_or(1);
        let slot = self.entries.insert(Entry { generation, token, cancelled: false, ticket: None, pending });
        OpId::new(slot, generation)
    }

    #[inline]
    pub(crate) fn get(&mut self, id: OpId) -> Option<&mut Entry> {
        self.entries.get_mut(id.slot()).filter(|entry| entry.generation == id.generation())
    }

    pub(crate) fn contains(&self, id: OpId) -> bool {
        self.entries.get(id.slot()).is_some_and(|entry| entry.generation == id.generation())
    }

    #[inline]
    pub(crate) fn remove(&mut self, id: OpId) -> Option<Entry> {
        self.contains(id).then(|| self.entries.remove(id.slot()))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn entries(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.iter_mut().map(|(_, entry)| entry)
    }

    /// Every id, for submitting again after a fork.
    pub(crate) fn ids(&self) -> Vec<OpId> {
        self.entries.iter().map(|(slot, entry)| OpId::new(slot, entry.generation)).collect()
    }

    /// Gives all entries up without freeing them: the kernel may still hold their addresses.
    pub(crate) fn leak(&mut self) {
        for entry in std::mem::take(&mut self.entries) {
            std::mem::forget(entry);
        }
    }
}
