//! A machine too busy to run the hub, or to watch it.

use super::finding::{Context, Finding, Lint, Severity};
use crate::state::Trust;

const STARVED: u64 = 5;
/// Late looks per thousand from which durations are doubtful.
const LATE_PERMILLE: u64 = 100;
const LOOKS: u64 = 1000;

/// Not the program's fault, and yet its latency.
#[derive(Debug)]
pub struct Machine;

impl Lint for Machine {
    fn name(&self) -> &'static str {
        "machine-busy"
    }

    fn example(&self) -> &'static str {
        "8 times the hub was ready and had no processor: the machine is short of them"
    }

    fn check(&self, context: &Context<'_>) -> Vec<Finding> {
        let watch = context.watch;
        let finding = |subject: &str, text: String, advice| Finding {
            lint: self.name(),
            subject: subject.to_owned(),
            severity: Severity::Note,
            text,
            advice,
            trust: Trust::Sampled,
            nodes: Vec::new(),
            place: None,
        };
        let mut findings = Vec::new();
        if watch.starved >= STARVED {
            findings.push(finding(
                "starved",
                format!(
                    "{} times the hub was ready and had no processor: the machine is short of them",
                    watch.starved
                ),
                "give the process more processors or a higher priority; no change of its code helps",
            ));
        }
        if watch.looks >= LOOKS && watch.late_looks * 1000 >= watch.looks * LATE_PERMILLE {
            findings.push(finding(
                "late",
                format!(
                    "{} of evtop's {} looks came late: short stalls may be missing and durations less sure",
                    watch.late_looks, watch.looks
                ),
                "run evtop with a higher priority (nice, chrt), or where there is a processor for it",
            ));
        }
        findings
    }
}
