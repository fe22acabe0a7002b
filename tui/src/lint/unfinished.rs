//! Who was in the same place at every look for a long time, and has no timeout that could be seen.

use super::finding::{Context, Finding, Lint, Severity, Waiter, at, roughly};
use crate::state::{Trust, WaitKind};

const STILL_MS: u64 = 60_000;
/// A busy reader comes back to the same line between two looks, so it needs longer to be suspected.
const STILL_IO_MS: u64 = 600_000;

/// Perhaps they never finish: the peer is gone, the event is never sent, the queue never filled.
#[derive(Debug)]
pub struct Unfinished;

impl Lint for Unfinished {
    fn name(&self) -> &'static str {
        "never-finishing"
    }

    fn example(&self) -> &'static str {
        "3 were in the same place at every look for 12 min, no timeout was seen: worker waits for event at jobs.py:41 in worker"
    }

    fn check(&self, context: &Context<'_>) -> Vec<Finding> {
        context
            .by_place(is_suspect)
            .into_iter()
            .map(|(frame, group)| {
                let still_ms = group.iter().map(|waiter| waiter.unchanged_ms).max().unwrap_or(0);
                let verb = if group.len() == 1 { "was" } else { "were" };
                Finding {
                    lint: self.name(),
                    subject: at(frame),
                    severity: Severity::Note,
                    text: format!(
                        "{} {verb} in the same place at every look for {}, no timeout was seen: {} waits for {} at {}",
                        group.len(),
                        roughly(still_ms),
                        group[0].name,
                        group[0].wait.text,
                        at(frame)
                    ),
                    advice: "fine for a worker without work; otherwise wait with a timeout, and see who should wake it",
                    trust: Trust::Sampled,
                    nodes: group.iter().map(|waiter| waiter.id).collect(),
                    place: frame.cloned(),
                }
            })
            .collect()
    }
}

/// A listener waits for its next connection for as long as it takes, and a sleeper's time is its own.
fn is_suspect(waiter: &Waiter<'_>) -> bool {
    let wait = waiter.wait;
    let least_ms = if matches!(wait.kind, WaitKind::Read | WaitKind::Write) { STILL_IO_MS } else { STILL_MS };
    waiter.unchanged_ms >= least_ms
        && wait.seconds.is_none()
        && wait.timeout.is_none()
        && !matches!(wait.kind, WaitKind::Sleep | WaitKind::Turn)
        && !wait.text.contains("accept")
        && !wait.target.as_ref().is_some_and(|target| target.contains("listening"))
}
