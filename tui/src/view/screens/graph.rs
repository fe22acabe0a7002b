//! Who waits on whom: at the root what everybody below waits for in the end.

use crate::state::{Edge, EdgeKind, NodeId, Trust, WaitKind, own_frame};
use crate::view::format::{mark, span, wait};
use crate::view::model::{Model, Node};
use crate::view::table::{Cell, Column, Row, RowKey, Width};
use crate::view::theme::Tone;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Index of the column of how many wait.
pub const WAITERS: usize = 2;

/// Columns.
pub const COLUMNS: &[Column] = &[
    Column::text("Waited on, and who waits", Width::Share(3)).label(Trust::Exact),
    Column::text("Why", Width::Fixed(10)),
    Column::number("Waiting", 9).label(Trust::Exact),
    Column::number("Still", 7).label(Trust::Inferred).from(70),
    Column::text("Is itself", Width::Share(3)),
];

/// A name for why an edge exists.
pub fn edge_name(kind: EdgeKind) -> &'static str {
    match kind {
        EdgeKind::Await => "await",
        EdgeKind::Gather => "gather",
        EdgeKind::TaskGroup => "task group",
        EdgeKind::Wait => "wait",
        EdgeKind::Shield => "shield",
        EdgeKind::Join => "join",
        EdgeKind::Lock => "lock",
        EdgeKind::Semaphore => "semaphore",
        EdgeKind::Bridge => "bridge",
    }
}

struct Graph<'m> {
    model: &'m Model,
    out: BTreeMap<NodeId, Vec<&'m Edge>>,
    waiters: HashMap<NodeId, Vec<NodeId>>,
}

/// Rows.
pub fn rows(model: &Model) -> Vec<Row> {
    let Some(snapshot) = &model.snapshot else { return Vec::new() };
    let mut graph = Graph { model, out: BTreeMap::new(), waiters: HashMap::new() };
    for edge in &snapshot.edges {
        graph.out.entry(edge.from).or_default().push(edge);
        graph.waiters.entry(edge.to).or_default().push(edge.from);
    }
    let shared = graph.shared_objects();
    for (object, (_, waiters)) in &shared {
        graph.waiters.entry(*object).or_default().extend(waiters);
    }
    let mut rows: Vec<Row> = Vec::new();
    let targets: BTreeSet<NodeId> = snapshot.edges.iter().map(|edge| edge.to).collect();
    for &root in targets.iter().filter(|id| !graph.out.contains_key(id)) {
        rows.push(graph.row(RowKey::Node(root), root, None));
    }
    for edges in graph.out.values() {
        rows.extend(edges.iter().map(|edge| graph.edge_row(edge)));
    }
    for (object, (kind, waiters)) in &shared {
        rows.push(graph.object_row(*object, *kind));
        rows.extend(waiters.iter().map(|&waiter| {
            let mut row = graph.row(RowKey::Edge(waiter, *object), waiter, Some(("waits", Trust::Exact)));
            row.parent = Some(RowKey::Object(*object));
            row
        }));
    }
    rows
}

impl<'m> Graph<'m> {
    /// Objects that are no green thread or task and hold up at least two of them.
    fn shared_objects(&self) -> BTreeMap<NodeId, (WaitKind, Vec<NodeId>)> {
        let mut objects: BTreeMap<NodeId, (WaitKind, Vec<NodeId>)> = BTreeMap::new();
        let Some(snapshot) = &self.model.snapshot else { return objects };
        let greens = snapshot.green_threads.iter().map(|green| (green.id, &green.wait));
        let tasks = snapshot.tasks.iter().map(|task| (task.id, &task.wait));
        for (id, wait) in greens.chain(tasks) {
            let Some(wait) = wait else { continue };
            let Some(object) = wait.object.filter(|&object| self.model.node(object).is_none()) else {
                continue;
            };
            if !self.out.contains_key(&id) {
                objects.entry(object).or_insert((wait.kind, Vec::new())).1.push(id);
            }
        }
        objects.retain(|_, (_, waiters)| waiters.len() > 1);
        objects
    }

    /// The row under which others hang that wait on this node.
    fn key_of(&self, id: NodeId) -> RowKey {
        match self.out.get(&id).and_then(|edges| edges.first()) {
            Some(edge) => RowKey::Edge(edge.from, edge.to),
            None => RowKey::Node(id),
        }
    }

    fn edge_row(&self, edge: &Edge) -> Row {
        let mut row =
            self.row(RowKey::Edge(edge.from, edge.to), edge.from, Some((edge_name(edge.kind), edge.trust)));
        row.parent = Some(self.key_of(edge.to));
        row
    }

    fn row(&self, key: RowKey, id: NodeId, why: Option<(&str, Trust)>) -> Row {
        let waiting = self.waiting(id);
        let node = self.model.node(id);
        let still_ms = node.map_or(0, Node::unchanged_ms) as f64;
        let itself = node.map(|node| match node.wait() {
            Some(seen) => wait(seen),
            None => format!("={}", node.state()),
        });
        let cells = vec![
            Cell::text(self.model.node_name(id)),
            why.map_or_else(Cell::default, |(why, trust)| Cell::text(format!("{}{why}", mark(trust)))),
            count(waiting),
            Cell::number(span(still_ms), still_ms),
            Cell::text(itself.unwrap_or_else(|| "~not read".to_owned())),
        ];
        Row::new(key, cells).at(node.and_then(|node| own_frame(node.stack())))
    }

    fn object_row(&self, object: NodeId, kind: WaitKind) -> Row {
        let name = format!("{kind:?}").to_lowercase();
        let tone = if kind == WaitKind::Lock { Tone::Warning } else { Tone::Accent };
        let cells = vec![
            Cell::text(format!("{name} at {object}")).tone(tone),
            Cell::default(),
            count(self.waiters.get(&object).map_or(0, Vec::len)),
            Cell::default(),
            Cell::text(if kind == WaitKind::Lock { "~holder unknown" } else { "=an object several wait on" }),
        ];
        Row::new(RowKey::Object(object), cells)
    }

    /// How many wait for a node, directly or through others.
    fn waiting(&self, id: NodeId) -> usize {
        let mut seen = HashSet::from([id]);
        let mut pending = vec![id];
        while let Some(id) = pending.pop() {
            let waiters = self.waiters.get(&id).into_iter().flatten();
            pending.extend(waiters.filter(|waiter| seen.insert(**waiter)));
        }
        seen.len() - 1
    }
}

fn count(waiting: usize) -> Cell {
    Cell::number(if waiting == 0 { String::new() } else { waiting.to_string() }, waiting as f64)
}
