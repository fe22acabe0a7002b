//! Who waits across the two worlds: a green thread for a task, and a task that blocks in the green world.

use super::green::Green;
use super::wait::is_bridge;
use crate::decode::{Python, TaskRecord};
use crate::state::{Edge, EdgeKind, NodeId, Trust};
use std::collections::{HashMap, HashSet};

/// Edges between green threads and tasks.
pub fn bridge_edges(python: &Python<'_>, greens: &[Green], tasks: &[TaskRecord]) -> Vec<Edge> {
    let task_of_frame: HashMap<u64, u64> =
        tasks.iter().filter_map(|task| Some((task.chain.first()?.frame, task.object))).collect();
    let known: HashSet<u64> = tasks.iter().map(|task| task.object).collect();
    let mut edges = Vec::new();
    for green in greens.iter().filter(|green| green.decoded.wait.is_some()) {
        let id = NodeId(green.record.object);
        let kind = EdgeKind::Bridge;
        python.memory.turn_to_next();
        // uringhub runs each step of a task in a greenlet, so that the task may block there like a green thread.
        let blocked = green.decoded.stack.iter().find_map(|frame| task_of_frame.get(&frame.raw.address));
        if let Some(&task) = blocked {
            edges.push(Edge { from: NodeId(task), to: id, kind, trust: Trust::Exact });
        }
        if let Some(task) = future_waited_for(python, green).filter(|task| known.contains(task)) {
            edges.push(Edge { from: id, to: NodeId(task), kind, trust: Trust::Exact });
        }
    }
    edges
}

/// The future in `eventlet.asyncio.spawn_for_awaitable` or `uringhub.await_`.
fn future_waited_for(python: &Python<'_>, green: &Green) -> Option<u64> {
    green.decoded.stack.iter().find(|located| is_bridge(located))?.local(python, "future")
}
