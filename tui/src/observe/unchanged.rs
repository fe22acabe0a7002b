//! Suspended green threads whose stacks have not changed since the last look.
//!
//! From 3.11 on a green thread's frames stand one behind another in a piece of memory of its own. So one range of bytes
//! a green thread is read and compared; only where a byte differs the stack is walked and decoded again.

use super::stacks::{Located, places};
use crate::decode::{GreenletRecord, Python, Walk};
use crate::remote::Request;
use crate::state::{Frame, Hub, Labelled, Wait};
use std::collections::HashMap;
use std::sync::Arc;

/// A suspended stack with all that follows from it.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Innermost frame first.
    pub stack: Vec<Located>,
    /// The places of these frames.
    pub places: Vec<Arc<Frame>>,
    /// The stack is incomplete.
    pub is_cut: bool,
    /// Frames that did not decode.
    pub frames_lost: usize,
    /// The hub whose loop it is.
    pub hub: Option<Labelled<Hub>>,
    /// What it waits for.
    pub wait: Option<Wait>,
    /// The outermost function that is not the library's own.
    pub name: Option<String>,
}

impl Decoded {
    /// A stack of which only the frames are known.
    pub fn new(stack: Vec<Located>, is_cut: bool, frames_lost: usize) -> Self {
        Self { places: places(&stack), stack, is_cut, frames_lost, ..Self::default() }
    }
}

#[derive(Debug)]
struct Known {
    top: u64,
    start: u64,
    bytes: Vec<u8>,
    decoded: Arc<Decoded>,
}

/// What was decoded at the last look, by green thread.
#[derive(Debug, Default)]
pub struct Unchanged {
    known: HashMap<u64, Known>,
    epoch: u64,
}

/// A longer stretch of frames is read frame by frame.
const EXTENT_LIMIT: u64 = 4096;
/// Bytes behind the innermost frame's head that are compared: its local variables and value stack tell the wait.
const TAIL_BYTES: u64 = 192;

impl Unchanged {
    /// Forgets all if code objects were replaced since the last look.
    pub fn start_round(&mut self, epoch: u64) {
        if epoch != self.epoch {
            self.known.clear();
            self.epoch = epoch;
        }
    }

    /// The stacks that are as they were, in the order of the records; `tops` are their innermost frames.
    pub fn recall(
        &self,
        python: &Python<'_>,
        records: &[GreenletRecord],
        tops: &[u64],
    ) -> Vec<Option<Arc<Decoded>>> {
        let known: Vec<Option<&Known>> = records
            .iter()
            .zip(tops)
            .map(|(record, &top)| self.known.get(&record.object).filter(|known| known.top == top))
            .collect();
        let extents: Vec<(u64, usize)> =
            known.iter().flatten().map(|known| (known.start, known.bytes.len())).collect();
        let mut fresh = read_extents(python, &extents).into_iter();
        known
            .into_iter()
            .map(|known| {
                let known = known?;
                let is_same = fresh.next().flatten().is_some_and(|bytes| bytes == known.bytes);
                is_same.then(|| known.decoded.clone())
            })
            .collect()
    }

    /// Keeps what was decoded in this look: all of it, since what is not here has ended.
    pub fn keep(
        &mut self,
        python: &Python<'_>,
        decoded: Vec<(u64, Walk, u64, Arc<Decoded>)>,
        recalled: &[u64],
    ) {
        let mut kept: HashMap<u64, Known> =
            recalled.iter().filter_map(|object| self.known.remove_entry(object)).collect();
        let fresh: Vec<_> = decoded
            .into_iter()
            .filter_map(|(object, walk, top, decoded)| {
                Some((object, extent(python, &walk)?, walk, top, decoded))
            })
            .collect();
        let extents: Vec<(u64, usize)> = fresh.iter().map(|&(_, extent, ..)| extent).collect();
        for (bytes, (object, (start, _), walk, top, decoded)) in
            read_extents(python, &extents).into_iter().zip(fresh)
        {
            // It may have run since it was walked: the bytes kept must be those of the stack that was decoded.
            let Some(bytes) = bytes else { continue };
            if python.walk_within(top, start, &bytes).is_some_and(|again| again.frames == walk.frames) {
                kept.insert(object, Known { top, start, bytes, decoded });
            }
        }
        self.known = kept;
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

fn read_extents(python: &Python<'_>, extents: &[(u64, usize)]) -> Vec<Option<Vec<u8>>> {
    let mut buffers: Vec<Vec<u8>> = extents.iter().map(|&(_, length)| vec![0; length]).collect();
    let mut requests: Vec<Request<'_>> =
        extents.iter().zip(&mut buffers).map(|(&(start, _), buffer)| Request::new(start, buffer)).collect();
    python.memory.read_many(&mut requests);
    let are_read: Vec<bool> = requests.iter().map(|request| request.is_read).collect();
    buffers.into_iter().zip(are_read).map(|(buffer, is_read)| is_read.then_some(buffer)).collect()
}
