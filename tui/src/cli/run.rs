//! Running a command.

use super::args::{Args, Command, DumpArgs, WatchArgs};
use crate::observe::{LookError, Observer, candidates};
use crate::remote::AttachError;
use crate::report;
use crate::state::{Sites, stopped_text};
use crate::view::{self, ScreenError};
use crate::watch::{WatchConfig, WatchCounters, WatchEvent, Watcher};
use clap::{Parser, error::ErrorKind};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::collections::HashSet;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

const STALLED: u8 = 8;
const UNWATCHED: u8 = 9;
/// A signal is noticed within this time.
const POLL: Duration = Duration::from_millis(100);
/// A stall that lasts this long is told before it ends.
const LONG_MS: u64 = 1000;
/// So long a process that seems to have no hub is given to come to it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why a command failed.
enum Failure {
    Attach(AttachError),
    Look(LookError),
    Screen(ScreenError),
    Output(io::Error),
}

impl From<AttachError> for Failure {
    fn from(error: AttachError) -> Self {
        Self::Attach(error)
    }
}

impl From<LookError> for Failure {
    fn from(error: LookError) -> Self {
        Self::Look(error)
    }
}

impl From<ScreenError> for Failure {
    fn from(error: ScreenError) -> Self {
        Self::Screen(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Says a sentence on stderr. Where that cannot be written there is nobody to tell.
fn tell(sentence: &str) {
    let _ = writeln!(io::stderr(), "evtop: {}", report::Plain(sentence));
}

/// Says what is wrong with the arguments, and what to write instead; help and version are no errors.
fn refuse(error: &clap::Error) -> u8 {
    let remedy = match error.kind() {
        ErrorKind::MissingRequiredArgument => {
            "give the process id, as in evtop watch 4242; evtop list shows the processes that could be observed"
        }
        ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand | ErrorKind::ArgumentConflict => {
            "write evtop 4242, evtop --once 4242, evtop dump 4242 --json or evtop watch 4242 --for 10s; evtop --help has more"
        }
        _ => "",
    };
    // Where it cannot be written there is nobody to tell.
    let _ = error.print();
    if !remedy.is_empty() {
        tell(remedy);
    }
    error.exit_code() as u8
}

/// Runs evtop with the process's arguments; returns its exit code.
pub fn run() -> u8 {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return refuse(&error),
    };
    let result = match args.command {
        Some(Command::Dump(dump)) => dump_once(&dump),
        Some(Command::Watch(watch)) => watch_for(&watch),
        Some(Command::List { json }) => list(json),
        None => match args.pid {
            Some(pid) if args.once => dump_once(&DumpArgs { pid, json: false, pause: args.pause }),
            None if !io::stdout().is_terminal() => list(false),
            pid => view::run(pid).map_err(Failure::Screen),
        },
    };
    match result {
        Ok(code) => code,
        Err(Failure::Attach(error)) => {
            tell(&error.to_string());
            error.exit_code()
        }
        Err(Failure::Look(error)) => {
            tell(&error.to_string());
            error.exit_code()
        }
        Err(Failure::Screen(error)) => {
            tell(&error.to_string());
            error.exit_code()
        }
        // A reader that has seen enough, as `evtop dump | head`, is no failure.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(Failure::Output(error)) => {
            tell(&format!("cannot write the output: {error}"));
            1
        }
    }
}

fn dump_once(args: &DumpArgs) -> Result<u8, Failure> {
    let mut observer = Observer::attach(args.pid)?;
    let snapshot = if args.pause { observer.look_paused()? } else { observer.look()? };
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &snapshot).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", report::snapshot_text(&snapshot))?;
    }
    Ok(0)
}

fn list(json: bool) -> Result<u8, Failure> {
    let (found, refused) = candidates();
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, &found).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", report::candidates_text(&found, refused))?;
    }
    Ok(0)
}

/// What was watched, as far as it has come.
#[derive(Default)]
struct Seen {
    sites: Sites,
    counters: WatchCounters,
    /// There was a hub to watch at some time.
    has_hub: bool,
    ended: Option<LookError>,
}

impl Seen {
    /// The exit code once nothing more is watched.
    fn verdict(self, args: &WatchArgs) -> Result<u8, Failure> {
        let is_stalled = args.fail && !self.sites.is_empty();
        match self.ended {
            // What was asked for was seen; the sentence still tells why it is over.
            Some(error) if is_stalled => tell(&error.to_string()),
            Some(error) => return Err(error.into()),
            None => {}
        }
        if args.fail && !self.has_hub {
            tell(&format!(
                "process {} ran no hub or event loop that evtop recognises, so nothing was watched: see evtop --once {}",
                args.pid, args.pid
            ));
            return Ok(UNWATCHED);
        }
        Ok(if is_stalled { STALLED } else { 0 })
    }
}

fn watch_for(args: &WatchArgs) -> Result<u8, Failure> {
    let mut seen = Seen::default();
    match watch_into(args, &mut seen) {
        // Who reads no further still wants to know what was asked for.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => seen.verdict(args),
        Err(failure) => Err(failure),
        Ok(()) => seen.verdict(args),
    }
}

fn watch_into(args: &WatchArgs, seen: &mut Seen) -> Result<(), Failure> {
    let config = WatchConfig { threshold: args.threshold, ..WatchConfig::default() };
    let (watcher, events) = Watcher::start(args.pid, config)?;
    let deadline = args.duration.map(|duration| Instant::now() + duration);
    let mut out = io::stdout().lock();
    let mut watcher = Some(watcher);
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, interrupted.clone())?;
    }
    let mut is_announced = false;
    // Threads of which it was told that they are blocked.
    let mut told = HashSet::new();
    let started = Instant::now();
    loop {
        let rest =
            deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
        if rest.is_zero() || interrupted.load(Ordering::Relaxed) {
            // Ending the watcher closes what is still open; its last events are read below.
            watcher = None;
        }
        match events.recv_timeout(rest.clamp(Duration::from_millis(1), POLL)) {
            Ok(WatchEvent::Stall(stall)) => {
                seen.sites.add(&stall);
                let line = if args.json { report::stall_json(&stall)? } else { report::stall_line(&stall) };
                writeln!(out, "{line}")?;
                out.flush()?;
            }
            Ok(WatchEvent::Counters(now)) => {
                if now.is_stopped && !seen.counters.is_stopped {
                    tell(&stopped_text(args.pid));
                }
                seen.counters = now;
                seen.has_hub |= now.threads > 0;
                // A process that has just started may not have come to its hub yet.
                if !is_announced && (now.threads > 0 || started.elapsed() > PATIENCE) {
                    tell(&format!("watching {} hub threads of process {}", now.threads, args.pid));
                    is_announced = true;
                }
            }
            Ok(WatchEvent::Blocked(blocked)) => {
                told.retain(|tid| blocked.iter().any(|blocked| blocked.tid == *tid));
                for blocked in blocked.iter().filter(|blocked| blocked.since_ms >= LONG_MS) {
                    if told.insert(blocked.tid) {
                        tell(&report::blocked_text(blocked));
                    }
                }
            }
            Ok(WatchEvent::Ended(error)) => seen.ended = Some(error),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    drop(watcher);
    if args.json {
        tell(&report::counters_text(&seen.counters));
    } else {
        write!(out, "{}", report::sites_text(&seen.sites, &seen.counters))?;
    }
    Ok(())
}
