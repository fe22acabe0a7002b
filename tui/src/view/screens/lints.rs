//! What looks wrong, in sentences.

use crate::lint::Severity;
use crate::view::format::mark;
use crate::view::model::Model;
use crate::view::table::{Cell, Column, Row, RowKey, Width};
use crate::view::theme::Tone;

/// Columns.
pub const COLUMNS: &[Column] = &[
    Column::text("Level", Width::Fixed(8)),
    Column::text("Lint", Width::Fixed(17)).from(78),
    Column::text("What was seen", Width::Share(1)),
];

/// The tone of a severity.
pub fn severity_tone(severity: Severity) -> Tone {
    match severity {
        Severity::Error => Tone::Danger,
        Severity::Warning => Tone::Warning,
        Severity::Note => Tone::Notice,
    }
}

/// Rows.
pub fn rows(model: &Model) -> Vec<Row> {
    model
        .findings
        .iter()
        .map(|finding| {
            let tone = severity_tone(finding.severity);
            let cells = vec![
                Cell::number(finding.severity.name(), finding.severity as u8 as f64).tone(tone),
                Cell::text(finding.lint).tone(Tone::Accent),
                Cell::text(format!("{}{}", mark(finding.trust), finding.text)),
            ];
            Row::new(RowKey::Finding(finding.lint, finding.subject.clone()), cells).at(finding.place.as_ref())
        })
        .collect()
}
