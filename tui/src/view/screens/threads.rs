//! Python threads, below the overview.

use crate::state::{Trust, own_frame};
use crate::view::format::{mark, place};
use crate::view::model::Model;
use crate::view::table::{Cell, Column, Row, RowKey, Width};
use crate::view::theme::Tone;

/// Columns.
pub const COLUMNS: &[Column] = &[
    Column::number("Thread", 8).label(Trust::Exact),
    Column::text("Hub", Width::Fixed(18)),
    Column::text("GIL", Width::Fixed(4)).label(Trust::Sampled),
    Column::text("In", Width::Fixed(16)).label(Trust::Sampled),
    Column::text("Runs", Width::Share(2)).label(Trust::Sampled),
    Column::place("At", Width::Share(3)).label(Trust::Sampled).from(70),
];

/// Rows.
pub fn rows(model: &Model) -> Vec<Row> {
    let Some(snapshot) = &model.snapshot else { return Vec::new() };
    snapshot
        .threads
        .iter()
        .map(|thread| {
            let hub = thread.hub.as_ref().map_or_else(
                || Cell::text("–").tone(Tone::Dim),
                |hub| Cell::text(format!("{}{}", mark(hub.trust), hub.value.kind)).tone(Tone::Accent),
            );
            let runs = thread.task.or(thread.green_thread).map(|id| model.node_name(id));
            let frame = own_frame(&thread.stack);
            let gil =
                if thread.holds_gil.value { Cell::text("yes").tone(Tone::Notice) } else { Cell::text("") };
            let cells = vec![
                Cell::number(thread.tid.to_string(), f64::from(thread.tid)),
                hub,
                gil,
                Cell::text(thread.activity.value.clone()),
                Cell::text(runs.unwrap_or_else(|| thread.label().to_owned())),
                Cell::text(frame.map(|frame| place(frame)).unwrap_or_default()),
            ];
            Row::new(RowKey::Thread(thread.tid), cells).at(frame)
        })
        .collect()
}
