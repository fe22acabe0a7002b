//! The timer store: deadlines in a heap, values in a slot map, cancellation in constant time.
//!
//! Most timers of a server are cancelled before they are due (a timeout around every receive), so
//! cancelling only empties the slot; the heap entry stays behind and is skipped when it surfaces. When
//! more than half of the heap is such leftovers it is rebuilt, which keeps both memory and the cost of an
//! add or a cancel constant in the long run.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use slotmap::{SlotMap, new_key_type};

new_key_type! {
    /// Names one timer of one store; a key of a fired or cancelled timer names nothing.
    pub struct TimerKey;
}

/// Below this many heap entries leftovers are not worth a rebuild.
const REBUILD_MIN: usize = 64;

/// Timers ordered by deadline, and among equal deadlines by the order in which they were added.
#[derive(Debug)]
pub struct Timers<T> {
    heap: BinaryHeap<Reverse<Entry>>,
    values: SlotMap<TimerKey, T>,
    sequence: u64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    deadline_ns: u64,
    sequence: u64,
    key: TimerKey,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), values: SlotMap::with_key(), sequence: 0 }
    }
}

impl<T> Timers<T> {
    /// Adds a timer due at `deadline_ns` (any monotonic clock, as long as it is always the same one).
    pub fn add(&mut self, deadline_ns: u64, value: T) -> TimerKey {
        let key = self.values.insert(value);
        self.sequence += 1;
        self.heap.push(Reverse(Entry { deadline_ns, sequence: self.sequence, key }));
        key
    }

    /// Takes a timer out; `None` if it fired or was cancelled before.
    pub fn cancel(&mut self, key: TimerKey) -> Option<T> {
        let value = self.values.remove(key)?;
        if self.heap.len() > REBUILD_MIN && self.heap.len() > 2 * self.values.len() {
            let values = &self.values;
            self.heap.retain(|Reverse(entry)| values.contains_key(entry.key));
        }
        Some(value)
    }

    /// Takes out the earliest timer whose deadline is not after `now_ns`.
    pub fn pop_due(&mut self, now_ns: u64) -> Option<T> {
        if self.next_deadline_ns()? > now_ns {
            return None;
        }
        let Reverse(entry) = self.heap.pop()?;
        self.values.remove(entry.key)
    }

    /// The earliest deadline among the live timers.
    pub fn next_deadline_ns(&mut self) -> Option<u64> {
        while let Some(Reverse(entry)) = self.heap.peek() {
            if self.values.contains_key(entry.key) {
                return Some(entry.deadline_ns);
            }
            self.heap.pop();
        }
        None
    }

    /// Number of live timers.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Number of cancelled timers whose heap entry has not been removed.
    pub fn cancelled_len(&self) -> usize {
        self.heap.len() - self.values.len()
    }

    /// Whether no timer is live.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The live timers, in no particular order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.values.values()
    }

    /// Takes out every live timer.
    pub fn drain(&mut self) -> Vec<T> {
        self.heap.clear();
        self.values.drain().map(|(_, value)| value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_by_deadline_and_then_in_the_order_they_were_added() {
        let mut timers = Timers::default();
        for (deadline_ns, name) in [(30, 'd'), (10, 'a'), (20, 'b'), (20, 'c')] {
            timers.add(deadline_ns, name);
        }
        assert_eq!(timers.pop_due(9), None);
        let fired: String = std::iter::from_fn(|| timers.pop_due(25)).collect();
        assert_eq!(fired, "abc");
        assert_eq!(timers.next_deadline_ns(), Some(30));
    }

    #[test]
    fn a_cancelled_timer_never_fires_and_its_key_names_no_later_timer() {
        let mut timers = Timers::default();
        let first = timers.add(10, 1);
        assert_eq!(timers.cancel(first), Some(1));
        let _second = timers.add(10, 2);
        assert_eq!(timers.cancel(first), None);
        assert_eq!(timers.pop_due(10), Some(2));
        assert_eq!(timers.next_deadline_ns(), None);
    }

    #[test]
    fn leftovers_of_cancelled_timers_do_not_accumulate() {
        let mut timers = Timers::default();
        for round in 0..100_000_u64 {
            let key = timers.add(1_000_000 + round, round);
            timers.cancel(key);
        }
        assert!(timers.is_empty());
        assert!(timers.heap.len() <= 2 * REBUILD_MIN, "{} entries left", timers.heap.len());
    }
}
