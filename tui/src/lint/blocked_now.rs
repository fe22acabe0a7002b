//! A hub thread that was found in the same application code look after look.

use super::finding::{Context, Finding, Lint, Severity, at, roughly};
use crate::observe::is_hub_file;
use crate::state::{Trust, own_frame};

/// Looks are half a second apart; so many alike mean that nothing else runs.
const LOOKS: u32 = 3;
const LOOK_MS: u64 = 500;

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
        let looks = |tid| context.repeated_looks.iter().find(|(of, _)| *of == tid).map_or(0, |&(_, n)| n);
        let threads = context.snapshot.threads.iter();
        threads
            .filter(|thread| thread.hub.is_some() && looks(thread.tid) > LOOKS)
            .filter(|thread| thread.stack.first().is_some_and(|frame| !is_hub_file(&frame.file)))
            .map(|thread| {
                let frame = own_frame(&thread.stack);
                let since_ms = u64::from(looks(thread.tid) - 1) * LOOK_MS;
                Finding {
                    lint: self.name(),
                    subject: thread.tid.to_string(),
                    severity: Severity::Error,
                    text: format!(
                        "Thread {} has been in {} at {} for {} or longer, and its hub with it",
                        thread.tid,
                        thread.activity.value,
                        at(frame),
                        roughly(since_ms)
                    ),
                    advice: "the Blocking screen lists the call with its class and advice once it has ended",
                    trust: Trust::Sampled,
                    nodes: thread.green_thread.into_iter().chain(thread.task).collect(),
                    place: frame.cloned(),
                }
            })
            .collect()
    }
}
