//! Waits inside the primitives of `uringhub.sync`, which look alike in green threads and tasks: a waiter is woken, and the
//! frames around it tell what for.

use super::stacks::Located;
use super::wait::plain;
use crate::decode::Python;
use crate::state::{NodeId, Trust, Wait, WaitKind};

const FILE: &str = "/uringhub/sync.py";

/// The wait of a stack or await chain, innermost first, if it is inside such a primitive.
pub fn sync_wait(python: &Python<'_>, stack: &[Located]) -> Option<Wait> {
    let inside: Vec<&Located> =
        stack.iter().skip_while(|located| !is_ours(located)).take_while(|located| is_ours(located)).collect();
    // A queue waits in a semaphore of its own: the outermost call is the one that the program made.
    let called = inside.iter().rev().find(|located| !located.code.name.starts_with("__")).or(inside.last())?;
    let object = called.local(python, "self")?;
    let method = called.code.name.trim_end_matches("_async");
    let (kind, text) = match (python.type_name_of(object)?.as_str(), method) {
        ("Queue", method) => (WaitKind::Queue, format!("queue {method}")),
        ("Event", _) => (WaitKind::Event, "event".to_owned()),
        (class, "acquire") => (WaitKind::Lock, class.to_lowercase()),
        _ => return None,
    };
    Some(Wait { object: Some(NodeId(object)), ..plain(kind, text, Trust::Exact) })
}

fn is_ours(located: &Located) -> bool {
    located.code.file.ends_with(FILE)
}
