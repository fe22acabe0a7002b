//! All that is known about one row: labelled facts, advice, and the whole stack.

use super::format::{clock, label, mebibytes, node_name, span};
use super::model::{Model, Node};
use super::screens::graph::edge_name;
use super::screens::timers::left_ms;
use super::table::RowKey;
use super::tabs::Tab;
use crate::lint::Finding;
use crate::state::{Frame, GreenThread, Labelled, NodeId, Site, Snapshot, Stall, Task, Thread, Trust, Wait};
use std::sync::Arc;

/// A value with its name and label.
#[derive(Debug, Clone, PartialEq)]
pub struct Fact {
    /// What it is.
    pub name: &'static str,
    /// The value.
    pub value: String,
    /// How sure.
    pub trust: Trust,
}

/// What the detail pane shows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Detail {
    /// Heading.
    pub title: String,
    /// Facts.
    pub facts: Vec<Fact>,
    /// What to do.
    pub advice: Option<String>,
    /// Innermost first.
    pub stack: Vec<Arc<Frame>>,
    /// The stack is incomplete.
    pub is_cut: bool,
}

impl Detail {
    fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), ..Self::default() }
    }

    fn fact(&mut self, name: &'static str, value: impl Into<String>, trust: Trust) {
        self.facts.push(Fact { name, value: value.into(), trust });
    }

    fn exact(&mut self, name: &'static str, value: impl Into<String>) {
        self.fact(name, value, Trust::Exact);
    }

    fn sampled(&mut self, name: &'static str, value: impl Into<String>) {
        self.fact(name, value, Trust::Sampled);
    }

    fn time(&mut self, name: &'static str, time_ms: Option<Labelled<u64>>) {
        if let Some(time_ms) = time_ms {
            self.fact(name, span(time_ms.value as f64), time_ms.trust);
        }
    }

    fn wait(&mut self, wait: &Wait) {
        self.fact("waits for", wait.text.clone(), wait.trust);
        if let Some(fd) = wait.fd {
            self.fact("descriptor", fd.to_string(), wait.trust);
        }
        if let Some(target) = &wait.target {
            self.sampled("leads to", target.clone());
        }
        if let Some(seconds) = wait.seconds {
            self.fact("seconds", seconds.to_string(), wait.trust);
        }
        if let Some(timeout) = wait.timeout {
            self.fact("time limit", format!("{} s", (timeout.value * 1e3).round() / 1e3), timeout.trust);
        }
        if let Some(object) = wait.object {
            self.exact("object", object.to_string());
        }
        if wait.holders.as_ref().is_some_and(|holders| holders.value.is_empty()) {
            self.fact("holder", "unknown: nobody seen in a with block of it", Trust::Inferred);
        }
    }
}

/// The detail of a row, while what it stands for exists.
pub fn detail(model: &Model, tab: Tab, key: &RowKey) -> Option<Detail> {
    if let RowKey::Site(class, file, line) = key {
        let sites = model.sites();
        let is_it = |site: &&&Site| site.class == *class && site.file == *file && site.line == *line;
        return sites.iter().find(is_it).map(|site| of_site(model, site));
    }
    if let RowKey::Finding(lint, subject) = key {
        let is_it = |finding: &&Finding| finding.lint == *lint && finding.subject == *subject;
        return model.findings.iter().find(is_it).map(|finding| of_finding(model, finding));
    }
    let snapshot = model.snapshot.as_ref()?;
    match key {
        RowKey::Thread(tid) => snapshot
            .threads
            .iter()
            .find(|thread| thread.tid == *tid)
            .map(|thread| of_thread(snapshot, thread)),
        RowKey::Node(id) | RowKey::Edge(id, _) => of_node(model, snapshot, *id),
        RowKey::Timer(id) => {
            of_node(model, snapshot, *id).map(|detail| with_timer(detail, snapshot, model, *id))
        }
        RowKey::Object(id) => Some(of_object(model, snapshot, *id)),
        RowKey::Fd(fd) => of_fd(model, snapshot, *fd),
        RowKey::Process(_) | RowKey::Site(..) | RowKey::Finding(..) => {
            debug_assert!(tab != Tab::Help);
            None
        }
    }
}

fn of_node(model: &Model, snapshot: &Snapshot, id: NodeId) -> Option<Detail> {
    let mut detail = match model.node(id)? {
        Node::Green(green) => of_green(model, green),
        Node::Task(task) => of_task(task),
    };
    let mut targets = snapshot.edges.iter().filter(|edge| edge.from == id);
    for edge in targets.by_ref().take(EDGES_SHOWN) {
        let text = format!("{} ({})", model.node_name(edge.to), edge_name(edge.kind));
        detail.fact("waits on", text, edge.trust);
    }
    let more = targets.count() + model.node(id).map_or(0, Node::waits_on_more);
    if more > 0 {
        detail.exact("and on", format!("{more} more"));
    }
    let waiters: Vec<_> = snapshot.edges.iter().filter(|edge| edge.to == id).collect();
    for edge in waiters.iter().take(EDGES_SHOWN) {
        let text = format!("{} ({})", model.node_name(edge.from), edge_name(edge.kind));
        detail.fact("waited on by", text, edge.trust);
    }
    if waiters.len() > EDGES_SHOWN {
        detail.exact("and by", format!("{} more", waiters.len() - EDGES_SHOWN));
    }
    Some(detail)
}

/// Neighbours in the graph shown for one node.
const EDGES_SHOWN: usize = 8;

fn of_green(model: &Model, green: &GreenThread) -> Detail {
    let mut detail = Detail::new(format!("{} {}", green.role, green.name));
    detail.exact("identity", format!("{} {}", green.class, green.id));
    detail.exact("state", green.state);
    detail.time("seen for", green.age_ms);
    detail.time("at this place", green.unchanged_ms);
    if let Some(tid) = green.tid {
        detail.exact("thread", tid.to_string());
    }
    if let Some(parent) = green.parent {
        detail.exact("parent", model.node_name(parent));
    }
    if let Some(wait) = &green.wait {
        detail.wait(wait);
    }
    detail.stack = green.stack.to_vec();
    detail.is_cut = green.is_stack_cut;
    detail
}

fn of_task(task: &Task) -> Detail {
    let mut detail = Detail::new(format!("task {}", task.name));
    detail.exact("identity", task.id.to_string());
    detail.exact("coroutine", task.coroutine.clone());
    detail.exact("state", task.state);
    detail.exact("event loop", task.event_loop.clone());
    detail.time("seen for", task.age_ms);
    detail.time("at this place", task.unchanged_ms);
    if let Some(wait) = &task.wait {
        detail.wait(wait);
    }
    detail.stack = task.stack.clone();
    detail
}

fn with_timer(mut detail: Detail, snapshot: &Snapshot, model: &Model, id: NodeId) -> Detail {
    if let Some(timer) = snapshot.timers.iter().find(|timer| timer.owner == id) {
        let (left, trust) = left_ms(timer, model.node(id).map_or(0, Node::unchanged_ms));
        detail.fact("left", span(left), trust);
    }
    detail
}

fn of_thread(snapshot: &Snapshot, thread: &Thread) -> Detail {
    let mut detail = Detail::new(format!("thread {} {}", thread.tid, thread.label()));
    if let Some(hub) = &thread.hub {
        detail.fact("hub", hub.value.kind.clone(), hub.trust);
        if let Some(driver) = &hub.value.driver {
            detail.fact("driver", driver.clone(), hub.trust);
        }
    }
    detail.fact("is in", thread.activity.value.clone(), thread.activity.trust);
    detail.fact("holds the GIL", if thread.holds_gil.value { "yes" } else { "no" }, thread.holds_gil.trust);
    if let Some(id) = thread.green_thread {
        detail.sampled("green thread", node_name(snapshot, id));
    }
    if let Some(id) = thread.task {
        detail.sampled("task", node_name(snapshot, id));
    }
    detail.stack = thread.stack.clone();
    detail
}

fn of_site(model: &Model, site: &Site) -> Detail {
    let last = &site.last;
    let mut detail = Detail::new(format!("{} at {}:{}", site.class.name(), site.file, site.line));
    detail.fact("class", site.class.name(), last.class_trust);
    detail.sampled("function", site.function.clone());
    let spread = format!(
        "{} times, {} in all, longest {}, p50 {}, p99 {}",
        site.count,
        span(site.total_ms),
        span(site.max_ms),
        span(site.quantile_ms(0.5)),
        span(site.quantile_ms(0.99))
    );
    detail.sampled("blocked", spread);
    detail.sampled("seen", format!("first {}, last {}", clock(site.first_seen_ms), clock(site.last_seen_ms)));
    of_last_stall(model, last, &mut detail);
    detail.advice = Some(site.class.advice().to_owned());
    detail.stack = last.stack.clone();
    detail
}

fn of_last_stall(model: &Model, last: &Stall, detail: &mut Detail) {
    let open = if last.is_open { ", not ended" } else { "" };
    detail.sampled("last time", format!("{} ± {:.1}ms{open}", span(last.duration_ms), last.error_ms));
    detail.sampled(
        "of which",
        format!(
            "{} its own, {} for the GIL, {} for a processor",
            span(last.delay.application_ms),
            span(last.delay.gil_ms),
            span(last.delay.run_queue_ms)
        ),
    );
    if last.delay.stolen_ms > 0.0 {
        detail.sampled("taken", format!("up to {} by the hypervisor", span(last.delay.stolen_ms)));
    }
    detail.sampled("call", last.syscall.clone().unwrap_or_else(|| "computing".to_owned()));
    if let Some(fd) = last.fd {
        detail.sampled("descriptor", fd.to_string());
    }
    if let Some(target) = &last.target {
        detail.fact("target", target.value.clone(), target.trust);
    }
    if let Some(library) = &last.library {
        detail.fact("library", library.value.clone(), library.trust);
    }
    detail.exact("thread", last.thread.to_string());
    if let Some(id) = last.green_thread {
        detail.sampled("green thread", model.node_name(id));
    }
    if let Some(id) = last.task {
        detail.sampled("task", model.node_name(id));
    }
    for part in last.parts.iter().skip(1) {
        let frame = &part.frame;
        detail.sampled("and also", format!("{} at {}:{}", part.class.name(), frame.file, frame.line));
    }
}

fn of_fd(model: &Model, snapshot: &Snapshot, fd: i32) -> Option<Detail> {
    let known = snapshot.fds.iter().find(|known| known.fd == fd)?;
    let mut detail = Detail::new(format!("descriptor {fd}"));
    detail.sampled("leads to", known.target.clone());
    name_all(model, &mut detail, "waited on by", &known.waiters);
    Some(detail)
}

fn of_object(model: &Model, snapshot: &Snapshot, id: NodeId) -> Detail {
    let mut detail = Detail::new(format!("object at {id}"));
    let greens = snapshot.green_threads.iter().map(|green| (green.id, &green.wait));
    let tasks = snapshot.tasks.iter().map(|task| (task.id, &task.wait));
    let is_waiter = |wait: &&Option<Arc<Wait>>| wait.as_ref().is_some_and(|wait| wait.object == Some(id));
    let waiters: Vec<NodeId> =
        greens.chain(tasks).filter(|(_, wait)| is_waiter(wait)).map(|(id, _)| id).collect();
    name_all(model, &mut detail, "waited on by", &waiters);
    detail
}

fn of_finding(model: &Model, finding: &Finding) -> Detail {
    let mut detail = Detail::new(format!("{} {}", finding.severity.name(), finding.lint));
    detail.fact("seen", finding.text.clone(), finding.trust);
    detail.advice = Some(finding.advice.to_owned());
    name_all(model, &mut detail, "concerns", &finding.nodes);
    detail.stack = finding
        .nodes
        .first()
        .and_then(|&id| model.node(id))
        .map_or_else(|| finding.place.iter().cloned().collect(), |node| node.stack().to_vec());
    detail
}

/// The first of these by name and stack, the others by number.
fn name_all(model: &Model, detail: &mut Detail, name: &'static str, nodes: &[NodeId]) {
    for &id in nodes.iter().take(EDGES_SHOWN) {
        detail.exact(name, format!("{} {id}", model.node_name(id)));
    }
    if nodes.len() > EDGES_SHOWN {
        detail.exact("and", format!("{} more", nodes.len() - EDGES_SHOWN));
    }
    if let Some(node) = nodes.first().and_then(|&id| model.node(id)) {
        detail.stack = node.stack().to_vec();
    }
}

impl Fact {
    /// The label in words.
    pub fn label(&self) -> &'static str {
        label(self.trust)
    }
}

/// The process's own line on the overview.
pub fn process_line(snapshot: &Snapshot) -> String {
    let process = &snapshot.process;
    let inner = if process.namespace_pid == process.pid {
        String::new()
    } else {
        format!(" ({} in its container)", process.namespace_pid)
    };
    format!(
        "Python {}, {} resident, {} kernel threads{inner}",
        process.python,
        mebibytes(process.rss_bytes),
        process.kernel_threads
    )
}
