//! What may go wrong between a submit and its completion: cancels that lose, numbers that are reused,
//! processes that fork, leases that stay away.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

#[macro_use]
mod proactor_support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use proactor_support::*;
use uringhub::proactor::{Choice, Errno, Interest, Op, Payload, Proactor, StableBytes};

on_both_drivers! {
    bytes_that_win_against_the_cancel_are_kept,
    a_connection_that_wins_against_the_cancel_is_kept_or_closed,
    settling_one_leaves_the_others_queued_in_order,
    settling_a_multishot_receive_loses_no_byte,
    a_cancelled_send_tells_how_much_went_out,
    a_reused_number_does_not_meet_the_old_operation,
    a_poll_on_a_number_reused_behind_our_back_is_not_lost,
    a_receive_on_a_number_reused_behind_our_back_ends_no_old_poll,
    a_poll_on_a_sockets_number_that_became_a_file_is_ready,
    dropping_the_proactor_frees_every_operation,
    a_close_happens_once_whatever_becomes_of_its_proactor,
    a_close_happens_on_a_thread_that_is_not_the_proactors,
    a_send_keeps_its_bytes_until_it_completes_and_gives_them_back,
    a_proactor_made_here_runs_there,
    a_connection_attempt_that_moves_to_another_thread_is_made_there,
    polls_and_receives_share_a_file,
    an_id_is_not_reused_with_its_slot,
    an_idle_connection_that_nobody_reads_wakes_nobody_for_long,
    a_closed_number_with_a_living_duplicate_wakes_nobody,
}

fn bytes_that_win_against_the_cancel_are_kept(driver: Choice) {
    let mut proactor = proactor(driver);
    let (mut client, server) = tcp_pair();
    for round in 0..200u32 {
        // 1. A receive is armed. 2. Its bytes arrive, unseen. 3. The receive is cancelled.
        let id = proactor.submit(recv(fd(&server)), 0);
        if round % 2 == 0 {
            proactor.wait(Some(Duration::ZERO)).unwrap();
        }
        client.write_all(&round.to_ne_bytes()).unwrap();
        let done = if round % 3 == 0 {
            proactor.settle(id).expect("terminal")
        } else {
            assert!(proactor.cancel(id));
            expect_one(&mut proactor, id)
        };
        // 4. Whoever won, the bytes are there exactly once.
        let got = match done.result {
            Ok(_) => bytes(&mut proactor, done),
            Err(errno) => {
                assert_eq!(errno, Errno::CANCELED);
                let again = proactor.submit(recv(fd(&server)), 0);
                let done = expect_one(&mut proactor, again);
                bytes(&mut proactor, done)
            }
        };
        assert_eq!(got, round.to_ne_bytes());
    }
    assert_eq!(proactor.in_flight(), 0);
}

fn a_connection_that_wins_against_the_cancel_is_kept_or_closed(driver: Choice) {
    let mut proactor = proactor(driver);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for round in 0..50 {
        let id = proactor.submit(Op::Accept { fd: fd(&listener) }, 0);
        proactor.wait(Some(Duration::ZERO)).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let done = if round % 2 == 0 { proactor.settle(id) } else { Some(expect_one(&mut proactor, id)) };
        let done = done.expect("terminal");
        match done.result {
            Ok(_) => assert!(matches!(done.payload, Payload::Accepted { .. })),
            Err(errno) => {
                assert_eq!(errno, Errno::CANCELED);
                drop(listener.accept().unwrap());
            }
        }
        // A completion that nobody wants closes its connection.
        drop(done);
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    }
}

fn settling_one_leaves_the_others_queued_in_order(driver: Choice) {
    let mut proactor = proactor(driver);
    let pairs: Vec<_> = (0..8).map(|_| tcp_pair()).collect();
    let ids: Vec<_> = pairs.iter().map(|(_, server)| proactor.submit(recv(fd(server)), 0)).collect();
    let (_quiet, silent) = tcp_pair();
    let settled = proactor.submit(recv(fd(&silent)), 0);
    proactor.wait(Some(Duration::ZERO)).unwrap();
    for (client, _) in &pairs {
        (&*client).write_all(b"x").unwrap();
    }
    assert_eq!(proactor.settle(settled).map(|done| done.result), Some(Err(Errno::CANCELED)));
    let mut reaped: Vec<_> =
        reap_until(&mut proactor, |all| all.len() == ids.len()).iter().map(|done| done.id).collect();
    reaped.sort();
    assert_eq!(reaped, ids);
}

fn settling_a_multishot_receive_loses_no_byte(driver: Choice) {
    let mut proactor = proactor(driver);
    let (mut client, server) = tcp_pair();
    for round in 0..100u8 {
        let id = proactor.submit(Op::RecvMany { fd: fd(&server) }, 0);
        proactor.wait(Some(Duration::ZERO)).unwrap();
        client.write_all(&[round; 10_000]).unwrap();
        if round % 2 == 0 {
            proactor.wait(Some(PATIENCE)).unwrap();
        }
        let last = proactor.settle(id).expect("terminal");
        assert!(!last.more);
        let mut out = Vec::new();
        proactor.reap(&mut out);
        let mut got: usize = out.into_iter().map(|done| bytes(&mut proactor, done).len()).sum();
        got += bytes(&mut proactor, last).len();
        // What was not delivered is still in the socket.
        let mut rest = vec![0; 10_000 - got];
        server.set_nonblocking(false).unwrap();
        (&server).read_exact(&mut rest).unwrap();
        assert!(rest.iter().all(|&byte| byte == round));
    }
}

fn a_cancelled_send_tells_how_much_went_out(driver: Choice) {
    let mut proactor = proactor(driver);
    let (mut client, server) = tcp_pair();
    let data = vec![7; 64_000_000];
    let id = proactor.submit(send(fd(&server), &data), 0);
    expect_quiet(&mut proactor);
    let sent = proactor.settle(id).unwrap().result.expect("a part went out") as usize;
    assert!(sent > 0 && sent < data.len());
    drop(server);
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    assert_eq!(got.len(), sent);
}

fn a_reused_number_does_not_meet_the_old_operation(driver: Choice) {
    let mut proactor = proactor(driver);
    let (mut old_client, old) = tcp_pair();
    let old_id = proactor.submit(recv(fd(&old)), 1);
    expect_quiet(&mut proactor);
    // 1. The old socket is closed with a receive in flight; 2. its number comes back as another socket.
    let number = old.into_raw_fd();
    let (mut new_client, new) = tcp_pair();
    replace_number(&new, number);
    proactor.forget_fd(number);
    let new_id = proactor.submit(recv(number), 2);
    new_client.write_all(b"new").unwrap();
    let done = expect_one(&mut proactor, new_id);
    assert_eq!(bytes(&mut proactor, done), b"new");
    // 3. Cancelling the old one by its id leaves the next receive on the number alone.
    let next = proactor.submit(recv(number), 3);
    expect_quiet(&mut proactor);
    assert_eq!(proactor.settle(old_id).map(|done| done.result), Some(Err(Errno::CANCELED)));
    new_client.write_all(b"next").unwrap();
    let done = expect_one(&mut proactor, next);
    assert_eq!(bytes(&mut proactor, done), b"next");
    // Only the cancelled operation kept the old file open.
    assert_eq!(old_client.read(&mut [0; 1]).unwrap(), 0);
}

fn a_poll_on_a_number_reused_behind_our_back_is_not_lost(driver: Choice) {
    let mut proactor = proactor(driver);
    let (old_client, old) = tcp_pair();
    let id = proactor.submit(poll_read(fd(&old)), 0);
    (&old_client).write_all(b"x").unwrap();
    expect_one(&mut proactor, id);
    // Nobody tells the driver.
    let number = old.into_raw_fd();
    let (mut client, new) = tcp_pair();
    replace_number(&new, number);
    let id = proactor.submit(poll_read(number), 0);
    expect_quiet(&mut proactor);
    client.write_all(b"y").unwrap();
    assert!(expect_one(&mut proactor, id).result.is_ok());
}

fn a_receive_on_a_number_reused_behind_our_back_ends_no_old_poll(driver: Choice) {
    let mut proactor = proactor(driver);
    let (_old_client, old) = tcp_pair();
    // 1. A poll waits. 2. Nobody tells the driver that its number means another file now.
    let poll = proactor.submit(poll_read(fd(&old)), 1);
    expect_quiet(&mut proactor);
    let number = old.into_raw_fd();
    let (mut client, new) = tcp_pair();
    replace_number(&new, number);
    // 3. A receive finds out. What comes to the new file is not the old one's news.
    let id = proactor.submit(recv(number), 2);
    client.write_all(b"new").unwrap();
    let done = expect_one(&mut proactor, id);
    assert_eq!(bytes(&mut proactor, done), b"new");
    client.write_all(b"more").unwrap();
    expect_quiet(&mut proactor);
    assert_eq!(proactor.settle(poll).map(|done| done.result), Some(Err(Errno::CANCELED)));
}

fn a_poll_on_a_sockets_number_that_became_a_file_is_ready(driver: Choice) {
    let mut proactor = proactor(driver);
    // 1. A receive has its socket watched for good. 2. Nobody tells the driver that the number is a file now.
    let (mut client, server) = tcp_pair();
    let id = proactor.submit(recv(fd(&server)), 0);
    client.write_all(b"x").unwrap();
    let done = expect_one(&mut proactor, id);
    bytes(&mut proactor, done);
    let number = server.into_raw_fd();
    replace_number(&std::fs::File::open("Cargo.toml").unwrap(), number);
    // 3. Files are ready.
    for _ in 0..2 {
        let id = proactor.submit(poll_read(number), 0);
        assert!(expect_one(&mut proactor, id).result.unwrap() & libc::POLLIN as u32 != 0);
    }
}

struct Counted(Vec<u8>, Arc<AtomicUsize>);

// SAFETY: the vector is never changed.
#[allow(unsafe_code)]
unsafe impl StableBytes for Counted {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

fn dropping_the_proactor_frees_every_operation(driver: Choice) {
    let mut proactor = proactor(driver);
    let freed = Arc::new(AtomicUsize::new(0));
    let pairs: Vec<_> = (0..20).map(|_| tcp_pair()).collect();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for (_, server) in &pairs {
        let data = Box::new(Counted(vec![1; 10_000_000], Arc::clone(&freed)));
        proactor.submit(Op::Send { fd: fd(server), data, offset: 0, flags: 0 }, 0);
        proactor.submit(recv(fd(server)), 0);
        proactor.submit(Op::RecvMany { fd: fd(server) }, 0);
        proactor.submit(poll_read(fd(server)), 0);
        proactor.submit(Op::RecvMsg { fd: fd(server), max_len: 100, flags: 0 }, 0);
    }
    proactor.submit(Op::AcceptMany { fd: fd(&listener) }, 0);
    proactor.submit(Op::Timeout { after: PATIENCE }, 0);
    expect_quiet(&mut proactor);
    assert_eq!(freed.load(Ordering::SeqCst), 0, "the kernel still reads them");
    drop(proactor);
    assert_eq!(freed.load(Ordering::SeqCst), pairs.len());
    // Nothing holds the files any more: closing them reaches the peer.
    for (mut client, server) in pairs {
        drop(server);
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).unwrap();
    }
}

/// The peer of a socket hears of its close.
fn assert_closed(mut client: &TcpStream) {
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
}

fn a_close_happens_once_whatever_becomes_of_its_proactor(driver: Choice) {
    let ends: [fn(&mut Proactor, uringhub::proactor::OpId); 4] = [
        |_, _| {},
        |proactor, id| assert_eq!(proactor.cancel(id), proactor.in_flight() > 0),
        |proactor, _| proactor.close(),
        |proactor, id| assert_eq!(proactor.settle(id).unwrap().result, Ok(0)),
    ];
    for (end, first) in ends.iter().flat_map(|end| [(end, false), (end, true)]) {
        let (client, server) = tcp_pair();
        let mut proactor = proactor(driver);
        if !first {
            proactor.wait(Some(Duration::ZERO)).unwrap();
        }
        // 1. The close is submitted. 2. No wait comes to it.
        let id = proactor.submit(Op::Close { fd: server.into_raw_fd() }, 0);
        end(&mut proactor, id);
        drop(proactor);
        assert_closed(&client);
    }
    // 1. The close is done. 2. The number means another file. 3. That one stays.
    let mut proactor = proactor(driver);
    let ((client, server), (mut new_client, new)) = (tcp_pair(), tcp_pair());
    let number = server.into_raw_fd();
    proactor.submit(Op::Close { fd: number }, 0);
    proactor.wait(Some(Duration::ZERO)).unwrap();
    assert_closed(&client);
    replace_number(&new, number);
    drop((proactor, new));
    new_client.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    assert!(new_client.read(&mut [0; 1]).is_err(), "it was closed a second time");
}

fn a_close_happens_on_a_thread_that_is_not_the_proactors(driver: Choice) {
    for uses in [false, true] {
        let mut proactor = proactor(driver);
        let mut proactor = std::thread::spawn(move || {
            expect_quiet(&mut proactor);
            proactor
        })
        .join()
        .unwrap();
        let (client, server) = tcp_pair();
        let id = proactor.submit(Op::Close { fd: server.into_raw_fd() }, 0);
        if uses {
            assert_eq!(expect_one(&mut proactor, id).result, Ok(0));
        }
        drop(proactor);
        assert_closed(&client);
    }
}

fn a_send_keeps_its_bytes_until_it_completes_and_gives_them_back(driver: Choice) {
    let mut proactor = proactor(driver);
    let freed = Arc::new(AtomicUsize::new(0));
    let (_client, server) = tcp_pair();
    let data = Box::new(Counted(b"payload".to_vec(), Arc::clone(&freed)));
    let id = proactor.submit(Op::Send { fd: fd(&server), data, offset: 3, flags: 0 }, 0);
    let done = expect_one(&mut proactor, id);
    assert_eq!(done.result, Ok(4));
    // Nobody's drop ran inside the driver, perhaps without the interpreter lock.
    assert_eq!(freed.load(Ordering::SeqCst), 0);
    assert!(matches!(&done.payload, Payload::Sent(data) if data.bytes() == b"payload"));
    drop(done);
    assert_eq!(freed.load(Ordering::SeqCst), 1);
}

fn a_proactor_made_here_runs_there(driver: Choice) {
    let (mut client, server) = tcp_pair();
    let number = fd(&server);
    let run = move |mut proactor: Proactor, text: &'static [u8]| {
        client.write_all(text).unwrap();
        std::thread::spawn(move || {
            let id = proactor.submit(recv(number), 0);
            let done = expect_one(&mut proactor, id);
            assert_eq!(bytes(&mut proactor, done), text);
            (proactor, client)
        })
        .join()
        .unwrap()
    };
    let (mut proactor, mut client) = run(proactor(driver), b"first");
    // Idle, it may move on; what was submitted here goes along.
    client.write_all(b"second").unwrap();
    let timeouts: Vec<_> =
        (0..1000).map(|_| proactor.submit(Op::Timeout { after: Duration::ZERO }, 0)).collect();
    let id = proactor.submit(recv(number), 0);
    let all = reap_until(&mut proactor, |all| all.len() == timeouts.len() + 1);
    let done = all.into_iter().find(|done| done.id == id).unwrap();
    assert_eq!(bytes(&mut proactor, done), b"second");
}

fn a_connection_attempt_that_moves_to_another_thread_is_made_there(driver: Choice) {
    let mut proactor = proactor(driver);
    // 1. Another thread has used it, and left it idle.
    let mut proactor = std::thread::spawn(move || {
        expect_quiet(&mut proactor);
        proactor
    })
    .join()
    .unwrap();
    // 2. The attempts are submitted here, and it moves here with the wait.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (accepted, refused) = (tcp_socket(), tcp_socket());
    let good =
        proactor.submit(Op::Connect { fd: fd(&accepted), addr: listener.local_addr().unwrap().into() }, 0);
    let bad = proactor.submit(Op::Connect { fd: fd(&refused), addr: nobody().into() }, 0);
    let mut all = reap_until(&mut proactor, |all| all.len() == 2);
    all.sort_by_key(|done| done.id != good);
    assert_eq!((all[0].id, all[0].result), (good, Ok(0)));
    assert_eq!(TcpStream::from(accepted).peer_addr().unwrap(), listener.local_addr().unwrap());
    assert_eq!((all[1].id, all[1].result), (bad, Err(Errno::CONNREFUSED)));
}

fn polls_and_receives_share_a_file(driver: Choice) {
    let mut proactor = proactor(driver);
    let (mut client, server) = tcp_pair();
    for _ in 0..20 {
        let read = proactor.submit(recv(fd(&server)), 0);
        let poll = proactor.submit(poll_read(fd(&server)), 0);
        let write = proactor.submit(Op::Poll { fd: fd(&server), interest: Interest::WRITE }, 0);
        assert_eq!(expect_one(&mut proactor, write).id, write);
        expect_quiet(&mut proactor);
        client.write_all(b"x").unwrap();
        let all = reap_until(&mut proactor, |all| all.len() == 2);
        for done in all {
            assert!(done.id == read || done.id == poll);
            let id = done.id;
            assert!(done.result.is_ok());
            assert_eq!(bytes(&mut proactor, done).len(), usize::from(id == read));
        }
    }
}

fn an_id_is_not_reused_with_its_slot(driver: Choice) {
    let mut proactor = proactor(driver);
    let (_client, server) = tcp_pair();
    let first = proactor.submit(recv(fd(&server)), 0);
    proactor.settle(first);
    let second = proactor.submit(recv(fd(&server)), 0);
    assert_ne!(first, second);
    assert!(!proactor.cancel(first), "a stale id names nothing");
    expect_quiet(&mut proactor);
    assert_eq!(proactor.in_flight(), 1);
}

fn a_closed_number_with_a_living_duplicate_wakes_nobody(driver: Choice) {
    let mut proactor = proactor(driver);
    let (mut client, server) = tcp_pair();
    let id = proactor.submit(recv(fd(&server)), 0);
    expect_quiet(&mut proactor);
    proactor.settle(id);
    // As a forked child would, the duplicate keeps the file open.
    let duplicate = server.try_clone().unwrap();
    proactor.forget_fd(fd(&server));
    drop(server);
    for _ in 0..10 {
        client.write_all(b"for the duplicate").unwrap();
        let begin = Instant::now();
        proactor.wait(Some(Duration::from_millis(2))).unwrap();
        assert!(begin.elapsed() >= Duration::from_millis(2));
    }
    drop(duplicate);
}

fn an_idle_connection_that_nobody_reads_wakes_nobody_for_long(driver: Choice) {
    let mut proactor = proactor(driver);
    let (mut client, server) = tcp_pair();
    let id = proactor.submit(recv(fd(&server)), 0);
    client.write_all(b"x").unwrap();
    let done = expect_one(&mut proactor, id);
    bytes(&mut proactor, done);
    let mut early = 0;
    for _ in 0..50 {
        client.write_all(b"unread").unwrap();
        let begin = Instant::now();
        proactor.wait(Some(Duration::from_millis(2))).unwrap();
        early += usize::from(begin.elapsed() < Duration::from_millis(2));
    }
    assert!(early < 10, "{early} of 50 unread segments woke the process");
    // And the bytes are found when asked for.
    let id = proactor.submit(recv(fd(&server)), 0);
    let done = expect_one(&mut proactor, id);
    assert_eq!(bytes(&mut proactor, done).len(), 300);
    drop(OwnedFd::from(server));
}
