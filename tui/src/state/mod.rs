//! Plain data: what was seen, how sure it is, and what blocked. No I/O, no decoding, no drawing.
#![forbid(unsafe_code)]

mod site;
mod snapshot;
mod stall;
mod trust;

pub use site::{Site, Sites};
pub use snapshot::{
    Counters, Edge, EdgeKind, Fd, Frame, GreenThread, Hub, NodeId, Process, SNAPSHOT_SCHEMA, Snapshot, Task,
    Thread, Timer, Wait, WaitKind, own_frame, stopped_text,
};
pub use stall::{Class, Delay, STALL_SCHEMA, Stall, StallPart};
pub use trust::{Labelled, Trust};
