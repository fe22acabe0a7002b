//! Stalls and call sites as text and JSON lines.

use super::plain::Plain;
use crate::observe::Candidate;
use crate::state::{Sites, Stall, Trust};
use crate::watch::{Blocked, WatchCounters};
use std::fmt::Write;
use std::io;

/// One stall as one JSON object, with `target` and `library` flattened to plain values beside their labels.
pub fn stall_json(stall: &Stall) -> io::Result<String> {
    let mut value = serde_json::to_value(stall)?;
    if let Some(fields) = value.as_object_mut() {
        for name in ["target", "library"] {
            let Some(labelled) = fields.get(name).and_then(|value| value.as_object()).cloned() else {
                continue;
            };
            fields.insert(format!("{name}_trust"), labelled.get("trust").cloned().unwrap_or_default());
            fields.insert(name.to_owned(), labelled.get("value").cloned().unwrap_or_default());
        }
    }
    Ok(value.to_string())
}

/// One stall as one line: duration, class, place, call and target.
pub fn stall_line(stall: &Stall) -> String {
    let mut line = format!(
        "{:>9.1} ms  {:<11} {}:{} in {}",
        stall.duration_ms,
        stall.class.name(),
        Plain(&stall.file),
        stall.line,
        Plain(&stall.function)
    );
    // Writing to a String cannot fail.
    if let Some(syscall) = &stall.syscall {
        let _ = write!(line, "  {syscall}");
    }
    if let Some(target) = &stall.target {
        let mark = if target.trust == Trust::Inferred { "~" } else { "" };
        let _ = write!(line, " {mark}{}", Plain(&target.value));
    }
    if stall.delay.gil_ms >= 1.0 || stall.delay.run_queue_ms >= 1.0 {
        let _ = write!(
            line,
            "  (GIL {:.1} ms, run queue {:.1} ms)",
            stall.delay.gil_ms, stall.delay.run_queue_ms
        );
    }
    if stall.is_open {
        line.push_str("  (not ended)");
    }
    line
}

/// The call sites, the one that cost most first, each with its advice.
pub fn sites_text(sites: &Sites, counters: &WatchCounters) -> String {
    let mut text = String::new();
    let _ = write_sites(&mut text, sites, counters);
    text
}

fn write_sites(out: &mut String, sites: &Sites, counters: &WatchCounters) -> std::fmt::Result {
    if sites.is_empty() {
        writeln!(out, "Nothing stalled: {} looks at {} hub threads", counters.looks, counters.threads)?;
    } else {
        writeln!(out, "\n   count  total ms    max ms    p50 ms    p99 ms  class        where")?;
    }
    for site in sites.by_total() {
        writeln!(
            out,
            "{:>8} {:>9.1} {:>9.1} {:>9.1} {:>9.1}  {:<11}  {}:{} in {}",
            site.count,
            site.total_ms,
            site.max_ms,
            site.quantile_ms(0.5),
            site.quantile_ms(0.99),
            site.class.name(),
            Plain(&site.file),
            site.line,
            Plain(&site.function)
        )?;
        writeln!(out, "{:>50} {}", "", site.class.advice())?;
    }
    if counters.threads == 0 {
        writeln!(out, "No thread of the process runs a hub or loop that evtop recognises")?;
    }
    writeln!(out, "{}", counters_text(counters))
}

/// A thread that is blocked and has been for a while.
pub fn blocked_text(blocked: &Blocked) -> String {
    format!(
        "thread {} is blocked, for {:.1} s so far: {} {}:{} in {}",
        blocked.tid,
        blocked.since_ms as f64 / 1e3,
        blocked.class.name(),
        Plain(&blocked.frame.file),
        blocked.frame.line,
        Plain(&blocked.frame.function)
    )
}

/// What the watcher did, and what it saw but did not report.
pub fn counters_text(counters: &WatchCounters) -> String {
    format!(
        "{} looks at {} hub threads, {} late, {} closer; not reported: {} stretches without a processor, {} below the \
         threshold once waiting for others was taken off",
        counters.looks,
        counters.threads,
        counters.late_looks,
        counters.inspections,
        counters.starved,
        counters.short
    )
}

/// Processes to pick from.
pub fn candidates_text(candidates: &[Candidate], refused: usize) -> String {
    let mut text = String::new();
    if candidates.is_empty() {
        text.push_str("No Python process with green threads or an event loop is visible.\n");
    }
    for candidate in candidates {
        let _ = writeln!(
            text,
            "{:>8}  {:<24} {}",
            candidate.pid,
            candidate.worlds.join(" "),
            Plain(&candidate.command)
        );
    }
    if refused > 0 {
        let (noun, remedy) = (
            if refused == 1 { "process" } else { "processes" },
            if rustix::process::geteuid().is_root() {
                "CAP_SYS_PTRACE is missing, or a debugger or another security module is in the way"
            } else {
                "run evtop with sudo to see more"
            },
        );
        let _ = writeln!(text, "{refused} {noun} could not be looked into: {remedy}");
    }
    text
}
