//! The ring of provided buffers: which pool buffers the kernel may pick for a receive.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

use super::super::buffers::BufferPool;
use super::super::error::SetupError;
use super::super::sys;
use super::setup::errno;

pub(super) const GROUP: u16 = 0;
/// Buffers handed over at first; doubled whenever the kernel runs out.
const FIRST_WORKING_SET: u16 = 32;

/// A registered buffer ring (`IOU_PBUF_RING`, Linux 5.19).
pub(super) struct ProvidedBuffers {
    entries: NonNull<BufRingEntry>,
    bytes: usize,
    mask: u16,
    tail: u16,
    /// Which pool buffers the kernel holds, to know them after a fork.
    held: Vec<bool>,
    held_count: u16,
    working_set: u16,
}

// SAFETY: the mapping behind `entries` is owned by this value alone; the kernel only reads it.
unsafe impl Send for ProvidedBuffers {}

impl ProvidedBuffers {
    /// Registers an empty ring with room for the whole pool.
    pub(super) fn register(ring: &IoUring, pool: &BufferPool) -> Result<Self, SetupError> {
        let count = pool.buffer_count();
        let bytes = usize::from(count) * size_of::<BufRingEntry>();
        // mmap aligns to a page, as the registration demands.
        let entries: NonNull<BufRingEntry> = sys::map_anonymous(bytes)
            .map_err(|errno| SetupError::new("mmap of the buffer ring", errno))?
            .cast();
        let provided = ProvidedBuffers {
            entries,
            bytes,
            mask: count - 1,
            tail: 0,
            held: vec![false; usize::from(count)],
            held_count: 0,
            working_set: FIRST_WORKING_SET.min(count),
        };
        let address = entries.as_ptr() as u64;
        // SAFETY: `address` is a page-aligned mapping of `count` entries that is unmapped only in our drop,
        // which the owner runs after the ring is closed.
        unsafe { ring.submitter().register_buf_ring_with_flags(address, count, GROUP, 0) }
            .map_err(|error| SetupError::new("io_uring_register (buffer ring)", errno(&error)))?;
        Ok(provided)
    }

    /// Hands over buffers until the working set is complete. True if the kernel now has any.
    pub(super) fn fill(&mut self, pool: &mut BufferPool) -> bool {
        let before = self.tail;
        while self.held_count < self.working_set {
            let Some(buffer) = pool.take() else { break };
            self.push(pool, buffer);
        }
        if self.tail != before {
            self.publish();
        }
        self.held_count > 0
    }

    /// The kernel ran out: doubles the working set, once for all the receives that found it empty together.
    /// True if the kernel has buffers now.
    pub(super) fn grow(&mut self, pool: &mut BufferPool) -> bool {
        if self.held_count > 0 {
            return true;
        }
        self.working_set = self.working_set.saturating_mul(2).min(pool.buffer_count());
        self.fill(pool)
    }

    /// Takes a lent buffer back, for the kernel if it is short of its working set.
    pub(super) fn recycle(&mut self, pool: &mut BufferPool, buffer: u16) {
        if self.held_count < self.working_set {
            self.push(pool, buffer);
            self.publish();
        } else {
            pool.put(buffer);
        }
    }

    /// How many buffers the kernel has, as far as its completions have been seen.
    pub(super) fn held_count(&self) -> u64 {
        u64::from(self.held_count)
    }

    /// The kernel picked `buffer` for a completion.
    pub(super) fn picked(&mut self, buffer: u16) {
        if std::mem::replace(&mut self.held[usize::from(buffer)], false) {
            self.held_count -= 1;
        }
    }

    fn push(&mut self, pool: &BufferPool, buffer: u16) {
        // SAFETY: the index is masked into the mapping. The kernel does not read this entry before `publish`
        // moves the tail past it, and has consumed its previous content since at most `count` buffers exist.
        let entry = unsafe { &mut *self.entries.as_ptr().add(usize::from(self.tail & self.mask)) };
        entry.set_addr(pool.address(buffer) as u64);
        entry.set_len(pool.buffer_len());
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        self.held[usize::from(buffer)] = true;
        self.held_count += 1;
    }

    /// Release: the kernel loads the tail with acquire and then reads the entries written before.
    fn publish(&self) {
        // SAFETY: the tail lives in the first entry of the mapping, which is initialised (zeroed) memory;
        // both sides access it only atomically.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }

    /// The buffers the kernel holds, when its ring is given up.
    pub(super) fn held(&self) -> impl Iterator<Item = u16> + '_ {
        self.held.iter().enumerate().filter(|(_, held)| **held).map(|(buffer, _)| buffer as u16)
    }
}

impl Drop for ProvidedBuffers {
    fn drop(&mut self) {
        // SAFETY: the mapping of `register`; the ring that read it is closed (field order of `Ring`). A ring
        // still being torn down holds its own reference to these pages, so unmapping only removes our view.
        unsafe { sys::unmap(self.entries.cast(), self.bytes) };
    }
}
