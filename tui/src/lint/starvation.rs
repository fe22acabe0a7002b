//! A hub that is blocked for a large share of the time.

use super::finding::{Context, Finding, Lint, Severity};
use crate::state::Trust;

const WARN_PERMILLE: u64 = 100;
const ERROR_PERMILLE: u64 = 500;

/// Everybody who is ready waits while one blocks.
#[derive(Debug)]
pub struct Starvation;

impl Lint for Starvation {
    fn name(&self) -> &'static str {
        "starvation"
    }

    fn example(&self) -> &'static str {
        "The hub was blocked for 34 % of the last half minute, most of all so far by sleep at app.py:7"
    }

    fn check(&self, context: &Context<'_>) -> Vec<Finding> {
        let (tid, permille) = context.worst_hub.unwrap_or_default();
        let of_thread = if context.watch.threads > 1 { format!(" of thread {tid}") } else { String::new() };
        if permille < WARN_PERMILLE {
            return Vec::new();
        }
        let worst = context.sites.first();
        let by = worst.map_or_else(String::new, |site| {
            let file = site.file.rsplit('/').next().unwrap_or(&site.file);
            format!(", most of all so far by {} at {file}:{}", site.class.name(), site.line)
        });
        vec![Finding {
            lint: self.name(),
            subject: String::new(),
            severity: if permille < ERROR_PERMILLE { Severity::Warning } else { Severity::Error },
            text: format!(
                "The hub{of_thread} was blocked for {} % of the last half minute{by}",
                permille / 10
            ),
            advice: "mend the call sites of the Blocking screen from the top: nobody else runs meanwhile",
            trust: Trust::Sampled,
            nodes: Vec::new(),
            place: worst.and_then(|site| site.last.stack.first().cloned()),
        }]
    }
}
