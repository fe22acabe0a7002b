//! Since when a node stands where it stands, and when a sleeper is due.
//!
//! Who sleeps the same time over and over is found at the same place at every look, mostly with the same bytes on its stack:
//! the frames and the timer lie where the last ones lay. The time at which its timer is due (`timers`) tells one sleep from the
//! next. It is read once a sleep: until it is over nothing can have changed, and after it the next one has another.

use super::addresses::AddressMap;
use crate::remote::Proc;
use crate::state::{Labelled, NodeId};
use std::time::Instant;

/// A timer that was replaced while it was read, or is one of very many, is tried again this often.
const TRIES: u8 = 16;
/// A timer may be made this much later than the wait's seconds say, by rounding.
const SLACK_S: f64 = 0.5;

/// What is remembered of a node.
#[derive(Debug)]
struct Known {
    first: Instant,
    since: Instant,
    print: u64,
    round: u64,
    due: Option<Due>,
    limit: Option<Option<Labelled<f64>>>,
}

/// When the wait of a node is over.
#[derive(Debug, Clone, Copy)]
struct Due {
    /// The print of the node without it.
    print: u64,
    /// By the monotonic clock, in seconds; `None` if no timer of this wait can be read.
    at_s: Option<f64>,
    /// How often it was read in vain.
    tries: u8,
}

impl Due {
    fn is_certain(&self, now_s: f64) -> bool {
        self.at_s.map_or(self.tries >= TRIES, |at_s| at_s > now_s)
    }
}

/// When a node was first seen, and since when its stack is the same.
#[derive(Debug, Default)]
pub struct Seen {
    nodes: AddressMap<NodeId, Known>,
    round: u64,
    /// When the round started.
    now: Option<Instant>,
    /// The same by the clock that the process's timers go by; `None` if it has a clock of its own.
    now_s: Option<f64>,
}

/// How long a node is known, and for how long it stands at its place.
#[derive(Debug, Clone, Copy)]
pub struct Age {
    /// Since it was first seen; `None` if it was there before the first look, which cannot know.
    pub age_ms: Option<Labelled<u64>>,
    /// Since its stack last changed: sampled if its timer tells that it has not run since, inferred if it may have run and
    /// come back.
    pub unchanged_ms: Option<Labelled<u64>>,
}

/// What tells whether a node has run.
#[derive(Debug, Clone, Copy)]
pub struct Prints {
    /// Of its stack.
    pub stack: u64,
    /// A word that mostly differs once it has run, even if it came back to the same place.
    pub run: u64,
}

impl Seen {
    /// Forgets who was not seen in the last round.
    pub fn start_round(&mut self, process: &Proc) {
        let round = self.round;
        self.nodes.retain(|_, known| known.round == round);
        self.round += 1;
        self.now = Some(Instant::now());
        self.now_s = process.monotonic_s();
    }

    /// There was no round before this one.
    pub fn is_first_round(&self) -> bool {
        self.round <= 1
    }

    /// Notes what a node was found at; `seconds` are those its wait lasts, and `timer` reads when its timer is due.
    pub fn note(
        &mut self,
        id: NodeId,
        prints: Prints,
        seconds: Option<f64>,
        timer: impl FnOnce() -> Option<f64>,
    ) -> Age {
        let now = self.now.unwrap_or_else(Instant::now);
        let print = prints.stack.rotate_left(32) ^ prints.run;
        let known = self.nodes.entry(id).or_insert(Known {
            first: now,
            since: now,
            print: 0,
            round: 0,
            due: None,
            limit: None,
        });
        let is_new = known.round == 0;
        known.round = self.round;
        known.due = seconds.zip(self.now_s).map(|(seconds, now_s)| match known.due {
            Some(due) if due.print == print && due.is_certain(now_s) => due,
            before => {
                // A time further away than the wait is long is that of another clock.
                let at_s = timer().filter(|&at_s| at_s <= now_s + seconds + SLACK_S);
                let tries = before.filter(|due| due.print == print).map_or(0, |due| due.tries);
                Due { print, at_s, tries: tries.saturating_add(u8::from(at_s.is_none())) }
            }
        });
        let at_s = known.due.and_then(|due| due.at_s);
        let print = print ^ at_s.map_or(0, |at_s| at_s.to_bits());
        if is_new || known.print != print {
            (known.since, known.print) = (now, print);
            known.limit = None;
        }
        let unchanged_ms = now.duration_since(known.since).as_millis() as u64;
        let is_known = self.round > 1;
        let age_ms = now.duration_since(known.first).as_millis() as u64;
        let label = if at_s.is_some() { Labelled::sampled } else { Labelled::inferred };
        Age {
            age_ms: is_known.then(|| Labelled::sampled(age_ms)),
            unchanged_ms: is_known.then(|| label(unchanged_ms)),
        }
    }

    /// The time limit around a node's wait, read once as long as it stands at its place; `read` is given the time now.
    pub fn limit(
        &mut self,
        id: NodeId,
        read: impl FnOnce(Option<f64>) -> Option<Labelled<f64>>,
    ) -> Option<Labelled<f64>> {
        let now_s = self.now_s;
        *self.nodes.get_mut(&id)?.limit.get_or_insert_with(|| read(now_s))
    }

    /// What is left of a node's wait, if its timer could be read.
    pub fn left_ms(&self, id: NodeId) -> Option<u64> {
        let left_s = self.nodes.get(&id)?.due?.at_s? - self.now_s?;
        Some((left_s.max(0.0) * 1e3).round() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const ID: NodeId = NodeId(0x1000);
    const PRINTS: Prints = Prints { stack: 1, run: 2 };

    fn seen_at(seen: &mut Seen, start: Instant, ms: u64) {
        seen.round += 1;
        (seen.now, seen.now_s) = (Some(start + Duration::from_millis(ms)), Some(ms as f64 / 1e3));
    }

    #[test]
    fn a_sleep_that_follows_another_at_the_same_place_starts_anew() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        let mut still_ms = |ms: u64, due_s: Option<f64>| {
            seen_at(&mut seen, start, ms);
            let age = seen.note(ID, PRINTS, Some(1.0), || due_s);
            (age.unchanged_ms.map(|unchanged| unchanged.value), seen.left_ms(ID))
        };
        assert_eq!(still_ms(0, Some(1.0)), (None, Some(1000)), "the first look cannot know");
        assert_eq!(still_ms(900, None), (Some(900), Some(100)), "the timer is not read again");
        // 1. The sleep is over, and the next one has begun. 2. It is due at another time.
        assert_eq!(still_ms(1200, Some(2.1)), (Some(0), Some(900)));
        assert_eq!(still_ms(2000, None), (Some(800), Some(100)));
        // 3. What is due and does not run, because its hub is blocked, has not moved.
        assert_eq!(still_ms(2500, Some(2.1)), (Some(1300), Some(0)));
    }

    #[test]
    fn what_no_timer_tells_is_inferred() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        seen_at(&mut seen, start, 0);
        let age = seen.note(ID, PRINTS, Some(1.0), || None);
        assert_eq!((age.unchanged_ms, seen.left_ms(ID)), (None, None));
        for _ in 0..TRIES {
            seen.note(ID, PRINTS, Some(1.0), || None);
        }
        seen_at(&mut seen, start, 700);
        let age = seen.note(ID, PRINTS, Some(1.0), || panic!("it was looked for"));
        assert_eq!(age.unchanged_ms, Some(Labelled::inferred(700)));
        // A time of another clock.
        let age = seen.note(NodeId(2), PRINTS, Some(1.0), || Some(1e9));
        assert_eq!((age.unchanged_ms, seen.left_ms(NodeId(2))), (Some(Labelled::inferred(0)), None));
    }
}
