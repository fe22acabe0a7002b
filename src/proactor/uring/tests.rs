//! What the driver does when the kernel refuses a call or takes a part of the queue only.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use super::super::config::{Choice, Config};
use super::super::driver::Proactor;
use super::super::error::Errno;
use super::super::message::tests::Letter;
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

#[test]
fn a_cancel_that_finds_no_room_is_made_up_for() {
    for errno in [Errno::AGAIN, Errno::BUSY, Errno::NOMEM] {
        let mut proactor = small();
        let (_quiet, silent) = pair();
        let id = proactor.submit(recv(&silent), 1);
        proactor.wait(Some(Duration::ZERO)).expect("wait");
        // 1. The queue is full, and the kernel does not take it. 2. Then a receive is cancelled.
        for token in 2..10 {
            proactor.submit(Op::Timeout { after: Duration::ZERO }, token);
        }
        plan([Fault::Refused(errno), Fault::Refused(errno)]);
        assert!(proactor.cancel(id));
        let all = reap_until(&mut proactor, 9);
        let cancelled = all.iter().find(|done| done.id == id).expect("the receive");
        assert_eq!(cancelled.result, Err(Errno::CANCELED));
        assert_eq!((all.len(), proactor.in_flight()), (9, 0));
    }
}

#[test]
fn a_wait_that_could_not_submit_everything_does_not_sleep_on_it() {
    let mut proactor = small();
    let (mut client, server) = pair();
    let (_quiet, silent) = pair();
    client.write_all(b"x").expect("write");
    // 1. The queue is full of receives that wait for ever, the kernel does not take it, and one that would complete
    // at once is behind. 2. In the wait the kernel first refuses, then takes what is in the queue.
    for token in 0..8 {
        proactor.submit(recv(&silent), token);
    }
    plan([Fault::Refused(Errno::AGAIN), Fault::Refused(Errno::AGAIN)]);
    let id = proactor.submit(recv(&server), 8);
    let begin = Instant::now();
    let all = reap_until(&mut proactor, 1);
    assert_eq!((all[0].id, all[0].result), (id, Ok(1)));
    assert!(begin.elapsed() < PATIENCE / 2, "it slept for {:?}", begin.elapsed());
}

#[test]
fn a_refused_call_is_made_again_and_nothing_is_submitted_twice() {
    let mut proactor = small();
    let (client, mut server) = pair();
    server.set_nonblocking(true).expect("nonblocking");
    for errno in [Errno::AGAIN, Errno::BUSY, Errno::INTR] {
        let data = Box::new(Letter(b"x"));
        proactor.submit(Op::Send { fd: client.as_raw_fd(), data, offset: 0, flags: 0 }, 0);
        plan([Fault::Refused(errno), Fault::Partial(0), Fault::Refused(errno)]);
        let all = reap_until(&mut proactor, 1);
        assert_eq!(all[0].result, Ok(1));
        let mut room = [0; 8];
        assert_eq!(server.read(&mut room).expect("read"), 1);
    }
}
