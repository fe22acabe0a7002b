//! Each lint says its documented sentence about a process made for it, and nothing about a healthy one.

use crate::fake::{self, frame, green, wait};
use evtop::lint::{Context, Finding, LINTS};
use evtop::state::{
    Class, Counters, Edge, EdgeKind, Fd, Labelled, NodeId, Site, Sites, Snapshot, Trust, Wait, WaitKind,
};
use evtop::watch::{Blocked, WatchCounters};

/// A snapshot of nothing but these.
fn only(green_threads: Vec<evtop::state::GreenThread>) -> Snapshot {
    Snapshot {
        green_threads,
        tasks: Vec::new(),
        edges: Vec::new(),
        fds: Vec::new(),
        timers: Vec::new(),
        counters: Counters::default(),
        ..fake::snapshot()
    }
}

struct Case {
    snapshot: Snapshot,
    sites: Sites,
    watch: WatchCounters,
    worst_hub: Option<(i32, u64)>,
    blocked: Vec<Blocked>,
}

fn case(snapshot: Snapshot) -> Case {
    Case {
        snapshot,
        sites: Sites::default(),
        watch: WatchCounters::default(),
        worst_hub: None,
        blocked: Vec::new(),
    }
}

impl Case {
    fn check(&self, lint: &str) -> Vec<Finding> {
        let sites: Vec<&Site> = self.sites.by_total();
        let context = Context {
            snapshot: &self.snapshot,
            sites: &sites,
            watch: &self.watch,
            worst_hub: self.worst_hub,
            blocked: &self.blocked,
        };
        LINTS.iter().find(|known| known.name() == lint).expect("a lint of that name").check(&context)
    }

    fn says_its_example(&self, lint: &str) {
        let example = LINTS.iter().find(|known| known.name() == lint).expect("a lint of that name").example();
        let texts: Vec<String> = self.check(lint).into_iter().map(|finding| finding.text).collect();
        assert_eq!(texts, [example]);
    }
}

fn in_file(id: u64, name: &str, file: &str, line: u32, seen: Wait) -> evtop::state::GreenThread {
    let mut green = green(id, name, line, seen);
    let mut stack = green.stack.to_vec();
    stack[1] = frame(name, file, line);
    green.stack = stack.into();
    green
}

fn sleeps(count: u64) -> Sites {
    let mut sites = Sites::default();
    (0..count).for_each(|_| sites.add(&fake::stall(Class::Sleep, 7, 220.0)));
    sites
}

#[test]
fn a_healthy_process_gives_no_finding() {
    let healthy = case(only(vec![green(3, "serve", 20, wait(WaitKind::Read, "recv"))]));
    for lint in LINTS {
        assert_eq!(healthy.check(lint.name()), [], "{}", lint.name());
    }
}

#[test]
fn a_circle_of_waits_is_a_deadlock() {
    let greens = [(1, "consumer"), (2, "producer")]
        .map(|(id, name)| green(id, name, 1, wait(WaitKind::GreenThread, "")));
    let mut snapshot = only(greens.to_vec());
    let edge =
        |from, to| Edge { from: NodeId(from), to: NodeId(to), kind: EdgeKind::Join, trust: Trust::Exact };
    snapshot.edges = vec![edge(1, 2)];
    assert_eq!(case(snapshot.clone()).check("deadlock"), []);
    snapshot.edges.push(edge(2, 1));
    case(snapshot).says_its_example("deadlock");
}

#[test]
fn who_waits_for_a_lock_of_its_own_never_goes_on_but_a_semaphore_may_have_other_holders() {
    let mut snapshot = only(vec![green(1, "cached", 1, wait(WaitKind::Lock, "lock"))]);
    let edge = |kind| Edge { from: NodeId(1), to: NodeId(1), kind, trust: Trust::Inferred };
    snapshot.edges = vec![edge(EdgeKind::Semaphore)];
    assert_eq!(case(snapshot.clone()).check("deadlock"), []);
    snapshot.edges = vec![edge(EdgeKind::Lock)];
    let findings = case(snapshot).check("deadlock");
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].text, "cached waits for a lock that it holds itself: it can never go on");
    assert_eq!(findings[0].trust, Trust::Inferred);
}

#[test]
fn a_hub_thread_that_the_watcher_finds_in_one_call_for_a_second_is_blocked_now() {
    let mut snapshot = only(Vec::new());
    snapshot.threads[0].activity.value = "clock_nanosleep".into();
    let blocked = |since_ms| Blocked {
        tid: 4242,
        since_ms,
        class: Class::Sleep,
        frame: frame("poll", "/srv/shop/app.py", 7),
    };
    let mut case = case(snapshot);
    case.blocked = vec![blocked(2400)];
    case.says_its_example("blocked-now");
    // One short block after another is none that lasts.
    case.blocked = vec![blocked(400)];
    assert_eq!(case.check("blocked-now"), []);
}

#[test]
fn a_hub_blocked_for_a_third_of_the_time_starves_the_others() {
    let mut case = case(only(Vec::new()));
    (case.sites, case.worst_hub) = (sleeps(1), Some((4242, 345)));
    case.says_its_example("starvation");
}

#[test]
fn many_who_wait_for_one_lock_are_a_convoy() {
    let lock = || Wait { object: Some(NodeId(0x7f00_0000_0900)), ..wait(WaitKind::Lock, "lock") };
    let queue = |count| (0..count).map(|id| in_file(id, "get", "/srv/cache.py", 30, lock())).collect();
    case(only(queue(12))).says_its_example("lock-convoy");
    assert_eq!(case(only(queue(4))).check("lock-convoy"), []);
}

#[test]
fn a_line_that_blocks_again_and_again_is_reported() {
    let mut case = case(only(Vec::new()));
    case.sites = sleeps(14);
    case.says_its_example("repeated-block");
    case.sites = sleeps(9);
    assert_eq!(case.check("repeated-block"), []);
}

#[test]
fn two_readers_of_one_descriptor_are_reported_but_not_two_who_accept() {
    let read = |text| Wait { fd: Some(9), ..wait(WaitKind::Read, text) };
    let both = |text| only(vec![green(1, "a", 1, read(text)), green(2, "b", 2, read(text))]);
    let mut snapshot = both("recv");
    let target = "tcp 127.0.0.1:40000 → 127.0.0.1:6379".to_owned();
    snapshot.fds = vec![Fd { fd: 9, target, waiters: vec![NodeId(1), NodeId(2)] }];
    case(snapshot).says_its_example("shared-fd");
    assert_eq!(case(both("accept")).check("shared-fd"), []);
}

#[test]
fn many_who_are_ready_are_a_backlog() {
    let ready = |id| green(id, "work", 1, wait(WaitKind::Turn, "its turn"));
    case(only((0..250).map(ready).collect())).says_its_example("ready-backlog");
}

#[test]
fn hundreds_at_one_line_are_a_pile() {
    let fetch = |id| in_file(id, "fetch", "/srv/client.py", 88, wait(WaitKind::Read, "recv"));
    case(only((0..640).map(fetch).collect())).says_its_example("pile-up");
    assert_eq!(case(only((0..499).map(fetch).collect())).check("pile-up"), []);
}

#[test]
fn thousands_of_sleepers_are_reported_once() {
    let sleeper = |id| in_file(id, "poll", "/srv/poller.py", 12, wait(WaitKind::Sleep, "sleep 5 s"));
    case(only((0..1200).map(sleeper).collect())).says_its_example("sleepers");
    assert_eq!(case(only((0..999).map(sleeper).collect())).check("sleepers"), []);
}

#[test]
fn who_has_not_moved_for_minutes_without_a_timeout_may_never_finish() {
    let still = |id, seen: Wait| {
        let mut green = in_file(id, "worker", "/srv/jobs.py", 41, seen);
        green.unchanged_ms = Some(Labelled::sampled(725_000));
        green
    };
    let event = || wait(WaitKind::Event, "event");
    case(only((1..4).map(|id| still(id, event())).collect())).says_its_example("never-finishing");
    let patient = [
        Wait { seconds: Some(900.0), ..event() },
        wait(WaitKind::Sleep, "sleep 3600 s"),
        wait(WaitKind::Read, "accept"),
    ];
    let patient = patient.into_iter().zip(1..).map(|(seen, id)| still(id, seen)).collect();
    assert_eq!(case(only(patient)).check("never-finishing"), []);
}

#[test]
fn a_machine_short_of_processors_is_named() {
    let mut case = case(only(Vec::new()));
    case.watch.starved = 8;
    case.says_its_example("machine-busy");
    case.watch = WatchCounters { looks: 10_000, late_looks: 2_000, ..WatchCounters::default() };
    assert_eq!(case.check("machine-busy").len(), 1, "evtop's own lack of a processor");
}

#[test]
fn what_evtop_missed_is_said() {
    let mut snapshot = only(Vec::new());
    snapshot.counters.missed_permille = Some(234);
    case(snapshot).says_its_example("unseen");
}
