//! Random traffic: whatever is cancelled, settled, starved or reopened meanwhile, each stream arrives as it was sent.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

#[macro_use]
mod proactor_support;

use std::collections::HashMap;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use proactor_support::*;
use uringhub::proactor::{Choice, Completion, Config, Errno, Lease, Op, OpId, Payload, Proactor};

on_both_drivers! {
    every_stream_arrives_as_it_was_sent,
}

/// Numbers that look random, the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}

struct Stream {
    client: TcpStream,
    server: TcpStream,
    sent: Vec<u8>,
    came: Vec<u8>,
}

impl Stream {
    fn open() -> Self {
        let (client, server) = tcp_pair();
        client.set_nonblocking(true).unwrap();
        Stream { client, server, sent: Vec::new(), came: Vec::new() }
    }

    fn write(&mut self, len: usize) {
        let data: Vec<u8> = (0..len).map(|index| (self.sent.len() + index) as u8).collect();
        match self.client.write(&data) {
            Ok(count) => self.sent.extend(&data[..count]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Receive(usize),
    Poll(usize),
}

struct Traffic {
    dice: Dice,
    proactor: Proactor,
    streams: Vec<Stream>,
    open: HashMap<OpId, Role>,
    /// To a thread that drops them.
    leases: Sender<Lease>,
}

impl Traffic {
    fn begin(&mut self, role: Role) {
        if self.open.values().any(|&other| other == role) {
            return;
        }
        let op = match role {
            Role::Receive(index) => {
                let fd = fd(&self.streams[index].server);
                match self.dice.roll(2) {
                    0 => Op::RecvMany { fd },
                    _ => Op::Recv { fd, max_len: 1 + self.dice.roll(100) as u32 },
                }
            }
            Role::Poll(index) => poll_read(fd(&self.streams[index].server)),
        };
        let id = self.proactor.submit(op, 0);
        self.open.insert(id, role);
    }

    fn any(&mut self) -> Option<OpId> {
        let mut ids: Vec<_> = self.open.keys().copied().collect();
        ids.sort();
        (!ids.is_empty()).then(|| ids[self.dice.roll(ids.len())])
    }

    fn turn(&mut self, timeout: Duration) {
        self.proactor.wait(Some(timeout)).unwrap();
        self.reap();
    }

    fn reap(&mut self) {
        let mut all = Vec::new();
        self.proactor.reap(&mut all);
        all.into_iter().for_each(|done| self.take(done));
    }

    fn take(&mut self, done: Completion) {
        let role = self.open[&done.id];
        if !done.more {
            self.open.remove(&done.id);
        }
        assert!(done.result.is_ok() || (done.result == Err(Errno::CANCELED) && !done.more), "{done:?}");
        let (Role::Receive(index), Payload::Lease(lease)) = (role, done.payload) else { return };
        self.streams[index].came.extend(lease.bytes());
        match self.dice.roll(2) {
            0 => self.proactor.recycle(lease),
            _ => self.leases.send(lease).unwrap(),
        }
    }

    fn settle(&mut self, id: OpId) {
        let last = self.proactor.settle(id);
        // What came before it is queued.
        self.reap();
        last.into_iter().for_each(|done| self.take(done));
    }

    /// Closes a stream of which everything has come, and opens another, perhaps under the same number.
    fn reopen(&mut self, index: usize) {
        let mine = [Role::Receive(index), Role::Poll(index)];
        let ids: Vec<_> =
            self.open.iter().filter(|(_, role)| mine.contains(role)).map(|(&id, _)| id).collect();
        ids.into_iter().for_each(|id| self.settle(id));
        if self.streams[index].sent == self.streams[index].came {
            self.proactor.forget_fd(fd(&self.streams[index].server));
            self.streams.remove(index);
            self.streams.insert(index, Stream::open());
            self.proactor.forget_fd(fd(&self.streams[index].server));
        }
    }
}

fn every_stream_arrives_as_it_was_sent(driver: Choice) {
    for seed in 1..=10_u64 {
        let (leases, dropped) = channel::<Lease>();
        let dropper = std::thread::spawn(move || {
            for lease in dropped {
                std::thread::yield_now();
                drop(lease);
            }
        });
        let config = Config { driver, ring_entries: 8, buffer_count: 4, buffer_len: 64 };
        let mut traffic = Traffic {
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            proactor: Proactor::new(config).unwrap(),
            streams: (0..4).map(|_| Stream::open()).collect(),
            open: HashMap::new(),
            leases,
        };
        for _ in 0..2000 {
            let index = traffic.dice.roll(4);
            match traffic.dice.roll(12) {
                0..=3 => {
                    let len = 1 + traffic.dice.roll(300);
                    traffic.streams[index].write(len);
                }
                4..=6 => traffic.begin(Role::Receive(index)),
                7 => traffic.begin(Role::Poll(index)),
                8 => drop(traffic.any().map(|id| traffic.proactor.cancel(id))),
                9 => drop(traffic.any().map(|id| traffic.settle(id))),
                10 if traffic.dice.roll(4) == 0 => traffic.reopen(index),
                _ => traffic.turn(Duration::ZERO),
            }
        }
        let begin = Instant::now();
        while traffic.streams.iter().any(|stream| stream.sent != stream.came) {
            assert!(begin.elapsed() < PATIENCE, "seed {seed}: {} in flight", traffic.open.len());
            (0..4).for_each(|index| traffic.begin(Role::Receive(index)));
            // No limit but the bound: nothing else would make up for a lost wake-up.
            traffic.turn(PATIENCE);
        }
        assert_eq!(traffic.proactor.in_flight(), traffic.open.len());
        drop(traffic);
        dropper.join().unwrap();
    }
}
