//! Keys and what they do; the help screen is made from the same list.

use super::tabs::Tab;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What the user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Leave.
    Quit,
    /// Open a screen.
    Open(Tab),
    /// The screen so many places further.
    Step(isize),
    /// Move the cursor.
    Move(Motion),
    /// Open the detail pane, or pick the process.
    Enter,
    /// Close the pane, the filter, the message.
    Back,
    /// The next or previous row while the detail pane is open.
    Row(isize),
    /// Type a filter.
    Filter,
    /// Sort by the column so many places further.
    Sort(isize),
    /// The other way round.
    Invert,
    /// Hold still, or go on.
    Pause,
    /// Tree or list.
    Tree,
    /// Open the line in an editor.
    Editor,
    /// Put evtop into the background.
    Suspend,
    /// Draw all again.
    Redraw,
}

/// A movement of the cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Motion {
    /// By rows.
    By(isize),
    /// By pages.
    Page(isize),
    /// To the first.
    First,
    /// To the last.
    Last,
}

/// Keys with what they do, in words.
pub const HELP: [(&str, &str); 16] = [
    ("1-8  ← →  Tab Shift-Tab", "screens"),
    ("?  F1", "this help"),
    ("↑ ↓ j k PgUp PgDn Home End g G", "move"),
    ("Enter", "detail: all facts, the whole stack, source lines"),
    ("↑ ↓ in the detail", "choose a frame of the stack"),
    ("n N  ] [", "next and previous row while the detail is open"),
    ("Esc", "close the detail, drop the filter"),
    ("/", "filter: words that must occur; !word must not"),
    ("s  >     S  <", "sort by the next or previous column"),
    ("i", "invert the order"),
    ("t", "tree or list (Tasks, Graph)"),
    ("p  Space", "pause: hold the screen still; nothing is lost"),
    ("o  e", "open the line in $VISUAL or $EDITOR"),
    ("mouse", "click tabs, headers, rows, frames; again: detail; wheel scrolls"),
    ("Ctrl-Z  Ctrl-L", "suspend evtop (fg resumes); draw again"),
    ("q  Ctrl-C", "quit; the process is left as it was"),
];

/// The action of a key outside the filter line.
pub fn action_of(key: KeyEvent) -> Option<Action> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(Action::Quit),
            KeyCode::Char('z') => Some(Action::Suspend),
            KeyCode::Char('l') => Some(Action::Redraw),
            KeyCode::Char('d' | 'f') => Some(Action::Move(Motion::Page(1))),
            KeyCode::Char('u' | 'b') => Some(Action::Move(Motion::Page(-1))),
            _ => None,
        };
    }
    match key.code {
        KeyCode::Char(letter) => action_of_letter(letter),
        KeyCode::F(1) => Some(Action::Open(Tab::Help)),
        KeyCode::Tab | KeyCode::Right => Some(Action::Step(1)),
        KeyCode::BackTab | KeyCode::Left => Some(Action::Step(-1)),
        KeyCode::Up => Some(Action::Move(Motion::By(-1))),
        KeyCode::Down => Some(Action::Move(Motion::By(1))),
        KeyCode::PageUp => Some(Action::Move(Motion::Page(-1))),
        KeyCode::PageDown => Some(Action::Move(Motion::Page(1))),
        KeyCode::Home => Some(Action::Move(Motion::First)),
        KeyCode::End => Some(Action::Move(Motion::Last)),
        KeyCode::Enter => Some(Action::Enter),
        KeyCode::Esc | KeyCode::Backspace => Some(Action::Back),
        _ => None,
    }
}

fn action_of_letter(letter: char) -> Option<Action> {
    Some(match letter {
        '1'..='8' => Action::Open(Tab::ALL[(letter as u8 - b'1') as usize]),
        '?' | 'h' => Action::Open(Tab::Help),
        'q' => Action::Quit,
        'j' => Action::Move(Motion::By(1)),
        'k' => Action::Move(Motion::By(-1)),
        'g' => Action::Move(Motion::First),
        'G' => Action::Move(Motion::Last),
        'n' | ']' => Action::Row(1),
        'N' | '[' => Action::Row(-1),
        '/' => Action::Filter,
        's' | '>' => Action::Sort(1),
        'S' | '<' => Action::Sort(-1),
        'i' => Action::Invert,
        'p' | ' ' => Action::Pause,
        't' => Action::Tree,
        'o' | 'e' => Action::Editor,
        _ => return None,
    })
}
