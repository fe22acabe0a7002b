//! Recognising hubs and event loops by the frames they leave on a stack.

use super::stacks::Located;
use crate::decode::Python;
use crate::state::{Frame, Hub, Labelled};

/// Whether a file belongs to a hub or loop: its frames on top mean that the hub itself waits or works.
pub fn is_hub_file(file: &str) -> bool {
    const PARTS: [&str; 8] = [
        "/eventlet/hubs/",
        "/asyncio/base_events.py",
        "/asyncio/selector_events.py",
        "/asyncio/unix_events.py",
        "/asyncio/runners.py",
        "/gevent/hub.py",
        "/uringhub/",
        "/uvloop/",
    ];
    file.ends_with("/selectors.py") || PARTS.iter().any(|part| file.contains(part))
}

/// The kind of hub that a stack shows, from file names alone.
pub fn hub_kind_of_frames<'f>(mut files: impl Iterator<Item = &'f str>) -> Option<String> {
    files.find_map(|file| {
        let name = file.rsplit('/').next()?.strip_suffix(".py")?;
        if file.contains("/uringhub/") {
            return Some("uringhub".to_owned());
        }
        if file.contains("/eventlet/hubs/") && !matches!(name, "hub" | "__init__" | "timer") {
            return Some(format!("eventlet {name}"));
        }
        if file.ends_with("/gevent/hub.py") {
            return Some("gevent".to_owned());
        }
        None
    })
}

/// The hub whose loop a stack is inside of.
pub fn hub_of_stack(python: &Python<'_>, stack: &[Located]) -> Option<Labelled<Hub>> {
    let mut found = None;
    for located in stack {
        let (file, name) = (&*located.code.file, &*located.code.name);
        let is_eventlet_run = name == "run" && file.contains("/eventlet/hubs/");
        let is_own_run = file.contains("/uringhub/") && matches!(name, "run" | "run_forever");
        let is_gevent_run = name == "run" && file.ends_with("/gevent/hub.py");
        let is_asyncio_run = name == "run_forever" && file.ends_with("/asyncio/base_events.py");
        if !(is_eventlet_run || is_own_run || is_gevent_run || is_asyncio_run) {
            continue;
        }
        let class = located.local(python, "self").and_then(|object| python.class_path(object));
        found = Some(Labelled::exact(Hub { kind: kind_of(class.as_deref(), is_asyncio_run), driver: None }));
        // Eventlet's asyncio hub runs a loop inside its own `run`: the outer frame names it better.
        if !is_asyncio_run {
            break;
        }
    }
    found
}

fn kind_of(class: Option<&str>, is_asyncio: bool) -> String {
    let Some(class) = class else { return if is_asyncio { "asyncio" } else { "hub" }.to_owned() };
    if let Some(rest) = class.strip_prefix("eventlet.hubs.") {
        return format!("eventlet {}", rest.split('.').next().unwrap_or(rest));
    }
    for known in ["uringhub", "uvloop", "gevent"] {
        if class.starts_with(known) {
            return known.to_owned();
        }
    }
    if class.starts_with("asyncio.") || class.contains("SelectorEventLoop") {
        "asyncio".to_owned()
    } else {
        class.to_owned()
    }
}

/// Whether a frame belongs to the library that runs a green thread rather than to what it runs.
pub fn is_machinery(frame: &Frame) -> bool {
    const PARTS: [&str; 7] = [
        "/eventlet/greenthread.py",
        "/eventlet/greenpool.py",
        "/eventlet/hubs/",
        "/gevent/greenlet.py",
        "/gevent/hub.py",
        "/gevent/baseserver.py",
        "/uringhub/",
    ];
    PARTS.iter().any(|part| frame.file.contains(part))
}
