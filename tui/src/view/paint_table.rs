//! Painting a table: header, rows that fit, the cursor.

use super::app::App;
use super::arrange::Placed;
use super::draw::fill;
use super::format::{cut, cut_start, mark, wrap};
use super::layout::Hit;
use super::table::{Column, Sort, Width};
use super::theme::{Theme, Tone};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use unicode_width::UnicodeWidthStr;

/// A column with its place on the line.
struct Slot {
    index: usize,
    column: &'static Column,
    x: u16,
    width: u16,
}

/// Paints the table in front.
pub fn paint_table(buffer: &mut Buffer, area: Rect, app: &mut App, when_empty: &str) {
    if area.height < 2 || area.width == 0 {
        app.regions.page = 1;
        return;
    }
    app.regions.page = area.height as usize - 1;
    let slots = slots(app.columns(), area.width);
    let theme = app.theme;
    let sort = app.table().sort;
    for slot in &slots {
        let cell = Rect { x: area.x + slot.x, y: area.y, width: slot.width, height: 1 };
        header(buffer, cell, slot, sort, theme);
        app.regions.add(cell, Hit::Column(slot.index));
    }
    app.placed();
    keep_in_view(app);
    let (top, cursor) = (app.table().top, app.table().cursor);
    let body = Rect { y: area.y + 1, height: area.height - 1, ..area };
    if app.placed().is_empty() {
        for (row, line) in wrap(when_empty, area.width as usize).iter().take(body.height as usize).enumerate()
        {
            buffer.set_string(body.x, body.y + row as u16, line, theme.style(Tone::Dim));
        }
        return;
    }
    let count = app.placed().len();
    let shown = top..count.min(top + body.height as usize);
    for place in shown {
        let line = Rect { y: body.y + (place - top) as u16, height: 1, ..body };
        row(buffer, line, &slots, &app.placed()[place], theme);
        if place == cursor {
            fill(buffer, line, app, Tone::Selected);
        }
        app.regions.add(line, Hit::Row(place));
    }
}

/// The page may have become smaller since the cursor was moved.
fn keep_in_view(app: &mut App) {
    let page = app.regions.page;
    let count = app.placed().len();
    let table = app.table_mut();
    table.top = table.top.clamp((table.cursor + 1).saturating_sub(page), table.cursor);
    table.top = table.top.min(count.saturating_sub(page));
}

fn slots(columns: &'static [Column], width: u16) -> Vec<Slot> {
    let shown: Vec<(usize, &Column)> =
        columns.iter().enumerate().filter(|(_, column)| column.from_width <= width).collect();
    let gaps = shown.len().saturating_sub(1) as u16;
    let fixed: u16 = shown.iter().map(|(_, column)| fixed_width(column)).sum();
    let shares: u16 = shown.iter().map(|(_, column)| share(column)).sum();
    let rest = width.saturating_sub(fixed + gaps);
    let mut slots = Vec::new();
    let (mut x, mut shares_left, mut rest_left) = (0, shares, rest);
    for (index, column) in shown {
        let own = match column.width {
            Width::Fixed(width) => width,
            Width::Share(share) => {
                let own = (u32::from(rest_left) * u32::from(share) / u32::from(shares_left.max(1))) as u16;
                shares_left -= share;
                rest_left -= own;
                own
            }
        };
        let own = own.min(width.saturating_sub(x));
        slots.push(Slot { index, column, x, width: own });
        x = (x + own + 1).min(width);
    }
    slots
}

fn fixed_width(column: &Column) -> u16 {
    if let Width::Fixed(width) = column.width { width } else { 0 }
}

fn share(column: &Column) -> u16 {
    if let Width::Share(share) = column.width { share } else { 0 }
}

fn header(buffer: &mut Buffer, area: Rect, slot: &Slot, sort: Sort, theme: Theme) {
    let mut text = slot.column.title.to_owned();
    if let Some(trust) = slot.column.trust {
        text.push(mark(trust));
    }
    if sort.column == slot.index {
        text.push(if sort.is_descending { '▼' } else { '▲' });
    }
    put(buffer, area, &cut(&text, area.width as usize), slot.column.is_number, theme, Tone::Heading);
}

fn row(buffer: &mut Buffer, area: Rect, slots: &[Slot], placed: &Placed, theme: Theme) {
    for slot in slots {
        let Some(cell) = placed.row.cells.get(slot.index) else { continue };
        let place = Rect { x: area.x + slot.x, width: slot.width, ..area };
        let tone = if placed.is_context { Tone::Dim } else { cell.tone };
        let width = slot.width as usize;
        let text = match (slot.index, slot.column.keeps_end) {
            (0, _) if !placed.prefix.is_empty() => cut(&format!("{}{}", placed.prefix, cell.text), width),
            (_, true) => cut_start(&cell.text, width),
            _ => cut(&cell.text, width),
        };
        put(buffer, place, &text, slot.column.is_number, theme, tone);
    }
}

fn put(buffer: &mut Buffer, area: Rect, text: &str, is_right: bool, theme: Theme, tone: Tone) {
    let indent = if is_right { area.width.saturating_sub(text.width() as u16) } else { 0 };
    buffer.set_string(area.x + indent, area.y, text, theme.style(tone));
}
