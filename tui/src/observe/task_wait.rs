//! What an asyncio task waits for, from its await chain.

use super::addresses::AddressMap;
use super::children::Awaited;
use super::stacks::Located;
use super::sync::sync_wait;
use super::wait::{plain, sleep_text, socket_fd};
use crate::decode::{Python, TaskRecord, TaskState};
use crate::state::{EdgeKind, NodeId, Trust, Wait, WaitKind};

/// The wait of a task; its chain is innermost first.
pub fn task_wait(
    python: &Python<'_>,
    record: &TaskRecord,
    chain: &[Located],
    on: &Awaited,
    operations: &mut Operations,
) -> Option<Wait> {
    match record.state {
        TaskState::Waiting => {}
        TaskState::Ready | TaskState::Created => {
            return Some(plain(WaitKind::Turn, "its turn", Trust::Inferred));
        }
        _ => return None,
    }
    let awaited = (record.awaited != 0).then_some(NodeId(record.awaited));
    let known = operation_wait(python, record.leaf, operations)
        .or_else(|| chain.iter().find_map(|located| library_wait(python, located)));
    let known = sync_wait(python, chain).or_else(|| wait_for_several(on)).or(known);
    let mut wait = known.unwrap_or_else(|| future_wait(python, record));
    wait.object = wait.object.or(awaited);
    Some(wait)
}

/// The wait of asyncio's own coroutines for tasks.
fn wait_for_several(on: &Awaited) -> Option<Wait> {
    let count = on.tasks.len() + on.cut;
    let (kind, what) = match on.kind? {
        EdgeKind::TaskGroup => (WaitKind::Gather, format!("task group of {count}")),
        EdgeKind::Wait => (WaitKind::Gather, format!("some of {count} tasks")),
        EdgeKind::Shield => (WaitKind::Task, "task behind a shield".to_owned()),
        EdgeKind::Await => (WaitKind::Task, "task to end".to_owned()),
        _ => return None,
    };
    Some(plain(kind, what, Trust::Exact))
}

/// Operations of uringhub's loop: coroutines without a frame (`uringhub.operations`). What is awaited is of few classes, of which
/// each is asked for its name once a look.
#[derive(Debug, Default)]
pub struct Operations {
    classes: AddressMap<u64, bool>,
}

impl Operations {
    /// The method that made an operation; `None` if the object is none.
    pub fn name(&mut self, python: &Python<'_>, object: u64) -> Option<String> {
        let class = python.type_of(object).filter(|_| object != 0)?;
        let is_operation = *self
            .classes
            .entry(class)
            .or_insert_with(|| python.type_name(class).as_deref() == Some("Operation"));
        is_operation.then(|| python.string(python.slot(object, "name")?))?
    }
}

/// The wait of an operation.
fn operation_wait(python: &Python<'_>, object: u64, operations: &mut Operations) -> Option<Wait> {
    let name = operations.name(python, object)?;
    let subject = python.slot(object, "subject");
    if let Some(method) = name.strip_prefix("sock_") {
        let kind = if method == "sendall" { WaitKind::Write } else { WaitKind::Read };
        let fd = subject.and_then(|socket| socket_fd(python, socket));
        return Some(Wait { fd, ..plain(kind, name, Trust::Exact) });
    }
    let fd = subject.and_then(|reader| stream_fd(python, reader));
    Some(Wait { fd, ..plain(WaitKind::Read, "stream", Trust::Exact) })
}

/// A wait inside one of asyncio's own coroutines.
fn library_wait(python: &Python<'_>, located: &Located) -> Option<Wait> {
    let number = |name: &str| located.local(python, name).and_then(|value| python.number(value));
    let object = || located.local(python, "self").map(NodeId);
    let is_in = |file: &str| located.code.file.ends_with(file);
    let name = &*located.code.name;
    if is_in("/asyncio/tasks.py") && name == "sleep" {
        let seconds = number("delay");
        let text = seconds.map_or("sleep".to_owned(), sleep_text);
        return Some(Wait { seconds, ..plain(WaitKind::Sleep, text, Trust::Exact) });
    }
    if is_in("/asyncio/locks.py") {
        let class = located.local(python, "self").and_then(|object| python.type_name_of(object));
        let kind = match class.as_deref() {
            Some("Event") => WaitKind::Event,
            Some("Condition") => WaitKind::Condition,
            _ => WaitKind::Lock,
        };
        let text = class.unwrap_or_else(|| "lock".to_owned()).to_lowercase();
        return Some(Wait { object: object(), ..plain(kind, text, Trust::Exact) });
    }
    if is_in("/asyncio/queues.py") && matches!(name, "get" | "put" | "join") {
        return Some(Wait {
            object: object(),
            ..plain(WaitKind::Queue, format!("queue {name}"), Trust::Exact)
        });
    }
    if is_in("/asyncio/streams.py") {
        let fd = located.local(python, "self").and_then(|stream| stream_fd(python, stream));
        let kind = if name.contains("drain") { WaitKind::Write } else { WaitKind::Read };
        return Some(Wait { fd, ..plain(kind, "stream", Trust::Exact) });
    }
    if name.starts_with("sock_") || name == "_sock_connect" {
        let fd = located.local(python, "sock").and_then(|socket| socket_fd(python, socket));
        let is_write = name.contains("send") || name.contains("connect");
        let kind = if is_write { WaitKind::Write } else { WaitKind::Read };
        return Some(Wait { fd, ..plain(kind, name.trim_start_matches('_'), Trust::Exact) });
    }
    if is_in("/asyncio/threads.py") || name == "run_in_executor" {
        return Some(plain(WaitKind::ThreadPool, "thread pool", Trust::Exact));
    }
    if is_in("/asyncio/subprocess.py") || (name == "_wait" && is_in("/asyncio/base_subprocess.py")) {
        return Some(plain(WaitKind::Subprocess, "child process", Trust::Exact));
    }
    if name == "getaddrinfo" && is_in("/asyncio/base_events.py") {
        return Some(plain(WaitKind::ThreadPool, "name lookup in a thread", Trust::Exact));
    }
    None
}

fn future_wait(python: &Python<'_>, record: &TaskRecord) -> Wait {
    let class = python.type_name_of(record.awaited).unwrap_or_else(|| "future".to_owned());
    let kind = if class.ends_with("Task") {
        WaitKind::Task
    } else if class.ends_with("_GatheringFuture") {
        WaitKind::Gather
    } else {
        WaitKind::Future
    };
    plain(kind, class, Trust::Exact)
}

/// The descriptor below a `StreamReader` or `StreamReaderProtocol`.
fn stream_fd(python: &Python<'_>, stream: u64) -> Option<i32> {
    let transport = python.attribute(stream, "_transport")?;
    if let Some(fd) = python.attribute(transport, "_sock_fd").and_then(|fd| python.integer(fd)) {
        return i32::try_from(fd).ok();
    }
    socket_fd(python, python.attribute(transport, "_sock")?)
}
