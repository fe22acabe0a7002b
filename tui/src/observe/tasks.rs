//! Tasks of one look, with the edges between them.

use super::seen::{Prints, Seen};
use super::stacks::{Located, Stacks, places, print_of};
use super::task_wait::{operation_name, task_wait};
use super::timers::task_due_s;
use crate::decode::{Python, TaskRecord, TaskState};
use crate::state::{Counters, Edge, EdgeKind, NodeId, Task, Trust};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A gather of more children is cut.
const CHILDREN_LIMIT: usize = 4096;

/// Reads all registered tasks.
pub fn read_tasks(python: &Python<'_>, counters: &mut Counters) -> Vec<TaskRecord> {
    let objects = python.task_objects();
    let read = |&object: &u64| {
        python.memory.turn_to_next();
        python.task(object)
    };
    let records: Vec<TaskRecord> = objects.iter().filter_map(read).collect();
    counters.tasks_undecodable += objects.len() - records.len();
    records
}

/// Turns tasks into the snapshot's form and finds who waits on whom.
pub fn present_tasks(
    python: &Python<'_>,
    stacks: &mut Stacks,
    records: &[TaskRecord],
    seen: &mut Seen,
) -> (Vec<Task>, Vec<Edge>) {
    let known: HashSet<u64> = records.iter().map(|record| record.object).collect();
    let mut loops: HashMap<u64, String> = HashMap::new();
    let mut edges = Vec::new();
    let mut tasks = Vec::with_capacity(records.len());
    for record in records {
        python.memory.turn_to_next();
        let chain = decode_chain(python, stacks, record);
        let (targets, kind) = awaited_tasks(python, record, &known);
        let from = NodeId(record.object);
        edges.extend(targets.iter().map(|&to| Edge { from, to: NodeId(to), kind, trust: Trust::Exact }));
        let coroutine = chain.last().map(|located| located.code.function.to_string());
        let coroutine = coroutine.or_else(|| operation_name(python, record.coroutine)).or_else(|| {
            let name = python.field(record.coroutine, python.layout().generator_qualname as u64)?;
            python.string(name)
        });
        let event_loop = loops
            .entry(record.event_loop)
            .or_insert_with(|| python.class_path(record.event_loop).unwrap_or_default())
            .clone();
        let stack = places(&chain);
        let wait = task_wait(python, record, &chain).map(Arc::new);
        let prints = Prints { stack: print_of(&stack), run: record.awaited };
        let seconds = wait.as_ref().and_then(|wait| wait.seconds);
        let age = seen.note(from, prints, seconds, || task_due_s(python, &chain));
        tasks.push(Task {
            id: from,
            name: record.name.clone().unwrap_or_default(),
            state: match record.state {
                TaskState::Created => "created",
                TaskState::Running => "running",
                TaskState::Waiting => "waiting",
                TaskState::Ready => "ready",
                TaskState::Cancelled => "cancelled",
                TaskState::Finished => "finished",
            },
            coroutine: coroutine.unwrap_or_default(),
            event_loop,
            age_ms: age.age_ms,
            unchanged_ms: age.unchanged_ms,
            wait,
            stack,
            waits_on: targets.into_iter().map(NodeId).collect(),
        });
    }
    (tasks, edges)
}

/// The frames of a task's await chain, innermost first.
pub fn decode_chain(python: &Python<'_>, stacks: &mut Stacks, record: &TaskRecord) -> Vec<Located> {
    record.chain.iter().rev().filter_map(|step| stacks.locate(python, python.frame(step.frame)?)).collect()
}

/// The tasks a task waits on: directly, through a gather, or through a future that wraps another.
fn awaited_tasks(python: &Python<'_>, record: &TaskRecord, known: &HashSet<u64>) -> (Vec<u64>, EdgeKind) {
    if known.contains(&record.awaited) {
        return (vec![record.awaited], EdgeKind::Await);
    }
    let is_gather = record.awaited != 0
        && python.type_name_of(record.awaited).is_some_and(|name| name.ends_with("_GatheringFuture"));
    if !is_gather {
        return (Vec::new(), EdgeKind::Await);
    }
    let children = python
        .attribute(record.awaited, "_children")
        .and_then(|children| python.sequence(children, CHILDREN_LIMIT))
        .unwrap_or_default();
    (children.into_iter().filter(|child| known.contains(child)).collect(), EdgeKind::Gather)
}
