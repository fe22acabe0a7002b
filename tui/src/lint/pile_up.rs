//! Hundreds who wait at one line.

use super::finding::{Context, Finding, Lint, Severity, at};
use crate::state::{Trust, WaitKind};

const PILE: usize = 500;

/// A slow peer, a full queue, or something spawned without a bound.
#[derive(Debug)]
pub struct PileUp;

impl Lint for PileUp {
    fn name(&self) -> &'static str {
        "pile-up"
    }

    fn example(&self) -> &'static str {
        "640 wait in recv at client.py:88 in fetch"
    }

    fn check(&self, context: &Context<'_>) -> Vec<Finding> {
        let groups = context.by_place(|waiter| !matches!(waiter.wait.kind, WaitKind::Sleep | WaitKind::Turn));
        groups
            .into_iter()
            .filter(|(_, group)| group.len() >= PILE)
            .map(|(frame, group)| Finding {
                lint: self.name(),
                subject: at(frame),
                severity: Severity::Note,
                text: format!("{} wait in {} at {}", group.len(), group[0].wait.text, at(frame)),
                advice: "if the number only grows: bound it (GreenPool, Semaphore), set a timeout, look at the peer",
                trust: Trust::Exact,
                nodes: group.iter().map(|waiter| waiter.id).collect(),
                place: frame.cloned(),
            })
            .collect()
    }
}
