//! A call site that blocks again and again.

use super::finding::{Context, Finding, Lint, Severity, roughly};

const COUNT: u64 = 10;
const SITES: usize = 5;

/// One stall is an accident; many at one line are a habit.
#[derive(Debug)]
pub struct RepeatedBlock;

impl Lint for RepeatedBlock {
    fn name(&self) -> &'static str {
        "repeated-block"
    }

    fn example(&self) -> &'static str {
        "app.py:7 has blocked the hub 14 times, 3 s in all (sleep)"
    }

    fn check(&self, context: &Context<'_>) -> Vec<Finding> {
        let sites = context.sites.iter().filter(|site| site.count >= COUNT).take(SITES);
        sites
            .map(|site| {
                let file = site.file.rsplit('/').next().unwrap_or(&site.file);
                let total = roughly(site.total_ms as u64);
                Finding {
                    lint: self.name(),
                    subject: format!("{}:{}", site.file, site.line),
                    severity: Severity::Warning,
                    text: format!(
                        "{file}:{} has blocked the hub {} times, {total} in all ({})",
                        site.line,
                        site.count,
                        site.class.name()
                    ),
                    advice: site.class.advice(),
                    trust: site.last.class_trust,
                    nodes: Vec::new(),
                    place: site.last.stack.first().cloned(),
                }
            })
            .collect()
    }
}
