//! Nodes that wait on each other in a circle.

use super::finding::{Context, Finding, Lint, Severity};
use crate::state::{Edge, EdgeKind, NodeId, Trust};
use std::collections::{HashMap, HashSet};

/// Nobody in a circle of waits can ever go on.
#[derive(Debug)]
pub struct Deadlock;

impl Lint for Deadlock {
    fn name(&self) -> &'static str {
        "deadlock"
    }

    fn example(&self) -> &'static str {
        "consumer → producer → consumer wait on each other: none of them can go on"
    }

    fn check(&self, context: &Context<'_>) -> Vec<Finding> {
        let mut next: HashMap<NodeId, Vec<NodeId>> = HashMap::new();
        // A semaphore may have other holders, who go on and release it.
        for edge in context
            .snapshot
            .edges
            .iter()
            .filter(|edge| !matches!(edge.kind, EdgeKind::Semaphore | EdgeKind::Wait))
        {
            next.entry(edge.from).or_default().push(edge.to);
        }
        let mut starts: Vec<NodeId> = next.keys().copied().collect();
        starts.sort();
        let mut done = HashSet::new();
        starts
            .into_iter()
            .filter_map(|start| circle_from(start, &next, &mut done))
            .map(|circle| self.finding(context, circle))
            .collect()
    }
}

impl Deadlock {
    fn finding(&self, context: &Context<'_>, circle: Vec<NodeId>) -> Finding {
        let greens = context.snapshot.green_threads.iter().map(|green| (green.id, &*green.name));
        let tasks = context.snapshot.tasks.iter().map(|task| (task.id, &*task.name));
        let names: HashMap<NodeId, &str> = greens.chain(tasks).collect();
        let name = |id: &NodeId| names.get(id).map_or_else(|| id.to_string(), |name| (*name).to_owned());
        let round: Vec<String> = circle.iter().chain(circle.first()).map(name).collect();
        let inferred = |edge: &Edge| {
            edge.trust == Trust::Inferred && circle.contains(&edge.from) && circle.contains(&edge.to)
        };
        let is_inferred = context.snapshot.edges.iter().any(inferred);
        let text = match &*round {
            [alone, _] => format!("{alone} waits for a lock that it holds itself: it can never go on"),
            round => format!("{} wait on each other: none of them can go on", round.join(" → ")),
        };
        Finding {
            lint: self.name(),
            subject: circle.first().map(NodeId::to_string).unwrap_or_default(),
            severity: Severity::Error,
            text,
            advice: "break the circle: wait with a timeout, or let only one side wait for the other",
            trust: if is_inferred { Trust::Inferred } else { Trust::Exact },
            nodes: circle,
            place: None,
        }
    }
}

/// A circle that can be reached from here, if nobody in it was visited before.
fn circle_from(
    start: NodeId,
    next: &HashMap<NodeId, Vec<NodeId>>,
    done: &mut HashSet<NodeId>,
) -> Option<Vec<NodeId>> {
    let mut path: Vec<(NodeId, usize)> = vec![(start, 0)];
    let mut on_path = HashSet::from([start]);
    if !done.insert(start) {
        return None;
    }
    while let Some((id, tried)) = path.last_mut() {
        let Some(&target) = next.get(id).and_then(|targets| targets.get(*tried)) else {
            on_path.remove(id);
            path.pop();
            continue;
        };
        *tried += 1;
        if on_path.contains(&target) {
            let from = path.iter().position(|(id, _)| *id == target)?;
            return Some(path[from..].iter().map(|(id, _)| *id).collect());
        }
        if done.insert(target) {
            on_path.insert(target);
            path.push((target, 0));
        }
    }
    None
}
