//! Suspended green threads whose stacks have not changed since the last look.
//!
//! From 3.11 on a green thread's frames stand one behind another in a piece of memory of its own. So one range of bytes
//! a green thread is read and compared; only where a byte differs the stack is walked and decoded again. If no thread has
//! switched since the last look, no suspended stack can differ, and none is read.

use super::stacks::{Located, places};
use crate::decode::{GreenletRecord, Python, ThreadRecord, Walk};
use crate::remote::Request;
use crate::state::{Frame, Hub, Labelled, Wait};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

/// A suspended stack with all that follows from it.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Innermost frame first.
    pub stack: Vec<Located>,
    /// The places of these frames.
    pub places: Arc<[Arc<Frame>]>,
    /// The stack is incomplete.
    pub is_cut: bool,
    /// Frames that did not decode.
    pub frames_lost: usize,
    /// The hub whose loop it is.
    pub hub: Option<Labelled<Hub>>,
    /// What it waits for.
    pub wait: Option<Wait>,
    /// The outermost function that is not the library's own.
    pub name: Option<Arc<str>>,
}

impl Decoded {
    /// A stack of which only the frames are known.
    pub fn new(stack: Vec<Located>, is_cut: bool, frames_lost: usize) -> Self {
        Self { places: places(&stack).into(), stack, is_cut, frames_lost, ..Self::default() }
    }
}

#[derive(Debug)]
struct Known {
    top: u64,
    start: u64,
    bytes: Vec<u8>,
    decoded: Arc<Decoded>,
    /// The last round that found it so.
    round: Cell<u64>,
}

/// What was decoded at the last look, by green thread.
#[derive(Debug, Default)]
pub struct Unchanged {
    known: HashMap<u64, Known>,
    epoch: u64,
    round: u64,
    /// Thread states with their counts of switches, at the start of the round.
    switches: Vec<(u64, u64)>,
    /// They are those of the round before.
    is_quiet: bool,
    /// Receives the bytes of a look; kept, since megabytes of fresh memory cost more than what is read into them.
    fresh: Vec<u8>,
}

/// A longer stretch of frames is read frame by frame.
const EXTENT_LIMIT: u64 = 4096;
/// Bytes behind the innermost frame's head that are compared: its local variables and value stack tell the wait.
const TAIL_BYTES: u64 = 192;

/// Thread states with their counts of switches.
pub fn switches(threads: &[ThreadRecord]) -> Vec<(u64, u64)> {
    threads.iter().map(|thread| (thread.state, thread.context_version)).collect()
}

impl Unchanged {
    /// Forgets all if code objects were replaced since the last look.
    pub fn start_round(&mut self, epoch: u64, threads: &[ThreadRecord]) {
        self.round += 1;
        let switches = switches(threads);
        self.is_quiet = switches == self.switches;
        self.switches = switches;
        if epoch != self.epoch {
            self.known.clear();
            self.epoch = epoch;
        }
    }

    /// The stacks that are as they were, in the order of the records; `tops` are their innermost frames.
    pub fn recall(
        &mut self,
        python: &Python<'_>,
        records: &[GreenletRecord],
        tops: &[u64],
    ) -> Vec<Option<Arc<Decoded>>> {
        let known: Vec<Option<&Known>> = records
            .iter()
            .zip(tops)
            .map(|(record, &top)| self.known.get(&record.object).filter(|known| known.top == top))
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
        let mut fresh = read_extents(python, &extents, &mut self.fresh).into_iter();
        known
            .into_iter()
            .map(|known| {
                let known = known?;
                let is_same = fresh.next().flatten().is_some_and(|bytes| bytes == known.bytes);
                is_same.then(|| recall(known))
            })
            .collect()
    }

    /// Keeps what was recalled and decoded in this round: what is neither has ended.
    pub fn keep(&mut self, python: &Python<'_>, decoded: Vec<(u64, Walk, u64, Arc<Decoded>)>) {
        let round = self.round;
        self.known.retain(|_, known| known.round.get() == round);
        let decoded: Vec<_> = decoded
            .into_iter()
            .filter_map(|(object, walk, top, decoded)| {
                Some((object, extent(python, &walk)?, walk, top, decoded))
            })
            .collect();
        let extents: Vec<(u64, usize)> = decoded.iter().map(|&(_, extent, ..)| extent).collect();
        for (bytes, (object, (start, _), walk, top, decoded)) in
            read_extents(python, &extents, &mut self.fresh).into_iter().zip(decoded)
        {
            // It may have run since it was walked: the bytes kept must be those of the stack that was decoded.
            let Some(bytes) = bytes else { continue };
            if python.walk_within(top, start, bytes).is_some_and(|again| again.frames == walk.frames) {
                let known = Known { top, start, bytes: bytes.to_vec(), decoded, round: Cell::new(round) };
                self.known.insert(object, known);
            }
        }
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

/// Reads each range into its part of `buffer`; `None` for a range that cannot be read.
fn read_extents<'b>(
    python: &Python<'_>,
    extents: &[(u64, usize)],
    buffer: &'b mut Vec<u8>,
) -> Vec<Option<&'b [u8]>> {
    let length: usize = extents.iter().map(|&(_, length)| length).sum();
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
    let mut rest = buffer.as_mut_slice();
    let mut requests = Vec::with_capacity(extents.len());
    for &(start, length) in extents {
        let (own, behind) = rest.split_at_mut(length);
        requests.push(Request::new(start, own));
        rest = behind;
    }
    python.memory.read_many(&mut requests);
    requests.into_iter().map(|request| request.is_read.then_some(&*request.buffer)).collect()
}
