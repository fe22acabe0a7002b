//! What the proactor's contract suites share: both drivers, sockets, and reaping with a bound.
#![allow(dead_code, reason = "each suite uses its own part")]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use uringhub::proactor::{Choice, Completion, Config, Interest, Op, OpId, Payload, Proactor, StableBytes};

/// No test waits longer for anything.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Runs each named test on both drivers.
#[macro_export]
macro_rules! on_both_drivers {
    ($($name:ident),* $(,)?) => {
        mod uring {
            $( #[test] fn $name() { super::$name(uringhub::proactor::Choice::Uring) } )*
        }
        mod epoll {
            $( #[test] fn $name() { super::$name(uringhub::proactor::Choice::Epoll) } )*
        }
    };
}

pub fn proactor(driver: Choice) -> Proactor {
    Proactor::new(Config { driver, ..Config::default() }).expect("a driver")
}

/// Bytes that stay where they are: a vector's heap block does not move with the vector.
pub struct Bytes(pub Vec<u8>);

// SAFETY: the vector is never changed after it was wrapped, so its block keeps address and length.
#[allow(unsafe_code)]
unsafe impl StableBytes for Bytes {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

pub fn send(fd: RawFd, data: &[u8]) -> Op {
    Op::Send { fd, data: Box::new(Bytes(data.to_vec())), offset: 0, flags: 0 }
}

pub fn recv(fd: RawFd) -> Op {
    Op::Recv { fd, max_len: 65536 }
}

pub fn poll_read(fd: RawFd) -> Op {
    Op::Poll { fd, interest: Interest::READ }
}

/// A connected pair of TCP sockets on loopback.
pub fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let client = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
    let (server, _) = listener.accept().expect("accept");
    client.set_nodelay(true).expect("nodelay");
    server.set_nodelay(true).expect("nodelay");
    (client, server)
}

/// A TCP socket that is not connected.
pub fn tcp_socket() -> OwnedFd {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).expect("a socket")
}

/// An address of this machine where nobody listens.
pub fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").expect("listen").local_addr().expect("address")
}

/// Waits once, and returns what is there.
pub fn turn(proactor: &mut Proactor, timeout: Option<Duration>) -> Vec<Completion> {
    proactor.wait(timeout).expect("wait");
    let mut out = Vec::new();
    proactor.reap(&mut out);
    out
}

/// Completions until `enough`, within the bound.
pub fn reap_until(proactor: &mut Proactor, enough: impl Fn(&[Completion]) -> bool) -> Vec<Completion> {
    let deadline = Instant::now() + PATIENCE;
    let mut all = Vec::new();
    while !enough(&all) {
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "no such completion in time; got {all:?}");
        all.extend(turn(proactor, Some(left)));
    }
    all
}

/// The only completion, which must be that of `id`.
pub fn expect_one(proactor: &mut Proactor, id: OpId) -> Completion {
    let mut all = reap_until(proactor, |all| !all.is_empty());
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(all[0].id, id);
    all.remove(0)
}

/// Nothing completes although there was every chance to.
pub fn expect_quiet(proactor: &mut Proactor) {
    for _ in 0..3 {
        let out = turn(proactor, Some(Duration::from_millis(5)));
        assert!(out.is_empty(), "unexpected: {out:?}");
    }
}

/// The bytes of a completion, its lease recycled.
pub fn bytes(proactor: &mut Proactor, completion: Completion) -> Vec<u8> {
    match completion.payload {
        Payload::Lease(lease) => {
            let bytes = lease.bytes().to_vec();
            proactor.recycle(lease);
            bytes
        }
        Payload::None => Vec::new(),
        other => panic!("no bytes: {other:?}"),
    }
}

pub fn fd(file: &impl AsRawFd) -> RawFd {
    file.as_raw_fd()
}

/// Replaces what `number` means, as a close and an open in between would.
#[allow(unsafe_code)]
pub fn replace_number(file: &impl AsRawFd, number: RawFd) {
    // SAFETY: the test gave the number up by `into_raw_fd`.
    assert_eq!(unsafe { libc::dup2(file.as_raw_fd(), number) }, number);
}

/// Runs `body` in a forked child, and fails as it fails. Limits, signals, filters and forks are a process's
/// own business, and the test runner's process has other tests in it.
pub fn in_child(body: impl FnOnce()) {
    let child = Child::fork(body);
    let status = child.wait();
    assert!(exited_well(status), "the child ended with status {status:#x}; its message is above");
}

fn exited_well(status: i32) -> bool {
    libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
}

/// A forked child that ends within the bound.
pub struct Child(libc::pid_t);

impl Child {
    #[allow(unsafe_code)]
    pub fn fork(body: impl FnOnce()) -> Child {
        // SAFETY: glibc readies its allocator for use in the child of a threaded process; the child uses
        // nothing else that another thread may have locked, and leaves by `_exit`.
        match unsafe { libc::fork() } {
            -1 => panic!("fork: {}", std::io::Error::last_os_error()),
            0 => {
                // SAFETY: plain calls; SIGALRM's default ends a child that hangs.
                unsafe { libc::alarm(20) };
                let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
                // SAFETY: ends the child without running the parent's exit handlers.
                unsafe { libc::_exit(i32::from(outcome.is_err())) }
            }
            pid => Child(pid),
        }
    }

    /// The wait status.
    #[allow(unsafe_code)]
    pub fn wait(self) -> i32 {
        let mut status = 0;
        // SAFETY: our own child, a live out-pointer.
        while unsafe { libc::waitpid(self.0, &raw mut status, 0) } < 0 {}
        status
    }

    pub fn succeeds(self) {
        let status = self.wait();
        assert!(exited_well(status), "the child ended with status {status:#x}; its message is above");
    }
}

/// An echo of a few bytes through the proactor, to show that it works.
pub fn echo_works(proactor: &mut Proactor) {
    use std::io::{Read, Write};
    let (mut client, server) = tcp_pair();
    // The number may have meant another socket before.
    proactor.forget_fd(fd(&server));
    let id = proactor.submit(recv(fd(&server)), 0);
    client.write_all(b"ping").expect("write");
    let done = expect_one(proactor, id);
    let data = bytes(proactor, done);
    let id = proactor.submit(send(fd(&server), &data), 0);
    assert_eq!(expect_one(proactor, id).result, Ok(4));
    let mut back = [0; 4];
    client.read_exact(&mut back).expect("read");
    assert_eq!(&back, b"ping");
}
