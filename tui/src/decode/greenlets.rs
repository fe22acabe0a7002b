//! Finding greenlets and reading their state.

use super::objects::Python;
use super::pools;
use crate::layout::{GreenletLayout, calibrate};
use crate::remote::{GreenletModule, Mapping, word_at};
use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;

/// `PyGreenlet.pimpl`.
const PIMPL: u64 = crate::layout::PIMPL as u64;
/// Bytes of an implementation object that are read.
const IMPL_BYTES: usize = crate::layout::IMPL_BYTES;
/// Bytes of a Python-side greenlet that are read.
const OBJECT_BYTES: usize = 40;

/// Block sizes that hold an implementation object in every greenlet from 2.0 on.
const LIKELY_BYTES: RangeInclusive<u64> = 128..=384;

/// What a greenlet is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GreenletState {
    /// Created, never switched to.
    NotStarted,
    /// Switched to for the first time, and not on its thread's stack yet.
    Starting,
    /// On its thread's stack right now.
    Running,
    /// Switched away from.
    Suspended,
    /// Ended, but still referenced.
    Dead,
}

/// One greenlet as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GreenletRecord {
    /// The Python object: its identity.
    pub object: u64,
    /// The implementation object.
    pub implementation: u64,
    /// Its type.
    pub class: u64,
    /// Its state.
    pub state: GreenletState,
    /// Frame object of a suspended greenlet, else zero.
    pub top_frame: u64,
    /// It is a thread's main greenlet.
    pub is_main: bool,
    /// Its thread's main greenlet; zero if unknown.
    pub main: u64,
    /// Its parent; zero if none or unknown.
    pub parent: u64,
    /// What it will run, until it starts.
    pub run: u64,
    /// Highest address of its C stack; tells its thread.
    pub stack_stop: u64,
    /// A main greenlet's thread state.
    pub thread_state: u64,
    /// All words of the implementation folded into one: differs once it was switched to, even if it came back to the
    /// same frame.
    pub print: u64,
}

/// Finds greenlets: first through the pools of likely sizes, then through those of their own; through the whole heap if
/// there are no pools.
#[derive(Debug, Default)]
pub struct GreenletFinder {
    layout: Option<GreenletLayout>,
    block_bytes: Option<u64>,
}

impl GreenletFinder {
    /// The layout worked out so far.
    pub fn layout(&self) -> Option<&GreenletLayout> {
        self.layout.as_ref()
    }

    /// Implementation objects that are live now, by address. Of those that an earlier search found (`known`, in its
    /// order) it is only seen that they are still there: [`Self::read`] checks the rest.
    pub fn find(
        &mut self,
        python: &Python<'_>,
        module: &GreenletModule,
        maps: &[Mapping],
        known: &[u64],
    ) -> Vec<u64> {
        let (user, main) = (module.user_vtable.unwrap_or(0), module.main_vtable.unwrap_or(0));
        if user == 0 || main == 0 {
            return Vec::new();
        }
        let is_impl = |word: u64| word == user || word == main;
        let candidates = match self.block_bytes {
            Some(size) => pools::blocks(python.memory, maps, size..=size, is_impl),
            None => pools::blocks(python.memory, maps, LIKELY_BYTES, is_impl),
        };
        // No pools: PYTHONMALLOC=malloc, or a debugging allocator that puts its own words in front.
        let candidates = if candidates.is_empty() && self.block_bytes.is_none() {
            pools::words(python.memory, maps, is_impl)
        } else {
            candidates
        };
        if self.layout.is_none() {
            self.layout = candidates.iter().find_map(|&address| {
                let record = python.memory.bytes(address, IMPL_BYTES)?;
                (word_at(&record, 0) == main).then_some(())?;
                let object = own_object(python, address, &record)?;
                calibrate(python.memory, address, object)
            });
        }
        let is_learned = self.knows_pools() && self.layout.is_some_and(|layout| layout.main != 0);
        let is_known = |address: &u64| is_learned && known.binary_search(address).is_ok();
        let unknown: Vec<u64> = candidates.iter().copied().filter(|address| !is_known(address)).collect();
        let confirmed = self.confirm(python, &unknown);
        self.learn(python, &confirmed, user);
        let mut confirmed = confirmed.into_iter().map(|(implementation, _)| implementation).peekable();
        candidates
            .into_iter()
            .filter(|address| is_known(address) || confirmed.next_if_eq(address).is_some())
            .collect()
    }

    /// Keeps the candidates whose Python object points back at them.
    fn confirm(&self, python: &Python<'_>, candidates: &[u64]) -> Vec<(u64, u64)> {
        let Some(layout) = self.layout else { return Vec::new() };
        let at = |offset: usize| candidates.iter().map(|address| address + offset as u64).collect::<Vec<_>>();
        let (objects, read) = python.memory.records(&at(layout.this), 8);
        let objects: Vec<u64> = objects
            .chunks_exact(8)
            .zip(read)
            .map(|(word, ok)| if ok { word_at(word, 0) } else { 0 })
            .collect();
        let back: Vec<u64> = objects.iter().map(|object| object.wrapping_add(PIMPL)).collect();
        let (back, read) = python.memory.records(&back, 8);
        candidates
            .iter()
            .zip(objects)
            .zip(back.chunks_exact(8).zip(read))
            .filter(|((candidate, _), (word, ok))| *ok && word_at(word, 0) == **candidate)
            .map(|((&candidate, object), _)| (candidate, object))
            .collect()
    }

    fn learn(&mut self, python: &Python<'_>, found: &[(u64, u64)], user: u64) {
        let Some(layout) = &mut self.layout else { return };
        if layout.main == 0 {
            let objects: HashSet<u64> = found.iter().map(|&(_, object)| object).collect();
            let mains = mains(python, layout, found);
            for &(implementation, _) in found {
                let Some(record) = python.memory.bytes(implementation, IMPL_BYTES) else { continue };
                if word_at(&record, 0) != user {
                    continue;
                }
                for &main in &mains {
                    if layout.main == 0 {
                        layout.learn_parent(&record, main, |word| objects.contains(&word));
                    }
                }
                if layout.main != 0 {
                    break;
                }
            }
        }
        if self.block_bytes.is_none() && found.len() > 1 {
            let addresses: Vec<u64> = found.iter().map(|&(address, _)| address).collect();
            self.block_bytes = pools::common_block_bytes(python.memory, &addresses);
        }
    }

    /// Reads the state of known greenlets; those that are gone are left out.
    pub fn read(&self, python: &Python<'_>, implementations: &[u64]) -> Vec<GreenletRecord> {
        let Some(layout) = self.layout else { return Vec::new() };
        let mut records: Vec<Option<GreenletRecord>> = vec![None; implementations.len()];
        python.memory.for_each_record(implementations, IMPL_BYTES, &mut |index, record| {
            records[index] = Some(decode(&layout, implementations[index], record));
        });
        // One that was not read names no object: its address is that of no memory.
        let objects: Vec<u64> =
            records.iter().map(|record| record.as_ref().map_or(0, |record| record.object)).collect();
        python.memory.for_each_record(&objects, OBJECT_BYTES, &mut |index, head| {
            if let Some(record) = &mut records[index]
                && word_at(head, PIMPL as usize) == implementations[index]
            {
                record.class = word_at(head, 8);
            }
        });
        let mut records: Vec<GreenletRecord> =
            records.into_iter().flatten().filter(|record| record.class != 0).collect();
        self.settle_running(python, &mut records);
        records
    }

    /// A greenlet without Python frames looks the same running and suspended; its thread knows which runs.
    fn settle_running(&self, python: &Python<'_>, records: &mut [GreenletRecord]) {
        let current: HashMap<u64, u64> = records
            .iter()
            .filter(|record| record.is_main)
            .filter_map(|record| Some((record.object, self.current(python, record.thread_state)?)))
            .collect();
        for record in records.iter_mut().filter(|record| record.state == GreenletState::Running) {
            if current.get(&record.main).is_some_and(|&object| object != record.object) {
                record.state = GreenletState::Suspended;
            }
        }
    }

    /// Whether a search reads only the pools of the right size.
    pub fn knows_pools(&self) -> bool {
        self.block_bytes.is_some()
    }

    /// The greenlet a thread runs, from its greenlet thread state.
    pub fn current(&self, python: &Python<'_>, thread_state: u64) -> Option<u64> {
        python.field(thread_state, 8).filter(|&object| object != 0)
    }
}

/// The word in an implementation object that leads to the Python object it belongs to.
fn own_object(python: &Python<'_>, implementation: u64, record: &[u8]) -> Option<u64> {
    (8..record.len() - 7)
        .step_by(8)
        .map(|offset| word_at(record, offset))
        .filter(|&word| word > 4096 && word % 8 == 0)
        .find(|&word| python.field(word, PIMPL) == Some(implementation))
}

/// The objects of main greenlets: their stacks have no upper end.
fn mains(python: &Python<'_>, layout: &GreenletLayout, found: &[(u64, u64)]) -> Vec<u64> {
    let stops: Vec<u64> =
        found.iter().map(|&(implementation, _)| implementation + layout.stack_stop as u64).collect();
    let mut mains = Vec::new();
    python.memory.for_each_record(&stops, 8, &mut |index, stop| {
        if word_at(stop, 0) == u64::MAX {
            mains.push(found[index].1);
        }
    });
    mains
}

/// Whether one with an upper but no lower end of its stack is being started rather than dead.
///
/// `g_initialstub` writes the upper end before the switch, and `inner_bootstrap` the lower one after it (`set_active`). Only
/// then it takes the arguments, and gives up or replaces `_run_callable`; both are cleared before the lower end is at the
/// greenlet's end (`set_inactive`). A subclass with a method `run` has no `_run_callable`, but arguments.
fn is_starting(layout: &GreenletLayout, record: &[u8]) -> bool {
    /// `SwitchingArgs`: positional and keyword arguments, in front of the stack state.
    const ARGUMENTS: [usize; 2] = [16, 8];
    let has_run = layout.run != 0 && word_at(record, layout.run) != 0;
    has_run
        || ARGUMENTS.iter().any(|&before| {
            layout.stack_start.checked_sub(before).is_some_and(|offset| word_at(record, offset) != 0)
        })
}

/// What an implementation object says; the class is its Python object's to say.
fn decode(layout: &GreenletLayout, implementation: u64, record: &[u8]) -> GreenletRecord {
    let object = word_at(record, layout.this);
    let word = |offset: usize| if offset == 0 { 0 } else { word_at(record, offset) };
    let stack_stop = word(layout.stack_stop);
    let is_main = stack_stop == u64::MAX;
    let top_frame = word(layout.top_frame);
    let state = if stack_stop == 0 {
        GreenletState::NotStarted
    } else if word(layout.stack_start) == 0 {
        if is_starting(layout, record) { GreenletState::Starting } else { GreenletState::Dead }
    } else if top_frame == 0 {
        GreenletState::Running
    } else {
        GreenletState::Suspended
    };
    let user = |offset: usize| if is_main { 0 } else { word(offset) };
    GreenletRecord {
        object,
        implementation,
        class: 0,
        state,
        top_frame: if state == GreenletState::Suspended { top_frame } else { 0 },
        is_main,
        main: if is_main { object } else { user(layout.main) },
        parent: user(layout.parent),
        run: match state {
            GreenletState::NotStarted | GreenletState::Starting => user(layout.run),
            _ => 0,
        },
        stack_stop,
        thread_state: if is_main { word(layout.thread_state) } else { 0 },
        print: record.chunks_exact(8).fold(0, |print: u64, word| {
            (print.rotate_left(5) ^ word_at(word, 0)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As greenlet 3.5 on CPython 3.11 to 3.13 has it.
    const LAYOUT: GreenletLayout = GreenletLayout {
        this: 8,
        stack_start: 56,
        stack_stop: 64,
        top_frame: 104,
        main: 168,
        run: 176,
        parent: 184,
        thread_state: 176,
    };
    const ARGUMENTS: usize = 40;

    fn state(words: &[(usize, u64)]) -> GreenletState {
        let mut record = [0; IMPL_BYTES];
        for &(offset, word) in words {
            record[offset..offset + 8].copy_from_slice(&word.to_le_bytes());
        }
        decode(&LAYOUT, 0x1000, &record).state
    }

    #[test]
    fn a_greenlet_that_is_being_started_is_not_dead() {
        let (run, arguments, stop) = ((LAYOUT.run, 0x5000), (ARGUMENTS, 0x6000), (LAYOUT.stack_stop, 0x7000));
        let main = (LAYOUT.main, 0x8000);
        // 1. It has something to run, and `switch` leaves it the arguments.
        assert_eq!(state(&[run]), GreenletState::NotStarted);
        assert_eq!(state(&[run, arguments]), GreenletState::NotStarted);
        // 2. `g_initialstub` gives it the upper end of its stack and a main greenlet, and switches.
        assert_eq!(state(&[run, arguments, stop]), GreenletState::Starting);
        assert_eq!(state(&[run, arguments, stop, main]), GreenletState::Starting);
        // 3. `inner_bootstrap` marks it active, then takes the arguments and what it is to run.
        let active = (LAYOUT.stack_start, 1);
        assert_eq!(state(&[run, arguments, stop, main, active]), GreenletState::Running);
        assert_eq!(state(&[stop, main, active]), GreenletState::Running);
        // 4. It waits.
        let waits = [run, stop, main, (LAYOUT.stack_start, 0x6f00), (LAYOUT.top_frame, 0x9000)];
        assert_eq!(state(&waits), GreenletState::Suspended);
        // 5. It ends: what it ran and the arguments are given up before the lower end of its stack.
        assert_eq!(state(&[stop, main, active]), GreenletState::Running);
        assert_eq!(state(&[stop, main]), GreenletState::Dead);
    }

    #[test]
    fn one_with_a_method_run_is_told_by_its_arguments() {
        let stop = (LAYOUT.stack_stop, 0x7000);
        assert_eq!(state(&[(ARGUMENTS, 0x6000), stop]), GreenletState::Starting);
        assert_eq!(state(&[(ARGUMENTS + 8, 0x6000), stop]), GreenletState::Starting);
        assert_eq!(state(&[stop]), GreenletState::Dead);
    }

    #[test]
    fn what_one_that_starts_will_run_is_known() {
        let mut record = [0; IMPL_BYTES];
        record[LAYOUT.run..][..8].copy_from_slice(&0x5000_u64.to_le_bytes());
        record[LAYOUT.stack_stop..][..8].copy_from_slice(&0x7000_u64.to_le_bytes());
        assert_eq!(decode(&LAYOUT, 0x1000, &record).run, 0x5000);
    }
}
