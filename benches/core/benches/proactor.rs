//! What an operation costs besides the kernel's own work: the op table, the rings, the readiness cache.

use std::hint::black_box;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use uringhub::proactor::{Choice, Config, Op, Payload, Proactor};

const DRIVERS: [(&str, Choice); 2] = [("uring", Choice::Uring), ("epoll", Choice::Epoll)];
/// Operations completed by one wait.
const BATCH: u64 = 64;

fn proactor(driver: Choice) -> Proactor {
    Proactor::new(Config { driver, ..Config::default() }).expect("a driver")
}

/// Insert, cancel and remove without any system call: the epoll driver ends a timeout in memory, so this
/// is the op table, the completion queue and a tree of one deadline.
fn table(c: &mut Criterion) {
    let mut proactor = proactor(Choice::Epoll);
    c.bench_function("table/submit+settle", |bench| {
        bench.iter(|| {
            let id = proactor.submit(Op::Timeout { after: Duration::from_secs(1) }, 7);
            black_box(proactor.settle(id))
        });
    });
    // The same in a table that holds ten thousand others.
    let others: Vec<_> =
        (0..10_000).map(|token| proactor.submit(Op::Timeout { after: Duration::MAX }, token)).collect();
    c.bench_function("table/submit+settle among 10k", |bench| {
        bench.iter(|| {
            let id = proactor.submit(Op::Timeout { after: Duration::from_secs(1) }, 7);
            black_box(proactor.settle(id))
        });
    });
    assert_eq!(proactor.in_flight(), others.len());
}

/// The nearest thing to a no-op that both drivers have: a timeout that is due at once.
fn due_timeouts(c: &mut Criterion) {
    let mut group = c.benchmark_group("due timeouts, 64 a wait");
    group.throughput(Throughput::Elements(BATCH));
    for (name, driver) in DRIVERS {
        let mut proactor = proactor(driver);
        let mut out = Vec::new();
        group.bench_function(name, |bench| {
            bench.iter(|| {
                for token in 0..BATCH {
                    proactor.submit(Op::Timeout { after: Duration::ZERO }, token);
                }
                while out.len() < BATCH as usize {
                    proactor.wait(None).expect("wait");
                    proactor.reap(&mut out);
                }
                out.clear();
            });
        });
    }
    group.finish();
}

/// A settled receive: what a timeout or kill during a receive costs.
fn settled_receive(c: &mut Criterion) {
    let mut group = c.benchmark_group("armed receive, settled");
    for (name, driver) in DRIVERS {
        let mut proactor = proactor(driver);
        let (_near, far) = UnixStream::pair().expect("a pair");
        group.bench_function(name, |bench| {
            bench.iter_batched(
                || (),
                |()| {
                    let id = proactor.submit(Op::Recv { fd: far.as_raw_fd(), max_len: 4096 }, 0);
                    black_box(proactor.settle(id))
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// Sixty-four messages written, received through the proactor and answered; a third each is the socket's,
/// the driver's and the peer's.
fn receives(c: &mut Criterion) {
    let mut group = c.benchmark_group("receives, 64 a wait");
    group.throughput(Throughput::Elements(BATCH));
    for (name, driver) in DRIVERS {
        let mut proactor = proactor(driver);
        let pairs: Vec<_> = (0..BATCH).map(|_| UnixStream::pair().expect("a pair")).collect();
        let mut out = Vec::new();
        group.bench_function(name, |bench| {
            bench.iter(|| {
                for (near, far) in &pairs {
                    proactor.submit(Op::Recv { fd: far.as_raw_fd(), max_len: 4096 }, 0);
                    (&*near).write_all(&[1; 64]).expect("write");
                }
                while out.len() < pairs.len() {
                    proactor.wait(None).expect("wait");
                    proactor.reap(&mut out);
                }
                for done in out.drain(..) {
                    if let Payload::Lease(lease) = done.payload {
                        black_box(lease.bytes());
                        proactor.recycle(lease);
                    }
                }
            });
        });
    }
    // The same by blocking calls: what the sockets alone cost.
    let pairs: Vec<_> = (0..BATCH).map(|_| UnixStream::pair().expect("a pair")).collect();
    group.bench_function("read(2) and write(2) alone", |bench| {
        bench.iter(|| {
            for (near, far) in &pairs {
                (&*near).write_all(&[1; 64]).expect("write");
                (&*far).read_exact(&mut [0; 64]).expect("read");
            }
        });
    });
    group.finish();
}

criterion_group!(benches, table, due_timeouts, settled_receive, receives);
criterion_main!(benches);
