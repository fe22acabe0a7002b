//! Plain text and JSON.
#![forbid(unsafe_code)]

mod groups;
mod plain;
mod stalls;
mod text;

pub use plain::Plain;
pub use stalls::{blocked_text, candidates_text, counters_text, sites_text, stall_json, stall_line};
pub use text::snapshot_text;
