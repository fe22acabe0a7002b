//! A good part of the process that evtop could not read.

use super::finding::{Context, Finding, Lint, Severity};
use crate::state::Trust;

const MISSED_PERMILLE: u32 = 100;

/// What is shown is then not the whole.
#[derive(Debug)]
pub struct Unseen;

impl Lint for Unseen {
    fn name(&self) -> &'static str {
        "unseen"
    }

    fn example(&self) -> &'static str {
        "About 23 % of new green threads ended before evtop saw them: lists and counts are too small"
    }

    fn check(&self, context: &Context<'_>) -> Vec<Finding> {
        let missed = context.snapshot.counters.missed_permille.filter(|&missed| missed >= MISSED_PERMILLE);
        let Some(missed) = missed else { return Vec::new() };
        vec![Finding {
            lint: self.name(),
            subject: String::new(),
            severity: Severity::Note,
            text: format!(
                "About {} % of new green threads ended before evtop saw them: lists and counts are too small",
                missed / 10
            ),
            advice: "this is how many short-lived green threads there are; reusing them (GreenPool) also costs less",
            trust: Trust::Sampled,
            nodes: Vec::new(),
            place: None,
        }]
    }
}
