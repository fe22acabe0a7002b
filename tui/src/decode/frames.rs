//! Frame chains, walked for many stacks at once: one batch of reads for each depth.

use super::objects::Python;
use crate::remote::{int_at, word_at};

/// Deeper frames are cut and the stack marked.
pub const STACK_LIMIT: usize = 256;
/// Frames that stand on the C stack and belong to the interpreter loop (3.12 on).
const OWNED_BY_C_STACK: u8 = 3;
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

/// A walked stack, innermost frame first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Walk {
    /// The frames.
    pub frames: Vec<RawFrame>,
    /// A frame could not be read, or the chain did not end.
    pub is_cut: bool,
    /// Where the interpreter loop's own frames stand on the C stack, innermost first.
    pub c_stack: Option<u64>,
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
        }
        walks
    }

    /// Adds a frame to a walk; returns its caller's address.
    fn take_frame(&self, walk: &mut Walk, address: u64, record: &[u8]) -> u64 {
        let layout = &self.layout().frame;
        let owner = if layout.owner == 0 { 0 } else { record[layout.owner] };
        if owner == OWNED_BY_C_STACK {
            walk.c_stack.get_or_insert(address);
        } else {
            walk.frames.push(RawFrame {
                address,
                code: word_at(record, layout.code),
                instruction: self.instruction(record),
                is_generator: owner == OWNED_BY_GENERATOR,
            });
        }
        word_at(record, layout.previous)
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
