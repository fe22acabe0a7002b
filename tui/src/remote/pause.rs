//! Stopping a process for one look, when asked to: what is found is then exact.
//!
//! `PTRACE_SEIZE` and `PTRACE_INTERRUPT` (Linux 3.4) stop a thread without a signal. It goes on when it is detached, also
//! if evtop dies. A thread asleep in a system call wakes up for it: Python restarts the call, C code may see `EINTR`.

use super::procfs::Proc;
use std::collections::BTreeMap;
use std::io;

/// A stopped process; dropping it lets it go on. Only the thread that stopped it can.
#[derive(Debug)]
pub struct Pause {
    /// Stopped threads, with the signal that each was about to receive.
    stopped: BTreeMap<i32, i32>,
}

/// A process that starts threads faster than they are stopped is given up after so many rounds.
const ROUNDS: usize = 16;

impl Pause {
    /// Stops all threads of a process.
    pub fn all(process: &Proc) -> io::Result<Self> {
        let mut pause = Self { stopped: BTreeMap::new() };
        for _ in 0..ROUNDS {
            let threads = process.threads()?;
            let fresh: Vec<i32> =
                threads.into_iter().filter(|tid| !pause.stopped.contains_key(tid)).collect();
            if fresh.is_empty() {
                return Ok(pause);
            }
            for tid in fresh {
                match stop(tid) {
                    Ok(signal) => {
                        pause.stopped.insert(tid, signal);
                    }
                    // It ended between being listed and being stopped.
                    Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Err(io::Error::other("it starts threads faster than they can be stopped"))
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        for (&tid, &signal) in &self.stopped {
            // A thread that was killed meanwhile needs no detaching.
            let _ = trace(libc::PTRACE_DETACH, tid, signal);
        }
    }
}

/// Stops one thread; returns the signal to hand back to it, or zero.
fn stop(tid: i32) -> io::Result<i32> {
    trace(libc::PTRACE_SEIZE, tid, 0)?;
    trace(libc::PTRACE_INTERRUPT, tid, 0)?;
    let mut status = 0;
    loop {
        // SAFETY: `status` is a live local that this synchronous call writes one integer to.
        let waited = unsafe { libc::waitpid(tid, &raw mut status, libc::__WALL) };
        if waited == tid {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    if !libc::WIFSTOPPED(status) {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    // The stop that was asked for is an event; any other is a signal on its way, which must not get lost.
    let is_event = status >> 16 == libc::PTRACE_EVENT_STOP;
    Ok(if is_event { 0 } else { libc::WSTOPSIG(status) })
}

fn trace(request: libc::c_uint, tid: i32, data: i32) -> io::Result<()> {
    // SAFETY: seize, interrupt and detach take no pointers: the address is unused, the data is options or a signal.
    let result = unsafe { libc::ptrace(request, tid, std::ptr::null_mut::<u8>(), data as libc::c_long) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
