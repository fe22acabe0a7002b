//! Timing what blocks a hub.
//!
//! CPython counts the contexts a thread enters (`context_ver`): the count rises at every greenlet switch and every
//! asyncio callback. A thread whose count stands still, and which is not asleep in its hub's own wait, is blocked.
//! The watcher reads that count, a few microseconds each time, and looks closer only when it stands still: a thousand
//! times a second from then on, half as often while everything moves.
#![forbid(unsafe_code)]

mod classify;
mod evidence;
mod idle;
mod inspect;
mod names;
mod probe;
mod segment;
mod stalls;
mod times;
mod watcher;

pub use classify::{Judgement, classify};
pub use evidence::{Descriptor, Evidence};
pub use segment::{Place, Progress, Segment, Step};
pub use watcher::{Blocked, WatchConfig, WatchCounters, WatchEvent, Watcher};
