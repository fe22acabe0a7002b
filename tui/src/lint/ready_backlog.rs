//! Many who could run and wait for their turn.

use super::finding::{Context, Finding, Lint, Severity};
use crate::state::{NodeId, Trust, WaitKind};

const BACKLOG: usize = 200;

/// The hub has more to run than it gets through.
#[derive(Debug)]
pub struct ReadyBacklog;

impl Lint for ReadyBacklog {
    fn name(&self) -> &'static str {
        "ready-backlog"
    }

    fn example(&self) -> &'static str {
        "250 are ready and wait for their turn: the hub has more to run than it gets through"
    }

    fn check(&self, context: &Context<'_>) -> Vec<Finding> {
        let ready = context.waiters().filter(|waiter| waiter.wait.kind == WaitKind::Turn);
        let nodes: Vec<NodeId> = ready.map(|waiter| waiter.id).collect();
        if nodes.len() < BACKLOG {
            return Vec::new();
        }
        let text = format!(
            "{} are ready and wait for their turn: the hub has more to run than it gets through",
            nodes.len()
        );
        vec![Finding {
            lint: self.name(),
            subject: String::new(),
            severity: Severity::Warning,
            text,
            advice: "bound what is started at once (GreenPool, Semaphore), or spread the load over processes",
            trust: Trust::Sampled,
            nodes,
            place: None,
        }]
    }
}
