//! Full queues, exhausted buffers, used-up files, tight limits: back-pressure or a clear error, never a
//! lost completion.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

#[macro_use]
mod proactor_support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use proactor_support::*;
use uringhub::proactor::{Choice, Config, Errno, Op, Payload, Proactor, SetupError};

on_both_drivers! {
    receives_beyond_the_pool_complete,
    a_multishot_receive_waits_for_leases_and_loses_nothing,
    a_dropped_lease_returns_to_the_pool,
    a_lease_dropped_on_another_thread_wakes_the_receive_that_waits_for_it,
    a_receive_behind_a_cancelled_one_that_waited_for_a_buffer_goes_on,
    a_driver_that_is_given_up_gives_its_buffers_back,
    ten_thousand_operations_pass_a_queue_of_eight,
    completions_beyond_the_queue_all_arrive,
    a_full_file_table_ends_the_accept_and_keeps_the_connection,
    a_signal_ends_the_wait,
    an_idle_wait_wakes_only_when_woken,
    a_full_file_table_is_a_setup_error_with_its_remedy,
    a_child_without_room_for_its_driver_goes_on_when_there_is,
}

fn small(driver: Choice) -> Proactor {
    Proactor::new(Config { driver, ring_entries: 8, buffer_count: 4, buffer_len: 64 }).expect("a driver")
}

fn receives_beyond_the_pool_complete(driver: Choice) {
    let mut proactor = small(driver);
    let pairs: Vec<_> = (0..50).map(|_| tcp_pair()).collect();
    for (_, server) in &pairs {
        proactor.submit(recv(fd(server)), 0);
    }
    for (client, _) in &pairs {
        (&*client).write_all(&[b'z'; 64]).unwrap();
    }
    // All leases are kept until the last completion.
    let all = reap_until(&mut proactor, |all| all.len() == pairs.len());
    for done in all {
        assert_eq!(bytes(&mut proactor, done), [b'z'; 64]);
    }
}

fn a_multishot_receive_waits_for_leases_and_loses_nothing(driver: Choice) {
    let mut proactor = small(driver);
    let (mut client, server) = tcp_pair();
    let id = proactor.submit(Op::RecvMany { fd: fd(&server) }, 0);
    let expected: Vec<u8> = (0..10_000u32).map(|i| (i % 241) as u8).collect();
    client.write_all(&expected).unwrap();
    drop(client);
    let mut got = Vec::new();
    let mut ended = false;
    while !ended {
        // Four leases are all there are; without them back nothing more may come.
        let mut held = reap_until(&mut proactor, |all| all.len() == 4 || all.iter().any(|done| !done.more));
        ended = held.iter().any(|done| !done.more);
        if !ended {
            let more = turn(&mut proactor, Some(Duration::ZERO));
            assert!(more.iter().all(|done| !done.more), "a fifth lease: {more:?}");
            ended = !more.is_empty();
            held.extend(more);
        }
        for done in held {
            assert_eq!(done.id, id);
            got.extend(bytes(&mut proactor, done));
        }
    }
    assert!(got == expected, "{} bytes of {}", got.len(), expected.len());
}

fn a_dropped_lease_returns_to_the_pool(driver: Choice) {
    let mut proactor = small(driver);
    let (mut client, server) = tcp_pair();
    let id = proactor.submit(Op::RecvMany { fd: fd(&server) }, 0);
    client.write_all(&[1; 64 * 100]).unwrap();
    let mut received = 0;
    while received < 6400 {
        for done in turn(&mut proactor, Some(PATIENCE)) {
            assert_eq!(done.id, id);
            received += done.result.unwrap();
            // Dropped on another thread even.
            std::thread::spawn(move || drop(done)).join().unwrap();
        }
    }
}

fn a_lease_dropped_on_another_thread_wakes_the_receive_that_waits_for_it(driver: Choice) {
    for round in 0..20 {
        let mut proactor = small(driver);
        let (mut client, server) = tcp_pair();
        let id = proactor.submit(Op::RecvMany { fd: fd(&server) }, 0);
        client.write_all(&[1; 64 * 5]).unwrap();
        // 1. All four buffers are lent, and the fifth piece waits for one.
        let held = reap_until(&mut proactor, |all| all.len() == 4);
        // 2. The leases go while this thread waits, or is about to.
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(round % 4));
            drop(held);
        });
        let begin = Instant::now();
        let last = expect_one(&mut proactor, id);
        assert!(begin.elapsed() < PATIENCE / 2, "nobody told the receive");
        assert_eq!(bytes(&mut proactor, last), [1; 64]);
        thread.join().unwrap();
    }
}

fn a_receive_behind_a_cancelled_one_that_waited_for_a_buffer_goes_on(driver: Choice) {
    let mut proactor = small(driver);
    let (mut client, server) = tcp_pair();
    let many = proactor.submit(Op::RecvMany { fd: fd(&server) }, 0);
    client.write_all(&[1; 64 * 5]).unwrap();
    // 1. All four buffers are lent. 2. A receive that needs none is behind. 3. The one in front is cancelled.
    let held = reap_until(&mut proactor, |all| all.len() == 4);
    assert!(turn(&mut proactor, Some(Duration::ZERO)).is_empty());
    let id = proactor.submit(recv(fd(&server)), 0);
    let early = turn(&mut proactor, Some(Duration::ZERO));
    assert_eq!(proactor.settle(many).map(|done| done.result), Some(Err(Errno::CANCELED)));
    let done = early.into_iter().next().unwrap_or_else(|| expect_one(&mut proactor, id));
    assert_eq!(bytes(&mut proactor, done), [1; 64]);
    drop(held);
}

fn a_driver_that_is_given_up_gives_its_buffers_back(driver: Choice) {
    let mut proactor = small(driver);
    let (mut client, server) = tcp_pair();
    for _ in 0..10 {
        let id = proactor.submit(Op::RecvMany { fd: fd(&server) }, 0);
        client.write_all(b"x").unwrap();
        let done = expect_one(&mut proactor, id);
        assert_eq!(bytes(&mut proactor, done), b"x");
        proactor.close();
    }
}

fn ten_thousand_operations_pass_a_queue_of_eight(driver: Choice) {
    let mut proactor = small(driver);
    let (client, server) = tcp_pair();
    for token in 0..10_000 {
        let op = match token % 4 {
            0 => poll_read(fd(&server)),
            1 => Op::Timeout { after: Duration::from_millis(1) },
            2 => recv(-1),
            _ => Op::Send { fd: fd(&client), data: Box::new(Bytes(vec![1])), offset: 0, flags: 0 },
        };
        proactor.submit(op, token);
    }
    let all = reap_until(&mut proactor, |all| all.len() >= 10_000);
    let mut seen = vec![false; 10_000];
    for done in all {
        assert!(!std::mem::replace(&mut seen[done.token as usize], true), "twice");
        assert_eq!(done.result.is_err(), done.token % 4 == 2);
    }
    assert!(seen.iter().all(|&seen| seen));
    assert_eq!(proactor.in_flight(), 0);
}

fn completions_beyond_the_queue_all_arrive(driver: Choice) {
    let mut proactor = small(driver);
    let (mut client, server) = tcp_pair();
    let (_quiet, silent) = tcp_pair();
    let untouched = proactor.submit(recv(fd(&silent)), u64::MAX);
    for token in 0..2000 {
        proactor.submit(poll_read(fd(&server)), token);
    }
    expect_quiet(&mut proactor);
    // One byte completes 2,000 polls; the completion queue has 32 places.
    client.write_all(b"!").unwrap();
    let all = reap_until(&mut proactor, |all| all.len() >= 2000);
    assert_eq!(all.len(), 2000);
    assert_eq!(proactor.settle(untouched).unwrap().result, Err(Errno::CANCELED));
}

#[allow(unsafe_code)]
fn limit(resource: libc::__rlimit_resource_t, value: u64) {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: a live, initialised struct.
    assert_eq!(unsafe { libc::setrlimit(resource, &raw const limit) }, 0);
}

fn highest_fd() -> u64 {
    let numbers = std::fs::read_dir("/proc/self/fd").unwrap();
    numbers.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).max().unwrap()
}

/// Takes every number that the process may open, at least eight, whatever files the runner left open.
fn fill_the_file_table() -> Vec<std::fs::File> {
    limit(libc::RLIMIT_NOFILE, highest_fd() + 8);
    std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect()
}

fn a_full_file_table_ends_the_accept_and_keeps_the_connection(driver: Choice) {
    in_child(|| {
        let mut proactor = proactor(driver);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(addr).unwrap();
        let mut fillers = fill_the_file_table();
        for op in [Op::Accept { fd: fd(&listener) }, Op::AcceptMany { fd: fd(&listener) }] {
            let id = proactor.submit(op, 0);
            let done = expect_one(&mut proactor, id);
            assert_eq!((done.result, done.more), (Err(Errno::MFILE), false));
        }
        fillers.pop();
        let id = proactor.submit(Op::Accept { fd: fd(&listener) }, 0);
        let done = expect_one(&mut proactor, id);
        let Payload::Accepted { fd: accepted, .. } = done.payload else { panic!("{done:?}") };
        TcpStream::from(accepted).write_all(b"served").unwrap();
        client.read_exact(&mut [0; 6]).unwrap();
    });
}

#[allow(unsafe_code)]
fn a_signal_ends_the_wait(driver: Choice) {
    extern "C" fn nothing(_: libc::c_int) {}
    in_child(|| {
        let mut proactor = proactor(driver);
        let (_client, server) = tcp_pair();
        proactor.submit(recv(fd(&server)), 0);
        // SAFETY: zeroed plain structs filled in as sigaction(2) and setitimer(2) expect; the handler does
        // nothing. SA_RESTART must not restart the wait.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = nothing as *const () as usize;
            action.sa_flags = libc::SA_RESTART;
            libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut());
            let mut timer: libc::itimerval = std::mem::zeroed();
            timer.it_value.tv_usec = 20_000;
            libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut());
        }
        let begin = Instant::now();
        assert!(turn(&mut proactor, Some(PATIENCE)).is_empty());
        assert!(begin.elapsed() < PATIENCE / 2);
        echo_works(&mut proactor);
    });
}

#[allow(unsafe_code)]
fn an_idle_wait_wakes_only_when_woken(driver: Choice) {
    let mut proactor = proactor(driver);
    let pairs: Vec<_> = (0..10).map(|_| tcp_pair()).collect();
    for (_, server) in &pairs {
        proactor.submit(recv(fd(server)), 0);
        proactor.submit(poll_read(fd(server)), 0);
    }
    expect_quiet(&mut proactor);
    let switches = || {
        // SAFETY: a zeroed plain struct, filled in by the call.
        unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage);
            usage.ru_nvcsw
        }
    };
    let waker = proactor.waker();
    let helper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        waker.wake();
    });
    let (begin, before) = (Instant::now(), switches());
    proactor.wait(None).unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(150), "it returned before the wake-up");
    assert!(switches() - before <= 2, "it slept {} times", switches() - before);
    helper.join().unwrap();
}

fn a_full_file_table_is_a_setup_error_with_its_remedy(driver: Choice) {
    in_child(|| {
        let mut fillers = fill_the_file_table();
        for driver in [driver, Choice::Auto] {
            for _ in 0..2 {
                // With no place at all, then with one for the waker but none for the driver.
                let error: SetupError = match Proactor::new(Config { driver, ..Config::default() }) {
                    Ok(_) => panic!("there was a place"),
                    Err(error) => error,
                };
                assert_eq!(error.errno, Errno::MFILE);
                assert!(error.to_string().contains("ulimit -n"), "{error}");
                fillers.pop();
            }
            fillers.push(std::fs::File::open("/dev/null").unwrap());
            fillers.push(std::fs::File::open("/dev/null").unwrap());
        }
    });
}

fn a_child_without_room_for_its_driver_goes_on_when_there_is(driver: Choice) {
    in_child(|| {
        let mut proactor = proactor(driver);
        let (mut client, server) = tcp_pair();
        let (_quiet, silent) = tcp_pair();
        let id = proactor.submit(recv(fd(&server)), 0);
        let other = proactor.submit(recv(fd(&silent)), 0);
        expect_quiet(&mut proactor);
        Child::fork(|| {
            let mut fillers = fill_the_file_table();
            // 1. Without a place a wait says so; with one, epoll has a waker but no set yet.
            for _ in 0..2 {
                proactor.wait(Some(Duration::ZERO)).expect_err("there was a place");
            }
            fillers.pop();
            assert_eq!(proactor.wait(Some(Duration::ZERO)).is_ok(), driver == Choice::Uring);
            // 2. What is done meanwhile counts.
            proactor.waker().wake();
            assert_eq!(proactor.settle(other).unwrap().result, Err(Errno::CANCELED));
            // 3. With room for both all goes on.
            fillers.clear();
            client.write_all(b"x").unwrap();
            assert_eq!(expect_one(&mut proactor, id).result, Ok(1));
            assert_eq!(proactor.in_flight(), 0);
        })
        .succeeds();
    });
}

/// Rings of users without CAP_IPC_LOCK may count against RLIMIT_MEMLOCK.
#[allow(unsafe_code)]
fn as_nobody_with_memlock(bytes: u64, body: impl FnOnce()) {
    in_child(|| {
        limit(libc::RLIMIT_MEMLOCK, bytes);
        // SAFETY: plain calls. An unprivileged runner stays who it is, without CAP_IPC_LOCK anyway.
        unsafe {
            if libc::getuid() == 0 {
                // A user of this test alone: locked memory is counted by user, and given back late.
                let user = 1_000_000 + libc::getpid() as libc::uid_t;
                assert_eq!(libc::setresuid(user, user, user), 0);
            }
        }
        body();
    });
}

#[test]
fn a_tight_memlock_limit_gets_a_smaller_ring() {
    as_nobody_with_memlock(64 * 1024, || {
        let config = Config { driver: Choice::Uring, ring_entries: 4096, ..Config::default() };
        echo_works(&mut Proactor::new(config).expect("a smaller ring"));
    });
}

#[test]
fn without_any_locked_memory_the_error_names_the_remedy_or_the_ring_works() {
    as_nobody_with_memlock(0, || {
        for driver in [Choice::Uring, Choice::Auto] {
            match Proactor::new(Config { driver, ..Config::default() }) {
                // Newer kernels account rings to the cgroup instead.
                Ok(mut proactor) => echo_works(&mut proactor),
                Err(error) => {
                    assert_eq!(error.errno, Errno::NOMEM);
                    assert!(error.to_string().contains("ulimit -l"), "{error}");
                }
            }
        }
    });
}

#[test]
fn resident_buffers_follow_the_traffic_not_the_pool() {
    in_child(|| {
        // 16 MiB of buffers, 64 busy connections: a hundred buffers or so are enough.
        let config = Config { driver: Choice::Uring, buffer_count: 4096, ..Config::default() };
        let mut proactor = Proactor::new(config).unwrap();
        let pairs: Vec<_> = (0..64).map(|_| tcp_pair()).collect();
        let resident_pages = || -> usize {
            let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
            statm.split(' ').nth(1).unwrap().parse().unwrap()
        };
        let before = resident_pages();
        for _ in 0..100 {
            for (client, server) in &pairs {
                proactor.submit(recv(fd(server)), 0);
                (&*client).write_all(&[1; 4096]).unwrap();
            }
            for done in reap_until(&mut proactor, |all| all.len() == pairs.len()) {
                assert_eq!(bytes(&mut proactor, done).len(), 4096);
            }
        }
        let grown = resident_pages() - before;
        assert!(grown < 400, "{grown} pages became resident");
    });
}
