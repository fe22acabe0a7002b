//! Sockets that are about to be closed, for the loops that may have operations in flight on them.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

use super::core::LoopCore;
use super::engine::{Engine, Sink};
use crate::closings::{Closing, Moment};

/// The loops that have engines of their own. It is only locked with the GIL held, while no Python code runs.
static LOOPS: Mutex<Vec<Followed>> = Mutex::new(Vec::new());

struct Followed {
    /// Where its core is.
    address: usize,
    reference: Py<PyWeakrefReference>,
}

fn loops() -> MutexGuard<'static, Vec<Followed>> {
    LOOPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Numbers from here on are taken for watched.
const KNOWN_MAX: usize = 64 * 1024;

/// The descriptor numbers that a loop may have operations on, for other threads to see.
pub struct Numbers(Box<[AtomicU64]>);

impl Default for Numbers {
    fn default() -> Self {
        Self((0..KNOWN_MAX / 64).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Numbers {
    fn place(&self, fd: RawFd) -> Option<(&AtomicU64, u64)> {
        let index = usize::try_from(fd).ok()?;
        Some((self.0.get(index / 64)?, 1 << (index % 64)))
    }

    /// Relaxed, like all the others: the caller holds the GIL.
    #[inline]
    pub fn add(&self, fd: RawFd) {
        if let Some((word, bit)) = self.place(fd) {
            word.store(word.load(Ordering::Relaxed) | bit, Ordering::Relaxed);
        }
    }

    fn remove(&self, fd: RawFd) {
        if let Some((word, bit)) = self.place(fd) {
            word.store(word.load(Ordering::Relaxed) & !bit, Ordering::Relaxed);
        }
    }

    fn may_have(&self, fd: RawFd) -> bool {
        self.place(fd).is_none_or(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0)
    }
}

impl Engine {
    /// The number is about to be closed: nothing here keeps its file open, or the peer would not hear of it. What watches or
    /// waits stays, and hears nothing more, as in an epoll set.
    pub fn closing(&mut self, fd: RawFd) {
        self.end_operations(fd, |_| true);
    }

    /// The same, if another thread closes it, which may have opened another file under the number by now.
    pub fn closing_elsewhere(&mut self, closing: Closing) {
        self.end_operations(closing.fd, |begun| closing.ends(begun));
    }

    fn end_operations(&mut self, fd: RawFd, is_meant: impl Fn(Moment) -> bool) {
        let Some(known) = self.known(fd).copied() else { return };
        self.descriptor(fd).drained = false;
        for id in known.reader.into_iter().chain(known.writer) {
            // A transport ends its receiver before it closes its socket.
            if let Some(Sink::Watch(watch)) = self.sinks.get_mut(id)
                && is_meant(watch.begun)
            {
                watch.is_closed = true;
                if let Some(op) = watch.op.take() {
                    drop(self.proactor.settle(op));
                }
            }
        }
        if known.waits == 0 {
            return;
        }
        let is_on = |sink: &Sink| matches!(sink, Sink::Wait(wait) if wait.fd == fd && is_meant(wait.begun));
        let ids: Vec<_> = self.sinks.iter().filter(|(_, sink)| is_on(sink)).map(|(id, _)| id).collect();
        for id in ids {
            let Some(Sink::Wait(wait)) = self.sinks.get_mut(id) else { continue };
            wait.is_closed = true;
            if let Some(op) = wait.op.take() {
                drop(self.proactor.settle(op));
            }
        }
    }
}

impl LoopCore {
    /// From now on the loop is told of closes.
    pub fn follow_closes(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().engine.is_lent() {
            return Ok(()); // The hub hears of them.
        }
        let reference = PyWeakrefReference::new(slf)?.unbind();
        loops().push(Followed { address: slf.get().address(), reference });
        Ok(())
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// A number is about to be closed, by the thread that calls.
    fn closing(&self, fd: RawFd) {
        let Some(numbers) = self.numbers.as_ref().filter(|numbers| numbers.may_have(fd)) else { return };
        // Said once of what is there now, also to a loop that never runs again.
        numbers.remove(fd);
        // A forked child closes what its parent's loop goes on with, and has nothing in flight itself.
        let end = |engine: &mut Engine| (!engine.proactor.is_inherited()).then(|| engine.closing(fd));
        // Of a loop that stands still, what this thread's ring has can be ended here, too.
        if self.is_closed() || self.can_settle() && self.with_engine(end).is_some() {
            return;
        }
        self.closings.put(Closing::now(fd));
        self.waker().wake();
    }

    /// Ends the operations on what other threads have closed.
    #[cold]
    pub fn take_closings(&self) {
        for closing in self.closings.take() {
            self.with_engine(|engine| engine.closing_elsewhere(closing));
        }
    }
}

impl Drop for LoopCore {
    fn drop(&mut self) {
        let mut loops = loops();
        let found = loops.iter().position(|followed| followed.address == self.address());
        let followed = found.map(|index| loops.swap_remove(index));
        drop(loops);
        drop(followed);
    }
}

/// Called with the number of a socket that is about to be closed.
#[pyfunction]
pub fn closing_in_loops(py: Python<'_>, fd: RawFd) {
    let references: Vec<_> = loops().iter().map(|followed| followed.reference.clone_ref(py)).collect();
    for reference in references {
        if let Some(core) = reference.bind(py).upgrade()
            && let Ok(core) = core.cast::<LoopCore>()
        {
            core.get().closing(fd);
        }
    }
}
