//! The proactor's contract, sentence by sentence, on both drivers.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

#[macro_use]
mod proactor_support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::IntoRawFd;
use std::thread;
use std::time::{Duration, Instant};

use proactor_support::*;
use uringhub::proactor::{Choice, Errno, Interest, Op, Payload, SocketAddress};

on_both_drivers! {
    a_receive_brings_the_bytes_and_its_token,
    end_of_stream_is_zero_without_payload,
    a_receive_takes_no_more_than_asked,
    every_byte_of_a_large_send_arrives,
    accept_brings_the_connection_and_the_peer,
    connect_completes_when_established_and_when_refused,
    datagrams_carry_their_source_both_ways,
    a_poll_is_level_triggered_at_submission,
    a_wrong_number_is_the_result_of_its_completion,
    cancelling_a_receive_ends_it_and_leaves_the_bytes,
    a_timeout_completes_after_its_time,
    a_zero_wait_does_not_block,
    a_zero_wait_finds_what_has_arrived,
    a_waker_ends_a_wait_from_another_thread,
    wakers_coalesce_and_leave_no_idle_wakeups,
    multishot_receive_brings_everything_in_order_until_the_end,
    multishot_accept_brings_every_connection,
    close_closes,
    a_close_that_is_cancelled_closes_all_the_same,
    a_closed_proactor_has_nothing_in_flight_and_works_again,
    what_a_closed_proactor_is_given_and_cancels_ends,
    a_wake_up_met_by_a_settle_ends_the_next_wait,
    bytes_behind_an_urgent_mark_arrive,
    bytes_behind_an_urgent_mark_that_was_passed_by_hand_arrive,
}

fn a_receive_brings_the_bytes_and_its_token(driver: Choice) {
    let mut proactor = proactor(driver);
    let (mut client, server) = tcp_pair();
    let id = proactor.submit(recv(fd(&server)), 77);
    expect_quiet(&mut proactor);
    client.write_all(b"hello").unwrap();
    let done = expect_one(&mut proactor, id);
    assert_eq!((done.token, done.result, done.more), (77, Ok(5), false));
    assert_eq!(bytes(&mut proactor, done), b"hello");
    assert_eq!(proactor.in_flight(), 0);
}

fn end_of_stream_is_zero_without_payload(driver: Choice) {
    let mut proactor = proactor(driver);
    let (mut client, server) = tcp_pair();
    // The last bytes and the end arrive in one event: the second receive must not wait for another.
    client.write_all(b"bye").unwrap();
    drop(client);
    let id = proactor.submit(recv(fd(&server)), 0);
    let done = expect_one(&mut proactor, id);
    assert_eq!(bytes(&mut proactor, done), b"bye");
    for _ in 0..2 {
        let id = proactor.submit(recv(fd(&server)), 0);
        let done = expect_one(&mut proactor, id);
        assert_eq!(done.result, Ok(0));
        assert!(matches!(done.payload, Payload::None));
    }
}

fn a_receive_takes_no_more_than_asked(driver: Choice) {
    let mut proactor = proactor(driver);
    let (mut client, server) = tcp_pair();
    client.write_all(b"abcdef").unwrap();
    let id = proactor.submit(Op::Recv { fd: fd(&server), max_len: 0 }, 0);
    assert_eq!(expect_one(&mut proactor, id).result, Ok(0));
    for expected in [&b"abc"[..], b"def"] {
        let id = proactor.submit(Op::Recv { fd: fd(&server), max_len: 3 }, 0);
        let done = expect_one(&mut proactor, id);
        assert_eq!(bytes(&mut proactor, done), expected);
    }
}

fn every_byte_of_a_large_send_arrives(driver: Choice) {
    let mut proactor = proactor(driver);
    let (mut client, server) = tcp_pair();
    let data: Vec<u8> = (0..8_000_000u32).map(|i| (i % 251) as u8).collect();
    let expected = data.clone();
    let reader = thread::spawn(move || {
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        got
    });
    let id = proactor.submit(send(fd(&server), &data), 0);
    let done = expect_one(&mut proactor, id);
    assert_eq!(done.result, Ok(8_000_000));
    drop(server);
    assert!(reader.join().unwrap() == expected, "the bytes differ");
}

fn accept_brings_the_connection_and_the_peer(driver: Choice) {
    let mut proactor = proactor(driver);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let id = proactor.submit(Op::Accept { fd: fd(&listener) }, 0);
    expect_quiet(&mut proactor);
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let done = expect_one(&mut proactor, id);
    let Payload::Accepted { fd: accepted, peer: Some(peer) } = done.payload else { panic!("{done:?}") };
    assert_eq!(peer.to_socket_addr(), Some(client.local_addr().unwrap()));
    drop(accepted);
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0, "dropping the payload closes the connection");
}

fn connect_completes_when_established_and_when_refused(driver: Choice) {
    let mut proactor = proactor(driver);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    for nonblocking in [true, false] {
        let socket = socket(nonblocking);
        let id = proactor.submit(Op::Connect { fd: fd(&socket), addr: addr.into() }, 0);
        assert_eq!(expect_one(&mut proactor, id).result, Ok(0));
        let (peer, _) = listener.accept().unwrap();
        let id = proactor.submit(send(fd(&socket), b"x"), 0);
        assert_eq!(expect_one(&mut proactor, id).result, Ok(1));
        drop(peer);
    }
    drop(listener);
    let socket = socket(true);
    let id = proactor.submit(Op::Connect { fd: fd(&socket), addr: addr.into() }, 0);
    assert_eq!(expect_one(&mut proactor, id).result, Err(Errno::CONNREFUSED));
}

fn socket(nonblocking: bool) -> std::os::fd::OwnedFd {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let flags = if nonblocking { SocketFlags::NONBLOCK } else { SocketFlags::empty() };
    socket_with(AddressFamily::INET, SocketType::STREAM, flags | SocketFlags::CLOEXEC, None).unwrap()
}

fn datagrams_carry_their_source_both_ways(driver: Choice) {
    let mut proactor = proactor(driver);
    let (a, b) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let addr = |socket: &UdpSocket| socket.local_addr().unwrap();
    let receive = proactor.submit(Op::RecvMsg { fd: fd(&b), max_len: 4, flags: 0 }, 1);
    expect_quiet(&mut proactor);
    let data = Box::new(Bytes(b"long datagram".to_vec()));
    let to = Some(SocketAddress::from(addr(&b)));
    let sent = proactor.submit(Op::SendMsg { fd: fd(&a), data, addr: to, flags: 0 }, 2);
    let mut all = reap_until(&mut proactor, |all| all.len() == 2);
    all.sort_by_key(|done| done.token);
    assert_eq!((all[1].id, all[1].result), (sent, Ok(13)));
    let done = all.remove(0);
    assert_eq!(done.id, receive);
    let Payload::Datagram { data, from, flags } = done.payload else { panic!("{done:?}") };
    assert_eq!((&data[..], from.and_then(|from| from.to_socket_addr())), (&b"long"[..], Some(addr(&a))));
    assert!(flags & libc::MSG_TRUNC != 0);
    // Short reads of datagrams do not prove the socket empty.
    for text in ["1", "2", "3"] {
        a.send_to(text.as_bytes(), addr(&b)).unwrap();
    }
    for text in ["1", "2", "3"] {
        let id = proactor.submit(recv(fd(&b)), 0);
        let done = expect_one(&mut proactor, id);
        assert_eq!(bytes(&mut proactor, done), text.as_bytes());
    }
}

fn a_poll_is_level_triggered_at_submission(driver: Choice) {
    let mut proactor = proactor(driver);
    let (mut client, mut server) = tcp_pair();
    client.write_all(b"x").unwrap();
    // The byte stays unread, so each poll finds it, though nothing new happens.
    for _ in 0..3 {
        let id = proactor.submit(poll_read(fd(&server)), 0);
        let mask = expect_one(&mut proactor, id).result.unwrap();
        assert!(mask & libc::POLLIN as u32 != 0);
    }
    server.read_exact(&mut [0; 1]).unwrap();
    let read = proactor.submit(poll_read(fd(&server)), 0);
    expect_quiet(&mut proactor);
    let write = proactor.submit(Op::Poll { fd: fd(&server), interest: Interest::WRITE }, 0);
    let mask = expect_one(&mut proactor, write).result.unwrap();
    assert_eq!(mask & (libc::POLLOUT | libc::POLLIN) as u32, libc::POLLOUT as u32);
    drop(client);
    assert!(expect_one(&mut proactor, read).result.unwrap() & libc::POLLIN as u32 != 0);
    let file = std::fs::File::open("Cargo.toml").unwrap();
    let id = proactor.submit(poll_read(fd(&file)), 0);
    assert!(expect_one(&mut proactor, id).result.unwrap() & libc::POLLIN as u32 != 0, "files are ready");
}

fn a_wrong_number_is_the_result_of_its_completion(driver: Choice) {
    let mut proactor = proactor(driver);
    for number in [-1, 1_000_000] {
        let addr = SocketAddress::from(std::net::SocketAddr::from(([127, 0, 0, 1], 9)));
        let ops = [
            recv(number),
            send(number, b"x"),
            poll_read(number),
            Op::Accept { fd: number },
            Op::AcceptMany { fd: number },
            Op::RecvMany { fd: number },
            Op::Connect { fd: number, addr },
            Op::RecvMsg { fd: number, max_len: 1, flags: 0 },
            Op::SendMsg { fd: number, data: Box::new(Bytes(vec![1])), addr: None, flags: 0 },
            Op::Close { fd: number },
        ];
        for op in ops {
            let id = proactor.submit(op, 0);
            let done = expect_one(&mut proactor, id);
            assert_eq!((done.result, done.more), (Err(Errno::BADF), false));
        }
    }
    let file = std::fs::File::open("Cargo.toml").unwrap();
    let id = proactor.submit(recv(fd(&file)), 0);
    assert_eq!(expect_one(&mut proactor, id).result, Err(Errno::NOTSOCK));
}

fn cancelling_a_receive_ends_it_and_leaves_the_bytes(driver: Choice) {
    let mut proactor = proactor(driver);
    let (mut client, server) = tcp_pair();
    let id = proactor.submit(recv(fd(&server)), 3);
    expect_quiet(&mut proactor);
    assert!(proactor.cancel(id));
    let done = expect_one(&mut proactor, id);
    assert_eq!((done.token, done.result), (3, Err(Errno::CANCELED)));
    assert!(!proactor.cancel(id), "it is terminal");
    let id = proactor.submit(recv(fd(&server)), 4);
    let settled = proactor.settle(id).expect("its terminal completion");
    assert_eq!((settled.id, settled.result), (id, Err(Errno::CANCELED)));
    assert!(proactor.settle(id).is_none());
    client.write_all(b"kept").unwrap();
    let id = proactor.submit(recv(fd(&server)), 5);
    let done = expect_one(&mut proactor, id);
    assert_eq!(bytes(&mut proactor, done), b"kept");
}

fn a_timeout_completes_after_its_time(driver: Choice) {
    let mut proactor = proactor(driver);
    let begin = Instant::now();
    let never = proactor.submit(Op::Timeout { after: Duration::MAX }, 0);
    let id = proactor.submit(Op::Timeout { after: Duration::from_millis(20) }, 0);
    assert_eq!(expect_one(&mut proactor, id).result, Ok(0));
    assert!(begin.elapsed() >= Duration::from_millis(20));
    assert_eq!(proactor.settle(never).map(|done| done.result), Some(Err(Errno::CANCELED)));
}

fn a_zero_wait_does_not_block(driver: Choice) {
    let mut proactor = proactor(driver);
    let (_client, server) = tcp_pair();
    proactor.submit(recv(fd(&server)), 0);
    for _ in 0..1000 {
        assert!(turn(&mut proactor, Some(Duration::ZERO)).is_empty());
    }
}

fn a_zero_wait_finds_what_has_arrived(driver: Choice) {
    let mut proactor = proactor(driver);
    let (mut client, server) = tcp_pair();
    for _ in 0..20 {
        let id = proactor.submit(recv(fd(&server)), 0);
        assert!(turn(&mut proactor, Some(Duration::ZERO)).is_empty());
        client.write_all(b"x").unwrap();
        let begin = Instant::now();
        let mut out = Vec::new();
        while out.is_empty() && begin.elapsed() < PATIENCE {
            out = turn(&mut proactor, Some(Duration::ZERO));
        }
        let done = out.pop().expect("it is there");
        assert_eq!(done.id, id);
        assert_eq!(bytes(&mut proactor, done), b"x");
    }
}

fn a_waker_ends_a_wait_from_another_thread(driver: Choice) {
    let mut proactor = proactor(driver);
    let waker = proactor.waker();
    for _ in 0..100 {
        let waker = waker.clone();
        let thread = thread::spawn(move || waker.wake());
        let begin = Instant::now();
        proactor.wait(Some(PATIENCE)).unwrap();
        assert!(begin.elapsed() < PATIENCE, "the wake-up was lost");
        proactor.reap(&mut Vec::new());
        thread.join().unwrap();
    }
    assert_eq!(proactor.in_flight(), 0, "the wake-up watch is no operation");
}

fn wakers_coalesce_and_leave_no_idle_wakeups(driver: Choice) {
    let mut proactor = proactor(driver);
    let waker = proactor.waker();
    for _ in 0..1000 {
        waker.wake();
    }
    turn(&mut proactor, Some(PATIENCE));
    // Whatever is left of the storm would end this wait early.
    let begin = Instant::now();
    turn(&mut proactor, Some(Duration::from_millis(50)));
    assert!(begin.elapsed() >= Duration::from_millis(50));
    waker.wake();
    let begin = Instant::now();
    turn(&mut proactor, Some(PATIENCE));
    assert!(begin.elapsed() < PATIENCE, "a wake-up after the storm counts again");
}

fn multishot_receive_brings_everything_in_order_until_the_end(driver: Choice) {
    let mut proactor = proactor(driver);
    let (mut client, server) = tcp_pair();
    let id = proactor.submit(Op::RecvMany { fd: fd(&server) }, 9);
    let expected: Vec<u8> = (0..1_000_000u32).map(|i| (i % 253) as u8).collect();
    let data = expected.clone();
    let writer = thread::spawn(move || client.write_all(&data).unwrap());
    let mut got = Vec::new();
    loop {
        let mut ended = false;
        for done in reap_until(&mut proactor, |all| !all.is_empty()) {
            assert_eq!((done.id, done.token), (id, 9));
            ended = !done.more;
            assert_eq!(done.result.unwrap() == 0, ended, "the end is the terminal completion");
            got.extend(bytes(&mut proactor, done));
        }
        if ended {
            break;
        }
    }
    writer.join().unwrap();
    assert!(got == expected, "the bytes differ");
    assert_eq!(proactor.in_flight(), 0);
}

fn multishot_accept_brings_every_connection(driver: Choice) {
    let mut proactor = proactor(driver);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let id = proactor.submit(Op::AcceptMany { fd: fd(&listener) }, 0);
    let addr = listener.local_addr().unwrap();
    let clients: Vec<_> = (0..100).map(|_| TcpStream::connect(addr).unwrap()).collect();
    let all = reap_until(&mut proactor, |all| all.len() == clients.len());
    assert!(all.iter().all(|done| done.more && matches!(done.payload, Payload::Accepted { .. })));
    let last = proactor.settle(id).expect("terminal");
    assert_eq!((last.result, last.more), (Err(Errno::CANCELED), false));
}

fn close_closes(driver: Choice) {
    let mut proactor = proactor(driver);
    let (mut client, server) = tcp_pair();
    let id = proactor.submit(Op::Close { fd: server.into_raw_fd() }, 0);
    assert_eq!(expect_one(&mut proactor, id).result, Ok(0));
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
}

fn a_close_that_is_cancelled_closes_all_the_same(driver: Choice) {
    let mut proactor = proactor(driver);
    // More than the submission queue takes before the first wait: the close waits behind them.
    let quiet: Vec<_> = (0..200).map(|_| tcp_pair()).collect();
    for (_, server) in &quiet {
        proactor.submit(recv(fd(server)), 0);
    }
    let (mut client, server) = tcp_pair();
    let id = proactor.submit(Op::Close { fd: server.into_raw_fd() }, 0);
    proactor.cancel(id);
    assert_eq!(expect_one(&mut proactor, id).result, Ok(0));
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
}

fn a_closed_proactor_has_nothing_in_flight_and_works_again(driver: Choice) {
    let mut proactor = proactor(driver);
    let (mut client, server) = tcp_pair();
    let (mut other, kept) = tcp_pair();
    proactor.submit(recv(fd(&server)), 0);
    proactor.submit(recv(fd(&kept)), 0);
    expect_quiet(&mut proactor);
    proactor.close();
    assert_eq!((proactor.in_flight(), proactor.has_queued()), (0, false));
    // With the receive in flight the kernel would keep the file.
    drop(server);
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    let id = proactor.submit(recv(fd(&kept)), 5);
    other.write_all(b"again").unwrap();
    let done = expect_one(&mut proactor, id);
    assert_eq!(bytes(&mut proactor, done), b"again");
}

fn what_a_closed_proactor_is_given_and_cancels_ends(driver: Choice) {
    let mut proactor = proactor(driver);
    let (_client, server) = tcp_pair();
    proactor.close();
    let id = proactor.submit(recv(fd(&server)), 1);
    assert!(proactor.settle(id).is_some());
    let id = proactor.submit(recv(fd(&server)), 2);
    assert!(proactor.cancel(id));
    expect_one(&mut proactor, id);
    assert_eq!(proactor.in_flight(), 0);
}

fn a_wake_up_met_by_a_settle_ends_the_next_wait(driver: Choice) {
    let mut proactor = proactor(driver);
    let (_client, server) = tcp_pair();
    let id = proactor.submit(recv(fd(&server)), 1);
    expect_quiet(&mut proactor);
    proactor.waker().wake();
    assert!(proactor.settle(id).is_some());
    let begin = Instant::now();
    proactor.wait(Some(Duration::from_secs(2))).unwrap();
    assert!(begin.elapsed() < Duration::from_secs(1), "a wake-up was lost");
}

/// `before`, an urgent byte, and `after`, all in the socket. The urgent byte is not part of the stream.
fn write_around_a_mark(client: &mut TcpStream, before: &[u8], after: &[u8]) {
    client.write_all(before).unwrap();
    rustix::net::send(&*client, b"!", rustix::net::SendFlags::OOB).unwrap();
    client.write_all(after).unwrap();
}

fn bytes_behind_an_urgent_mark_arrive(driver: Choice) {
    let mut proactor = proactor(driver);
    let (mut client, server) = tcp_pair();
    for many in [false, true] {
        write_around_a_mark(&mut client, b"before", b"after");
        let op = if many { Op::RecvMany { fd: fd(&server) } } else { recv(fd(&server)) };
        let mut id = proactor.submit(op, 0);
        let mut got = Vec::new();
        while got.len() < 11 {
            // A receive ends at the mark.
            for done in reap_until(&mut proactor, |all| !all.is_empty()) {
                assert_eq!(done.id, id);
                got.extend(bytes(&mut proactor, done));
            }
            if !many && got.len() < 11 {
                id = proactor.submit(recv(fd(&server)), 0);
            }
        }
        assert_eq!(got, b"beforeafter");
    }
}

fn bytes_behind_an_urgent_mark_that_was_passed_by_hand_arrive(driver: Choice) {
    let mut proactor = proactor(driver);
    let (mut client, server) = tcp_pair();
    for _ in 0..3 {
        // 1. A poll tells of urgent data, 2. which its owner takes: the file no longer says that there is any.
        write_around_a_mark(&mut client, b"before", b"after");
        let id = proactor.submit(poll_read(fd(&server)), 0);
        assert!(expect_one(&mut proactor, id).result.unwrap() & libc::POLLPRI as u32 != 0);
        let mut urgent = [0; 1];
        rustix::net::recv(&server, &mut urgent[..], rustix::net::RecvFlags::OOB).unwrap();
        assert_eq!(&urgent, b"!");
        // 3. Still the stream has a mark, at which a receive ends.
        for expected in [&b"before"[..], b"after"] {
            let id = proactor.submit(recv(fd(&server)), 0);
            let done = expect_one(&mut proactor, id);
            assert_eq!(bytes(&mut proactor, done), expected);
        }
    }
}
