//! What green threads use among themselves, native; `uringhub/_primitives.py` puts it in place.

use pyo3::prelude::*;

use super::{arena, event, queue, semaphore, spawn, timeout};

/// Registers it in the extension module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<spawn::LazyExitEvent>()?;
    module.add_function(wrap_pyfunction!(arena::keep_data_stacks, module)?)?;
    module.add_function(wrap_pyfunction!(arena::kept_data_stacks, module)?)?;
    module.add_function(wrap_pyfunction!(event::bind_event, module)?)?;
    module.add_function(wrap_pyfunction!(queue::bind_queue, module)?)?;
    module.add_function(wrap_pyfunction!(semaphore::bind_semaphore, module)?)?;
    module.add_function(wrap_pyfunction!(spawn::set_spawn, module)?)?;
    module.add_function(wrap_pyfunction!(spawn::spawn, module)?)?;
    module.add_function(wrap_pyfunction!(spawn::spawn_n, module)?)?;
    module.add_function(wrap_pyfunction!(spawn::ended, module)?)?;
    module.add_function(wrap_pyfunction!(spawn::wait_for_end, module)?)?;
    module.add_function(wrap_pyfunction!(timeout::bind_timeout, module)?)?;
    Ok(())
}
