//! Connection churn: connect, one echo, read to end of file, close.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, ipproto, socket_with};

use crate::args::Args;
use crate::report::Report;
use crate::target::Target;
use crate::window::{Window, read_server};

struct Attempt {
    stream: TcpStream,
    started: Instant,
    is_sent: bool,
    received: usize,
}

/// Keeps `connections` attempts going until the window is over.
pub fn run(args: &Args) -> io::Result<Report> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let message: Vec<u8> = (0..args.size.max(1)).map(|i| (i % 251) as u8).collect();
    let before = read_server(args.server_pid)?;
    let mut window = Window::new(args, before, before)?;
    let mut attempts = Vec::with_capacity(args.connections);
    for index in 0..args.connections {
        attempts.push(begin(args, &poll, index)?);
    }
    let mut events = Vec::with_capacity(256);
    let wait = Timespec { tv_sec: 0, tv_nsec: Duration::from_millis(20).as_nanos() as i64 };
    loop {
        events.clear();
        match epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        for event in &events {
            let index = event.data.u64() as usize;
            let outcome = attempts[index].advance(&poll, index, &message);
            match outcome {
                Ok(false) => continue,
                Ok(true) => window.completed(attempts[index].started.elapsed().as_nanos() as u64),
                Err(error) => window.failed(&error),
            }
            // The assignment drops the old stream, which closes it and takes it out of epoll.
            attempts[index] = begin(args, &poll, index)?;
        }
        if window.is_over(!events.is_empty())? {
            return window.close();
        }
    }
}

fn begin(args: &Args, poll: &OwnedFd, index: usize) -> io::Result<Attempt> {
    let Target::Tcp(address) = &args.address else {
        return Err(io::Error::other("churn needs a TCP address"));
    };
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    match connect(&socket, address) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(e) => {
            let text = format!("connect {address}: {e}");
            return Err(io::Error::new(io::Error::from(e).kind(), text));
        }
    }
    let data = epoll::EventData::new_u64(index as u64);
    epoll::add(poll, &socket, data, epoll::EventFlags::OUT)?;
    Ok(Attempt { stream: TcpStream::from(socket), started: Instant::now(), is_sent: false, received: 0 })
}

impl Attempt {
    /// One step; `true` when the server has answered in full and closed.
    fn advance(&mut self, poll: &OwnedFd, index: usize, message: &[u8]) -> io::Result<bool> {
        if !self.is_sent {
            if let Some(error) = self.stream.take_error()? {
                return Err(error);
            }
            // A message of the churn rows always fits an empty socket buffer.
            self.stream.write_all(message)?;
            self.is_sent = true;
            let data = epoll::EventData::new_u64(index as u64);
            epoll::modify(poll, &self.stream, data, epoll::EventFlags::IN)?;
            return Ok(false);
        }
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) if self.received == message.len() => return Ok(true),
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    let end = self.received + count;
                    if message.get(self.received..end) != Some(&buffer[..count]) {
                        return Err(io::Error::new(ErrorKind::InvalidData, "wrong echo"));
                    }
                    self.received = end;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}
