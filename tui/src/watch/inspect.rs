//! The closer look at a thread that stands still.

use super::evidence::{Descriptor, Evidence};
use super::names::Names;
use super::probe::Sample;
use crate::decode::{Python, RawFrame, Walk};
use crate::observe::{Located, Observer};
use crate::remote::{Activity, Memory, NativeCode, int_at};
use crate::state::NodeId;

/// A closer look with the raw frames it saw.
#[derive(Debug)]
pub struct Look {
    /// The facts.
    pub evidence: Evidence,
    /// The frames, to find the task among them.
    pub frames: Vec<RawFrame>,
}

/// Calls whose first argument is a descriptor.
const DESCRIPTOR_CALLS: [i64; 37] = [
    0, 1, 3, 5, 16, 17, 18, 19, 20, 40, 42, 43, 44, 45, 46, 47, 48, 72, 73, 74, 75, 77, 78, 217, 232, 275,
    277, 281, 285, 288, 295, 296, 299, 306, 307, 426, 441,
];

/// A thread that computes may be seen while it calls: its chain is walked until it ends as a whole one does.
const ROUNDS: usize = 4;

/// Looks closer at one thread, which is in this call.
pub fn inspect(
    observer: &mut Observer,
    native: &NativeCode,
    names: &mut Names,
    activity: Activity,
    sample: &Sample,
) -> Look {
    let (stack, frames, c_stack) = read_stack(observer, sample);
    let anchor = if sample.c_stack != 0 { sample.c_stack } else { c_stack.unwrap_or(0) };
    let mut evidence = Evidence {
        activity,
        stack: stack.iter().map(|located| located.frame.clone()).collect(),
        descriptor: None,
        polled: 0,
        path: None,
        libraries: Vec::new(),
        is_resolving: false,
        is_on_gil: false,
        is_collecting: false,
    };
    let python = Python::new(&observer.target().memory, &observer.target().interpreter);
    match activity {
        Activity::Call { number, arguments, stack } => {
            evidence.is_on_gil = number == 202 && python.is_in_gil(arguments[0]);
            let to = if anchor > stack { anchor } else { stack + 2048 };
            fill_native(&mut evidence, native, python.memory, stack, to);
            let fd = descriptor_of(python.memory, number, arguments, &mut evidence.polled);
            evidence.path = path_of(&python, number, arguments);
            evidence.descriptor = fd.and_then(|fd| {
                let link = observer.target().process.fd_link(fd)?;
                let target = names.describe(&link);
                Some(Descriptor { fd, link, target })
            });
        }
        Activity::Running => {
            evidence.is_collecting = python.is_collecting();
            // Without a stack pointer, what lies just below the interpreter loop's frame is the best there is.
            const BELOW: u64 = 2048;
            if anchor != 0 {
                fill_native(&mut evidence, native, python.memory, anchor - BELOW, anchor);
                evidence.libraries.reverse();
                evidence.is_resolving = false;
            }
        }
        Activity::Fault => {}
    }
    Look { evidence, frames }
}

fn fill_native(evidence: &mut Evidence, native: &NativeCode, memory: &dyn Memory, from: u64, to: u64) {
    let (libraries, is_resolving) = native.libraries(memory, from, to);
    evidence.libraries = libraries.into_iter().map(str::to_owned).collect();
    evidence.is_resolving = is_resolving;
}

fn read_stack(observer: &mut Observer, sample: &Sample) -> (Vec<Located>, Vec<RawFrame>, Option<u64>) {
    let python = Python::new(&observer.target.memory, &observer.target.interpreter);
    let mut walk = Walk::default();
    for _ in 0..ROUNDS {
        walk = python.walk(&[sample.frame]).pop().unwrap_or_default();
        if walk.is_whole() {
            break;
        }
    }
    if !walk.is_whole() {
        walk = Walk::torn();
    }
    let (stack, _) = observer.stacks.decode(&python, &walk.frames);
    (stack, walk.frames, walk.shims.first().copied())
}

fn descriptor_of(memory: &dyn Memory, number: i64, arguments: [u64; 6], polled: &mut u64) -> Option<i32> {
    if matches!(number, 7 | 271) {
        *polled = arguments[1];
        let mut record = [0; 4];
        memory.read(arguments[0], &mut record)?;
        return Some(int_at(&record, 0)).filter(|&fd| fd >= 0);
    }
    DESCRIPTOR_CALLS.contains(&number).then_some(arguments[0] as i32).filter(|&fd| fd >= 0)
}

fn path_of(python: &Python<'_>, number: i64, arguments: [u64; 6]) -> Option<String> {
    let at = match number {
        2 | 4 | 6 | 76 | 82..=84 | 87 => arguments[0],
        257 | 262..=264 | 316 | 332 => arguments[1],
        _ => return None,
    };
    python.c_string(at, 512)
}

/// The green thread that a thread runs, from greenlet's state of that thread.
pub fn current_green_thread(observer: &Observer, greenlet_state: u64) -> Option<NodeId> {
    let memory = &observer.target.memory;
    memory.word(greenlet_state.checked_add(8)?).filter(|&object| object != 0).map(NodeId)
}

/// The task whose coroutine is among these frames; in a greenlet of its own, the one asyncio holds for current.
pub fn current_task(observer: &Observer, frames: &[RawFrame]) -> Option<NodeId> {
    let python = Python::new(&observer.target.memory, &observer.target.interpreter);
    let addresses: Vec<u64> = frames.iter().map(|frame| frame.address).collect();
    python.task_of_frames(&addresses).or_else(|| python.current_task()).map(NodeId)
}
