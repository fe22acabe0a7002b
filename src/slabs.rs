//! Memory for data-stack chunks, in slabs of 1 MiB.
//!
//! A slab is mapped and unmapped as a whole, which costs its 64 chunks one system call instead of 64. Slabs
//! without a chunk in use are kept up to [`IDLE_MAX`], so that green threads that come and go find pages
//! that are resident already.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::c_void;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// `DATA_STACK_CHUNK_SIZE` of CPython's pystate.c, 3.11 to 3.14. A stack that outgrows its first chunk takes
/// a larger one; those are rare and come from elsewhere. Arenas of objects are 256 KiB or 1 MiB.
pub const CHUNK_SIZE: usize = 16 * 1024;
const CHUNKS: usize = u64::BITS as usize;
const SLAB_SIZE: usize = CHUNK_SIZE * CHUNKS;

/// At most 64 MiB of addresses are kept without a user; of a chunk only the pages that were used are
/// resident, which is mostly one of four.
pub const IDLE_MAX: usize = 64;

/// The slabs of a process, by address, each with the set of its chunks that are free.
#[derive(Debug, Default)]
pub struct Slabs {
    free: BTreeMap<usize, u64>,
    /// The slabs that have a free chunk; the last one is taken from.
    open: Vec<usize>,
    /// How many slabs have no chunk in use.
    idle: usize,
}

const ALL: u64 = u64::MAX;

impl Slabs {
    /// No slabs yet.
    pub const fn new() -> Self {
        Self { free: BTreeMap::new(), open: Vec::new(), idle: 0 }
    }

    /// A chunk that nobody uses; None if the system has no memory.
    pub fn take(&mut self) -> Option<*mut c_void> {
        let base = match self.open.last() {
            Some(&base) => base,
            None => self.grow()?,
        };
        let free = self.free.get_mut(&base)?;
        if *free == ALL {
            self.idle -= 1;
        }
        let index = free.trailing_zeros() as usize;
        *free &= *free - 1;
        if *free == 0 {
            self.open.pop();
        }
        Some(std::ptr::with_exposed_provenance_mut(base + index * CHUNK_SIZE))
    }

    /// Takes a chunk back; false if it is not from here.
    pub fn give_back(&mut self, chunk: *mut c_void) -> bool {
        let address = chunk.addr();
        let Some((&base, free)) = self.free.range_mut(..=address).next_back() else { return false };
        if address - base >= SLAB_SIZE {
            return false;
        }
        if *free == 0 {
            self.open.push(base);
        }
        *free |= 1 << ((address - base) / CHUNK_SIZE);
        if *free == ALL {
            self.idle += 1;
            if self.idle > IDLE_MAX {
                self.unmap(base);
            }
        }
        true
    }

    /// Chunks that nobody uses, and how many of them there can be in slabs without any in use.
    pub fn unused(&self) -> (usize, usize) {
        let unused = self.free.values().map(|free| free.count_ones() as usize).sum();
        (unused, IDLE_MAX * CHUNKS)
    }

    fn grow(&mut self) -> Option<usize> {
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches nobody's memory.
        let slab = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                SLAB_SIZE,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        };
        let base = slab.ok()?.expose_provenance();
        self.free.insert(base, ALL);
        self.open.push(base);
        self.idle += 1;
        Some(base)
    }

    /// Gives a slab back to the system.
    fn unmap(&mut self, base: usize) {
        self.free.remove(&base);
        self.open.retain(|&other| other != base);
        self.idle -= 1;
        // SAFETY: the mapping is one that `grow` made, and none of its chunks is in use: all were given back.
        // It can only fail for want of memory for the kernel's own records; the addresses are then lost.
        let _ = unsafe { munmap(std::ptr::with_exposed_provenance_mut(base), SLAB_SIZE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_distinct_writable_and_come_back() {
        let mut slabs = Slabs::new();
        let chunks: Vec<_> = (0..3 * CHUNKS + 1).map(|_| slabs.take().unwrap()).collect();
        let mut addresses: Vec<_> = chunks.iter().map(|chunk| chunk.addr()).collect();
        addresses.sort_unstable();
        assert!(addresses.windows(2).all(|pair| pair[1] - pair[0] >= CHUNK_SIZE));
        for &chunk in &chunks {
            // SAFETY: the chunk is of `CHUNK_SIZE` bytes and this test's own.
            unsafe { chunk.cast::<u8>().write_bytes(7, CHUNK_SIZE) };
        }
        assert_eq!(slabs.unused().0, CHUNKS - 1);
        for &chunk in &chunks {
            assert!(slabs.give_back(chunk));
        }
        assert_eq!(slabs.unused().0, 4 * CHUNKS);
    }

    #[test]
    fn slabs_beyond_the_bound_go_back_to_the_system() {
        let mut slabs = Slabs::new();
        let chunks: Vec<_> = (0..(IDLE_MAX + 5) * CHUNKS).map(|_| slabs.take().unwrap()).collect();
        for chunk in chunks {
            assert!(slabs.give_back(chunk));
        }
        assert_eq!(slabs.unused(), (IDLE_MAX * CHUNKS, IDLE_MAX * CHUNKS));
        assert_eq!((slabs.free.len(), slabs.open.len()), (IDLE_MAX, IDLE_MAX));
        let chunk = slabs.take().unwrap();
        assert!(slabs.give_back(chunk));
    }

    #[test]
    fn memory_from_elsewhere_is_refused() {
        let mut slabs = Slabs::new();
        let chunk = slabs.take().unwrap();
        let beyond = std::ptr::without_provenance_mut::<c_void>(chunk.addr() + SLAB_SIZE);
        assert!(!slabs.give_back(beyond));
        assert!(!slabs.give_back(std::ptr::without_provenance_mut(4096)));
        assert!(slabs.give_back(chunk));
    }
}
