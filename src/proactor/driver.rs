//! The façade over both drivers.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use super::buffers::{BufferPool, Lease};
use super::config::{Choice, Config, DriverKind};
use super::epoll::Poller;
use super::error::{Errno, SetupError};
use super::fork;
use super::op::{Completion, Op, OpId, Payload};
use super::table::{Entry, Pending, Table};
use super::uring::Ring;
use super::wake::Waker;

/// Submits operations and reaps their completions; see the module's contract.
///
/// It may be made on one thread and used on another, but from its first use on it belongs to that thread.
pub struct Proactor {
    // Dropped first: it cancels and drains, and only then may the core's memory go.
    driver: Driver,
    core: Core,
    config: Config,
    fallback: Option<SetupError>,
    fork_generation: u64,
}

enum Driver {
    Uring(Box<Ring>),
    Epoll(Box<Poller>),
    /// A child whose new driver could not be made yet; the error came out of `wait`.
    Lost,
}

/// What both drivers work on.
pub(crate) struct Core {
    pub(crate) table: Table,
    /// Completions taken from the driver but not reaped yet.
    pub(crate) queued: VecDeque<Completion>,
    pub(crate) pool: BufferPool,
    pub(crate) waker: Waker,
}

impl Core {
    /// Removes `id` from the queue if its terminal completion is there.
    fn take_terminal(&mut self, id: OpId) -> Option<Completion> {
        let position = self.queued.iter().position(|done| done.id == id && !done.more)?;
        self.queued.remove(position)
    }

    /// The terminal completion of `id`: its memory is freed, except what the payload takes along.
    pub(crate) fn complete(
        &mut self,
        id: OpId,
        result: Result<u32, Errno>,
        payload: Payload,
        sock_nonempty: bool,
    ) {
        let Some(entry) = self.table.remove(id) else { return };
        let token = entry.token;
        let payload = entry.pending.finish(&result, payload);
        self.queued.push_back(Completion { id, token, result, more: false, sock_nonempty, payload });
    }

    /// Ends an operation that the kernel does not have, or had from a former ring of the parent's.
    pub(crate) fn give_up(&mut self, id: OpId) {
        let Some(entry) = self.table.get(id) else { return };
        let result = entry.give_up();
        self.complete(id, result, Payload::None, false);
    }

    /// Closes what no kernel comes to close any more.
    pub(crate) fn end_closes(&mut self) {
        for id in self.table.ids() {
            if self
                .table
                .get(id)
                .is_some_and(|entry| matches!(entry.pending, Pending::Close { .. }) && entry.ticket.is_none())
            {
                self.give_up(id);
            }
        }
    }

    /// One more completion of a multishot operation.
    pub(crate) fn queue_more(
        &mut self,
        id: OpId,
        token: u64,
        result: u32,
        payload: Payload,
        sock_nonempty: bool,
    ) {
        self.queued.push_back(Completion {
            id,
            token,
            result: Ok(result),
            more: true,
            sock_nonempty,
            payload,
        });
    }
}

fn open(config: &Config, core: &mut Core) -> Result<(Driver, Option<SetupError>), SetupError> {
    let epoll = |core: &Core| Poller::new(&core.waker).map(|poller| Driver::Epoll(Box::new(poller)));
    match config.driver {
        Choice::Epoll => Ok((epoll(core)?, None)),
        Choice::Uring => Ok((Driver::Uring(Box::new(Ring::new(config, core)?)), None)),
        Choice::Auto => match Ring::new(config, core) {
            Ok(ring) => Ok((Driver::Uring(Box::new(ring)), None)),
            Err(reason) if reason.is_unavailable() => Ok((epoll(core)?, Some(reason))),
            Err(error) => Err(error),
        },
    }
}

impl Proactor {
    /// Makes a driver. `Choice::Epoll` makes no io_uring system call, now or later.
    ///
    /// # Errors
    /// The interface is absent or forbidden (only with an explicit `Choice::Uring`), or a resource ran out.
    pub fn new(config: Config) -> Result<Proactor, SetupError> {
        let waker = Waker::new()?;
        let mut core = Core {
            table: Table::new(),
            queued: VecDeque::new(),
            pool: BufferPool::new(config.buffer_count, config.buffer_len, waker.clone())?,
            waker,
        };
        let (driver, fallback) = open(&config, &mut core)?;
        Ok(Proactor { driver, core, config, fallback, fork_generation: fork::watch() })
    }

    /// The driver that runs.
    pub fn driver(&self) -> DriverKind {
        match &self.driver {
            Driver::Uring(_) => DriverKind::Uring,
            Driver::Epoll(_) => DriverKind::Epoll,
            Driver::Lost if self.config.driver == Choice::Epoll => DriverKind::Epoll,
            Driver::Lost => DriverKind::Uring,
        }
    }

    /// Why `auto` runs on epoll.
    pub fn fallback_reason(&self) -> Option<&SetupError> {
        self.fallback.as_ref()
    }

    /// Starts an operation. It reaches the kernel with the next [`Proactor::wait`] at the latest; whatever
    /// is wrong with it is the result of its completion.
    #[inline]
    pub fn submit(&mut self, op: Op, token: u64) -> OpId {
        self.follow_fork();
        let id = self.core.table.insert(op.into(), token);
        match &mut self.driver {
            Driver::Uring(ring) => ring.submit(&mut self.core, id),
            Driver::Epoll(poller) => poller.submit(&mut self.core, id),
            Driver::Lost => {}
        }
        id
    }

    /// Asks to end an operation early. False if its terminal completion is already there or was reaped.
    pub fn cancel(&mut self, id: OpId) -> bool {
        self.follow_fork();
        match self.core.table.get(id) {
            None => return false,
            Some(entry) if entry.cancelled => return true,
            Some(entry) => entry.cancelled = true,
        }
        match &mut self.driver {
            Driver::Uring(ring) => ring.cancel(&mut self.core, id),
            Driver::Epoll(poller) => poller.cancel(&mut self.core, id),
            Driver::Lost => self.core.give_up(id),
        }
        true
    }

    /// Cancels and returns the terminal completion, which may be a success that won the race. Completions
    /// of others (and earlier ones of a multishot `id`) stay queued in order. `None` if `id` is unknown or
    /// its terminal completion was reaped.
    pub fn settle(&mut self, id: OpId) -> Option<Completion> {
        self.follow_fork();
        if self.core.table.contains(id) {
            match &mut self.driver {
                Driver::Uring(ring) => ring.settle(&mut self.core, id),
                Driver::Epoll(poller) => {
                    if let Some(entry) = self.core.table.get(id) {
                        entry.cancelled = true;
                    }
                    poller.cancel(&mut self.core, id);
                }
                Driver::Lost => self.core.give_up(id),
            }
        }
        self.core.take_terminal(id)
    }

    /// Submits, then waits for a completion, a wake-up, a signal or the timeout. May return early.
    ///
    /// `Some(Duration::ZERO)` never blocks, and makes no system call on a ring with nothing to do.
    ///
    /// # Errors
    /// The kernel refused to wait, e.g. `EEXIST` on a thread other than that of the first use; or, in a
    /// forked child, the new driver could not be made.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.follow_fork();
        let timeout = if self.core.queued.is_empty() { timeout } else { Some(Duration::ZERO) };
        match &mut self.driver {
            Driver::Uring(ring) => match ring.wait(&mut self.core, timeout) {
                Err(error)
                    if error.raw_os_error() == Some(libc::EEXIST) && ring.is_portable(&mut self.core) =>
                {
                    self.rebuild()?;
                    Ok(())
                }
                result => result,
            },
            Driver::Epoll(poller) => poller.wait(&mut self.core, timeout),
            Driver::Lost => {
                self.rebuild()?;
                Ok(())
            }
        }
    }

    /// Moves all completions that are there into `out`, oldest first. Only memory on a ring.
    pub fn reap(&mut self, out: &mut Vec<Completion>) {
        self.follow_fork();
        out.extend(self.core.queued.drain(..));
        if let Driver::Uring(ring) = &mut self.driver {
            ring.reap(&mut self.core, out);
        }
    }

    /// The received bytes; the same as [`Lease::bytes`].
    pub fn bytes<'a>(&self, lease: &'a Lease) -> &'a [u8] {
        lease.bytes()
    }

    /// Gives a buffer back.
    #[inline]
    pub fn recycle(&mut self, lease: Lease) {
        let Some(buffer) = self.core.pool.unlend(lease) else { return };
        match &mut self.driver {
            Driver::Uring(ring) if self.fork_generation == fork::generation() => {
                ring.recycle(&mut self.core, buffer);
            }
            _ => self.core.pool.put(buffer),
        }
    }

    /// Operations without a terminal completion.
    pub fn in_flight(&self) -> usize {
        self.core.table.len()
    }

    /// Completions wait to be reaped.
    pub fn has_queued(&mut self) -> bool {
        !self.core.queued.is_empty()
            || match &mut self.driver {
                Driver::Uring(ring) => self.fork_generation == fork::generation() && ring.has_completions(),
                _ => false,
            }
    }

    /// Gives up the driver, after cancelling what is in flight, and drops what came. A later use makes a new driver.
    pub fn close(&mut self) {
        if self.fork_generation == fork::generation()
            && let Driver::Uring(ring) = &mut self.driver
        {
            ring.drain(&mut self.core);
            self.driver = Driver::Lost;
        } else {
            self.abandon();
        }
        self.core.end_closes();
        self.core.queued.clear();
        for id in self.core.table.ids() {
            self.core.table.remove(id);
        }
    }

    /// Wakes `wait` from any thread.
    pub fn waker(&self) -> Waker {
        self.core.waker.clone()
    }

    /// Whether the calling thread keeps a short name for its ring, as it does from the first wait on.
    ///
    /// The name keeps the ring alive. With operations in flight it has to be given up before another thread may
    /// drop the proactor: else they hold their sockets open, and a close sends no FIN until this thread ends.
    pub fn keep_name(&mut self, kept: bool) {
        if let Driver::Uring(ring) = &mut self.driver
            && self.fork_generation == fork::generation()
        {
            ring.keep_name(kept);
        }
    }

    /// Whether it is a parent's, whose operations nobody has submitted in this process.
    pub fn is_inherited(&self) -> bool {
        self.fork_generation != fork::generation()
    }

    /// The number was closed, or opened anew, behind the driver's back: forgets what is cached about it.
    /// Operations on the old file are left alone.
    pub fn forget_fd(&mut self, fd: RawFd) {
        if self.fork_generation == fork::generation()
            && let Driver::Epoll(poller) = &mut self.driver
        {
            poller.forget(fd);
        }
    }

    #[inline]
    fn follow_fork(&mut self) {
        if self.fork_generation != fork::generation() {
            // A failure (no files, no memory) leaves `Lost`; `wait` tries again and reports it.
            let _ = self.rebuild();
        }
    }

    /// In a forked child, or on another thread while the kernel has nothing of ours: a fresh driver, and
    /// every operation in the table once more.
    #[cold]
    fn rebuild(&mut self) -> Result<(), SetupError> {
        self.abandon();
        if self.fork_generation != fork::generation() {
            self.core.table.entries().for_each(Entry::follow_fork);
            self.fork_generation = fork::generation();
        }
        self.core.waker.renew()?;
        let (driver, fallback) = open(&self.config, &mut self.core)?;
        self.driver = driver;
        self.fallback = fallback;
        for id in self.core.table.ids() {
            if self.core.table.get(id).is_some_and(|entry| entry.cancelled || entry.is_closing_elsewhere()) {
                self.core.give_up(id);
                continue;
            }
            match &mut self.driver {
                Driver::Uring(ring) => ring.submit(&mut self.core, id),
                Driver::Epoll(poller) => poller.submit(&mut self.core, id),
                Driver::Lost => {}
            }
        }
        Ok(())
    }

    /// Lets go of a driver that is the parent's, or that the kernel does nothing for.
    #[cold]
    fn abandon(&mut self) {
        let inherited = self.fork_generation != fork::generation();
        match std::mem::replace(&mut self.driver, Driver::Lost) {
            Driver::Uring(ring) => ring.abandon(&mut self.core, inherited),
            Driver::Epoll(poller) if inherited => poller.leave(),
            Driver::Epoll(_) | Driver::Lost => {}
        }
    }
}

impl Drop for Proactor {
    fn drop(&mut self) {
        if self.fork_generation != fork::generation() {
            // A forked child owns nothing in the parent's ring: its memory is simply freed.
            self.abandon();
        } else if let Driver::Uring(ring) = &mut self.driver {
            ring.drain(&mut self.core);
        }
        self.core.end_closes();
    }
}
