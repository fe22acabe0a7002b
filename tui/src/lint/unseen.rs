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
        "About 23 % of the green threads started and ended while evtop looked: they are missed, and counts are too small"
    }

    fn check(&self, context: &Context<'_>) -> Vec<Finding> {
        let missed = context.snapshot.counters.missed_permille.filter(|&missed| missed >= MISSED_PERMILLE);
        let Some(missed) = missed else { return Vec::new() };
        vec![Finding {
            lint: self.name(),
            subject: String::new(),
            severity: Severity::Note,
            text: format!(
                "About {} % of the green threads started and ended while evtop looked: they are missed, and counts are too small",
                missed / 10
            ),
            advice: "evtop dump --pause misses none; reusing green threads (GreenPool) also costs less than so many short ones",
            trust: Trust::Inferred,
            nodes: Vec::new(),
            place: None,
        }]
    }
}
