//! asyncio tasks: found through asyncio's own registry, with what each awaits.

use super::objects::{BODY, Python};
use crate::remote::{int_at, word_at};
use std::collections::HashSet;

/// Await chains beyond this are cut.
const CHAIN_LIMIT: usize = 1024;
/// Bytes of a task object that are read.
const TASK_BYTES: usize = 184;
/// A future's loop; the first field behind the head in every version.
const FUTURE_LOOP: usize = 16;

/// What a task is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskState {
    /// Its coroutine has not started.
    Created,
    /// Its coroutine is on a stack right now.
    Running,
    /// Suspended on a future.
    Waiting,
    /// Suspended on nothing, so due to run.
    Ready,
    /// Cancelled.
    Cancelled,
    /// Finished.
    Finished,
}

/// One link of an await chain, outermost first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AwaitStep {
    /// The coroutine or generator.
    pub object: u64,
    /// Its frame.
    pub frame: u64,
}

/// One task as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRecord {
    /// The task object: its identity.
    pub object: u64,
    /// Its event loop.
    pub event_loop: u64,
    /// Its state.
    pub state: TaskState,
    /// The future it waits for; zero if none.
    pub awaited: u64,
    /// Its outermost coroutine.
    pub coroutine: u64,
    /// Its name.
    pub name: Option<String>,
    /// Coroutines from the task's own inwards.
    pub chain: Vec<AwaitStep>,
    /// What the innermost awaits, if that is no coroutine; zero if nothing.
    pub leaf: u64,
}

impl Python<'_> {
    /// All registered tasks; asyncio itself keeps weak references to them.
    pub fn task_objects(&self) -> Vec<u64> {
        let mut tasks = HashSet::new();
        for module in self.asyncio_task_modules() {
            for name in ["_scheduled_tasks", "_all_tasks"] {
                let Some(registry) = self.lookup(module, name) else { continue };
                let Some(references) = self.attribute(registry, "data").and_then(|set| self.set_items(set))
                else {
                    continue;
                };
                let at: Vec<u64> = references.iter().map(|reference| reference.wrapping_add(BODY)).collect();
                let (objects, read) = self.memory.records(&at, 8);
                let objects = objects.chunks_exact(8).map(|word| word_at(word, 0));
                tasks.extend(objects.zip(read).filter(|&(_, is_read)| is_read).map(|(object, _)| object));
            }
            if let Some(eager) = self.lookup(module, "_eager_tasks").and_then(|set| self.set_items(set)) {
                tasks.extend(eager);
            }
        }
        tasks.remove(&0);
        tasks.remove(&self.interpreter.types.none);
        let mut tasks: Vec<u64> = tasks.into_iter().collect();
        tasks.sort_unstable();
        tasks
    }

    /// Namespaces of `asyncio.tasks`, also of the copies that Eventlet keeps beside the patched modules.
    fn asyncio_task_modules(&self) -> Vec<u64> {
        let items = self.modules().and_then(|modules| self.items(modules)).unwrap_or_default();
        items
            .into_iter()
            .filter(|(name, _)| name.ends_with("asyncio.tasks"))
            .filter_map(|(_, module)| self.module_dict(module))
            .collect()
    }

    /// Reads one task, whether implemented in C or in Python.
    pub fn task(&self, object: u64) -> Option<TaskRecord> {
        let class = self.type_of(object)?;
        let is_native =
            self.inherits(class, |class| self.type_name(class).as_deref() == Some("_asyncio.Task"));
        let (event_loop, finished, awaited, coroutine, name) =
            if is_native { self.native_task(object)? } else { self.python_task(object)? };
        let (chain, leaf, is_running, is_created) = self.await_chain(coroutine);
        let state = match finished {
            Some(state) => state,
            None if is_running => TaskState::Running,
            None if awaited != 0 => TaskState::Waiting,
            None if is_created => TaskState::Created,
            None => TaskState::Ready,
        };
        let name = name.and_then(|name| {
            self.string(name).or_else(|| self.integer(name).map(|number| format!("Task-{number}")))
        });
        Some(TaskRecord { object, event_loop, state, awaited, coroutine, name, chain, leaf })
    }

    #[allow(clippy::type_complexity)]
    fn native_task(&self, object: u64) -> Option<(u64, Option<TaskState>, u64, u64, Option<u64>)> {
        let record = self.memory.bytes(object, TASK_BYTES)?;
        let [state, awaited, coroutine, name] = self.layout().task;
        Some((
            word_at(&record, FUTURE_LOOP),
            match int_at(&record, state) {
                0 => None,
                1 => Some(TaskState::Cancelled),
                2 => Some(TaskState::Finished),
                _ => return None,
            },
            word_at(&record, awaited),
            word_at(&record, coroutine),
            Some(word_at(&record, name)),
        ))
    }

    #[allow(clippy::type_complexity)]
    fn python_task(&self, object: u64) -> Option<(u64, Option<TaskState>, u64, u64, Option<u64>)> {
        let attributes = self.attributes(object)?;
        let of = |name: &str| attributes.iter().find(|(key, _)| key == name).map(|&(_, value)| value);
        let awaited = of("_fut_waiter").filter(|&value| value != self.interpreter.types.none).unwrap_or(0);
        let state = match self.string(of("_state").unwrap_or(0)).as_deref() {
            Some("CANCELLED") => Some(TaskState::Cancelled),
            Some("FINISHED") => Some(TaskState::Finished),
            _ => None,
        };
        Some((of("_loop").unwrap_or(0), state, awaited, of("_coro")?, of("_name")))
    }

    /// The native task whose outermost coroutine runs in one of these frames.
    pub fn task_of_frames(&self, frames: &[u64]) -> Option<u64> {
        let layout = self.layout();
        let tasks = self.task_objects();
        let at: Vec<u64> = tasks.iter().map(|task| task.wrapping_add(layout.task[2] as u64)).collect();
        let (coroutines, _) = self.memory.records(&at, 8);
        let mut own: Vec<u64> = coroutines
            .chunks_exact(8)
            .map(|word| word_at(word, 0).wrapping_add(layout.generator_frame as u64))
            .collect();
        if layout.minor < 11 {
            let (pointers, _) = self.memory.records(&own, 8);
            own = pointers.chunks_exact(8).map(|word| word_at(word, 0)).collect();
        }
        tasks.into_iter().zip(own).find(|(_, frame)| frames.contains(frame)).map(|(task, _)| task)
    }

    /// The task that asyncio itself holds for current, if only one loop has one.
    pub fn current_task(&self) -> Option<u64> {
        let modules = self.asyncio_task_modules();
        let current = modules.into_iter().find_map(|module| {
            let entries = self.entries(self.lookup(module, "_current_tasks")?)?;
            (!entries.is_empty()).then_some(entries)
        })?;
        if let [(_, task)] = current.as_slice() { Some(*task) } else { None }
    }

    /// The coroutines from one inwards, what the innermost awaits, and whether the outermost runs or has not started.
    pub fn await_chain(&self, coroutine: u64) -> (Vec<AwaitStep>, u64, bool, bool) {
        let mut chain = Vec::new();
        let mut object = coroutine;
        let (mut is_running, mut is_created) = (false, false);
        for _ in 0..CHAIN_LIMIT {
            let Some(class) = self.type_of(object) else { return (chain, 0, is_running, is_created) };
            let types = &self.interpreter.types;
            if class == types.coroutine_wrapper || class == types.async_generator_send {
                object = self.field(object, BODY).unwrap_or(0);
                continue;
            }
            if ![types.coroutine, types.generator, types.async_generator].contains(&class) {
                return (chain, object, is_running, is_created);
            }
            let Some((frame, state)) = self.generator_frame(object) else { break };
            if chain.is_empty() {
                is_running = state == 0;
                is_created = state == self.created_state();
            }
            if frame == 0 || state > 0 {
                break;
            }
            chain.push(AwaitStep { object, frame });
            if state == 0 || state == self.created_state() {
                break;
            }
            match self.stack_top(frame) {
                Some(next) => object = next,
                None => break,
            }
        }
        (chain, 0, is_running, is_created)
    }

    fn created_state(&self) -> i8 {
        if self.layout().minor >= 13 { -3 } else { -2 }
    }

    /// A generator's frame and frame state.
    pub fn generator_frame(&self, generator: u64) -> Option<(u64, i8)> {
        let layout = self.layout();
        let mut state = [0_u8];
        if layout.minor >= 11 {
            self.memory.read(generator.checked_add(layout.generator_state as u64)?, &mut state)?;
            return Some((generator + layout.generator_frame as u64, state[0] as i8));
        }
        const FRAME_STATE_3_10: u64 = 108;
        let frame = self.field(generator, layout.generator_frame as u64)?;
        if frame == 0 {
            return Some((0, 1));
        }
        self.memory.read(frame.checked_add(FRAME_STATE_3_10)?, &mut state)?;
        Some((frame, state[0] as i8))
    }
}
