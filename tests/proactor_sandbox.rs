//! Where io_uring is forbidden: `auto` falls back with a reason, `uring` says so, `epoll` never asks.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod proactor_support;

use std::time::{Duration, Instant};

use proactor_support::*;
use uringhub::proactor::{Choice, Config, DriverKind, Errno, Proactor, probe};

const IO_URING_CALLS: [libc::c_long; 3] =
    [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];

fn forbid_io_uring(verdict: u32) {
    forbid(&IO_URING_CALLS, verdict);
}

/// Answers these calls of this process with `verdict`.
#[allow(unsafe_code)]
fn forbid(calls: &[libc::c_long], verdict: u32) {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    // The number of the call is the first word of seccomp_data.
    let mut program = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
    for (index, call) in calls.iter().enumerate() {
        let code = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        // To the last statement, over the remaining comparisons and the "allow".
        let jt = (calls.len() - index) as u8;
        program.push(libc::sock_filter { code, jt, jf: 0, k: *call as u32 });
    }
    program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    program.push(statement(libc::BPF_RET | libc::BPF_K, verdict));
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the filter is read during the call only and lives until its end.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter), 0);
    }
}

fn config(driver: Choice) -> Config {
    Config { driver, ..Config::default() }
}

fn refused_with(errno: Errno) {
    in_child(|| {
        forbid_io_uring(libc::SECCOMP_RET_ERRNO | errno.raw_os_error() as u32);
        let mut proactor = Proactor::new(config(Choice::Auto)).unwrap();
        assert_eq!(proactor.driver(), DriverKind::Epoll);
        let reason = proactor.fallback_reason().expect("a reason");
        assert_eq!((reason.operation, reason.errno), ("io_uring_setup", errno));
        echo_works(&mut proactor);
        let error =
            Proactor::new(config(Choice::Uring)).err().expect("an explicit choice does not fall back");
        assert_eq!(error.errno, errno);
        assert!(error.to_string().contains("seccomp") && error.to_string().contains("URINGHUB_DRIVER=epoll"));
    });
}

#[test]
fn eperm_falls_back_with_a_reason() {
    refused_with(Errno::PERM);
}

#[test]
fn enosys_falls_back_with_a_reason() {
    refused_with(Errno::NOSYS);
}

#[test]
fn eacces_falls_back_with_a_reason() {
    refused_with(Errno::ACCESS);
}

#[test]
fn a_filter_on_one_call_is_found_out_before_it_is_relied_on() {
    for call in IO_URING_CALLS {
        in_child(|| {
            forbid(&[call], libc::SECCOMP_RET_ERRNO | libc::EPERM as u32);
            let mut proactor = Proactor::new(config(Choice::Auto)).unwrap();
            assert_eq!(proactor.driver(), DriverKind::Epoll);
            assert_eq!(proactor.fallback_reason().map(|reason| reason.errno), Some(Errno::PERM));
            echo_works(&mut proactor);
        });
    }
}

#[test]
fn without_epoll_pwait2_timeouts_are_rounded_up_not_lost() {
    in_child(|| {
        forbid(&[libc::SYS_epoll_pwait2], libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32);
        let mut proactor = Proactor::new(config(Choice::Epoll)).unwrap();
        let begin = Instant::now();
        proactor.wait(Some(Duration::from_micros(2_500))).unwrap();
        assert!(begin.elapsed() >= Duration::from_micros(2_500));
        echo_works(&mut proactor);
    });
}

#[test]
fn the_probe_finds_nothing_to_mend_where_the_ring_works() {
    let report = probe(Choice::Auto);
    assert_eq!(report.chosen, Ok(DriverKind::Uring), "{report:?}");
    let failed: Vec<_> = report.checks.iter().filter(|check| check.result.is_err()).collect();
    assert!(failed.is_empty(), "{failed:?}");
    for name in ["flag DEFER_TASKRUN", "opcode async_cancel", "operation accept multishot"] {
        assert!(report.checks.iter().any(|check| check.name == name), "{name} in {:?}", report.checks);
    }
}

#[test]
fn the_probe_names_cause_and_remedy_where_it_is_forbidden() {
    in_child(|| {
        forbid_io_uring(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32);
        let report = probe(Choice::Auto);
        assert_eq!(report.chosen, Ok(DriverKind::Epoll));
        assert_eq!(report.seccomp_mode, Some(2));
        assert!(report.checks.iter().all(|check| check.result == Err(Errno::PERM)));
        let found = format!("{:?}", report.findings);
        assert!(found.contains("seccomp profile") && found.contains("io_uring cannot be had"), "{found}");
    });
    in_child(|| {
        forbid_io_uring(libc::SECCOMP_RET_KILL_PROCESS);
        let report = probe(Choice::Epoll);
        assert!(report.checks.is_empty() && report.chosen == Ok(DriverKind::Epoll));
    });
}

#[test]
fn a_filter_that_kills_never_sees_the_epoll_driver_ask() {
    in_child(|| {
        forbid_io_uring(libc::SECCOMP_RET_KILL_PROCESS);
        let mut proactor = Proactor::new(config(Choice::Epoll)).unwrap();
        assert_eq!((proactor.driver(), proactor.fallback_reason()), (DriverKind::Epoll, None));
        echo_works(&mut proactor);
        // Nor does a fork, which makes the driver again.
        Child::fork(move || echo_works(&mut proactor)).succeeds();
    });
    let killed = Child::fork(|| {
        forbid_io_uring(libc::SECCOMP_RET_KILL_PROCESS);
        let _ = Proactor::new(config(Choice::Auto));
    });
    assert_eq!(libc::WTERMSIG(killed.wait()), libc::SIGSYS, "the filter was in force");
}

#[test]
fn an_unknown_driver_name_lists_the_valid_ones() {
    assert_eq!("epoll".parse(), Ok(Choice::Epoll));
    assert_eq!("uring".parse(), Ok(Choice::Uring));
    assert_eq!("auto".parse(), Ok(Choice::Auto));
    let error = "iouring".parse::<Choice>().unwrap_err().to_string();
    assert!(error.contains("iouring") && error.contains("auto, uring, epoll"), "{error}");
}
