//! What looks wrong, in sentences. Each lint stands in one file and documents itself by the sentence it says.
#![forbid(unsafe_code)]

mod blocked_now;
mod convoy;
mod deadlock;
mod finding;
mod machine;
mod pile_up;
mod ready_backlog;
mod repeated_block;
mod shared_fd;
mod sleepers;
mod starvation;
mod unfinished;
mod unseen;

pub use finding::{Context, Finding, Lint, Severity};

/// All lints, in the order of their findings' weight.
pub const LINTS: [&dyn Lint; 12] = [
    &deadlock::Deadlock,
    &blocked_now::BlockedNow,
    &starvation::Starvation,
    &convoy::LockConvoy,
    &repeated_block::RepeatedBlock,
    &shared_fd::SharedDescriptor,
    &ready_backlog::ReadyBacklog,
    &pile_up::PileUp,
    &sleepers::Sleepers,
    &unfinished::Unfinished,
    &machine::Machine,
    &unseen::Unseen,
];

/// Findings of one lint shown at most.
const FINDINGS_LIMIT: usize = 20;

/// Runs all lints; the worst findings come first.
pub fn check_all(context: &Context<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        LINTS.iter().flat_map(|lint| lint.check(context).into_iter().take(FINDINGS_LIMIT)).collect();
    findings.sort_by_key(|finding| finding.severity);
    findings
}
