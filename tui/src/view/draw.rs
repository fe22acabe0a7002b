//! Painting the state on a frame.

use super::app::{App, Mode, Pane};
use super::chrome;
use super::detail::detail;
use super::format::wrap;
use super::paint_detail::paint_detail;
use super::paint_table::paint_table;
use super::picker;
use super::screens::{self, help, overview};
use super::tabs::Tab;
use super::theme::Tone;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;

/// Smaller terminals get a sentence instead.
pub const SMALLEST: (u16, u16) = (60, 15);

/// Narrower terminals get the detail pane below the table rather than beside it.
const BESIDE_FROM_WIDTH: u16 = 120;
/// Lower ones get it instead of the table.
const BELOW_FROM_HEIGHT: u16 = 28;

/// Draws the screen in front.
pub fn draw(frame: &mut Frame<'_>, app: &mut App) {
    app.regions.clear();
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        too_small(frame, area);
        return;
    }
    let rows = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(1),
        Constraint::Length(1),
    ]);
    let [title, tabs, body, status, hints] = rows.areas(area);
    chrome::title(frame.buffer_mut(), title, app);
    chrome::tabs(frame.buffer_mut(), tabs, app);
    draw_body(frame, body, app);
    chrome::status(frame.buffer_mut(), status, app);
    chrome::hints(frame.buffer_mut(), hints, app);
}

fn too_small(frame: &mut Frame<'_>, area: Rect) {
    let text = format!(
        "evtop needs {} x {} characters; this terminal has {} x {}. Enlarge it, or use: evtop --once PID",
        SMALLEST.0, SMALLEST.1, area.width, area.height
    );
    for (row, line) in wrap(&text, area.width as usize).iter().enumerate() {
        if (row as u16) < area.height {
            frame.buffer_mut().set_line(area.x, area.y + row as u16, &Line::raw(line.as_str()), area.width);
        }
    }
}

fn draw_body(frame: &mut Frame<'_>, body: Rect, app: &mut App) {
    if app.mode == Mode::Observe && app.tab == Tab::Help {
        help::draw(frame.buffer_mut(), body, app);
        return;
    }
    let (table, detail) = split(body, app.pane.as_ref());
    if table.height > 0 {
        draw_table(frame, table, app);
    } else {
        // The rows are needed to move from one to the next even where there is no room for them.
        app.placed();
    }
    if detail.height > 0 {
        paint_detail(frame.buffer_mut(), detail, app);
    }
}

fn split(body: Rect, pane: Option<&Pane>) -> (Rect, Rect) {
    let nothing = Rect { height: 0, ..body };
    if pane.is_none() {
        return (body, nothing);
    }
    if body.width >= BESIDE_FROM_WIDTH {
        let [table, detail] =
            Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(body);
        return (table, detail);
    }
    if body.height >= BELOW_FROM_HEIGHT {
        let [table, detail] =
            Layout::vertical([Constraint::Percentage(30), Constraint::Percentage(70)]).areas(body);
        return (table, detail);
    }
    (nothing, body)
}

fn draw_table(frame: &mut Frame<'_>, area: Rect, app: &mut App) {
    let mut area = area;
    if app.mode == Mode::Observe && app.tab == Tab::Overview && app.pane.is_none() {
        area = overview::draw(frame.buffer_mut(), area, app);
    }
    area = draw_footnote(frame, area, app);
    let empty = match app.mode {
        Mode::Observe if app.model.snapshot.is_none() => "Looking for the first time…".into(),
        _ if !app.table().filter.text.is_empty() => "No row passes the filter; Esc drops it.".into(),
        Mode::Pick => picker::WHEN_EMPTY.into(),
        Mode::Observe => screens::when_empty(app.tab, &app.model),
    };
    paint_table(frame.buffer_mut(), area, app, &empty);
}

/// What does not fit into a column: the advice for the chosen row, below the table.
fn draw_footnote(frame: &mut Frame<'_>, area: Rect, app: &mut App) -> Rect {
    if app.mode != Mode::Observe || app.pane.is_some() || !matches!(app.tab, Tab::Blocking | Tab::Lints) {
        return area;
    }
    app.placed();
    let selected = app.table().selected.clone();
    let Some(detail) = selected.and_then(|key| detail(&app.model, app.tab, &key)) else { return area };
    let mut lines = Vec::new();
    if app.tab == Tab::Lints {
        let seen = detail.facts.first().map_or("", |fact| fact.value.as_str());
        lines.extend(wrap(seen, area.width as usize).into_iter().map(Line::raw));
    }
    let style = app.theme.style(Tone::Good);
    let advice = format!("→ {}", detail.advice.unwrap_or_default());
    lines.extend(wrap(&advice, area.width as usize).into_iter().map(|line| Line::styled(line, style)));
    let height = (lines.len() as u16).min(area.height / 2);
    let [table, below] = Layout::vertical([Constraint::Min(0), Constraint::Length(height)]).areas(area);
    paint_lines(frame.buffer_mut(), below, &lines);
    table
}

/// Text lines from the top of an area; those that do not fit are left out.
pub fn paint_lines(buffer: &mut ratatui::buffer::Buffer, area: Rect, lines: &[Line<'_>]) {
    for (row, line) in lines.iter().take(area.height as usize).enumerate() {
        buffer.set_line(area.x, area.y + row as u16, line, area.width);
    }
}

/// Fills a line with a tone.
pub fn fill(buffer: &mut ratatui::buffer::Buffer, area: Rect, app: &App, tone: Tone) {
    buffer.set_style(area, app.theme.style(tone));
}
