//! The time between two switches of a thread, as a state machine over samples. Pure: the clock comes in as numbers.

/// What a sample showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Asleep in the hub's own wait.
    Idle,
    /// Running or asleep anywhere else.
    Busy {
        /// The innermost frame belongs to the hub itself.
        is_hub_code: bool,
    },
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
    was_hub_code: bool,
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
            Step::Idle => (self.is_busy, self.was_hub_code) = (false, true),
            Step::Busy { is_hub_code } => {
                let may_have_slept = is_same && is_gap && (is_hub_code || self.was_hub_code);
                if !is_same || !self.is_busy || may_have_slept {
                    self.before_ns =
                        if self.version.is_none() || may_have_slept { now_ns } else { self.last_ns };
                    self.first_ns = now_ns;
                    self.is_busy = true;
                }
                self.last_busy_ns = now_ns;
                self.was_hub_code = is_hub_code;
            }
        }
        self.version = Some(version);
        self.last_ns = now_ns;
        ended
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
    const USER: Step = Step::Busy { is_hub_code: false };
    const HUB: Step = Step::Busy { is_hub_code: true };

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
}
