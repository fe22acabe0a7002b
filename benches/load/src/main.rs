//! Closed-loop load client for the benchmarks: every connection has at most one request in flight and
//! sends the next one when the answer is complete and verified.
//!
//! One thread and one epoll instance, so that it fits beside the server on a machine with two cores.
//! It also reads the CPU clock of the server process at both ends of the measured window: the figure
//! is then free of start-up, warm-up and of whatever the harness itself costs.
mod args;
mod churn;
mod connection;
mod exchange;
mod link;
mod report;
mod server_usage;
mod steady;
mod target;
mod window;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = args::Args::parse();
    raise_fd_limit();
    let outcome = match args.mode {
        args::Mode::Churn => churn::run(&args),
        args::Mode::Echo | args::Mode::Http => steady::run(&args),
    };
    match outcome {
        Ok(report) => match serde_json::to_string(&report) {
            Ok(line) => {
                println!("{line}");
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error.to_string()),
        },
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("load: {message}");
    ExitCode::FAILURE
}

/// Thousands of idle connections need more than the usual soft limit of 1,024 descriptors.
fn raise_fd_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // A refusal shows itself later as EMFILE from connect, with the address attached.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
