//! Descriptors: what each leads to and who waits for it.

use crate::state::{Fd, Trust, WaitKind, own_frame};
use crate::view::format::mark;
use crate::view::model::Model;
use crate::view::table::{Cell, Column, Row, RowKey, Width};
use crate::view::theme::Tone;

/// Columns.
pub const COLUMNS: &[Column] = &[
    Column::number("Fd", 6).label(Trust::Exact),
    Column::text("For", Width::Fixed(8)),
    Column::number("Waiters", 8).label(Trust::Exact),
    Column::text("Peer or path", Width::Share(3)).label(Trust::Sampled),
    Column::text("Who waits", Width::Share(3)).label(Trust::Exact),
];

/// Names shown for one descriptor.
const NAMES: usize = 4;

/// Rows.
pub fn rows(model: &Model) -> Vec<Row> {
    let Some(snapshot) = &model.snapshot else { return Vec::new() };
    snapshot.fds.iter().map(|fd| row(model, fd)).collect()
}

fn row(model: &Model, fd: &Fd) -> Row {
    let first = fd.waiters.first().and_then(|&id| model.node(id));
    let purpose = first.and_then(|node| node.wait()).map(|wait| {
        let name = if wait.kind == WaitKind::Write { "write" } else { "read" };
        format!("{}{name}", mark(wait.trust))
    });
    let mut names: Vec<String> = fd.waiters.iter().take(NAMES).map(|&id| model.node_name(id)).collect();
    if fd.waiters.len() > NAMES {
        names.push(format!("and {} more", fd.waiters.len() - NAMES));
    }
    let tone = if fd.target == "closed" { Tone::Danger } else { Tone::Plain };
    let crowd = if fd.waiters.len() > 1 { Tone::Warning } else { Tone::Plain };
    let cells = vec![
        Cell::number(fd.fd.to_string(), f64::from(fd.fd)),
        Cell::text(purpose.unwrap_or_default()),
        Cell::number(fd.waiters.len().to_string(), fd.waiters.len() as f64).tone(crowd),
        Cell::text(fd.target.clone()).tone(tone),
        Cell::text(names.join(", ")),
    ];
    Row::new(RowKey::Fd(fd.fd), cells).at(first.and_then(|node| own_frame(node.stack())))
}
