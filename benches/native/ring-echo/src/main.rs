//! Native ceiling: an echo server on the bare `io-uring` crate.
//!
//! One enter per turn; each connection owns one buffer and has one operation in flight, which is a
//! receive or the send of what it brought. Prints one JSON line with its port when it listens, then
//! serves until it is killed.

use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use slab::Slab;

const RING_ENTRIES: u32 = 4096;
const ACCEPT: u64 = u64::MAX;
/// `IORING_RECVSEND_POLL_FIRST`: an idle connection is not tried in vain before it is polled.
const POLL_FIRST: u16 = 1;

struct Connection {
    socket: OwnedFd,
    buffer: Box<[u8]>,
    /// Bytes of the buffer to send and how many are sent; `0..0` while receiving.
    sent: usize,
    filled: usize,
}

fn main() -> io::Result<()> {
    let buffer_bytes = match std::env::args().nth(1) {
        Some(text) => text.parse().map_err(io::Error::other)?,
        None => 4096,
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    raise_backlog(&listener)?;
    let port = listener.local_addr()?.port();
    println!("{{\"port\": {port}, \"driver\": \"io_uring\"}}");
    io::stdout().flush()?;

    let mut ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_cqsize(RING_ENTRIES * 4)
        .build(RING_ENTRIES)?;
    serve(&mut ring, listener.as_raw_fd(), buffer_bytes)
}

fn serve(ring: &mut IoUring, listener: RawFd, buffer_bytes: usize) -> io::Result<()> {
    let mut connections: Slab<Connection> = Slab::new();
    let mut completed: Vec<(u64, i32, u32)> = Vec::with_capacity(RING_ENTRIES as usize);
    push(ring, &accept(listener))?;
    loop {
        match ring.submit_and_wait(1) {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
        completed.extend(ring.completion().map(|cqe| (cqe.user_data(), cqe.result(), cqe.flags())));
        for (user_data, result, flags) in completed.drain(..) {
            if user_data == ACCEPT {
                if !cqueue::more(flags) {
                    push(ring, &accept(listener))?;
                }
                if result >= 0 {
                    let key = connections.insert(Connection::new(result, buffer_bytes)?);
                    push(ring, &receive(&mut connections[key], key))?;
                }
                continue;
            }
            let key = user_data as usize;
            let next = advance(&mut connections[key], key, result);
            match next {
                Some(entry) => push(ring, &entry)?,
                None => drop(connections.remove(key)),
            }
        }
    }
}

/// The operation that follows a completion; `None` ends the connection.
fn advance(connection: &mut Connection, key: usize, result: i32) -> Option<squeue::Entry> {
    let count = usize::try_from(result).ok().filter(|&count| count > 0)?;
    if connection.filled == 0 {
        connection.filled = count;
        return Some(send(connection, key));
    }
    connection.sent += count;
    if connection.sent < connection.filled {
        return Some(send(connection, key));
    }
    (connection.sent, connection.filled) = (0, 0);
    Some(receive(connection, key))
}

fn accept(listener: RawFd) -> squeue::Entry {
    opcode::AcceptMulti::new(types::Fd(listener)).flags(libc::SOCK_CLOEXEC).build().user_data(ACCEPT)
}

fn receive(connection: &mut Connection, key: usize) -> squeue::Entry {
    let fd = types::Fd(connection.socket.as_raw_fd());
    let length = connection.buffer.len() as u32;
    opcode::Recv::new(fd, connection.buffer.as_mut_ptr(), length)
        .ioprio(POLL_FIRST)
        .build()
        .user_data(key as u64)
}

fn send(connection: &Connection, key: usize) -> squeue::Entry {
    let fd = types::Fd(connection.socket.as_raw_fd());
    let bytes = &connection.buffer[connection.sent..connection.filled];
    opcode::Send::new(fd, bytes.as_ptr(), bytes.len() as u32)
        .flags(libc::MSG_NOSIGNAL)
        .build()
        .user_data(key as u64)
}

fn push(ring: &mut IoUring, entry: &squeue::Entry) -> io::Result<()> {
    loop {
        // SAFETY: the buffer an entry points to is boxed in its `Connection`, which stays in the slab
        // until the one completion of this operation has been seen; accept takes no buffer.
        if unsafe { ring.submission().push(entry) }.is_ok() {
            return Ok(());
        }
        ring.submit()?;
    }
}

impl Connection {
    fn new(fd: RawFd, buffer_bytes: usize) -> io::Result<Self> {
        // SAFETY: the kernel has just given this descriptor to us in an accept completion.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let stream = std::net::TcpStream::from(socket);
        stream.set_nodelay(true)?;
        Ok(Connection {
            socket: stream.into(),
            buffer: vec![0; buffer_bytes].into_boxed_slice(),
            sent: 0,
            filled: 0,
        })
    }
}

/// The standard library listens with 128; a thousand clients connect at once here.
fn raise_backlog(listener: &TcpListener) -> io::Result<()> {
    // SAFETY: plain system call on a descriptor that `listener` keeps open.
    match unsafe { libc::listen(listener.as_raw_fd(), 4096) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
