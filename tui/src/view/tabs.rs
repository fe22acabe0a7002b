//! The screens and their order.

/// A screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tab {
    /// The process, its threads, and how its hub fares.
    Overview,
    /// Calls that blocked a hub.
    Blocking,
    /// Green threads.
    Green,
    /// asyncio tasks.
    Tasks,
    /// Who waits on whom.
    Graph,
    /// Descriptors somebody waits for.
    Fds,
    /// Pending wake-ups.
    Timers,
    /// What looks wrong.
    Lints,
    /// The keys.
    Help,
}

impl Tab {
    /// In the order of their keys.
    pub const ALL: [Self; 9] = [
        Self::Overview,
        Self::Blocking,
        Self::Green,
        Self::Tasks,
        Self::Graph,
        Self::Fds,
        Self::Timers,
        Self::Lints,
        Self::Help,
    ];

    /// The key that opens it.
    pub fn key(self) -> char {
        match self {
            Self::Help => '?',
            _ => (b'1' + self.index() as u8) as char,
        }
    }

    /// Its title.
    pub fn title(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Blocking => "Blocking",
            Self::Green => "Green",
            Self::Tasks => "Tasks",
            Self::Graph => "Graph",
            Self::Fds => "Fds",
            Self::Timers => "Timers",
            Self::Lints => "Lints",
            Self::Help => "Help",
        }
    }

    /// Its place in [`Tab::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// The screen `step` places further, around the end.
    pub fn step(self, step: isize) -> Self {
        let count = Self::ALL.len() as isize;
        Self::ALL[(self.index() as isize + step).rem_euclid(count) as usize]
    }

    /// Whether it shows rows that can wait on each other.
    pub fn has_tree(self) -> bool {
        matches!(self, Self::Tasks | Self::Graph)
    }
}
