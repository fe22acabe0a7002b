//! Tasks, each below the task that awaits it.

use super::green::wait_tone;
use crate::state::{Labelled, NodeId, Task, Trust, own_frame};
use crate::view::format::{place, span, wait};
use crate::view::model::Model;
use crate::view::table::{Cell, Column, Row, RowKey, Width};
use crate::view::theme::Tone;
use std::collections::HashMap;

/// Columns.
pub const COLUMNS: &[Column] = &[
    Column::text("Task", Width::Share(3)).label(Trust::Exact),
    Column::text("State", Width::Fixed(9)).label(Trust::Exact),
    Column::number("Age", 7).label(Trust::Sampled).from(90),
    Column::number("Still", 7).label(Trust::Inferred),
    Column::text("Coroutine", Width::Share(2)).label(Trust::Exact).from(100),
    Column::text("Waits for", Width::Share(3)),
    Column::place("At", Width::Share(2)).label(Trust::Exact).from(76),
    Column::number("Awaits", 7).label(Trust::Exact).from(120),
];

/// Rows.
pub fn rows(model: &Model) -> Vec<Row> {
    let Some(snapshot) = &model.snapshot else { return Vec::new() };
    // A task awaited by several hangs below the first of them; the graph shows all.
    let mut awaited_by: HashMap<NodeId, NodeId> = HashMap::new();
    for task in &snapshot.tasks {
        for &target in &task.waits_on {
            awaited_by.entry(target).or_insert(task.id);
        }
    }
    snapshot.tasks.iter().map(|task| row(task, awaited_by.get(&task.id))).collect()
}

fn row(task: &Task, awaited_by: Option<&NodeId>) -> Row {
    let tone = match task.state {
        "running" => Tone::Good,
        "ready" | "created" => Tone::Notice,
        "cancelled" => Tone::Warning,
        "finished" => Tone::Dim,
        _ => Tone::Plain,
    };
    let time = |ms: Option<Labelled<u64>>| {
        ms.map_or_else(Cell::default, |ms| Cell::number(span(ms.value as f64), ms.value as f64))
    };
    let waits = task.wait.as_ref();
    let waits = waits.map_or_else(Cell::default, |seen| Cell::text(wait(seen)).tone(wait_tone(seen.kind)));
    let frame = own_frame(&task.stack);
    let awaits = task.waits_on.len();
    let cells = vec![
        Cell::text(task.name.clone()),
        Cell::text(task.state).tone(tone),
        time(task.age_ms),
        time(task.unchanged_ms),
        Cell::text(task.coroutine.clone()),
        waits,
        Cell::text(frame.map(|frame| place(frame)).unwrap_or_default()),
        Cell::number(if awaits == 0 { String::new() } else { awaits.to_string() }, awaits as f64),
    ];
    let mut row = Row::new(RowKey::Node(task.id), cells).at(frame);
    row.parent = awaited_by.map(|&by| RowKey::Node(by));
    row
}
