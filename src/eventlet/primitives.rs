//! What green threads use among themselves, native; `uringhub/_primitives.py` puts it in place.

use pyo3::prelude::*;

use super::{arena, event, queue, semaphore, spawn, timeout};
use crate::fastcall;

/// Registers it in the extension module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<spawn::LazyExitEvent>()?;
    module.add_function(wrap_pyfunction!(arena::keep_data_stacks, module)?)?;
    module.add_function(wrap_pyfunction!(arena::kept_data_stacks, module)?)?;
    module.add_function(wrap_pyfunction!(event::bind_event, module)?)?;
    module.add_function(wrap_pyfunction!(queue::bind_queue, module)?)?;
    module.add_function(wrap_pyfunction!(semaphore::bind_semaphore, module)?)?;
    module.add_function(wrap_pyfunction!(spawn::bind_spawn, module)?)?;
    fastcall::add::<spawn::Spawn>(module)?;
    fastcall::add::<spawn::SpawnN>(module)?;
    module.add_function(wrap_pyfunction!(timeout::bind_timeout, module)?)?;
    Ok(())
}
