//! Thousands of sleepers.

use super::finding::{Context, Finding, Lint, Severity, at};
use crate::state::{Trust, WaitKind};

const SLEEPERS: usize = 1000;

/// One timer each, and often one poll each when they wake up.
#[derive(Debug)]
pub struct Sleepers;

impl Lint for Sleepers {
    fn name(&self) -> &'static str {
        "sleepers"
    }

    fn example(&self) -> &'static str {
        "1200 sleep, 1200 of them at poller.py:12 in poll"
    }

    fn check(&self, context: &Context<'_>) -> Vec<Finding> {
        let groups = context.by_place(|waiter| waiter.wait.kind == WaitKind::Sleep);
        let count: usize = groups.iter().map(|(_, group)| group.len()).sum();
        let Some((frame, group)) = groups.into_iter().next().filter(|_| count >= SLEEPERS) else {
            return Vec::new();
        };
        vec![Finding {
            lint: self.name(),
            subject: String::new(),
            severity: Severity::Note,
            text: format!("{count} sleep, {} of them at {}", group.len(), at(frame)),
            advice: "let one timer wake a batch, or wait on an event instead of asking again and again",
            trust: Trust::Exact,
            nodes: group.iter().map(|waiter| waiter.id).collect(),
            place: frame.cloned(),
        }]
    }
}
