//! The screens.
//!
//! State is apart from drawing: [`App`] is a machine of updates and keys that does no I/O; [`draw`] paints it on a
//! frame; [`run`] alone touches the terminal, the process and the clock. One screen part stands in one file.
#![forbid(unsafe_code)]

mod app;
mod arrange;
mod chrome;
mod detail;
mod draw;
mod editor;
mod feed;
mod format;
mod keys;
mod layout;
mod model;
mod paint_detail;
mod paint_table;
mod picker;
mod pulse;
mod run;
mod screens;
mod source;
mod table;
mod tabs;
mod terminal;
mod theme;

pub use app::{App, Effect, Mode, Pane, TableState};
pub use draw::draw;
pub use model::{Model, Update};
pub use picker::Candidates;
pub use run::{ScreenError, run};
pub use source::{NoSource, Source, SourceFiles};
pub use table::{RowKey, Sort};
pub use tabs::Tab;
pub use theme::{ColourDepth, Theme, Tone};
