//! Warm-up and measured window, and what is counted in it.

use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};

use crate::args::Args;
use crate::report::{Readings, Report, percentile_us};
use crate::server_usage::ServerUsage;

/// Longer latencies are counted as this one.
const LONGEST_NS: u64 = 60_000_000_000;

/// Counts requests between the end of the warm-up and the end of the window.
pub struct Window {
    latency_ns: Histogram<u64>,
    requests: u64,
    errors: u64,
    first_error: Option<String>,
    readings: Readings,
    server_pid: Option<u32>,
    warm_until: Instant,
    opened: Option<(Instant, Duration)>,
    length: Duration,
    limit: u64,
    last_progress: Instant,
    stall: Duration,
}

impl Window {
    /// A window that has not begun; `before` and `connected` are readings taken so far.
    pub fn new(args: &Args, before: ServerUsage, connected: ServerUsage) -> io::Result<Self> {
        let now = Instant::now();
        Ok(Window {
            latency_ns: Histogram::new_with_bounds(1, LONGEST_NS, 3).map_err(io::Error::other)?,
            requests: 0,
            errors: 0,
            first_error: None,
            readings: Readings { before, connected, ..Readings::default() },
            server_pid: args.server_pid,
            warm_until: now + args.warmup(),
            opened: None,
            length: args.window(),
            limit: args.requests.unwrap_or(u64::MAX),
            last_progress: now,
            stall: Duration::from_secs_f64(args.stall_s.max(0.1)),
        })
    }

    /// Counts one completed request.
    pub fn completed(&mut self, latency_ns: u64) {
        if self.opened.is_some() {
            self.requests += 1;
            self.latency_ns.saturating_record(latency_ns);
        }
    }

    /// Counts one failed request; failures count in the warm-up too.
    pub fn failed(&mut self, error: &io::Error) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| error.to_string());
    }

    /// To be called once per batch of events: opens the window when due, `true` when it is over.
    pub fn is_over(&mut self, progressed: bool) -> io::Result<bool> {
        let now = Instant::now();
        if progressed {
            self.last_progress = now;
        } else if now - self.last_progress > self.stall {
            let text = format!("no answer for {:.1} s", self.stall.as_secs_f64());
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        match self.opened {
            None if now >= self.warm_until => {
                self.readings.opening = read_server(self.server_pid)?;
                self.opened = Some((Instant::now(), own_cpu()));
                Ok(false)
            }
            None => Ok(false),
            Some((opened, _)) => Ok(now - opened >= self.length || self.requests >= self.limit),
        }
    }

    /// Closes the window and computes the figures.
    pub fn close(mut self) -> io::Result<Report> {
        self.readings.closing = read_server(self.server_pid)?;
        let (opened, cpu_at_open) = self.opened.ok_or_else(|| io::Error::other("the window never opened"))?;
        let elapsed = opened.elapsed();
        let client_cpu = own_cpu().saturating_sub(cpu_at_open);
        let requests = self.requests;
        Ok(Report {
            requests,
            elapsed_s: elapsed.as_secs_f64(),
            requests_per_s: requests as f64 / elapsed.as_secs_f64(),
            errors: self.errors,
            first_error: self.first_error,
            p50_us: percentile_us(&self.latency_ns, 50.0),
            p99_us: percentile_us(&self.latency_ns, 99.0),
            max_us: self.latency_ns.max() as f64 / 1e3,
            client_cpu_us: client_cpu.as_secs_f64() * 1e6 / requests.max(1) as f64,
            server: self.server_pid.map(|_| self.readings.report(requests, elapsed)),
        })
    }
}

/// Reads the server, or zeros when no process was named.
pub fn read_server(pid: Option<u32>) -> io::Result<ServerUsage> {
    pid.map_or_else(|| Ok(ServerUsage::default()), ServerUsage::read)
}

fn own_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
