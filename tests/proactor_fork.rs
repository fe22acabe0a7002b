//! Parent and child after a fork: neither shares a ring, both go on.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

#[macro_use]
mod proactor_support;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{BorrowedFd, IntoRawFd, RawFd};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use proactor_support::*;
use uringhub::proactor::{Choice, Config, Errno, Op, Proactor};

on_both_drivers! {
    parent_and_child_both_go_on,
    a_child_that_drops_its_proactor_leaves_the_parents_operations_alone,
    wakers_wake_their_own_process,
    a_fork_before_the_first_use_works,
    leases_survive_a_fork,
    a_fork_while_another_thread_drops_leases_leaves_the_child_usable,
    a_connection_attempt_completes_on_both_sides,
    a_connection_attempt_that_the_parent_did_not_begin_is_made_in_the_child,
    a_close_happens_once_on_each_side,
    a_grandchild_works,
    the_childs_ring_gets_the_buffers_of_the_parents,
    a_daemon_keeps_the_files_it_opens_under_inherited_numbers,
    a_daemon_that_never_uses_its_proactor_keeps_its_files_too,
    a_daemon_keeps_the_drivers_it_makes_under_inherited_numbers,
    a_child_keeps_no_ring_of_its_parents,
    a_child_that_forgets_a_number_leaves_it_in_the_parents_set,
    what_was_cancelled_before_the_fork_ends_in_the_child,
}

fn parent_and_child_both_go_on(driver: Choice) {
    in_child(|| {
        let mut proactor = proactor(driver);
        let (mut to_parent, parents) = tcp_pair();
        let (mut to_child, childs) = tcp_pair();
        // 1. Both receives are in the parent's kernel ring. 2. Fork.
        let parent_id = proactor.submit(recv(fd(&parents)), 1);
        let child_id = proactor.submit(recv(fd(&childs)), 2);
        expect_quiet(&mut proactor);
        let child = Child::fork(|| {
            // 3. The child cancels one for itself, and keeps the other under its old id.
            assert_eq!(proactor.in_flight(), 2);
            assert_eq!(proactor.settle(parent_id).unwrap().result, Err(Errno::CANCELED));
            let done = expect_one(&mut proactor, child_id);
            assert_eq!(done.token, 2);
            assert_eq!(bytes(&mut proactor, done), b"child");
            (&childs).write_all(b"got it").unwrap();
            echo_works(&mut proactor);
        });
        // 4. So does the parent, the other way round.
        assert_eq!(proactor.settle(child_id).unwrap().result, Err(Errno::CANCELED));
        to_child.write_all(b"child").unwrap();
        to_child.read_exact(&mut [0; 6]).unwrap();
        to_parent.write_all(b"parent").unwrap();
        let done = expect_one(&mut proactor, parent_id);
        assert_eq!(bytes(&mut proactor, done), b"parent");
        child.succeeds();
        assert_eq!(proactor.in_flight(), 0);
        echo_works(&mut proactor);
    });
}

fn a_child_that_drops_its_proactor_leaves_the_parents_operations_alone(driver: Choice) {
    in_child(|| {
        let mut proactor = proactor(driver);
        let (mut client, server) = tcp_pair();
        let id = proactor.submit(recv(fd(&server)), 1);
        expect_quiet(&mut proactor);
        // The child owns copies; dropping them enters no ring.
        let mut slot = Some(proactor);
        let child = Child::fork(|| drop(slot.take()));
        child.succeeds();
        let mut proactor = slot.take().unwrap();
        client.write_all(b"still").unwrap();
        let done = expect_one(&mut proactor, id);
        assert_eq!(bytes(&mut proactor, done), b"still");
    });
}

fn wakers_wake_their_own_process(driver: Choice) {
    in_child(|| {
        let mut proactor = proactor(driver);
        let waker = proactor.waker();
        expect_quiet(&mut proactor);
        let child = Child::fork(|| {
            for _ in 0..3 {
                waker.wake();
                let begin = Instant::now();
                proactor.wait(Some(PATIENCE)).unwrap();
                assert!(begin.elapsed() < PATIENCE / 2, "the child's wake-up was lost");
                proactor.reap(&mut Vec::new());
            }
        });
        child.succeeds();
        let begin = Instant::now();
        turn(&mut proactor, Some(Duration::from_millis(30)));
        assert!(begin.elapsed() >= Duration::from_millis(30), "the child woke the parent");
        waker.wake();
        let begin = Instant::now();
        turn(&mut proactor, Some(PATIENCE));
        assert!(begin.elapsed() < PATIENCE / 2);
    });
}

fn a_fork_before_the_first_use_works(driver: Choice) {
    in_child(|| {
        let mut proactor = proactor(driver);
        Child::fork(|| echo_works(&mut proactor)).succeeds();
        echo_works(&mut proactor);
    });
}

fn leases_survive_a_fork(driver: Choice) {
    in_child(|| {
        let mut proactor = proactor(driver);
        let (mut client, server) = tcp_pair();
        let id = proactor.submit(recv(fd(&server)), 0);
        client.write_all(b"held").unwrap();
        let mut held = Some(expect_one(&mut proactor, id));
        let child = Child::fork(|| {
            // The lent buffer is not handed to the child's own ring while it is held.
            for _ in 0..100 {
                echo_works(&mut proactor);
            }
            let done = held.take().unwrap();
            assert_eq!(bytes(&mut proactor, done), b"held");
            echo_works(&mut proactor);
        });
        child.succeeds();
        let done = held.take().unwrap();
        assert_eq!(bytes(&mut proactor, done), b"held");
    });
}

fn a_fork_while_another_thread_drops_leases_leaves_the_child_usable(driver: Choice) {
    in_child(|| {
        let config = Config { driver, buffer_count: 16384, buffer_len: 1, ..Config::default() };
        let mut proactor = Proactor::new(config).unwrap();
        for _ in 0..20 {
            let (mut client, server) = tcp_pair();
            proactor.forget_fd(fd(&server));
            let id = proactor.submit(Op::RecvMany { fd: fd(&server) }, 0);
            client.write_all(&[1; 16_000]).unwrap();
            let mut held = reap_until(&mut proactor, |all| all.len() == 16_000);
            let mine = held.pop();
            // 1. Both threads leave the barrier; 2. one drops leases for some milliseconds, and the other forks;
            // 3. the child drops one too, and receives.
            let barrier = Barrier::new(2);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    barrier.wait();
                    drop(held);
                });
                barrier.wait();
                Child::fork(|| {
                    drop(mine);
                    assert!(proactor.settle(id).is_some());
                    let (mut client, server) = tcp_pair();
                    proactor.forget_fd(fd(&server));
                    let id = proactor.submit(recv(fd(&server)), 0);
                    client.write_all(b"x").unwrap();
                    assert_eq!(expect_one(&mut proactor, id).result, Ok(1));
                })
                .succeeds();
            });
            proactor.settle(id);
        }
    });
}

fn a_connection_attempt_completes_on_both_sides(driver: Choice) {
    in_child(|| {
        // A listener whose queue is full answers no SYN, so the attempt is under way during the fork.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let filler = TcpStream::connect(addr).unwrap();
        let mut proactor = proactor(driver);
        let socket = tcp_socket();
        let id = proactor.submit(Op::Connect { fd: fd(&socket), addr: addr.into() }, 0);
        expect_quiet(&mut proactor);
        let child = Child::fork(|| assert_eq!(expect_one(&mut proactor, id).result, Ok(0)));
        drop(listener.accept().unwrap());
        assert_eq!(expect_one(&mut proactor, id).result, Ok(0));
        child.succeeds();
        drop(filler);
    });
}

fn a_connection_attempt_that_the_parent_did_not_begin_is_made_in_the_child(driver: Choice) {
    in_child(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let mut proactor = proactor(driver);
        let (accepted, refused) = (tcp_socket(), tcp_socket());
        // No wait in between: on io_uring the kernel has seen neither.
        proactor.submit(Op::Connect { fd: fd(&accepted), addr: addr.into() }, 1);
        proactor.submit(Op::Connect { fd: fd(&refused), addr: nobody().into() }, 2);
        Child::fork(|| {
            let mut all = reap_until(&mut proactor, |all| all.len() == 2);
            all.sort_by_key(|done| done.token);
            assert_eq!((all[0].token, all[0].result), (1, Ok(0)));
            assert_eq!(TcpStream::from(accepted).peer_addr().unwrap(), addr);
            assert_eq!((all[1].token, all[1].result), (2, Err(Errno::CONNREFUSED)));
        })
        .succeeds();
    });
}

fn a_close_happens_once_on_each_side(driver: Choice) {
    in_child(|| {
        let is_open = |number| rustix::io::fcntl_getfd(borrow(number)).is_ok();
        for uses in [false, true] {
            let mut proactor = proactor(driver);
            let (_client, server) = tcp_pair();
            let number = server.into_raw_fd();
            // 1. Before the fork it was submitted, and on io_uring not done: each side has a number to close.
            proactor.submit(Op::Close { fd: number }, 0);
            let mut slot = Some(proactor);
            Child::fork(|| {
                if uses {
                    reap_until(slot.as_mut().unwrap(), |all| all.len() == 1);
                }
                drop(slot.take());
                assert!(!is_open(number));
            })
            .succeeds();
            let mut proactor = slot.take().unwrap();
            proactor.wait(Some(Duration::ZERO)).unwrap();
            assert!(!is_open(number));
            // 2. Before this fork it was done, though nobody has heard of it; the number means another file.
            replace_number(&File::open("/dev/null").unwrap(), number);
            let mut slot = Some(proactor);
            Child::fork(|| {
                if uses {
                    assert_eq!(turn(slot.as_mut().unwrap(), Some(Duration::ZERO))[0].result, Ok(0));
                }
                drop(slot.take());
                assert!(is_open(number));
            })
            .succeeds();
            drop(slot);
            assert!(is_open(number));
        }
    });
}

fn a_grandchild_works(driver: Choice) {
    in_child(|| {
        let mut proactor = proactor(driver);
        let (mut client, server) = tcp_pair();
        let id = proactor.submit(recv(fd(&server)), 0);
        expect_quiet(&mut proactor);
        Child::fork(|| {
            // The child itself never uses it.
            Child::fork(|| {
                client.write_all(b"deep").unwrap();
                let done = expect_one(&mut proactor, id);
                // The grandparent has it armed too: whoever is first gets the bytes.
                assert_eq!(bytes(&mut proactor, done), b"deep");
            })
            .succeeds();
        })
        .succeeds();
    });
}

fn the_childs_ring_gets_the_buffers_of_the_parents(driver: Choice) {
    in_child(|| {
        let config = Config { driver, buffer_count: 2, ..Config::default() };
        let mut proactor = Proactor::new(config).unwrap();
        let (mut client, server) = tcp_pair();
        let id = proactor.submit(Op::RecvMany { fd: fd(&server) }, 0);
        expect_quiet(&mut proactor);
        client.write_all(b"parents").unwrap();
        for done in reap_until(&mut proactor, |all| !all.is_empty()) {
            assert_eq!(bytes(&mut proactor, done), b"parents");
        }
        Child::fork(|| {
            // A multishot receive uses pooled buffers only.
            client.write_all(b"childs").unwrap();
            for done in reap_until(&mut proactor, |all| !all.is_empty()) {
                assert_eq!(done.id, id);
                assert_eq!(bytes(&mut proactor, done), b"childs");
            }
        })
        .succeeds();
    });
}

/// Closes every number but those of the standard streams.
fn close_all() {
    for number in 3..256 {
        if rustix::io::fcntl_getfd(borrow(number)).is_ok() {
            // SAFETY: that it may be somebody's is the point; nobody of this process uses it afterwards.
            unsafe { rustix::io::close(number) };
        }
    }
}

/// Closes everything and opens files, as a daemon does.
fn become_daemon() -> Vec<(File, RawFd)> {
    close_all();
    let files = (0..32).map(|number| {
        let name = format!("daemon's {number}");
        let file = File::from(rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC).unwrap());
        let number = fd(&file);
        (file, number)
    });
    files.collect()
}

fn borrow<'a>(number: RawFd) -> BorrowedFd<'a> {
    // SAFETY: not -1, and only passed to calls that say EBADF.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Each number still is the file that was opened under it.
fn assert_kept(files: &[(File, RawFd)]) {
    for (index, (_, number)) in files.iter().enumerate() {
        let target = std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap();
        assert_eq!(target.to_string_lossy(), format!("/memfd:daemon's {index} (deleted)"));
    }
}

fn a_daemon_keeps_the_files_it_opens_under_inherited_numbers(driver: Choice) {
    in_child(|| {
        let mut proactor = proactor(driver);
        let waker = proactor.waker();
        echo_works(&mut proactor);
        let mut slot = Some(proactor);
        Child::fork(|| {
            let mut proactor = slot.take().unwrap();
            let files = become_daemon();
            echo_works(&mut proactor);
            waker.wake();
            let begin = Instant::now();
            proactor.wait(Some(PATIENCE)).unwrap();
            assert!(begin.elapsed() < PATIENCE / 2, "the wake-up was lost");
            assert_kept(&files);
            drop(proactor);
            assert_kept(&files);
        })
        .succeeds();
        echo_works(slot.as_mut().unwrap());
    });
}

fn a_daemon_that_never_uses_its_proactor_keeps_its_files_too(driver: Choice) {
    in_child(|| {
        let mut proactor = proactor(driver);
        echo_works(&mut proactor);
        let mut slot = Some(proactor);
        Child::fork(|| {
            let files = become_daemon();
            drop(slot.take());
            assert_kept(&files);
        })
        .succeeds();
        echo_works(slot.as_mut().unwrap());
    });
}

fn a_daemon_keeps_the_drivers_it_makes_under_inherited_numbers(driver: Choice) {
    in_child(|| {
        let mut proactor = proactor(driver);
        echo_works(&mut proactor);
        let mut slot = Some(proactor);
        for uses in [false, true] {
            Child::fork(|| {
                // 1. What it opens is of the same kinds as what it inherited and closed.
                close_all();
                let mut own: Vec<_> = (0..4).map(|_| proactor_support::proactor(driver)).collect();
                // 2. It gives the inherited one up.
                if uses {
                    echo_works(slot.as_mut().unwrap());
                }
                drop(slot.take());
                // 3. Its own ones work, and are woken.
                for proactor in &mut own {
                    echo_works(proactor);
                    proactor.waker().wake();
                    let begin = Instant::now();
                    proactor.wait(Some(PATIENCE)).unwrap();
                    assert!(begin.elapsed() < PATIENCE / 2, "the wake-up was lost");
                    proactor.reap(&mut Vec::new());
                }
            })
            .succeeds();
        }
    });
}

fn a_child_keeps_no_ring_of_its_parents(driver: Choice) {
    let rings = || {
        let numbers = std::fs::read_dir("/proc/self/fd").unwrap();
        let links = numbers.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
        links.filter(|link| link.to_string_lossy().contains("io_uring")).count()
    };
    in_child(|| {
        let mut proactor = proactor(driver);
        echo_works(&mut proactor);
        let before = rings();
        let mut slot = Some(proactor);
        Child::fork(|| {
            echo_works(slot.as_mut().unwrap());
            assert_eq!(rings(), before);
            drop(slot.take());
            assert_eq!(rings(), 0);
        })
        .succeeds();
    });
}

fn a_child_that_forgets_a_number_leaves_it_in_the_parents_set(driver: Choice) {
    in_child(|| {
        let mut proactor = proactor(driver);
        let (mut client, server) = tcp_pair();
        let id = proactor.submit(recv(fd(&server)), 1);
        expect_quiet(&mut proactor);
        // What a close in the child does, which has not used its proactor yet.
        Child::fork(|| proactor.forget_fd(fd(&server))).succeeds();
        client.write_all(b"x").unwrap();
        assert_eq!(expect_one(&mut proactor, id).result, Ok(1));
    });
}

fn what_was_cancelled_before_the_fork_ends_in_the_child(driver: Choice) {
    in_child(|| {
        let mut proactor = proactor(driver);
        let (_client, server) = tcp_pair();
        let id = proactor.submit(recv(fd(&server)), 1);
        expect_quiet(&mut proactor);
        assert!(proactor.cancel(id));
        let child = Child::fork(|| {
            let done = reap_until(&mut proactor, |all| !all.is_empty());
            assert_eq!(done[0].id, id);
            assert_eq!(proactor.in_flight(), 0);
        });
        child.succeeds();
    });
}
