//! Operations that complete: submit, cancel, wait, reap, over io_uring or epoll.
//!
//! # The contract, for both drivers
//!
//! 1. [`Proactor::submit`] never fails and never blocks. Whatever is wrong with an operation (bad fd,
//!    refused connection, exhausted resource) is the result of its completion. A full submission queue
//!    is flushed or queued behind, never dropped.
//! 2. Every submitted operation has exactly one *terminal* completion (`more == false`). Multishot
//!    operations have any number of completions with `more == true` before it.
//! 3. [`Proactor::cancel`] only asks. The terminal completion still comes, and it may carry the result
//!    that won the race: bytes received, a connection accepted. [`Proactor::settle`] cancels and drives
//!    until that terminal completion is there, and hands it to the caller; other completions met on the
//!    way stay queued for [`Proactor::reap`].
//! 4. An operation owns its buffers and addresses until its terminal completion. They live on the heap,
//!    never on a C stack (greenlets move C stacks), and are freed only after it: on close, drop, fork too.
//!    The bytes of a send come back in its completion, so that nobody's drop runs inside the driver.
//! 5. An operation is known by [`OpId`] (slot and generation), never by its fd.
//! 6. Completions are only queued while reaping; nobody's code runs inside the driver.
//! 7. [`Proactor::wait`] is the only call that blocks, and touches nothing but the kernel and the driver:
//!    the caller may release the GIL around it. A signal makes it return early (`Ok`).
//! 8. Nothing is read ahead from a socket: `Recv` reads once, at most `max_len` bytes, into a pooled buffer
//!    and only when asked. Only `RecvMany` reads on its own, and only our own transports use it.
//! 9. Operations on one fd and direction complete in any order; a caller that needs FIFO keeps one in flight.
//! 10. After `fork` the child calls nothing special: the first use in the child makes a fresh driver and
//!     submits again every operation still in the table under its old [`OpId`]; the parent's ring is
//!     neither used nor cancelled. A child may have closed the numbers it inherited, and opened others under them.
//! 11. A proactor may be made on one thread and used on another; from its first `wait` on it belongs to that
//!     thread, and moves only while the kernel has no operation of it. Elsewhere `wait` says `EEXIST`.
//! 12. Whoever closes a number, or learns that it was opened anew, calls [`Proactor::forget_fd`]. Polls notice
//!     a reused number by themselves; the other operations rely on this call (on epoll, where readiness is
//!     cached). Operations in flight are cancelled first: with one in flight a close sends no FIN.
//!
//! # The drivers
//!
//! io_uring needs Linux 6.1 (`DEFER_TASKRUN`; with it come provided-buffer rings, multishot accept and
//! receive, and registered ring fds). Whether a kernel will do is found out by setting a ring up, never from
//! its version. epoll runs on any kernel that Rust supports; timeouts finer than a millisecond want 5.11.
//!
//! A receive brings at most one pooled buffer (`buffer_len`). Where [`Completion::sock_nonempty`] says that
//! more waits, reading the rest directly into its destination is cheaper than another operation.

// The kernel boundary: the only places where the crate's `deny(unsafe_code)` is lifted.
#[allow(unsafe_code)]
mod address;
#[allow(unsafe_code)]
mod buffers;
#[allow(unsafe_code)]
mod fork;
#[allow(unsafe_code)]
mod message;
#[allow(unsafe_code)]
mod sys;
#[allow(unsafe_code)]
mod uring;

mod config;
mod driver;
mod epoll;
mod error;
mod op;
mod own_file;
mod probe;
mod table;
mod thread;
mod wake;

pub use address::SocketAddress;
pub use buffers::Lease;
pub use config::{Choice, Config, DriverKind, UnknownDriver};
pub use driver::Proactor;
pub use error::{Errno, SetupError};
#[cfg(feature = "python")]
pub(crate) use fork::generation as fork_generation;
pub use message::StableBytes;
pub use op::{Completion, Interest, Op, OpId, Payload};
pub use probe::{Check, Finding, ProbeReport, probe};
pub use wake::Waker;
