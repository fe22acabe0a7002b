//! The keys, the labels, and what the lints look for.

use crate::lint::LINTS;
use crate::view::app::App;
use crate::view::draw::paint_lines;
use crate::view::format::wrap;
use crate::view::keys::HELP;
use crate::view::theme::Tone;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

const KEYS_WIDTH: usize = 36;

const LABELS: [&str; 5] = [
    "= exact     read from the process or the kernel, and consistent when checked again",
    "≈ sampled   true at the instants it was looked at; what lies between is unknown",
    "~ inferred  concluded from other values",
    "Still       at the same place at every look for so long; only of who sleeps on a timer that can be read it is known that it \
     has not run and come back in between",
    "A mark in a header holds for the column; a column without one has a mark at each value.",
];

/// Draws the help.
pub fn draw(buffer: &mut Buffer, area: Rect, app: &mut App) {
    let lines = lines(app, area.width as usize);
    app.regions.page = area.height as usize;
    app.help_top = app.help_top.min(lines.len().saturating_sub(area.height as usize));
    paint_lines(buffer, area, &lines[app.help_top..]);
}

fn lines(app: &App, width: usize) -> Vec<Line<'static>> {
    let theme = app.theme;
    let heading = |text: &'static str| Line::styled(text, theme.style(Tone::Heading));
    let mut lines = vec![heading("Keys")];
    for (keys, meaning) in HELP {
        let room = width.saturating_sub(KEYS_WIDTH).max(20);
        for (row, text) in wrap(meaning, room).into_iter().enumerate() {
            let keys = if row == 0 { keys } else { "" };
            lines.push(Line::from(vec![
                Span::styled(format!("  {keys:<0$}", KEYS_WIDTH - 2), theme.style(Tone::Accent)),
                Span::raw(text),
            ]));
        }
    }
    lines.push(heading("Labels"));
    for text in LABELS {
        lines.extend(
            wrap(text, width.saturating_sub(2)).into_iter().map(|text| Line::raw(format!("  {text}"))),
        );
    }
    lines.push(heading("Lints, each with a sentence it says"));
    for lint in LINTS {
        lines.push(Line::styled(format!("  {}", lint.name()), theme.style(Tone::Accent)));
        let wrapped = wrap(lint.example(), width.saturating_sub(4));
        lines.extend(wrapped.into_iter().map(|text| Line::raw(format!("    {text}"))));
    }
    lines
}
