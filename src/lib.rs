//! One io_uring core for Eventlet and asyncio, in one thread.
//!
//! The layers, each knowing only those below it: `eventlet` and `asyncio` (Python faces) → [`turn`]
//! (ready queue, timers, one wait) → [`proactor`] (operations on io_uring or epoll).
//! `ARCHITECTURE.md` shows the picture and the contracts.
#![deny(unsafe_code)]

pub mod proactor;
pub mod slabs;
pub mod turn;

#[cfg(feature = "python")]
mod asyncio;
#[cfg(feature = "python")]
mod closings;
#[cfg(feature = "python")]
mod doctor;
#[cfg(feature = "python")]
mod eventlet;
#[cfg(feature = "python")]
mod export;
#[cfg(feature = "python")]
mod fastcall;
#[cfg(feature = "python")]
mod python;
#[cfg(feature = "python")]
mod raised;
#[cfg(feature = "python")]
mod runnable;
#[cfg(feature = "python")]
mod tally;
