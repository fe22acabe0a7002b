//! One look at a process.

use super::trust::{Labelled, Trust};
use serde::Serialize;
use std::sync::Arc;

/// Name and version of the snapshot's JSON form.
pub const SNAPSHOT_SCHEMA: &str = "evtop.snapshot/2";

/// Identity of a green thread or task: the address of its object, stable while it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u64);

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl Serialize for NodeId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Everything seen in one look.
#[derive(Debug, Clone, Serialize)]
pub struct Snapshot {
    /// [`SNAPSHOT_SCHEMA`].
    pub schema: &'static str,
    /// Wall clock, milliseconds since 1970.
    pub taken_at_ms: u64,
    /// How long the look took.
    pub took_us: u64,
    /// The process.
    pub process: Process,
    /// Its Python threads.
    pub threads: Vec<Thread>,
    /// Its greenlets, main and hub greenlets included.
    pub green_threads: Vec<GreenThread>,
    /// Its asyncio tasks.
    pub tasks: Vec<Task>,
    /// Who waits on whom, across both worlds.
    pub edges: Vec<Edge>,
    /// Open descriptors that something waits for, and their peers.
    pub fds: Vec<Fd>,
    /// Pending wake-ups by time.
    pub timers: Vec<Timer>,
    /// What was read, and what could not be.
    pub counters: Counters,
}

/// The process as a whole.
#[derive(Debug, Clone, Serialize)]
pub struct Process {
    /// Process id in evtop's PID namespace.
    pub pid: i32,
    /// Process id in its own PID namespace.
    pub namespace_pid: i32,
    /// Its arguments.
    pub command: String,
    /// CPython version.
    pub python: String,
    /// The file the interpreter's code comes from.
    pub interpreter: String,
    /// Resident memory.
    pub rss_bytes: u64,
    /// Kernel threads, Python or not.
    pub kernel_threads: usize,
    /// A stop signal has stopped it (SIGSTOP, or Ctrl-Z in its terminal).
    pub is_stopped: bool,
}

impl Process {
    /// What to say of a process that is stopped.
    pub fn stopped_text(&self) -> Option<String> {
        self.is_stopped.then(|| stopped_text(self.pid))
    }
}

/// That a process is stopped, and what makes it go on.
pub fn stopped_text(pid: i32) -> String {
    format!("process {pid} is stopped (SIGSTOP or Ctrl-Z), and nothing in it runs: kill -CONT {pid}")
}

/// A hub or event loop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hub {
    /// `eventlet epolls`, `eventlet asyncio`, `gevent`, `asyncio`, `uvloop`, `uringhub`, …
    pub kind: String,
    /// uringhub's driver (`io_uring` or `epoll`), once it was seen.
    pub driver: Option<String>,
}

/// A Python thread.
#[derive(Debug, Clone, Serialize)]
pub struct Thread {
    /// Kernel thread id, as seen by evtop.
    pub tid: i32,
    /// Kernel name of the thread.
    pub name: String,
    /// Its name in Python's threading module, if that knows it.
    pub python_name: Option<String>,
    /// The hub or loop it runs.
    pub hub: Option<Labelled<Hub>>,
    /// It held the GIL at that instant.
    pub holds_gil: Labelled<bool>,
    /// The system call it was in, or `running`.
    pub activity: Labelled<String>,
    /// The green thread on it.
    pub green_thread: Option<NodeId>,
    /// The task on it.
    pub task: Option<NodeId>,
    /// Its stack, innermost first.
    pub stack: Vec<Arc<Frame>>,
    /// The stack is incomplete: it was too deep, or its innermost frames came and went faster than they could be read.
    pub is_stack_cut: bool,
    /// Address of its Python thread state.
    #[serde(skip)]
    pub state: u64,
    /// Address of its greenlet thread state; zero without greenlets.
    #[serde(skip)]
    pub greenlet_state: u64,
}

impl Thread {
    /// Python's name, or the kernel's.
    pub fn label(&self) -> &str {
        self.python_name.as_deref().unwrap_or(&self.name)
    }
}

/// A place in Python code.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Frame {
    /// Qualified name (bare on 3.10).
    pub function: Arc<str>,
    /// File name as compiled.
    pub file: Arc<str>,
    /// Line; the function's first line if unknown.
    pub line: u32,
    /// The code is a library's rather than the application's, by the name of its file.
    #[serde(skip)]
    pub is_library: bool,
}

impl Frame {
    /// A place, judged once: the screens ask this of every stack at every look.
    pub fn new(function: Arc<str>, file: Arc<str>, line: u32) -> Self {
        const LIBRARIES: [&str; 6] =
            ["/site-packages/", "/dist-packages/", "/lib/python3.", "/eventlet/", "/gevent/", "/uringhub/"];
        let is_library = file.starts_with('<') || LIBRARIES.iter().any(|part| file.contains(part));
        Self { function, file, line, is_library }
    }
}

/// The application's innermost frame of a stack, or the innermost of all.
pub fn own_frame(stack: &[Arc<Frame>]) -> Option<&Arc<Frame>> {
    stack.iter().find(|frame| !frame.is_library).or(stack.first())
}

/// What kind of thing is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitKind {
    /// A descriptor becoming readable.
    Read,
    /// A descriptor becoming writable.
    Write,
    /// Time passing.
    Sleep,
    /// A lock or semaphore.
    Lock,
    /// A condition.
    Condition,
    /// An event.
    Event,
    /// A queue's item or free place.
    Queue,
    /// Another green thread's end.
    GreenThread,
    /// Another task's end.
    Task,
    /// Several tasks or futures.
    Gather,
    /// A future.
    Future,
    /// A thread pool's answer.
    ThreadPool,
    /// A child process.
    Subprocess,
    /// Its turn: it can run.
    Turn,
    /// Nothing that was recognised.
    Other,
}

/// What a green thread or task waits for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Wait {
    /// The kind.
    pub kind: WaitKind,
    /// A sentence fragment for people (`recv from tcp 127.0.0.1:5432`, `sleep 30 s`).
    pub text: String,
    /// The descriptor.
    pub fd: Option<i32>,
    /// The descriptor's peer or path.
    pub target: Option<String>,
    /// Seconds asked for: of a sleep, or as a timeout.
    pub seconds: Option<f64>,
    /// The object waited on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<NodeId>,
    /// Who holds the lock that is waited for; empty if nobody was found, absent if it is no lock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holders: Option<Labelled<Vec<NodeId>>>,
    /// Seconds of the innermost time limit that was found around it; another one may have been set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Labelled<f64>>,
    /// How sure this is.
    pub trust: Trust,
}

/// A greenlet.
#[derive(Debug, Clone, Serialize)]
pub struct GreenThread {
    /// Identity.
    pub id: NodeId,
    /// Its class.
    pub class: Arc<str>,
    /// The function it runs, outside the library that started it.
    pub name: Arc<str>,
    /// `running`, `suspended`, `not started`, `starting`, `dead`.
    pub state: &'static str,
    /// `main`, `hub` or `green thread`.
    pub role: &'static str,
    /// Its thread.
    pub tid: Option<i32>,
    /// Its parent.
    pub parent: Option<NodeId>,
    /// Since evtop first saw it; `null` in the first look, which cannot know.
    pub age_ms: Option<Labelled<u64>>,
    /// Since its stack last changed; inferred if it may have run and come back to the same place.
    /// `null` in the first look.
    pub unchanged_ms: Option<Labelled<u64>>,
    /// What it waits for.
    pub wait: Option<Arc<Wait>>,
    /// Its stack, innermost first.
    pub stack: Arc<[Arc<Frame>]>,
    /// The stack is incomplete.
    pub is_stack_cut: bool,
}

/// An asyncio task.
#[derive(Debug, Clone, Serialize)]
pub struct Task {
    /// Identity.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// `created`, `running`, `waiting`, `ready`, `cancelled`, `finished`.
    pub state: &'static str,
    /// The coroutine it runs.
    pub coroutine: String,
    /// Its event loop's class.
    pub event_loop: String,
    /// Since evtop first saw it; `null` in the first look, which cannot know.
    pub age_ms: Option<Labelled<u64>>,
    /// Since its await chain last changed; inferred if it may have run and come back to the same place.
    /// `null` in the first look.
    pub unchanged_ms: Option<Labelled<u64>>,
    /// What it waits for.
    pub wait: Option<Arc<Wait>>,
    /// Its await chain, innermost first.
    pub stack: Vec<Arc<Frame>>,
    /// Tasks it waits on: directly, through a gather, `TaskGroup`, `wait`, `wait_for` or `shield`.
    pub waits_on: Vec<NodeId>,
    /// How many more it waits on that are not listed.
    pub waits_on_more: usize,
}

/// Why an edge exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeKind {
    /// A task awaits a task.
    Await,
    /// A task awaits a gather that holds a task.
    Gather,
    /// A task is at the end of a `TaskGroup` that holds a task.
    TaskGroup,
    /// A task is in `asyncio.wait` for a task and others, of which one may be enough.
    Wait,
    /// A task awaits a task through `asyncio.shield`: if the one is cancelled, the other is not.
    Shield,
    /// A green thread waits for another's end.
    Join,
    /// A green thread or task waits for a lock another holds.
    Lock,
    /// The same for a semaphore, which may have other holders.
    Semaphore,
    /// A task awaits a green thread, or the reverse.
    Bridge,
}

/// One waits on the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Edge {
    /// Who waits.
    pub from: NodeId,
    /// For whom.
    pub to: NodeId,
    /// Why.
    pub kind: EdgeKind,
    /// How sure this is.
    pub trust: Trust,
}

/// A descriptor somebody waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fd {
    /// The descriptor.
    pub fd: i32,
    /// Peer or path.
    pub target: String,
    /// Who waits for it.
    pub waiters: Vec<NodeId>,
}

/// A wake-up by time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Timer {
    /// Who asked for it.
    pub owner: NodeId,
    /// Seconds asked for.
    pub seconds: f64,
    /// What was left of them at the look; `null` if its timer could not be read.
    pub left_ms: Option<u64>,
    /// What for (`sleep`, `timeout`).
    pub purpose: &'static str,
    /// How sure this is.
    pub trust: Trust,
}

/// What was read and what was lost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Greenlets found by this look.
    pub green_threads_found: usize,
    /// Known greenlets that vanished or changed while they were read.
    pub green_threads_lost: usize,
    /// Share of the live greenlets that this look does not show, in thousandths; inferred from a second search, and from
    /// how many ended between being found and being read.
    pub missed_permille: Option<u32>,
    /// Stacks that stayed inconsistent after every retry, and are not shown.
    pub stacks_torn: usize,
    /// Stacks cut by their depth or an unreadable frame.
    pub stacks_cut: usize,
    /// Frames decoded.
    pub frames: usize,
    /// Frames whose code object could not be decoded, not shown.
    pub frames_undecodable: usize,
    /// Edges not shown, of tasks that wait on very many.
    pub edges_cut: usize,
    /// Registered tasks that did not decode.
    pub tasks_undecodable: usize,
    /// `process_vm_readv` calls.
    pub read_calls: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// The whole heap was searched rather than the pools of the greenlets' size.
    pub is_full_search: bool,
    /// The process was stopped during this look.
    pub is_paused: bool,
    /// For how long, in microseconds.
    pub paused_us: u64,
}
