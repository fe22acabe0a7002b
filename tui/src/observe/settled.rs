//! Stacks of threads that run while they are read.
//!
//! A frame is read through the pointer in the one it called, microseconds later: by then it may have returned, and another
//! function's frame, or another green thread's C stack, may stand where it was. So a chain counts only if all of it, its head
//! and the count of switches are found the same by a second read, and if it ends as a whole one does
//! (`decode::frames`). A thread that is never found so may still have a part that stands still while what it calls comes and
//! goes: that part is shown, and said to be cut. Where there is none, no frame is shown, and the stack is counted as torn.

use crate::decode::{ChainEnd, Python, RawFrame, ThreadRecord, Walk};

/// What a thread was found to run.
#[derive(Debug, Clone, Default)]
pub struct Running {
    /// Its stack.
    pub walk: Walk,
    /// The greenlet on it, zero without greenlets.
    pub greenlet: u64,
    /// No moment was found at which its stack could be read.
    pub is_torn: bool,
}

/// A round takes some ten microseconds; a thread that switched in each of so many is given up.
const ROUNDS: usize = 12;
/// `ThreadState::current_greenlet`, behind the main one (greenlet 2.0 on).
const CURRENT_GREENLET: u64 = 8;

/// The stacks of all threads; `greenlet_states` are greenlet's states of them, zero without greenlets.
pub fn running_stacks(
    python: &Python<'_>,
    records: &[ThreadRecord],
    greenlet_states: &[u64],
) -> Vec<Running> {
    records
        .iter()
        .zip(greenlet_states)
        .map(|(record, &greenlet_state)| {
            let current = || python.field(greenlet_state, CURRENT_GREENLET).unwrap_or(0);
            running_stack(python, *record, if greenlet_state == 0 { &|| 0 } else { &current })
        })
        .collect()
}

fn running_stack(python: &Python<'_>, record: ThreadRecord, current: &dyn Fn() -> u64) -> Running {
    let mut head = record;
    let mut last: Option<(u64, Walk)> = None;
    let mut steady = Walk::default();
    for _ in 0..ROUNDS {
        let Some(now) = python.thread_at(head.state) else { break };
        head = now;
        let greenlet = current();
        let walk = python.walk(&[head.frame]).pop().unwrap_or_default();
        if walk.is_whole() && python.is_still(&head, &walk) && current() == greenlet {
            return Running { walk, greenlet, is_torn: false };
        }
        match &last {
            Some((version, before)) if *version == head.context_version => {
                let tail =
                    if walk.end == ChainEnd::Entry { common_tail(&before.frames, &walk.frames) } else { &[] };
                if tail.len() > steady.frames.len() {
                    steady = Walk { frames: tail.to_vec(), is_cut: true, ..walk.clone() };
                }
            }
            // Another green thread's frames say nothing about this one's.
            _ => steady = Walk::default(),
        }
        last = Some((head.context_version, walk));
    }
    let is_torn = steady.frames.is_empty();
    Running { walk: if is_torn { Walk::torn() } else { steady }, greenlet: current(), is_torn }
}

/// The outermost frames that two walks have in common.
fn common_tail<'a>(one: &[RawFrame], other: &'a [RawFrame]) -> &'a [RawFrame] {
    let both = one.iter().rev().zip(other.iter().rev());
    let common = both.take_while(|(one, other)| one.is_same(other)).count();
    &other[other.len() - common..]
}

#[cfg(test)]
mod tests {
    use super::super::unchanged::switches;
    use super::*;
    use crate::layout::{PythonLayout, PythonVersion};
    use crate::remote::{Image, Interpreter, Memory, Request, TypeAddresses};
    use std::cell::Cell;

    const INTERPRETER: u64 = 0x100;
    const STATE: u64 = 0x1000;
    const CFRAME: u64 = 0x7f00;
    const SHIM: u64 = 0x7f40;
    const INNER: u64 = 0x3000;
    const OTHER: u64 = 0x3100;
    const OUTER: u64 = 0x3200;
    const C_STACK: u8 = 3;

    fn interpreter(minor: u8) -> Interpreter {
        let version = PythonVersion { major: 3, minor, micro: 0 };
        Interpreter {
            version,
            layout: PythonLayout::of(version).expect("a version that is understood"),
            runtime: 0,
            interpreter: INTERPRETER,
            gil: 0,
            types: TypeAddresses::default(),
            file: String::new(),
        }
    }

    fn put(bytes: &mut [u8], offset: usize, word: u64) {
        bytes[offset..offset + 8].copy_from_slice(&word.to_le_bytes());
    }

    /// A thread with one chain: `(frame, previous, owner)` each, the first one innermost.
    fn image(minor: u8, version: u64, frames: &[(u64, u64, u8)]) -> Image {
        let layout = interpreter(minor).layout;
        let (mut state, mut cframe) = (vec![0; 264], vec![0; 24]);
        put(&mut state, layout.thread_interp, INTERPRETER);
        put(&mut state, layout.thread_context_version, version);
        put(&mut state, layout.thread_frame, if layout.has_cframe { CFRAME } else { frames[0].0 });
        put(&mut cframe, layout.cframe_frame, frames[0].0);
        let mut image = Image::default();
        image.place(STATE, state).place(CFRAME, cframe);
        for &(address, previous, owner) in frames {
            let mut record = vec![0; layout.frame.header_bytes];
            put(&mut record, layout.frame.code, address + 0x1_0000);
            put(&mut record, layout.frame.previous, previous);
            record[if minor == 11 { 68 } else { layout.frame.owner }] = owner;
            image.place(address, record);
        }
        image
    }

    /// Memory that is another one at each read, over and over.
    struct Changing {
        images: Vec<Image>,
        reads: Cell<usize>,
    }

    impl Changing {
        fn new(images: Vec<Image>) -> Self {
            Self { images, reads: Cell::new(0) }
        }

        fn stack(&self, minor: u8) -> Running {
            let interpreter = interpreter(minor);
            let python = Python::new(self, &interpreter);
            let record = python.thread_at(STATE).expect("a thread");
            self.reads.set(0);
            running_stack(&python, record, &|| 0)
        }
    }

    impl Memory for Changing {
        fn read_many(&self, requests: &mut [Request<'_>]) {
            let reads = self.reads.replace(self.reads.get() + 1);
            self.images[reads % self.images.len()].read_many(requests);
        }
    }

    fn addresses(running: &Running) -> Vec<u64> {
        running.walk.frames.iter().map(|frame| frame.address).collect()
    }

    const WHOLE: [(u64, u64, u8); 3] = [(INNER, OUTER, 0), (OUTER, SHIM, 0), (SHIM, 0, C_STACK)];

    #[test]
    fn a_called_frame_that_is_not_linked_yet_is_no_stack() {
        for minor in [12, 13] {
            let unlinked = image(minor, 7, &[(INNER, 0, 0)]);
            let never = Changing::new(vec![unlinked.clone()]).stack(minor);
            assert!(never.is_torn && never.walk.frames.is_empty());
            // It is linked a moment later.
            let memory = Changing::new(vec![image(minor, 7, &WHOLE)]);
            assert_eq!(addresses(&memory.stack(minor)), [INNER, OUTER]);
            let mut images = vec![unlinked; 4];
            images.extend(vec![image(minor, 7, &WHOLE); 40]);
            assert_eq!(addresses(&Changing::new(images).stack(minor)), [INNER, OUTER]);
        }
    }

    #[test]
    fn a_frame_that_c_code_did_not_enter_by_ends_no_chain_of_3_11() {
        let unlinked = Changing::new(vec![image(11, 7, &[(INNER, 0, 0)])]).stack(11);
        assert!(unlinked.is_torn);
        let entered = Changing::new(vec![image(11, 7, &[(INNER, OUTER, 0), (OUTER, 0, 1)])]).stack(11);
        assert_eq!(addresses(&entered), [INNER, OUTER]);
    }

    #[test]
    fn frames_of_a_c_stack_that_another_green_thread_took_over_are_no_stack() {
        // 1. The thread's head and its innermost frame are read, which leads to the C stack.
        // 2. Another green thread runs: where that frame stood is now the end of its own chain.
        // 3. The count of switches rises only at the end of a switch, and is still the same.
        let caller =
            [(INNER, SHIM, 0), (SHIM, OUTER, C_STACK), (OUTER, SHIM + 0x100, 0), (SHIM + 0x100, 0, C_STACK)];
        let taken = image(12, 7, &[(INNER, SHIM, 0), (SHIM, 0, C_STACK)]);
        // Head and its `_PyCFrame`, then the innermost frame.
        let mut images = vec![image(12, 7, &caller); 3];
        images.push(taken);
        images.extend(vec![image(12, 7, &caller); 40]);
        assert_eq!(addresses(&Changing::new(images).stack(12)), [INNER, OUTER]);
    }

    #[test]
    fn of_a_thread_that_calls_and_returns_without_end_the_part_that_stands_still_is_shown_as_cut() {
        let other = [(OTHER, OUTER, 0), (OUTER, SHIM, 0), (SHIM, 0, C_STACK)];
        // A round reads the head, three frames, and all of them again: by then it is another function.
        let (one, other) = (image(13, 7, &WHOLE), image(13, 7, &other));
        let round = |from: &Image, to: &Image| [vec![from.clone(); 4], vec![to.clone()]].concat();
        let running = Changing::new([round(&one, &other), round(&other, &one)].concat()).stack(13);
        assert!(!running.is_torn && running.walk.is_cut);
        assert_eq!(addresses(&running), [OUTER]);
    }

    #[test]
    fn frames_that_were_replaced_where_they_stood_are_noticed_by_the_second_read() {
        let exposed = image(12, 7, &[(INNER, OUTER, 0), (OUTER, 0, 0)]);
        let ran_meanwhile = image(12, 8, &[(INNER, SHIM, 0), (SHIM, OUTER, C_STACK), (OUTER, 0, 0)]);
        let interpreter = interpreter(12);
        let python = Python::new(&exposed, &interpreter);
        let walks = python.walk(&[INNER]);
        assert!(walks[0].is_whole_suspended(12) && !walks[0].is_whole());
        assert_eq!(python.are_still(&[INNER], &walks), [true]);
        let later = Python::new(&ran_meanwhile, &interpreter);
        assert_eq!(later.are_still(&[INNER], &walks), [false]);
    }

    #[test]
    fn a_list_of_threads_that_is_cut_short_never_tells_that_nothing_switched() {
        let interpreter = interpreter(12);
        let listed = |next: u64| {
            let mut image = image(12, 7, &WHOLE);
            let mut head = vec![0; 128];
            put(&mut head, interpreter.layout.interp_threads, STATE);
            image.place(INTERPRETER, head);
            for (_, state) in image.ranges_mut().filter(|(start, _)| **start == STATE) {
                put(state, interpreter.layout.thread_next, next);
            }
            image
        };
        let whole = listed(0);
        assert_eq!(switches(&Python::new(&whole, &interpreter)), Some(vec![(STATE, 7)]));
        // The next one cannot be read, or the list leads back into itself.
        for next in [0xdead_0000, STATE] {
            let cut = listed(next);
            let python = Python::new(&cut, &interpreter);
            assert!(!python.threads().is_empty());
            assert_eq!(switches(&python), None);
        }
    }

    #[test]
    fn a_switch_between_two_reads_makes_nothing_of_both() {
        let first = image(13, 7, &WHOLE);
        let second = image(13, 8, &WHOLE);
        let round = |from: &Image, to: &Image| [vec![from.clone(); 4], vec![to.clone()]].concat();
        let running = Changing::new([round(&first, &second), round(&second, &first)].concat()).stack(13);
        assert!(running.is_torn && running.walk.frames.is_empty());
    }
}
