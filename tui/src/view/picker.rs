//! The list of processes to pick from.

use super::table::{Cell, Column, Row, RowKey, Sort, Width};
use super::theme::Tone;
use crate::observe::Candidate;
use crate::state::Trust;

/// Columns.
pub const COLUMNS: &[Column] = &[
    Column::number("Process", 9).label(Trust::Exact),
    Column::text("Has loaded", Width::Fixed(26)).label(Trust::Exact),
    Column::text("Command", Width::Share(1)).label(Trust::Exact),
];

/// As sorted at first: the newest process is the likeliest.
pub const SORT: Sort = Sort { column: 0, is_descending: true };

/// Shown instead of an empty list.
pub const WHEN_EMPTY: &str = "No Python process with green threads or an event loop is visible.";

/// Candidates and how many processes could not be looked into.
#[derive(Debug, Clone, Default)]
pub struct Candidates {
    /// Those found.
    pub found: Vec<Candidate>,
    /// Processes of other users.
    pub refused: usize,
}

impl Candidates {
    /// Rows.
    pub fn rows(&self) -> Vec<Row> {
        let row = |candidate: &Candidate| {
            let cells = vec![
                Cell::number(candidate.pid.to_string(), f64::from(candidate.pid)),
                Cell::text(candidate.worlds.join(" ")).tone(Tone::Accent),
                Cell::text(candidate.command.clone()),
            ];
            Row::new(RowKey::Process(candidate.pid), cells)
        };
        self.found.iter().map(row).collect()
    }

    /// The line below the list.
    pub fn status(&self) -> String {
        match self.refused {
            0 => format!("{} processes", self.found.len()),
            1 => "1 process of another user was not looked into: sudo evtop shows it".to_owned(),
            refused => {
                format!("{refused} processes of other users were not looked into: sudo evtop shows them")
            }
        }
    }
}
