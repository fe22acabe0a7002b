//! News from a process: looks twice a second from a thread of its own, with the watcher's stalls in between.

use super::model::Update;
use crate::observe::{LookError, Observer};
use crate::remote::AttachError;
use crate::watch::{WatchConfig, WatchEvent, Watcher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two looks.
const REFRESH: Duration = Duration::from_millis(500);
/// A look that costs much is followed by a rest of so many times its cost: looking stays below 4 % of a processor.
const REST: u32 = 24;
/// But the screens are never older than this, and the time of a look.
const REST_LIMIT: Duration = Duration::from_secs(2);
/// An end of the feed is noticed within this time.
const POLL: Duration = Duration::from_millis(50);

/// A running feed; dropping it ends its threads.
#[derive(Debug)]
pub struct Feed {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    updates: Receiver<Update>,
}

impl Feed {
    /// Attaches to a process.
    pub fn start(pid: i32, config: WatchConfig) -> Result<Self, AttachError> {
        let observer = Observer::attach(pid)?;
        let (watcher, stalls) = Watcher::start(pid, config)?;
        let (sender, updates) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let run = move || {
            follow(observer, &stalls, &sender, &stopped);
            drop(watcher);
        };
        let thread = std::thread::Builder::new()
            .name("evtop-look".to_owned())
            .spawn(run)
            .map_err(|source| AttachError::System { pid, operation: "start looking", source })?;
        Ok(Self { stop, thread: Some(thread), updates })
    }

    /// The next news, if there is any.
    pub fn next(&self) -> Option<Update> {
        self.updates.try_recv().ok()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

fn follow(
    mut observer: Observer,
    stalls: &Receiver<WatchEvent>,
    updates: &Sender<Update>,
    stop: &AtomicBool,
) {
    let mut due = Instant::now();
    let mut is_watching = true;
    while !stop.load(Ordering::Acquire) {
        if Instant::now() >= due {
            let started = Instant::now();
            super::terminal::panic_if_asked("look");
            let update = match observer.look() {
                Ok(snapshot) => Update::Snapshot(Box::new(snapshot)),
                Err(error) => {
                    end(&error, stalls, updates);
                    return;
                }
            };
            if updates.send(update).is_err() {
                return;
            }
            due = started + REFRESH.max((started.elapsed() * REST).min(started.elapsed() + REST_LIMIT));
        }
        let rest = due.saturating_duration_since(Instant::now()).min(POLL);
        if !is_watching {
            std::thread::sleep(rest);
            continue;
        }
        match stalls.recv_timeout(rest) {
            Ok(event) => forward(event, updates),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => is_watching = false,
        }
    }
}

/// The process has ended: the watcher finds out too, and closes what was open.
fn end(error: &LookError, stalls: &Receiver<WatchEvent>, updates: &Sender<Update>) {
    let deadline = Instant::now() + Duration::from_secs(2);
    while let Ok(event) = stalls.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        if matches!(event, WatchEvent::Ended(_)) {
            break;
        }
        forward(event, updates);
    }
    // The screens may be gone already.
    let _ = updates.send(Update::Ended(error.to_string()));
}

fn forward(event: WatchEvent, updates: &Sender<Update>) {
    let update = match event {
        WatchEvent::Stall(stall) => Update::Stall(stall),
        WatchEvent::Counters(counters) => Update::Counters(counters),
        WatchEvent::Blocked(blocked) => Update::Blocked(blocked),
        // The next look says so too, with its own sentence.
        WatchEvent::Ended(_) => return,
    };
    let _ = updates.send(update);
}
