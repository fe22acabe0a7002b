//! Whole screens at three sizes, compared with files. `EVTOP_BLESS=1 cargo test -p evtop --test screens` writes them.

use crate::fake;
use crate::render::{key, text, type_text};
use evtop::observe::Candidate;
use evtop::view::{App, Candidates, ColourDepth, NoSource, Tab, Theme, Update};
use ratatui::crossterm::event::KeyCode;
use std::path::PathBuf;

const SIZES: [(u16, u16); 3] = [(60, 15), (80, 24), (200, 60)];

fn compare(name: &str, make: impl Fn() -> App) {
    for (width, height) in SIZES {
        let mut app = make();
        let seen = text(&mut app, width, height);
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("tests/screens/snapshots")
            .join(format!("{name}-{width}x{height}.txt"));
        if std::env::var_os("EVTOP_BLESS").is_some() {
            std::fs::write(&path, &seen).expect("a snapshot to write");
            continue;
        }
        let wanted = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            seen == wanted,
            "{} differs; EVTOP_BLESS=1 accepts it.\n--- wanted\n{wanted}--- seen\n{seen}",
            path.display()
        );
    }
}

fn on(tab: Tab) -> App {
    let mut app = fake::app();
    type_text(&mut app, &tab.key().to_string());
    app
}

/// A screen with the first row's detail open.
fn detail_on(tab: Tab) -> App {
    let mut app = on(tab);
    // The first drawing tells how many rows fit.
    let _ = text(&mut app, 80, 24);
    let _ = app.handle(&key(KeyCode::Enter));
    app
}

#[test]
fn every_screen_looks_as_recorded() {
    for tab in Tab::ALL {
        compare(&tab.title().to_lowercase(), || on(tab));
    }
}

#[test]
fn details_look_as_recorded() {
    for tab in
        [Tab::Overview, Tab::Blocking, Tab::Green, Tab::Tasks, Tab::Graph, Tab::Fds, Tab::Timers, Tab::Lints]
    {
        compare(&format!("detail-{}", tab.title().to_lowercase()), || detail_on(tab));
    }
}

#[test]
fn the_list_of_processes_looks_as_recorded() {
    let candidate = |pid, worlds: &[&'static str], command: &str| Candidate {
        pid,
        worlds: worlds.to_vec(),
        command: command.to_owned(),
    };
    let found = vec![
        candidate(812, &["asyncio", "uvloop"], "python -m uvicorn shop:app"),
        candidate(4242, &["greenlet", "asyncio"], "python -m shop --workers 1"),
    ];
    let theme = Theme { depth: ColourDepth::None };
    compare("pick", || App::pick(Candidates { found: found.clone(), refused: 3 }, theme, Box::new(NoSource)));
}

#[test]
fn a_process_that_ended_leaves_its_last_data_and_a_sentence() {
    compare("ended", || {
        let mut app = on(Tab::Blocking);
        app.apply(Update::Ended("process 4242 has ended".to_owned()));
        app
    });
}

#[test]
fn a_screen_without_data_says_so() {
    compare("first", || App::observe(4242, Theme { depth: ColourDepth::None }, Box::new(NoSource)));
}

#[test]
fn a_terminal_that_is_too_small_gets_a_sentence() {
    for (width, height) in [(59, 15), (60, 14), (20, 3), (1, 1)] {
        let seen = text(&mut fake::app(), width, height);
        let start: String = "evtop needs".chars().take(width as usize).collect();
        assert!(seen.starts_with(start.trim_end()), "{seen}");
    }
    let seen = text(&mut fake::app(), 50, 10).replace('\n', " ");
    assert!(seen.contains("evtop needs 60 x 15 characters; this terminal has 50 x 10"), "{seen}");
}

#[test]
fn no_size_makes_a_screen_panic() {
    for tab in Tab::ALL {
        for width in [60, 119, 120] {
            for height in [15, 33] {
                let _ = text(&mut detail_on(tab), width, height);
                let _ = text(&mut on(tab), width, height);
            }
        }
    }
}
