//! What the driver does when the kernel refuses a call or takes a part of the queue only.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use super::super::config::{Choice, Config};
use super::super::driver::Proactor;
use super::super::error::Errno;
use super::super::message::tests::Letter;
use super::super::op::{Completion, Op, OpId, Payload};
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
fn a_receive_that_finds_nothing_takes_no_memory_because_others_took_the_buffers() {
    let config = Config { driver: Choice::Uring, buffer_count: 2, ..Config::default() };
    let mut proactor = Proactor::new(config).expect("a ring");
    let mut pairs: Vec<_> = (0..20).map(|_| pair()).collect();
    // 1. A large batch, so that the next one tries first.
    for _ in 0..20 {
        proactor.submit(Op::Timeout { after: Duration::ZERO }, 0);
    }
    reap_until(&mut proactor, 20);
    // 2. Two receives find bytes, and take both buffers; the others find nothing.
    for (client, _) in &mut pairs[..2] {
        client.write_all(b"x").expect("write");
    }
    for (_, server) in &pairs {
        proactor.submit(recv(server), 0);
    }
    assert_eq!(reap_until(&mut proactor, 2).len(), 2);
    // 3. The two came back meanwhile: each that waited gets one of them.
    for (client, _) in &mut pairs[2..] {
        client.write_all(b"x").expect("write");
        let done = reap_until(&mut proactor, 1).pop().expect("a completion");
        let Payload::Lease(lease) = done.payload else { panic!("no bytes") };
        assert!(lease.is_pooled());
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
        let data = Box::new(Letter(b"x".to_vec()));
        proactor.submit(Op::Send { fd: client.as_raw_fd(), data, offset: 0, flags: 0 }, 0);
        plan([Fault::Refused(errno), Fault::Partial(0), Fault::Refused(errno)]);
        let all = reap_until(&mut proactor, 1);
        assert_eq!(all[0].result, Ok(1));
        let mut room = [0; 8];
        assert_eq!(server.read(&mut room).expect("read"), 1);
    }
}

/// Numbers that look random, the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn fault(&mut self) -> Fault {
        match self.roll(6) {
            0 => Fault::Refused(Errno::AGAIN),
            1 => Fault::Refused(Errno::BUSY),
            2 => Fault::Refused(Errno::NOMEM),
            3 => Fault::Refused(Errno::INTR),
            some => Fault::Partial(some as u32 - 4),
        }
    }
}

/// Streams from one end of a pair to the other, with at most one send and one receive at a time on each.
struct Traffic {
    proactor: Proactor,
    pairs: Vec<(TcpStream, TcpStream)>,
    /// By pair: what went out, what came in.
    sent: Vec<Vec<u8>>,
    came: Vec<Vec<u8>>,
    /// What is in flight.
    open: HashMap<OpId, Role>,
    next_byte: u8,
}

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Send(usize),
    Recv(usize),
    Other,
}

impl Traffic {
    fn begin(&mut self, role: Role, len: usize) {
        if role != Role::Other && self.open.values().any(|&other| other == role) {
            return;
        }
        let op = match role {
            Role::Send(pair) => {
                let data = (0..len).map(|index| self.next_byte.wrapping_add(index as u8)).collect();
                self.next_byte = self.next_byte.wrapping_add(len as u8);
                let fd = self.pairs[pair].0.as_raw_fd();
                Op::Send { fd, data: Box::new(Letter(data)), offset: 0, flags: 0 }
            }
            Role::Recv(pair) => Op::Recv { fd: self.pairs[pair].1.as_raw_fd(), max_len: len as u32 },
            Role::Other => Op::Timeout { after: Duration::ZERO },
        };
        let id = self.proactor.submit(op, 0);
        self.open.insert(id, role);
    }

    /// Some operation in flight.
    fn any(&self, dice: &mut Dice) -> Option<OpId> {
        let mut ids: Vec<_> = self.open.keys().copied().collect();
        ids.sort();
        (!ids.is_empty()).then(|| ids[dice.roll(ids.len() as u64) as usize])
    }

    fn turn(&mut self, timeout: Duration) {
        // Short of memory the kernel says so; what is in the queue stays there.
        let waited = self.proactor.wait(Some(timeout)).map_err(|error| error.raw_os_error());
        assert!(matches!(waited, Ok(()) | Err(Some(libc::ENOMEM))), "{waited:?}");
        let mut all = Vec::new();
        self.proactor.reap(&mut all);
        all.into_iter().for_each(|done| self.end(done));
    }

    fn end(&mut self, done: Completion) {
        let role = self.open.remove(&done.id).expect("it ends once");
        assert!(done.result.is_ok() || done.result == Err(Errno::CANCELED), "{done:?}");
        match (role, done.payload) {
            (Role::Send(pair), Payload::Sent(data)) => {
                self.sent[pair].extend(&data.bytes()[..done.result.unwrap_or(0) as usize]);
            }
            (Role::Recv(pair), Payload::Lease(lease)) => {
                self.came[pair].extend(lease.bytes());
                self.proactor.recycle(lease);
            }
            _ => {}
        }
    }
}

#[test]
fn whatever_the_kernel_refuses_every_operation_ends_once_and_no_byte_is_lost() {
    for seed in 1..=20 {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let pairs: Vec<_> = (0..4).map(|_| pair()).collect();
        let streams = vec![Vec::new(); pairs.len()];
        let mut traffic = Traffic {
            proactor: small(),
            pairs,
            sent: streams.clone(),
            came: streams,
            open: HashMap::new(),
            next_byte: 0,
        };
        for _ in 0..2000 {
            let pair = dice.roll(4) as usize;
            match dice.roll(10) {
                0..=2 => traffic.begin(Role::Send(pair), 1 + dice.roll(5000) as usize),
                3..=5 => traffic.begin(Role::Recv(pair), 1 + dice.roll(5000) as usize),
                6 => traffic.begin(Role::Other, 0),
                7 => plan([dice.fault(), dice.fault()]),
                8 => drop(traffic.any(&mut dice).map(|id| traffic.proactor.cancel(id))),
                _ => {
                    if let Some(done) = traffic.any(&mut dice).and_then(|id| traffic.proactor.settle(id)) {
                        traffic.end(done);
                    }
                }
            }
            if dice.roll(2) == 0 {
                traffic.turn(Duration::ZERO);
            }
        }
        let begin = Instant::now();
        while traffic.sent != traffic.came || traffic.open.values().any(|role| !matches!(role, Role::Recv(_)))
        {
            assert!(begin.elapsed() < PATIENCE, "seed {seed}: {} in flight", traffic.open.len());
            (0..4).for_each(|pair| traffic.begin(Role::Recv(pair), 5000));
            traffic.turn(Duration::from_millis(100));
        }
        assert_eq!(traffic.proactor.in_flight(), traffic.open.len());
    }
}
