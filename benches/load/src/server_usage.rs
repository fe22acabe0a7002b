//! CPU time and memory of the server process, read from outside.

use std::fs;
use std::io;

/// One reading.
#[derive(Clone, Copy, Default)]
pub struct ServerUsage {
    /// CPU time of all threads, dead ones included.
    pub cpu_ns: u64,
    /// User part, as far as the kernel's clock ticks tell.
    pub user_ticks: u64,
    /// Kernel part, likewise.
    pub system_ticks: u64,
    /// Resident set.
    pub rss_bytes: u64,
}

impl ServerUsage {
    /// Reads process `pid`.
    ///
    /// The sum comes from the process CPU clock, which counts nanoseconds and includes io_uring worker
    /// threads; `/proc/PID/stat` counts hundredths of a second and only gives the split.
    pub fn read(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
            .map_err(|e| io::Error::new(e.kind(), format!("read /proc/{pid}/stat: {e}")))?;
        let (user_ticks, system_ticks) = parse_stat(&stat)
            .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat is not understood")))?;
        let statm = fs::read_to_string(format!("/proc/{pid}/statm"))?;
        let pages: u64 = statm
            .split_whitespace()
            .nth(1)
            .and_then(|field| field.parse().ok())
            .ok_or_else(|| io::Error::other(format!("/proc/{pid}/statm is not understood")))?;
        Ok(ServerUsage {
            cpu_ns: process_cpu_ns(pid)?,
            user_ticks,
            system_ticks,
            rss_bytes: pages * rustix::param::page_size() as u64,
        })
    }
}

/// Fields 14 and 15; the name in field 2 may hold spaces and parentheses, so count from its end.
fn parse_stat(stat: &str) -> Option<(u64, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn process_cpu_ns(pid: u32) -> io::Result<u64> {
    let mut clock: libc::clockid_t = 0;
    // SAFETY: `clock` is a local that libc writes before it returns and keeps no pointer to.
    let error = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a local that the kernel writes before the call returns.
    if unsafe { libc::clock_gettime(clock, &mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_after_a_name_with_parentheses() {
        let line = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 41 42 0 0";
        assert_eq!(parse_stat(line), Some((41, 42)));
    }

    #[test]
    fn the_cpu_clock_of_this_process_advances() {
        let pid = std::process::id();
        let before = ServerUsage::read(pid).expect("own process").cpu_ns;
        let sum = std::hint::black_box((0..200_000u64).fold(0, |a, b| a ^ b.wrapping_mul(a | 3)));
        let after = ServerUsage::read(pid).expect("own process").cpu_ns;
        assert!(after > before, "{sum}");
    }
}
