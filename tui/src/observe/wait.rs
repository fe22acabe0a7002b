//! What a suspended green thread waits for, from the frames it was suspended in.

use super::native_call::native_wait;
use super::stacks::Located;
use super::sync::sync_wait;
use crate::decode::Python;
use crate::remote::int_at;
use crate::state::{NodeId, Trust, Wait, WaitKind};

/// A wait of a kind, with nothing else known.
pub fn plain(kind: WaitKind, text: impl Into<String>, trust: Trust) -> Wait {
    Wait {
        kind,
        text: text.into(),
        fd: None,
        target: None,
        seconds: None,
        object: None,
        holders: None,
        timeout: None,
        trust,
    }
}

/// A sleep ends by itself: nobody asks for a limit around it.
pub fn can_be_limited(wait: &Wait) -> bool {
    !matches!(wait.kind, WaitKind::Sleep | WaitKind::Turn)
}

/// A sleep for people: 0.15 + 0.3 is 0.45.
pub fn sleep_text(seconds: f64) -> String {
    format!("sleep {} s", (seconds * 1e6).round() / 1e6)
}

/// The wait of a green thread; its stack is innermost first.
pub fn wait_of(python: &Python<'_>, stack: &[Located]) -> Option<Wait> {
    let Some(from) = stack.iter().position(|located| !is_switch(located)) else {
        return Some(plain(WaitKind::Other, "native code (no Python frame)", Trust::Inferred));
    };
    let stack = &stack[from..];
    let (inner, outer) = stack.split_first()?;
    let file = &*inner.code.file;
    if file.contains("/eventlet/") || file.contains("/uringhub/") {
        return eventlet_wait(python, inner, outer);
    }
    if file.contains("/gevent/") {
        return gevent_wait(python, inner);
    }
    native_wait(python, inner).or_else(|| {
        Some(plain(WaitKind::Other, format!("switched away in {}", inner.code.name), Trust::Inferred))
    })
}

/// Frames that only hand control to the hub.
pub fn is_switch(located: &Located) -> bool {
    matches!(&*located.code.name, "switch" | "switch_to_hub" | "_switch")
        && (located.code.file.contains("/eventlet/hubs/") || located.code.file.contains("/uringhub/"))
}

fn eventlet_wait(python: &Python<'_>, inner: &Located, outer: &[Located]) -> Option<Wait> {
    let is_in = |file: &str| inner.code.file.ends_with(file);
    let number = |name: &str| inner.local(python, name).and_then(|value| python.number(value));
    if &*inner.code.name == "trampoline" {
        return Some(descriptor_wait(python, inner, outer));
    }
    if &*inner.code.name == "sleep" {
        let seconds = number("seconds");
        let kind = if seconds == Some(0.0) { WaitKind::Turn } else { WaitKind::Sleep };
        let text = seconds.map_or("sleep".to_owned(), sleep_text);
        return Some(Wait { seconds, ..plain(kind, text, Trust::Exact) });
    }
    let object = inner.local(python, "self");
    let named = |kind, text: &str, object: Option<u64>| {
        Some(Wait {
            object: object.map(NodeId),
            seconds: number("timeout"),
            ..plain(kind, text, Trust::Exact)
        })
    };
    // uringhub's own body of `GreenThread.wait` keeps its name.
    let is_greenthread = is_in("/eventlet/greenthread.py") || is_in("/uringhub/_primitives.py");
    if is_greenthread && &*inner.code.name == "wait" {
        return named(WaitKind::GreenThread, "green thread to end", object);
    }
    if let Some(wait) = sync_wait(python, outer) {
        return Some(wait);
    }
    if is_bridge(inner) {
        return Some(bridge_wait(python, inner));
    }
    if is_in("/eventlet/event.py") {
        return event_wait(python, outer).or_else(|| named(WaitKind::Event, "event", object));
    }
    if is_in("/eventlet/semaphore.py") {
        let (kind, text) = threading_purpose(outer).unwrap_or((WaitKind::Lock, "lock or semaphore"));
        return named(kind, text, object);
    }
    if is_in("/eventlet/queue.py") {
        let by = outer.iter().find(|located| matches!(&*located.code.name, "get" | "put" | "join"));
        let text = by.map_or("queue".to_owned(), |located| format!("queue {}", located.code.name));
        let queue = by.and_then(|located| located.local(python, "self"));
        return named(WaitKind::Queue, &text, queue.or(object));
    }
    // `Event.wait` leaves no frame where it is native.
    if is_in("/eventlet/greenpool.py") && &*inner.code.name == "waitall" {
        return Some(plain(WaitKind::GreenThread, "pool to drain", Trust::Exact));
    }
    if is_in("/eventlet/tpool.py") {
        return named(WaitKind::ThreadPool, "thread pool", None);
    }
    if is_in("/eventlet/green/os.py") || is_in("/eventlet/green/subprocess.py") {
        return named(WaitKind::Subprocess, "child process", None);
    }
    if is_in("/eventlet/green/select.py") {
        return named(WaitKind::Read, "green select", None);
    }
    // Eventlet's own code waits by the native methods too, as a full GreenPool does for its semaphore.
    native_wait(python, inner).or_else(|| {
        let text = format!("{} in {}", inner.code.name, base_name(&inner.code.file));
        Some(plain(WaitKind::Other, text, Trust::Inferred))
    })
}

/// `eventlet.asyncio.spawn_for_awaitable` or `uringhub.await_`: a green thread waits for a future in `future`.
pub fn is_bridge(located: &Located) -> bool {
    located.is_in("/eventlet/asyncio.py", "_run") || located.is_in("/uringhub/_worlds.py", "await_")
}

fn bridge_wait(python: &Python<'_>, located: &Located) -> Wait {
    let object = located.local(python, "future").map(NodeId);
    Wait { object, ..plain(WaitKind::Task, "task to end", Trust::Exact) }
}

/// `eventlet.event.Event.wait` inside `GreenThread.wait`, `GreenPool.waitall`, `tpool.execute`.
fn event_wait(python: &Python<'_>, outer: &[Located]) -> Option<Wait> {
    let caller = outer.first()?;
    if caller.is_in("/eventlet/greenthread.py", "wait") {
        let target = caller.local(python, "self").map(NodeId);
        return Some(Wait {
            object: target,
            ..plain(WaitKind::GreenThread, "green thread to end", Trust::Exact)
        });
    }
    if is_bridge(caller) {
        return Some(bridge_wait(python, caller));
    }
    if caller.is_in("/eventlet/greenpool.py", "waitall") {
        return Some(plain(WaitKind::GreenThread, "pool to drain", Trust::Exact));
    }
    caller
        .code
        .file
        .ends_with("/eventlet/tpool.py")
        .then(|| plain(WaitKind::ThreadPool, "thread pool", Trust::Exact))
}

/// What the threading or queue module uses a semaphore for.
fn threading_purpose(outer: &[Located]) -> Option<(WaitKind, &'static str)> {
    let mut purpose = None;
    for located in outer.iter().take(5) {
        let name = &*located.code.name;
        if located.code.file.ends_with("/threading.py") {
            purpose = match name {
                "wait" if purpose.is_some() => Some((WaitKind::Event, "threading event")),
                "wait" => Some((WaitKind::Condition, "condition")),
                "join" | "_wait_for_tstate_lock" => Some((WaitKind::GreenThread, "thread to end")),
                _ => purpose,
            };
        } else if located.code.file.ends_with("/queue.py") && matches!(name, "get" | "put" | "join") {
            return Some((WaitKind::Queue, "queue"));
        }
    }
    purpose
}

fn descriptor_wait(python: &Python<'_>, inner: &Located, outer: &[Located]) -> Wait {
    let integer = |name: &str| inner.local(python, name).and_then(|value| python.integer(value));
    let fd = integer("fileno").or_else(|| integer("fd")).and_then(|fd| i32::try_from(fd).ok());
    // uringhub's `trampoline` asks a socket for its number without a variable for it.
    let fd = fd.or_else(|| socket_fd(python, inner.local(python, "fd")?));
    let is_write = integer("write").is_some_and(|value| value != 0);
    // The socket method the user called is the outermost frame still inside the green socket's file.
    let operation = outer
        .iter()
        .take_while(|located| {
            located.code.file.contains("/eventlet/") || located.code.file.contains("/uringhub/")
        })
        .filter(|located| located.code.file.contains("/greenio/") || located.code.file.contains("/green/"))
        .last()
        .map(|located| located.code.name.trim_start_matches('_').to_owned());
    let kind = if is_write { WaitKind::Write } else { WaitKind::Read };
    let text = operation.unwrap_or_else(|| if is_write { "write" } else { "read" }.to_owned());
    let seconds = inner.local(python, "timeout").and_then(|value| python.number(value));
    Wait { fd, seconds, ..plain(kind, text, Trust::Exact) }
}

fn gevent_wait(python: &Python<'_>, inner: &Located) -> Option<Wait> {
    let name = &*inner.code.name;
    let is_in = |file: &str| inner.code.file.ends_with(file);
    if is_in("/gevent/hub.py") && name == "sleep" {
        let seconds = inner.local(python, "seconds").and_then(|value| python.number(value));
        let text = seconds.map_or("sleep".to_owned(), sleep_text);
        return Some(Wait { seconds, ..plain(WaitKind::Sleep, text, Trust::Exact) });
    }
    if is_in("/gevent/_socket3.py") || is_in("/gevent/_socketcommon.py") || is_in("/gevent/ssl.py") {
        let fd = inner.local(python, "self").and_then(|socket| socket_fd(python, socket));
        let is_write = matches!(name, "send" | "sendall" | "connect" | "sendto" | "sendmsg");
        let kind = if is_write { WaitKind::Write } else { WaitKind::Read };
        return Some(Wait { fd, ..plain(kind, name.trim_start_matches('_'), Trust::Exact) });
    }
    let (kind, text) = if is_in("/gevent/subprocess.py") || is_in("/gevent/os.py") {
        (WaitKind::Subprocess, "child process")
    } else if is_in("/gevent/threadpool.py") {
        (WaitKind::ThreadPool, "thread pool")
    } else if is_in("/gevent/select.py") {
        (WaitKind::Read, "green select")
    } else {
        return Some(plain(
            WaitKind::Other,
            format!("{name} in {}", base_name(&inner.code.file)),
            Trust::Inferred,
        ));
    };
    Some(plain(kind, text, Trust::Inferred))
}

/// The descriptor of a `socket.socket`, or of a wrapper that holds one.
pub fn socket_fd(python: &Python<'_>, socket: u64) -> Option<i32> {
    let class = python.type_of(socket)?;
    if python.inherits(class, |class| python.type_name(class).as_deref() == Some("_socket.socket")) {
        let mut bytes = [0; 4];
        python.memory.read(socket.checked_add(16)?, &mut bytes)?;
        return Some(int_at(&bytes, 0)).filter(|&fd| fd >= 0);
    }
    let inner = python.attribute(socket, "_sock").or_else(|| python.attribute(socket, "fd"))?;
    (inner != socket).then(|| {
        let class = python.type_of(inner)?;
        let is_socket =
            python.inherits(class, |class| python.type_name(class).as_deref() == Some("_socket.socket"));
        is_socket.then(|| python.int_field(inner, 16)).flatten().filter(|&fd| fd >= 0)
    })?
}

fn base_name(file: &str) -> &str {
    file.rsplit('/').next().unwrap_or(file)
}
