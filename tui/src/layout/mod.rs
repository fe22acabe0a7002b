//! Where the fields are: CPython by version, greenlet by calibration on the live process.
#![forbid(unsafe_code)]

mod cpython;
mod debug_offsets;
mod greenlet;

pub use cpython::{FrameLayout, PythonLayout, PythonVersion};
pub use debug_offsets::{OffsetsError, apply_debug_offsets};
pub use greenlet::{GreenletLayout, IMPL_BYTES, PIMPL, calibrate};
