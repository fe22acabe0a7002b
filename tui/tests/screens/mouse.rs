//! Clicks and the wheel.

use crate::fake;
use crate::render::{text, type_text};
use evtop::view::{App, Tab};
use ratatui::crossterm::event::{Event, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};

fn at(kind: MouseEventKind, column: u16, row: u16) -> Event {
    Event::Mouse(MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE })
}

fn click(app: &mut App, column: u16, row: u16) {
    let _ = app.handle(&at(MouseEventKind::Down(MouseButton::Left), column, row));
    let _ = text(app, 80, 24);
}

fn app_on(tab: Tab) -> App {
    let mut app = fake::app();
    type_text(&mut app, &tab.key().to_string());
    let _ = text(&mut app, 80, 24);
    app
}

#[test]
fn a_click_on_a_tab_opens_its_screen() {
    let mut app = app_on(Tab::Overview);
    let tabs = text(&mut app, 80, 24).lines().nth(1).unwrap_or_default().to_owned();
    let column = tabs.find("6 Fds").expect("a tab") as u16;
    click(&mut app, column + 2, 1);
    assert_eq!(app.tab, Tab::Fds);
}

#[test]
fn a_click_on_a_header_sorts_and_again_inverts() {
    let mut app = app_on(Tab::Green);
    click(&mut app, 2, 2);
    assert_eq!((app.table().sort.column, app.table().sort.is_descending), (0, false));
    click(&mut app, 2, 2);
    assert_eq!((app.table().sort.column, app.table().sort.is_descending), (0, true));
}

#[test]
fn a_click_chooses_a_row_and_again_opens_its_detail() {
    let mut app = app_on(Tab::Green);
    click(&mut app, 5, 6);
    assert_eq!((app.table().cursor, app.pane.is_some()), (3, false));
    click(&mut app, 5, 6);
    assert!(app.pane.is_some());
}

#[test]
fn the_wheel_moves_the_cursor() {
    let mut app = app_on(Tab::Green);
    let _ = app.handle(&at(MouseEventKind::ScrollDown, 5, 6));
    assert_eq!(app.table().cursor, 3);
    let _ = app.handle(&at(MouseEventKind::ScrollUp, 5, 6));
    assert_eq!(app.table().cursor, 0);
}

#[test]
fn a_click_beside_everything_does_nothing() {
    let mut app = app_on(Tab::Help);
    click(&mut app, 70, 22);
    click(&mut app, 500, 500);
    assert_eq!(app.tab, Tab::Help);
}
