//! The command line.
#![forbid(unsafe_code)]

mod args;
mod run;

pub use args::{Args, Command};
pub use run::run;
