//! Which driver uringhub runs on, told from outside.

use crate::remote::{Activity, Proc};
use std::collections::HashMap;

/// Drivers by thread state; a hub keeps its driver for life.
#[derive(Debug, Default)]
pub struct Drivers {
    known: HashMap<u64, &'static str>,
}

const IO_URING: &str = "io_uring";
const EPOLL: &str = "epoll";
/// Descriptors looked at: a driver opens its own before the first connection.
const FDS_LIMIT: usize = 256;

impl Drivers {
    /// The driver of the hub on a thread: by the call it waits in, or by the one kind of driver that the process has
    /// open; `None` while neither tells.
    pub fn of(
        &mut self,
        process: &Proc,
        thread_state: u64,
        activity: Option<Activity>,
    ) -> Option<&'static str> {
        if let Some(driver) = self.known.get(&thread_state) {
            return Some(driver);
        }
        let driver = activity.and_then(waits_in).or_else(|| only_open(process))?;
        self.known.insert(thread_state, driver);
        Some(driver)
    }
}

fn waits_in(activity: Activity) -> Option<&'static str> {
    match activity {
        Activity::Call { number: 426, .. } => Some(IO_URING),
        Activity::Call { number: 232 | 281 | 441, .. } => Some(EPOLL),
        _ => None,
    }
}

fn only_open(process: &Proc) -> Option<&'static str> {
    let links: Vec<String> =
        process.fds().into_iter().take(FDS_LIMIT).filter_map(|fd| process.fd_link(fd)).collect();
    let is_open = |name: &str| links.iter().any(|link| link == name);
    match (is_open("anon_inode:[io_uring]"), is_open("anon_inode:[eventpoll]")) {
        (true, false) => Some(IO_URING),
        (false, true) => Some(EPOLL),
        _ => None,
    }
}
