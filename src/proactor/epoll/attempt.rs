//! One non-blocking try at an operation on a file that seems ready.

use super::super::buffers::{BufferPool, Lease};
use super::super::error::Errno;
use super::super::op::Payload;
use super::super::sys;
use super::super::table::Pending;

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
        Pending::Connect { fd, addr, started } => connect(*fd, addr, started),
        Pending::Recv { fd, max_len, .. } => receive(*fd, *max_len, pool),
        Pending::RecvMany { fd } => receive_many(*fd, pool),
        Pending::Send { fd, data, offset, sent, flags } => {
            send(*fd, data.bytes().get(*offset..).unwrap_or(&[]), sent, *flags)
        }
        Pending::RecvMsg { fd, message, flags } => {
            match retry(|| sys::recvmsg(*fd, message.header(), *flags)) {
                Ok(len) => Attempt::Done(Ok(len), Payload::None, Left::Unknown),
                Err(errno) => done(Err(errno)),
            }
        }
        Pending::SendMsg { fd, message, flags } => {
            done(retry(|| sys::sendmsg(*fd, message.header(), *flags)))
        }
        Pending::Poll { .. } | Pending::Close { .. } | Pending::Timeout { .. } => Attempt::Blocked,
    }
}

/// The first call starts; a later one, on a writable socket, tells the outcome: `EISCONN` or success,
/// `EALREADY` if the event was not about it, else why it failed.
fn connect(fd: i32, addr: &mut super::super::address::SocketAddress, started: &mut bool) -> Attempt {
    let again = std::mem::replace(started, true);
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
    let Some(buffer) = pool.take() else { return receive_on_heap(fd, len) };
    let result = retry(|| sys::recv(fd, pool.address(buffer), len as usize));
    match result {
        Ok(received) if received > 0 => {
            Attempt::Done(Ok(received), Payload::Lease(pool.lend(buffer, received)), left(received, len))
        }
        result => {
            pool.put(buffer);
            done(result)
        }
    }
}

fn receive_on_heap(fd: i32, len: u32) -> Attempt {
    let mut bytes = vec![0; len as usize].into_boxed_slice();
    match retry(|| sys::recv(fd, bytes.as_mut_ptr(), bytes.len())) {
        Ok(received) if received > 0 => {
            Attempt::Done(Ok(received), Payload::Lease(Lease::heap(bytes, received)), left(received, len))
        }
        result => done(result),
    }
}

fn receive_many(fd: i32, pool: &mut BufferPool) -> Attempt {
    let len = pool.buffer_len();
    let Some(buffer) = pool.take() else { return Attempt::Starved };
    match retry(|| sys::recv(fd, pool.address(buffer), len as usize)) {
        Ok(received) if received > 0 => {
            Attempt::More(received, Payload::Lease(pool.lend(buffer, received)), left(received, len))
        }
        result => {
            pool.put(buffer);
            done(result)
        }
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
