//! What io_uring allows here and why not, for the doctor.
//!
//! Everything is found out by doing it: kernel versions lie (backports, filters, sysctls).

use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use super::config::{Choice, Config, DriverKind};
use super::driver::Proactor;
use super::error::{Errno, SetupError};
use super::op::{Completion, Interest, Op};
use super::uring;

/// One thing that was tried.
#[derive(Clone, Debug)]
pub struct Check {
    /// `flag ...`, `feature ...`, `opcode ...` or `operation ...`.
    pub name: String,
    /// Whether it works.
    pub result: Result<(), Errno>,
}

/// Something worth mending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was found.
    pub finding: String,
    /// What to do about it.
    pub remedy: String,
}

/// The answers of [`probe`].
#[derive(Clone, Debug)]
pub struct ProbeReport {
    /// `uname -r`.
    pub kernel_release: String,
    /// What a proactor would run on, or why there would be none.
    pub chosen: Result<DriverKind, SetupError>,
    /// Why io_uring was not chosen although it was asked for.
    pub unavailable: Option<SetupError>,
    /// What was tried, in order. Empty if io_uring was opted out of.
    pub checks: Vec<Check>,
    /// Sysctl `kernel.io_uring_disabled`: 0 allowed, 1 for a group, 2 nobody. `None` before Linux 6.6.
    pub io_uring_disabled: Option<i64>,
    /// Sysctl `kernel.io_uring_group`.
    pub io_uring_group: Option<i64>,
    /// `RLIMIT_MEMLOCK` in bytes; `None` is unlimited.
    pub memlock_limit: Option<u64>,
    /// `RLIMIT_NOFILE`; `None` is unlimited.
    pub nofile_limit: Option<u64>,
    /// 0 none, 1 strict, 2 a filter is in force.
    pub seccomp_mode: Option<u8>,
    /// What to mend.
    pub findings: Vec<Finding>,
}

/// Tries what the drivers need. With [`Choice::Epoll`] no io_uring system call is made.
pub fn probe(choice: Choice) -> ProbeReport {
    let config = Config { driver: choice, ..Config::default() };
    let mut checks = Vec::new();
    let (chosen, unavailable) = match Proactor::new(config) {
        Ok(proactor) => (Ok(proactor.driver()), proactor.fallback_reason().cloned()),
        Err(error) => (Err(error.clone()), Some(error)),
    };
    if choice != Choice::Epoll {
        uring::check_setup(|name, result| checks.push(Check { name, result }));
        if chosen == Ok(DriverKind::Uring) {
            check_operations(&mut checks);
        }
    }
    let limit = |resource| rustix::process::getrlimit(resource).current;
    let mut report = ProbeReport {
        kernel_release: rustix::system::uname().release().to_string_lossy().into_owned(),
        chosen,
        unavailable,
        checks,
        io_uring_disabled: sysctl("kernel/io_uring_disabled"),
        io_uring_group: sysctl("kernel/io_uring_group"),
        memlock_limit: limit(rustix::process::Resource::Memlock),
        nofile_limit: limit(rustix::process::Resource::Nofile),
        seccomp_mode: status_field("Seccomp:"),
        findings: Vec::new(),
    };
    report.findings = findings(&report);
    report
}

fn sysctl(name: &str) -> Option<i64> {
    std::fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().parse().ok()
}

fn status_field(name: &str) -> Option<u8> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
}

fn findings(report: &ProbeReport) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |finding: String, remedy: &str| findings.push(Finding { finding, remedy: remedy.into() });
    if let Some(error) = &report.unavailable {
        let finding =
            format!("io_uring cannot be had: {} gave {}: {}", error.operation, error.errno, error.cause);
        add(finding, error.remedy);
    }
    match report.io_uring_disabled {
        Some(2) => {
            add("kernel.io_uring_disabled=2 forbids io_uring".into(), "sysctl -w kernel.io_uring_disabled=0")
        }
        Some(1) => add(
            format!("kernel.io_uring_disabled=1 allows io_uring to group {:?} only", report.io_uring_group),
            "join that group (`sysctl kernel.io_uring_group`), or sysctl -w kernel.io_uring_disabled=0",
        ),
        _ => {}
    }
    if report.seccomp_mode == Some(2) && report.unavailable.is_some() {
        add(
            "a seccomp filter is in force".into(),
            "allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp profile",
        );
    }
    if report.nofile_limit.is_some_and(|limit| limit < 4096) {
        add(
            format!("at most {} open files", report.nofile_limit.unwrap_or(0)),
            "for a server with many connections: `ulimit -n 65536` or LimitNOFILE=65536 in the unit",
        );
    }
    for check in &report.checks {
        if let Err(errno) = check.result
            && report.unavailable.is_none()
        {
            add(format!("{} failed: {errno}", check.name), "report this: the ring driver expects it to work");
        }
    }
    findings
}

/// One operation of each kind, on Unix sockets of our own.
fn check_operations(checks: &mut Vec<Check>) {
    let config = Config { driver: Choice::Uring, ring_entries: 16, ..Config::default() };
    let Ok(mut proactor) = Proactor::new(config) else { return };
    let Ok((mut near, far)) = UnixStream::pair() else { return };
    let far_fd = far.as_raw_fd();
    let mut check = |name: &str, proactor: &mut Proactor, op: Op, expected: u32| {
        let result = run(proactor, op).and_then(|got| if got == expected { Ok(()) } else { Err(Errno::IO) });
        checks.push(Check { name: format!("operation {name}"), result });
    };
    let timeout = Op::Timeout { after: Duration::from_micros(1) };
    check("timeout", &mut proactor, timeout, 0);
    let poll = Op::Poll { fd: far_fd, interest: Interest::WRITE };
    check("poll", &mut proactor, poll, libc::POLLOUT as u32);
    if near.write_all(b"12").is_ok() {
        check("recv", &mut proactor, Op::Recv { fd: far_fd, max_len: 2 }, 2);
    }
    if near.write_all(b"123").is_ok() {
        check("recv multishot", &mut proactor, Op::RecvMany { fd: far_fd }, 3);
    }
    if let Ok(listener) = UnixListener::bind("") {
        let connected = listener.local_addr().ok().and_then(|addr| UnixStream::connect_addr(&addr).ok());
        let accept = Op::AcceptMany { fd: listener.as_raw_fd() };
        if connected.is_some() {
            check("accept multishot", &mut proactor, accept, 0);
        }
    }
}

/// The first result of `op`, bounded in time.
fn run(proactor: &mut Proactor, op: Op) -> Result<u32, Errno> {
    let id = proactor.submit(op, 0);
    let mut out: Vec<Completion> = Vec::new();
    for _ in 0..20 {
        let waited = proactor.wait(Some(Duration::from_millis(50)));
        waited.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        proactor.reap(&mut out);
        if let Some(done) = out.iter().find(|done| done.id == id) {
            let result = done.result;
            proactor.settle(id);
            return result;
        }
    }
    proactor.settle(id);
    Err(Errno::TIMEDOUT)
}
