//! Rows and columns as data, before they are sorted, filtered and drawn.

use super::theme::Tone;
use crate::state::{Class, Frame, NodeId, Trust};
use std::cmp::Ordering;
use std::sync::Arc;

/// What a row stands for; the cursor follows it from one look to the next.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowKey {
    /// A Python thread.
    Thread(i32),
    /// A call site.
    Site(Class, String, u32),
    /// A green thread or a task.
    Node(NodeId),
    /// The first waits on the second.
    Edge(NodeId, NodeId),
    /// Something waited on that is neither green thread nor task.
    Object(NodeId),
    /// A descriptor.
    Fd(i32),
    /// A pending wake-up of somebody.
    Timer(NodeId),
    /// A finding, by its place in the list.
    Finding(&'static str, String),
    /// A process to pick.
    Process(i32),
}

/// How wide a column is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// So many columns.
    Fixed(u16),
    /// A share of what remains.
    Share(u16),
}

/// A column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its header.
    pub title: &'static str,
    /// How wide.
    pub width: Width,
    /// Numbers stand at the right.
    pub is_number: bool,
    /// Where there is no room, the beginning is cut: the end of a path tells more.
    pub keeps_end: bool,
    /// The label of all its values; without one, each value carries its own mark.
    pub trust: Option<Trust>,
    /// Left out when the table is narrower than this.
    pub from_width: u16,
}

impl Column {
    /// A column of text.
    pub const fn text(title: &'static str, width: Width) -> Self {
        Self { title, width, is_number: false, keeps_end: false, trust: None, from_width: 0 }
    }

    /// A column of numbers.
    pub const fn number(title: &'static str, width: u16) -> Self {
        Self {
            title,
            width: Width::Fixed(width),
            is_number: true,
            keeps_end: false,
            trust: None,
            from_width: 0,
        }
    }

    /// A column of places in code.
    pub const fn place(title: &'static str, width: Width) -> Self {
        Self { keeps_end: true, ..Self::text(title, width) }
    }

    /// With the label of all its values.
    pub const fn label(mut self, trust: Trust) -> Self {
        self.trust = Some(trust);
        self
    }

    /// Only where the table is at least so wide.
    pub const fn from(mut self, from_width: u16) -> Self {
        self.from_width = from_width;
        self
    }
}

/// A value in a row.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    /// As shown.
    pub text: String,
    /// To sort by, when the text does not sort rightly.
    pub number: Option<f64>,
    /// Its tone.
    pub tone: Tone,
}

impl Cell {
    /// Text, sorted as text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), number: None, tone: Tone::Plain }
    }

    /// Text, sorted by a number.
    pub fn number(text: impl Into<String>, number: f64) -> Self {
        Self { text: text.into(), number: Some(number), tone: Tone::Plain }
    }

    /// In a tone.
    pub fn tone(mut self, tone: Tone) -> Self {
        self.tone = tone;
        self
    }

    /// The order of two cells of one column.
    pub fn order(&self, other: &Self) -> Ordering {
        match (self.number, other.number) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            _ => self.text.cmp(&other.text),
        }
    }
}

/// A row.
#[derive(Debug, Clone)]
pub struct Row {
    /// What it stands for.
    pub key: RowKey,
    /// One cell a column.
    pub cells: Vec<Cell>,
    /// The row it hangs below in a tree.
    pub parent: Option<RowKey>,
    /// The line to open in an editor.
    pub place: Option<Arc<Frame>>,
}

impl Row {
    /// A row outside any tree.
    pub fn new(key: RowKey, cells: Vec<Cell>) -> Self {
        Self { key, cells, parent: None, place: None }
    }

    /// With a line to open.
    pub fn at(mut self, place: Option<&Arc<Frame>>) -> Self {
        self.place = place.cloned();
        self
    }
}

/// Which column to sort by, and which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sort {
    /// Index of the column.
    pub column: usize,
    /// Largest first.
    pub is_descending: bool,
}
