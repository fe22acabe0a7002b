//! Which processes on this machine could be observed.

use crate::remote::Proc;
use serde::Serialize;

/// A Python process that has loaded green threads or an event loop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// Its id.
    pub pid: i32,
    /// What it has loaded: `greenlet`, `gevent`, `asyncio`, `uvloop`, `uringhub`.
    pub worlds: Vec<&'static str>,
    /// Its arguments.
    pub command: String,
}

/// Lists them; processes we may not look into are left out and counted.
pub fn candidates() -> (Vec<Candidate>, usize) {
    let mut found = Vec::new();
    let mut refused = 0;
    let own = std::process::id() as i32;
    let Ok(entries) = std::fs::read_dir("/proc") else { return (found, refused) };
    for pid in entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok()) {
        let process = Proc::new(pid);
        let maps = match process.text("maps") {
            Ok(maps) => maps,
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                refused += 1;
                continue;
            }
            Err(_) => continue,
        };
        const MODULES: [(&str, &str); 5] = [
            ("/greenlet/_greenlet.", "greenlet"),
            ("/gevent/", "gevent"),
            ("/_asyncio.", "asyncio"),
            ("/uvloop/", "uvloop"),
            ("/uringhub/", "uringhub"),
        ];
        let worlds: Vec<&str> =
            MODULES.iter().filter(|(part, _)| maps.contains(part)).map(|&(_, name)| name).collect();
        if !worlds.is_empty() && pid != own {
            found.push(Candidate { pid, worlds, command: process.command_line() });
        }
    }
    found.sort_by_key(|candidate| candidate.pid);
    (found, refused)
}
