//! Whom a task waits on: a task, or those of a gather, a `TaskGroup`, `asyncio.wait`, `asyncio.wait_for` or `asyncio.shield`.

use super::stacks::Located;
use crate::decode::{Python, TaskRecord};
use crate::state::EdgeKind;
use std::collections::HashSet;

/// Of more children the rest is counted.
pub const CHILDREN_LIMIT: usize = 4096;

/// The tasks that one waits on.
#[derive(Debug, Default)]
pub struct Awaited {
    /// At most [`CHILDREN_LIMIT`].
    pub tasks: Vec<u64>,
    /// Why; `None` if it waits on no task.
    pub kind: Option<EdgeKind>,
    /// How many more there are.
    pub cut: usize,
}

impl Awaited {
    fn of(kind: EdgeKind, mut children: Vec<u64>, known: &HashSet<u64>) -> Self {
        children.retain(|child| known.contains(child));
        let cut = children.len().saturating_sub(CHILDREN_LIMIT);
        children.truncate(CHILDREN_LIMIT);
        Self { kind: (!children.is_empty()).then_some(kind), tasks: children, cut }
    }
}

/// The tasks a task waits on; its chain is innermost first.
pub fn awaited_tasks(
    python: &Python<'_>,
    record: &TaskRecord,
    chain: &[Located],
    known: &HashSet<u64>,
) -> Awaited {
    let set = |set: u64| python.set_items(set).unwrap_or_default();
    // asyncio's own coroutine is the innermost: what it awaits is a future of its own, which names nobody.
    let inner = chain.first();
    if inner.is_some_and(waits_on_nobody) {
        return Awaited::default();
    }
    if let Some(inner) = inner.filter(|inner| inner.is_in("/asyncio/taskgroups.py", "__aexit__")) {
        let group = inner.local(python, "self");
        let tasks = group.and_then(|group| python.attribute(group, "_tasks")).map(set);
        return Awaited::of(EdgeKind::TaskGroup, tasks.unwrap_or_default(), known);
    }
    if let Some(inner) = inner.filter(|inner| inner.is_in("/asyncio/tasks.py", "_wait")) {
        let tasks = inner.local(python, "fs").map(set);
        return Awaited::of(EdgeKind::Wait, tasks.unwrap_or_default(), known);
    }
    // Up to 3.11 `wait_for` runs what it is given in a task of its own.
    let is_wait_for = |inner: &&Located| inner.is_in("/asyncio/tasks.py", "wait_for");
    let future = inner.filter(is_wait_for).and_then(|inner| inner.local(python, "fut"));
    of_future(python, future.unwrap_or(record.awaited), known)
}

/// Whether what is awaited is a future that a coroutine of asyncio made for itself: it is no task's, nor a gather's.
fn waits_on_nobody(inner: &Located) -> bool {
    let is_of = |file: &str| inner.code.file.ends_with(file);
    inner.is_in("/asyncio/tasks.py", "sleep")
        || is_of("/asyncio/locks.py")
        || is_of("/asyncio/queues.py")
        || is_of("/asyncio/streams.py")
}

fn of_future(python: &Python<'_>, future: u64, known: &HashSet<u64>) -> Awaited {
    if known.contains(&future) {
        return Awaited::of(EdgeKind::Await, vec![future], known);
    }
    if future == 0 {
        return Awaited::default();
    }
    if let Some(inner) = shielded(python, future) {
        let children = children_of_gather(python, inner).unwrap_or_else(|| vec![inner]);
        return Awaited::of(EdgeKind::Shield, children, known);
    }
    Awaited::of(EdgeKind::Gather, children_of_gather(python, future).unwrap_or_default(), known)
}

fn children_of_gather(python: &Python<'_>, future: u64) -> Option<Vec<u64>> {
    let is_gather = python.type_name_of(future)?.ends_with("_GatheringFuture");
    let children = is_gather.then(|| python.attribute(future, "_children"))??;
    python.sequence(children, usize::try_from(python.length_hint(children)?).ok()?)
}

/// What a future that `asyncio.shield` made stands for: its first callback is shield's own, and closes over both.
fn shielded(python: &Python<'_>, future: u64) -> Option<u64> {
    /// `fut_callback0` of a native future; the same in every version.
    const CALLBACK: u64 = 24;
    /// `func_qualname` and `func_closure`, since 3.10.
    const QUALIFIED_NAME: u64 = 40;
    const CLOSURE: u64 = 72;
    /// `ob_ref` of a cell.
    const CONTENT: u64 = 16;
    const FREE_VARIABLES: usize = 4;
    if python.type_name_of(future)? != "_asyncio.Future" {
        return None;
    }
    let callback = python.field(future, CALLBACK).filter(|&callback| callback != 0)?;
    if python.type_of(callback)? != python.interpreter.types.function {
        return None;
    }
    let name = python.string(python.field(callback, QUALIFIED_NAME)?)?;
    if name != "shield.<locals>._outer_done_callback" {
        return None;
    }
    let cells = python.sequence(python.field(callback, CLOSURE)?, FREE_VARIABLES)?;
    // The other one is the function that the inner future calls.
    let mut contents = cells.into_iter().filter_map(|cell| python.field(cell, CONTENT));
    contents.rfind(|&content| python.type_of(content) != Some(python.interpreter.types.function))
}
