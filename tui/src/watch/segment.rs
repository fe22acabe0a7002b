//! The time between two switches of a thread, as a state machine over samples. Pure: the clock comes in as numbers.

/// Whose code a thread was seen in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Place {
    /// The hub's own, which may go to sleep and wake up without a switch.
    Hub,
    /// Anybody else's.
    #[default]
    User,
    /// The frames moved too fast to tell: a loop that calls a small function millions of times a second.
    Unknown,
}

/// What a sample showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Asleep in the hub's own wait.
    Idle,
    /// Running or asleep anywhere else.
    Busy(Place),
}

/// A stretch without a switch that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// When it began, as near as the samples tell.
    pub start_ns: u64,
    /// When it ended, likewise.
    pub end_ns: u64,
    /// How far the two can be off together.
    pub error_ns: u64,
    /// The part between its first and last sample, which is certain.
    pub certain_ns: u64,
}

/// Follows one thread.
#[derive(Debug, Clone, Default)]
pub struct Segment {
    version: Option<u64>,
    /// Last sample of any kind.
    last_ns: u64,
    /// Latest instant before the segment, and its first sample.
    before_ns: u64,
    first_ns: u64,
    last_busy_ns: u64,
    is_busy: bool,
    /// The latest place that was known.
    place: Place,
    /// The end of a gap behind which the place was not known: if it turns out to be hub code, the stretch starts there.
    doubted_ns: Option<u64>,
}

/// Between samples further apart than this, hub code may have slept unseen.
const GAP_NS: u64 = 5_000_000;

impl Segment {
    /// Takes a sample in; returns the stretch that it ended, if one was open.
    pub fn step(&mut self, now_ns: u64, version: u64, step: Step) -> Option<Progress> {
        let is_same = self.version == Some(version);
        let ended =
            if self.is_busy && (!is_same || step == Step::Idle) { Some(self.progress(now_ns)) } else { None };
        let is_gap = now_ns.saturating_sub(self.last_ns) > GAP_NS;
        match step {
            Step::Idle => (self.is_busy, self.place) = (false, Place::Hub),
            Step::Busy(place) => {
                if !is_same || !self.is_busy {
                    let before_ns = if self.version.is_none() { now_ns } else { self.last_ns };
                    self.start(before_ns, now_ns);
                } else if is_gap {
                    self.judge_gap(now_ns, place);
                }
                match (place, self.doubted_ns) {
                    (Place::Hub, Some(gap_ns)) => self.start(gap_ns, gap_ns),
                    (Place::User, _) => self.doubted_ns = None,
                    _ => {}
                }
                self.last_busy_ns = now_ns;
                if place != Place::Unknown || !is_same {
                    self.place = place;
                }
            }
        }
        self.version = Some(version);
        self.last_ns = now_ns;
        ended
    }

    fn start(&mut self, before_ns: u64, first_ns: u64) {
        (self.before_ns, self.first_ns) = (before_ns, first_ns);
        self.is_busy = true;
        self.doubted_ns = None;
    }

    /// A gap of the watcher: it is part of the stretch only if the thread cannot have slept in its hub meanwhile.
    fn judge_gap(&mut self, now_ns: u64, place: Place) {
        if place == Place::Hub || self.place == Place::Hub {
            self.start(now_ns, now_ns);
        } else if place == Place::Unknown {
            self.doubted_ns = Some(now_ns);
        }
    }

    /// Time without a switch that is certain so far; zero while idle.
    pub fn certain_ns(&self) -> u64 {
        if self.is_busy { self.last_busy_ns - self.first_ns } else { 0 }
    }

    /// Whether the count is the one seen last.
    pub fn is_same(&self, version: u64) -> bool {
        self.version == Some(version)
    }

    /// The open stretch as if it ended now.
    pub fn progress(&self, now_ns: u64) -> Progress {
        let start_ns = self.before_ns + (self.first_ns - self.before_ns) / 2;
        let end_ns = self.last_busy_ns + (now_ns.saturating_sub(self.last_busy_ns)) / 2;
        Progress {
            start_ns,
            end_ns,
            error_ns: (self.first_ns - self.before_ns) / 2 + now_ns.saturating_sub(self.last_busy_ns) / 2,
            certain_ns: self.certain_ns(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const USER: Step = Step::Busy(Place::User);
    const HUB: Step = Step::Busy(Place::Hub);
    const UNKNOWN: Step = Step::Busy(Place::Unknown);

    #[test]
    fn a_block_lasts_from_the_switch_before_it_to_the_switch_behind_it() {
        let mut segment = Segment::default();
        segment.step(0, 1, Step::Idle);
        for ms in 10..60 {
            assert_eq!(segment.step(ms * MS, 2, USER).filter(|_| ms > 10), None);
        }
        let ended = segment.step(60 * MS, 3, USER).expect("the count rose");
        assert_eq!((ended.start_ns, ended.end_ns), (5 * MS, 59 * MS + MS / 2));
        assert_eq!(ended.certain_ns, 49 * MS);
    }

    #[test]
    fn an_idle_hub_is_no_block_however_long_it_waits() {
        let mut segment = Segment::default();
        for ms in 0..1000 {
            assert_eq!(segment.step(ms * MS, 7, Step::Idle), None);
            assert_eq!(segment.certain_ns(), 0);
        }
    }

    #[test]
    fn a_callback_of_the_hub_that_blocks_without_a_switch_is_a_block() {
        let mut segment = Segment::default();
        segment.step(0, 7, Step::Idle);
        segment.step(MS, 7, HUB);
        segment.step(2 * MS, 7, HUB);
        segment.step(3 * MS, 7, HUB);
        assert_eq!(segment.certain_ns(), 2 * MS);
        assert!(segment.step(4 * MS, 7, Step::Idle).is_some());
    }

    #[test]
    fn a_gap_of_the_watcher_in_hub_code_proves_nothing() {
        let mut segment = Segment::default();
        segment.step(0, 7, HUB);
        // 1. The hub went to sleep. 2. It woke 40 ms later. 3. The watcher, short of a processor, saw neither.
        segment.step(40 * MS, 7, HUB);
        assert_eq!(segment.certain_ns(), 0);
    }

    #[test]
    fn a_gap_of_the_watcher_in_user_code_is_part_of_the_block() {
        let mut segment = Segment::default();
        segment.step(0, 7, USER);
        segment.step(40 * MS, 7, USER);
        assert_eq!(segment.certain_ns(), 40 * MS);
    }

    #[test]
    fn a_late_look_at_frames_that_move_too_fast_to_be_read_does_not_shorten_the_block() {
        let mut segment = Segment::default();
        segment.step(0, 6, Step::Idle);
        segment.step(MS, 7, UNKNOWN);
        segment.step(2 * MS, 7, USER);
        // The watcher comes late twice, and each time the innermost frame is between two calls.
        segment.step(30 * MS, 7, UNKNOWN);
        segment.step(60 * MS, 7, UNKNOWN);
        segment.step(61 * MS, 7, USER);
        assert_eq!(segment.certain_ns(), 60 * MS);
    }

    #[test]
    fn a_gap_before_a_place_that_turns_out_to_be_hub_code_proves_nothing() {
        let mut segment = Segment::default();
        segment.step(0, 7, UNKNOWN);
        // 1. The hub, too fast to be read, went to sleep and woke 40 ms later. 2. Now it can be read.
        segment.step(40 * MS, 7, UNKNOWN);
        segment.step(41 * MS, 7, HUB);
        assert_eq!(segment.certain_ns(), MS);
    }
}
