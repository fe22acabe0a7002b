//! What a lint sees and what it says.

use crate::state::{Frame, GreenThread, Labelled, NodeId, Site, Snapshot, Task, Trust, Wait, own_frame};
use crate::watch::{Blocked, WatchCounters};
use std::collections::HashMap;
use std::sync::Arc;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The program cannot go on as it is.
    Error,
    /// It suffers.
    Warning,
    /// Good to know.
    Note,
}

impl Severity {
    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// Something that looks wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Name of the lint.
    pub lint: &'static str,
    /// What it is about, to tell findings of one lint apart from look to look.
    pub subject: String,
    /// How bad.
    pub severity: Severity,
    /// The sentence.
    pub text: String,
    /// What to do.
    pub advice: &'static str,
    /// How sure.
    pub trust: Trust,
    /// Whom it concerns.
    pub nodes: Vec<NodeId>,
    /// Where.
    pub place: Option<Arc<Frame>>,
}

/// What lints look at.
#[derive(Debug)]
pub struct Context<'a> {
    /// The latest look.
    pub snapshot: &'a Snapshot,
    /// Stalls so far by call site, the costliest first.
    pub sites: &'a [&'a Site],
    /// The watcher's counters.
    pub watch: &'a WatchCounters,
    /// The thread of the hub that was blocked most in the last half minute, and for how many thousandths of it.
    pub worst_hub: Option<(i32, u64)>,
    /// Hub threads that are blocked now.
    pub blocked: &'a [Blocked],
}

/// A rule.
pub trait Lint: Sync {
    /// Its name.
    fn name(&self) -> &'static str;
    /// A sentence it says, as documentation.
    fn example(&self) -> &'static str;
    /// Looks for it.
    fn check(&self, context: &Context<'_>) -> Vec<Finding>;
}

/// Somebody suspended: what both worlds have in common.
#[derive(Debug, Clone, Copy)]
pub struct Waiter<'a> {
    /// Identity.
    pub id: NodeId,
    /// Name.
    pub name: &'a str,
    /// What it waits for.
    pub wait: &'a Wait,
    /// For how long its stack has not changed.
    pub unchanged_ms: u64,
    /// Innermost first.
    pub stack: &'a [Arc<Frame>],
}

impl<'a> Context<'a> {
    /// Everybody who waits: green threads that are no hubs, and tasks.
    pub fn waiters(&self) -> impl Iterator<Item = Waiter<'a>> {
        let of_green = |green: &'a GreenThread| {
            let wait = green.wait.as_deref().filter(|_| green.role == "green thread")?;
            let (id, name, stack) = (green.id, &*green.name, &*green.stack);
            Some(Waiter { id, name, wait, unchanged_ms: value_of(green.unchanged_ms), stack })
        };
        let of_task = |task: &'a Task| {
            let wait = task.wait.as_deref()?;
            let (id, name, stack) = (task.id, task.name.as_str(), task.stack.as_slice());
            Some(Waiter { id, name, wait, unchanged_ms: value_of(task.unchanged_ms), stack })
        };
        let greens = self.snapshot.green_threads.iter().filter_map(of_green);
        greens.chain(self.snapshot.tasks.iter().filter_map(of_task))
    }

    /// Waiters that pass, by the place they wait at; the largest groups first.
    pub fn by_place(
        &self,
        passes: impl Fn(&Waiter<'a>) -> bool,
    ) -> Vec<(Option<&'a Arc<Frame>>, Vec<Waiter<'a>>)> {
        // Thousands wait in one and the same frame: its address tells that sooner than its names.
        let mut by_address: HashMap<Option<*const Frame>, usize> = HashMap::new();
        let mut by_frame: HashMap<Option<&Arc<Frame>>, usize> = HashMap::new();
        let mut groups: Vec<(Option<&Arc<Frame>>, Vec<Waiter<'a>>)> = Vec::new();
        for waiter in self.waiters().filter(passes) {
            let frame = own_frame(waiter.stack);
            let group = *by_address.entry(frame.map(Arc::as_ptr)).or_insert_with(|| {
                *by_frame.entry(frame).or_insert_with(|| {
                    groups.push((frame, Vec::new()));
                    groups.len() - 1
                })
            });
            groups[group].1.push(waiter);
        }
        groups.sort_by(|a, b| b.1.len().cmp(&a.1.len()).then_with(|| a.0.cmp(&b.0)));
        groups
    }
}

/// A time as far as it is known.
fn value_of(time_ms: Option<Labelled<u64>>) -> u64 {
    time_ms.map_or(0, |time_ms| time_ms.value)
}

/// `file:line in function`, or a word for an unknown place.
pub fn at(frame: Option<&Arc<Frame>>) -> String {
    frame.map_or_else(
        || "an unknown place".to_owned(),
        |frame| {
            let file = frame.file.rsplit('/').next().unwrap_or(&frame.file);
            format!("{file}:{} in {}", frame.line, frame.function)
        },
    )
}

/// A span in the largest unit that fits: `12 s`, `4 min`, `3 h`.
pub fn roughly(ms: u64) -> String {
    match ms {
        0..=999 => format!("{ms} ms"),
        1000..=119_999 => format!("{} s", ms / 1000),
        120_000..=7_199_999 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}
