//! Many who queue for one lock.

use super::finding::{Context, Finding, Lint, Severity, Waiter, at};
use crate::state::{NodeId, Trust, WaitKind, own_frame};
use std::collections::BTreeMap;

const CONVOY: usize = 5;

/// Work that a lock has made sequential.
#[derive(Debug)]
pub struct LockConvoy;

impl Lint for LockConvoy {
    fn name(&self) -> &'static str {
        "lock-convoy"
    }

    fn example(&self) -> &'static str {
        "12 wait for the lock at 0x7f0000000900, first at cache.py:30 in get"
    }

    fn check(&self, context: &Context<'_>) -> Vec<Finding> {
        let mut queues: BTreeMap<NodeId, Vec<Waiter<'_>>> = BTreeMap::new();
        for waiter in context.waiters().filter(|waiter| waiter.wait.kind == WaitKind::Lock) {
            if let Some(lock) = waiter.wait.object {
                queues.entry(lock).or_default().push(waiter);
            }
        }
        queues
            .into_iter()
            .filter(|(_, queue)| queue.len() >= CONVOY)
            .map(|(lock, queue)| {
                let frame = queue.iter().max_by_key(|waiter| waiter.unchanged_ms);
                let frame = frame.and_then(|waiter| own_frame(waiter.stack));
                Finding {
                    lint: self.name(),
                    subject: lock.to_string(),
                    severity: Severity::Warning,
                    text: format!("{} wait for the lock at {lock}, first at {}", queue.len(), at(frame)),
                    advice: "hold the lock for less, split what it protects, or raise a semaphore's count",
                    trust: Trust::Exact,
                    nodes: queue.iter().map(|waiter| waiter.id).collect(),
                    place: frame.cloned(),
                }
            })
            .collect()
    }
}
