//! Sleepers and timeouts, the one that is due first at the top.

use crate::state::{Timer, Trust, own_frame};
use crate::view::format::{mark, place, span};
use crate::view::model::{Model, Node};
use crate::view::table::{Cell, Column, Row, RowKey, Width};

/// Index of the column of what is left.
pub const LEFT: usize = 0;

/// Columns.
pub const COLUMNS: &[Column] = &[
    Column::number("Left ≤", 8).label(Trust::Inferred),
    Column::number("Asked", 8),
    Column::number("Still", 7).label(Trust::Sampled),
    Column::text("Purpose", Width::Fixed(8)).label(Trust::Exact),
    Column::text("Who", Width::Share(2)).label(Trust::Exact),
    Column::place("At", Width::Share(3)).label(Trust::Exact),
];

/// What is left of a wait at most: evtop may have begun to look after it began.
pub fn left_ms(timer: &Timer, unchanged_ms: u64) -> f64 {
    (timer.seconds * 1000.0 - unchanged_ms as f64).max(0.0)
}

/// Rows.
pub fn rows(model: &Model) -> Vec<Row> {
    let Some(snapshot) = &model.snapshot else { return Vec::new() };
    snapshot.timers.iter().map(|timer| row(model, timer)).collect()
}

fn row(model: &Model, timer: &Timer) -> Row {
    let node = model.node(timer.owner);
    let still_ms = node.map_or(0, Node::unchanged_ms);
    let left = left_ms(timer, still_ms);
    let asked_ms = timer.seconds * 1000.0;
    let frame = node.and_then(|node| own_frame(node.stack()));
    let cells = vec![
        Cell::number(span(left), left),
        Cell::number(format!("{}{}", mark(timer.trust), span(asked_ms)), asked_ms),
        Cell::number(span(still_ms as f64), still_ms as f64),
        Cell::text(timer.purpose),
        Cell::text(model.node_name(timer.owner)),
        Cell::text(frame.map(|frame| place(frame)).unwrap_or_default()),
    ];
    Row::new(RowKey::Timer(timer.owner), cells).at(frame)
}
