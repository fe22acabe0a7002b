//! The turn: one FIFO ready queue, one timer store, one wait per thread.
//!
//! A turn of the thread is: move what is due from the timers to the ready queue, run the *batch* (what was
//! ready when the turn began, and no more), then look at the kernel once, waiting only if nothing is ready.
//! Work that becomes ready while a batch runs belongs to the next turn. So a flood of I/O cannot starve
//! the timers, timers cannot starve I/O, and everything runs in the order in which it became ready,
//! whatever kind of runnable `R` it is.
//!
//! The turn neither runs anything nor talks to the kernel; a face does both, from whichever stack it has
//! at hand. That is why the state of the batch lives here and not on a stack.

use std::collections::VecDeque;
use std::time::Duration;

mod timers;

pub use timers::{TimerKey, Timers};

/// Ready queue, timers and the bounds of the current batch.
#[derive(Debug)]
pub struct Turn<R> {
    ready: VecDeque<R>,
    timers: Timers<R>,
    /// How many of the queue's front entries belong to the batch under way.
    batch: usize,
    turns: u64,
}

impl<R> Default for Turn<R> {
    fn default() -> Self {
        Self { ready: VecDeque::new(), timers: Timers::default(), batch: 0, turns: 0 }
    }
}

/// Nanoseconds of the monotonic clock, the one time base of every deadline.
pub fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    // The monotonic clock counts up from boot: neither field is ever negative.
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

impl<R> Turn<R> {
    /// Appends a runnable; it runs in the next batch.
    pub fn push(&mut self, runnable: R) {
        self.ready.push_back(runnable);
    }

    /// Adds a runnable that becomes ready at `deadline_ns`.
    pub fn push_at(&mut self, deadline_ns: u64, runnable: R) -> TimerKey {
        self.timers.add(deadline_ns, runnable)
    }

    /// Takes a timed runnable out before it becomes ready.
    pub fn cancel(&mut self, key: TimerKey) -> Option<R> {
        self.timers.cancel(key)
    }

    /// Moves what is due to the ready queue.
    pub fn expire(&mut self, now_ns: u64) {
        while let Some(runnable) = self.timers.pop_due(now_ns) {
            self.ready.push_back(runnable);
        }
    }

    /// Starts a batch of all that is ready now, and returns its size.
    pub fn begin(&mut self) -> usize {
        self.turns += 1;
        self.batch = self.ready.len();
        self.batch
    }

    /// Moves what `goes_first` picks in front of the first of the batch that `waits`; all else keeps its order.
    pub fn hoist(&mut self, goes_first: impl Fn(&R) -> bool, waits: impl Fn(&R) -> bool) {
        let Some(place) = self.ready.iter().take(self.batch).position(waits) else { return };
        if !self.ready.iter().take(self.batch).skip(place).any(&goes_first) {
            return;
        }
        let next_batch = self.ready.split_off(self.batch);
        let (first, rest): (Vec<R>, Vec<R>) = self.ready.drain(place..).partition(goes_first);
        self.ready.extend(first);
        self.ready.extend(rest);
        self.ready.extend(next_batch);
    }

    /// The next runnable of the batch.
    #[allow(clippy::should_implement_trait)] // Not an iterator: the batch bounds it, and it grows between turns.
    pub fn next(&mut self) -> Option<R> {
        if self.batch == 0 {
            return None;
        }
        self.batch -= 1;
        self.ready.pop_front()
    }

    /// What [`Turn::next`] would return.
    pub fn peek(&self) -> Option<&R> {
        if self.batch == 0 { None } else { self.ready.front() }
    }

    /// Whether anything is ready, in this batch or the next.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// How long the wait may last: not at all when something is ready, else until the next deadline,
    /// else without end.
    pub fn timeout(&mut self, now_ns: u64) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        let deadline_ns = self.timers.next_deadline_ns()?;
        Some(Duration::from_nanos(deadline_ns.saturating_sub(now_ns)))
    }

    /// The ready runnables, first to run first.
    pub fn ready(&self) -> impl Iterator<Item = &R> {
        self.ready.iter()
    }

    /// The timed runnables, in no particular order.
    pub fn timed(&self) -> impl Iterator<Item = &R> {
        self.timers.values()
    }

    /// Number of timed runnables.
    pub fn timed_len(&self) -> usize {
        self.timers.len()
    }

    /// Number of cancelled timed runnables whose traces are still in the store.
    pub fn cancelled_len(&self) -> usize {
        self.timers.cancelled_len()
    }

    /// Number of ready runnables.
    pub fn ready_len(&self) -> usize {
        self.ready.len()
    }

    /// Number of batches begun so far.
    pub fn turns(&self) -> u64 {
        self.turns
    }

    /// Takes out everything, ready and timed, so that the caller can drop it at a safe place.
    pub fn drain(&mut self) -> Vec<R> {
        self.batch = 0;
        let mut all: Vec<R> = self.ready.drain(..).collect();
        all.append(&mut self.timers.drain());
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_ready_during_a_batch_waits_for_the_next_one() {
        let mut turn = Turn::default();
        turn.push("first");
        assert_eq!(turn.begin(), 1);
        turn.push("second");
        assert_eq!(turn.next(), Some("first"));
        assert_eq!(turn.next(), None);
        assert_eq!(turn.begin(), 1);
        assert_eq!(turn.next(), Some("second"));
    }

    #[test]
    fn hoisted_runnables_keep_their_order_and_stay_in_their_batch() {
        let mut turn = Turn::default();
        for runnable in ["resume", "start", "handle 1", "resume 2", "handle 2"] {
            turn.push(runnable);
        }
        turn.begin();
        turn.push("handle 3");
        turn.hoist(|runnable| runnable.starts_with("handle"), |runnable| *runnable == "start");
        let batch: Vec<_> = std::iter::from_fn(|| turn.next()).collect();
        assert_eq!(batch, ["resume", "handle 1", "handle 2", "start", "resume 2"]);
    }

    #[test]
    fn the_wait_ends_at_the_next_deadline_and_not_at_a_cancelled_one() {
        let mut turn = Turn::default();
        assert_eq!(turn.timeout(0), None);
        let early = turn.push_at(100, "early");
        turn.push_at(500, "late");
        assert_eq!(turn.timeout(40), Some(Duration::from_nanos(60)));
        turn.cancel(early);
        assert_eq!(turn.timeout(40), Some(Duration::from_nanos(460)));
        turn.expire(500);
        assert_eq!(turn.timeout(500), Some(Duration::ZERO));
    }
}
