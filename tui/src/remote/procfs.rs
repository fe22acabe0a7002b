//! What `/proc` says about a process: mappings, identity, threads, the call each thread is in.

use rustix::time::{ClockId, clock_gettime};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// One line of `/proc/PID/maps`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// Offset into the file.
    pub offset: u64,
    /// May be read.
    pub is_readable: bool,
    /// May be written.
    pub is_writable: bool,
    /// May be executed.
    pub is_executable: bool,
    /// Shared with other processes rather than private.
    pub is_shared: bool,
    /// The file as the process's own mount namespace names it, `[heap]` and the like, or empty.
    pub path: String,
}

impl Mapping {
    /// Bytes covered.
    pub fn length(&self) -> u64 {
        self.end - self.start
    }

    /// Whether an address falls inside.
    pub fn contains(&self, address: u64) -> bool {
        (self.start..self.end).contains(&address)
    }
}

/// Parses the text of a `maps` file; lines that do not parse are left out.
pub fn parse_maps(text: &str) -> Vec<Mapping> {
    text.lines().filter_map(parse_mapping).collect()
}

fn parse_mapping(line: &str) -> Option<Mapping> {
    let mut fields = line.splitn(6, ' ');
    let (start, end) = fields.next()?.split_once('-')?;
    let flags = fields.next()?.as_bytes();
    let offset = u64::from_str_radix(fields.next()?, 16).ok()?;
    let _device = fields.next()?;
    let _inode = fields.next()?;
    let path = fields.next().unwrap_or("").trim().to_owned();
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    if flags.len() < 4 || end < start {
        return None;
    }
    Some(Mapping {
        start,
        end,
        offset,
        is_readable: flags[0] == b'r',
        is_writable: flags[1] == b'w',
        is_executable: flags[2] == b'x',
        is_shared: flags[3] == b's',
        path,
    })
}

/// The mapping an address falls in; `maps` is sorted, as the kernel writes it.
pub fn mapping_of(maps: &[Mapping], address: u64) -> Option<&Mapping> {
    let index = maps.partition_point(|mapping| mapping.end <= address);
    maps.get(index).filter(|mapping| mapping.contains(address))
}

/// `/proc/PID`, read by name.
#[derive(Debug, Clone)]
pub struct Proc {
    pid: i32,
    base: PathBuf,
}

/// What a thread was doing when it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// On a processor, or ready for one.
    Running,
    /// Asleep inside a system call.
    Call {
        /// System call number (x86-64).
        number: i64,
        /// Its six arguments.
        arguments: [u64; 6],
        /// The user stack pointer.
        stack: u64,
    },
    /// Asleep outside a system call, as in a page fault.
    Fault,
}

/// `/proc/PID/task/TID/syscall`, held open: opening it by its name costs more than reading it.
#[derive(Debug)]
pub struct ActivityFile(File);

impl ActivityFile {
    /// The call the thread is in now; an error once it has ended.
    pub fn read(&self) -> io::Result<Activity> {
        // Nine numbers of at most twenty characters, as the kernel writes them at every read from the start.
        let mut line = [0; 256];
        let length = self.0.read_at(&mut line, 0)?;
        Ok(parse_activity(&String::from_utf8_lossy(&line[..length])))
    }
}

/// `/proc/PID/task/TID/schedstat`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Time on a processor.
    pub on_cpu_ns: u64,
    /// Time ready but waiting for a processor; added when the wait ends.
    pub run_queue_ns: u64,
}

/// Milliseconds that the hypervisor took from each processor since the start of the machine, in steps of ten; empty where
/// the machine does not tell.
pub fn stolen_ms() -> Vec<u64> {
    /// `USER_HZ` is 100 on x86-64.
    const UNIT_MS: u64 = 10;
    const STEAL: usize = 8;
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let processors = text.lines().skip(1).take_while(|line| line.starts_with("cpu"));
    processors
        .filter_map(|line| Some(line.split_ascii_whitespace().nth(STEAL)?.parse::<u64>().ok()? * UNIT_MS))
        .collect()
}

impl Proc {
    /// Names the process; nothing is read yet.
    pub fn new(pid: i32) -> Self {
        Self { pid, base: PathBuf::from(format!("/proc/{pid}")) }
    }

    /// The process id in our own namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// A path below `/proc/PID`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.base.join(name)
    }

    /// A file as the process sees it, reachable from our mount namespace.
    pub fn in_root(&self, path: &str) -> PathBuf {
        self.base.join("root").join(path.trim_start_matches('/'))
    }

    /// Reads a text file below `/proc/PID`.
    pub fn text(&self, name: &str) -> io::Result<String> {
        fs::read(self.path(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The memory mappings.
    pub fn maps(&self) -> io::Result<Vec<Mapping>> {
        self.text("maps").map(|text| parse_maps(&text))
    }

    /// A field of `/proc/PID/status`, without its name.
    pub fn status(&self, field: &str) -> Option<String> {
        let text = self.text("status").ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
        Some(line.trim().to_owned())
    }

    /// Now by the monotonic clock that the process reads; `None` if it lives in a time namespace of its own, with another one.
    pub fn monotonic_s(&self) -> Option<f64> {
        let namespace = |base: &Path| fs::read_link(base.join("ns/time")).ok();
        (namespace(&self.base) == namespace(Path::new("/proc/self"))).then(|| {
            let now = clock_gettime(ClockId::Monotonic);
            now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
        })
    }

    /// Arguments as one line.
    pub fn command_line(&self) -> String {
        self.text("cmdline").map(|text| text.trim_end_matches('\0').replace('\0', " ")).unwrap_or_default()
    }

    /// Thread ids.
    pub fn threads(&self) -> io::Result<Vec<i32>> {
        let mut ids: Vec<i32> = fs::read_dir(self.path("task"))?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Where a descriptor leads (`socket:[1234]`, a path, …).
    pub fn fd_link(&self, fd: i32) -> Option<String> {
        let link = fs::read_link(self.path(&format!("fd/{fd}"))).ok()?;
        Some(link.to_string_lossy().into_owned())
    }

    /// Open descriptors.
    pub fn fds(&self) -> Vec<i32> {
        let Ok(entries) = fs::read_dir(self.path("fd")) else { return Vec::new() };
        let mut fds: Vec<i32> =
            entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
        fds.sort_unstable();
        fds
    }

    /// Offset of an open file.
    pub fn fd_position(&self, fd: i32) -> Option<u64> {
        let text = self.text(&format!("fdinfo/{fd}")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("pos:"))?.trim().parse().ok()
    }

    /// The call a thread is in.
    pub fn activity(&self, tid: i32) -> io::Result<Activity> {
        self.activity_file(tid)?.read()
    }

    /// The file that says which call a thread is in, to be read again and again.
    pub fn activity_file(&self, tid: i32) -> io::Result<ActivityFile> {
        File::open(self.path(&format!("task/{tid}/syscall"))).map(ActivityFile)
    }

    /// Processor time and run-queue wait of a thread.
    pub fn schedule(&self, tid: i32) -> io::Result<Schedule> {
        let text = self.text(&format!("task/{tid}/schedstat"))?;
        let mut fields = text.split_ascii_whitespace().map(|field| field.parse().unwrap_or(0));
        Ok(Schedule { on_cpu_ns: fields.next().unwrap_or(0), run_queue_ns: fields.next().unwrap_or(0) })
    }

    /// The state letter of a thread (`R`, `S`, `D`, …).
    pub fn thread_state(&self, tid: i32) -> Option<char> {
        let text = self.text(&format!("task/{tid}/stat")).ok()?;
        text.rsplit_once(") ")?.1.chars().next()
    }

    /// Whether a stop signal has stopped it; one that a debugger stopped is in another state.
    pub fn is_stopped(&self) -> bool {
        self.thread_state(self.pid) == Some('T')
    }

    /// Bytes a thread has moved through read and write calls.
    pub fn bytes_moved(&self, tid: i32) -> Option<u64> {
        let text = self.text(&format!("task/{tid}/io")).ok()?;
        let field = |name: &str| -> u64 {
            text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0)
        };
        Some(field("rchar:") + field("wchar:"))
    }

    /// When the process started, in clock ticks since boot: tells a reused pid.
    pub fn start_time_ticks(&self) -> Option<u64> {
        let text = self.text("stat").ok()?;
        text.rsplit_once(") ")?.1.split_ascii_whitespace().nth(19)?.parse().ok()
    }
}

/// Parses the text of a `syscall` file.
pub fn parse_activity(text: &str) -> Activity {
    let mut fields = text.split_ascii_whitespace();
    let Some(number) = fields.next().and_then(|field| field.parse::<i64>().ok()) else {
        return Activity::Running;
    };
    if number < 0 {
        return Activity::Fault;
    }
    let mut words = fields.map(|field| u64::from_str_radix(field.trim_start_matches("0x"), 16).unwrap_or(0));
    let mut arguments = [0; 6];
    arguments.fill_with(|| words.next().unwrap_or(0));
    Activity::Call { number, arguments, stack: words.next().unwrap_or(0) }
}
