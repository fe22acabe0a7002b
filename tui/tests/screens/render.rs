//! Screens as text.

use evtop::view::{App, draw};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};

/// Draws at a size.
pub fn buffer(app: &mut App, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal in memory");
    terminal.draw(|frame| draw(frame, app)).expect("a drawing");
    terminal.backend().buffer().clone()
}

/// Draws at a size; lines without the blanks at their ends.
pub fn text(app: &mut App, width: u16, height: u16) -> String {
    let buffer = buffer(app, width, height);
    let line = |row| {
        let cells = (0..width).map(|column| buffer[(column, row)].symbol());
        cells.collect::<String>().trim_end().to_owned()
    };
    (0..height).map(line).collect::<Vec<_>>().join("\n") + "\n"
}

/// A key without modifiers.
pub fn key(code: KeyCode) -> Event {
    Event::Key(KeyEvent::new(code, KeyModifiers::NONE))
}

/// Types letters.
pub fn type_text(app: &mut App, letters: &str) {
    for letter in letters.chars() {
        let _ = app.handle(&key(KeyCode::Char(letter)));
    }
}
