//! The screens, driven by a made-up process: whole screens by snapshot, keys and clicks on the state machine.

mod fake;
mod keys;
mod lints;
mod mouse;
mod render;
mod snapshots;
