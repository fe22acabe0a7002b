//! Tasks of one look, with the edges between them.

use super::children::awaited_tasks;
use super::limits::{hand_on, time_limit};
use super::seen::{Prints, Seen};
use super::stacks::{Located, Stacks, places, print_of};
use super::task_wait::{Operations, task_wait};
use super::timers::task_due_s;
use super::wait::can_be_limited;
use crate::decode::{Python, TaskRecord, TaskState};
use crate::state::{Counters, Edge, NodeId, Task, Trust};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

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
    (seen, counters): (&mut Seen, &mut Counters),
) -> (Vec<Task>, Vec<Edge>) {
    let known: HashSet<u64> = records.iter().map(|record| record.object).collect();
    let mut loops: HashMap<u64, String> = HashMap::new();
    let mut operations = Operations::default();
    let mut edges = Vec::new();
    let mut tasks = Vec::with_capacity(records.len());
    for record in records {
        python.memory.turn_to_next();
        let chain = decode_chain(python, stacks, record);
        counters.frames += chain.len();
        counters.frames_undecodable += record.chain.len() - chain.len();
        let awaited = awaited_tasks(python, record, &chain, &known);
        let from = NodeId(record.object);
        counters.edges_cut += awaited.cut;
        edges.extend(awaited.kind.into_iter().flat_map(|kind| {
            awaited.tasks.iter().map(move |&to| Edge { from, to: NodeId(to), kind, trust: Trust::Exact })
        }));
        let coroutine = chain.last().map(|located| located.code.function.to_string());
        let coroutine = coroutine.or_else(|| operations.name(python, record.coroutine)).or_else(|| {
            let name = python.field(record.coroutine, python.layout().generator_qualname as u64)?;
            python.string(name)
        });
        let event_loop = loops
            .entry(record.event_loop)
            .or_insert_with(|| python.class_path(record.event_loop).unwrap_or_default())
            .clone();
        let stack = places(&chain);
        let mut wait = task_wait(python, record, &chain, &awaited, &mut operations).map(Arc::new);
        let prints = Prints { stack: print_of(&stack), run: record.awaited };
        let seconds = wait.as_ref().and_then(|wait| wait.seconds);
        let age = seen.note(from, prints, seconds, || task_due_s(python, &chain));
        if let Some(wait) = wait.as_mut().filter(|wait| can_be_limited(wait)) {
            let limit = seen.limit(from, |now_s| time_limit(python, &chain, now_s));
            Arc::make_mut(wait).timeout = limit;
        }
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
            waits_on: awaited.tasks.into_iter().map(NodeId).collect(),
            waits_on_more: awaited.cut,
        });
    }
    hand_on(&mut tasks, &edges);
    (tasks, edges)
}

/// The frames of a task's await chain, innermost first.
pub fn decode_chain(python: &Python<'_>, stacks: &mut Stacks, record: &TaskRecord) -> Vec<Located> {
    record.chain.iter().rev().filter_map(|step| stacks.locate(python, python.frame(step.frame)?)).collect()
}
