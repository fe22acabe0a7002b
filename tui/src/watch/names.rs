//! Naming the peers of sockets, away from the watcher's thread.
//!
//! The kernel lists sockets by walking all of them: on a busy machine one reading takes longer than a stall. The
//! watcher only asks; this thread reads, and passes events on in order, so that a stall leaves with its name.

use super::watcher::WatchEvent;
use crate::remote::{Peers, Proc, socket_inode};
use std::collections::HashSet;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

enum Work {
    Ask(u64),
    Pass(WatchEvent),
}

/// The watcher's end.
#[derive(Debug)]
pub struct Names {
    work: Sender<Work>,
    known: Arc<Mutex<Peers>>,
    asked: HashSet<u64>,
}

/// Socket tables are read again at most this often.
const REST: Duration = Duration::from_millis(50);
/// Inodes remembered as asked for.
const ASKED_LIMIT: usize = 1 << 16;

impl Names {
    /// Starts the thread; events passed to it arrive at `events`.
    pub fn start(process: Proc, events: Sender<WatchEvent>) -> std::io::Result<Self> {
        let (work, jobs) = channel();
        let known = Arc::new(Mutex::new(Peers::default()));
        let shared = known.clone();
        // The thread ends when the watcher drops its sender.
        std::thread::Builder::new()
            .name("evtop-names".to_owned())
            .spawn(move || serve(&process, &jobs, &events, &shared))?;
        Ok(Self { work, known, asked: HashSet::new() })
    }

    /// What a link leads to: a socket's peer if it is known by now, else the link itself.
    pub fn describe(&mut self, link: &str) -> String {
        let Some(inode) = socket_inode(link) else { return link.to_owned() };
        // A reading in progress is not waited for.
        if let Ok(known) = self.known.try_lock()
            && let Some(name) = known.of_inode(inode)
        {
            return name.to_owned();
        }
        if self.asked.len() > ASKED_LIMIT {
            self.asked.clear();
        }
        if self.asked.insert(inode) {
            // The thread ends only after this sender is dropped.
            let _ = self.work.send(Work::Ask(inode));
        }
        link.to_owned()
    }

    /// Passes an event on, named.
    pub fn pass(&self, event: WatchEvent) {
        let _ = self.work.send(Work::Pass(event));
    }
}

fn serve(process: &Proc, jobs: &Receiver<Work>, events: &Sender<WatchEvent>, known: &Mutex<Peers>) {
    let mut read_at: Option<Instant> = None;
    for job in jobs {
        match job {
            Work::Ask(inode) => {
                let is_known = known.lock().unwrap_or_else(PoisonError::into_inner).of_inode(inode).is_some();
                if !is_known && read_at.is_none_or(|at| at.elapsed() > REST) {
                    let fresh = Peers::read(process);
                    known.lock().unwrap_or_else(PoisonError::into_inner).merge(fresh);
                    read_at = Some(Instant::now());
                }
            }
            Work::Pass(mut event) => {
                if let WatchEvent::Stall(stall) = &mut event
                    && let Some(target) = &mut stall.target
                    && let Some(inode) = socket_inode(&target.value)
                    && let Some(name) = known.lock().unwrap_or_else(PoisonError::into_inner).of_inode(inode)
                {
                    name.clone_into(&mut target.value);
                }
                if events.send(event).is_err() {
                    return;
                }
            }
        }
    }
}
