//! The terminal: taken over and given back, whatever happens.

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{DisableMouseCapture, EnableMouseCapture};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
use std::io::{self, Stdout, StdoutLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Whether the terminal is ours at the moment; the panic hook must know.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);
/// A thread has panicked: the screens must end, whichever thread it was.
static HAS_PANICKED: AtomicBool = AtomicBool::new(false);

/// The terminal while it is ours; dropping it gives it back.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Screen")
    }
}

impl Screen {
    /// Takes the terminal over.
    pub fn take() -> io::Result<Self> {
        let mut screen = Self { terminal: Terminal::new(CrosstermBackend::new(io::stdout()))? };
        screen.retake()?;
        Ok(screen)
    }

    /// Draws.
    pub fn draw(&mut self, paint: impl FnOnce(&mut ratatui::Frame<'_>)) -> io::Result<()> {
        panic_if_asked("draw");
        let Some(_stdout) = stdout_unless_panicked() else { return Ok(()) };
        self.terminal.draw(paint).map(|_| ())
    }

    /// Forgets what is on the screen, so that the next drawing paints all of it.
    pub fn clear(&mut self) -> io::Result<()> {
        // `Terminal::clear` asks the terminal where its cursor is, and not every terminal answers.
        execute!(io::stdout(), Clear(ClearType::All))?;
        self.terminal = Terminal::new(CrosstermBackend::new(io::stdout()))?;
        self.terminal.hide_cursor()
    }

    /// Runs something that needs the terminal for itself.
    pub fn lend<T>(&mut self, run: impl FnOnce() -> T) -> io::Result<T> {
        give_back();
        let result = run();
        self.retake()?;
        Ok(result)
    }

    /// Takes the terminal over again from whoever had it while this process stood still.
    pub fn take_back(&mut self) -> io::Result<()> {
        use rustix::{process::getpgrp, stdio::stdin, termios::tcgetpgrp};
        // In the background it is somebody else's, and who sets its modes from there is stopped.
        if tcgetpgrp(stdin()).is_ok_and(|foreground| foreground != getpgrp()) {
            return Ok(());
        }
        // What is on already would not be set again.
        disable_raw_mode()?;
        self.retake()
    }

    fn retake(&mut self) -> io::Result<()> {
        let Some(_stdout) = stdout_unless_panicked() else { return Ok(()) };
        IS_TAKEN.store(true, Ordering::Release);
        enable_raw_mode()?;
        execute!(io::stdout(), EnterAlternateScreen, EnableMouseCapture)?;
        self.clear()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Gives the terminal back. It may be closed by now, so nothing here may fail loudly.
fn give_back() {
    if IS_TAKEN.swap(false, Ordering::AcqRel) {
        let _ = execute!(io::stdout(), DisableMouseCapture, LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}

/// Has a panic of any thread give the terminal back and say what it is; to be called before the first thread starts.
pub fn give_back_on_panic() {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let _stdout = io::stdout().lock();
        give_back();
        HAS_PANICKED.store(true, Ordering::Release);
        // With RUST_BACKTRACE set, reading the symbols takes a while: say first what has happened.
        eprintln!(
            "evtop: this is a bug in evtop; the observed process is not affected. Please report the lines below."
        );
        previous(info);
    }));
}

/// Standard output, for one thread at a time: a panic is reported before somebody else draws, and then nobody does, or
/// behind it. The lock is one that the thread which panics while it draws can take again.
fn stdout_unless_panicked() -> Option<StdoutLock<'static>> {
    let stdout = io::stdout().lock();
    (!HAS_PANICKED.load(Ordering::Acquire)).then_some(stdout)
}

/// Whether a thread has panicked; the terminal is given back already then, and the report is out.
pub fn has_panicked() -> bool {
    let has_panicked = HAS_PANICKED.load(Ordering::Acquire);
    if has_panicked {
        drop(io::stdout().lock());
    }
    has_panicked
}

/// Lets a test see what a panic leaves behind; release builds have no such thing.
pub fn panic_if_asked(place: &str) {
    if cfg!(debug_assertions) && std::env::var("EVTOP_TEST_PANIC").is_ok_and(|wanted| wanted == place) {
        panic!("asked to panic in {place}");
    }
}

/// Signals that were received.
#[derive(Debug)]
pub struct Signals {
    fatal: Arc<AtomicUsize>,
    suspend: Arc<AtomicBool>,
    continued: Arc<AtomicBool>,
}

impl Signals {
    /// Takes note of signals from now on instead of dying of them with the terminal in disorder.
    pub fn catch() -> io::Result<Self> {
        let fatal = Arc::new(AtomicUsize::new(0));
        for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM] {
            signal_hook::flag::register_usize(signal, fatal.clone(), signal as usize)?;
        }
        let suspend = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(SIGTSTP, suspend.clone())?;
        let continued = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(SIGCONT, continued.clone())?;
        Ok(Self { fatal, suspend, continued })
    }

    /// The signal that asks to end.
    pub fn fatal(&self) -> Option<i32> {
        match self.fatal.load(Ordering::Acquire) {
            0 => None,
            signal => Some(signal as i32),
        }
    }

    /// Whether it was continued since the last time: also after a SIGSTOP, of which nobody is told before.
    pub fn take_continued(&self) -> bool {
        self.continued.swap(false, Ordering::AcqRel)
    }

    /// Whether somebody asked to stop since the last time.
    pub fn take_suspend(&self) -> bool {
        self.suspend.swap(false, Ordering::AcqRel)
    }
}

/// Ends the process after a signal even if the screens cannot: reading keys from a closed terminal can go on for ever.
pub fn end_anyway_after(signals: &Signals) -> io::Result<()> {
    let fatal = signals.fatal.clone();
    let watch = move || {
        loop {
            std::thread::sleep(GRACE);
            let signal = fatal.load(Ordering::Acquire);
            if signal != 0 {
                std::thread::sleep(GRACE);
                give_back();
                std::process::exit(128 + signal as i32);
            }
        }
    };
    std::thread::Builder::new().name("evtop-signals".to_owned()).spawn(watch).map(|_| ())
}

/// The screens have this long to end by themselves.
const GRACE: Duration = Duration::from_millis(700);

/// What came of waiting for the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Something can be read, or the size may have changed.
    Maybe,
    /// The terminal is closed.
    Closed,
}

/// Waits for keys. A closed terminal must be noticed here: it is readable for ever, and holds nothing.
pub fn wait_for_input(timeout: Duration) -> Input {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stdin = rustix::stdio::stdin();
    let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
    let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
    // A signal ends the wait early; what it was is asked elsewhere.
    let _ = poll(&mut fds, Some(&timeout));
    if fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
        Input::Closed
    } else {
        Input::Maybe
    }
}

/// Stops this process until it is continued.
pub fn stop_self() {
    // SIGTSTP is caught, so SIGSTOP does what its default would have done.
    let _ = signal_hook::low_level::raise(signal_hook::consts::SIGSTOP);
}
