//! One request and the check of its answer.

use std::io;
use std::rc::Rc;

/// A request and how far its answer has come.
pub enum Exchange {
    /// The answer is the request.
    Echo(Echo),
    /// The answer is an HTTP response of known length.
    Http(Http),
}

impl Exchange {
    /// Bytes of the current request from `position` on, in one piece or the first of two; empty at
    /// the end.
    pub fn request_from(&self, position: usize) -> &[u8] {
        match self {
            Exchange::Echo(echo) => echo.from(position),
            Exchange::Http(http) => &http.request[position..],
        }
    }

    /// Starts the next request.
    pub fn next(&mut self) {
        match self {
            Exchange::Echo(echo) => echo.next(),
            Exchange::Http(http) => http.response.clear(),
        }
    }

    /// Takes received bytes; `true` when the answer is complete, an error when it is wrong.
    pub fn receive(&mut self, bytes: &[u8]) -> io::Result<bool> {
        match self {
            Exchange::Echo(echo) => echo.receive(bytes),
            Exchange::Http(http) => http.receive(bytes),
        }
    }
}

/// The part of a long message that all connections share: a thousand times 1 MiB is too much to hold.
const OWN_BYTES: usize = 64 * 1024;

/// An echo message: a pattern that starts with a sequence number, so that a repeated, lost or foreign
/// message is noticed.
pub struct Echo {
    own: Vec<u8>,
    shared: Rc<[u8]>,
    sequence: u64,
    received: usize,
}

/// The end of a message of `size` bytes, behind what each connection owns.
pub fn shared_tail(size: usize) -> Rc<[u8]> {
    (OWN_BYTES.min(size)..size).map(pattern).collect()
}

/// 251 is prime: the pattern does not repeat at any power of two.
fn pattern(index: usize) -> u8 {
    (index % 251) as u8
}

impl Echo {
    /// A message of `size` bytes whose sequence starts at `first`; `shared` is `shared_tail(size)`.
    pub fn new(size: usize, first: u64, shared: Rc<[u8]>) -> Self {
        let mut echo = Echo {
            own: (0..size.clamp(1, OWN_BYTES)).map(pattern).collect(),
            shared,
            sequence: first,
            received: 0,
        };
        echo.stamp();
        echo
    }

    fn from(&self, position: usize) -> &[u8] {
        match self.own.get(position..) {
            Some(rest) if !rest.is_empty() => rest,
            _ => &self.shared[position - self.own.len()..],
        }
    }

    fn next(&mut self) {
        self.sequence = self.sequence.wrapping_add(1);
        self.received = 0;
        self.stamp();
    }

    fn stamp(&mut self) {
        let stamp = self.sequence.to_le_bytes();
        let length = stamp.len().min(self.own.len());
        self.own[..length].copy_from_slice(&stamp[..length]);
    }

    fn receive(&mut self, mut bytes: &[u8]) -> io::Result<bool> {
        while !bytes.is_empty() {
            let expected = self.from(self.received);
            let count = expected.len().min(bytes.len());
            if count == 0 || expected[..count] != bytes[..count] {
                let text = format!("wrong echo near byte {} of a message", self.received);
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            self.received += count;
            bytes = &bytes[count..];
        }
        Ok(self.received == self.own.len() + self.shared.len())
    }
}

/// A GET request and the response so far.
pub struct Http {
    request: Vec<u8>,
    response: Vec<u8>,
    body_bytes: usize,
}

impl Http {
    /// GET `path`, expecting a body of `body_bytes`.
    pub fn new(path: &str, body_bytes: usize) -> Self {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load\r\nAccept: */*\r\n\r\n");
        Http { request: request.into_bytes(), response: Vec::with_capacity(body_bytes + 512), body_bytes }
    }

    fn receive(&mut self, bytes: &[u8]) -> io::Result<bool> {
        self.response.extend_from_slice(bytes);
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut parsed = httparse::Response::new(&mut headers);
        let head_bytes = match parsed.parse(&self.response).map_err(invalid)? {
            httparse::Status::Partial => return Ok(false),
            httparse::Status::Complete(length) => length,
        };
        if parsed.code != Some(200) {
            return Err(invalid(format!("status {:?}", parsed.code)));
        }
        let length = parsed
            .headers
            .iter()
            .find(|h| h.name.eq_ignore_ascii_case("content-length"))
            .and_then(|h| std::str::from_utf8(h.value).ok()?.trim().parse().ok());
        if length != Some(self.body_bytes) {
            return Err(invalid(format!("Content-Length {length:?}, expected {}", self.body_bytes)));
        }
        let total = head_bytes + self.body_bytes;
        if self.response.len() > total {
            return Err(invalid("more bytes than Content-Length says".to_string()));
        }
        Ok(self.response.len() == total)
    }
}

fn invalid(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo(size: usize, first: u64) -> Echo {
        Echo::new(size, first, shared_tail(size))
    }

    #[test]
    fn an_echo_is_complete_only_with_its_last_byte() {
        let mut echo = echo(600, 7);
        let message = echo.from(0).to_vec();
        assert!(!echo.receive(&message[..599]).expect("a true prefix"));
        assert!(echo.receive(&message[599..]).expect("the rest"));
    }

    #[test]
    fn a_long_message_is_its_own_part_and_the_shared_one() {
        let mut echo = echo(OWN_BYTES + 100, 7);
        let mut message = echo.from(0).to_vec();
        message.extend_from_slice(echo.from(OWN_BYTES));
        assert_eq!(message.len(), OWN_BYTES + 100);
        assert!(echo.from(OWN_BYTES + 100).is_empty());
        assert!(echo.receive(&message).expect("the whole message"));
    }

    #[test]
    fn the_answer_to_the_previous_message_is_an_error() {
        let mut echo = echo(64, 0);
        let stale = echo.from(0).to_vec();
        echo.next();
        assert!(echo.receive(&stale).is_err());
    }

    #[test]
    fn a_surplus_byte_is_an_error() {
        let mut echo = echo(8, 1);
        let mut message = echo.from(0).to_vec();
        message.push(0);
        assert!(echo.receive(&message).is_err());
    }

    #[test]
    fn an_http_answer_may_arrive_in_pieces() {
        let mut http = Http::new("/", 5);
        assert!(!http.receive(b"HTTP/1.1 200 OK\r\nContent-Le").expect("a head in part"));
        assert!(!http.receive(b"ngth: 5\r\n\r\nhel").expect("a body in part"));
        assert!(http.receive(b"lo").expect("the rest"));
    }

    #[test]
    fn another_status_or_length_is_an_error() {
        let answer = b"HTTP/1.1 500 Oops\r\nContent-Length: 5\r\n\r\nhello";
        assert!(Http::new("/", 5).receive(answer).is_err());
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhell";
        assert!(Http::new("/", 5).receive(answer).is_err());
    }
}
