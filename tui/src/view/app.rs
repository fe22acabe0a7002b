//! The state machine of the screens: updates and events in, effects out. It does no I/O.

use super::arrange::{Filter, Placed, arrange};
use super::detail::{Detail, detail};
use super::keys::{Action, Motion, action_of};
use super::layout::{Hit, Regions};
use super::model::{Model, Update};
use super::picker::{self, Candidates};
use super::screens;
use super::source::Source;
use super::table::{Column, RowKey, Sort};
use super::tabs::Tab;
use super::theme::Theme;
use ratatui::crossterm::event::{
    Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEventKind,
};
use std::collections::VecDeque;

/// What the surroundings must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// Leave.
    Quit,
    /// Stop, until continued.
    Suspend,
    /// Draw everything again.
    Redraw,
    /// Open a line in the user's editor.
    Edit {
        /// File name as compiled.
        file: String,
        /// Line.
        line: u32,
    },
    /// Observe this process.
    Attach(i32),
}

/// Which of the two things evtop is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Choosing a process.
    Pick,
    /// Observing one.
    Observe,
}

/// Cursor, order and filter of one table.
#[derive(Debug, Clone)]
pub struct TableState {
    /// Order.
    pub sort: Sort,
    /// Filter.
    pub filter: Filter,
    /// The row the cursor is on.
    pub selected: Option<RowKey>,
    /// Its place, for when the row is gone.
    pub cursor: usize,
    /// The first row shown.
    pub top: usize,
    /// Indented rather than sorted as a whole.
    pub is_tree: bool,
}

/// The detail pane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pane {
    /// The row it is about.
    pub key: Option<RowKey>,
    /// Zero: the facts. From one on: the frame before that place in the stack.
    pub step: usize,
    /// Lines scrolled away.
    pub top: usize,
}

impl Pane {
    /// The chosen frame of the stack.
    pub fn frame(&self) -> usize {
        self.step.saturating_sub(1)
    }
}

/// Updates kept while paused; further ones push out the oldest, which is counted.
const PENDING_LIMIT: usize = 20_000;

/// The screens' state.
#[derive(Debug)]
pub struct App {
    /// Picking or observing.
    pub mode: Mode,
    /// What is observed.
    pub pid: i32,
    /// The screen in front.
    pub tab: Tab,
    /// What is known.
    pub model: Model,
    /// Colours.
    pub theme: Theme,
    /// The detail pane, when open.
    pub pane: Option<Pane>,
    /// The filter line is being typed.
    pub is_typing: bool,
    /// News is held back.
    pub is_paused: bool,
    /// A sentence for the user, until the next key.
    pub message: Option<String>,
    /// Processes to pick from.
    pub candidates: Candidates,
    /// Source lines.
    pub source: Box<dyn Source>,
    /// Where things were drawn.
    pub regions: Regions,
    /// Updates dropped while paused.
    pub dropped: u64,
    /// Scroll of the help screen.
    pub help_top: usize,
    tables: Vec<TableState>,
    pending: VecDeque<Update>,
    placed: Vec<Placed>,
    placed_for: Option<(Mode, Tab, u64, Sort, Filter, bool)>,
}

impl App {
    /// Screens of one process.
    pub fn observe(pid: i32, theme: Theme, source: Box<dyn Source>) -> Self {
        let table = |tab: &Tab| TableState {
            sort: screens::default_sort(*tab),
            filter: Filter::default(),
            selected: None,
            cursor: 0,
            top: 0,
            is_tree: tab.has_tree(),
        };
        let mut tables: Vec<TableState> = Tab::ALL.iter().map(table).collect();
        // The picker's table stands behind those of the screens.
        tables.push(TableState { sort: picker::SORT, ..table(&Tab::Overview) });
        Self {
            mode: Mode::Observe,
            pid,
            tab: Tab::Overview,
            model: Model::default(),
            theme,
            pane: None,
            is_typing: false,
            is_paused: false,
            message: None,
            candidates: Candidates::default(),
            source,
            regions: Regions::default(),
            dropped: 0,
            help_top: 0,
            tables,
            pending: VecDeque::new(),
            placed: Vec::new(),
            placed_for: None,
        }
    }

    /// The list of processes.
    pub fn pick(candidates: Candidates, theme: Theme, source: Box<dyn Source>) -> Self {
        Self { mode: Mode::Pick, candidates, ..Self::observe(0, theme, source) }
    }

    /// From the list to the screens.
    pub fn attached(&mut self, pid: i32, source: Box<dyn Source>) {
        (self.mode, self.pid, self.source) = (Mode::Observe, pid, source);
        self.message = None;
        self.placed_for = None;
    }

    /// Takes in news; while paused it is kept for later, except that the process has ended. Tells whether there is something
    /// new to draw.
    pub fn apply(&mut self, update: Update) -> bool {
        if self.is_paused && !matches!(update, Update::Ended(_)) {
            if matches!(update, Update::Snapshot(_)) {
                // Only the latest look is worth keeping.
                self.pending.retain(|kept| !matches!(kept, Update::Snapshot(_)));
            }
            if self.pending.len() == PENDING_LIMIT {
                self.pending.pop_front();
                self.dropped += 1;
            }
            self.pending.push_back(update);
            return true;
        }
        self.model.apply(update)
    }

    /// Number of updates held back.
    pub fn held_back(&self) -> usize {
        self.pending.len()
    }

    /// The table in front.
    pub fn table(&self) -> &TableState {
        &self.tables[self.table_index()]
    }

    pub(super) fn table_mut(&mut self) -> &mut TableState {
        let index = self.table_index();
        &mut self.tables[index]
    }

    fn table_index(&self) -> usize {
        if self.mode == Mode::Pick { Tab::ALL.len() } else { self.tab.index() }
    }

    /// Columns of the table in front.
    pub fn columns(&self) -> &'static [Column] {
        if self.mode == Mode::Pick { picker::COLUMNS } else { screens::columns(self.tab) }
    }

    /// Rows of the table in front, in order; made again only when something has changed.
    pub fn placed(&mut self) -> &[Placed] {
        let table = self.table();
        let wanted =
            (self.mode, self.tab, self.model.version, table.sort, table.filter.clone(), table.is_tree);
        if self.placed_for.as_ref() != Some(&wanted) {
            let rows = match self.mode {
                Mode::Pick => self.candidates.rows(),
                Mode::Observe => screens::rows(self.tab, &self.model),
            };
            self.placed = arrange(rows, wanted.3, &wanted.4, wanted.5);
            self.placed_for = Some(wanted);
            self.follow();
        }
        &self.placed
    }

    /// Forces the rows to be made again.
    pub fn invalidate(&mut self) {
        self.placed_for = None;
    }

    /// Keeps the cursor on its row wherever that has moved.
    fn follow(&mut self) {
        let table = self.table();
        let found =
            table.selected.as_ref().and_then(|key| self.placed.iter().position(|p| p.row.key == *key));
        let cursor = found.unwrap_or(table.cursor).min(self.placed.len().saturating_sub(1));
        self.select(cursor);
    }

    fn select(&mut self, cursor: usize) {
        let key = self.placed.get(cursor).map(|placed| placed.row.key.clone());
        let page = self.regions.page.max(1);
        let last_top = self.placed.len().saturating_sub(page);
        let table = self.table_mut();
        table.cursor = cursor;
        table.selected = key;
        table.top = table.top.clamp((cursor + 1).saturating_sub(page), cursor).min(last_top);
    }

    /// The detail of the row under the pane.
    pub fn detail(&self) -> Option<Detail> {
        let key = self.pane.as_ref()?.key.as_ref()?;
        detail(&self.model, self.tab, key)
    }

    /// Handles an event of the terminal.
    pub fn handle(&mut self, event: &Event) -> Effect {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => {
                self.message = None;
                if self.is_typing { self.type_filter(*key) } else { self.key(*key) }
            }
            Event::Mouse(mouse) => match mouse.kind {
                MouseEventKind::Down(MouseButton::Left) => self.click(mouse.column, mouse.row),
                MouseEventKind::ScrollDown => self.scroll(mouse.column, mouse.row, 3),
                MouseEventKind::ScrollUp => self.scroll(mouse.column, mouse.row, -3),
                _ => Effect::None,
            },
            Event::Resize(..) => Effect::Redraw,
            _ => Effect::None,
        }
    }

    fn key(&mut self, key: KeyEvent) -> Effect {
        let Some(action) = action_of(key) else { return Effect::None };
        self.placed();
        match action {
            Action::Quit => return Effect::Quit,
            Action::Suspend => return Effect::Suspend,
            Action::Redraw => return Effect::Redraw,
            Action::Open(tab) => self.open(tab),
            Action::Step(step) => self.open(self.tab.step(step)),
            Action::Move(motion) => self.move_cursor(motion),
            Action::Row(step) => self.step_row(step),
            Action::Enter => return self.enter(),
            Action::Back => self.back(),
            Action::Filter => self.is_typing = self.tab != Tab::Help || self.mode == Mode::Pick,
            Action::Sort(step) => self.sort_step(step),
            Action::Invert => {
                let sort = &mut self.table_mut().sort;
                sort.is_descending = !sort.is_descending;
            }
            Action::Pause => self.pause(),
            Action::Tree => {
                let has_tree = self.mode == Mode::Observe && self.tab.has_tree();
                let table = self.table_mut();
                table.is_tree = has_tree && !table.is_tree;
            }
            Action::Editor => return self.edit(),
        }
        Effect::None
    }

    fn open(&mut self, tab: Tab) {
        if self.mode == Mode::Observe && tab != self.tab {
            self.tab = tab;
            self.pane = None;
            self.is_typing = false;
        }
    }

    fn move_cursor(&mut self, motion: Motion) {
        let by = match motion {
            Motion::By(by) => by,
            Motion::Page(pages) => pages * self.regions.page.max(2) as isize,
            Motion::First => isize::MIN / 2,
            Motion::Last => isize::MAX / 2,
        };
        if self.pane.is_some() {
            let frames = self.detail().map_or(0, |detail| detail.stack.len());
            if let Some(pane) = &mut self.pane {
                pane.step = pane.step.saturating_add_signed(by).min(frames);
            }
            return;
        }
        if self.mode == Mode::Observe && self.tab == Tab::Help {
            self.help_top = self.help_top.saturating_add_signed(by);
            return;
        }
        self.move_row(by);
    }

    fn move_row(&mut self, by: isize) {
        let last = self.placed().len().saturating_sub(1);
        let cursor = self.table().cursor.saturating_add_signed(by).min(last);
        self.select(cursor);
    }

    fn step_row(&mut self, step: isize) {
        self.move_row(step);
        let key = self.table().selected.clone();
        if let Some(pane) = &mut self.pane {
            *pane = Pane { key, ..Pane::default() };
        }
    }

    fn enter(&mut self) -> Effect {
        let selected = self.table().selected.clone();
        match selected {
            Some(RowKey::Process(pid)) => return Effect::Attach(pid),
            Some(key) if self.pane.is_none() => self.pane = Some(Pane { key: Some(key), ..Pane::default() }),
            _ => {}
        }
        Effect::None
    }

    fn back(&mut self) {
        if self.pane.take().is_none() {
            self.table_mut().filter = Filter::default();
        }
    }

    fn pause(&mut self) {
        if self.mode == Mode::Pick {
            return;
        }
        self.is_paused = !self.is_paused;
        if !self.is_paused {
            for update in std::mem::take(&mut self.pending) {
                self.model.apply(update);
            }
        }
    }

    fn sort_step(&mut self, step: isize) {
        let count = self.columns().len() as isize;
        if count > 0 {
            let column = (self.table().sort.column as isize + step).rem_euclid(count) as usize;
            self.sort_by(column);
        }
    }

    /// Numbers are first sorted with the largest on top, text in the order of the alphabet.
    fn sort_by(&mut self, column: usize) {
        let is_number = self.columns().get(column).is_some_and(|column| column.is_number);
        let sort = &mut self.table_mut().sort;
        let is_descending = if sort.column == column { !sort.is_descending } else { is_number };
        *sort = Sort { column, is_descending };
    }

    fn edit(&mut self) -> Effect {
        let chosen = match (&self.pane, self.detail()) {
            (Some(pane), Some(detail)) => detail.stack.get(pane.frame()).cloned(),
            _ => self.placed.get(self.table().cursor).and_then(|placed| placed.row.place.clone()),
        };
        match chosen {
            Some(frame) => Effect::Edit { file: frame.file.to_string(), line: frame.line },
            None => {
                self.message = Some("No line of code belongs to this row.".to_owned());
                Effect::None
            }
        }
    }

    fn type_filter(&mut self, key: KeyEvent) -> Effect {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if is_control => return Effect::Quit,
            KeyCode::Char('u') if is_control => self.table_mut().filter.text.clear(),
            KeyCode::Char('z') if is_control => return Effect::Suspend,
            KeyCode::Char(letter) if !is_control => self.table_mut().filter.text.push(letter),
            KeyCode::Backspace => {
                self.table_mut().filter.text.pop();
            }
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.is_typing = false;
                self.table_mut().filter = Filter::default();
            }
            _ => {}
        }
        Effect::None
    }

    fn click(&mut self, column: u16, row: u16) -> Effect {
        self.is_typing = false;
        self.placed();
        match self.regions.at(column, row) {
            Some(Hit::Tab(tab)) => self.open(tab),
            Some(Hit::Column(column)) => self.sort_by(column),
            Some(Hit::Row(place)) => {
                let is_again = self.table().cursor == place && self.table().selected.is_some();
                self.select(place);
                let key = self.table().selected.clone();
                if let Some(pane) = &mut self.pane {
                    *pane = Pane { key, ..Pane::default() };
                } else if is_again {
                    return self.enter();
                }
            }
            Some(Hit::Frame(frame)) => {
                if let Some(pane) = &mut self.pane {
                    pane.step = frame + 1;
                }
            }
            None => {}
        }
        Effect::None
    }

    fn scroll(&mut self, column: u16, row: u16, by: isize) -> Effect {
        let place = ratatui::layout::Position::new(column, row);
        if self.pane.is_some() && !self.regions.detail.contains(place) {
            self.move_row(by);
        } else {
            self.move_cursor(Motion::By(by.signum() * if self.pane.is_some() { 1 } else { by.abs() }));
        }
        Effect::None
    }
}
