//! Who holds the lock that a green thread or task waits for.
//!
//! A `threading.RLock` knows its owner: a green thread's identity, which is its address. The other locks know nobody: for
//! them the `with` blocks that are entered are looked through, since each keeps the exit method of its lock on the value
//! stack of its frame. Who called `acquire` by hand is not found, and neither is who runs right now.

use super::green::Green;
use super::stacks::{Located, Stacks};
use super::tasks::decode_chain;
use crate::decode::{Python, TaskRecord};
use crate::state::{Edge, EdgeKind, GreenThread, Labelled, NodeId, Task, Wait, WaitKind};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// The stacks of one look.
pub struct StacksOf<'a> {
    /// Green threads.
    pub greens: &'a [Green],
    /// Tasks.
    pub tasks: &'a [TaskRecord],
}

/// Holders of one lock, and how that is known.
type Holders = Labelled<Vec<NodeId>>;

/// Notes in each wait for a lock who holds it; returns the edges from those who wait to those who hold.
pub fn find_holders(
    python: &Python<'_>,
    stacks: &mut Stacks,
    seen: &StacksOf<'_>,
    green_threads: &mut [GreenThread],
    tasks: &mut [Task],
) -> Vec<Edge> {
    let greens = green_threads.iter_mut().map(|green| (green.id, &mut green.wait));
    let tasks = tasks.iter_mut().map(|task| (task.id, &mut task.wait));
    let mut waits: BTreeMap<NodeId, &mut Wait> = greens
        .chain(tasks)
        .filter_map(|(id, wait)| {
            Some((id, Arc::make_mut(wait.as_mut().filter(|wait| wait.kind == WaitKind::Lock)?)))
        })
        .collect();
    if waits.is_empty() {
        return Vec::new();
    }
    let owners = owners(python, seen.greens);
    let is_owned = |id: &NodeId| owners.contains_key(id);
    let wanted: HashSet<u64> =
        waits.iter().filter(|(id, _)| !is_owned(id)).filter_map(|(_, wait)| Some(wait.object?.0)).collect();
    let entered = if wanted.is_empty() { HashMap::new() } else { entered(python, stacks, seen, &wanted) };
    let mut edges = Vec::new();
    for (&id, wait) in &mut waits {
        let found: Holders = match (owners.get(&id), wait.object) {
            (Some(&owner), _) => Labelled::sampled(vec![owner]),
            (None, lock) => {
                Labelled::inferred(lock.and_then(|lock| entered.get(&lock.0).cloned()).unwrap_or_default())
            }
        };
        let kind =
            if is_owned(&id) || is_exclusive(python, wait) { EdgeKind::Lock } else { EdgeKind::Semaphore };
        edges.extend(found.value.iter().map(|&to| Edge { from: id, to, kind, trust: found.trust }));
        wait.holders = Some(found);
    }
    edges
}

/// A class called `Lock` has one holder at a time.
fn is_exclusive(python: &Python<'_>, wait: &Wait) -> bool {
    wait.object.and_then(|lock| python.type_name_of(lock.0)).is_some_and(|name| name.ends_with("Lock"))
}

/// The owners of re-entrant locks, by who waits.
fn owners(python: &Python<'_>, greens: &[Green]) -> HashMap<NodeId, NodeId> {
    let known: HashSet<u64> = greens.iter().map(|green| green.record.object).collect();
    let owner = |green: &Green| owner_waited_for(python, green).filter(|owner| known.contains(owner));
    greens.iter().filter_map(|green| Some((NodeId(green.record.object), NodeId(owner(green)?)))).collect()
}

fn owner_waited_for(python: &Python<'_>, green: &Green) -> Option<u64> {
    green.decoded.wait.as_ref()?;
    python.memory.turn_to_next();
    let acquire = green.decoded.stack.iter().find(|located| located.is_in("/threading.py", "acquire"))?;
    let lock = acquire.local(python, "self")?;
    let owner = python.attribute(lock, "_owner").and_then(|owner| python.integer(owner))?;
    u64::try_from(owner).ok()
}

/// Who is inside a `with` block of one of these locks.
fn entered(
    python: &Python<'_>,
    stacks: &mut Stacks,
    seen: &StacksOf<'_>,
    wanted: &HashSet<u64>,
) -> HashMap<u64, Vec<NodeId>> {
    let mut holders: HashMap<u64, Vec<NodeId>> = HashMap::new();
    let mut look = |id: u64, stack: &[Located]| {
        python.memory.turn_to_next();
        let frames = stack.iter().enumerate();
        let callee = |index: usize| index.checked_sub(1).map(|inner| &stack[inner]);
        let locks = frames.flat_map(|(index, frame)| locks_of_frame(python, frame, callee(index), wanted));
        for lock in locks {
            let known = holders.entry(lock).or_default();
            if !known.contains(&NodeId(id)) {
                known.push(NodeId(id));
            }
        }
    };
    for green in seen.greens {
        look(green.record.object, &green.decoded.stack);
    }
    for task in seen.tasks {
        look(task.object, &decode_chain(python, stacks, task));
    }
    holders
}

/// The locks whose blocks a frame is inside of, given the frame that it called.
fn locks_of_frame(
    python: &Python<'_>,
    located: &Located,
    callee: Option<&Located>,
    wanted: &HashSet<u64>,
) -> Vec<u64> {
    let mut values = python.live_values(&located.raw, &located.code);
    // 3.12 guards each await: in `async with`, that of the entering has the exit method below what is awaited and what was
    // sent to it, and the block is not entered yet.
    let is_entering = callee.is_some_and(|callee| &*callee.code.name == "__aenter__");
    if is_entering && python.layout().minor == 12 && values.len() >= 3 {
        values.truncate(values.len() - 3);
    }
    values.into_iter().filter_map(|value| lock_of_exit(python, value, wanted)).collect()
}

/// The lock whose bound exit method this is; a condition's is that of the lock inside.
fn lock_of_exit(python: &Python<'_>, value: u64, wanted: &HashSet<u64>) -> Option<u64> {
    let object = owner_of_exit(python, value)?;
    if wanted.contains(&object) {
        return Some(object);
    }
    let is_condition = python.type_name_of(object).as_deref() == Some("Condition");
    python.attribute(object, "_lock").filter(|lock| is_condition && wanted.contains(lock))
}

/// The object whose bound method a value is, as the exit method of a block that is entered.
pub fn owner_of_exit(python: &Python<'_>, value: u64) -> Option<u64> {
    /// `im_self` of a bound method and `m_self` of a built-in one.
    const SELF: u64 = 24;
    let class = python.type_of(value).filter(|_| value.is_multiple_of(8))?;
    let is_method = class == python.interpreter.types.method
        || python.type_name(class).as_deref() == Some("builtin_function_or_method");
    python.field(value, SELF).filter(|_| is_method)
}
