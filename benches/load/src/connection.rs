//! One connection with one request in flight.

use std::io::{self, ErrorKind};
use std::time::Instant;

use crate::exchange::Exchange;
use crate::link::Link;

/// What the event loop has to know after a step.
#[derive(Default)]
pub struct Step {
    /// Nanoseconds from the first byte written to the last byte read, when a request was completed.
    pub latency_ns: Option<u64>,
    /// Whether writability is awaited from now on.
    pub wants_write: bool,
}

/// A link, the exchange on it and how much of the request is written.
pub struct Connection {
    link: Link,
    exchange: Exchange,
    written: usize,
    started: Instant,
}

impl Connection {
    /// A connection that has not sent anything yet.
    pub fn new(link: Link, exchange: Exchange) -> Self {
        Connection { link, exchange, written: 0, started: Instant::now() }
    }

    /// The stream, for registration with epoll.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Starts the clock and writes what fits of the request.
    pub fn start(&mut self) -> io::Result<Step> {
        self.started = Instant::now();
        self.written = 0;
        self.write()
    }

    /// Writes more of the request.
    pub fn write(&mut self) -> io::Result<Step> {
        loop {
            let rest = self.exchange.request_from(self.written);
            if rest.is_empty() {
                break;
            }
            match self.link.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(Step::awaiting_write()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if self.link.has_unsent() {
            match self.link.flush() {
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(Step::awaiting_write()),
                other => other?,
            }
        }
        Ok(Step::default())
    }

    /// Reads what has arrived; when that completes the answer, `start` may be called again.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Step> {
        loop {
            let count = match self.link.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(self.pending()),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            if self.exchange.receive(&buffer[..count])? {
                let latency_ns = self.started.elapsed().as_nanos() as u64;
                self.exchange.next();
                return Ok(Step { latency_ns: Some(latency_ns), wants_write: false });
            }
            // Level-triggered: a plain socket with more to read reports itself again.
            if !self.link.buffers_reads() && count < buffer.len() {
                return Ok(self.pending());
            }
        }
    }

    /// Reads until the answer is complete; for a socket in blocking mode.
    pub fn exchange_blocking(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            match self.link.read(buffer)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count if self.exchange.receive(&buffer[..count])? => return Ok(()),
                _ => {}
            }
        }
    }

    fn pending(&self) -> Step {
        Step {
            latency_ns: None,
            wants_write: !self.exchange.request_from(self.written).is_empty() || self.link.has_unsent(),
        }
    }
}

impl Step {
    fn awaiting_write() -> Self {
        Step { latency_ns: None, wants_write: true }
    }
}
