//! Making a ring and entering it.
//!
//! The io-uring crate builds the ring and encodes entries; the enter call is ours. The crate's
//! `Submitter` keeps a registered ring fd only in itself, so by its route the registration would be made
//! and never used, and it has no single call for "submit, wait with a timeout, on the registered ring".

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use io_uring::{Builder, IoUring, Probe, opcode};

use super::super::config::Config;
use super::super::error::{Errno, SetupError};

/// `IORING_ENTER_GETEVENTS`: run deferred task work and wait. Linux 5.1.
pub(super) const GETEVENTS: u32 = 1;
/// `IORING_ENTER_EXT_ARG`: the argument is [`GetEventsArg`], a timeout without its own operation. 5.11.
const EXT_ARG: u32 = 1 << 3;
/// `IORING_ENTER_REGISTERED_RING`: the fd is an index, which saves the file lookup. 5.18.
const REGISTERED_RING: u32 = 1 << 4;
const REGISTER_RING_FDS: libc::c_uint = 20;
const UNREGISTER_RING_FDS: libc::c_uint = 21;

/// The opcodes the driver uses.
pub(crate) const NEEDED: [(&str, u8); 11] = [
    ("nop", opcode::Nop::CODE),
    ("accept", opcode::Accept::CODE),
    ("connect", opcode::Connect::CODE),
    ("recv", opcode::Recv::CODE),
    ("send", opcode::Send::CODE),
    ("recvmsg", opcode::RecvMsg::CODE),
    ("sendmsg", opcode::SendMsg::CODE),
    ("poll_add", opcode::PollAdd::CODE),
    ("close", opcode::Close::CODE),
    ("timeout", opcode::Timeout::CODE),
    ("async_cancel", opcode::AsyncCancel::CODE),
];

pub(crate) fn errno(error: &io::Error) -> Errno {
    Errno::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO))
}

/// Makes a ring with the flags the driver relies on:
/// - `SINGLE_ISSUER` (6.0), `DEFER_TASKRUN` (6.1): completions are made only inside our own enter, so they
///   interrupt nobody and need no locking;
/// - `COOP_TASKRUN`, `TASKRUN_FLAG` (5.19): the ring says in memory whether such work waits;
/// - `R_DISABLED` (5.10): the issuer is whoever enables it, so a proactor may be made on one thread and
///   used on another;
/// - `SUBMIT_ALL` (5.18), `CLAMP` (5.6).
pub(crate) fn build(entries: u32) -> io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_r_disabled()
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(entries.saturating_mul(4))
        .build(entries)
}

/// Makes the ring of `config`, or a smaller one under a tight memlock limit, and checks what it can do.
pub(super) fn open(config: &Config) -> Result<IoUring, SetupError> {
    let mut entries = config.ring_entries.max(2);
    let mut patience = 5;
    let ring = loop {
        match build(entries) {
            Ok(ring) => break ring,
            // Rings of users without CAP_IPC_LOCK count against RLIMIT_MEMLOCK before Linux 6.14 or so.
            Err(error) if errno(&error) == Errno::NOMEM && entries > 16 => entries /= 2,
            // What a process that just ended had locked is given back a moment later.
            Err(error) if errno(&error) == Errno::NOMEM && patience > 0 => {
                patience -= 1;
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(SetupError::new("io_uring_setup", errno(&error))),
        }
    };
    if !ring.params().is_feature_nodrop() || !ring.params().is_feature_ext_arg() {
        return Err(SetupError::missing("io_uring_setup (NODROP, EXT_ARG)"));
    }
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|error| SetupError::new("io_uring_register (probe)", errno(&error)))?;
    // A disabled ring refuses to be entered with EBADFD; a filter that forbids the call speaks first.
    match Gate::unregistered(&ring).enter(0, 0, GETEVENTS, None) {
        Ok(_) | Err(Errno::BADFD) => {}
        Err(errno) => return Err(SetupError::new("io_uring_enter", errno)),
    }
    match NEEDED.iter().find(|(_, code)| !probe.is_supported(*code)) {
        Some(_) => Err(SetupError::missing("io_uring opcode probe")),
        None => Ok(ring),
    }
}

/// Tries flags, features and opcodes one by one, on rings of a few entries.
pub(crate) fn check_setup(mut tell: impl FnMut(String, Result<(), Errno>)) {
    type Set = fn(&mut Builder) -> &mut Builder;
    let flags: [(&str, Set); 6] = [
        ("none", |builder| builder),
        ("SUBMIT_ALL", Builder::setup_submit_all),
        ("COOP_TASKRUN", Builder::setup_coop_taskrun),
        ("SINGLE_ISSUER", Builder::setup_single_issuer),
        ("DEFER_TASKRUN", |builder| builder.setup_single_issuer().setup_defer_taskrun()),
        ("R_DISABLED", Builder::setup_r_disabled),
    ];
    for (name, set) in flags {
        let built = set(&mut IoUring::builder()).build(2);
        tell(format!("flag {name}"), built.map(|_| ()).map_err(|error| errno(&error)));
    }
    let Ok(ring) = build(2) else { return };
    let known = |known: bool| if known { Ok(()) } else { Err(Errno::NOSYS) };
    tell("feature NODROP".into(), known(ring.params().is_feature_nodrop()));
    tell("feature EXT_ARG".into(), known(ring.params().is_feature_ext_arg()));
    let mut probe = Probe::new();
    let probed = ring.submitter().register_probe(&mut probe).map_err(|error| errno(&error));
    for (name, code) in NEEDED {
        tell(format!("opcode {name}"), probed.and_then(|()| known(probe.is_supported(code))));
    }
}

/// `struct io_uring_getevents_arg`.
#[repr(C)]
struct GetEventsArg {
    sigmask: u64,
    sigmask_size: u32,
    min_wait_us: u32,
    timespec: u64,
}

/// `struct io_uring_rsrc_update`.
#[repr(C)]
struct ResourceUpdate {
    offset: u32,
    reserved: u32,
    data: u64,
}

/// The ring's number for the enter call: an index of this thread's registered rings, or its fd.
pub(super) struct Gate {
    fd: RawFd,
    registered: bool,
}

impl Gate {
    pub(super) fn unregistered(ring: &IoUring) -> Self {
        Gate { fd: ring.as_raw_fd(), registered: false }
    }

    /// Registers the ring with the calling thread, the only one to enter it from now on. Each thread has
    /// 16 such places; without one the plain fd does as well, a little slower.
    pub(super) fn register(ring: &IoUring) -> Self {
        let mut update = ResourceUpdate { offset: u32::MAX, reserved: 0, data: ring.as_raw_fd() as u64 };
        // SAFETY: `update` is a live local of the layout the call expects; it is read and written only
        // during the call.
        let registered = unsafe {
            libc::syscall(
                libc::SYS_io_uring_register,
                ring.as_raw_fd(),
                REGISTER_RING_FDS,
                &raw mut update,
                1,
            )
        };
        if registered == 1 {
            Gate { fd: update.offset as RawFd, registered: true }
        } else {
            Gate::unregistered(ring)
        }
    }

    pub(super) fn is_registered(&self) -> bool {
        self.registered
    }

    /// Gives the place back. Only on the registering thread; a thread that ends frees its places anyway.
    pub(super) fn unregister(&self, ring: &IoUring) {
        if self.registered {
            let mut update = ResourceUpdate { offset: self.fd as u32, reserved: 0, data: 0 };
            // SAFETY: as in `register`.
            unsafe {
                libc::syscall(
                    libc::SYS_io_uring_register,
                    ring.as_raw_fd(),
                    UNREGISTER_RING_FDS,
                    &raw mut update,
                    1,
                )
            };
        }
    }

    /// Submits `submit` entries; with `GETEVENTS` in `flags` also waits until `complete` completions are
    /// there, for at most `timeout`.
    pub(super) fn enter(
        &self,
        submit: u32,
        complete: u32,
        flags: u32,
        timeout: Option<Duration>,
    ) -> Result<u32, Errno> {
        #[cfg(test)]
        let (submit, complete) = super::faults::meet(submit, complete)?;
        let timespec = timeout.map(|timeout| {
            let seconds = timeout.as_secs().min(i64::MAX as u64 / 4);
            io_uring::types::Timespec::new().sec(seconds).nsec(timeout.subsec_nanos())
        });
        let arg = GetEventsArg {
            sigmask: 0,
            sigmask_size: 0,
            min_wait_us: 0,
            timespec: timespec.as_ref().map_or(0, |timespec| std::ptr::from_ref(timespec) as u64),
        };
        let flags = flags | EXT_ARG | if self.registered { REGISTERED_RING } else { 0 };
        // SAFETY: `arg` and `timespec` live on this stack until the call has returned and are only read
        // during it. The submitted entries point into the op table, which keeps them until completion.
        let entered = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.fd,
                submit,
                complete,
                flags,
                &raw const arg,
                size_of::<GetEventsArg>(),
            )
        };
        if entered < 0 { Err(errno(&io::Error::last_os_error())) } else { Ok(entered as u32) }
    }
}
