//! How the hubs fared over the last minutes: blocked time and longest stretch per half second, and stalls by length.
//!
//! Blocked time is each hub's own: two that are blocked at once are not one that is blocked twice.

use crate::state::Stall;
use crate::watch::WatchCounters;
use std::collections::{BTreeMap, VecDeque};

/// The watcher reports twice a second.
pub const BEAT_MS: u64 = 500;
/// Two minutes.
const BEATS: usize = 240;

/// Upper bounds of the bins of the histogram of stalls, in milliseconds; the last bin has none.
pub const BIN_ENDS_MS: [u64; 8] = [25, 50, 100, 200, 500, 1000, 2000, 5000];

/// One half second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Beat {
    /// Time in it that the hub was blocked that was so for longest, in milliseconds.
    pub blocked_ms: u64,
    /// The longest stretch without a switch that ended in it, in microseconds.
    pub longest_us: u64,
}

/// Blocked time of one hub, by half second.
#[derive(Debug, Default)]
struct Blocked {
    /// In the latest half seconds, in milliseconds; a hub that was never blocked before has fewer.
    beats: VecDeque<u64>,
    pending_ms: u64,
}

/// The recent past.
#[derive(Debug, Default)]
pub struct Pulse {
    /// The longest stretch of each half second, in microseconds.
    longest_us: VecDeque<u64>,
    /// By thread; a hub that was never blocked is not among them.
    hubs: BTreeMap<i32, Blocked>,
    bins: [u64; BIN_ENDS_MS.len() + 1],
}

impl Pulse {
    /// Adds a stall that has ended; a long one reaches back over several half seconds.
    pub fn add_stall(&mut self, stall: &Stall) {
        let duration_ms = stall.duration_ms.max(0.0) as u64;
        let bin = BIN_ENDS_MS.iter().position(|&end| duration_ms < end).unwrap_or(BIN_ENDS_MS.len());
        self.bins[bin] += 1;
        let hub = self.hubs.entry(stall.thread).or_default();
        while hub.beats.len() < self.longest_us.len() {
            hub.beats.push_front(0);
        }
        let mut rest_ms = duration_ms;
        for beat in std::iter::once(&mut hub.pending_ms).chain(hub.beats.iter_mut().rev()) {
            let share_ms = rest_ms.min(BEAT_MS - (*beat).min(BEAT_MS));
            *beat += share_ms;
            rest_ms -= share_ms;
            if rest_ms == 0 {
                break;
            }
        }
    }

    /// Ends a half second.
    pub fn add_report(&mut self, watch: &WatchCounters) {
        self.longest_us.push_back(watch.longest_stretch_us);
        // Threads come and go.
        self.hubs.retain(|_, hub| hub.pending_ms > 0 || hub.beats.iter().any(|&blocked_ms| blocked_ms > 0));
        for hub in self.hubs.values_mut() {
            hub.beats.push_back(std::mem::take(&mut hub.pending_ms));
            if hub.beats.len() > BEATS {
                hub.beats.pop_front();
            }
        }
        if self.longest_us.len() > BEATS {
            self.longest_us.pop_front();
        }
    }

    /// Oldest first.
    pub fn beats(&self) -> Vec<Beat> {
        let count = self.longest_us.len();
        let beat = |index: usize| {
            let back = count - index;
            let of_hub = |hub: &Blocked| Some(*hub.beats.get(hub.beats.len().checked_sub(back)?)?);
            let blocked_ms = self.hubs.values().filter_map(of_hub).max().unwrap_or(0);
            Beat { blocked_ms, longest_us: self.longest_us[index] }
        };
        (0..count).map(beat).collect()
    }

    /// Stalls by length: bin `i` ends at `BIN_ENDS_MS[i]`.
    pub fn bins(&self) -> &[u64] {
        &self.bins
    }

    /// Thousandths of the last `beats` half seconds in which each hub was blocked, by thread; without those that were not.
    pub fn blocked_hubs(&self, beats: usize) -> Vec<(i32, u64)> {
        let count = self.longest_us.len().min(beats) as u64;
        if count == 0 {
            return Vec::new();
        }
        let share =
            |hub: &Blocked| hub.beats.iter().rev().take(beats).sum::<u64>() * 1000 / (count * BEAT_MS);
        let shares = self.hubs.iter().map(|(&tid, hub)| (tid, share(hub)));
        shares.filter(|&(_, permille)| permille > 0).collect()
    }

    /// The hub that was blocked for most of them, and its share.
    pub fn worst_hub(&self, beats: usize) -> Option<(i32, u64)> {
        self.blocked_hubs(beats).into_iter().max_by_key(|&(_, permille)| permille)
    }

    /// The longest stretch of all kept half seconds, and the typical one, in milliseconds.
    pub fn longest_ms(&self) -> Option<(f64, f64)> {
        let mut all: Vec<u64> = self.longest_us.iter().copied().collect();
        all.sort_unstable();
        let typical = *all.get(all.len() / 2)?;
        Some((*all.last()? as f64 / 1e3, typical as f64 / 1e3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Class, Delay, Frame, STALL_SCHEMA, Trust};

    fn stall(thread: i32, duration_ms: f64) -> Stall {
        let delay = Delay {
            application_ms: duration_ms,
            gil_ms: 0.0,
            run_queue_ms: 0.0,
            stolen_ms: 0.0,
            processor_ms: 0.0,
        };
        Stall {
            schema: STALL_SCHEMA,
            started_at_ms: 0,
            duration_ms,
            error_ms: 0.0,
            is_open: false,
            class: Class::Sleep,
            class_trust: Trust::Exact,
            file: "app.py".into(),
            line: 1,
            function: "poll".into(),
            innermost: Frame::new("poll".into(), "app.py".into(), 1).into(),
            syscall: None,
            fd: None,
            target: None,
            library: None,
            delay,
            stack: Vec::new(),
            parts: Vec::new(),
            thread,
            green_thread: None,
            task: None,
            advice: "",
        }
    }

    #[test]
    fn hubs_that_are_blocked_at_once_are_told_apart() {
        let mut pulse = Pulse::default();
        for _ in 0..10 {
            for (thread, duration_ms) in [(1, 450.0), (2, 500.0), (3, 400.0)] {
                pulse.add_stall(&stall(thread, duration_ms));
            }
            pulse.add_report(&WatchCounters::default());
        }
        assert_eq!(pulse.blocked_hubs(10), [(1, 900), (2, 1000), (3, 800)]);
        assert_eq!(pulse.worst_hub(10), Some((2, 1000)));
        assert!(pulse.beats().iter().all(|beat| beat.blocked_ms == 500));
    }

    #[test]
    fn a_long_stall_reaches_back_and_a_hub_that_fares_well_again_is_forgotten() {
        let mut pulse = Pulse::default();
        for _ in 0..4 {
            pulse.add_report(&WatchCounters::default());
        }
        pulse.add_stall(&stall(7, 1200.0));
        pulse.add_report(&WatchCounters::default());
        let blocked: Vec<u64> = pulse.beats().iter().map(|beat| beat.blocked_ms).collect();
        assert_eq!(blocked, [0, 0, 200, 500, 500]);
        for _ in 0..=BEATS {
            pulse.add_report(&WatchCounters::default());
        }
        assert!(pulse.hubs.is_empty() && pulse.worst_hub(60).is_none());
    }
}
