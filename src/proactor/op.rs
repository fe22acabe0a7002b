//! The nouns of the contract: operations, their ids, completions and payloads.

use std::os::fd::{OwnedFd, RawFd};
use std::time::Duration;

use super::address::SocketAddress;
use super::buffers::Lease;
use super::error::Errno;
use super::message::StableBytes;

/// Names one submitted operation: slot and generation, never reused while anyone could hold it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpId(u64);

impl OpId {
    pub(crate) fn new(slot: usize, generation: u32) -> Self {
        OpId((u64::from(generation) << 32) | slot as u64)
    }

    pub(crate) fn slot(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }

    pub(crate) fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        OpId(bits)
    }

    /// The id as one number, for tables and telemetry.
    pub fn bits(self) -> u64 {
        self.0
    }
}

impl std::fmt::Debug for OpId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpId({}#{})", self.slot(), self.generation())
    }
}

/// What a [`Op::Poll`] waits for. Errors and hang-ups are always reported too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest(u8);

impl Interest {
    /// Readable or urgent data: `POLLIN | POLLPRI`.
    pub const READ: Interest = Interest(1);
    /// Writable: `POLLOUT`.
    pub const WRITE: Interest = Interest(2);
    /// Either.
    pub const BOTH: Interest = Interest(3);

    /// The `poll(2)` bits to wait for.
    pub(crate) fn poll_mask(self) -> u32 {
        let mut mask = 0;
        if self.0 & 1 != 0 {
            mask |= libc::POLLIN | libc::POLLPRI;
        }
        if self.0 & 2 != 0 {
            mask |= libc::POLLOUT;
        }
        mask as u32
    }
}

/// One operation. Whatever it needs is moved into it and lives until its terminal completion.
pub enum Op {
    /// Accept one connection (non-blocking, close-on-exec). Payload: [`Payload::Accepted`] with the peer.
    Accept {
        /// The listening socket.
        fd: RawFd,
    },
    /// Accept until cancelled or failed; each connection is a completion with `more`. `EMFILE` ends it
    /// and leaves the connection in the backlog: submit again when files are free.
    AcceptMany {
        /// The listening socket.
        fd: RawFd,
    },
    /// Connect, and complete when established or refused.
    Connect {
        /// The socket.
        fd: RawFd,
        /// Where to.
        addr: SocketAddress,
    },
    /// Receive once. Payload: [`Payload::Lease`] of at most `min(max_len, buffer_len)` bytes; end of
    /// stream is `Ok(0)` without payload.
    Recv {
        /// The socket.
        fd: RawFd,
        /// Read no more than this many bytes.
        max_len: u32,
    },
    /// Receive until end of stream (`Ok(0)`, terminal), error or cancel; each piece is a completion with
    /// `more`. Stops, and goes on by itself, while all pooled buffers are lent out.
    RecvMany {
        /// The socket.
        fd: RawFd,
    },
    /// Send `data[offset..]`, all of it. Fewer bytes than that mean that it was cancelled or failed
    /// half-way; sending the rest brings the error up.
    Send {
        /// The socket.
        fd: RawFd,
        /// The bytes, owned until the terminal completion.
        data: Box<dyn StableBytes>,
        /// Where to begin.
        offset: usize,
        /// `MSG_*`; `MSG_NOSIGNAL` is always added.
        flags: i32,
    },
    /// Receive one datagram with its source. Payload: [`Payload::Datagram`].
    RecvMsg {
        /// The socket.
        fd: RawFd,
        /// Longer datagrams are cut (`MSG_TRUNC` in the payload's flags).
        max_len: u32,
        /// `MSG_*`.
        flags: i32,
    },
    /// Send one datagram.
    SendMsg {
        /// The socket.
        fd: RawFd,
        /// The bytes, owned until the terminal completion.
        data: Box<dyn StableBytes>,
        /// Where to; `None` on a connected socket.
        addr: Option<SocketAddress>,
        /// `MSG_*`; `MSG_NOSIGNAL` is always added.
        flags: i32,
    },
    /// Wait once for readiness, which counts if it is already there. The result is the `POLL*` mask.
    /// Files that cannot be polled are ready at once.
    Poll {
        /// Any file.
        fd: RawFd,
        /// What to wait for.
        interest: Interest,
    },
    /// Close the number, once, also if this is cancelled or the proactor dropped. Cancel operations on it first: the
    /// kernel keeps a file open while one is in flight.
    Close {
        /// The number to close.
        fd: RawFd,
    },
    /// Complete with `Ok(0)` when `after` has passed since the submit.
    Timeout {
        /// How long from now.
        after: Duration,
    },
}

/// What came with a completion. Dropping it frees it: a lease goes back to the pool, a connection closes.
#[derive(Default)]
pub enum Payload {
    /// Nothing.
    #[default]
    None,
    /// Received bytes in a pooled buffer.
    Lease(Lease),
    /// One datagram.
    Datagram {
        /// Its bytes.
        data: Vec<u8>,
        /// Who sent it, where the protocol says so.
        from: Option<SocketAddress>,
        /// `msg_flags` of `recvmsg(2)`, e.g. `MSG_TRUNC`.
        flags: i32,
    },
    /// The bytes of a send, given back: they are the caller's to drop, outside the driver.
    Sent(Box<dyn StableBytes>),
    /// An accepted connection; the peer's address comes with [`Op::Accept`], not with [`Op::AcceptMany`].
    Accepted {
        /// The new connection, non-blocking and close-on-exec.
        fd: OwnedFd,
        /// Who connected.
        peer: Option<SocketAddress>,
    },
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Payload::None => f.write_str("None"),
            Payload::Lease(lease) => lease.fmt(f),
            Payload::Datagram { data, from, flags } => {
                write!(f, "Datagram({} bytes from {from:?}, flags {flags:#x})", data.len())
            }
            Payload::Sent(data) => write!(f, "Sent({} bytes)", data.bytes().len()),
            Payload::Accepted { fd, peer } => write!(f, "Accepted({fd:?} from {peer:?})"),
        }
    }
}

/// One event of one operation.
#[derive(Debug)]
pub struct Completion {
    /// The operation.
    pub id: OpId,
    /// What the submitter attached.
    pub token: u64,
    /// Bytes, poll mask, or zero; or the errno.
    pub result: Result<u32, Errno>,
    /// The operation goes on: this is not its terminal completion.
    pub more: bool,
    /// More bytes wait in the socket (a hint: on epoll a read that filled its buffer).
    pub sock_nonempty: bool,
    /// What the operation brought.
    pub payload: Payload,
}
