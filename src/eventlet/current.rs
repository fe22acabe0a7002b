//! The hub of the calling thread, for native operations that are reached without one.

use std::cell::RefCell;

use pyo3::prelude::*;

use super::core::Core;

thread_local! {
    static CURRENT: RefCell<Option<Py<Core>>> = const { RefCell::new(None) };
}

/// This thread's hub, if it is one of ours.
pub fn get(py: Python<'_>) -> Option<Bound<'_, Core>> {
    // At thread exit the slot may be gone already; there is no hub to use then.
    CURRENT
        .try_with(|current| current.borrow().as_ref().map(|core| core.clone_ref(py).into_bound(py)))
        .ok()
        .flatten()
}

/// Makes `core` this thread's hub, or says that the thread's hub is not one of ours.
pub fn set(core: Option<Py<Core>>) {
    let old = CURRENT.try_with(|current| current.replace(core));
    drop(old);
}
