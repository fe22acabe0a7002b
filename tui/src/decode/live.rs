//! How much of a suspended frame's value stack is in use.
//!
//! The interpreter keeps the stack's height to itself while a frame calls. But the handler of an exception starts with a
//! known height: everything below it is in use wherever that handler holds, above all the exit methods of `with` blocks.

use super::code::Code;
use super::frames::RawFrame;
use super::objects::Python;
use crate::remote::int_at;

/// Longer tables are not read.
pub const TABLE_LIMIT: usize = 1 << 16;
/// CPython allows 21 nested blocks; `for` and `with` take one slot each, a caught exception up to three.
const DEPTH_LIMIT: usize = 128;
/// `PyFrameObject.f_iblock` and `f_blockstack` of 3.10.
const BLOCK_COUNT_3_10: u64 = 104;
const BLOCKS_3_10: u64 = 112;
const BLOCK_BYTES: u64 = 12;
const BLOCK_LEVEL: u64 = 8;

impl Python<'_> {
    /// The values of a suspended frame's stack that are in use for certain, outermost first.
    pub fn live_values(&self, raw: &RawFrame, code: &Code) -> Vec<u64> {
        let depth = match code.handled_depth(raw.instruction) {
            Some(depth) => depth,
            None if self.layout().minor < 11 => self.block_level(raw.address).unwrap_or(0),
            None => 0,
        };
        if depth == 0 || depth > DEPTH_LIMIT {
            return Vec::new();
        }
        self.value_stack(raw.address, code.locals.len(), depth).unwrap_or_default()
    }

    /// 3.10 keeps the blocks that are entered in the frame, each with the height at which it was.
    fn block_level(&self, frame: u64) -> Option<usize> {
        let innermost = self.int_field(frame, BLOCK_COUNT_3_10)?.checked_sub(1)?;
        let block = BLOCKS_3_10 + u64::try_from(innermost).ok().filter(|&block| block < 20)? * BLOCK_BYTES;
        let record = self.memory.bytes(frame.checked_add(block + BLOCK_LEVEL)?, 4)?;
        usize::try_from(int_at(&record, 0)).ok()
    }
}

/// The height at which the handler of a code unit starts (`Objects/exception_handling_notes.txt` in CPython).
pub fn handler_depth(table: &[u8], unit: u64) -> Option<usize> {
    let mut rest = table;
    while !rest.is_empty() {
        let (start, tail) = varint(rest)?;
        let (length, tail) = varint(tail)?;
        let (_target, tail) = varint(tail)?;
        let (depth_and_flag, tail) = varint(tail)?;
        if (start..start.saturating_add(length)).contains(&unit) {
            return usize::try_from(depth_and_flag >> 1).ok();
        }
        rest = tail;
    }
    None
}

/// Six bits a byte, the highest first; bit 6 says that more follow, bit 7 starts an entry.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().enumerate().take(6) {
        value = value << 6 | u64::from(byte & 63);
        if byte & 64 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_around_an_instruction_tells_the_height() {
        // Units 4 to 9 with a handler at 20 and height 1; units 70 to 71 with a handler at 90, height 3 and the flag.
        let table = [0x80 | 4, 6, 20, 2, 0x80 | 0x40 | 1, 6, 2, 0x40 | 1, 26, 7];
        assert_eq!(handler_depth(&table, 3), None);
        assert_eq!(handler_depth(&table, 4), Some(1));
        assert_eq!(handler_depth(&table, 9), Some(1));
        assert_eq!(handler_depth(&table, 10), None);
        assert_eq!(handler_depth(&table, 71), Some(3));
    }

    #[test]
    fn a_table_that_is_cut_off_has_no_entry() {
        assert_eq!(handler_depth(&[0x80 | 4, 6, 20], 5), None);
        assert_eq!(handler_depth(&[0xff; 9], 5), None);
    }
}
