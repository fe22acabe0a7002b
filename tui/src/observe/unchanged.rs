//! Suspended green threads whose stacks have not changed since the last look.
//!
//! From 3.11 on a green thread's frames stand one behind another in a piece of memory of its own. So one range of bytes
//! a green thread is read and compared; only where a byte differs the stack is walked and decoded again. If no thread has
//! switched since the last look, no suspended stack can differ, and none is read.

use super::addresses::AddressMap;
use super::stacks::{Located, places, print_of};
use crate::decode::{GreenletRecord, Python, Walk};
use crate::remote::{Request, word_at};
use crate::state::{Frame, Hub, Labelled, Wait};
use std::cell::Cell;
use std::sync::Arc;

/// A suspended stack with all that follows from it.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Innermost frame first.
    pub stack: Vec<Located>,
    /// The places of these frames.
    pub places: Arc<[Arc<Frame>]>,
    /// The places folded into one word.
    pub print: u64,
    /// The stack is incomplete.
    pub is_cut: bool,
    /// Frames that did not decode.
    pub frames_lost: usize,
    /// The hub whose loop it is.
    pub hub: Option<Labelled<Hub>>,
    /// What it waits for.
    pub wait: Option<Arc<Wait>>,
    /// The outermost function that is not the library's own.
    pub name: Option<Arc<str>>,
}

impl Decoded {
    /// A stack of which only the frames are known.
    pub fn new(stack: Vec<Located>, is_cut: bool, frames_lost: usize) -> Self {
        let places = places(&stack);
        let print = print_of(&places);
        Self { places: places.into(), print, stack, is_cut, frames_lost, ..Self::default() }
    }
}

/// A suspended stack that was walked and decoded in this round.
#[derive(Debug)]
pub struct Fresh {
    /// The green thread.
    pub object: u64,
    /// Its top frame object.
    pub frame_object: u64,
    /// The frame that leads to.
    pub top: u64,
    /// Its frames.
    pub walk: Walk,
    /// And what follows.
    pub decoded: Arc<Decoded>,
}

#[derive(Debug)]
struct Known {
    /// The frame object that leads to the innermost frame, and which that names: with the same bytes it still does.
    frame_object: u64,
    start: u64,
    bytes: Vec<u8>,
    decoded: Arc<Decoded>,
    /// The last round that found it so.
    round: Cell<u64>,
}

/// What was decoded at the last look, by green thread.
#[derive(Debug, Default)]
pub struct Unchanged {
    known: AddressMap<u64, Known>,
    epoch: u64,
    round: u64,
    /// Thread states with their counts of switches, at the start of the round; `None` if not all of them are known.
    switches: Option<Vec<(u64, u64)>>,
    /// They are those of the round before.
    is_quiet: bool,
    /// Receives the bytes of a batch.
    fresh: Vec<u8>,
}

/// A longer stretch of frames is read frame by frame.
const EXTENT_LIMIT: u64 = 4096;
/// Bytes behind the innermost frame's head that are compared: its local variables and value stack tell the wait.
const TAIL_BYTES: u64 = 192;

/// Thread states with their counts of switches; `None` if not all threads could be listed: one that is not among them may have
/// switched.
pub fn switches(python: &Python<'_>) -> Option<Vec<(u64, u64)>> {
    let (threads, is_complete) = python.list_threads();
    is_complete.then(|| threads.iter().map(|thread| (thread.state, thread.context_version)).collect())
}

impl Unchanged {
    /// Forgets all if code objects were replaced since the last look.
    pub fn start_round(&mut self, python: &Python<'_>, epoch: u64) {
        self.round += 1;
        let switches = switches(python);
        self.is_quiet = switches.is_some() && switches == self.switches;
        self.switches = switches;
        if epoch != self.epoch {
            self.known.clear();
            self.epoch = epoch;
        }
    }

    /// The stacks that are as they were, in the order of the records.
    pub fn recall(&mut self, python: &Python<'_>, records: &[GreenletRecord]) -> Vec<Option<Arc<Decoded>>> {
        let is_at = |known: &&Known, record: &GreenletRecord| known.frame_object == record.top_frame;
        let known: Vec<Option<&Known>> = records
            .iter()
            .map(|record| self.known.get(&record.object).filter(|known| is_at(known, record)))
            .collect();
        let round = self.round;
        let recall = |known: &Known| {
            known.round.set(round);
            known.decoded.clone()
        };
        if self.is_quiet {
            return known.into_iter().map(|known| known.map(recall)).collect();
        }
        let extents: Vec<(u64, usize)> =
            known.iter().flatten().map(|known| (known.start, known.bytes.len())).collect();
        let mut are_same = Vec::with_capacity(extents.len());
        let mut at_hand = known.iter().flatten();
        read_extents(python, &extents, &mut self.fresh, |bytes| {
            let known = at_hand.next();
            are_same.push(bytes.is_some() && bytes == known.map(|known| known.bytes.as_slice()));
        });
        let mut are_same = are_same.into_iter();
        let mut same = |known: &Known| are_same.next().unwrap_or(false).then(|| recall(known));
        known.iter().copied().map(|known| known.and_then(&mut same)).collect()
    }

    /// Keeps what was recalled and decoded in this round: what is neither has ended.
    pub fn keep(&mut self, python: &Python<'_>, decoded: Vec<Fresh>) {
        let round = self.round;
        self.known.retain(|_, known| known.round.get() == round);
        let decoded: Vec<_> =
            decoded.into_iter().filter_map(|fresh| Some((extent(python, &fresh.walk)?, fresh))).collect();
        let extents: Vec<(u64, usize)> = decoded.iter().map(|&(extent, _)| extent).collect();
        let known = &mut self.known;
        let mut decoded = decoded.into_iter();
        read_extents(python, &extents, &mut self.fresh, |bytes| {
            let Some(((start, _), fresh)) = decoded.next() else { return };
            let Some(bytes) = bytes else { return };
            let Fresh { object, frame_object, top, walk, decoded } = fresh;
            let Some(at) = top.checked_sub(start) else { return };
            if word_at(bytes, at as usize + python.layout().frame.frame_object) != frame_object {
                return;
            }
            // It may have run since it was walked: the bytes kept must be those of the stack that was decoded.
            if python.walk_within(top, start, bytes).is_some_and(|again| again.frames == walk.frames) {
                let kept =
                    Known { frame_object, start, bytes: bytes.to_vec(), decoded, round: Cell::new(round) };
                known.insert(object, kept);
            }
        });
    }
}

/// The range of bytes that holds all frames of a walk; `None` if they are scattered or incomplete.
fn extent(python: &Python<'_>, walk: &Walk) -> Option<(u64, usize)> {
    if python.layout().minor < 11 || walk.is_cut {
        return None;
    }
    let start = walk.frames.iter().map(|frame| frame.address).min()?;
    let last = walk.frames.iter().map(|frame| frame.address).max()?;
    let end = last.checked_add(python.layout().frame.locals as u64 + TAIL_BYTES)?;
    (end - start <= EXTENT_LIMIT).then_some((start, (end - start) as usize))
}

/// Reads each range and hands it on in turn, `None` for one that cannot be read. A batch has room in the processor's cache:
/// what is only compared need not go through memory.
fn read_extents(
    python: &Python<'_>,
    extents: &[(u64, usize)],
    buffer: &mut Vec<u8>,
    mut take: impl FnMut(Option<&[u8]>),
) {
    const BATCH: usize = 128;
    for batch in extents.chunks(BATCH) {
        let length: usize = batch.iter().map(|&(_, length)| length).sum();
        if buffer.len() < length {
            buffer.resize(length, 0);
        }
        let mut rest = buffer.as_mut_slice();
        let mut requests = Vec::with_capacity(batch.len());
        for &(start, length) in batch {
            let (own, behind) = rest.split_at_mut(length);
            requests.push(Request::new(start, own));
            rest = behind;
        }
        python.memory.read_many(&mut requests);
        for request in &requests {
            take(request.is_read.then_some(&*request.buffer));
        }
    }
}
