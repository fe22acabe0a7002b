//! The extension module `uringhub._native`: registers what the Python faces offer, and nothing else.

use pyo3::prelude::*;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(crate::doctor::probe, module)?)?;
    module.add_class::<crate::tally::Tally>()?;
    crate::asyncio::register(module)?;
    crate::eventlet::register(module)
}
