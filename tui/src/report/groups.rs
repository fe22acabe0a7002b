//! Green threads and tasks of a snapshot as text: those with one and the same stack once, with how many they are.

use super::plain::Plain;
use super::text::{write_stack, write_wait, write_waits_on};
use crate::state::{Frame, GreenThread, NodeId, Snapshot, Task, Wait};
use std::collections::HashMap;
use std::fmt::{Result, Write};
use std::sync::Arc;

/// Of a group, and of the tasks that one waits on, so many are named; the rest is counted.
pub const SHOWN: usize = 8;

/// A green thread or task as it is printed.
pub struct Entry<'s> {
    id: NodeId,
    /// What those of a group have in common besides the stack: the function and the state.
    title: String,
    /// A task's own name.
    name: &'s str,
    wait: Option<&'s Wait>,
    stack: &'s [Arc<Frame>],
    is_cut: bool,
    /// A task, to say whom it waits on.
    task: Option<&'s Task>,
}

impl<'s> Entry<'s> {
    /// Of a green thread; one that runs is printed with its thread.
    pub fn of_green(green: &'s GreenThread) -> Self {
        Self {
            id: green.id,
            title: format!("{} [{}, {}]", Plain(&green.name), green.role, green.state),
            name: "",
            wait: green.wait.as_deref(),
            stack: if green.state == "running" { &[] } else { &green.stack },
            is_cut: green.is_stack_cut,
            task: None,
        }
    }

    /// Of a task.
    pub fn of_task(task: &'s Task) -> Self {
        Self {
            id: task.id,
            title: format!("{} [{}]", Plain(&task.coroutine), task.state),
            name: &task.name,
            wait: task.wait.as_deref(),
            stack: &task.stack,
            is_cut: false,
            task: Some(task),
        }
    }

    /// Who waits on tasks of its own, or has no frames to compare, stands alone.
    fn is_alone(&self) -> bool {
        self.stack.is_empty() || self.is_cut || self.task.is_some_and(|task| !task.waits_on.is_empty())
    }

    fn write_head(&self, out: &mut String, snapshot: &Snapshot, title: &str) -> Result {
        write!(out, "{}", self.id)?;
        for part in [&Plain(self.name).to_string(), title] {
            if !part.is_empty() {
                write!(out, " {part}")?;
            }
        }
        write_wait(out, snapshot, self.wait)
    }
}

/// Writes them in their order, a group where its first one stands.
pub fn write_nodes<'s>(
    out: &mut String,
    snapshot: &'s Snapshot,
    entries: impl Iterator<Item = Entry<'s>>,
) -> Result {
    let mut places: HashMap<(String, &'s [Arc<Frame>]), usize> = HashMap::new();
    let mut groups: Vec<Vec<Entry<'s>>> = Vec::new();
    for entry in entries {
        let next = groups.len();
        let place = match entry.is_alone() {
            true => next,
            false => *places.entry((entry.title.clone(), entry.stack)).or_insert(next),
        };
        if place == next {
            groups.push(Vec::new());
        }
        groups[place].push(entry);
    }
    for group in &groups {
        write_group(out, snapshot, group)?;
    }
    Ok(())
}

fn write_group(out: &mut String, snapshot: &Snapshot, group: &[Entry<'_>]) -> Result {
    let Some(first) = group.first() else { return Ok(()) };
    writeln!(out)?;
    if group.len() == 1 {
        first.write_head(out, snapshot, &first.title)?;
    } else {
        writeln!(out, "{} × {}", group.len(), first.title)?;
        for entry in group.iter().take(SHOWN) {
            out.push_str("  ");
            entry.write_head(out, snapshot, "")?;
        }
        if group.len() > SHOWN {
            writeln!(out, "  … and {} more", group.len() - SHOWN)?;
        }
    }
    if let Some(task) = first.task {
        write_waits_on(out, snapshot, task)?;
    }
    write_stack(out, first.stack)?;
    if first.is_cut {
        writeln!(out, "    … (cut)")?;
    }
    Ok(())
}
