//! Green threads of one look: found, walked, checked again, named.

use super::addresses::AddressMap;
use super::hubs::{hub_of_stack, is_machinery};
use super::limits::time_limit;
use super::paged::Paged;
use super::seen::{Prints, Seen};
use super::stacks::Stacks;
use super::timers::HubTimers;
use super::unchanged::{Decoded, Fresh, Unchanged, switches};
use super::wait::{can_be_limited, wait_of};
use crate::decode::{GreenletFinder, GreenletRecord, GreenletState, Python, Walk};
use crate::remote::Memory;
use crate::state::{Counters, GreenThread, NodeId};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A green thread with what the other parts of a look need of it.
#[derive(Debug)]
pub struct Green {
    /// As it was read.
    pub record: GreenletRecord,
    /// Its stack, empty while it runs, and what follows from it.
    pub decoded: Arc<Decoded>,
}

/// A stack that changed while it was read is read again this often.
const RETRIES: usize = 4;

/// Reads all greenlets at the given addresses, with their stacks.
pub fn read_green(
    python: &Python<'_>,
    finder: &GreenletFinder,
    stacks: &mut Stacks,
    unchanged: &mut Unchanged,
    implementations: &[u64],
    counters: &mut Counters,
) -> Vec<Green> {
    let mut records = finder.read(python, implementations);
    counters.green_threads_lost += implementations.len() - records.len();
    let recalled = unchanged.recall(python, &records);
    // A recalled stack is byte for byte the one that was decoded: what is walked now may change on the way.
    let unknown: Vec<usize> = (0..records.len()).filter(|&index| recalled[index].is_none()).collect();
    let mut tops = vec![0; records.len()];
    find_tops(python, &records, &unknown, &mut tops);
    let (walks, torn) = walk_settled(python, finder, &mut records, &mut tops, unknown);
    counters.stacks_torn += torn;
    let paged = Paged::new(python.memory);
    let near = Python::new(&paged, python.interpreter);
    let mut fresh = Vec::new();
    let mut greens = Vec::with_capacity(records.len());
    for (((record, walk), known), top) in records.into_iter().zip(walks).zip(recalled).zip(tops) {
        let decoded = match known {
            Some(decoded) => decoded,
            None => {
                let decoded = Arc::new(decode(&near, stacks, &record, &walk));
                paged.turn_to_next();
                let (object, frame_object) = (record.object, record.top_frame);
                fresh.push(Fresh { object, frame_object, top, walk, decoded: decoded.clone() });
                decoded
            }
        };
        counters.frames += decoded.stack.len();
        counters.frames_undecodable += decoded.frames_lost;
        counters.stacks_cut += usize::from(decoded.is_cut);
        greens.push(Green { record, decoded });
    }
    unchanged.keep(python, fresh);
    greens
}

fn decode(python: &Python<'_>, stacks: &mut Stacks, record: &GreenletRecord, walk: &Walk) -> Decoded {
    let (stack, lost) = stacks.decode(python, &walk.frames);
    let mut decoded = Decoded::new(stack, walk.is_cut, lost);
    decoded.hub = hub_of_stack(python, &decoded.stack);
    if record.state == GreenletState::Suspended && decoded.hub.is_none() {
        decoded.wait = wait_of(python, &decoded.stack).map(|mut wait| {
            if can_be_limited(&wait) {
                wait.timeout = time_limit(python, &decoded.stack, None);
            }
            Arc::new(wait)
        });
    }
    let own = decoded.stack.iter().rev().find(|located| !is_machinery(&located.frame));
    let outermost = own.or(decoded.stack.last());
    decoded.name = outermost.map(|located| located.code.function.clone());
    decoded
}

/// Walks the stacks at `wanted`, again and again those that changed meanwhile or do not end as they should; the rest is
/// given up, and counted.
fn walk_settled(
    python: &Python<'_>,
    finder: &GreenletFinder,
    records: &mut [GreenletRecord],
    tops: &mut [u64],
    wanted: Vec<usize>,
) -> (Vec<Walk>, usize) {
    let mut walks = vec![Walk::default(); records.len()];
    let mut unsettled = walk_again(python, &wanted, tops, &mut walks);
    let mut stale = wanted;
    for _ in 0..RETRIES {
        let changed: HashSet<usize> = changed(python, finder, records, &stale).into_iter().collect();
        stale.retain(|index| changed.contains(index) || unsettled.contains(index));
        if stale.is_empty() {
            break;
        }
        find_tops(python, records, &stale, tops);
        unsettled = walk_again(python, &stale, tops, &mut walks);
    }
    for &index in &stale {
        walks[index] = Walk::torn();
    }
    (walks, stale.len())
}

/// Walks anew; returns those whose walk is not one of a suspended stack.
///
/// A green thread may have run and be suspended where it was, by a frame object at the same address, while its frames were
/// read: only a second read of them tells, and is spared where nothing has switched. Within a switch, before greenlet has
/// bypassed the frames on the C stack or after it has restored them, they are in the chain, and still in place: such a chain is
/// sound if the second read agrees.
fn walk_again(python: &Python<'_>, indices: &[usize], tops: &[u64], walks: &mut [Walk]) -> HashSet<usize> {
    let minor = python.layout().minor;
    let wanted: Vec<u64> = indices.iter().map(|&index| tops[index]).collect();
    let before = switches(python);
    let walked = python.walk(&wanted);
    // The count rises when a switch is nearly done, so for frames on the C stack it tells too late.
    let is_quiet =
        before.is_some() && walked.iter().all(|walk| walk.shims.is_empty()) && switches(python) == before;
    let is_still = if is_quiet { vec![true; walked.len()] } else { python.are_still(&wanted, &walked) };
    let mut unsettled = HashSet::new();
    for ((&index, walk), is_still) in indices.iter().zip(walked).zip(is_still) {
        if !is_still || !walk.is_whole_suspended(minor) {
            unsettled.insert(index);
        }
        walks[index] = walk;
    }
    unsettled
}

/// The greenlets among `indices` whose record differs from a fresh one, which replaces it.
fn changed(
    python: &Python<'_>,
    finder: &GreenletFinder,
    records: &mut [GreenletRecord],
    indices: &[usize],
) -> Vec<usize> {
    let addresses: Vec<u64> = indices.iter().map(|&index| records[index].implementation).collect();
    let fresh: HashMap<u64, GreenletRecord> =
        finder.read(python, &addresses).into_iter().map(|record| (record.implementation, record)).collect();
    let mut differing = Vec::new();
    for &index in indices {
        match fresh.get(&records[index].implementation) {
            Some(now) if *now == records[index] => {}
            Some(now) => {
                records[index] = *now;
                differing.push(index);
            }
            // It ended: what was walked of its stack may be anything, and is walked again from nothing.
            None if records[index].state != GreenletState::Dead => {
                records[index].state = GreenletState::Dead;
                records[index].top_frame = 0;
                differing.push(index);
            }
            None => {}
        }
    }
    differing
}

fn find_tops(python: &Python<'_>, records: &[GreenletRecord], indices: &[usize], tops: &mut [u64]) {
    let wanted: Vec<GreenletRecord> = indices.iter().map(|&index| records[index]).collect();
    for (&index, top) in indices.iter().zip(interpreter_frames(python, &wanted)) {
        tops[index] = top;
    }
}

/// The innermost frame of each suspended greenlet; zero for the others.
fn interpreter_frames(python: &Python<'_>, records: &[GreenletRecord]) -> Vec<u64> {
    const INTERPRETER_FRAME: u64 = 24;
    let tops: Vec<u64> = records.iter().map(|record| record.top_frame).collect();
    if python.layout().minor < 11 {
        return tops;
    }
    // A frame object leads to the interpreter's own frame.
    let suspended: Vec<usize> = (0..tops.len()).filter(|&index| tops[index] != 0).collect();
    let at: Vec<u64> = suspended.iter().map(|&index| tops[index].wrapping_add(INTERPRETER_FRAME)).collect();
    let (words, read) = python.memory.records(&at, 8);
    let mut frames = vec![0; tops.len()];
    for ((index, word), is_read) in suspended.into_iter().zip(words.chunks_exact(8)).zip(read) {
        frames[index] = if is_read { crate::remote::word_at(word, 0) } else { 0 };
    }
    frames
}

/// Turns green threads into the snapshot's form.
pub fn present_green(
    python: &Python<'_>,
    stacks: &mut Stacks,
    greens: &[Green],
    (seen, timers): (&mut Seen, &mut HubTimers),
    tid_of: &AddressMap<u64, i32>,
) -> Vec<GreenThread> {
    let mut classes: AddressMap<u64, Arc<str>> = AddressMap::default();
    greens
        .iter()
        .map(|green| {
            let (record, decoded) = (&green.record, &green.decoded);
            let class = classes
                .entry(record.class)
                .or_insert_with(|| python.type_name(record.class).unwrap_or_default().into())
                .clone();
            let role = match (&decoded.hub, record.is_main) {
                (Some(_), _) => "hub",
                (None, true) => "main",
                (None, false) => "green thread",
            };
            let id = NodeId(record.object);
            let prints = Prints { stack: decoded.print, run: record.print };
            let seconds = decoded.wait.as_ref().and_then(|wait| wait.seconds);
            let age = seen.note(id, prints, seconds, || {
                python.memory.turn_to_next();
                timers.due_s(python, &decoded.stack)
            });
            let name = decoded.name.clone().or_else(|| name_of(python, stacks, record));
            GreenThread {
                id,
                name: name.unwrap_or_else(|| class.clone()),
                class,
                state: match record.state {
                    GreenletState::NotStarted => "not started",
                    GreenletState::Starting => "starting",
                    GreenletState::Running => "running",
                    GreenletState::Suspended => "suspended",
                    GreenletState::Dead => "dead",
                },
                role,
                tid: tid_of.get(&record.main).copied(),
                parent: (record.parent != 0).then_some(NodeId(record.parent)),
                age_ms: age.age_ms,
                unchanged_ms: age.unchanged_ms,
                wait: decoded.wait.clone(),
                stack: decoded.places.clone(),
                is_stack_cut: decoded.is_cut || decoded.frames_lost > 0,
            }
        })
        .collect()
}

/// The function that a green thread will run once it starts.
fn name_of(python: &Python<'_>, stacks: &mut Stacks, record: &GreenletRecord) -> Option<Arc<str>> {
    let code = python.callable_code(record.run)?;
    stacks.start_of(python, code).map(|frame| frame.function.clone())
}
