//! Calls that blocked a hub, by call site.

use crate::state::{Class, Site, Trust};
use crate::view::format::{mark, short_file, span};
use crate::view::model::Model;
use crate::view::table::{Cell, Column, Row, RowKey, Width};
use crate::view::theme::Tone;
use crate::watch::Blocked;
use std::sync::Arc;

/// Index of the column of the time lost.
pub const TOTAL: usize = 2;

/// Columns.
pub const COLUMNS: &[Column] = &[
    Column::text("Class", Width::Fixed(12)),
    Column::number("Count", 7).label(Trust::Sampled),
    Column::number("Total", 8).label(Trust::Sampled),
    Column::number("Max", 7).label(Trust::Sampled),
    Column::number("p50", 7).label(Trust::Sampled).from(78),
    Column::number("p99", 7).label(Trust::Sampled).from(70),
    Column::number("Last", 7).label(Trust::Sampled).from(90),
    Column::text("Where", Width::Share(3)).label(Trust::Sampled),
    Column::text("Call", Width::Share(2)).label(Trust::Sampled).from(110),
    Column::text("Advice", Width::Share(5)).from(160),
];

/// The tone of a class: what the program can mend stands out against what it cannot.
pub fn class_tone(class: Class) -> Tone {
    match class {
        Class::Cpu | Class::Gc | Class::Gil => Tone::Warning,
        Class::RunQueue => Tone::Dim,
        _ => Tone::Danger,
    }
}

/// The key of a site.
pub fn key(site: &Site) -> RowKey {
    RowKey::Site(site.class, site.file.clone(), site.line)
}

/// What there is to say of a call that has not ended, and is no row yet.
pub fn still_blocked(blocked: &Blocked) -> String {
    format!(
        "The hub is blocked: thread {} has been in one call for {}, at {}:{} in {} ({}). It is listed once it has ended.",
        blocked.tid,
        span(blocked.since_ms as f64),
        short_file(&blocked.frame.file),
        blocked.frame.line,
        blocked.frame.function,
        blocked.class.name()
    )
}

/// Rows.
pub fn rows(model: &Model) -> Vec<Row> {
    let now_ms = model.snapshot.as_ref().map_or(0, |snapshot| snapshot.taken_at_ms);
    model.sites().into_iter().map(|site| row(site, now_ms)).collect()
}

fn row(site: &Site, now_ms: u64) -> Row {
    let time = |ms: f64| Cell::number(span(ms), ms);
    let ago_ms = now_ms.saturating_sub(site.last_seen_ms) as f64;
    let call = [site.last.syscall.as_deref(), site.last.target.as_ref().map(|target| target.value.as_str())];
    let call = call.into_iter().flatten().collect::<Vec<_>>().join(" ");
    let cells = vec![
        Cell::text(format!("{}{}", mark(site.last.class_trust), site.class.name()))
            .tone(class_tone(site.class)),
        Cell::number(site.count.to_string(), site.count as f64),
        time(site.total_ms),
        time(site.max_ms),
        time(site.quantile_ms(0.5)),
        time(site.quantile_ms(0.99)),
        time(ago_ms).tone(Tone::Dim),
        Cell::text(format!("{}:{} {}", short_file(&site.file), site.line, site.function)),
        Cell::text(call),
        Cell::text(site.class.advice()).tone(Tone::Dim),
    ];
    let here = |frame: &&Arc<_>| is_at(frame, site);
    Row::new(key(site), cells).at(site.last.stack.iter().find(here).or(site.last.stack.first()))
}

fn is_at(frame: &crate::state::Frame, site: &Site) -> bool {
    *frame.file == site.file && frame.line == site.line
}
