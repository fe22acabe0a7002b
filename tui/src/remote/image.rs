//! A memory image held here, for tests and fuzzing of everything that decodes.

use super::memory::{Memory, Request};
use std::cell::Cell;
use std::collections::BTreeMap;

/// Ranges of bytes at made-up addresses, with a count of what was asked for.
#[derive(Debug, Default, Clone)]
pub struct Image {
    ranges: BTreeMap<u64, Vec<u8>>,
    bytes_asked: Cell<u64>,
}

impl Image {
    /// Places bytes at an address; ranges must not overlap.
    pub fn place(&mut self, address: u64, bytes: Vec<u8>) -> &mut Self {
        self.ranges.insert(address, bytes);
        self
    }

    /// Bytes asked for since the start: what a bounded reader keeps small whatever the image holds.
    pub fn bytes_asked(&self) -> u64 {
        self.bytes_asked.get()
    }

    /// The ranges, to damage them.
    pub fn ranges_mut(&mut self) -> impl Iterator<Item = (&u64, &mut Vec<u8>)> {
        self.ranges.iter_mut()
    }

    /// The ranges.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.ranges.iter().map(|(&address, bytes)| (address, bytes.as_slice()))
    }

    fn lookup(&self, address: u64, length: usize) -> Option<&[u8]> {
        let (&start, bytes) = self.ranges.range(..=address).next_back()?;
        let from = usize::try_from(address - start).ok()?;
        bytes.get(from..from.checked_add(length)?)
    }
}

impl Memory for Image {
    fn read_many(&self, requests: &mut [Request<'_>]) {
        for request in requests {
            self.bytes_asked.set(self.bytes_asked.get() + request.buffer.len() as u64);
            if let Some(bytes) = self.lookup(request.address, request.buffer.len()) {
                request.buffer.copy_from_slice(bytes);
                request.is_read = true;
            }
        }
    }
}
