//! What each key does to the state.

use crate::fake;
use crate::render::{key, text, type_text};
use evtop::state::{Class, NodeId};
use evtop::view::{App, Effect, Mode, NoSource, Pane, RowKey, Tab, Update};
use evtop::watch::{Blocked, WatchCounters};
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};

fn app_on(tab: Tab) -> App {
    let mut app = fake::app();
    type_text(&mut app, &tab.key().to_string());
    let _ = text(&mut app, 80, 24);
    app
}

fn press(app: &mut App, code: KeyCode) -> Effect {
    let effect = app.handle(&key(code));
    let _ = text(app, 80, 24);
    effect
}

fn control(letter: char) -> Event {
    Event::Key(KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL))
}

fn first_column(app: &mut App) -> Vec<String> {
    let seen = text(app, 80, 24);
    let rows = seen.lines().skip(3).take(19).take_while(|line| !line.trim().is_empty());
    rows.map(|line| line.split_whitespace().next().unwrap_or("").to_owned()).collect()
}

#[test]
fn digits_and_tabs_open_screens() {
    let mut app = fake::app();
    for tab in Tab::ALL {
        type_text(&mut app, &tab.key().to_string());
        assert_eq!(app.tab, tab);
    }
    let _ = app.handle(&key(KeyCode::Tab));
    assert_eq!(app.tab, Tab::Overview);
    let _ = app.handle(&key(KeyCode::BackTab));
    assert_eq!(app.tab, Tab::Help);
    let _ = app.handle(&key(KeyCode::F(1)));
    assert_eq!(app.tab, Tab::Help);
}

#[test]
fn q_and_control_c_quit_everywhere() {
    for tab in Tab::ALL {
        let mut app = app_on(tab);
        assert_eq!(press(&mut app, KeyCode::Char('q')), Effect::Quit);
        assert_eq!(app.handle(&control('c')), Effect::Quit);
    }
    let mut app = app_on(Tab::Green);
    type_text(&mut app, "/q");
    assert!(app.is_typing, "q is a letter while the filter is typed");
    assert_eq!(app.handle(&control('c')), Effect::Quit);
}

#[test]
fn the_cursor_moves_within_the_rows() {
    let mut app = app_on(Tab::Green);
    for (code, cursor) in [
        (KeyCode::Down, 1),
        (KeyCode::Char('j'), 2),
        (KeyCode::Char('k'), 1),
        (KeyCode::Up, 0),
        (KeyCode::Up, 0),
        (KeyCode::End, 12),
        (KeyCode::Down, 12),
        (KeyCode::Home, 0),
        (KeyCode::PageDown, 12),
        (KeyCode::PageUp, 0),
        (KeyCode::Char('G'), 12),
        (KeyCode::Char('g'), 0),
    ] {
        press(&mut app, code);
        assert_eq!(app.table().cursor, cursor, "{code:?}");
    }
}

#[test]
fn a_filter_narrows_and_escape_drops_it() {
    let mut app = app_on(Tab::Green);
    type_text(&mut app, "/CACHED");
    press(&mut app, KeyCode::Enter);
    assert!(!app.is_typing);
    assert_eq!(first_column(&mut app).len(), 6);
    press(&mut app, KeyCode::Esc);
    assert_eq!(first_column(&mut app).len(), 13);
    type_text(&mut app, "/nothing has this");
    assert!(text(&mut app, 80, 24).contains("No row passes the filter"));
    assert_eq!(app.handle(&control('u')), Effect::None);
    assert_eq!(app.table().filter.text, "");
    type_text(&mut app, "ab");
    press(&mut app, KeyCode::Backspace);
    assert_eq!(app.table().filter.text, "a");
    press(&mut app, KeyCode::Esc);
    assert_eq!((app.is_typing, app.table().filter.text.as_str()), (false, ""));
}

#[test]
fn filters_and_orders_belong_to_their_screen() {
    let mut app = app_on(Tab::Green);
    type_text(&mut app, "/serve");
    press(&mut app, KeyCode::Enter);
    type_text(&mut app, "7");
    assert_eq!(app.table().filter.text, "");
    type_text(&mut app, "3");
    assert_eq!(app.table().filter.text, "serve");
}

#[test]
fn sorting_goes_through_the_columns_and_inverts() {
    let mut app = app_on(Tab::Blocking);
    assert_eq!(first_column(&mut app), ["=cpu", "=sleep"]);
    press(&mut app, KeyCode::Char('i'));
    assert_eq!(first_column(&mut app), ["=sleep", "=cpu"]);
    press(&mut app, KeyCode::Char('S'));
    assert_eq!(app.table().sort.column, 1);
    assert_eq!(first_column(&mut app), ["=sleep", "=cpu"], "12 sleeps, then 3 computations");
    press(&mut app, KeyCode::Char('s'));
    assert_eq!(app.table().sort.column, 2);
}

#[test]
fn the_cursor_stays_on_its_row_when_the_order_changes() {
    let mut app = app_on(Tab::Blocking);
    let cpu = RowKey::Site(Class::Cpu, "/srv/shop/app.py".into(), 15);
    assert_eq!((app.table().selected.clone(), app.table().cursor), (Some(cpu.clone()), 0));
    press(&mut app, KeyCode::Char('i'));
    assert_eq!((app.table().selected.clone(), app.table().cursor), (Some(cpu), 1));
}

#[test]
fn the_detail_opens_follows_frames_and_closes() {
    let mut app = app_on(Tab::Green);
    press(&mut app, KeyCode::Enter);
    let pane = app.pane.clone().expect("a pane");
    assert_eq!(pane.key, Some(RowKey::Node(NodeId(7))), "the one that has been still for longest");
    press(&mut app, KeyCode::Down);
    assert_eq!(app.pane.as_ref().map(Pane::frame), Some(1));
    assert!(text(&mut app, 80, 24).contains(">   48 line_48()"), "source of the chosen frame");
    for _ in 0..9 {
        press(&mut app, KeyCode::Down);
    }
    assert_eq!(app.pane.as_ref().map(Pane::frame), Some(2));
    press(&mut app, KeyCode::Char('n'));
    assert_ne!(app.pane.as_ref().and_then(|pane| pane.key.clone()), pane.key);
    press(&mut app, KeyCode::Char('N'));
    assert_eq!(app.pane.as_ref().and_then(|pane| pane.key.clone()), pane.key);
    press(&mut app, KeyCode::Esc);
    assert_eq!(app.pane, None);
}

#[test]
fn a_detail_whose_row_is_gone_says_so() {
    let mut app = app_on(Tab::Green);
    press(&mut app, KeyCode::Enter);
    let mut next = fake::snapshot();
    next.green_threads.retain(|green| green.id != NodeId(7));
    app.apply(Update::Snapshot(Box::new(next)));
    assert!(text(&mut app, 80, 24).contains("It has ended, or this look did not find it"));
}

#[test]
fn pause_holds_the_screen_and_loses_nothing() {
    let mut app = app_on(Tab::Blocking);
    let before = text(&mut app, 80, 24);
    press(&mut app, KeyCode::Char('p'));
    app.apply(Update::Stall(Box::new(fake::stall(Class::File, 99, 50.0))));
    app.apply(Update::Snapshot(Box::new(fake::snapshot())));
    app.apply(Update::Snapshot(Box::new(fake::snapshot())));
    let paused = text(&mut app, 80, 24);
    assert_eq!(before.lines().nth(3), paused.lines().nth(3));
    assert!(paused.contains("PAUSED, 2 held back"), "a stall and the latest look: {paused}");
    press(&mut app, KeyCode::Char(' '));
    assert!(text(&mut app, 80, 24).contains("app.py:99"));
}

#[test]
fn the_end_of_the_process_shows_even_while_paused() {
    let mut app = app_on(Tab::Green);
    press(&mut app, KeyCode::Char('p'));
    app.apply(Update::Ended("process 4242 has ended".to_owned()));
    assert!(text(&mut app, 80, 24).contains("process 4242 has ended"));
}

#[test]
fn the_screen_is_drawn_again_only_for_what_it_shows() {
    let mut app = app_on(Tab::Blocking);
    let blocked = app.model.blocked.clone();
    assert!(!app.apply(Update::Blocked(blocked)), "the same threads are blocked as before");
    assert!(!app.apply(Update::Counters(WatchCounters::default())), "they come with the looks");
    let now = Blocked { tid: 4242, since_ms: 30, class: Class::File, frame: fake::frame("f", "/app.py", 1) };
    assert!(app.apply(Update::Blocked(vec![now])));
    assert!(app.apply(Update::Blocked(Vec::new())));
    assert!(app.apply(Update::Snapshot(Box::new(fake::snapshot()))));
}

#[test]
fn tasks_are_a_tree_or_a_list() {
    let mut app = app_on(Tab::Tasks);
    assert!(text(&mut app, 80, 24).contains("└─ fetch-2"));
    press(&mut app, KeyCode::Char('t'));
    assert!(!text(&mut app, 80, 24).contains("└─"));
    press(&mut app, KeyCode::Char('t'));
    assert!(text(&mut app, 80, 24).contains("└─"));
}

#[test]
fn the_editor_opens_the_rows_line_or_the_chosen_frame() {
    let mut app = app_on(Tab::Green);
    let at = |line| Effect::Edit { file: "/srv/shop/app.py".into(), line };
    assert_eq!(press(&mut app, KeyCode::Char('o')), at(48));
    press(&mut app, KeyCode::Enter);
    press(&mut app, KeyCode::Down);
    assert_eq!(press(&mut app, KeyCode::Char('e')), at(48));
    let mut app = app_on(Tab::Help);
    assert_eq!(press(&mut app, KeyCode::Char('o')), Effect::None);
    assert!(text(&mut app, 80, 24).contains("No line of code belongs to this row."));
}

#[test]
fn suspend_and_redraw_are_for_the_surroundings() {
    let mut app = app_on(Tab::Green);
    assert_eq!(app.handle(&control('z')), Effect::Suspend);
    assert_eq!(app.handle(&control('l')), Effect::Redraw);
    assert_eq!(app.handle(&Event::Resize(100, 40)), Effect::Redraw);
}

#[test]
fn unknown_keys_do_nothing() {
    let mut app = app_on(Tab::Green);
    let before = text(&mut app, 80, 24);
    for code in [KeyCode::Char('Z'), KeyCode::Char('9'), KeyCode::F(7), KeyCode::Insert, KeyCode::Char('ß')]
    {
        assert_eq!(press(&mut app, code), Effect::None);
    }
    assert_eq!(text(&mut app, 80, 24), before);
}

#[test]
fn enter_in_the_list_of_processes_attaches() {
    let found = vec![evtop::observe::Candidate { pid: 77, worlds: vec!["asyncio"], command: "x".into() }];
    let candidates = evtop::view::Candidates { found, refused: 0 };
    let theme = evtop::view::Theme { depth: evtop::view::ColourDepth::None };
    let mut app = App::pick(candidates, theme, Box::new(NoSource));
    let _ = text(&mut app, 80, 24);
    assert_eq!(press(&mut app, KeyCode::Enter), Effect::Attach(77));
    press(&mut app, KeyCode::Char('3'));
    assert_eq!(app.mode, Mode::Pick, "there are no screens yet");
    app.attached(77, Box::new(NoSource));
    assert_eq!((app.mode, app.pid), (Mode::Observe, 77));
}
