//! The first use of all, raced by a fork. A process of its own: whoever uses a proactor earlier in it
//! would spoil the race.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod proactor_support;

use std::sync::Barrier;

use proactor_support::*;
use uringhub::proactor::Choice;

#[test]
fn a_fork_during_another_threads_first_use_leaves_the_child_usable() {
    for round in 0..400 {
        in_child(|| {
            // 1. Both threads leave the barrier; 2. one makes the process's first proactor while the other
            // forks, a little later each round; 3. the child makes its own.
            let barrier = Barrier::new(2);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    barrier.wait();
                    drop(proactor(Choice::Epoll));
                });
                barrier.wait();
                for _ in 0..round * 20 {
                    std::hint::spin_loop();
                }
                Child::fork(|| echo_works(&mut proactor(Choice::Epoll))).succeeds();
            });
        });
    }
}
