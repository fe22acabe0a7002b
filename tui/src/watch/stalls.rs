//! A stall while it lasts: what each closer look adds, and what is reported once it has ended.

use super::classify::{Judgement, classify};
use super::evidence::Evidence;
use super::segment::Progress;
use super::times::{Dismissal, Times, tick_ms};
use crate::remote::{Activity, Proc, Schedule, stolen_ms, syscall_name};
use crate::state::{Class, Frame, Labelled, NodeId, STALL_SCHEMA, Stall, StallPart, Trust};
use std::sync::Arc;

/// One call site inside a stall.
#[derive(Debug)]
struct Part {
    judgement: Judgement,
    frame: Arc<Frame>,
    evidence: Evidence,
    time_ns: u64,
}

/// A stall that has not ended.
#[derive(Debug)]
pub struct OpenStall {
    parts: Vec<Part>,
    /// Time up to the latest look is accounted for.
    accounted_ns: u64,
    gil_ns: u64,
    /// Time that closer looks found the thread asleep.
    asleep_ns: u64,
    /// And that for the lock of its memory map, which somebody outside of the process held.
    map_ns: u64,
    schedule: Schedule,
    /// Processor time up to the latest closer look: what the thread used later is not the stall's.
    on_cpu_ns: u64,
    /// Time before the first closer look that may have been spent without a processor, unseen.
    unexplained_ns: u64,
    /// How long the stall had lasted when the processor time was read first.
    lead_ns: u64,
    /// What the hypervisor had taken from each processor by then.
    stolen_ms: Vec<u64>,
    bytes_moved: Option<u64>,
    files: Vec<(i32, u64, String)>,
    /// The green thread on the thread.
    pub green_thread: Option<NodeId>,
    /// The task on the thread.
    pub task: Option<NodeId>,
    /// The task was looked for: once is enough, a stall has one.
    pub is_task_sought: bool,
    wall_start_ms: u64,
}

/// Call sites kept for one stall.
const PARTS_LIMIT: usize = 64;
/// Call sites reported for one stall.
const PARTS_SHOWN: usize = 4;
/// Descriptors looked at to find a file that is being read.
const FILES_LIMIT: usize = 256;
/// A thread that moves more than this a second through read and write is copying a file, not computing.
const COPY_BYTES_PER_S: f64 = 200e6;
const COPY_BYTES: u64 = 4 << 20;
/// A first closer look that comes later than this into a stall was kept from coming by a machine short of processors,
/// which may have kept the thread from running as well.
const PROMPT_NS: u64 = 6_000_000;
/// mprotect, munmap, brk, mremap: they read no file.
const MAP_CALLS: [i64; 4] = [10, 11, 12, 25];

impl OpenStall {
    /// Opens at the first closer look, `stretch_ns` into the stall; the baselines are read then.
    pub fn open(process: &Proc, tid: i32, now_ns: u64, stretch_ns: u64, wall_start_ms: u64) -> Self {
        let schedule = process.schedule(tid).unwrap_or_default();
        Self {
            parts: Vec::new(),
            accounted_ns: now_ns - stretch_ns,
            gil_ns: 0,
            asleep_ns: 0,
            map_ns: 0,
            schedule,
            on_cpu_ns: schedule.on_cpu_ns,
            unexplained_ns: stretch_ns.saturating_sub(PROMPT_NS),
            lead_ns: stretch_ns,
            stolen_ms: stolen_ms(),
            bytes_moved: process.bytes_moved(tid),
            files: Vec::new(),
            green_thread: None,
            task: None,
            is_task_sought: false,
            wall_start_ms,
        }
    }

    /// Whether nothing has been added yet.
    pub fn is_new(&self) -> bool {
        self.parts.is_empty()
    }

    /// Adds a closer look: the time since the previous one goes to what it shows.
    pub fn add(&mut self, process: &Proc, tid: i32, now_ns: u64, evidence: Evidence) {
        let judgement = classify(&evidence);
        if let Ok(schedule) = process.schedule(tid) {
            self.on_cpu_ns = schedule.on_cpu_ns;
        }
        if self.parts.is_empty() && evidence.activity != Activity::Running {
            // Asleep by now, it needed no processor before.
            self.unexplained_ns = 0;
        }
        let time_ns = now_ns.saturating_sub(self.accounted_ns);
        self.accounted_ns = now_ns;
        if judgement.class == Class::Gil {
            self.gil_ns += time_ns;
        }
        if evidence.activity != Activity::Running {
            self.asleep_ns += time_ns;
        }
        if waits_for_a_reader(evidence.activity, || process.threads().map_or(0, |threads| threads.len())) {
            self.map_ns += time_ns;
        }
        if self.files.is_empty() && judgement.class == Class::Cpu && self.bytes_moved.is_some() {
            self.files = regular_files(process);
        }
        let Some(frame) = evidence.top().cloned() else { return };
        let same = |part: &&mut Part| part.judgement.class == judgement.class && part.frame == frame;
        if let Some(part) = self.parts.iter_mut().find(same) {
            part.time_ns += time_ns;
            // The first look may have come before the thread reached what it waits in.
            if part.evidence.descriptor.is_none() {
                part.evidence = evidence;
            }
        } else if self.parts.len() < PARTS_LIMIT {
            self.parts.push(Part { judgement, frame, evidence, time_ns });
        }
    }

    /// The kind of call that took most of the time so far, and its place.
    pub fn so_far(&self) -> Option<(Class, Arc<Frame>)> {
        let longest = self.parts.iter().max_by_key(|part| part.time_ns)?;
        Some((longest.judgement.class, longest.frame.clone()))
    }

    /// Reports the stall, or says why it is none.
    pub fn close(
        mut self,
        process: &Proc,
        tid: i32,
        progress: Progress,
        threshold_ns: u64,
        is_open: bool,
    ) -> Result<Stall, Dismissal> {
        let schedule = process.schedule(tid).unwrap_or(self.schedule);
        let times = self.times(progress, schedule);
        self.parts.sort_by_key(|part| std::cmp::Reverse(part.time_ns));
        let is_gil = times.is_gil();
        let chosen =
            self.parts.iter().position(|part| (part.judgement.class == Class::Gil) == is_gil).unwrap_or(0);
        if self.parts.is_empty() {
            return Err(Dismissal::Short);
        }
        let computes = self.parts[chosen].evidence.activity == Activity::Running;
        // Who sleeps misses nothing of a processor that is taken away.
        let times = if computes { times.on_a_taken_processor(&self.stolen_ms, &stolen_ms()) } else { times };
        if let Some(dismissal) = times.dismissal(ms(threshold_ns), computes, tick_ms()) {
            return Err(dismissal);
        }
        self.recognise_copy(process, tid, chosen, times.on_cpu_ms);
        Ok(self.report(chosen, tid, times, ms(progress.error_ns), is_open))
    }

    fn times(&self, progress: Progress, schedule: Schedule) -> Times {
        let duration_ms = ms(progress.end_ns.saturating_sub(progress.start_ns));
        let run_queue_ms =
            ms(schedule.run_queue_ns.saturating_sub(self.schedule.run_queue_ns)).min(duration_ms);
        Times {
            duration_ms,
            certain_ms: ms(progress.certain_ns),
            run_queue_ms,
            unexplained_ms: ms(self.unexplained_ns),
            on_cpu_ms: ms(self.on_cpu_ns.saturating_sub(self.schedule.on_cpu_ns)),
            gil_ms: ms(self.gil_ns).min(duration_ms - run_queue_ms),
            lead_ms: ms(self.lead_ns),
            asleep_ms: ms(self.asleep_ns),
            stolen_ms: 0.0,
            map_ms: ms(self.map_ns),
        }
    }

    /// Reading a file from the page cache never sleeps: it shows as computing, with bytes moved.
    fn recognise_copy(&mut self, process: &Proc, tid: i32, chosen: usize, on_cpu_ms: f64) {
        let part = &mut self.parts[chosen];
        let (Some(before), Some(after)) = (self.bytes_moved, process.bytes_moved(tid)) else { return };
        let moved = after.saturating_sub(before);
        let rate = moved as f64 / (on_cpu_ms.max(1.0) / 1000.0);
        if part.judgement.class != Class::Cpu || moved < COPY_BYTES || rate < COPY_BYTES_PER_S {
            return;
        }
        part.judgement = Judgement { class: Class::File, trust: Trust::Inferred };
        // The file whose offset moved, or that was closed since.
        let is_moved = |fd: i32, position: u64| process.fd_position(fd).is_none_or(|now| now != position);
        if let Some((_, _, path)) = self.files.iter().find(|(fd, position, _)| is_moved(*fd, *position)) {
            part.evidence.path = Some(path.clone());
        }
    }

    fn report(self, chosen: usize, tid: i32, times: Times, error_ms: f64, is_open: bool) -> Stall {
        let parts = self
            .parts
            .iter()
            .take(PARTS_SHOWN)
            .map(|part| StallPart {
                class: part.judgement.class,
                frame: part.frame.clone(),
                sampled_ms: ms(part.time_ns),
            })
            .collect();
        let part = &self.parts[chosen];
        let site = call_site(&part.evidence.stack).unwrap_or(&part.frame);
        let evidence = &part.evidence;
        let syscall = match evidence.activity {
            Activity::Call { number, .. } => Some(syscall_name(number)),
            _ => None,
        };
        let target =
            evidence.descriptor.as_ref().map(|descriptor| Labelled::exact(descriptor.target.clone()));
        let target = target
            .or_else(|| evidence.path.clone().map(Labelled::inferred))
            .or_else(|| lock_target(evidence));
        Stall {
            schema: STALL_SCHEMA,
            started_at_ms: self.wall_start_ms,
            duration_ms: times.duration_ms,
            error_ms,
            is_open,
            class: part.judgement.class,
            class_trust: part.judgement.trust,
            file: site.file.to_string(),
            line: site.line,
            function: site.function.to_string(),
            innermost: part.frame.clone(),
            syscall,
            fd: evidence.descriptor.as_ref().map(|descriptor| descriptor.fd),
            target,
            library: evidence.libraries.first().cloned().map(Labelled::inferred),
            delay: times.delay(),
            stack: evidence.stack.clone(),
            parts,
            thread: tid,
            green_thread: self.green_thread,
            task: self.task,
            advice: part.judgement.class.advice(),
        }
    }
}

/// Whether a thread sleeps for the lock of its memory map while somebody outside of the process holds it, who reads it as
/// `ps` does: the process has no other thread that could. Such a reader is quick unless it lacks a processor.
fn waits_for_a_reader(activity: Activity, threads: impl FnOnce() -> usize) -> bool {
    matches!(activity, Activity::Call { number, .. } if MAP_CALLS.contains(&number)) && threads() == 1
}

/// The innermost frame outside the standard library: the line to change.
fn call_site(stack: &[Arc<Frame>]) -> Option<&Arc<Frame>> {
    stack.iter().find(|frame| !is_standard_library(&frame.file))
}

fn is_standard_library(file: &str) -> bool {
    if file.starts_with("<frozen ") {
        return true;
    }
    file.match_indices("/lib/python3.").any(|(at, prefix)| {
        let rest = file[at + prefix.len()..].trim_start_matches(|c: char| c.is_ascii_digit());
        rest.starts_with('/') && !rest.starts_with("/site-packages/") && !rest.starts_with("/dist-packages/")
    })
}

fn lock_target(evidence: &Evidence) -> Option<Labelled<String>> {
    match evidence.activity {
        Activity::Call { number: 202, arguments, .. } => {
            Some(Labelled::exact(format!("lock at {:#x}", arguments[0])))
        }
        _ => None,
    }
}

fn regular_files(process: &Proc) -> Vec<(i32, u64, String)> {
    process
        .fds()
        .into_iter()
        .take(FILES_LIMIT)
        .filter_map(|fd| {
            let link =
                process.fd_link(fd).filter(|link| link.starts_with('/') && !link.starts_with("/dev/"))?;
            Some((fd, process.fd_position(fd)?, link))
        })
        .collect()
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_site_is_the_innermost_line_outside_the_standard_library() {
        let frame = |file: &str| Arc::new(Frame::new("f".into(), file.into(), 1));
        let stack = [
            frame("<frozen importlib._bootstrap>"),
            frame("/usr/lib/python3.11/subprocess.py"),
            frame("/venv/lib/python3.11/site-packages/requests/api.py"),
            frame("/app/main.py"),
        ];
        assert_eq!(
            &*call_site(&stack).expect("a site").file,
            "/venv/lib/python3.11/site-packages/requests/api.py"
        );
        assert_eq!(call_site(&stack[..2]), None);
    }

    #[test]
    fn only_a_process_of_one_thread_waits_for_its_map_because_of_others() {
        let asleep = |number| Activity::Call { number, arguments: [0; 6], stack: 0 };
        assert!(waits_for_a_reader(asleep(11), || 1));
        assert!(!waits_for_a_reader(asleep(11), || 2), "the other thread may hold the lock");
        assert!(!waits_for_a_reader(asleep(11), || 0), "nobody knows");
        assert!(!waits_for_a_reader(asleep(9), || 1), "mmap may read a file");
        assert!(!waits_for_a_reader(Activity::Running, || 1));
    }
}
