//! Pooled receive buffers, lent out as leases.
//!
//! The pool reserves address space for all of its buffers and touches none. Only a small working set is
//! ever handed to the kernel (or used by epoll), growing when it proves too small: a buffer that was never
//! needed costs no resident memory.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use super::error::{Errno, SetupError};
use super::wake::Waker;

/// No buffer's number: there are 32,768 at most.
const NONE: u16 = u16::MAX;

/// Received bytes in a buffer of the pool. Hand it back with [`super::Proactor::recycle`]; dropping it
/// also returns the buffer, a little slower.
#[must_use = "copy the bytes out and recycle the lease"]
pub struct Lease {
    storage: Storage,
    len: u32,
}

enum Storage {
    Pooled {
        memory: Arc<Memory>,
        buffer: u16,
    },
    /// All pooled buffers were lent out when the bytes came.
    Heap(Box<[u8]>),
    Returned,
}

impl Lease {
    pub(crate) fn heap(bytes: Box<[u8]>, len: u32) -> Self {
        let len = len.min(bytes.len() as u32);
        Lease { storage: Storage::Heap(bytes), len }
    }

    #[cfg(test)]
    pub(crate) fn is_pooled(&self) -> bool {
        matches!(self.storage, Storage::Pooled { .. })
    }

    /// The received bytes.
    pub fn bytes(&self) -> &[u8] {
        match &self.storage {
            Storage::Pooled { memory, buffer } => {
                // SAFETY: the buffer is lent to this lease alone until it is returned: neither the kernel
                // nor another lease has it. `len` bytes of it were written by the completed receive, and
                // anonymous memory is initialised anyway. The Arc keeps the mapping.
                unsafe { std::slice::from_raw_parts(memory.address(*buffer), self.len as usize) }
            }
            Storage::Heap(bytes) => &bytes[..self.len as usize],
            Storage::Returned => &[],
        }
    }

    /// How many bytes were received.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// True for a lease without bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Storage::Pooled { memory, buffer } = std::mem::replace(&mut self.storage, Storage::Returned) {
            memory.give_back(buffer);
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({} bytes)", self.len)
    }
}

/// The mapping, shared with the leases so that one that outlives its proactor stays readable.
struct Memory {
    base: NonNull<u8>,
    buffer_len: u32,
    buffer_count: u16,
    /// Buffers of dropped leases, from any thread: the newest one, or `NONE`. No lock, which a fork could catch while
    /// another thread holds it, and the child would wait for it for ever.
    returned: AtomicU16,
    /// By buffer: the one that was returned before it.
    below: Box<[AtomicU16]>,
    /// A receive waits for a buffer: whoever returns one wakes the driver.
    is_awaited: AtomicBool,
    waker: Waker,
}

// SAFETY: `base` is a private anonymous mapping owned by this value; disjoint buffers of it are accessed
// only by whoever holds the buffer's number (kernel, pool or one lease), which moves between threads whole.
unsafe impl Send for Memory {}
// SAFETY: as above; the shared fields are atomics.
unsafe impl Sync for Memory {}

impl Memory {
    fn map(buffer_count: u16, buffer_len: u32, waker: Waker) -> Result<Self, SetupError> {
        let base = super::sys::map_anonymous(usize::from(buffer_count) * buffer_len as usize)
            .map_err(|errno| SetupError::new("mmap of the receive buffers", errno))?;
        Ok(Memory {
            base,
            buffer_len,
            buffer_count,
            returned: AtomicU16::new(NONE),
            below: (0..buffer_count).map(|_| AtomicU16::new(NONE)).collect(),
            is_awaited: AtomicBool::new(false),
            waker,
        })
    }

    /// Puts a buffer on top of the returned ones. Only whole lists are taken off, so that a top which is still the
    /// same has the same below it.
    fn give_back(&self, buffer: u16) {
        let mut top = self.returned.load(Ordering::Relaxed);
        loop {
            self.below[usize::from(buffer)].store(top, Ordering::Relaxed);
            // Release: pairs with the Acquire in `collect`, for `below` and for the end of the lease's reads. Sequentially
            // consistent with `await_buffer`: either this thread sees that a receive waits, or the driver, which
            // looks once more before it sleeps, sees the buffer.
            match self.returned.compare_exchange_weak(top, buffer, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => break,
                Err(other) => top = other,
            }
        }
        if self.is_awaited.load(Ordering::SeqCst) {
            self.waker.wake();
        }
    }

    fn address(&self, buffer: u16) -> *mut u8 {
        assert!(buffer < self.buffer_count, "the kernel named a buffer that was never registered");
        // SAFETY: in bounds of the mapping by the assertion.
        unsafe { self.base.as_ptr().add(usize::from(buffer) * self.buffer_len as usize) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this size. Leases hold the Arc, and drivers are gone
        // or leaked the pool if the kernel could still write (see `BufferPool::leak`).
        unsafe {
            super::sys::unmap(self.base, usize::from(self.buffer_count) * self.buffer_len as usize);
        }
    }
}

/// The buffers that are neither lent out nor handed to the kernel.
pub(crate) struct BufferPool {
    memory: Arc<Memory>,
    /// Last in, first out: the most recently used buffer is warm and already resident.
    free: Vec<u16>,
    /// Buffers `never_used..buffer_count` were never touched.
    never_used: u16,
}

impl BufferPool {
    /// Buffers of `buffer_len` bytes; `waker` is that of the driver which uses them.
    pub(crate) fn new(buffer_count: u16, buffer_len: u32, waker: Waker) -> Result<Self, SetupError> {
        if !buffer_count.is_power_of_two() || buffer_count > 1 << 15 || buffer_len == 0 {
            return Err(SetupError {
                operation: "receive buffers",
                errno: Errno::RANGE,
                cause: "buffer_count is no power of two up to 32768, or buffer_len is zero",
                remedy: "correct the configuration",
            });
        }
        let memory = Arc::new(Memory::map(buffer_count, buffer_len, waker)?);
        Ok(BufferPool { memory, free: Vec::new(), never_used: 0 })
    }

    pub(crate) fn buffer_count(&self) -> u16 {
        self.memory.buffer_count
    }

    pub(crate) fn buffer_len(&self) -> u32 {
        self.memory.buffer_len
    }

    pub(crate) fn address(&self, buffer: u16) -> *mut u8 {
        self.memory.address(buffer)
    }

    /// A free buffer, preferring one that is already resident.
    pub(crate) fn take(&mut self) -> Option<u16> {
        self.collect();
        self.free.pop().or_else(|| {
            (self.never_used < self.memory.buffer_count).then(|| {
                self.never_used += 1;
                self.never_used - 1
            })
        })
    }

    pub(crate) fn put(&mut self, buffer: u16) {
        self.free.push(buffer);
    }

    /// Has `receive` write into a free buffer, of which it sees `len` bytes, and lends that buffer if bytes came.
    /// The outer None: all buffers are lent.
    pub(crate) fn fill(
        &mut self,
        len: u32,
        receive: impl FnOnce(&mut [u8]) -> Result<u32, Errno>,
    ) -> Option<Result<Option<Lease>, Errno>> {
        let buffer = self.take()?;
        let len = len.min(self.memory.buffer_len) as usize;
        // SAFETY: in bounds of the mapping, which the kernel has filled with zeros; and nobody else has the buffer:
        // it was free, and is neither lent nor handed to a ring before the slice ends.
        let room = unsafe { std::slice::from_raw_parts_mut(self.address(buffer), len) };
        let received = receive(room);
        if let Ok(len @ 1..) = received {
            return Some(Ok(Some(self.lend(buffer, len))));
        }
        self.put(buffer);
        Some(received.map(|_| None))
    }

    /// Lends `buffer` with `len` received bytes.
    pub(crate) fn lend(&self, buffer: u16, len: u32) -> Lease {
        let len = len.min(self.memory.buffer_len);
        Lease { storage: Storage::Pooled { memory: Arc::clone(&self.memory), buffer }, len }
    }

    /// Takes a lease back. The buffer's number, if it was one of ours.
    pub(crate) fn unlend(&mut self, mut lease: Lease) -> Option<u16> {
        match std::mem::replace(&mut lease.storage, Storage::Returned) {
            Storage::Pooled { memory, buffer } if Arc::ptr_eq(&memory, &self.memory) => Some(buffer),
            foreign => {
                lease.storage = foreign;
                None
            }
        }
    }

    /// Dropped leases wait to be collected.
    #[inline]
    pub(crate) fn has_returned(&self) -> bool {
        self.memory.returned.load(Ordering::SeqCst) != NONE
    }

    /// A buffer could be taken.
    pub(crate) fn has_free(&self) -> bool {
        !self.free.is_empty() || self.never_used < self.memory.buffer_count || self.has_returned()
    }

    /// Has every dropped lease wake the driver, or none. Who begins to wait for a buffer looks once more afterwards.
    pub(crate) fn await_buffer(&self, is_awaited: bool) {
        self.memory.is_awaited.store(is_awaited, Ordering::SeqCst);
    }

    /// Collects the buffers of dropped leases.
    pub(crate) fn collect(&mut self) {
        if !self.has_returned() {
            return;
        }
        let mut buffer = self.memory.returned.swap(NONE, Ordering::Acquire);
        while buffer != NONE {
            self.free.push(buffer);
            buffer = self.memory.below[usize::from(buffer)].load(Ordering::Relaxed);
        }
    }

    /// Whatever a ring held that is given up, or is the parent's, is ours again. `lent` numbers are kept out by the
    /// leases that hold them, so the free list is rebuilt from the ring's own account.
    pub(crate) fn reclaim(&mut self, buffers: impl IntoIterator<Item = u16>) {
        self.free.extend(buffers);
    }

    /// Keeps the mapping for ever: the kernel may still write into it.
    pub(crate) fn leak(&self) {
        std::mem::forget(Arc::clone(&self.memory));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warmest_buffer_is_taken_first_and_untouched_ones_last() {
        let mut pool = BufferPool::new(4, 64, Waker::new().expect("a waker")).expect("pool");
        assert_eq!((pool.take(), pool.take()), (Some(0), Some(1)));
        pool.put(1);
        pool.put(0);
        assert_eq!((pool.take(), pool.take(), pool.take()), (Some(0), Some(1), Some(2)));
    }

    #[test]
    fn a_dropped_lease_returns_its_buffer_and_a_recycled_one_does_so_once() {
        let mut pool = BufferPool::new(1, 64, Waker::new().expect("a waker")).expect("pool");
        let buffer = pool.take().expect("one buffer");
        drop(pool.lend(buffer, 3));
        assert_eq!(pool.take(), Some(buffer));
        let lease = pool.lend(buffer, 3);
        assert_eq!(pool.unlend(lease), Some(buffer));
        assert_eq!(pool.take(), None, "a recycled lease does not return its buffer a second time");
    }
}
