//! What is known about the process: the latest snapshot, the stalls so far, and what the lints say.

use super::pulse::Pulse;
use crate::lint::{self, Context, Finding};
use crate::observe::AddressMap;
use crate::state::{Frame, NodeId, Site, Sites, Snapshot, Stall};
use crate::watch::{Blocked, WatchCounters};
use std::cell::OnceCell;
use std::sync::Arc;

/// News from the process.
#[derive(Debug)]
pub enum Update {
    /// A look.
    Snapshot(Box<Snapshot>),
    /// A stall has ended.
    Stall(Box<Stall>),
    /// What the watcher counted.
    Counters(WatchCounters),
    /// Who is blocked now.
    Blocked(Vec<Blocked>),
    /// The process is gone; the sentence says how.
    Ended(String),
}

/// All that the screens show.
#[derive(Debug, Default)]
pub struct Model {
    /// The latest look.
    pub snapshot: Option<Snapshot>,
    /// Stalls by call site.
    pub sites: Sites,
    /// The watcher's counters.
    pub watch: WatchCounters,
    /// Hub threads that are blocked now.
    pub blocked: Vec<Blocked>,
    /// The recent past.
    pub pulse: Pulse,
    /// What looks wrong.
    pub findings: Vec<Finding>,
    /// Why there is no more news.
    pub ended: Option<String>,
    /// Rises with every change of what tables show, so that their rows can be kept until then.
    pub version: u64,
    /// Where green threads and tasks stand in the latest look, once somebody asks.
    places: OnceCell<AddressMap<NodeId, usize>>,
}

/// A green thread or a task.
#[derive(Debug, Clone, Copy)]
pub enum Node<'m> {
    /// A green thread.
    Green(&'m crate::state::GreenThread),
    /// A task.
    Task(&'m crate::state::Task),
}

impl Model {
    /// Takes in news; tells whether the screens show it at once.
    pub fn apply(&mut self, update: Update) -> bool {
        match update {
            // Counters alone change the pulse only: they come with the looks.
            Update::Counters(watch) => {
                self.pulse.add_report(&watch);
                self.watch = watch;
                return false;
            }
            Update::Blocked(blocked) if blocked == self.blocked => return false,
            Update::Snapshot(snapshot) => self.set_snapshot(*snapshot),
            Update::Stall(stall) => {
                self.sites.add(&stall);
                self.pulse.add_stall(&stall);
            }
            Update::Blocked(blocked) => self.blocked = blocked,
            Update::Ended(sentence) => {
                self.blocked.clear();
                self.ended = Some(sentence);
            }
        }
        self.version += 1;
        true
    }

    fn set_snapshot(&mut self, snapshot: Snapshot) {
        let sites = self.sites.by_total();
        self.findings = lint::check_all(&Context {
            snapshot: &snapshot,
            sites: &sites,
            watch: &self.watch,
            worst_hub: self.pulse.worst_hub(60),
            blocked: &self.blocked,
        });
        self.places = OnceCell::new();
        self.snapshot = Some(snapshot);
    }

    /// The green thread or task of an identity.
    pub fn node(&self, id: NodeId) -> Option<Node<'_>> {
        let snapshot = self.snapshot.as_ref()?;
        let places = self.places.get_or_init(|| {
            let greens = snapshot.green_threads.iter().map(|green| green.id);
            let all = greens.chain(snapshot.tasks.iter().map(|task| task.id));
            all.enumerate().map(|(index, id)| (id, index)).collect()
        });
        let index = *places.get(&id)?;
        match snapshot.green_threads.get(index) {
            Some(green) => Some(Node::Green(green)),
            None => snapshot.tasks.get(index - snapshot.green_threads.len()).map(Node::Task),
        }
    }

    /// Its name, or its address when nothing with that identity was read.
    pub fn node_name(&self, id: NodeId) -> String {
        match self.node(id) {
            Some(Node::Green(green)) => green.name.to_string(),
            Some(Node::Task(task)) => task.name.clone(),
            None => id.to_string(),
        }
    }

    /// Call sites, the one that cost most first.
    pub fn sites(&self) -> Vec<&Site> {
        self.sites.by_total()
    }
}

impl<'m> Node<'m> {
    /// Innermost first.
    pub fn stack(self) -> &'m [Arc<Frame>] {
        match self {
            Self::Green(green) => &green.stack,
            Self::Task(task) => &task.stack,
        }
    }

    /// What it waits for.
    pub fn wait(self) -> Option<&'m crate::state::Wait> {
        match self {
            Self::Green(green) => green.wait.as_deref(),
            Self::Task(task) => task.wait.as_deref(),
        }
    }

    /// How many more tasks it waits on than there are edges.
    pub fn waits_on_more(self) -> usize {
        match self {
            Self::Green(_) => 0,
            Self::Task(task) => task.waits_on_more,
        }
    }

    /// Its state in one word.
    pub fn state(self) -> &'static str {
        match self {
            Self::Green(green) => green.state,
            Self::Task(task) => task.state,
        }
    }

    /// For how long its stack has not changed, as far as was seen.
    pub fn unchanged_ms(self) -> u64 {
        match self {
            Self::Green(green) => green.unchanged_ms.map_or(0, |time_ms| time_ms.value),
            Self::Task(task) => task.unchanged_ms.map_or(0, |time_ms| time_ms.value),
        }
    }
}
