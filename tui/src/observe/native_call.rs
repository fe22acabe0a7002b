//! The native function a green thread is inside of: it leaves no Python frame, but its caller's value stack
//! holds the method and the object that it was called on.

use super::stacks::Located;
use super::wait::{plain, sleep_text, socket_fd};
use crate::decode::Python;
use crate::state::{NodeId, Trust, Wait, WaitKind};

/// Slots of the value stack looked at.
pub const SLOTS: usize = 12;
/// Classes whose methods uringhub replaces.
const CLASSES: [&str; 6] = ["GreenSocket", "GreenThread", "Event", "Semaphore", "LightQueue", "Queue"];

/// What a green thread waits for inside a native method of uringhub; inferred, since a slot above the call may still
/// hold an earlier one.
pub fn native_wait(python: &Python<'_>, caller: &Located) -> Option<Wait> {
    let slots = python.value_stack(caller.raw.address, caller.code.locals.len(), SLOTS)?;
    (1..slots.len()).find_map(|next| {
        let (name, object) = method_call(python, slots[next - 1], slots[next])?;
        if name == "sleep" && python.type_name_of(object)? == "module" {
            // From 3.13 on an empty slot, for an instance, stands between a function and its arguments.
            let argument = slots[next..].iter().take(2).find(|&&slot| slot != 0);
            return Some(sleep(argument.and_then(|&argument| python.number(argument))));
        }
        let mut class = None;
        python.inherits(python.type_of(object)?, |base| {
            let name = python.type_name(base).unwrap_or_default();
            class = CLASSES.into_iter().find(|known| name.rsplit('.').next() == Some(known));
            class.is_some()
        });
        wait_in(python, class?, &name, object)
    })
}

/// `eventlet.sleep` with its argument.
fn sleep(seconds: Option<f64>) -> Wait {
    let kind = if seconds == Some(0.0) { WaitKind::Turn } else { WaitKind::Sleep };
    let text = seconds.map_or("sleep".to_owned(), sleep_text);
    Wait { seconds, ..plain(kind, text, Trust::Inferred) }
}

/// Name and instance of a method that is called: an unbound one with its instance behind it, or one bound to it.
fn method_call(python: &Python<'_>, callable: u64, next: u64) -> Option<(String, u64)> {
    const DESCRIPTOR_NAME: u64 = 24;
    const FUNCTION_DEFINITION: u64 = 16;
    const FUNCTION_SELF: u64 = 24;
    if callable == 0 {
        return None;
    }
    match python.type_name_of(callable)?.as_str() {
        "method_descriptor" if next != 0 => {
            Some((python.string(python.field(callable, DESCRIPTOR_NAME)?)?, next))
        }
        "builtin_function_or_method" => {
            // `PyMethodDef` starts with the name.
            let name = python.field(python.field(callable, FUNCTION_DEFINITION)?, 0)?;
            let object = python.field(callable, FUNCTION_SELF).filter(|&object| object != 0)?;
            Some((python.c_string(name, 64)?, object))
        }
        _ => None,
    }
}

fn wait_in(python: &Python<'_>, class: &str, name: &str, object: u64) -> Option<Wait> {
    let of = |kind, text: String| Wait { object: Some(NodeId(object)), ..plain(kind, text, Trust::Inferred) };
    match class {
        "GreenSocket" => {
            let kind = if name.starts_with("send") { WaitKind::Write } else { WaitKind::Read };
            let fd = python.attribute(object, "fd").and_then(|socket| socket_fd(python, socket));
            Some(Wait { fd, ..plain(kind, name, Trust::Inferred) })
        }
        "GreenThread" => Some(of(WaitKind::GreenThread, "green thread to end".to_owned())),
        "Event" => Some(of(WaitKind::Event, "event".to_owned())),
        "Semaphore" => Some(of(WaitKind::Lock, "lock or semaphore".to_owned())),
        "LightQueue" | "Queue" => Some(of(WaitKind::Queue, format!("queue {name}"))),
        _ => None,
    }
}
