//! A snapshot as plain text.

use super::groups::{Entry, SHOWN, write_nodes};
use super::plain::Plain;
use crate::state::{Frame, NodeId, Snapshot, Task, Trust, Wait};
use std::fmt::Write;
use std::sync::Arc;

/// The snapshot, for reading in a terminal or a file.
pub fn snapshot_text(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_snapshot(&mut text, snapshot);
    text
}

fn write_snapshot(out: &mut String, snapshot: &Snapshot) -> std::fmt::Result {
    let process = &snapshot.process;
    writeln!(out, "Process {}: {}", process.pid, Plain(&process.command))?;
    writeln!(
        out,
        "Python {} ({}), {} MiB resident, {} kernel threads; look took {:.1} ms",
        process.python,
        Plain(&process.interpreter),
        process.rss_bytes >> 20,
        process.kernel_threads,
        snapshot.took_us as f64 / 1000.0
    )?;
    if let Some(sentence) = process.stopped_text() {
        writeln!(out, "Note: {sentence}")?;
    }
    for thread in &snapshot.threads {
        let mut hub = thread.hub.as_ref().map_or("no hub", |hub| hub.value.kind.as_str()).to_owned();
        if let Some(driver) = thread.hub.as_ref().and_then(|hub| hub.value.driver.as_deref()) {
            write!(hub, " on {driver}")?;
        }
        let gil = if thread.holds_gil.value { ", holds the GIL" } else { "" };
        let name = Plain(thread.label());
        writeln!(out, "\nThread {} \"{name}\": {}, {}{gil}", thread.tid, Plain(&hub), thread.activity.value)?;
        write_stack(out, &thread.stack)?;
    }
    writeln!(out, "\n{} green threads", snapshot.green_threads.len())?;
    write_nodes(out, snapshot, snapshot.green_threads.iter().map(Entry::of_green))?;
    writeln!(out, "\n{} tasks", snapshot.tasks.len())?;
    write_nodes(out, snapshot, snapshot.tasks.iter().map(Entry::of_task))?;
    let lost = &snapshot.counters;
    writeln!(
        out,
        "\nNot shown: {} green threads that ended meanwhile, {} torn stacks, {} undecodable frames, {} undecodable tasks, \
         {} edges of the graph",
        lost.green_threads_lost,
        lost.stacks_torn,
        lost.frames_undecodable,
        lost.tasks_undecodable,
        lost.edges_cut
    )?;
    if lost.is_paused {
        writeln!(out, "The process was stopped for {:.1} ms", lost.paused_us as f64 / 1000.0)?;
    }
    match lost.missed_permille {
        Some(missed) if missed > 0 => {
            writeln!(
                out,
                "About {}.{} % of the green threads were missed: --pause misses none",
                missed / 10,
                missed % 10
            )
        }
        _ => Ok(()),
    }
}

pub(super) fn write_wait(out: &mut String, snapshot: &Snapshot, wait: Option<&Wait>) -> std::fmt::Result {
    let Some(wait) = wait else { return writeln!(out) };
    write!(out, " waits for {}", Plain(&wait.text))?;
    if let Some(fd) = wait.fd {
        write!(out, " on fd {fd}")?;
    }
    if let Some(target) = &wait.target {
        write!(out, " ({})", Plain(target))?;
    }
    if let Some(timeout) = &wait.timeout {
        write!(out, ", within {} s", (timeout.value * 1e3).round() / 1e3)?;
    }
    if let Some(holders) = &wait.holders {
        match &*holders.value {
            [] => write!(out, ", holder unknown")?,
            [holder, ..] => {
                let mark = if holders.trust == Trust::Inferred { "~" } else { "" };
                write!(out, ", held by {mark}{holder} {}", Plain(name_of(snapshot, *holder)))?;
            }
        }
    }
    writeln!(out)
}

/// The tasks that a task waits on: some by name, the rest by number.
pub(super) fn write_waits_on(out: &mut String, snapshot: &Snapshot, task: &Task) -> std::fmt::Result {
    let (shown, rest) = task.waits_on.split_at(task.waits_on.len().min(SHOWN));
    for &id in shown {
        writeln!(out, "    → {id} {}", Plain(name_of(snapshot, id)))?;
    }
    match rest.len() + task.waits_on_more {
        0 => Ok(()),
        more => writeln!(out, "    → … and {more} more"),
    }
}

/// The name of a green thread, or the coroutine of a task.
fn name_of(snapshot: &Snapshot, id: NodeId) -> &str {
    let green = snapshot.green_threads.iter().find(|green| green.id == id).map(|green| &*green.name);
    let task = || snapshot.tasks.iter().find(|task| task.id == id).map(|task| &*task.coroutine);
    green.or_else(task).unwrap_or_default()
}

pub(super) fn write_stack(out: &mut String, stack: &[Arc<Frame>]) -> std::fmt::Result {
    for frame in stack {
        writeln!(out, "    {} ({}:{})", Plain(&frame.function), Plain(&frame.file), frame.line)?;
    }
    Ok(())
}
