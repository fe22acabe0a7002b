//! A hub thread that is blocked, and has been for a while.

use super::finding::{Context, Finding, Lint, Severity, at, roughly};
use crate::state::Trust;

/// Shorter ones are on the Blocking screen before anybody has read this.
const LONG_MS: u64 = 1000;

/// Stalls are reported when they end; this one has not.
#[derive(Debug)]
pub struct BlockedNow;

impl Lint for BlockedNow {
    fn name(&self) -> &'static str {
        "blocked-now"
    }

    fn example(&self) -> &'static str {
        "Thread 4242 has been in clock_nanosleep at app.py:7 in poll for 2 s or longer, and its hub with it"
    }

    fn check(&self, context: &Context<'_>) -> Vec<Finding> {
        let threads = &context.snapshot.threads;
        let blocked = context.blocked.iter().filter(|blocked| blocked.since_ms >= LONG_MS);
        blocked
            .map(|blocked| {
                let thread = threads.iter().find(|thread| thread.tid == blocked.tid);
                let call = thread.map_or(blocked.class.name(), |thread| &thread.activity.value);
                Finding {
                    lint: self.name(),
                    subject: blocked.tid.to_string(),
                    severity: Severity::Error,
                    text: format!(
                        "Thread {} has been in {call} at {} for {} or longer, and its hub with it",
                        blocked.tid,
                        at(Some(&blocked.frame)),
                        roughly(blocked.since_ms)
                    ),
                    advice: blocked.class.advice(),
                    trust: Trust::Sampled,
                    nodes: thread
                        .into_iter()
                        .flat_map(|thread| thread.green_thread.into_iter().chain(thread.task))
                        .collect(),
                    place: Some(blocked.frame.clone()),
                }
            })
            .collect()
    }
}
