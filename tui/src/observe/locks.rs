//! Who holds the lock that a green thread waits for, where the lock knows: a re-entrant one, whose owner is a green
//! thread's identity, which is its address.

use super::green::Green;
use crate::decode::Python;
use crate::state::{Edge, EdgeKind, NodeId, Trust};
use std::collections::HashSet;

/// Edges from those who wait for a `threading.RLock` to the one who holds it.
pub fn lock_edges(python: &Python<'_>, greens: &[Green]) -> Vec<Edge> {
    let known: HashSet<u64> = greens.iter().map(|green| green.record.object).collect();
    greens
        .iter()
        .filter_map(|green| {
            let owner = owner_waited_for(python, green).filter(|owner| known.contains(owner))?;
            let (from, to) = (NodeId(green.record.object), NodeId(owner));
            Some(Edge { from, to, kind: EdgeKind::Lock, trust: Trust::Sampled })
        })
        .collect()
}

fn owner_waited_for(python: &Python<'_>, green: &Green) -> Option<u64> {
    green.decoded.wait.as_ref()?;
    let acquire = green.decoded.stack.iter().find(|located| located.is_in("/threading.py", "acquire"))?;
    let lock = acquire.local(python, "self")?;
    let owner = python.attribute(lock, "_owner").and_then(|owner| python.integer(owner))?;
    u64::try_from(owner).ok()
}
