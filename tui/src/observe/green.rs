//! Green threads of one look: found, walked, checked again, named.

use super::hubs::{hub_of_stack, is_machinery};
use super::observer::Seen;
use super::stacks::{Located, Stacks, places};
use super::wait::{is_switch, wait_of};
use crate::decode::{GreenletFinder, GreenletRecord, GreenletState, Python, Walk};
use crate::state::{Counters, GreenThread, Hub, Labelled, NodeId, Wait};
use std::collections::HashMap;

/// A green thread with what the other parts of a look need of it.
#[derive(Debug)]
pub struct Green {
    /// As it was read.
    pub record: GreenletRecord,
    /// Its decoded stack; empty while it runs.
    pub stack: Vec<Located>,
    /// The stack is incomplete.
    pub is_cut: bool,
    /// The hub whose loop it is.
    pub hub: Option<Labelled<Hub>>,
}

/// A stack that changed while it was read is read again this often.
const RETRIES: usize = 4;

/// Reads all greenlets at the given addresses, with their stacks.
pub fn read_green(
    python: &Python<'_>,
    finder: &GreenletFinder,
    stacks: &mut Stacks,
    implementations: &[u64],
    counters: &mut Counters,
) -> Vec<Green> {
    let mut records = finder.read(python, implementations);
    counters.green_threads_lost += implementations.len() - records.len();
    let mut walks = walk_suspended(python, &records);
    let mut stale: Vec<usize> = (0..records.len()).collect();
    for _ in 0..RETRIES {
        stale = changed(python, finder, &mut records, &stale);
        if stale.is_empty() {
            break;
        }
        let again: Vec<GreenletRecord> = stale.iter().map(|&index| records[index]).collect();
        for (&index, walk) in stale.iter().zip(walk_suspended(python, &again)) {
            walks[index] = walk;
        }
    }
    counters.stacks_torn += stale.len();
    for &index in &stale {
        walks[index] = Walk { is_cut: true, ..Walk::default() };
    }
    records
        .into_iter()
        .zip(walks)
        .map(|(record, walk)| {
            let (stack, lost) = stacks.decode(python, &walk.frames);
            counters.frames += stack.len();
            counters.frames_undecodable += lost;
            counters.stacks_cut += usize::from(walk.is_cut);
            let hub = hub_of_stack(python, &stack);
            Green { record, stack, is_cut: walk.is_cut || lost > 0, hub }
        })
        .collect()
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

fn walk_suspended(python: &Python<'_>, records: &[GreenletRecord]) -> Vec<Walk> {
    const INTERPRETER_FRAME: u64 = 24;
    let tops: Vec<u64> = records.iter().map(|record| record.top_frame).collect();
    if python.layout().minor < 11 {
        return python.walk(&tops);
    }
    // A frame object leads to the interpreter's own frame.
    let at: Vec<u64> = tops.iter().map(|&top| if top == 0 { 0 } else { top + INTERPRETER_FRAME }).collect();
    let present: Vec<u64> = at.iter().copied().filter(|&address| address != 0).collect();
    let (words, read) = python.memory.records(&present, 8);
    let mut inner = words
        .chunks_exact(8)
        .zip(read)
        .map(|(word, is_read)| if is_read { crate::remote::word_at(word, 0) } else { 0 });
    let frames: Vec<u64> =
        at.iter().map(|&address| if address == 0 { 0 } else { inner.next().unwrap_or(0) }).collect();
    python.walk(&frames)
}

/// Bytes of a waiting frame's local variables that are compared.
const LOCALS_BYTES: usize = 128;

/// What green threads wait for, kept while neither their frames nor the variables that tell it change: reading them
/// costs several calls for each green thread.
#[derive(Debug, Default)]
pub struct Waits {
    known: HashMap<u64, (u64, Vec<u8>, Option<Wait>)>,
}

impl Waits {
    /// The wait of each green thread, in their order.
    fn of(&mut self, python: &Python<'_>, greens: &[Green]) -> Vec<Option<Wait>> {
        let slot = python.layout().frame.locals as u64;
        let asleep: Vec<Option<&Located>> = greens.iter().map(waiting_frame).collect();
        let at: Vec<u64> = asleep.iter().flatten().map(|located| located.raw.address + slot).collect();
        let (locals, _) = python.memory.records(&at, LOCALS_BYTES);
        let mut locals = locals.chunks_exact(LOCALS_BYTES);
        let mut fresh = HashMap::with_capacity(greens.len());
        let mut waits = Vec::with_capacity(greens.len());
        for (green, frame) in greens.iter().zip(&asleep) {
            let Some(frame) = frame else {
                let is_native = green.record.state == GreenletState::Suspended && green.hub.is_none();
                waits.push(is_native.then(|| wait_of(python, &green.stack)).flatten());
                continue;
            };
            let values = locals.next().unwrap_or_default();
            let print = green.stack.iter().fold(0_u64, |print, located| {
                print.rotate_left(9)
                    ^ located.raw.address
                    ^ located.raw.code.rotate_left(32)
                    ^ located.raw.instruction
            });
            let known = self.known.remove(&green.record.object);
            let wait = match known {
                Some((seen, bytes, wait))
                    if seen == print && bytes == values && !frame.code.locals.is_empty() =>
                {
                    wait
                }
                _ => wait_of(python, &green.stack),
            };
            fresh.insert(green.record.object, (print, values.to_vec(), wait.clone()));
            waits.push(wait);
        }
        self.known = fresh;
        waits
    }
}

/// The innermost frame that says what a suspended green thread waits for.
fn waiting_frame(green: &Green) -> Option<&Located> {
    let is_asleep = green.record.state == GreenletState::Suspended && green.hub.is_none();
    is_asleep.then(|| green.stack.iter().find(|located| !is_switch(located))).flatten()
}

/// Turns green threads into the snapshot's form.
pub fn present_green(
    python: &Python<'_>,
    stacks: &mut Stacks,
    greens: &[Green],
    seen: &mut Seen,
    waits: &mut Waits,
    tid_of: &HashMap<u64, i32>,
) -> Vec<GreenThread> {
    let mut classes: HashMap<u64, String> = HashMap::new();
    let waits = waits.of(python, greens);
    greens
        .iter()
        .zip(waits)
        .map(|(green, wait)| {
            let record = &green.record;
            let class = classes
                .entry(record.class)
                .or_insert_with(|| python.type_name(record.class).unwrap_or_default())
                .clone();
            let role = match (&green.hub, record.is_main) {
                (Some(_), _) => "hub",
                (None, true) => "main",
                (None, false) => "green thread",
            };
            let id = NodeId(record.object);
            let stack = places(&green.stack);
            let (age_ms, unchanged_ms) = seen.note(id, &stack);
            GreenThread {
                id,
                name: name_of(python, stacks, green).unwrap_or_else(|| class.clone()),
                class,
                state: match record.state {
                    GreenletState::NotStarted => "not started",
                    GreenletState::Running => "running",
                    GreenletState::Suspended => "suspended",
                    GreenletState::Dead => "dead",
                },
                role,
                tid: tid_of.get(&record.main).copied(),
                parent: (record.parent != 0).then_some(NodeId(record.parent)),
                age_ms: Labelled::sampled(age_ms),
                unchanged_ms: Labelled::sampled(unchanged_ms),
                wait,
                stack,
                is_stack_cut: green.is_cut,
            }
        })
        .collect()
}

/// The outermost function that is not the library's own.
fn name_of(python: &Python<'_>, stacks: &mut Stacks, green: &Green) -> Option<String> {
    let own = green.stack.iter().rev().find(|located| !is_machinery(&located.frame));
    if let Some(located) = own.or(green.stack.last()) {
        return Some(located.code.function.to_string());
    }
    let code = python.callable_code(green.record.run)?;
    stacks.start_of(python, code).map(|frame| frame.function.to_string())
}
