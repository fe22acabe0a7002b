//! How a hub fared over the last minutes: blocked time and longest stretch per half second, and stalls by length.

use crate::state::Stall;
use crate::watch::WatchCounters;
use std::collections::VecDeque;

/// The watcher reports twice a second.
pub const BEAT_MS: u64 = 500;
/// Two minutes.
const BEATS: usize = 240;

/// Upper bounds of the bins of the histogram of stalls, in milliseconds; the last bin has none.
pub const BIN_ENDS_MS: [u64; 8] = [25, 50, 100, 200, 500, 1000, 2000, 5000];

/// One half second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Beat {
    /// Time the hub was blocked in it, in milliseconds.
    pub blocked_ms: u64,
    /// The longest stretch without a switch that ended in it, in microseconds.
    pub longest_us: u64,
}

/// The recent past.
#[derive(Debug, Default)]
pub struct Pulse {
    beats: VecDeque<Beat>,
    bins: [u64; BIN_ENDS_MS.len() + 1],
    pending_ms: u64,
}

impl Pulse {
    /// Adds a stall that has ended; a long one reaches back over several half seconds.
    pub fn add_stall(&mut self, stall: &Stall) {
        let duration_ms = stall.duration_ms.max(0.0) as u64;
        let bin = BIN_ENDS_MS.iter().position(|&end| duration_ms < end).unwrap_or(BIN_ENDS_MS.len());
        self.bins[bin] += 1;
        let mut rest_ms = duration_ms;
        let own_ms = rest_ms.min(BEAT_MS - self.pending_ms.min(BEAT_MS));
        self.pending_ms += own_ms;
        rest_ms -= own_ms;
        for beat in self.beats.iter_mut().rev() {
            let share_ms = rest_ms.min(BEAT_MS - beat.blocked_ms.min(BEAT_MS));
            beat.blocked_ms += share_ms;
            rest_ms -= share_ms;
            if rest_ms == 0 {
                break;
            }
        }
    }

    /// Ends a half second.
    pub fn add_report(&mut self, watch: &WatchCounters) {
        if self.beats.len() == BEATS {
            self.beats.pop_front();
        }
        let blocked_ms = std::mem::take(&mut self.pending_ms);
        self.beats.push_back(Beat { blocked_ms, longest_us: watch.longest_stretch_us });
    }

    /// Oldest first.
    pub fn beats(&self) -> impl DoubleEndedIterator<Item = &Beat> + ExactSizeIterator {
        self.beats.iter()
    }

    /// Stalls by length: bin `i` ends at `BIN_ENDS_MS[i]`.
    pub fn bins(&self) -> &[u64] {
        &self.bins
    }

    /// Thousandths of the last `beats` half seconds in which the hub was blocked.
    pub fn blocked_permille(&self, beats: usize) -> u64 {
        let recent = self.beats.iter().rev().take(beats);
        let (count, blocked_ms) = recent.fold((0, 0), |(n, ms), beat| (n + 1, ms + beat.blocked_ms));
        if count == 0 { 0 } else { blocked_ms * 1000 / (count * BEAT_MS) }
    }

    /// The longest stretch of all kept half seconds, and the typical one, in milliseconds.
    pub fn longest_ms(&self) -> Option<(f64, f64)> {
        let mut all: Vec<u64> = self.beats.iter().map(|beat| beat.longest_us).collect();
        all.sort_unstable();
        let typical = *all.get(all.len() / 2)?;
        Some((*all.last()? as f64 / 1e3, typical as f64 / 1e3))
    }
}
