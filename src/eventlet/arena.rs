//! An allocator of data-stack chunks that spares green threads their mmap.
//!
//! Since Python 3.11 the frames of Python functions live on a *data stack* of linked chunks, one stack per
//! greenlet. The first Python function of a green thread takes a chunk of 16 KiB from the interpreter's
//! arena allocator, and the end of the green thread gives it back: by default an mmap, a page fault and a
//! munmap for every spawn, which together cost more than everything else that a spawn does.
//!
//! The wrapper here serves requests of that size from [`Slabs`]; everything else goes to the allocator that
//! was there before, and so does a chunk that came from there.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, TryLockError};

use pyo3::ffi::{PyObject_GetArenaAllocator, PyObject_SetArenaAllocator, PyObjectArenaAllocator};
use pyo3::prelude::*;

use crate::slabs::{CHUNK_SIZE, Slabs};

/// Subinterpreters with a lock of their own call the allocator at the same time, hence the mutex. It is only
/// ever tried, so that a child of fork cannot hang on it: who finds it taken goes to the old allocator, or
/// leaves a chunk in [`RETURNED`].
static SLABS: Mutex<Slabs> = Mutex::new(Slabs::new());

/// Chunks that were given back while another thread was at the slabs, linked through their first word.
static RETURNED: AtomicPtr<Returned> = AtomicPtr::new(null_mut());

struct Returned {
    next: *mut Returned,
}

/// The allocator behind the slabs.
struct Backing(PyObjectArenaAllocator);

// SAFETY: two functions that any thread may call as it may call the arena allocator, and the context they
// want, which belongs to the interpreter and is never freed.
unsafe impl Send for Backing {}
// SAFETY: as above; it is never changed after it was set.
unsafe impl Sync for Backing {}

static BACKING: OnceLock<Backing> = OnceLock::new();

impl Backing {
    fn allocate(size: usize) -> *mut c_void {
        match BACKING.get() {
            // The context is the one that came with the function.
            Some(Self(PyObjectArenaAllocator { ctx, alloc: Some(alloc), .. })) => alloc(*ctx, size),
            _ => null_mut(),
        }
    }

    fn free(block: *mut c_void, size: usize) {
        if let Some(Self(PyObjectArenaAllocator { ctx, free: Some(free), .. })) = BACKING.get() {
            free(*ctx, block, size);
        }
    }
}

/// The slabs, if nobody else is at them.
fn slabs() -> Option<MutexGuard<'static, Slabs>> {
    let mut slabs = match SLABS.try_lock() {
        Ok(slabs) => slabs,
        // Whatever step was interrupted, chunks in use are not in the sets of free ones.
        Err(TryLockError::Poisoned(slabs)) => slabs.into_inner(),
        Err(TryLockError::WouldBlock) => return None,
    };
    if !RETURNED.load(Ordering::Relaxed).is_null() {
        let mut next = RETURNED.swap(null_mut(), Ordering::Acquire);
        while !next.is_null() {
            let chunk = next;
            // SAFETY: `give_back_later` wrote the link into a chunk that nobody uses, and only the thread
            // that took the whole list away gets here with it.
            next = unsafe { (*chunk).next };
            if !slabs.give_back(chunk.cast()) {
                Backing::free(chunk.cast(), CHUNK_SIZE);
            }
        }
    }
    Some(slabs)
}

#[cold]
fn give_back_later(chunk: *mut c_void) {
    let chunk = chunk.cast::<Returned>();
    let mut first = RETURNED.load(Ordering::Relaxed);
    loop {
        // SAFETY: a chunk that is given back is writable, aligned to a page, and the caller's until it is in
        // the list.
        unsafe { chunk.write(Returned { next: first }) };
        match RETURNED.compare_exchange_weak(first, chunk, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return,
            Err(other) => first = other,
        }
    }
}

extern "C" fn allocate(_context: *mut c_void, size: usize) -> *mut c_void {
    if size == CHUNK_SIZE
        && let Some(chunk) = slabs().and_then(|mut slabs| slabs.take())
    {
        return chunk;
    }
    Backing::allocate(size)
}

extern "C" fn free(_context: *mut c_void, block: *mut c_void, size: usize) {
    if size == CHUNK_SIZE && !block.is_null() {
        let Some(mut slabs) = slabs() else { return give_back_later(block) };
        if slabs.give_back(block) {
            return;
        }
    }
    Backing::free(block, size);
}

/// Serves the data-stack chunks of green threads from slabs, in the whole process, from now on.
#[pyfunction]
pub fn keep_data_stacks(py: Python<'_>) {
    // Python 3.10 has no data stack.
    if py.version_info() < (3, 11) {
        return;
    }
    let mut backing = PyObjectArenaAllocator { ctx: null_mut(), alloc: None, free: None };
    // SAFETY: attached, which is what both calls ask for; the argument is a live local that the call fills.
    unsafe { PyObject_GetArenaAllocator(&raw mut backing) };
    if BACKING.set(Backing(backing)).is_err() {
        return;
    }
    let mut wrapper = PyObjectArenaAllocator { ctx: null_mut(), alloc: Some(allocate), free: Some(free) };
    // SAFETY: the interpreter copies the struct; its functions live as long as the process, because
    // extension modules are never unloaded. Blocks that were handed out before come from the allocator to
    // which `free` would give them.
    unsafe { PyObject_SetArenaAllocator(&raw mut wrapper) };
}

/// Chunks that no green thread uses now, and how many of them slabs without any user can have.
#[pyfunction]
pub fn kept_data_stacks() -> (usize, usize) {
    slabs().map(|slabs| slabs.unused()).unwrap_or_default()
}
