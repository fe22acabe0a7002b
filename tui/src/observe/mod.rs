//! Assembling a snapshot: one look at a process, from threads to edges.
#![forbid(unsafe_code)]

mod addresses;
mod bridge;
mod candidates;
mod children;
mod drivers;
mod green;
mod hubs;
mod limits;
mod locks;
mod native_call;
mod observer;
mod paged;
mod running;
mod seen;
mod settled;
mod stacks;
mod sync;
mod task_wait;
mod tasks;
mod thread_names;
mod threads;
mod timers;
mod unchanged;
mod wait;

pub use addresses::AddressMap;
pub use candidates::{Candidate, candidates};
pub use hubs::{hub_kind_of_frames, is_hub_file};
pub use observer::{LookError, Observer};
pub use stacks::{Located, Stacks};
pub use threads::{OsThread, os_threads};
