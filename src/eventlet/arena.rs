//! A cache of data-stack chunks.
//!
//! Since Python 3.11 the frames of Python functions live on a *data stack* of linked chunks, one stack per
//! greenlet. The first Python function of a green thread takes a chunk of 16 KiB from the interpreter's
//! arena allocator, and the end of the green thread gives it back: by default an mmap, a page fault and a
//! munmap for every spawn, which together cost more than everything else that a spawn does.
//!
//! The wrapper here keeps chunks that are given back, up to [`KEPT_MAX`], for the next green thread.
//! Everything else goes to the allocator that was there before, and so does a chunk that finds the cache
//! full: every block comes from that allocator in the end, so it may go back there whenever it comes.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::sync::{Mutex, OnceLock, TryLockError};

use pyo3::ffi::{PyObject_GetArenaAllocator, PyObject_SetArenaAllocator, PyObjectArenaAllocator};
use pyo3::prelude::*;

/// `DATA_STACK_CHUNK_SIZE` of CPython's pystate.c, 3.11 to 3.14. A stack that outgrows its first chunk takes
/// a larger one; those are rare and not kept. Arenas of objects are 256 KiB or 1 MiB.
const CHUNK_SIZE: usize = 16 * 1024;

/// At most 4 MiB are kept; of a chunk only the pages that were used are resident, which is mostly one.
const KEPT_MAX: usize = 256;

/// Chunks that nobody uses. The last one given back is the first to be taken, as its page is in the cache.
struct Kept {
    chunks: [*mut c_void; KEPT_MAX],
    count: usize,
}

// SAFETY: the addresses are of memory that nobody uses; whoever takes one out owns it.
unsafe impl Send for Kept {}

/// Subinterpreters with a lock of their own call the allocator at the same time, hence the mutex. It is only
/// ever tried: who finds it taken goes to the old allocator, so a child of fork cannot hang on it either.
static KEPT: Mutex<Kept> = Mutex::new(Kept { chunks: [std::ptr::null_mut(); KEPT_MAX], count: 0 });

/// The allocator behind the cache.
struct Backing(PyObjectArenaAllocator);

// SAFETY: two functions that any thread may call as it may call the arena allocator, and the context they
// want, which belongs to the interpreter and is never freed.
unsafe impl Send for Backing {}
// SAFETY: as above; it is never changed after it was set.
unsafe impl Sync for Backing {}

static BACKING: OnceLock<Backing> = OnceLock::new();

fn with_kept<T>(change: impl FnOnce(&mut Kept) -> Option<T>) -> Option<T> {
    match KEPT.try_lock() {
        Ok(mut kept) => change(&mut kept),
        // A list of addresses is whole after every step of it.
        Err(TryLockError::Poisoned(kept)) => change(&mut kept.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

impl Kept {
    fn take(&mut self) -> Option<*mut c_void> {
        self.count = self.count.checked_sub(1)?;
        Some(self.chunks[self.count])
    }

    fn keep(&mut self, chunk: *mut c_void) -> Option<()> {
        *self.chunks.get_mut(self.count)? = chunk;
        self.count += 1;
        Some(())
    }
}

extern "C" fn allocate(_context: *mut c_void, size: usize) -> *mut c_void {
    if size == CHUNK_SIZE
        && let Some(chunk) = with_kept(Kept::take)
    {
        return chunk;
    }
    let Some(Backing(backing)) = BACKING.get() else { return std::ptr::null_mut() };
    match backing.alloc {
        // The context is the one that came with the function.
        Some(alloc) => alloc(backing.ctx, size),
        None => std::ptr::null_mut(),
    }
}

extern "C" fn free(_context: *mut c_void, chunk: *mut c_void, size: usize) {
    if size == CHUNK_SIZE && !chunk.is_null() && with_kept(|kept| kept.keep(chunk)).is_some() {
        return;
    }
    if let Some(Backing(PyObjectArenaAllocator { ctx, free: Some(free), .. })) = BACKING.get() {
        free(*ctx, chunk, size);
    }
}

/// Keeps the data-stack chunks of ended green threads for new ones, in the whole process, from now on.
#[pyfunction]
pub fn keep_data_stacks(py: Python<'_>) {
    // Python 3.10 has no data stack.
    if py.version_info() < (3, 11) {
        return;
    }
    let mut backing = PyObjectArenaAllocator { ctx: std::ptr::null_mut(), alloc: None, free: None };
    // SAFETY: attached, which is what both calls ask for; the argument is a live local that the call fills.
    unsafe { PyObject_GetArenaAllocator(&raw mut backing) };
    if BACKING.set(Backing(backing)).is_err() {
        return;
    }
    let mut wrapper =
        PyObjectArenaAllocator { ctx: std::ptr::null_mut(), alloc: Some(allocate), free: Some(free) };
    // SAFETY: the interpreter copies the struct; its functions live as long as the process, because
    // extension modules are never unloaded. Blocks that were handed out before come from the allocator to
    // which `free` would give them.
    unsafe { PyObject_SetArenaAllocator(&raw mut wrapper) };
}

/// Chunks kept now, and the most that are kept.
#[pyfunction]
pub fn kept_data_stacks() -> (usize, usize) {
    (with_kept(|kept| Some(kept.count)).unwrap_or_default(), KEPT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_chunks_are_kept_than_fit_and_the_last_comes_first() {
        let mut kept = Kept { chunks: [std::ptr::null_mut(); KEPT_MAX], count: 0 };
        let address = |index: usize| std::ptr::without_provenance_mut::<c_void>(index * CHUNK_SIZE);
        for index in 1..=KEPT_MAX {
            assert_eq!(kept.keep(address(index)), Some(()));
        }
        assert_eq!(kept.keep(address(KEPT_MAX + 1)), None);
        assert_eq!(kept.take(), Some(address(KEPT_MAX)));
        assert_eq!(kept.take(), Some(address(KEPT_MAX - 1)));
    }
}
