//! The loop: looks at each hub thread up to a thousand times a second, in a thread of its own.

use super::idle::{is_hub_stack, is_idle};
use super::inspect::{current_green_thread, current_task, inspect};
use super::names::Names;
use super::probe::{Probe, Sample};
use super::segment::{Place, Progress, Segment, Step};
use super::stalls::OpenStall;
use super::times::Dismissal;
use crate::decode::{Python, RawFrame};
use crate::observe::{LookError, Observer, Stacks, is_hub_file};
use crate::remote::{Activity, ActivityFile, AttachError, NativeCode, Proc};
use crate::state::{Class, Frame, Snapshot, Stall};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How to watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchConfig {
    /// Shorter stalls are not reported.
    pub threshold: Duration,
    /// Time between looks while anything runs.
    pub step: Duration,
    /// Report when the machine rather than the program kept the hub from running.
    pub reports_run_queue: bool,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self {
            threshold: Duration::from_millis(20),
            step: Duration::from_millis(1),
            reports_run_queue: false,
        }
    }
}

/// What the watcher did and saw besides stalls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct WatchCounters {
    /// Looks.
    pub looks: u64,
    /// Closer looks.
    pub inspections: u64,
    /// Looks that came more than 5 ms late: the watcher itself lacked a processor.
    pub late_looks: u64,
    /// Stretches beyond the threshold in which the hub was ready but had no processor.
    pub starved: u64,
    /// Stretches dropped because waiting for others left less than the threshold.
    pub short: u64,
    /// The longest stretch without a switch since the previous report, in microseconds.
    pub longest_stretch_us: u64,
    /// The watcher runs before other programs, which needs CAP_SYS_NICE.
    pub is_prioritised: bool,
    /// Hub threads watched.
    pub threads: usize,
    /// A stop signal has stopped the process.
    pub is_stopped: bool,
}

/// A hub thread that is blocked now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// The thread.
    pub tid: i32,
    /// For so long at least, in milliseconds.
    pub since_ms: u64,
    /// By what kind of call, most of the time so far.
    pub class: Class,
    /// And where that is.
    pub frame: Arc<Frame>,
}

/// What the watcher says.
#[derive(Debug)]
pub enum WatchEvent {
    /// A stall has ended, or watching has.
    Stall(Box<Stall>),
    /// Twice a second.
    Counters(WatchCounters),
    /// With the counters: who is blocked for longer than the threshold, and still is.
    Blocked(Vec<Blocked>),
    /// The process is gone.
    Ended(LookError),
}

/// Whose code a stack is in. A thread without frames is a hub in native code; one whose frames could not be read in
/// time is merely fast.
fn place_of_stack(stack: &[Arc<Frame>], sample: &Sample) -> Place {
    if stack.is_empty() && sample.frame != 0 {
        Place::Unknown
    } else if is_hub_stack(stack) {
        Place::Hub
    } else {
        Place::User
    }
}

/// A watcher in its own thread; dropping it ends the thread.
#[derive(Debug)]
pub struct Watcher {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Attaches to a process and starts to watch its hub threads.
    pub fn start(pid: i32, config: WatchConfig) -> Result<(Self, mpsc::Receiver<WatchEvent>), AttachError> {
        let observer = Observer::attach(pid)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (events, receiver) = mpsc::channel();
        let stopped = stop.clone();
        let system = |source| AttachError::System { pid, operation: "start the watcher", source };
        let names = Names::start(observer.target().process.clone(), events).map_err(system)?;
        let run = move || Watch::new(observer, config, names).run(&stopped);
        let thread = std::thread::Builder::new().name("evtop-watch".to_owned()).spawn(run).map_err(system)?;
        Ok((Self { stop, thread: Some(thread) }, receiver))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A watcher that panicked has nothing left to say.
            let _ = thread.join();
        }
    }
}

/// A thread without a switch for this long is looked at closer.
const SUSPECT_NS: u64 = 3_000_000;
/// A hub believed idle is checked this often.
const VERIFY_NS: u64 = 4_000_000;
/// Threads are listed again this often.
const LIST_EVERY: Duration = Duration::from_millis(500);
/// The same while no hub was found, growing with each search.
const LIST_SOON: Duration = Duration::from_millis(30);
/// After so many searches in vain, only a hub on a thread's current stack is looked for.
const SEARCHES: u32 = 8;
/// Nice value of the watcher's thread, where permitted.
const PRIORITY: i32 = -15;
/// A late look is one this far behind its time.
const LATE_NS: u64 = 5_000_000;
/// Idle places remembered for one thread.
const PLACES: usize = 8;

struct Watched {
    tid: i32,
    state: u64,
    greenlet_state: u64,
    probe: Probe,
    activity: Option<ActivityFile>,
    segment: Segment,
    idle_places: Vec<(u64, u64)>,
    verified_ns: u64,
    inspected_ns: u64,
    last: Sample,
    open: Option<OpenStall>,
}

impl Watched {
    /// The call the thread is in.
    fn activity(&mut self, process: &Proc) -> io::Result<Activity> {
        let file = match self.activity.take() {
            Some(file) => file,
            None => process.activity_file(self.tid)?,
        };
        self.activity.insert(file).read()
    }
}

struct Watch {
    observer: Observer,
    native: NativeCode,
    config: WatchConfig,
    names: Names,
    threads: Vec<Watched>,
    counters: WatchCounters,
    origin: Instant,
    threads_were_empty: bool,
    searches: u32,
}

impl Watch {
    fn new(observer: Observer, config: WatchConfig, names: Names) -> Self {
        let native = NativeCode::read(&observer.target().process);
        let origin = Instant::now();
        Self {
            observer,
            native,
            config,
            names,
            threads: Vec::new(),
            counters: WatchCounters::default(),
            origin,
            threads_were_empty: true,
            searches: 0,
        }
    }

    fn now_ns(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }

    fn run(mut self, stop: &AtomicBool) {
        // On a machine short of processors a late look blurs the ends of a stall. The thread sleeps 97 % of the time,
        // so going first costs others little; without the permission it goes on as it is.
        self.counters.is_prioritised = rustix::process::setpriority_process(None, PRIORITY).is_ok();
        let mut listed: Option<Instant> = None;
        let mut due = Instant::now();
        let mut previous_ns = self.now_ns();
        while !stop.load(Ordering::Acquire) {
            if listed.is_none_or(|at| at.elapsed() >= self.list_rest()) {
                if let Err(error) = self.list_threads() {
                    self.close_all();
                    self.names.pass(WatchEvent::Ended(error));
                    return;
                }
                listed = Some(Instant::now());
                self.report_counters();
            }
            let now = self.now_ns();
            self.counters.looks += 1;
            self.counters.late_looks += u64::from(now - previous_ns > LATE_NS);
            previous_ns = now;
            let mut threads = std::mem::take(&mut self.threads);
            threads.retain_mut(|watched| self.look(watched));
            let is_quiet =
                threads.iter().all(|watched| watched.segment.certain_ns() == 0 && watched.open.is_none());
            if threads.is_empty() && !self.threads_were_empty {
                // The last thread is gone, and probably the process with it: find out now.
                listed = None;
            }
            self.threads_were_empty = threads.is_empty();
            self.counters.threads = threads.len();
            self.threads = threads;
            // While everything moves, half as often: the first look at which a thread stands still brings the full pace.
            due += if is_quiet { self.config.step * 2 } else { self.config.step };
            let now = Instant::now();
            // Late is late: making up for it would leave nothing to evtop's own looks, which have the usual priority.
            let rest = due.checked_duration_since(now).unwrap_or(self.config.step);
            due = now + rest;
            std::thread::sleep(rest);
        }
        self.close_all();
        self.report_counters();
    }

    /// One look at one thread; `false` once it is gone.
    fn look(&mut self, watched: &mut Watched) -> bool {
        let target = self.observer.target();
        let Some(sample) = watched.probe.look(&target.memory, &target.interpreter.layout) else {
            let now = self.now_ns();
            self.finish(watched, watched.segment.progress(now), true);
            return false;
        };
        let now = self.now_ns();
        let place = (sample.frame, sample.instruction);
        if !watched.segment.is_same(sample.version) {
            let ended = watched.segment.step(now, sample.version, Step::Busy(Place::Unknown));
            self.settle(watched, ended);
            watched.last = sample;
            return true;
        }
        let step = if watched.idle_places.contains(&place) && self.is_still_idle(watched, now) {
            Step::Idle
        } else if watched.segment.certain_ns() < SUSPECT_NS && !watched.idle_places.contains(&place) {
            Step::Busy(self.place_of(&sample))
        } else {
            self.inspect(watched, &sample, now)
        };
        let ended = watched.segment.step(now, sample.version, step);
        self.settle(watched, ended);
        watched.last = sample;
        true
    }

    fn settle(&mut self, watched: &mut Watched, ended: Option<Progress>) {
        if let Some(progress) = ended {
            let stretch_us = progress.certain_ns / 1000;
            self.counters.longest_stretch_us = self.counters.longest_stretch_us.max(stretch_us);
            self.finish(watched, progress, false);
        }
    }

    /// Whether a thread at a place where it was idle before is still asleep there.
    fn is_still_idle(&self, watched: &mut Watched, now: u64) -> bool {
        if now - watched.verified_ns < VERIFY_NS {
            return true;
        }
        // The place was judged with its stack when it was found; here only waking up and waiting for the GIL are told.
        let is_asleep = match watched.activity(&self.observer.target().process) {
            Ok(Activity::Call { number, .. }) => number != 202,
            _ => false,
        };
        if is_asleep {
            watched.verified_ns = now;
        }
        is_asleep
    }

    fn place_of(&mut self, sample: &Sample) -> Place {
        let frame = sample.frame;
        let python = Python::new(&self.observer.target.memory, &self.observer.target.interpreter);
        let caller =
            python.memory.word(frame.wrapping_add(python.layout().frame.previous as u64)).unwrap_or(0);
        let frames = [frame, caller].map(|address| python.frame(address));
        let stack = frames
            .into_iter()
            .map_while(|raw| self.observer.stacks.locate(&python, raw?))
            .map(|located| located.frame)
            .collect::<Vec<_>>();
        place_of_stack(&stack, sample)
    }

    fn inspect(&mut self, watched: &mut Watched, sample: &Sample, now: u64) -> Step {
        let stretch = watched.segment.certain_ns();
        let every = match stretch {
            0..=50_000_000 => 0,
            50_000_001..=1_000_000_000 => 5_000_000,
            _ => 20_000_000,
        };
        let is_moved = watched.last.instruction != sample.instruction || watched.last.frame != sample.frame;
        let unchanged = Step::Busy(Place::Unknown);
        if watched.open.is_some() && now - watched.inspected_ns < every {
            return unchanged;
        }
        self.counters.inspections += 1;
        self.observer.stacks.start_round();
        let Ok(activity) = watched.activity(&self.observer.target().process) else { return unchanged };
        let mut look = inspect(&mut self.observer, &self.native, &mut self.names, activity, sample);
        // What was read belongs together only if the thread has not switched since.
        let target = self.observer.target();
        let again = watched.probe.look(&target.memory, &target.interpreter.layout);
        if again.is_none_or(|again| again.version != sample.version) {
            return unchanged;
        }
        if is_idle(&look.evidence) {
            if watched.idle_places.len() == PLACES {
                watched.idle_places.remove(0);
            }
            let place = (sample.frame, sample.instruction);
            if sample.frame != 0 && !watched.idle_places.contains(&place) {
                watched.idle_places.push(place);
            }
            watched.verified_ns = now;
            return Step::Idle;
        }
        if is_moved && look.evidence.activity == Activity::Running {
            // Words below the frame are those of a finished call.
            look.evidence.libraries.clear();
        }
        watched.inspected_ns = now;
        let place = place_of_stack(&look.evidence.stack, sample);
        let open = watched.open.get_or_insert_with(|| {
            let wall =
                SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
            OpenStall::open(&target.process, watched.tid, now, stretch, wall - stretch / 1_000_000)
        });
        if open.is_new() {
            open.green_thread = current_green_thread(&self.observer, watched.greenlet_state);
        }
        if !open.is_task_sought && stretch >= self.config.threshold.as_nanos() as u64 / 2 {
            open.is_task_sought = true;
            open.task = current_task(&self.observer, &look.frames);
        }
        open.add(&self.observer.target().process, watched.tid, now, look.evidence);
        Step::Busy(place)
    }

    fn finish(&mut self, watched: &mut Watched, progress: Progress, is_open: bool) {
        let Some(open) = watched.open.take() else { return };
        let threshold = self.config.threshold.as_nanos() as u64;
        match open.close(&self.observer.target().process, watched.tid, progress, threshold, is_open) {
            Ok(stall) => {
                self.names.pass(WatchEvent::Stall(Box::new(stall)));
            }
            Err(Dismissal::RunQueue) => self.counters.starved += 1,
            Err(Dismissal::Short) => self.counters.short += 1,
        }
    }

    fn close_all(&mut self) {
        let now = self.now_ns();
        for mut watched in std::mem::take(&mut self.threads) {
            let progress = watched.segment.progress(now);
            self.finish(&mut watched, progress, true);
        }
    }

    fn report_counters(&mut self) {
        self.counters.is_stopped = self.observer.target().process.is_stopped();
        self.names.pass(WatchEvent::Counters(self.counters));
        self.counters.longest_stretch_us = 0;
        let threshold_ns = self.config.threshold.as_nanos() as u64;
        let blocked = self.threads.iter().filter_map(|watched| {
            let since_ns = watched.segment.certain_ns();
            let (class, frame) = watched.open.as_ref()?.so_far()?;
            let blocked = Blocked { tid: watched.tid, since_ms: since_ns / 1_000_000, class, frame };
            (since_ns >= threshold_ns && class != Class::RunQueue).then_some(blocked)
        });
        self.names.pass(WatchEvent::Blocked(blocked.collect()));
    }

    /// Soon again while no hub was found: it may just start, or have changed while it was looked at.
    fn list_rest(&self) -> Duration {
        if self.threads.is_empty() { LIST_SOON * self.searches.min(10) } else { LIST_EVERY }
    }

    /// Finds hub threads that are not watched yet: all by one whole look at first, later ones by their own stack.
    fn list_threads(&mut self) -> Result<(), LookError> {
        self.observer.check_alive()?;
        let python = Python::new(&self.observer.target.memory, &self.observer.target.interpreter);
        let records = python.threads();
        let is_known = |state: u64| self.threads.iter().any(|watched| watched.state == state);
        let newcomers: Vec<u64> =
            records.iter().filter(|record| !is_known(record.state)).map(|record| record.frame).collect();
        let is_hub = |frames: &[RawFrame], stacks: &mut Stacks| {
            let (stack, _) = stacks.decode(&python, frames);
            stack.iter().any(|located| is_hub_file(&located.code.file))
        };
        let walks = python.walk(&newcomers);
        let found = walks.iter().any(|walk| is_hub(&walk.frames, &mut self.observer.stacks));
        let is_searched = self.searches > 0 && (!self.threads.is_empty() || self.searches >= SEARCHES);
        if is_searched && !found {
            return Ok(());
        }
        let snapshot = self.observer.look()?;
        self.native = NativeCode::read(&self.observer.target().process);
        self.adopt(&snapshot);
        self.counters.threads = self.threads.len();
        self.searches += 1;
        Ok(())
    }

    fn adopt(&mut self, snapshot: &Snapshot) {
        for thread in snapshot.threads.iter().filter(|thread| thread.hub.is_some()) {
            if let Some(watched) = self.threads.iter_mut().find(|watched| watched.state == thread.state) {
                watched.greenlet_state = thread.greenlet_state;
                continue;
            }
            self.threads.push(Watched {
                tid: thread.tid,
                state: thread.state,
                greenlet_state: thread.greenlet_state,
                probe: Probe::new(thread.state),
                activity: None,
                segment: Segment::default(),
                idle_places: Vec::new(),
                verified_ns: 0,
                inspected_ns: 0,
                last: Sample::default(),
                open: None,
            });
        }
    }
}
