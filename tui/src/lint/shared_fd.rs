//! Several who wait to read, or to write, one descriptor.

use super::finding::{Context, Finding, Lint, Severity};
use crate::state::{NodeId, Trust, WaitKind};
use std::collections::BTreeMap;

/// Who gets the bytes is then a matter of luck.
#[derive(Debug)]
pub struct SharedDescriptor;

impl Lint for SharedDescriptor {
    fn name(&self) -> &'static str {
        "shared-fd"
    }

    fn example(&self) -> &'static str {
        "2 wait to read fd 9 (tcp 127.0.0.1:40000 → 127.0.0.1:6379) at once: which of them gets the bytes is chance"
    }

    fn check(&self, context: &Context<'_>) -> Vec<Finding> {
        let mut readers: BTreeMap<i32, Vec<NodeId>> = BTreeMap::new();
        for waiter in context.waiters() {
            // Several who accept from one listener are a usual pattern, and lose nothing.
            let is_reader = waiter.wait.kind == WaitKind::Read && !waiter.wait.text.contains("accept");
            if let Some(fd) = waiter.wait.fd.filter(|_| is_reader) {
                readers.entry(fd).or_default().push(waiter.id);
            }
        }
        let target = |fd| context.snapshot.fds.iter().find(|known| known.fd == fd).map(|known| &known.target);
        readers
            .into_iter()
            .filter(|(_, nodes)| nodes.len() > 1)
            .map(|(fd, nodes)| Finding {
                lint: self.name(),
                subject: fd.to_string(),
                severity: Severity::Warning,
                text: format!(
                    "{} wait to read fd {fd} ({}) at once: which of them gets the bytes is chance",
                    nodes.len(),
                    target(fd).map_or("unknown", String::as_str)
                ),
                advice: "give each its own connection, or let one read and hand out what came through a queue",
                trust: Trust::Exact,
                nodes,
                place: None,
            })
            .collect()
    }
}
