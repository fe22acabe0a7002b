//! Time limits around a wait: `eventlet.Timeout` and `asyncio.timeout` in a `with` block, `with_timeout`, `wait_for`.
//!
//! A limit that was set without a block, as `Timeout(5)` in one function and `cancel` in another, is not found.

use super::locks::owner_of_exit;
use super::stacks::Located;
use crate::decode::Python;
use crate::state::{Edge, EdgeKind, Labelled, NodeId, Task};
use std::collections::HashMap;
use std::sync::Arc;

/// Seconds of the innermost limit around a stack, innermost frame first. Of `asyncio.timeout`, which knows only when it is due,
/// those from now on.
pub fn time_limit(python: &Python<'_>, stack: &[Located], now_s: Option<f64>) -> Option<Labelled<f64>> {
    stack.iter().find_map(|located| {
        let of_call = limit_of_call(python, located).map(Labelled::exact);
        of_call.or_else(|| limit_of_blocks(python, located, now_s).map(Labelled::inferred))
    })
}

fn limit_of_call(python: &Python<'_>, located: &Located) -> Option<f64> {
    let name = if located.is_in("/eventlet/timeout.py", "with_timeout") {
        "seconds"
    } else if located.is_in("/asyncio/tasks.py", "wait_for") || located.is_in("/asyncio/tasks.py", "_wait") {
        "timeout"
    } else {
        return None;
    };
    python.number(located.local(python, name)?)
}

fn limit_of_blocks(python: &Python<'_>, located: &Located, now_s: Option<f64>) -> Option<f64> {
    let values = python.live_values(&located.raw, &located.code);
    values.into_iter().rev().find_map(|value| {
        let object = owner_of_exit(python, value)?;
        let class = python.class_path(object)?;
        let number = |name: &str| python.number(python.attribute(object, name)?);
        match class.as_str() {
            "eventlet.timeout.Timeout" => number("seconds"),
            "asyncio.timeouts.Timeout" => number("_when").zip(now_s).map(|(when, now)| (when - now).max(0.0)),
            _ => None,
        }
    })
}

/// A task that another one with a limit awaits has that limit too: it is cancelled with it.
pub fn hand_on(tasks: &mut [Task], edges: &[Edge]) {
    let cancels =
        |edge: &&Edge| matches!(edge.kind, EdgeKind::Await | EdgeKind::Gather | EdgeKind::TaskGroup);
    let limit_of = |task: &Task| Some((task.id, task.wait.as_ref()?.timeout?));
    let mut limited: HashMap<NodeId, Labelled<f64>> = tasks.iter().filter_map(limit_of).collect();
    if limited.is_empty() {
        return;
    }
    let mut children: HashMap<NodeId, Vec<NodeId>> = HashMap::new();
    for edge in edges.iter().filter(cancels) {
        children.entry(edge.from).or_default().push(edge.to);
    }
    let mut open: Vec<NodeId> = limited.keys().copied().collect();
    while let Some(id) = open.pop() {
        let limit = Labelled::inferred(limited[&id].value);
        for &child in children.get(&id).into_iter().flatten() {
            limited.entry(child).or_insert_with(|| {
                open.push(child);
                limit
            });
        }
    }
    for task in tasks {
        if let (Some(wait), Some(&limit)) = (&mut task.wait, limited.get(&task.id)) {
            Arc::make_mut(wait).timeout = Some(limit);
        }
    }
}
