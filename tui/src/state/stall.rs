//! One stretch of time in which a hub could not run.

use super::snapshot::{Frame, NodeId};
use super::trust::{Labelled, Trust};
use serde::Serialize;
use std::sync::Arc;

/// Name and version of the stall's JSON form.
pub const STALL_SCHEMA: &str = "evtop.stall/1";

/// What kind of call blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// A sleep that was not patched.
    Sleep,
    /// A socket in blocking mode.
    Socket,
    /// A name lookup.
    Dns,
    /// A C database client waiting for its server.
    Database,
    /// SQLite, which works in the calling thread.
    Sqlite,
    /// Reading, writing or syncing a file.
    File,
    /// Waiting for a child process.
    Subprocess,
    /// A lock of the threading module.
    Lock,
    /// Waiting for another thread's import.
    ImportLock,
    /// `select` or `poll` outside the hub.
    Select,
    /// A pipe or terminal.
    Pipe,
    /// Python or C code that computes.
    Cpu,
    /// Garbage collection.
    Gc,
    /// Another thread kept the GIL.
    Gil,
    /// The kernel gave the processor to others.
    RunQueue,
    /// A system call with no class of its own.
    Syscall,
}

impl Class {
    /// The name used in JSON and on screen.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sleep => "sleep",
            Self::Socket => "socket",
            Self::Dns => "dns",
            Self::Database => "database",
            Self::Sqlite => "sqlite",
            Self::File => "file",
            Self::Subprocess => "subprocess",
            Self::Lock => "lock",
            Self::ImportLock => "import_lock",
            Self::Select => "select",
            Self::Pipe => "pipe",
            Self::Cpu => "cpu",
            Self::Gc => "gc",
            Self::Gil => "gil",
            Self::RunQueue => "run_queue",
            Self::Syscall => "syscall",
        }
    }

    /// What to do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Sleep => {
                "call eventlet.sleep, gevent.sleep or await asyncio.sleep; under Eventlet, monkey_patch() before the module that sleeps is imported"
            }
            Self::Socket => {
                "this socket is not green: monkey_patch() before the library is imported, or use an async client, tpool.execute or asyncio.to_thread"
            }
            Self::Dns => {
                "resolve outside the hub: loop.getaddrinfo, eventlet's green DNS (with dnspython, unless EVENTLET_NO_GREENDNS is set), or a cache"
            }
            Self::Database => {
                "the C driver waits inside its library: install its wait callback (psycopg2.extensions.set_wait_callback), use an async driver, or tpool.execute / asyncio.to_thread"
            }
            Self::Sqlite => {
                "SQLite works in the calling thread: run it in tpool.execute or asyncio.to_thread, and shorten transactions"
            }
            Self::File => {
                "files cannot be polled: use tpool.execute, asyncio.to_thread or smaller pieces; move fsync to another thread"
            }
            Self::Subprocess => {
                "wait with eventlet.green.subprocess, asyncio.create_subprocess_exec, or in a thread"
            }
            Self::Lock => {
                "a real thread's lock: create locks after monkey_patch(), or hand work over through a queue instead of waiting here"
            }
            Self::ImportLock => "another thread is importing: import at start-up, not in a request",
            Self::Select => {
                "select and poll outside the hub: use eventlet.green.select, or let the hub or loop wait for the descriptor"
            }
            Self::Pipe => {
                "a blocking pipe or terminal: use eventlet.green.os, loop.connect_read_pipe, or a thread"
            }
            Self::Cpu => {
                "split the work and yield between pieces (sleep(0)), or move it to a process or a thread that releases the GIL"
            }
            Self::Gc => {
                "a long garbage collection: gc.freeze() after start-up, raise gc.set_threshold, or keep fewer container objects"
            }
            Self::Gil => {
                "another thread keeps the GIL: move its computing to a process, or to C code that releases the GIL"
            }
            Self::RunQueue => "the machine is short of processors: the hub was ready to run and had none",
            Self::Syscall => {
                "this system call waits in the kernel: run it in tpool.execute or asyncio.to_thread"
            }
        }
    }
}

/// Where the time of a stall went.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Delay {
    /// The application's own part: the whole less the next three.
    pub application_ms: f64,
    /// Waiting for the GIL.
    pub gil_ms: f64,
    /// Ready, without a processor.
    pub run_queue_ms: f64,
    /// Without a processor because the hypervisor had taken it away, at most.
    pub stolen_ms: f64,
    /// What it used of a processor, as far as the kernel had counted it.
    pub processor_ms: f64,
}

/// A stretch inside a stall with one call site.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StallPart {
    /// Its class.
    pub class: Class,
    /// Where.
    pub frame: Arc<Frame>,
    /// How long, by the samples taken there.
    pub sampled_ms: f64,
}

/// One stall, from its start to its end.
#[derive(Debug, Clone, Serialize)]
pub struct Stall {
    /// [`STALL_SCHEMA`].
    pub schema: &'static str,
    /// Wall clock at its start, milliseconds since 1970.
    pub started_at_ms: u64,
    /// From start to end.
    pub duration_ms: f64,
    /// How far the duration can be off: the steps at which the watcher looked.
    pub error_ms: f64,
    /// It had not ended when watching ended.
    pub is_open: bool,
    /// Its class.
    pub class: Class,
    /// How sure the class is.
    pub class_trust: Trust,
    /// File of the call that blocked: the innermost frame outside the standard library.
    pub file: String,
    /// Its line.
    pub line: u32,
    /// Its function.
    pub function: String,
    /// The innermost frame of all.
    pub innermost: Arc<Frame>,
    /// The system call, or null while it computed.
    pub syscall: Option<String>,
    /// The descriptor in that call.
    pub fd: Option<i32>,
    /// The descriptor's peer or path, or the lock's address.
    pub target: Option<Labelled<String>>,
    /// The native library on top of the stack.
    pub library: Option<Labelled<String>>,
    /// Where the time went.
    pub delay: Delay,
    /// The whole stack, innermost first.
    pub stack: Vec<Arc<Frame>>,
    /// The longest parts, when the stall had several call sites.
    pub parts: Vec<StallPart>,
    /// The kernel thread.
    pub thread: i32,
    /// The green thread.
    pub green_thread: Option<NodeId>,
    /// The task.
    pub task: Option<NodeId>,
    /// What to do about it.
    pub advice: &'static str,
}
