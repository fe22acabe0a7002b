//! Plain text and JSON.
#![forbid(unsafe_code)]

mod stalls;
mod text;

pub use stalls::{candidates_text, counters_text, sites_text, stall_json, stall_line};
pub use text::snapshot_text;
