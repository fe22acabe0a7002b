//! Code objects: names, and the line of an instruction.

use super::live::{TABLE_LIMIT, handler_depth};
use super::objects::Python;
use crate::remote::{int_at, word_at};
use std::collections::HashMap;
use std::sync::Arc;

/// Line tables beyond this are not read.
const LINE_TABLE_LIMIT: usize = 1 << 20;
/// Local names beyond this are not read.
const LOCALS_LIMIT: usize = 512;

/// `co_exceptiontable` since 3.11.
const EXCEPTION_TABLE: usize = 40;

/// What is kept of a code object.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// `co_filename`.
    pub file: Arc<str>,
    /// `co_qualname`; the bare name on 3.10.
    pub function: Arc<str>,
    /// `co_name`.
    pub name: Arc<str>,
    /// Names of local variables, in the order of the frame's slots.
    pub locals: Vec<String>,
    first_line: i32,
    line_table: Vec<u8>,
    /// `co_exceptiontable`; 3.10 has none.
    exception_table: Option<Vec<u8>>,
    instructions: u64,
    is_location_table: bool,
    /// The words that identify the object while it lives at its address.
    fingerprint: [u64; 4],
}

/// Code objects by address, checked again on each use because an address can be reused.
#[derive(Debug, Default)]
pub struct CodeCache {
    codes: HashMap<u64, Arc<Code>>,
    verified: HashMap<u64, bool>,
    epoch: u64,
}

/// Code objects kept before the cache is emptied: a bound on memory in a process that makes code without end.
const CODES_LIMIT: usize = 1 << 15;

impl CodeCache {
    /// Starts a round: what was verified in an earlier round is verified again on its first use.
    pub fn start_round(&mut self) {
        self.verified.clear();
    }

    /// Starts a round by verifying all known codes at once; returns a number that rises whenever one was replaced.
    pub fn verify(&mut self, python: &Python<'_>) -> u64 {
        self.start_round();
        let addresses: Vec<u64> = self.codes.keys().copied().collect();
        if addresses.len() > CODES_LIMIT {
            self.codes.clear();
            self.epoch += 1;
            return self.epoch;
        }
        let stride = python.layout().code_bytes;
        let (records, read) = python.memory.records(&addresses, stride);
        for ((address, record), is_read) in addresses.into_iter().zip(records.chunks_exact(stride)).zip(read)
        {
            let found = if is_read { fingerprint(python, record) } else { None };
            if self.codes.get(&address).map(|code| code.fingerprint) == found {
                self.verified.insert(address, true);
            } else {
                self.codes.remove(&address);
                self.epoch += 1;
            }
        }
        self.epoch
    }

    /// The code at an address, decoded once; `None` if there is no code object.
    pub fn get(&mut self, python: &Python<'_>, address: u64) -> Option<Arc<Code>> {
        match self.verified.get(&address) {
            Some(true) => return self.codes.get(&address).cloned(),
            Some(false) => return None,
            None => {}
        }
        let record = python.memory.bytes(address, python.layout().code_bytes);
        let code = record.and_then(|record| {
            let fingerprint = fingerprint(python, &record)?;
            match self.codes.get(&address) {
                Some(code) if code.fingerprint == fingerprint => Some(code.clone()),
                _ => Code::decode(python, address, &record, fingerprint).map(Arc::new),
            }
        });
        self.verified.insert(address, code.is_some());
        if let Some(code) = &code {
            self.codes.insert(address, code.clone());
        }
        code
    }
}

fn fingerprint(python: &Python<'_>, record: &[u8]) -> Option<[u64; 4]> {
    let layout = python.layout();
    (word_at(record, 8) == python.interpreter.types.code).then(|| {
        [
            word_at(record, layout.code_filename),
            word_at(record, layout.code_qualname),
            word_at(record, layout.code_line_table),
            int_at(record, layout.code_first_line) as u64,
        ]
    })
}

impl Code {
    fn decode(python: &Python<'_>, address: u64, record: &[u8], fingerprint: [u64; 4]) -> Option<Self> {
        let layout = python.layout();
        let string = |offset| python.string(word_at(record, offset)).map(Arc::from);
        let mut names =
            python.sequence(word_at(record, layout.code_local_names), LOCALS_LIMIT).unwrap_or_default();
        if layout.minor < 11 {
            // Captured variables and those captured from outside stand behind the local ones, each in a list of its own.
            const CELL_NAMES: usize = 88;
            const FREE_NAMES: usize = 80;
            for list in [CELL_NAMES, FREE_NAMES] {
                names.extend(python.sequence(word_at(record, list), LOCALS_LIMIT).unwrap_or_default());
            }
        }
        Some(Self {
            file: string(layout.code_filename)?,
            function: string(layout.code_qualname)?,
            name: string(layout.code_name)?,
            locals: python.strings(&names).into_iter().map(Option::unwrap_or_default).collect(),
            first_line: int_at(record, layout.code_first_line),
            line_table: python.byte_string(word_at(record, layout.code_line_table), LINE_TABLE_LIMIT)?,
            exception_table: (layout.minor >= 11)
                .then(|| python.byte_string(word_at(record, EXCEPTION_TABLE), TABLE_LIMIT))
                .flatten(),
            instructions: address + layout.code_instructions as u64,
            is_location_table: layout.minor >= 11,
            fingerprint,
        })
    }

    /// The line of an instruction: its address, or on 3.10 its index.
    pub fn line(&self, instruction: u64) -> u32 {
        let offset = if self.is_location_table {
            instruction.wrapping_sub(self.instructions)
        } else {
            (instruction & 0xffff_ffff).wrapping_mul(2)
        };
        let line = if offset > 1 << 28 {
            None
        } else if self.is_location_table {
            location_line(&self.line_table, self.first_line, offset)
        } else {
            delta_line(&self.line_table, self.first_line, offset)
        };
        line.unwrap_or(self.first_line).max(0) as u32
    }

    /// The height of the value stack at which the handler around an instruction starts; `None` if there is no handler.
    pub fn handled_depth(&self, instruction: u64) -> Option<usize> {
        let unit = instruction.checked_sub(self.instructions)? / 2;
        handler_depth(self.exception_table.as_deref()?, unit)
    }

    /// The slots of a local variable: on 3.10 an argument that is captured has two, of which the first is empty.
    pub fn local_slots(&self, name: &str) -> impl Iterator<Item = usize> {
        self.locals.iter().enumerate().filter(move |(_, local)| *local == name).map(|(slot, _)| slot)
    }
}

/// The location table of 3.11 and later (`Objects/locations.md` in CPython).
fn location_line(table: &[u8], first_line: i32, offset: u64) -> Option<i32> {
    let mut line = first_line;
    let mut start = 0_u64;
    let mut rest = table;
    while let Some((&head, tail)) = rest.split_first() {
        let (kind, units) = (head >> 3 & 15, u64::from(head & 7) + 1);
        // Only the first byte of an entry has its top bit set.
        let length = tail.iter().position(|byte| byte & 0x80 != 0).unwrap_or(tail.len());
        line = line.wrapping_add(match kind {
            13 | 14 => signed_varint(&tail[..length]),
            10..=12 => i32::from(kind) - 10,
            _ => 0,
        });
        start += units * 2;
        if offset < start {
            return (kind != 15).then_some(line);
        }
        rest = &tail[length..];
    }
    None
}

fn signed_varint(bytes: &[u8]) -> i32 {
    let mut value = 0_u32;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        value |= u32::from(byte & 63).wrapping_shl(index as u32 * 6);
        if byte & 64 == 0 {
            break;
        }
    }
    let magnitude = (value >> 1) as i32;
    if value & 1 == 1 { -magnitude } else { magnitude }
}

/// The line table of 3.10 (PEP 626): pairs of code and line deltas.
fn delta_line(table: &[u8], first_line: i32, offset: u64) -> Option<i32> {
    let mut line = first_line;
    let mut end = 0_u64;
    for pair in table.chunks_exact(2) {
        let has_line = pair[1] != 0x80;
        if has_line {
            line = line.wrapping_add(i32::from(pair[1] as i8));
        }
        end += u64::from(pair[0]);
        if offset < end {
            return has_line.then_some(line);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn location_entries_add_up_to_the_line_of_an_instruction() {
        // One line form +1 for 2 units, short form for 1 unit, no-column form -3 for 1 unit.
        let table = [0x80 | 11 << 3 | 1, 0, 0, 0x80, 0, 0x80 | 13 << 3, 7];
        assert_eq!(location_line(&table, 10, 0), Some(11));
        assert_eq!(location_line(&table, 10, 4), Some(11));
        assert_eq!(location_line(&table, 10, 6), Some(8));
        assert_eq!(location_line(&table, 10, 8), None);
    }

    #[test]
    fn delta_pairs_add_up_to_the_line_of_an_instruction() {
        let table = [4, 1, 2, 0x80, 6, 2];
        assert_eq!(delta_line(&table, 5, 2), Some(6));
        assert_eq!(delta_line(&table, 5, 4), None);
        assert_eq!(delta_line(&table, 5, 6), Some(8));
    }
}
