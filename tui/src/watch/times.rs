//! Where the time of a stall went, and whether enough of it is the application's own. Pure, but for the length of a tick.

use crate::state::Delay;
use rustix::time::{ClockId, clock_getres};

/// The kernel tells what a hypervisor took in hundredths of a second: a part of one may be missing at either end.
const STOLEN_UNIT_MS: u64 = 10;

/// Why a stretch without a switch is not a stall of the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dismissal {
    /// The thread was ready and had no processor.
    RunQueue,
    /// It was shorter than the threshold once waiting for others was taken off.
    Short,
}

/// Where the time of a stall went.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// From the switch before to the switch behind.
    pub duration_ms: f64,
    /// Between its first and last look.
    pub certain_ms: f64,
    /// Ready, without a processor.
    pub run_queue_ms: f64,
    /// Before the first closer look, and possibly without a processor.
    pub unexplained_ms: f64,
    /// From the first to the latest closer look.
    pub on_cpu_ms: f64,
    /// Waiting for the GIL.
    pub gil_ms: f64,
    /// Before the first closer look.
    pub lead_ms: f64,
    /// When closer looks found the thread asleep.
    pub asleep_ms: f64,
    /// While the hypervisor had taken a processor away, at most.
    pub stolen_ms: f64,
    /// Waiting for the lock of the memory map while a reader outside of the process held it, for want of a processor.
    pub map_ms: f64,
}

impl Times {
    /// The same for a thread that computed: what the hypervisor took from a processor meanwhile may have been its time.
    pub fn on_a_taken_processor(self, before_ms: &[u64], after_ms: &[u64]) -> Self {
        let taken = before_ms.iter().zip(after_ms).map(|(before, after)| after.saturating_sub(*before)).max();
        let most_ms = taken.filter(|&taken| taken > 0).map_or(0, |taken| taken + STOLEN_UNIT_MS) as f64;
        let left_ms = (self.duration_ms - self.run_queue_ms - self.gil_ms - self.on_cpu_ms).max(0.0);
        Self { stolen_ms: most_ms.min(left_ms), ..self }
    }

    /// Where it went, for the report.
    pub fn delay(&self) -> Delay {
        Delay {
            application_ms: self.duration_ms - self.run_queue_ms - self.gil_ms - self.stolen_ms,
            gil_ms: self.gil_ms,
            run_queue_ms: self.run_queue_ms,
            stolen_ms: self.stolen_ms,
            processor_ms: self.on_cpu_ms,
        }
    }

    /// Whether waiting for the GIL was most of it.
    pub fn is_gil(&self) -> bool {
        self.gil_ms > self.delay().application_ms
    }

    /// The thread's own part: what is left without waiting for a processor. Time on the processor is its own beyond
    /// doubt, however the waiting in between is told.
    fn own_ms(&self) -> f64 {
        let waiting_ms = self.run_queue_ms + self.unexplained_ms + self.stolen_ms + self.map_ms;
        (self.certain_ms - waiting_ms).max(self.on_cpu_ms.min(self.certain_ms))
    }

    /// Why this is no stall of the application, if it is none. The kernel brings a running thread's processor time up to
    /// date once a tick.
    pub fn dismissal(&self, threshold_ms: f64, computes: bool, tick_ms: f64) -> Option<Dismissal> {
        if self.own_ms() < threshold_ms {
            let was_starved = self.certain_ms >= threshold_ms;
            return Some(if was_starved { Dismissal::RunQueue } else { Dismissal::Short });
        }
        // A thread that computes uses its processor; if it did not, the machine took the processor away unseen: what it
        // used, what may not be counted yet, and what it slept in between are all that it can have had.
        let most_ms = self.lead_ms + self.on_cpu_ms + tick_ms + self.asleep_ms;
        if computes && !self.is_gil() && most_ms < threshold_ms {
            return Some(Dismissal::RunQueue);
        }
        (self.own_ms() - self.gil_ms < threshold_ms && !self.is_gil()).then_some(Dismissal::Short)
    }
}

/// The kernel's tick: its coarse clock has that resolution.
pub fn tick_ms() -> f64 {
    let tick = clock_getres(ClockId::MonotonicCoarse);
    (tick.tv_nsec as f64 / 1e6).clamp(1.0, 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK_MS: f64 = 4.0;
    const STALL: Times = Times {
        duration_ms: 24.0,
        certain_ms: 23.0,
        run_queue_ms: 0.0,
        unexplained_ms: 0.0,
        on_cpu_ms: 14.0,
        gil_ms: 0.0,
        lead_ms: 3.0,
        asleep_ms: 0.0,
        stolen_ms: 0.0,
        map_ms: 0.0,
    };

    #[test]
    fn a_late_first_look_proves_only_the_time_since_then() {
        // 1. The thread was preempted for 17 ms, and so was the watcher. 2. The closer look came, and it computed.
        assert_eq!(STALL.dismissal(20.0, true, TICK_MS), None);
        let late = Times { unexplained_ms: 17.0, ..STALL };
        assert_eq!(late.dismissal(20.0, true, TICK_MS), Some(Dismissal::RunQueue));
    }

    #[test]
    fn time_on_the_processor_is_the_threads_own_whatever_it_waited_for() {
        let waiting = Times { duration_ms: 41.0, certain_ms: 40.0, run_queue_ms: 30.0, ..STALL };
        assert_eq!(waiting.dismissal(20.0, true, TICK_MS), Some(Dismissal::RunQueue));
        assert_eq!(Times { on_cpu_ms: 25.0, ..waiting }.dismissal(20.0, true, TICK_MS), None);
    }

    #[test]
    fn a_wait_for_a_reader_of_the_memory_map_is_the_machines() {
        let waiting = Times { duration_ms: 69.0, certain_ms: 68.0, on_cpu_ms: 0.0, asleep_ms: 66.0, ..STALL };
        assert_eq!(waiting.dismissal(20.0, false, TICK_MS), None);
        assert_eq!(
            Times { map_ms: 66.0, ..waiting }.dismissal(20.0, false, TICK_MS),
            Some(Dismissal::RunQueue)
        );
    }

    #[test]
    fn a_thread_that_computes_without_using_its_processor_had_none() {
        // 1. Preempted inside a callback for 259 ms. 2. Back on a processor that was taken away unseen for 30 ms more.
        let taken = Times {
            duration_ms: 299.0,
            certain_ms: 297.0,
            run_queue_ms: 259.0,
            on_cpu_ms: 7.0,
            lead_ms: 4.0,
            ..STALL
        };
        assert_eq!(taken.dismissal(20.0, true, TICK_MS), Some(Dismissal::RunQueue));
        assert_eq!(taken.dismissal(20.0, false, TICK_MS), None);
        assert_eq!(Times { asleep_ms: 25.0, ..taken }.dismissal(20.0, true, TICK_MS), None);
    }

    #[test]
    fn what_the_hypervisor_took_is_taken_off_unless_the_thread_used_its_processor() {
        let stall = Times { duration_ms: 61.0, certain_ms: 60.0, on_cpu_ms: 20.0, ..STALL };
        assert_eq!(stall.dismissal(25.0, true, TICK_MS), None);
        let taken = stall.on_a_taken_processor(&[70, 500], &[100, 510]);
        assert_eq!(taken.delay().stolen_ms, 40.0);
        assert_eq!(taken.dismissal(25.0, true, TICK_MS), Some(Dismissal::RunQueue));
        let used = Times { on_cpu_ms: 40.0, ..stall }.on_a_taken_processor(&[70, 500], &[100, 510]);
        assert_eq!(used.delay().stolen_ms, 21.0);
        assert_eq!(used.dismissal(25.0, true, TICK_MS), None);
    }

    #[test]
    fn waiting_for_the_gil_is_taken_off() {
        let partly = Times { duration_ms: 31.0, certain_ms: 30.0, gil_ms: 12.0, ..STALL };
        assert_eq!(partly.dismissal(20.0, false, TICK_MS), Some(Dismissal::Short));
        assert_eq!(Times { gil_ms: 25.0, ..partly }.dismissal(20.0, false, TICK_MS), None);
    }
}
