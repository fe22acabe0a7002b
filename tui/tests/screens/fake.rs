//! A made-up process: the same at every run, with something on every screen.

use evtop::state::{
    Class, Counters, Delay, Edge, EdgeKind, Fd, Frame, GreenThread, Hub, Labelled, NodeId, Process,
    SNAPSHOT_SCHEMA, STALL_SCHEMA, Snapshot, Stall, Task, Thread, Timer, Trust, Wait, WaitKind,
};
use evtop::view::{App, ColourDepth, Source, Theme, Update};
use evtop::watch::WatchCounters;
use std::sync::Arc;

/// The clock of the made-up process: 2026-01-02 03:04:05 UTC.
pub const NOW_MS: u64 = 1_767_323_045_000;

/// A frame.
pub fn frame(function: &str, file: &str, line: u32) -> Arc<Frame> {
    Arc::new(Frame::new(function.into(), file.into(), line))
}

/// A wait of a kind.
pub fn wait(kind: WaitKind, text: &str) -> Wait {
    Wait {
        kind,
        text: text.into(),
        fd: None,
        target: None,
        seconds: None,
        object: None,
        holders: None,
        timeout: None,
        trust: Trust::Exact,
    }
}

/// A suspended green thread in application code at a line.
pub fn green(id: u64, name: &str, line: u32, wait: Wait) -> GreenThread {
    GreenThread {
        id: NodeId(id),
        class: "GreenThread".into(),
        name: name.into(),
        state: "suspended",
        role: "green thread",
        tid: Some(4242),
        parent: Some(NodeId(1)),
        age_ms: Some(Labelled::sampled(90_000)),
        unchanged_ms: Some(Labelled::sampled(1_500)),
        wait: Some(wait.into()),
        stack: vec![
            frame("trampoline", "/venv/lib/python3.11/site-packages/eventlet/hubs/__init__.py", 157),
            frame(name, "/srv/shop/app.py", line),
            frame("GreenThread.main", "/venv/lib/python3.11/site-packages/eventlet/greenthread.py", 272),
        ]
        .into(),
        is_stack_cut: false,
    }
}

/// A waiting task.
pub fn task(id: u64, name: &str, wait: Wait, waits_on: &[u64]) -> Task {
    Task {
        id: NodeId(id),
        name: name.into(),
        state: "waiting",
        coroutine: "fetch_all".into(),
        event_loop: "uringhub.Loop".into(),
        age_ms: Some(Labelled::sampled(12_000)),
        unchanged_ms: Some(Labelled::sampled(3_000)),
        wait: Some(wait.into()),
        stack: vec![frame("fetch_all", "/srv/shop/jobs.py", 31)],
        waits_on: waits_on.iter().copied().map(NodeId).collect(),
        waits_on_more: 0,
    }
}

fn green_threads() -> Vec<GreenThread> {
    let read = |fd, target: &str| Wait {
        fd: Some(fd),
        target: Some(target.to_owned()),
        ..wait(WaitKind::Read, "recv")
    };
    let mut hub = green(1, "EpollHub.run", 0, wait(WaitKind::Other, ""));
    (hub.role, hub.wait) = ("hub", None);
    let mut main =
        green(2, "<module>", 60, Wait { seconds: Some(3600.0), ..wait(WaitKind::Sleep, "sleep 3600 s") });
    main.role = "main";
    let lock = |id| Wait { object: Some(NodeId(0x9_0000)), ..green_lock(id) };
    let mut all = vec![
        hub,
        main,
        green(3, "serve", 20, read(9, "tcp 127.0.0.1:8080 → 127.0.0.1:50001")),
        green(4, "serve", 20, read(10, "tcp 127.0.0.1:8080 → 127.0.0.1:50002")),
        green(5, "query", 33, read(11, "tcp 127.0.0.1:50100 → 127.0.0.1:5432")),
        green(6, "refresh", 41, Wait { seconds: Some(30.0), ..wait(WaitKind::Sleep, "sleep 30 s") }),
        green(
            7,
            "join_all",
            48,
            Wait { object: Some(NodeId(6)), ..wait(WaitKind::GreenThread, "green thread to end") },
        ),
    ];
    all.extend((20..26).map(|id| green(id, "cached", 52, lock(id))));
    all[6].unchanged_ms = Some(Labelled::sampled(725_000));
    all
}

fn green_lock(_id: u64) -> Wait {
    wait(WaitKind::Lock, "lock or semaphore")
}

fn tasks() -> Vec<Task> {
    let mut gather = task(40, "nightly", wait(WaitKind::Gather, "_GatheringFuture"), &[41, 42]);
    gather.stack = vec![frame("gather_all", "/srv/shop/jobs.py", 12)];
    let stream = Wait {
        fd: Some(12),
        target: Some("tcp 127.0.0.1:50200 → 127.0.0.1:6379".into()),
        ..wait(WaitKind::Read, "stream")
    };
    let mut ready = task(42, "fetch-2", wait(WaitKind::Turn, "its turn"), &[]);
    ready.state = "ready";
    if let Some(wait) = &mut ready.wait {
        Arc::make_mut(wait).trust = Trust::Inferred;
    }
    vec![gather, task(41, "fetch-1", stream, &[]), ready]
}

fn edges() -> Vec<Edge> {
    let edge = |from, to, kind| Edge { from: NodeId(from), to: NodeId(to), kind, trust: Trust::Exact };
    vec![
        edge(7, 6, EdgeKind::Join),
        edge(40, 41, EdgeKind::Gather),
        edge(40, 42, EdgeKind::Gather),
        Edge { trust: Trust::Inferred, ..edge(5, 41, EdgeKind::Bridge) },
    ]
}

fn thread() -> Thread {
    Thread {
        tid: 4242,
        name: "python".into(),
        python_name: None,
        hub: Some(Labelled::exact(Hub { kind: "eventlet epolls".into(), driver: Some("epoll_wait".into()) })),
        holds_gil: Labelled::sampled(false),
        activity: Labelled::sampled("epoll_wait".into()),
        green_thread: Some(NodeId(1)),
        task: None,
        stack: vec![frame("Hub.wait", "/venv/lib/python3.11/site-packages/eventlet/hubs/poll.py", 88)],
        is_stack_cut: false,
        state: 0,
        greenlet_state: 0,
    }
}

/// The process as one look shows it.
pub fn snapshot() -> Snapshot {
    let (green_threads, tasks) = (green_threads(), tasks());
    let fds =
        [(9, "tcp 127.0.0.1:8080 → 127.0.0.1:50001", 3), (11, "tcp 127.0.0.1:50100 → 127.0.0.1:5432", 5)];
    let fds =
        fds.map(|(fd, target, id)| Fd { fd, target: target.into(), waiters: vec![NodeId(id)] }).to_vec();
    let timer = |owner, seconds, left_ms| Timer {
        owner: NodeId(owner),
        seconds,
        left_ms,
        purpose: "sleep",
        trust: Trust::Exact,
    };
    Snapshot {
        schema: SNAPSHOT_SCHEMA,
        taken_at_ms: NOW_MS,
        took_us: 1_830,
        process: Process {
            pid: 4242,
            namespace_pid: 4242,
            command: "python -m shop --workers 1".into(),
            python: "3.11.7".into(),
            interpreter: "/usr/lib/libpython3.11.so.1.0".into(),
            rss_bytes: 61 << 20,
            kernel_threads: 3,
            is_stopped: false,
        },
        threads: vec![thread()],
        green_threads,
        tasks,
        edges: edges(),
        fds,
        timers: vec![timer(6, 30.0, Some(17_300)), timer(2, 3600.0, None)],
        counters: Counters {
            green_threads_found: 13,
            green_threads_lost: 2,
            missed_permille: Some(12),
            frames: 37,
            read_calls: 14,
            read_bytes: 88_000,
            ..Counters::default()
        },
    }
}

/// A stall.
pub fn stall(class: Class, line: u32, duration_ms: f64) -> Stall {
    Stall {
        schema: STALL_SCHEMA,
        started_at_ms: NOW_MS - 4_000,
        duration_ms,
        error_ms: 1.0,
        is_open: false,
        class,
        class_trust: Trust::Exact,
        file: "/srv/shop/app.py".into(),
        line,
        function: "price".into(),
        innermost: frame("price", "/srv/shop/app.py", line),
        syscall: (class == Class::Sleep).then(|| "clock_nanosleep".to_owned()),
        fd: None,
        target: None,
        library: None,
        delay: Delay {
            application_ms: duration_ms - 1.0,
            gil_ms: 0.0,
            run_queue_ms: 1.0,
            stolen_ms: 0.0,
            processor_ms: 0.0,
        },
        stack: vec![frame("price", "/srv/shop/app.py", line), frame("serve", "/srv/shop/app.py", 20)],
        parts: Vec::new(),
        thread: 4242,
        green_thread: Some(NodeId(3)),
        task: None,
        advice: class.advice(),
    }
}

/// A source in which every line says where it is.
#[derive(Debug)]
pub struct FakeSource;

impl Source for FakeSource {
    fn line(&mut self, file: &str, line: u32) -> Option<String> {
        file.starts_with("/srv/").then(|| format!("    line_{line}()"))
    }
}

/// The screens with some minutes of news behind them.
pub fn app() -> App {
    let mut app = App::observe(4242, Theme { depth: ColourDepth::None }, Box::new(FakeSource));
    for beat in 0..120_u64 {
        if beat % 10 == 0 {
            app.apply(Update::Stall(Box::new(stall(Class::Sleep, 7, 120.0 + beat as f64))));
        }
        if beat % 40 == 0 {
            app.apply(Update::Stall(Box::new(stall(Class::Cpu, 15, 1_300.0))));
        }
        let counters = WatchCounters {
            looks: beat * 500,
            inspections: 40,
            late_looks: 3,
            starved: 1,
            longest_stretch_us: 900 + beat * 10,
            threads: 1,
            ..WatchCounters::default()
        };
        app.apply(Update::Counters(counters));
    }
    app.apply(Update::Snapshot(Box::new(snapshot())));
    app
}
