//! The process, its hubs, who waits for what, and how the hub fares; the threads stand below.

use super::blocking::class_tone;
use super::lints::severity_tone;
use crate::view::app::App;
use crate::view::detail::process_line;
use crate::view::draw::paint_lines;
use crate::view::format::{cut, mark, short_file, span};
use crate::view::model::Model;
use crate::view::pulse::{BEAT_MS, BIN_ENDS_MS};
use crate::view::theme::{Theme, Tone};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use std::collections::BTreeMap;

/// Two columns from this width and height on.
const WIDE: (u16, u16) = (110, 26);
/// Lines left for the table of threads at least.
const THREADS: u16 = 4;

struct Page<'a> {
    model: &'a Model,
    theme: Theme,
    width: usize,
}

/// Draws the panels; returns what is left for the threads.
pub fn draw(buffer: &mut Buffer, area: Rect, app: &App) -> Rect {
    if app.model.snapshot.is_none() {
        return area;
    }
    let is_wide = area.width >= WIDE.0 && area.height >= WIDE.1;
    let half = area.width / 2;
    let room = area.height.saturating_sub(THREADS);
    let page = Page { model: &app.model, theme: app.theme, width: area.width as usize };
    let used = if is_wide {
        let left = Page { width: half as usize - 2, ..page };
        let right = Page { width: (area.width - half) as usize, ..page };
        let left = [left.process(true), left.population(), left.cost()].concat();
        let right = [right.pulse(4), right.histogram()].concat();
        paint_lines(buffer, Rect { width: half - 2, height: room, ..area }, &left);
        paint_lines(
            buffer,
            Rect { x: area.x + half, width: area.width - half, height: room, ..area },
            &right,
        );
        let used = left.len().max(right.len()) as u16 + 1;
        let below = [page.worst(6), page.findings(6)].concat();
        let rest = Rect { y: area.y + used, height: room.saturating_sub(used), ..area };
        paint_lines(buffer, rest, &below);
        used + below.len() as u16 + 1
    } else {
        let is_low = area.height < 18;
        let mut lines =
            [page.process(false), page.population(), page.pulse(if is_low { 1 } else { 2 })].concat();
        if !is_low {
            lines.extend(page.bins_line());
            lines.extend(page.worst(3));
        }
        lines.extend(page.findings(if is_low { 0 } else { 1 }));
        paint_lines(buffer, Rect { height: room, ..area }, &lines);
        lines.len() as u16
    };
    let used = used.min(room);
    Rect { y: area.y + used, height: area.height - used, ..area }
}

impl Page<'_> {
    fn heading(&self, text: String) -> Line<'static> {
        Line::styled(cut(&text, self.width), self.theme.style(Tone::Heading))
    }

    fn named(&self, name: &str, text: &str) -> Line<'static> {
        let name = Span::styled(format!("{name:<9} "), self.theme.style(Tone::Dim));
        Line::from(vec![name, Span::raw(cut(text, self.width.saturating_sub(10)))])
    }

    fn process(&self, is_long: bool) -> Vec<Line<'static>> {
        let Some(snapshot) = &self.model.snapshot else { return Vec::new() };
        let mut lines = vec![self.named("Process=", &process_line(snapshot))];
        if let Some(sentence) = snapshot.process.stopped_text() {
            let sentence = cut(&sentence, self.width);
            lines.insert(0, Line::styled(sentence, self.theme.style(Tone::Danger)));
        }
        if is_long {
            lines.push(self.named("Command=", &snapshot.process.command));
            lines.push(self.named("Code=", &snapshot.process.interpreter));
        }
        let (blocked, hubs) = (self.model.pulse.blocked_hubs(60), self.model.watch.threads);
        let hubs: Vec<String> = snapshot
            .threads
            .iter()
            .filter_map(|thread| {
                let hub = thread.hub.as_ref()?;
                let driver = hub.value.driver.as_deref().map(|driver| format!(" on {driver}"));
                let activity = &thread.activity;
                let blocked = blocked.iter().find(|(tid, _)| hubs > 1 && *tid == thread.tid);
                let blocked = blocked
                    .map(|(_, permille)| format!(", blocked ≈{}.{} % of 30 s", permille / 10, permille % 10));
                let preposition = if activity.value == "running" { "" } else { "in " };
                Some(format!(
                    "{}{}{}, thread {} {}{preposition}{}{}",
                    mark(hub.trust),
                    hub.value.kind,
                    driver.unwrap_or_default(),
                    thread.tid,
                    mark(activity.trust),
                    activity.value,
                    blocked.unwrap_or_default()
                ))
            })
            .collect();
        let text = if hubs.is_empty() { "none recognised yet".to_owned() } else { hubs.join("; ") };
        lines.push(self.named("Hub", &text));
        lines
    }

    /// How many there are, and what they wait for.
    fn population(&self) -> Vec<Line<'static>> {
        let Some(snapshot) = &self.model.snapshot else { return Vec::new() };
        let greens = snapshot.green_threads.iter().filter(|green| green.role == "green thread");
        let green = sum_up(greens.map(|green| wait_name(green.wait.as_deref(), green.state)));
        let task = sum_up(snapshot.tasks.iter().map(|task| wait_name(task.wait.as_deref(), task.state)));
        vec![self.named("Green≈", &green), self.named("Tasks≈", &task)]
    }

    fn cost(&self) -> Vec<Line<'static>> {
        let Some(snapshot) = &self.model.snapshot else { return Vec::new() };
        let (counters, watch) = (&snapshot.counters, &self.model.watch);
        let search = if counters.is_full_search { ", searched the whole heap" } else { "" };
        let look = format!(
            "{:.1} ms, {} reads, {} KiB, {} frames{search}",
            snapshot.took_us as f64 / 1e3,
            counters.read_calls,
            counters.read_bytes >> 10,
            counters.frames
        );
        let watcher = format!(
            "{} threads, {} looks ({} late), {} closer; {} times no processor",
            watch.threads, watch.looks, watch.late_looks, watch.inspections, watch.starved
        );
        vec![self.named("Look=", &look), self.named("Watcher=", &watcher)]
    }

    /// Blocked time as a sparkline, one column per half second.
    fn pulse(&self, rows: usize) -> Vec<Line<'static>> {
        let pulse = &self.model.pulse;
        let (tid, permille) = pulse.worst_hub(60).unwrap_or_default();
        let of_hub = match self.model.watch.threads {
            hubs if hubs > 1 && permille > 0 => format!(", thread {tid}, the worst of {hubs} hubs"),
            _ => String::new(),
        };
        let longest = pulse.longest_ms().map_or(String::new(), |(longest, typical)| {
            format!("; longest stretch ≈{}, typical ≈{}", span(longest), span(typical))
        });
        let text = format!("Blocked ≈{}.{} % of 30 s{of_hub}{longest}", permille / 10, permille % 10);
        let mut lines = vec![self.heading(text)];
        let beats = pulse.beats();
        let shown = beats.iter().skip(beats.len().saturating_sub(self.width)).map(|beat| beat.blocked_ms);
        let shown: Vec<u64> = shown.collect();
        for row in (0..rows).rev() {
            let text: String = shown.iter().map(|&blocked_ms| bar(blocked_ms, row, rows)).collect();
            lines.push(Line::styled(text, self.theme.style(Tone::Danger)));
        }
        lines
    }

    /// Stalls by length.
    fn histogram(&self) -> Vec<Line<'static>> {
        let bins = self.model.pulse.bins();
        let largest = bins.iter().copied().max().unwrap_or(0).max(1);
        let room = self.width.saturating_sub(20) as u64;
        let mut lines = vec![self.heading("Stalls≈ by length".to_owned())];
        for (index, &count) in bins.iter().enumerate() {
            let eighths = count * room * 8 / largest;
            let mut text = "█".repeat((eighths / 8) as usize);
            if !eighths.is_multiple_of(8) {
                text.push(LEVELS[(eighths % 8) as usize - 1 + HORIZONTAL]);
            }
            lines.push(Line::from(vec![
                Span::styled(format!("{:>8} ", bin_name(index)), self.theme.style(Tone::Dim)),
                Span::raw(format!("{count:>6} ")),
                Span::styled(text, self.theme.style(Tone::Warning)),
            ]));
        }
        lines
    }

    /// The same on one line.
    fn bins_line(&self) -> Vec<Line<'static>> {
        let bins = self.model.pulse.bins().iter().enumerate().filter(|&(_, &count)| count > 0);
        let texts: Vec<String> = bins.map(|(index, count)| format!("{} {count}", bin_name(index))).collect();
        let text = if texts.is_empty() { "no stall yet".to_owned() } else { texts.join(" · ") };
        vec![self.named("Stalls≈", &text)]
    }

    fn worst(&self, count: usize) -> Vec<Line<'static>> {
        let sites = self.model.sites();
        if sites.is_empty() {
            return Vec::new();
        }
        let mut lines = vec![self.heading("Blocked most≈".to_owned())];
        for site in sites.iter().take(count) {
            let place = format!("{}:{} {}", short_file(&site.file), site.line, site.function);
            lines.push(Line::from(vec![
                Span::raw(format!("{:>8} ", span(site.total_ms))),
                Span::styled(
                    format!("{}{:<11} ", mark(site.last.class_trust), site.class.name()),
                    self.theme.style(class_tone(site.class)),
                ),
                Span::raw(cut(&place, self.width.saturating_sub(22))),
            ]));
        }
        lines
    }

    fn findings(&self, count: usize) -> Vec<Line<'static>> {
        let findings = &self.model.findings;
        if findings.is_empty() {
            return Vec::new();
        }
        let mut lines = vec![self.heading(format!("{} findings on the Lints screen (8)", findings.len()))];
        for finding in findings.iter().take(count) {
            lines.push(Line::from(vec![
                Span::styled(
                    format!("{:>8} ", finding.severity.name()),
                    self.theme.style(severity_tone(finding.severity)),
                ),
                Span::raw(cut(
                    &format!("{}{}", mark(finding.trust), finding.text),
                    self.width.saturating_sub(9),
                )),
            ]));
        }
        lines
    }
}

const LEVELS: [char; 15] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
/// Where the levels from left to right begin.
const HORIZONTAL: usize = 8;

/// One cell of a sparkline `rows` high; row 0 is the lowest.
fn bar(blocked_ms: u64, row: usize, rows: usize) -> char {
    let eighths = (blocked_ms * rows as u64 * 8).div_ceil(BEAT_MS) as usize;
    match eighths.saturating_sub(row * 8) {
        0 if row == 0 => '·',
        0 => ' ',
        level => LEVELS[level.min(8) - 1],
    }
}

fn bin_name(index: usize) -> String {
    match BIN_ENDS_MS.get(index) {
        Some(&end) if end < 1000 => format!("<{end}ms"),
        Some(&end) => format!("<{}s", end / 1000),
        None => format!("≥{}s", BIN_ENDS_MS[BIN_ENDS_MS.len() - 1] / 1000),
    }
}

fn wait_name(wait: Option<&crate::state::Wait>, state: &str) -> String {
    use crate::state::WaitKind;
    match wait.map(|wait| wait.kind) {
        Some(WaitKind::GreenThread) => "green thread".to_owned(),
        Some(WaitKind::ThreadPool) => "thread pool".to_owned(),
        Some(kind) => format!("{kind:?}").to_lowercase(),
        None => state.to_owned(),
    }
}

/// `12: 7 read, 5 sleep`.
fn sum_up(names: impl Iterator<Item = String>) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    names.for_each(|name| *counts.entry(name).or_default() += 1);
    let total: usize = counts.values().sum();
    let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let texts: Vec<String> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    if total == 0 { "none".to_owned() } else { format!("{total}: {}", texts.join(", ")) }
}
