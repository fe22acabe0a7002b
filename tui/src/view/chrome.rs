//! The lines around every screen: title, tabs, what could not be read, keys.

use super::app::{App, Mode};
use super::draw::fill;
use super::format::cut;
use super::layout::Hit;
use super::tabs::Tab;
use super::theme::Tone;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use unicode_width::UnicodeWidthStr;

/// Process, command and whether the screen is live.
pub fn title(buffer: &mut Buffer, area: Rect, app: &App) {
    fill(buffer, area, app, Tone::Bar);
    let style = app.theme.style(Tone::Bar);
    let state = state_of(app);
    let room = (area.width as usize).saturating_sub(state.width() + 2);
    let text = match app.mode {
        Mode::Pick => " evtop: which process?".to_owned(),
        Mode::Observe => {
            let command =
                app.model.snapshot.as_ref().map_or("", |snapshot| snapshot.process.command.as_str());
            format!(" evtop {}  {command}", app.pid)
        }
    };
    buffer.set_string(area.x, area.y, cut(&text, room), style);
    let right = area.right().saturating_sub(state.width() as u16 + 1);
    buffer.set_string(right, area.y, state, style);
}

fn state_of(app: &App) -> String {
    if app.mode == Mode::Pick {
        return String::new();
    }
    if app.model.ended.is_some() {
        return "ENDED".to_owned();
    }
    if app.is_paused {
        return match app.dropped {
            0 => format!("PAUSED, {} held back", app.held_back()),
            dropped => format!("PAUSED, {} held back, {dropped} dropped", app.held_back()),
        };
    }
    "live".to_owned()
}

/// The screens; the one in front stands out, and lints and sites show how many there are.
pub fn tabs(buffer: &mut Buffer, area: Rect, app: &mut App) {
    if app.mode == Mode::Pick {
        return;
    }
    let is_wide = area.width >= 100;
    let is_narrow = area.width < 78;
    let mut x = area.x;
    for tab in Tab::ALL {
        let count = if is_wide { count_of(app, tab) } else { None };
        let title = if is_narrow { narrow_title(tab) } else { tab.title() };
        let text = match (count, is_narrow) {
            (Some(count), _) => format!("{} {title} {count}", tab.key()),
            (None, false) => format!("{} {title}", tab.key()),
            (None, true) => format!("{}{title}", tab.key()),
        };
        let width = text.width() as u16;
        if x + width > area.right() {
            break;
        }
        let is_alarm = tab == Tab::Blocking && !app.model.sites.is_empty()
            || tab == Tab::Lints && !app.model.findings.is_empty();
        let tone = match (tab == app.tab, is_alarm) {
            (true, _) => Tone::Bar,
            (false, true) => Tone::Warning,
            (false, false) => Tone::Dim,
        };
        buffer.set_string(x, area.y, &text, app.theme.style(tone));
        app.regions.add(Rect { x, y: area.y, width, height: 1 }, Hit::Tab(tab));
        x += width + if is_wide { 2 } else { 1 };
    }
}

fn narrow_title(tab: Tab) -> &'static str {
    match tab {
        Tab::Overview => "Over",
        Tab::Blocking => "Block",
        _ => tab.title(),
    }
}

fn count_of(app: &App, tab: Tab) -> Option<usize> {
    let snapshot = app.model.snapshot.as_ref()?;
    Some(match tab {
        Tab::Blocking => app.model.sites.len(),
        Tab::Green => snapshot.green_threads.len(),
        Tab::Tasks => snapshot.tasks.len(),
        Tab::Graph => snapshot.edges.len(),
        Tab::Fds => snapshot.fds.len(),
        Tab::Timers => snapshot.timers.len(),
        Tab::Lints => app.model.findings.len(),
        Tab::Overview | Tab::Help => return None,
    })
}

/// The legend of the labels, and what was not read.
pub fn status(buffer: &mut Buffer, area: Rect, app: &App) {
    let theme = app.theme;
    if app.mode == Mode::Pick {
        buffer.set_string(
            area.x,
            area.y,
            cut(&app.candidates.status(), area.width as usize),
            theme.style(Tone::Dim),
        );
        return;
    }
    if let Some(sentence) = &app.model.ended {
        let text = format!("{sentence}; this is the last that was seen");
        buffer.set_string(area.x, area.y, cut(&text, area.width as usize), theme.style(Tone::Danger));
        return;
    }
    let (lost, is_lost) = unread(app, area.width);
    let tone = if is_lost { Tone::Warning } else { Tone::Dim };
    let legend =
        if area.width >= 78 { "= exact  ≈ sampled  ~ inferred" } else { "=exact ≈sampled ~inferred" };
    buffer.set_string(area.x, area.y, legend, theme.style(Tone::Dim));
    let room = (area.width as usize).saturating_sub(legend.width() + 2);
    let lost = cut(&lost, room);
    let right = area.right().saturating_sub(lost.width() as u16);
    buffer.set_string(right, area.y, lost, theme.style(tone));
}

/// What could not be read, and whether that is worth a look.
fn unread(app: &App, width: u16) -> (String, bool) {
    let Some(snapshot) = &app.model.snapshot else { return (String::new(), false) };
    let lost = &snapshot.counters;
    let undecodable = lost.frames_undecodable + lost.tasks_undecodable;
    let unread = lost.green_threads_lost + lost.stacks_torn + lost.stacks_cut + undecodable;
    let missed = lost.missed_permille.filter(|&permille| permille > 0);
    let missed_text =
        missed.map_or(String::new(), |permille| format!(", missed ≈{}.{}%", permille / 10, permille % 10));
    let text = if width >= 100 {
        format!(
            "not read: {} gone, {} torn, {} cut stacks, {} frames, {} tasks{missed_text} · look {:.1} ms",
            lost.green_threads_lost,
            lost.stacks_torn,
            lost.stacks_cut,
            lost.frames_undecodable,
            lost.tasks_undecodable,
            snapshot.took_us as f64 / 1e3
        )
    } else {
        let took = if width >= 78 {
            format!(" · look {:.1} ms", snapshot.took_us as f64 / 1e3)
        } else {
            String::new()
        };
        format!("unread: {unread}{missed_text}{took}")
    };
    (text, unread > 0 || missed.is_some())
}

/// The filter while it is typed, a message, or the keys.
pub fn hints(buffer: &mut Buffer, area: Rect, app: &App) {
    let theme = app.theme;
    let filter = &app.table().filter.text;
    let (text, tone) = if let Some(message) = &app.message {
        (message.clone(), Tone::Warning)
    } else if app.is_typing {
        (format!("filter: {filter}█"), Tone::Accent)
    } else if !filter.is_empty() {
        (format!("filter: {filter}   (Esc drops it, / changes it)"), Tone::Accent)
    } else {
        (keys(app, area.width).to_owned(), Tone::Dim)
    };
    buffer.set_string(area.x, area.y, cut(&text, area.width as usize), theme.style(tone));
}

fn keys(app: &App, width: u16) -> &'static str {
    match (app.mode, app.pane.is_some(), width >= 78) {
        (Mode::Pick, ..) => "Enter observe   / filter   s sort   q quit",
        (_, true, true) => "Esc close   ↑↓ frame   o open in editor   n N next row   p pause   q quit",
        (_, true, false) => "Esc close  ↑↓ frame  o editor  n N row  q quit",
        (_, false, true) if app.tab.has_tree() => {
            "? help  / filter  s sort  i invert  t list  Enter detail  p pause  q quit"
        }
        (_, false, true) => "? help  / filter  s sort  i invert  Enter detail  o editor  p pause  q quit",
        (_, false, false) => "? help  / filter  s sort  Enter detail  p pause  q quit",
    }
}
