//! Frame chains, walked for many stacks at once: one batch of reads for each depth.
//!
//! A chain that is read while it changes can lead anywhere. What tells a whole one is how it ends. The interpreter loop is
//! entered from C, and marks where:
//!
//! | CPython | a running chain ends | a suspended greenlet's |
//! |---|---|---|
//! | 3.10 | in a frame object without `f_back`; the object has it before the thread knows the frame | so too |
//! | 3.11 | in a frame with `is_entry` set | so too |
//! | 3.12, 3.13 | in a frame owned by the C stack, which the loop keeps among its own C variables | in a Python frame: greenlet bypasses all frames on the C stack when it switches (`expose_frames`) and restores them when it returns |
//!
//! On 3.12 the loop publishes its `_PyCFrame` before that holds the frame it is to run, and a compiler may let a thread see a
//! called frame before that is linked to its caller: then the memory says what an earlier call left in it, or nothing.

use super::objects::Python;
use super::threads::{CFRAME_BYTES, STATE_BYTES, ThreadRecord};
use crate::remote::{Request, int_at, word_at};

/// Deeper frames are cut and the stack marked.
pub const STACK_LIMIT: usize = 256;
/// Frames that stand on the C stack and belong to the interpreter loop (3.12 on).
const OWNED_BY_C_STACK: u8 = 3;
/// `_PyInterpreterFrame.is_entry` of 3.11.
const IS_ENTRY_3_11: usize = 68;
/// Frames inside a generator or coroutine object.
const OWNED_BY_GENERATOR: u8 = 1;

/// One frame as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawFrame {
    /// Its address.
    pub address: u64,
    /// Its code object.
    pub code: u64,
    /// Its instruction: an address, or on 3.10 an index.
    pub instruction: u64,
    /// It belongs to a generator or coroutine.
    pub is_generator: bool,
}

impl RawFrame {
    /// The same call of the same function, wherever it has come.
    pub fn is_same(&self, other: &Self) -> bool {
        self.address == other.address && self.code == other.code
    }
}

/// How a chain ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ChainEnd {
    /// It never began: there is no frame.
    #[default]
    Empty,
    /// Where C code entered the interpreter.
    Entry,
    /// In a frame without a caller that C code did not enter by.
    Frame,
    /// Deeper than is read.
    Deep,
    /// In a frame that could not be read.
    Unread,
}

/// A walked stack, innermost frame first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Walk {
    /// The frames.
    pub frames: Vec<RawFrame>,
    /// A frame could not be read, or the chain did not end.
    pub is_cut: bool,
    /// Where the interpreter loop's own frames stand on the C stack, innermost first (3.12 on).
    pub shims: Vec<u64>,
    /// How the chain ended.
    pub end: ChainEnd,
}

impl Walk {
    /// A stack that could not be read: nothing of it is shown.
    pub fn torn() -> Self {
        Self { is_cut: true, ..Self::default() }
    }

    /// Where its frames are, those on the C stack last.
    fn addresses(&self) -> impl Iterator<Item = u64> {
        self.frames.iter().map(|frame| frame.address).chain(self.shims.iter().copied())
    }

    /// It ends as a running thread's chain does.
    pub fn is_whole(&self) -> bool {
        matches!(self.end, ChainEnd::Empty | ChainEnd::Entry | ChainEnd::Deep)
    }

    /// It ends as a suspended greenlet's chain does, or as one that is just switched away from.
    pub fn is_whole_suspended(&self, minor: u8) -> bool {
        self.is_whole() || minor >= 12 && self.end == ChainEnd::Frame
    }
}

impl Python<'_> {
    /// Walks many chains from their innermost frames.
    pub fn walk(&self, tops: &[u64]) -> Vec<Walk> {
        let layout = self.layout().frame;
        let stride = layout.header_bytes;
        let mut walks = vec![Walk::default(); tops.len()];
        let mut open: Vec<(usize, u64)> =
            tops.iter().copied().enumerate().filter(|&(_, address)| address != 0).collect();
        // The extra rounds are for the interpreter loop's own frames, which are not counted.
        for _ in 0..STACK_LIMIT * 2 {
            if open.is_empty() {
                break;
            }
            let addresses: Vec<u64> = open.iter().map(|&(_, address)| address).collect();
            let (records, read) = self.memory.records(&addresses, stride);
            let mut next = Vec::with_capacity(open.len());
            for ((&(index, address), record), is_read) in
                open.iter().zip(records.chunks_exact(stride)).zip(read)
            {
                let walk = &mut walks[index];
                if !is_read || walk.frames.len() >= STACK_LIMIT {
                    walk.is_cut = true;
                    walk.end = if is_read { ChainEnd::Deep } else { ChainEnd::Unread };
                    continue;
                }
                let previous = self.take_frame(walk, address, record);
                if previous != 0 {
                    next.push((index, previous));
                }
            }
            open = next;
        }
        for (index, _) in open {
            walks[index].is_cut = true;
            walks[index].end = ChainEnd::Deep;
        }
        walks
    }

    /// Adds a frame to a walk; returns its caller's address.
    fn take_frame(&self, walk: &mut Walk, address: u64, record: &[u8]) -> u64 {
        let layout = &self.layout().frame;
        let owner = if layout.owner == 0 { 0 } else { record[layout.owner] };
        if owner == OWNED_BY_C_STACK {
            walk.shims.push(address);
        } else {
            walk.frames.push(RawFrame {
                address,
                code: word_at(record, layout.code),
                instruction: self.instruction(record),
                is_generator: owner == OWNED_BY_GENERATOR,
            });
        }
        let previous = word_at(record, layout.previous);
        if previous == 0 {
            let is_entry = match self.layout().minor {
                ..=10 => true,
                11 => record[IS_ENTRY_3_11] != 0,
                _ => owner == OWNED_BY_C_STACK,
            };
            walk.end = if is_entry { ChainEnd::Entry } else { ChainEnd::Frame };
        }
        previous
    }

    /// Whether a thread's chain is still as it was walked, told by one read of its head and of every frame.
    ///
    /// Each link was read twice, and the first reads ended before the second ones began: in between they all held at once.
    pub fn is_still(&self, thread: &ThreadRecord, walk: &Walk) -> bool {
        let stride = self.layout().frame.header_bytes;
        let addresses: Vec<u64> = walk.addresses().collect();
        let (mut state, mut cframe) = ([0; STATE_BYTES], [0; CFRAME_BYTES]);
        let mut records = vec![0; addresses.len() * stride];
        let mut requests = vec![Request::new(thread.state, &mut state)];
        if self.layout().has_cframe {
            requests.push(Request::new(thread.c_stack, &mut cframe));
        }
        let frames = addresses.iter().zip(records.chunks_exact_mut(stride));
        requests.extend(frames.map(|(&address, record)| Request::new(address, record)));
        self.memory.read_many(&mut requests);
        if !requests.iter().all(|request| request.is_read) || !self.is_head(thread, &state, &cframe) {
            return false;
        }
        self.leads_the_same(thread.frame, walk, &addresses, &records)
    }

    /// Which chains are still as they were walked, told by one more read of each frame.
    pub fn are_still(&self, tops: &[u64], walks: &[Walk]) -> Vec<bool> {
        let stride = self.layout().frame.header_bytes;
        let addresses: Vec<u64> = walks.iter().flat_map(|walk| walk.addresses()).collect();
        let (records, read) = self.memory.records(&addresses, stride);
        let mut at = 0;
        tops.iter()
            .zip(walks)
            .map(|(&top, walk)| {
                let own = at..at + walk.frames.len() + walk.shims.len();
                at = own.end;
                let is_read = read[own.clone()].iter().all(|&is_read| is_read);
                let records = &records[own.start * stride..own.end * stride];
                is_read && self.leads_the_same(top, walk, &addresses[own], records)
            })
            .collect()
    }

    /// Whether a chain leads through records of its frames, read anew, as it did through the first ones.
    fn leads_the_same(&self, top: u64, walk: &Walk, addresses: &[u64], records: &[u8]) -> bool {
        let stride = self.layout().frame.header_bytes;
        let mut again = Walk::default();
        let mut next = top;
        for _ in 0..addresses.len() {
            let Some(at) = addresses.iter().position(|&address| address == next) else { break };
            next = self.take_frame(&mut again, next, &records[at * stride..][..stride]);
        }
        let is_ended = next == 0 || walk.end == ChainEnd::Deep;
        is_ended
            && again.shims == walk.shims
            && again.frames.len() == walk.frames.len()
            && again.frames.iter().zip(&walk.frames).all(|(one, other)| one.is_same(other))
    }

    /// Walks a chain inside bytes that were read from `start` on; `None` if it leaves them or does not end.
    pub fn walk_within(&self, top: u64, start: u64, bytes: &[u8]) -> Option<Walk> {
        let mut walk = Walk::default();
        let mut address = top;
        while address != 0 {
            let at = usize::try_from(address.checked_sub(start)?).ok()?;
            let record = bytes.get(at..at.checked_add(self.layout().frame.header_bytes)?)?;
            if walk.frames.len() >= STACK_LIMIT {
                return None;
            }
            address = self.take_frame(&mut walk, address, record);
        }
        Some(walk)
    }

    fn instruction(&self, record: &[u8]) -> u64 {
        let at = self.layout().frame.instruction;
        if self.layout().minor >= 11 { word_at(record, at) } else { int_at(record, at) as u32 as u64 }
    }

    /// Reads the one frame at an address.
    pub fn frame(&self, address: u64) -> Option<RawFrame> {
        let layout = self.layout().frame;
        let record = self.memory.bytes(address, layout.header_bytes)?;
        Some(RawFrame {
            address,
            code: word_at(&record, layout.code),
            instruction: self.instruction(&record),
            is_generator: layout.owner != 0 && record[layout.owner] == OWNED_BY_GENERATOR,
        })
    }

    /// The value in a local slot; the content of a cell if the variable is captured.
    pub fn local(&self, frame: u64, slot: usize) -> Option<u64> {
        let value =
            self.field(frame, (self.layout().frame.locals + slot * 8) as u64).filter(|&value| value != 0)?;
        if self.type_name_of(value).as_deref() == Some("cell") {
            return self.field(value, 16).filter(|&value| value != 0);
        }
        Some(value)
    }

    /// The value on top of a suspended frame's stack: what a coroutine awaits.
    pub fn stack_top(&self, frame: u64) -> Option<u64> {
        let layout = self.layout().frame;
        let depth = self.int_field(frame, layout.stack_top as u64)?;
        let depth = u64::try_from(depth).ok().filter(|depth| (1..1 << 16).contains(depth))?;
        // From 3.11 on the depth counts the local variables as well.
        let base = self.value_stack_base(frame, 0)?;
        self.field(base, (depth - 1) * 8).filter(|&value| value != 0)
    }

    /// The first slots of a frame's value stack, whether they are in use or not.
    pub fn value_stack(&self, frame: u64, locals: usize, slots: usize) -> Option<Vec<u64>> {
        let bytes = self.memory.bytes(self.value_stack_base(frame, locals)?, slots * 8)?;
        Some(bytes.chunks_exact(8).map(|slot| word_at(slot, 0)).collect())
    }

    /// Where the value stack starts: behind the local variables, which 3.10 keeps apart.
    pub fn value_stack_base(&self, frame: u64, locals: usize) -> Option<u64> {
        const VALUE_STACK_3_10: u64 = 64;
        if self.layout().minor >= 11 {
            frame.checked_add((self.layout().frame.locals + locals * 8) as u64)
        } else {
            self.field(frame, VALUE_STACK_3_10)
        }
    }
}
