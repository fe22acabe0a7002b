//! Where things were drawn, so that a click finds them.

use super::tabs::Tab;
use ratatui::layout::{Position, Rect};

/// Something that can be clicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hit {
    /// A screen's tab.
    Tab(Tab),
    /// The header of a column.
    Column(usize),
    /// A row, by its place in the shown order.
    Row(usize),
    /// A frame of the detail pane's stack.
    Frame(usize),
}

/// All clickable areas of one drawing.
#[derive(Debug, Default)]
pub struct Regions {
    areas: Vec<(Rect, Hit)>,
    /// Rows of the table that fit.
    pub page: usize,
    /// The detail pane.
    pub detail: Rect,
}

impl Regions {
    /// Forgets the previous drawing.
    pub fn clear(&mut self) {
        self.areas.clear();
        self.detail = Rect::default();
    }

    /// Notes an area.
    pub fn add(&mut self, area: Rect, hit: Hit) {
        self.areas.push((area, hit));
    }

    /// What is at a place.
    pub fn at(&self, column: u16, row: u16) -> Option<Hit> {
        let place = Position::new(column, row);
        self.areas.iter().rev().find(|(area, _)| area.contains(place)).map(|&(_, hit)| hit)
    }
}
