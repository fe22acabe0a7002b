//! Green threads.

use crate::state::{GreenThread, Labelled, Trust, WaitKind, own_frame};
use crate::view::format::{place, span, wait};
use crate::view::model::Model;
use crate::view::table::{Cell, Column, Row, RowKey, Width};
use crate::view::theme::Tone;

/// Index of the column of how long nothing changed.
pub const STILL: usize = 2;

/// Columns.
pub const COLUMNS: &[Column] = &[
    Column::text("State", Width::Fixed(11)).label(Trust::Exact),
    Column::number("Age", 7).label(Trust::Sampled).from(70),
    Column::number("Still", 7).label(Trust::Inferred),
    Column::text("Function", Width::Share(2)).label(Trust::Exact),
    Column::text("Waits for", Width::Share(3)),
    Column::place("At", Width::Share(2)).label(Trust::Exact).from(76),
    Column::text("Class", Width::Fixed(14)).label(Trust::Exact).from(140),
    Column::number("Thread", 8).label(Trust::Exact).from(140),
];

/// The tone of what is waited for.
pub fn wait_tone(kind: WaitKind) -> Tone {
    match kind {
        WaitKind::Lock | WaitKind::Condition => Tone::Warning,
        WaitKind::Turn => Tone::Good,
        WaitKind::Other => Tone::Dim,
        _ => Tone::Plain,
    }
}

/// Rows.
pub fn rows(model: &Model) -> Vec<Row> {
    let Some(snapshot) = &model.snapshot else { return Vec::new() };
    snapshot.green_threads.iter().map(row).collect()
}

fn row(green: &GreenThread) -> Row {
    let state = match (green.role, green.state) {
        ("green thread", state) => state,
        (role, _) => role,
    };
    let tone = match state {
        "running" => Tone::Good,
        "hub" | "main" => Tone::Accent,
        "dead" => Tone::Dim,
        _ => Tone::Plain,
    };
    let time = |ms: Option<Labelled<u64>>| {
        ms.map_or_else(Cell::default, |ms| Cell::number(span(ms.value as f64), ms.value as f64))
    };
    let waits = green.wait.as_ref();
    let waits = waits.map_or_else(Cell::default, |seen| Cell::text(wait(seen)).tone(wait_tone(seen.kind)));
    let frame = own_frame(&green.stack);
    let cut = if green.is_stack_cut { "…" } else { "" };
    let cells = vec![
        Cell::text(state).tone(tone),
        time(green.age_ms),
        time(green.unchanged_ms),
        Cell::text(&*green.name),
        waits,
        Cell::text(frame.map(|frame| format!("{}{cut}", place(frame))).unwrap_or_default()),
        Cell::text(&*green.class).tone(Tone::Dim),
        green.tid.map_or_else(Cell::default, |tid| Cell::number(tid.to_string(), f64::from(tid))),
    ];
    Row::new(RowKey::Node(green.id), cells).at(frame)
}
