//! The loop: waits for keys, takes in news, draws when there is something new.

use super::app::{App, Effect, Mode};
use super::draw::draw;
use super::editor::editor_command;
use super::feed::Feed;
use super::picker::Candidates;
use super::source::{NoSource, SourceFiles};
use super::terminal::{
    Input, Screen, Signals, end_anyway_after, give_back_on_panic, has_panicked, stop_self, wait_for_input,
};
use super::theme::{ColourDepth, Theme};
use crate::observe::candidates;
use crate::remote::AttachError;
use crate::watch::WatchConfig;
use ratatui::crossterm::event;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};
use thiserror::Error;

/// Keys, signals and news are noticed within this time.
const POLL: Duration = Duration::from_millis(50);
/// The list of processes is read again so often.
const LIST_EVERY: Duration = Duration::from_secs(2);

/// Exit code after a panic, as Rust's own.
const PANICKED: u8 = 101;
/// Exit code when the observed process has ended.
const ENDED: u8 = 3;
/// Exit code when the terminal was closed, as after SIGHUP.
const CLOSED: u8 = 129;

/// Why the screens could not be shown.
#[derive(Debug, Error)]
pub enum ScreenError {
    /// The process cannot be observed.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// Output or input is no terminal.
    #[error("the screens need a terminal: use evtop --once PID, evtop dump PID --json or evtop watch PID")]
    NoTerminal,
    /// The terminal failed.
    #[error("the terminal failed ({0}): use evtop --once PID, evtop dump PID --json or evtop watch PID")]
    Terminal(#[from] io::Error),
}

impl ScreenError {
    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Attach(error) => error.exit_code(),
            Self::NoTerminal => 2,
            Self::Terminal(_) => 1,
        }
    }
}

/// Shows the screens of a process, or the list to pick one from; returns the exit code.
pub fn run(pid: Option<i32>) -> Result<u8, ScreenError> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(ScreenError::NoTerminal);
    }
    give_back_on_panic();
    let theme = Theme { depth: ColourDepth::detect(|name| std::env::var(name).ok()) };
    let (app, feed) = match pid {
        // What refuses must be said before the screen is taken.
        Some(pid) => {
            let feed = Feed::start(pid, WatchConfig::default())?;
            (App::observe(pid, theme, Box::new(SourceFiles::new(pid))), Some(feed))
        }
        None => (App::pick(list(), theme, Box::new(NoSource)), None),
    };
    let signals = Signals::catch()?;
    end_anyway_after(&signals)?;
    let screen = Screen::take()?;
    let mut shown = Shown { app, feed, screen, signals, listed: Instant::now(), is_stale: true };
    let result = shown.follow();
    let ended = shown.app.model.ended.take();
    let Shown { feed, screen, .. } = shown;
    drop(screen);
    drop(feed);
    if has_panicked() {
        return Ok(PANICKED);
    }
    if let Some(sentence) = ended {
        eprintln!("evtop: {sentence}");
        return Ok(result?.max(ENDED));
    }
    Ok(result?)
}

fn list() -> Candidates {
    let (found, refused) = candidates();
    Candidates { found, refused }
}

struct Shown {
    app: App,
    feed: Option<Feed>,
    screen: Screen,
    signals: Signals,
    listed: Instant,
    is_stale: bool,
}

impl Shown {
    /// Runs until the user or a signal ends it; returns the exit code.
    fn follow(&mut self) -> io::Result<u8> {
        loop {
            if has_panicked() {
                return Ok(PANICKED);
            }
            if let Some(signal) = self.signals.fatal() {
                return Ok(128 + signal as u8);
            }
            if self.signals.take_suspend() {
                self.suspend()?;
            }
            if self.signals.take_continued() {
                self.screen.take_back()?;
                self.is_stale = true;
            }
            self.take_news();
            if std::mem::take(&mut self.is_stale) {
                let app = &mut self.app;
                self.screen.draw(|frame| draw(frame, app))?;
            }
            if wait_for_input(POLL) == Input::Closed {
                return Ok(CLOSED);
            }
            // All that is waiting is handled before the next drawing: a held key must not fall behind.
            while event::poll(Duration::ZERO)? {
                let effect = self.app.handle(&event::read()?);
                self.is_stale = true;
                if effect == Effect::Quit {
                    return Ok(0);
                }
                self.carry_out(effect)?;
            }
        }
    }

    fn take_news(&mut self) {
        while let Some(update) = self.feed.as_ref().and_then(Feed::next) {
            self.is_stale |= self.app.apply(update);
        }
        if self.app.mode == Mode::Pick && self.listed.elapsed() >= LIST_EVERY {
            self.app.candidates = list();
            self.app.invalidate();
            self.listed = Instant::now();
            self.is_stale = true;
        }
    }

    fn carry_out(&mut self, effect: Effect) -> io::Result<()> {
        match effect {
            Effect::None | Effect::Quit => {}
            Effect::Redraw => self.screen.clear()?,
            Effect::Suspend => self.suspend()?,
            Effect::Edit { file, line } => self.edit(&file, line)?,
            Effect::Attach(pid) => self.attach(pid),
        }
        Ok(())
    }

    fn suspend(&mut self) -> io::Result<()> {
        self.screen.lend(stop_self)?;
        self.is_stale = true;
        Ok(())
    }

    fn edit(&mut self, file: &str, line: u32) -> io::Result<()> {
        let command = editor_command(self.app.pid, file, line, |name| std::env::var(name).ok());
        let outcome = match command {
            Ok(mut command) => {
                let program = command.get_program().to_string_lossy().into_owned();
                match self.screen.lend(|| command.status())? {
                    Ok(status) if status.success() => Ok(()),
                    Ok(status) => Err(format!("{program} ended with {status}")),
                    Err(error) => Err(format!("{program} cannot be started ({error}): set EDITOR")),
                }
            }
            Err(sentence) => Err(sentence),
        };
        self.app.message = outcome.err();
        self.is_stale = true;
        Ok(())
    }

    fn attach(&mut self, pid: i32) {
        match Feed::start(pid, WatchConfig::default()) {
            Ok(feed) => {
                self.feed = Some(feed);
                self.app.attached(pid, Box::new(SourceFiles::new(pid)));
            }
            Err(error) => self.app.message = Some(error.to_string()),
        }
    }
}
