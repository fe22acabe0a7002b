//! The tables: what each screen has for columns and rows.

pub mod blocking;
pub mod fds;
pub mod graph;
pub mod green;
pub mod help;
pub mod lints;
pub mod overview;
pub mod tasks;
pub mod threads;
pub mod timers;

use super::model::Model;
use super::table::{Column, Row, Sort};
use super::tabs::Tab;
use std::borrow::Cow;

/// The columns of a screen.
pub fn columns(tab: Tab) -> &'static [Column] {
    match tab {
        Tab::Overview => threads::COLUMNS,
        Tab::Blocking => blocking::COLUMNS,
        Tab::Green => green::COLUMNS,
        Tab::Tasks => tasks::COLUMNS,
        Tab::Graph => graph::COLUMNS,
        Tab::Fds => fds::COLUMNS,
        Tab::Timers => timers::COLUMNS,
        Tab::Lints => lints::COLUMNS,
        Tab::Help => &[],
    }
}

/// The rows of a screen, in no order.
pub fn rows(tab: Tab, model: &Model) -> Vec<Row> {
    match tab {
        Tab::Overview => threads::rows(model),
        Tab::Blocking => blocking::rows(model),
        Tab::Green => green::rows(model),
        Tab::Tasks => tasks::rows(model),
        Tab::Graph => graph::rows(model),
        Tab::Fds => fds::rows(model),
        Tab::Timers => timers::rows(model),
        Tab::Lints => lints::rows(model),
        Tab::Help => Vec::new(),
    }
}

/// How a screen is sorted at first.
pub fn default_sort(tab: Tab) -> Sort {
    let (column, is_descending) = match tab {
        Tab::Blocking => (blocking::TOTAL, true),
        Tab::Green => (green::STILL, true),
        Tab::Graph => (graph::WAITERS, true),
        Tab::Timers => (timers::LEFT, false),
        _ => (0, false),
    };
    Sort { column, is_descending }
}

/// The sentence shown instead of an empty table.
pub fn when_empty(tab: Tab, model: &Model) -> Cow<'static, str> {
    if let (Tab::Blocking, Some(blocked)) = (tab, model.blocked.first()) {
        return blocking::still_blocked(blocked).into();
    }
    let sentence = match tab {
        Tab::Overview => "No Python thread was read.",
        Tab::Blocking => "Nothing has blocked the hub for longer than the threshold since evtop attached.",
        Tab::Green => "No green thread: greenlet is not loaded, or none was found yet.",
        Tab::Tasks => "No asyncio task.",
        Tab::Graph => {
            "Nobody waits on anybody: no task awaits a task, no green thread joins another, no lock is shared."
        }
        Tab::Fds => "No green thread or task waits for a descriptor.",
        Tab::Timers => "Nobody sleeps or waits with a timeout.",
        Tab::Lints => "Nothing looks wrong.",
        Tab::Help => "",
    };
    sentence.into()
}
