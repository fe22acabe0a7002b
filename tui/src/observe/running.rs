//! Python threads of one look: what each runs now, the hub on it, the green thread and the task.

use super::drivers::Drivers;
use super::green::Green;
use super::hubs::{hub_of_stack, is_hub_file, is_machinery};
use super::settled::running_stacks;
use super::stacks::{Located, Stacks, places};
use super::threads::OsThread;
use crate::decode::{GreenletFinder, GreenletState, Python, TaskRecord, TaskState, ThreadRecord};
use crate::remote::{Activity, Mapping, Target, mapping_of, syscall_name};
use crate::state::{Counters, Frame, GreenThread, Hub, Labelled, NodeId, Thread};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Which thread each main greenlet belongs to, told by where the C stacks of its greenlets are.
pub fn thread_of_main(greens: &[Green], threads: &[ThreadRecord], maps: &[Mapping]) -> HashMap<u64, u64> {
    let mut owners = HashMap::new();
    let stack_of = |address: u64| mapping_of(maps, address).map(|mapping| mapping.start);
    for green in greens.iter().filter(|green| !green.record.is_main && green.record.stack_stop != 0) {
        let Some(stack) = stack_of(green.record.stack_stop) else { continue };
        let owner = threads.iter().find(|thread| {
            // A pthread's descriptor stands at the top of its own stack mapping.
            let anchors = [thread.c_stack, thread.handle];
            anchors.iter().any(|&anchor| anchor != 0 && stack_of(anchor) == Some(stack))
        });
        let main_thread = || {
            let is_main_stack =
                maps.iter().any(|mapping| mapping.start == stack && mapping.path == "[stack]");
            // Threads are linked newest first: the last is the main thread.
            if is_main_stack { threads.last() } else { None }
        };
        if let Some(owner) = owner.or_else(main_thread) {
            owners.entry(green.record.main).or_insert(owner.state);
        }
    }
    let mains: Vec<u64> = greens.iter().filter(|g| g.record.is_main).map(|g| g.record.object).collect();
    if let ([main], [thread]) = (mains.as_slice(), threads) {
        owners.entry(*main).or_insert(thread.state);
    }
    owners
}

/// What threads are told by.
#[derive(Debug)]
pub struct ThreadView<'a> {
    /// The green threads.
    pub greens: &'a [Green],
    /// Thread states by the main greenlet on them.
    pub owners: &'a HashMap<u64, u64>,
    /// The tasks.
    pub tasks: &'a [TaskRecord],
    /// Kernel threads by thread state.
    pub matched: &'a HashMap<u64, OsThread>,
}

impl ThreadView<'_> {
    /// Turns threads into the snapshot's form.
    pub fn present(
        &self,
        python: &Python<'_>,
        target: &Target,
        stacks: &mut Stacks,
        drivers: &mut Drivers,
        (finder, counters): (&GreenletFinder, &mut Counters),
        records: &[ThreadRecord],
    ) -> Vec<Thread> {
        let holder = python.gil_holder();
        let heads: Vec<u64> = records.iter().map(|record| self.greenlet_state(record)).collect();
        let running = running_stacks(python, records, &heads);
        let loops: HashSet<u64> = self.tasks.iter().map(|task| task.event_loop).collect();
        let uvloop = loops
            .into_iter()
            .any(|event_loop| python.class_path(event_loop).is_some_and(|class| class.starts_with("uvloop")));
        let mut threads = Vec::new();
        for ((record, running), greenlet_state) in records.iter().zip(running).zip(heads) {
            let Some(kernel) = self.matched.get(&record.state) else { continue };
            let (mut stack, lost) = stacks.decode(python, &running.walk.frames);
            let mut is_stack_cut = running.walk.is_cut;
            // What is no frame does not decode: then the head was another green thread's.
            if running.is_torn || lost > 0 {
                let between = self.between_switches(python, finder, running.greenlet);
                counters.stacks_torn += usize::from(between.is_none());
                is_stack_cut = between.is_none();
                stack = between.unwrap_or_default();
            }
            counters.stacks_cut += usize::from(is_stack_cut);
            let activity = target.process.activity(kernel.tid).ok();
            let mut hub = self.hub(python, record, &stack, uvloop && kernel.tid == target.process.pid());
            if let Some(hub) = hub.as_mut().filter(|hub| hub.value.kind == "uringhub") {
                hub.value.driver = drivers.of(&target.process, record.state, activity).map(str::to_owned);
            }
            let activity = match activity {
                Some(Activity::Call { number, .. }) => syscall_name(number),
                Some(Activity::Fault) => "page fault".to_owned(),
                Some(Activity::Running) => "running".to_owned(),
                None => "unknown".to_owned(),
            };
            threads.push(Thread {
                tid: kernel.tid,
                name: kernel.name.clone(),
                python_name: None,
                hub,
                holds_gil: Labelled::sampled(holder == Some(record.state)),
                activity: Labelled::sampled(activity),
                green_thread: (running.greenlet != 0).then_some(NodeId(running.greenlet)),
                task: self.running_task(&stack),
                stack: places(&stack),
                is_stack_cut,
                state: record.state,
                greenlet_state,
            });
        }
        threads
    }

    /// The hub on a thread: on the stack it runs now, or on a green thread of it that is switched out.
    fn hub(
        &self,
        python: &Python<'_>,
        record: &ThreadRecord,
        stack: &[Located],
        may_be_uvloop: bool,
    ) -> Option<Labelled<Hub>> {
        let suspended = || {
            self.greens
                .iter()
                .filter(|green| self.owners.get(&green.record.main) == Some(&record.state))
                .find_map(|green| green.decoded.hub.clone())
        };
        let uvloop =
            || may_be_uvloop.then(|| Labelled::inferred(Hub { kind: "uvloop".to_owned(), driver: None }));
        hub_of_stack(python, stack).or_else(suspended).or_else(uvloop)
    }

    fn greenlet_state(&self, record: &ThreadRecord) -> u64 {
        let is_own = |green: &&Green| {
            green.record.is_main && self.owners.get(&green.record.object) == Some(&record.state)
        };
        self.greens.iter().find(is_own).map_or(0, |main| main.record.thread_state)
    }

    /// The stack of a thread's current greenlet if that is being switched away from, and has not run since it was read:
    /// greenlet notes its top frame first, and makes another one current last. One that ended has no frames left.
    fn between_switches(
        &self,
        python: &Python<'_>,
        finder: &GreenletFinder,
        object: u64,
    ) -> Option<Vec<Located>> {
        let green = self.greens.iter().find(|green| green.record.object == object)?;
        let now = finder.read(python, &[green.record.implementation]).pop()?;
        match now.state {
            _ if now != green.record => None,
            GreenletState::Dead | GreenletState::Starting => Some(Vec::new()),
            GreenletState::Suspended if !green.decoded.is_cut => Some(green.decoded.stack.clone()),
            _ => None,
        }
    }

    fn running_task(&self, stack: &[Located]) -> Option<NodeId> {
        self.tasks
            .iter()
            .find(|task| {
                task.state == TaskState::Running
                    && task
                        .chain
                        .first()
                        .is_some_and(|step| stack.iter().any(|located| located.raw.address == step.frame))
            })
            .map(|task| NodeId(task.object))
    }
}

/// A running green thread's stack is its thread's.
pub fn fill_running(green_threads: &mut [GreenThread], threads: &[Thread]) {
    for thread in threads {
        let Some(id) = thread.green_thread else { continue };
        if let Some(green) = green_threads.iter_mut().find(|green| green.id == id) {
            // One that was read as suspended has been resumed since: its stack belongs to its wait, as it was read.
            if green.state == "running" || green.stack.is_empty() {
                green.stack = thread.stack.as_slice().into();
                green.is_stack_cut |= thread.is_stack_cut;
            }
            green.tid = Some(thread.tid);
            let is_loop = |frame: &Arc<Frame>| is_hub_file(&frame.file) && is_machinery(frame);
            if green.role != "main" && green.stack.last().is_some_and(is_loop) {
                green.role = "hub";
            }
        }
    }
}
