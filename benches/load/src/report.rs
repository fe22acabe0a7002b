//! The result, as printed.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::server_usage::ServerUsage;

/// One run.
#[derive(Serialize)]
pub struct Report {
    /// Requests completed and verified in the window.
    pub requests: u64,
    /// Length of the window.
    pub elapsed_s: f64,
    /// Requests per second.
    pub requests_per_s: f64,
    /// Requests that ended in an error, and the first of them.
    pub errors: u64,
    /// Text of the first error.
    pub first_error: Option<String>,
    /// Latency percentiles in microseconds.
    pub p50_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// Slowest request.
    pub max_us: f64,
    /// CPU time of this client per request.
    pub client_cpu_us: f64,
    /// The server, when its process id was given.
    pub server: Option<ServerReport>,
}

/// What the server process spent in the window.
#[derive(Serialize)]
pub struct ServerReport {
    /// User and kernel time per request.
    pub cpu_us: f64,
    /// Part of it that the kernel's ticks put in user space, 0 to 1.
    pub user_share: f64,
    /// CPU time over elapsed time: 1.0 is a full core.
    pub busy: f64,
    /// Resident set before the first connection.
    pub rss_before_bytes: u64,
    /// Resident set with all connections open, before the load.
    pub rss_connected_bytes: u64,
    /// Resident set at the end of the window.
    pub rss_after_bytes: u64,
}

/// Readings of the server around a run.
#[derive(Clone, Copy, Default)]
pub struct Readings {
    /// Before the first connection.
    pub before: ServerUsage,
    /// With all connections open.
    pub connected: ServerUsage,
    /// At the start of the window.
    pub opening: ServerUsage,
    /// At the end of the window.
    pub closing: ServerUsage,
}

impl Readings {
    /// Figures for `requests` served in `elapsed`.
    pub fn report(&self, requests: u64, elapsed: Duration) -> ServerReport {
        let cpu_ns = self.closing.cpu_ns.saturating_sub(self.opening.cpu_ns) as f64;
        let user = self.closing.user_ticks.saturating_sub(self.opening.user_ticks) as f64;
        let system = self.closing.system_ticks.saturating_sub(self.opening.system_ticks) as f64;
        ServerReport {
            cpu_us: cpu_ns / 1e3 / requests.max(1) as f64,
            user_share: user / (user + system).max(1.0),
            busy: cpu_ns / elapsed.as_nanos().max(1) as f64,
            rss_before_bytes: self.before.rss_bytes,
            rss_connected_bytes: self.connected.rss_bytes,
            rss_after_bytes: self.closing.rss_bytes,
        }
    }
}

/// A percentile of a nanosecond histogram in microseconds.
pub fn percentile_us(latency_ns: &Histogram<u64>, percent: f64) -> f64 {
    latency_ns.value_at_percentile(percent) as f64 / 1e3
}
