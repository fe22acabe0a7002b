//! Where a loop's engine lives: in the loop itself, or with the hub of its thread, which drives it then.

use std::cell::{Ref, RefCell, RefMut};
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;

use super::cell::LoopCell;
use super::engine::Engine;
use crate::proactor::Waker;

/// Somebody who has an engine of his own and lends it to a loop of the same thread.
pub trait Host: Send + Sync {
    /// Whether the calling thread is the engine's.
    fn is_here(&self) -> bool;
    /// Reads; only on the engine's thread.
    fn borrow(&self) -> Ref<'_, Engine>;
    /// Changes; None while it is borrowed already, and on other threads.
    fn try_borrow_mut(&self) -> Option<RefMut<'_, Engine>>;
    /// What wakes the engine's wait.
    fn waker(&self) -> Waker;
    /// The Python object that is kept alive by this.
    fn object(&self) -> &Py<PyAny>;
}

/// A host on its way to the loop that it is for: the argument of `LoopCore.__new__`.
#[pyclass(frozen, module = "uringhub._native")]
pub struct Loan(Mutex<Option<Box<dyn Host>>>);

impl Loan {
    /// To be taken once.
    pub fn new(host: impl Host + 'static) -> Self {
        Self(Mutex::new(Some(Box::new(host))))
    }

    /// Takes the host out.
    pub fn take(&self) -> Option<Box<dyn Host>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Where the engine is.
#[allow(clippy::large_enum_variant)] // One in each loop, and the large one is the common one.
pub enum Home {
    /// In the loop; None once that is closed.
    Own(LoopCell<Option<Engine>>),
    /// With the hub of the thread.
    Lent(Box<dyn Host>),
}

/// The engine of a loop, or nothing if the loop is closed, for a thread that may touch it.
pub enum Place<'a> {
    /// See [`Home::Own`].
    Own(&'a RefCell<Option<Engine>>),
    /// See [`Home::Lent`].
    Lent(&'a dyn Host),
}

impl Home {
    /// The engine's place, unless another thread runs the loop. The GIL must be held.
    #[inline]
    pub fn get(&self) -> Option<Place<'_>> {
        match self {
            Self::Own(cell) => cell.get().map(Place::Own),
            Self::Lent(host) => host.is_here().then(|| Place::Lent(host.as_ref())),
        }
    }

    /// Whether the engine is a host's.
    pub fn is_lent(&self) -> bool {
        matches!(self, Self::Lent(_))
    }

    /// Makes the calling thread the only user until `exit`; a lent engine has its thread already.
    pub fn enter(&self) {
        if let Self::Own(cell) = self {
            cell.enter();
        }
    }

    /// Opens the engine to whoever holds the GIL.
    pub fn exit(&self) {
        if let Self::Own(cell) = self {
            cell.exit();
        }
    }

    /// Whether any thread has run the loop so far.
    pub fn had_owner(&self) -> bool {
        match self {
            Self::Own(cell) => cell.had_owner(),
            Self::Lent(_) => true,
        }
    }

    /// Whether the calling thread was the last to run the loop.
    pub fn was_mine(&self) -> bool {
        match self {
            Self::Own(cell) => cell.was_mine(),
            Self::Lent(host) => host.is_here(),
        }
    }
}

impl<'a> Place<'a> {
    /// Whether there is an engine.
    #[inline]
    pub fn is_open(&self) -> bool {
        match self {
            Self::Own(cell) => cell.borrow().is_some(),
            Self::Lent(_) => true,
        }
    }

    /// Reads an engine that is there.
    pub fn borrow(&self) -> Ref<'a, Engine> {
        match self {
            Self::Own(cell) => {
                Ref::map(cell.borrow(), |engine| engine.as_ref().expect("`is_open` was asked"))
            }
            Self::Lent(host) => host.borrow(),
        }
    }

    /// Changes an engine that is there. No Python code may run and no reference be dropped meanwhile.
    #[inline]
    pub fn borrow_mut(&self) -> RefMut<'a, Engine> {
        self.try_borrow_mut().expect("`is_open` was asked, and no borrow is held while Python code runs")
    }

    /// Changes the engine, if it is there and nobody has it.
    #[inline]
    pub fn try_borrow_mut(&self) -> Option<RefMut<'a, Engine>> {
        match self {
            Self::Own(cell) => RefMut::filter_map(cell.try_borrow_mut().ok()?, Option::as_mut).ok(),
            Self::Lent(host) => host.try_borrow_mut(),
        }
    }

    /// Takes the engine of a loop that is being closed; a lent one stays where it is.
    pub fn take(&self) -> Option<Engine> {
        match self {
            Self::Own(cell) => cell.try_borrow_mut().ok()?.take(),
            Self::Lent(_) => None,
        }
    }
}
