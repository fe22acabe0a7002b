//! Painting the detail pane: facts with their labels, advice, the stack with source lines at the chosen frame.

use super::app::{App, Pane};
use super::detail::Detail;
use super::draw::paint_lines;
use super::format::{cut, place, wrap};
use super::layout::Hit;
use super::theme::{Theme, Tone};
use crate::state::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Widget};

/// Source lines shown on each side of the chosen one.
const AROUND: u32 = 2;
const NAME_WIDTH: usize = 16;

/// Lines of the pane, and which of them are frames.
struct Page {
    lines: Vec<Line<'static>>,
    frames: Vec<(usize, usize)>,
    chosen: std::ops::Range<usize>,
}

/// Paints the pane.
pub fn paint_detail(buffer: &mut Buffer, area: Rect, app: &mut App) {
    let Some(pane) = app.pane.clone() else { return };
    let theme = app.theme;
    let detail = app.detail();
    let title = detail.as_ref().map_or("gone", |detail| detail.title.as_str());
    let title = Span::styled(
        format!(" {} ", cut(title, area.width.saturating_sub(6) as usize)),
        theme.style(Tone::Heading),
    );
    let block = Block::new().borders(Borders::ALL).border_style(theme.style(Tone::Dim)).title(title);
    let inner = block.inner(area);
    block.render(area, buffer);
    app.regions.detail = area;
    let Some(detail) = detail else {
        let text =
            Line::styled("It has ended, or this look did not find it. Esc closes.", theme.style(Tone::Dim));
        paint_lines(buffer, inner, &[text]);
        return;
    };
    let page = page(&detail, &pane, inner.width as usize, app);
    let top = top_of(&page, &pane, inner.height as usize);
    for &(line, frame) in &page.frames {
        if line >= top && line - top < inner.height as usize {
            let row = Rect { y: inner.y + (line - top) as u16, height: 1, ..inner };
            app.regions.add(row, Hit::Frame(frame));
        }
    }
    paint_lines(buffer, inner, &page.lines[top..]);
    let line = page.chosen.start;
    if !detail.stack.is_empty() && line >= top && line - top < inner.height as usize {
        let row = Rect { y: inner.y + (line - top) as u16, height: 1, ..inner };
        buffer.set_style(row, theme.style(Tone::Selected));
    }
    // Where all fits there is nothing to scroll to: the first step then chooses the second frame.
    let least = usize::from(page.lines.len() <= inner.height as usize);
    let kept = Pane { top, step: pane.step.max(least).min(detail.stack.len()), ..pane };
    app.pane = Some(kept);
}

/// Keeps the chosen frame and its source in view; before any is chosen, the facts.
fn top_of(page: &Page, pane: &Pane, height: usize) -> usize {
    let last_top = page.lines.len().saturating_sub(height);
    if pane.step == 0 {
        return 0;
    }
    let from = page.chosen.end.saturating_sub(height);
    pane.top.clamp(from, page.chosen.start.max(from)).min(last_top)
}

fn page(detail: &Detail, pane: &Pane, width: usize, app: &mut App) -> Page {
    let theme = app.theme;
    let mut lines = Vec::new();
    for fact in &detail.facts {
        let label = fact.label();
        let room = width.saturating_sub(NAME_WIDTH + 1).max(8);
        let wrapped = wrap(&format!("{} ({label})", fact.value), room);
        for (row, text) in wrapped.into_iter().enumerate() {
            let name = if row == 0 { fact.name } else { "" };
            let name = Span::styled(format!("{name:<NAME_WIDTH$} "), theme.style(Tone::Dim));
            let mut spans = vec![name];
            spans.extend(value_spans(text, label, theme));
            lines.push(Line::from(spans));
        }
    }
    if let Some(advice) = &detail.advice {
        for (row, text) in wrap(advice, width.saturating_sub(2)).into_iter().enumerate() {
            let arrow = if row == 0 { "→ " } else { "  " };
            lines.push(Line::styled(format!("{arrow}{text}"), theme.style(Tone::Good)));
        }
    }
    let mut page = Page { lines, frames: Vec::new(), chosen: 0..0 };
    if detail.stack.is_empty() {
        return page;
    }
    let cut_note = if detail.is_cut { ", cut" } else { "" };
    let heading = format!("Stack, innermost first ({} frames{cut_note})", detail.stack.len());
    page.lines.push(Line::styled(heading, theme.style(Tone::Heading)));
    let chosen = pane.frame().min(detail.stack.len() - 1);
    for (index, frame) in detail.stack.iter().enumerate() {
        page.frames.push((page.lines.len(), index));
        let start = page.lines.len();
        page.lines.push(frame_line(frame, width, theme));
        if index == chosen {
            source_lines(&mut page.lines, frame, width, app);
            page.chosen = start..page.lines.len();
        }
    }
    page
}

/// A value, and its label in a dimmer tone.
fn value_spans(text: String, label: &str, theme: Theme) -> Vec<Span<'static>> {
    let label = format!("({label})");
    match text.strip_suffix(&label) {
        Some(value) => {
            vec![Span::raw(value.to_owned()), Span::styled(label, theme.style(Tone::Dim))]
        }
        None => vec![Span::raw(text)],
    }
}

fn frame_line(frame: &Frame, width: usize, theme: Theme) -> Line<'static> {
    let tone = if frame.is_library { Tone::Dim } else { Tone::Plain };
    let full = format!("{}:{}", frame.file, frame.line);
    let room = width.saturating_sub(frame.function.len() + 3);
    let shown = if full.len() <= room { full } else { place(frame) };
    Line::from(vec![
        Span::styled(
            format!(" {} ", frame.function),
            theme.style(if frame.is_library { tone } else { Tone::Accent }),
        ),
        Span::styled(shown, theme.style(tone)),
    ])
}

fn source_lines(lines: &mut Vec<Line<'static>>, frame: &Frame, width: usize, app: &mut App) {
    let theme = app.theme;
    let from = frame.line.saturating_sub(AROUND).max(1);
    let found: Vec<(u32, String)> = (from..=frame.line.saturating_add(AROUND))
        .filter_map(|number| Some((number, app.source.line(&frame.file, number)?)))
        .collect();
    // Common indentation is of no interest in a narrow pane.
    let indent = found
        .iter()
        .filter(|(_, text)| !text.trim().is_empty())
        .map(|(_, text)| text.len() - text.trim_start().len())
        .min()
        .unwrap_or(0);
    for (number, text) in found {
        let is_here = number == frame.line;
        let arrow = if is_here { '>' } else { ' ' };
        let text = format!("  {arrow}{number:>5} {}", text.get(indent..).unwrap_or(""));
        let tone = if is_here { Tone::Warning } else { Tone::Dim };
        lines.push(Line::styled(cut(&text, width), theme.style(tone)));
    }
}
