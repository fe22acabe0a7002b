//! What the driver does when the kernel takes a part of its queue only.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use super::super::config::{Choice, Config};
use super::super::driver::Proactor;
use super::super::op::{Completion, Op};
use super::faults::{Fault, plan};

const PATIENCE: Duration = Duration::from_secs(10);

/// A ring of eight entries, used by this thread.
fn small() -> Proactor {
    let config = Config { driver: Choice::Uring, ring_entries: 8, ..Config::default() };
    let mut proactor = Proactor::new(config).expect("a ring");
    proactor.wait(Some(Duration::ZERO)).expect("wait");
    proactor
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let client = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
    (client, listener.accept().expect("accept").0)
}

fn recv(socket: &TcpStream) -> Op {
    Op::Recv { fd: socket.as_raw_fd(), max_len: 100 }
}

fn reap_until(proactor: &mut Proactor, count: usize) -> Vec<Completion> {
    let begin = Instant::now();
    let mut all = Vec::new();
    while all.len() < count {
        assert!(begin.elapsed() < PATIENCE, "no such completion in time; got {all:?}");
        proactor.wait(Some(PATIENCE)).expect("wait");
        proactor.reap(&mut all);
    }
    all
}

#[test]
fn a_ring_that_took_a_part_of_its_queue_stays_with_its_thread() {
    let mut proactor = small();
    let (mut client, server) = pair();
    let (_quiet, silent) = pair();
    // 1. Of two receives the kernel takes one.
    let first = proactor.submit(recv(&server), 1);
    proactor.submit(recv(&silent), 2);
    plan([Fault::Partial(1)]);
    proactor.wait(Some(Duration::ZERO)).expect("wait");
    // 2. Another thread may not take over: it would submit the first once more, and free its memory.
    let mut proactor = std::thread::spawn(move || {
        let answer = proactor.wait(Some(Duration::ZERO)).map_err(|error| error.raw_os_error());
        assert_eq!(answer, Err(Some(libc::EEXIST)));
        proactor
    })
    .join()
    .expect("the other thread");
    // 3. Here all goes on.
    client.write_all(b"x").expect("write");
    let all = reap_until(&mut proactor, 1);
    assert_eq!((all[0].id, all[0].result), (first, Ok(1)));
    assert_eq!(proactor.in_flight(), 1);
}
