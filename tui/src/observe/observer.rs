//! The observer: keeps what is known between looks and takes a snapshot.

use super::addresses::AddressMap;
use super::bridge::bridge_edges;
use super::drivers::Drivers;
use super::green::{present_green, read_green};
use super::locks::{StacksOf, find_holders};
use super::paged::Paged;
use super::running::{ThreadView, fill_running, thread_of_main};
use super::seen::Seen;
use super::stacks::Stacks;
use super::tasks::{present_tasks, read_tasks};
use super::thread_names::ThreadNames;
use super::threads::{match_threads, os_threads};
use super::timers::HubTimers;
use super::unchanged::Unchanged;
use crate::decode::{GreenletFinder, Python};
use crate::remote::{AttachError, Mapping, Pause, Peers, Target, describe_link};
use crate::state::{
    Counters, Edge, EdgeKind, Fd, GreenThread, Process, SNAPSHOT_SCHEMA, Snapshot, Task, Timer, WaitKind,
};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use thiserror::Error;

/// Why a look failed.
#[derive(Debug, Error)]
pub enum LookError {
    /// The process ended, or replaced its program.
    #[error("process {pid} has ended")]
    Ended {
        /// The process.
        pid: i32,
    },
    /// It could not be stopped for a look.
    #[error("process {pid} cannot be paused ({source}); without --pause it is observed while it runs")]
    NotPaused {
        /// The process.
        pid: i32,
        /// Why.
        source: std::io::Error,
    },
    /// The process replaced its program.
    #[error("process {pid} has started another program (exec); attach again to observe it")]
    Replaced {
        /// The process.
        pid: i32,
    },
}

impl LookError {
    /// evtop's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Ended { .. } | Self::Replaced { .. } => 3,
            Self::NotPaused { .. } => 1,
        }
    }
}

/// A process under observation.
#[derive(Debug)]
pub struct Observer {
    pub(crate) target: Target,
    pub(crate) stacks: Stacks,
    finder: GreenletFinder,
    known: Vec<u64>,
    last_search: Option<Search>,
    /// Share of the green threads that the last search did not find.
    unseen: f64,
    seen: Seen,
    timers: HubTimers,
    thread_names: ThreadNames,
    unchanged: Unchanged,
    drivers: Drivers,
    peers: (Peers, Option<Instant>),
    interpreter_file: String,
}

/// Socket tables are read again at most this often.
const PEERS_REST: Duration = Duration::from_millis(900);

/// A search for greenlets.
#[derive(Debug)]
struct Search {
    started: Instant,
    cost: Duration,
    /// It found those of the search before: they come and go too slowly for a second one to tell how many it missed.
    is_same: bool,
    /// A tenth of them or more are new.
    is_churn: bool,
}

impl Search {
    /// Searching takes half a percent of a processor; up to one where new green threads would otherwise stay unseen for
    /// longer than two seconds, and two and a half where many come and go.
    fn is_over(&self) -> bool {
        const PATIENCE: Duration = Duration::from_secs(2);
        let rest = match self.is_churn {
            true => self.cost * 40,
            false => (self.cost * 200).min(PATIENCE).max(self.cost * 100),
        };
        self.started.elapsed() >= rest
    }
}

impl Observer {
    /// Attaches to a process, or says why that is not possible.
    pub fn attach(pid: i32) -> Result<Self, AttachError> {
        let target = Target::open(pid)?;
        let interpreter_file = target.interpreter.file.clone();
        Ok(Self {
            target,
            stacks: Stacks::default(),
            finder: GreenletFinder::default(),
            known: Vec::new(),
            last_search: None,
            unseen: 0.0,
            seen: Seen::default(),
            timers: HubTimers::default(),
            thread_names: ThreadNames::default(),
            unchanged: Unchanged::default(),
            drivers: Drivers::default(),
            peers: (Peers::default(), None),
            interpreter_file,
        })
    }

    /// The process observed.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Fails if the process is gone or runs another program by now.
    pub fn check_alive(&self) -> Result<(), LookError> {
        let pid = self.target.process.pid();
        if !self.target.is_alive() {
            return Err(LookError::Ended { pid });
        }
        let python = Python::new(&self.target.memory, &self.target.interpreter);
        if python.threads().is_empty() {
            // A process on its way out has lost its memory but not yet its id.
            let has_memory = self.target.process.maps().is_ok_and(|maps| !maps.is_empty());
            return Err(if has_memory && self.target.is_alive() {
                LookError::Replaced { pid }
            } else {
                LookError::Ended { pid }
            });
        }
        Ok(())
    }

    /// Takes a snapshot of the process while it stands still: exact, and it is told how long the process did not run.
    pub fn look_paused(&mut self) -> Result<Snapshot, LookError> {
        // All that does not change is learned while the process runs: where greenlets are, code, names of peers.
        self.look()?;
        if self.seen.is_first_round() {
            // A moment later the ages are no better known.
            self.seen = Seen::default();
        }
        let pid = self.target.process.pid();
        let stopped = Instant::now();
        let pause =
            Pause::all(&self.target.process).map_err(|source| LookError::NotPaused { pid, source })?;
        self.last_search = None;
        let mut snapshot = self.look_at(true)?;
        drop(pause);
        snapshot.counters.is_paused = true;
        snapshot.counters.paused_us = stopped.elapsed().as_micros() as u64;
        Ok(snapshot)
    }

    /// Takes a snapshot.
    pub fn look(&mut self) -> Result<Snapshot, LookError> {
        self.look_at(false)
    }

    fn look_at(&mut self, is_stopped: bool) -> Result<Snapshot, LookError> {
        let started = Instant::now();
        self.check_alive()?;
        self.seen.start_round(&self.target.process);
        self.timers.start_round();
        let cost_before = self.target.memory.cost();
        let mut counters = Counters::default();
        let maps = self.target.process.maps().unwrap_or_default();
        self.target.refresh_modules(&maps);
        let is_searched = self.search(&maps, &mut counters);
        let is_same = self.last_search.as_ref().is_some_and(|search| search.is_same);

        let python = Python::new(&self.target.memory, &self.target.interpreter);
        self.unchanged.start_round(&python, self.stacks.verify(&python));
        let greens = read_green(
            &python,
            &self.finder,
            &mut self.stacks,
            &mut self.unchanged,
            &self.known,
            &mut counters,
        );
        let gone = counters.green_threads_lost + counters.stacks_torn;
        if is_stopped || is_searched && is_same {
            self.unseen = 0.0;
        } else if is_searched {
            let again = Instant::now();
            self.unseen = unseen_share(&python, &self.target, &mut self.finder, &self.known);
            if let Some(search) = &mut self.last_search {
                search.cost += again.elapsed();
            }
        }
        let paged = Paged::new(&self.target.memory);
        let near = Python::new(&paged, &self.target.interpreter);
        let task_records = read_tasks(&near, &mut counters);
        let records = python.threads();
        let kernel = os_threads(&self.target.process);
        let matched = match_threads(&self.target.memory, &records, &kernel);
        let owners = thread_of_main(&greens, &records, &maps);
        let tid_of: AddressMap<u64, i32> =
            owners.iter().filter_map(|(&main, state)| Some((main, matched.get(state)?.tid))).collect();
        let mut green_threads =
            present_green(&near, &mut self.stacks, &greens, (&mut self.seen, &mut self.timers), &tid_of);
        let (mut tasks, mut edges) = {
            let lent = (&mut self.seen, &mut counters);
            present_tasks(&near, &mut self.stacks, &task_records, lent)
        };
        let view = ThreadView { greens: &greens, owners: &owners, tasks: &task_records, matched: &matched };
        let lent = (&self.finder, &mut counters);
        let mut threads =
            view.present(&python, &self.target, &mut self.stacks, &mut self.drivers, lent, &records);
        self.thread_names.fill(&near, &records, &mut threads);
        fill_running(&mut green_threads, &threads);
        edges.extend(join_edges(&green_threads));
        let stacks = StacksOf { greens: &greens, tasks: &task_records };
        edges.extend(find_holders(&near, &mut self.stacks, &stacks, &mut green_threads, &mut tasks));
        edges.extend(bridge_edges(&near, &greens, &task_records));
        counters.green_threads_found = green_threads.len();
        counters.missed_permille = missed_permille(self.unseen, is_searched, green_threads.len(), gone);
        let fds = self.resolve_fds(&mut green_threads, &mut tasks);
        let cost = self.target.memory.cost();
        counters.read_calls = cost.calls - cost_before.calls;
        counters.read_bytes = cost.bytes - cost_before.bytes;
        Ok(Snapshot {
            schema: SNAPSHOT_SCHEMA,
            taken_at_ms: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_millis() as u64),
            took_us: started.elapsed().as_micros() as u64,
            process: self.present_process(kernel.len()),
            timers: timers(&green_threads, &tasks, &self.seen),
            threads,
            green_threads,
            tasks,
            edges,
            fds,
            counters,
        })
    }

    /// Looks for greenlets that are not known yet, as often as its cost allows.
    fn search(&mut self, maps: &[Mapping], counters: &mut Counters) -> bool {
        let Some(module) = self.target.greenlet else { return false };
        if self.last_search.as_ref().is_some_and(|search| !search.is_over()) {
            return false;
        }
        let started = Instant::now();
        let python = Python::new(&self.target.memory, &self.target.interpreter);
        counters.is_full_search = !self.finder.knows_pools();
        let found = self.finder.find(&python, &module, maps, &self.known);
        let new =
            found.iter().filter(|implementation| self.known.binary_search(implementation).is_err()).count();
        let (is_same, is_churn) = (found == self.known, new * 10 > found.len());
        if !found.is_empty() || self.finder.layout().is_some() {
            self.known = found;
        }
        self.last_search = Some(Search { started, cost: started.elapsed(), is_same, is_churn });
        true
    }

    fn present_process(&self, kernel_threads: usize) -> Process {
        let process = &self.target.process;
        let kib = |text: String| text.split_ascii_whitespace().next()?.parse::<u64>().ok();
        let inner = process.status("NSpid").and_then(|ids| ids.split_ascii_whitespace().last()?.parse().ok());
        Process {
            pid: process.pid(),
            namespace_pid: inner.unwrap_or(process.pid()),
            command: process.command_line(),
            python: self.target.interpreter.version.to_string(),
            interpreter: self.interpreter_file.clone(),
            rss_bytes: process.status("VmRSS").and_then(kib).unwrap_or(0) * 1024,
            kernel_threads,
            is_stopped: process.is_stopped(),
        }
    }

    /// What a descriptor leads to; a socket by its peer.
    pub fn describe_fd(&mut self, fd: i32) -> Option<String> {
        let link = self.target.process.fd_link(fd)?;
        let described = describe_link(&link, &self.peers.0);
        let is_stale = self.peers.1.is_none_or(|at| at.elapsed() > PEERS_REST);
        if described == link && link.starts_with("socket:") && is_stale {
            self.peers = (Peers::read(&self.target.process), Some(Instant::now()));
            return Some(describe_link(&link, &self.peers.0));
        }
        Some(described)
    }

    fn resolve_fds(&mut self, green_threads: &mut [GreenThread], tasks: &mut [Task]) -> Vec<Fd> {
        let mut fds: BTreeMap<i32, Fd> = BTreeMap::new();
        let greens = green_threads.iter_mut().map(|green| (green.id, &mut green.wait));
        let tasks = tasks.iter_mut().map(|task| (task.id, &mut task.wait));
        for (id, wait) in greens.chain(tasks) {
            let Some((wait, fd)) = wait.as_mut().and_then(|wait| wait.fd.map(|fd| (wait, fd))) else {
                continue;
            };
            let entry = fds.entry(fd).or_insert_with(|| Fd {
                fd,
                target: self.describe_fd(fd).unwrap_or_else(|| "closed".to_owned()),
                waiters: Vec::new(),
            });
            Arc::make_mut(wait).target = Some(entry.target.clone());
            entry.waiters.push(id);
        }
        fds.into_values().collect()
    }
}

/// The share of the green threads alive just after a search that it did not find: a second search tells.
///
/// A search takes milliseconds, and who starts in a pool that it has passed is not found. Those of the second search that the
/// first one has not are they, and who started in between.
fn unseen_share(python: &Python<'_>, target: &Target, finder: &mut GreenletFinder, known: &[u64]) -> f64 {
    let Some(module) = target.greenlet.filter(|_| finder.knows_pools()) else { return 0.0 };
    // Arenas that were mapped meanwhile hold nothing but what the first search did not find.
    let maps = target.process.maps().unwrap_or_default();
    let now = finder.find(python, &module, &maps, known);
    let known: HashSet<u64> = known.iter().copied().collect();
    let unseen = now.iter().filter(|implementation| !known.contains(implementation)).count();
    unseen as f64 / now.len().max(1) as f64
}

/// The share of the green threads that a look does not show. If their number is steady, as many have started unseen since
/// they were found as have ended since; right after a search that is part of what the second one tells.
fn missed_permille(unseen: f64, is_searched: bool, found: usize, gone: usize) -> Option<u32> {
    let gone = gone as f64 / (found + gone).max(1) as f64;
    let missed = if is_searched { unseen.max(gone) } else { 1.0 - (1.0 - unseen) * (1.0 - gone) };
    Some((missed * 1000.0).ceil() as u32)
}

fn join_edges(green_threads: &[GreenThread]) -> Vec<Edge> {
    green_threads
        .iter()
        .filter_map(|green| {
            let wait = green.wait.as_ref().filter(|wait| wait.kind == WaitKind::GreenThread)?;
            Some(Edge { from: green.id, to: wait.object?, kind: EdgeKind::Join, trust: wait.trust })
        })
        .collect()
}

fn timers(green_threads: &[GreenThread], tasks: &[Task], seen: &Seen) -> Vec<Timer> {
    let greens = green_threads.iter().map(|green| (green.id, &green.wait));
    let tasks = tasks.iter().map(|task| (task.id, &task.wait));
    greens
        .chain(tasks)
        .filter_map(|(owner, wait)| {
            let wait = wait.as_ref()?;
            let purpose = if wait.kind == WaitKind::Sleep { "sleep" } else { "timeout" };
            let seconds = wait.seconds?;
            // It may have begun to wait after this look began.
            let left_ms = seen.left_ms(owner).map(|left_ms| left_ms.min((seconds * 1e3) as u64));
            Some(Timer { owner, seconds, left_ms, purpose, trust: wait.trust })
        })
        .collect()
}
