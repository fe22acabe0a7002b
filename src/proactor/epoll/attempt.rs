//! One non-blocking try at an operation on a file that seems ready.

use super::super::address::SocketAddress;
use super::super::buffers::{BufferPool, Lease};
use super::super::error::Errno;
use super::super::op::Payload;
use super::super::sys;
use super::super::table::{Pending, Stage};

/// How a try went.
pub(super) enum Attempt {
    /// Terminal.
    Done(Result<u32, Errno>, Payload, Left),
    /// A multishot operation brought something and goes on.
    More(u32, Payload, Left),
    /// Not ready after all.
    Blocked,
    /// No buffer: a multishot receive waits for a lease to come back.
    Starved,
}

/// What a try says about the rest of the file's readiness.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// The buffer was filled: there is likely more.
    More,
    /// The read was short: on TCP the socket is empty and the next byte makes a new edge.
    Short,
    /// No conclusion.
    Unknown,
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

fn done(result: Result<u32, Errno>) -> Attempt {
    match result {
        Err(Errno::AGAIN) => Attempt::Blocked,
        result => Attempt::Done(result, Payload::None, Left::Unknown),
    }
}

/// Tries `pending` once.
pub(super) fn attempt(pending: &mut Pending, pool: &mut BufferPool) -> Attempt {
    match pending {
        Pending::Accept { fd, peer } => match retry(|| sys::accept(*fd, Some(peer))) {
            Ok(accepted) => {
                let payload = Payload::Accepted { fd: accepted, peer: Some(peer.clone()) };
                Attempt::Done(Ok(0), payload, Left::Unknown)
            }
            Err(errno) => done(Err(errno)),
        },
        Pending::AcceptMany { fd } => match retry(|| sys::accept(*fd, None)) {
            Ok(accepted) => Attempt::More(0, Payload::Accepted { fd: accepted, peer: None }, Left::Unknown),
            Err(errno) => done(Err(errno)),
        },
        Pending::Connect { fd, addr, stage } => connect(*fd, addr, stage),
        Pending::Recv { fd, max_len, .. } => receive(*fd, *max_len, pool),
        Pending::RecvMany { fd } => receive_many(*fd, pool),
        Pending::Send { fd, data, offset, sent, flags } => {
            send(*fd, data.bytes().get(*offset..).unwrap_or(&[]), sent, *flags)
        }
        Pending::RecvMsg { fd, message, flags } => match retry(|| sys::recvmsg(*fd, message, *flags)) {
            Ok(len) => Attempt::Done(Ok(len), Payload::None, Left::Unknown),
            Err(errno) => done(Err(errno)),
        },
        Pending::SendMsg { fd, message, flags } => done(retry(|| sys::sendmsg(*fd, message, *flags))),
        Pending::Poll { .. } | Pending::Close { .. } | Pending::Timeout { .. } => Attempt::Blocked,
    }
}

/// The first call starts; a later one, on a writable socket, tells the outcome: `EISCONN` or success,
/// `EALREADY` if the event was not about it, else why it failed.
fn connect(fd: i32, addr: &mut SocketAddress, stage: &mut Stage) -> Attempt {
    let again = std::mem::replace(stage, Stage::Begun) != Stage::New;
    match sys::connect(fd, addr) {
        Ok(()) => done(Ok(0)),
        Err(Errno::ISCONN) if again => done(Ok(0)),
        Err(Errno::INPROGRESS | Errno::ALREADY | Errno::INTR) => Attempt::Blocked,
        // A Unix listener with a full backlog: no event would ever come.
        Err(errno) => Attempt::Done(Err(errno), Payload::None, Left::Unknown),
    }
}

fn receive(fd: i32, max_len: u32, pool: &mut BufferPool) -> Attempt {
    let len = max_len.min(pool.buffer_len());
    match pool.fill(len, |room| retry(|| sys::recv(fd, room))) {
        None => receive_on_heap(fd, len),
        Some(Ok(Some(lease))) => received(lease, len),
        Some(nothing) => done(nothing.map(|_| 0)),
    }
}

fn receive_on_heap(fd: i32, len: u32) -> Attempt {
    let mut bytes = vec![0; len as usize].into_boxed_slice();
    match retry(|| sys::recv(fd, &mut bytes)) {
        Ok(count @ 1..) => received(Lease::heap(bytes, count), len),
        nothing => done(nothing),
    }
}

fn received(lease: Lease, len: u32) -> Attempt {
    let count = lease.len() as u32;
    Attempt::Done(Ok(count), Payload::Lease(lease), left(count, len))
}

fn receive_many(fd: i32, pool: &mut BufferPool) -> Attempt {
    let len = pool.buffer_len();
    match pool.fill(len, |room| retry(|| sys::recv(fd, room))) {
        None => Attempt::Starved,
        Some(Ok(Some(lease))) => {
            let count = lease.len() as u32;
            Attempt::More(count, Payload::Lease(lease), left(count, len))
        }
        Some(nothing) => done(nothing.map(|_| 0)),
    }
}

fn left(received: u32, len: u32) -> Left {
    if received < len { Left::Short } else { Left::More }
}

/// Sends until all is gone or the socket is full.
fn send(fd: i32, bytes: &[u8], sent: &mut u32, flags: i32) -> Attempt {
    loop {
        let rest = &bytes[(*sent as usize).min(bytes.len())..];
        match retry(|| sys::send(fd, rest, flags)) {
            Ok(len) => {
                *sent = sent.saturating_add(len);
                if len as usize >= rest.len() || len == 0 || *sent > u32::MAX / 2 {
                    return done(Ok(*sent));
                }
            }
            Err(Errno::AGAIN) => return Attempt::Blocked,
            Err(_) if *sent > 0 => return done(Ok(*sent)),
            Err(errno) => return done(Err(errno)),
        }
    }
}
