//! The hub as the host of its thread's asyncio loop: the loop's engine is part of the hub's state.

use std::cell::{Ref, RefMut};

use pyo3::prelude::*;

use super::core::Core;
use crate::asyncio::{Engine, Host, Loan};
use crate::proactor::Waker;

/// One reference, which the collector is shown: a second one would keep the hub for ever.
struct Hub {
    core: Py<Core>,
}

impl Host for Hub {
    fn is_here(&self) -> bool {
        self.core.get().local().is_ok()
    }

    fn borrow(&self) -> Ref<'_, Engine> {
        let local = self.core.get().local().expect("`is_here` was asked").borrow();
        Ref::map(local, |local| &local.state.engine)
    }

    fn try_borrow_mut(&self) -> Option<RefMut<'_, Engine>> {
        let local = self.core.get().local().ok()?.try_borrow_mut().ok()?;
        Some(RefMut::map(local, |local| &mut local.state.engine))
    }

    fn waker(&self) -> Waker {
        self.core.get().waker()
    }

    fn object(&self) -> &Py<PyAny> {
        self.core.as_any()
    }
}

/// A loan of the hub's engine, for the loop that is to run on it.
pub fn lend(core: &Bound<'_, Core>) -> Loan {
    crate::asyncio::set_swap(super::runner::swap_context);
    Loan::new(Hub { core: core.clone().unbind() })
}
