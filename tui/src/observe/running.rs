//! Python threads of one look: what each runs now, the hub on it, the green thread and the task.

use super::drivers::Drivers;
use super::green::Green;
use super::hubs::{hub_of_stack, is_hub_file, is_machinery};
use super::stacks::{Located, Stacks, places};
use super::threads::OsThread;
use crate::decode::{Python, TaskRecord, TaskState, ThreadRecord, Walk};
use crate::remote::{Activity, Mapping, Target, mapping_of, syscall_name};
use crate::state::{Frame, GreenThread, Hub, Labelled, NodeId, Thread};
use std::collections::HashMap;
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

/// Walks the stacks of running threads; one that switched meanwhile is walked again, and left out if it never rests.
fn walk_running(python: &Python<'_>, records: &[ThreadRecord]) -> Vec<Walk> {
    const RETRIES: usize = 4;
    let mut records = records.to_vec();
    let mut walks = vec![Walk::default(); records.len()];
    let mut stale: Vec<usize> = (0..records.len()).collect();
    for _ in 0..RETRIES {
        let tops: Vec<u64> = stale.iter().map(|&index| records[index].frame).collect();
        for (&index, walk) in stale.iter().zip(python.walk(&tops)) {
            walks[index] = walk;
        }
        let fresh = python.threads();
        stale.retain(|&index| {
            let now = fresh.iter().find(|now| now.state == records[index].state);
            let is_switched = now.is_none_or(|now| now.context_version != records[index].context_version);
            if let Some(now) = now {
                records[index] = *now;
            }
            is_switched
        });
        if stale.is_empty() {
            break;
        }
    }
    for index in stale {
        walks[index] = Walk { is_cut: true, ..Walk::default() };
    }
    walks
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
        records: &[ThreadRecord],
    ) -> Vec<Thread> {
        let holder = python.gil_holder();
        let walks = walk_running(python, records);
        let uvloop = self
            .tasks
            .iter()
            .any(|task| python.class_path(task.event_loop).is_some_and(|class| class.starts_with("uvloop")));
        let mut threads = Vec::new();
        for (record, walk) in records.iter().zip(walks) {
            let Some(kernel) = self.matched.get(&record.state) else { continue };
            let (stack, _) = stacks.decode(python, &walk.frames);
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
                hub,
                holds_gil: Labelled::sampled(holder == Some(record.state)),
                activity: Labelled::sampled(activity),
                green_thread: python
                    .field(self.greenlet_state(record), 8)
                    .filter(|&object| object != 0)
                    .map(NodeId),
                task: self.running_task(&walk.frames.iter().map(|frame| frame.address).collect::<Vec<_>>()),
                stack: places(&stack),
                state: record.state,
                greenlet_state: self.greenlet_state(record),
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

    fn running_task(&self, frames: &[u64]) -> Option<NodeId> {
        self.tasks
            .iter()
            .find(|task| {
                task.state == TaskState::Running
                    && task.chain.first().is_some_and(|step| frames.contains(&step.frame))
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
            }
            green.tid = Some(thread.tid);
            let is_loop = |frame: &Arc<Frame>| is_hub_file(&frame.file) && is_machinery(frame);
            if green.role != "main" && green.stack.last().is_some_and(is_loop) {
                green.role = "hub";
            }
        }
    }
}
