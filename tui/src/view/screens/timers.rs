//! Sleepers and timeouts, the one that is due first at the top.

use crate::state::{Timer, Trust, own_frame};
use crate::view::format::{mark, place, span};
use crate::view::model::{Model, Node};
use crate::view::table::{Cell, Column, Row, RowKey, Width};

/// Index of the column of what is left.
pub const LEFT: usize = 0;

/// Columns.
pub const COLUMNS: &[Column] = &[
    Column::number("Left", 8),
    Column::number("Asked", 8),
    Column::number("Still", 7).label(Trust::Inferred),
    Column::text("Purpose", Width::Fixed(8)).label(Trust::Exact),
    Column::text("Who", Width::Share(2)).label(Trust::Exact),
    Column::place("At", Width::Share(3)).label(Trust::Exact),
];

/// What is left of a wait, as its timer says, or else what is left if it has begun no later than it was first seen at its
/// place, and was not begun again since. Who has stood there for longer than it asked for has begun again.
pub fn left_ms(timer: &Timer, unchanged_ms: u64) -> (f64, Trust) {
    let asked_ms = timer.seconds * 1000.0;
    match timer.left_ms {
        Some(left) => (left as f64, Trust::Sampled),
        None if unchanged_ms as f64 > asked_ms => (asked_ms, Trust::Inferred),
        None => (asked_ms - unchanged_ms as f64, Trust::Inferred),
    }
}

/// Rows.
pub fn rows(model: &Model) -> Vec<Row> {
    let Some(snapshot) = &model.snapshot else { return Vec::new() };
    snapshot.timers.iter().map(|timer| row(model, timer)).collect()
}

fn row(model: &Model, timer: &Timer) -> Row {
    let node = model.node(timer.owner);
    let still_ms = node.map_or(0, Node::unchanged_ms);
    let (left, trust) = left_ms(timer, still_ms);
    let asked_ms = timer.seconds * 1000.0;
    let frame = node.and_then(|node| own_frame(node.stack()));
    let cells = vec![
        Cell::number(format!("{}{}", mark(trust), span(left)), left),
        Cell::number(format!("{}{}", mark(timer.trust), span(asked_ms)), asked_ms),
        Cell::number(span(still_ms as f64), still_ms as f64),
        Cell::text(timer.purpose),
        Cell::text(model.node_name(timer.owner)),
        Cell::text(frame.map(|frame| place(frame)).unwrap_or_default()),
    ];
    Row::new(RowKey::Timer(timer.owner), cells).at(frame)
}
