//! `evtop`: green threads, tasks and blocking calls of a running process.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(evtop::cli::run())
}
