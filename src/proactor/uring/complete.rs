//! Turning completion queue entries into completions.

use std::os::fd::RawFd;

use io_uring::cqueue;

use super::super::address::SocketAddress;
use super::super::buffers::Lease;
use super::super::driver::Core;
use super::super::error::Errno;
use super::super::op::{Completion, OpId, Payload};
use super::super::sys;
use super::super::table::{Entry, Pending, Stage};
use super::Ring;
use super::submit::{CANCEL, WAKE};

/// What a queue entry means for its operation.
enum Verdict {
    /// Its last word.
    Done(Result<u32, Errno>, Payload),
    /// A word of a multishot operation that goes on; `true` if the kernel ended it and we go on for it.
    More(u32, Payload, bool),
    /// Nothing to tell: submit (the rest) again.
    Again,
    /// Nothing to tell: wait for a buffer to come back.
    Starved,
}

impl Ring {
    /// Handles one entry; most yield one completion.
    pub(super) fn complete(&mut self, core: &mut Core, cqe: &cqueue::Entry) -> Option<Completion> {
        match cqe.user_data() {
            WAKE => {
                self.wake_armed = cqueue::more(cqe.flags());
                core.waker.clear();
                return None;
            }
            CANCEL => return None,
            _ => {}
        }
        let id = OpId::from_bits(cqe.user_data());
        let lease = self.take_lease(core, cqe);
        let entry = core.table.get(id)?;
        let token = entry.token;
        let sock_nonempty = cqueue::sock_nonempty(cqe.flags());
        let verdict = judge(entry, cqe, lease);
        let verdict = match verdict {
            Verdict::Done(Err(Errno::NOBUFS), _) if is_pooled(&entry.pending) => {
                self.out_of_buffers(core, id)
            }
            verdict => verdict,
        };
        let (result, payload, more) = match verdict {
            Verdict::Again => {
                self.submit(core, id);
                return None;
            }
            Verdict::Starved => {
                core.table.get(id)?.ticket = None;
                self.starved.push_back(id);
                // `prepare` looks once more before the next sleep.
                core.pool.await_buffer(true);
                return None;
            }
            Verdict::More(result, payload, ended) => {
                if ended {
                    self.submit(core, id);
                }
                (Ok(result), payload, true)
            }
            Verdict::Done(result, payload) => (result, payload, false),
        };
        let payload = if more { payload } else { core.table.remove(id)?.pending.finish(&result, payload) };
        Some(Completion { id, token, result, more, sock_nonempty, payload })
    }

    /// The buffer the kernel picked, if any. One without bytes goes straight back.
    fn take_lease(&mut self, core: &mut Core, cqe: &cqueue::Entry) -> Option<Lease> {
        let buffer = cqueue::buffer_select(cqe.flags())?;
        self.provided.picked(buffer);
        if cqe.result() > 0 && core.table.contains(OpId::from_bits(cqe.user_data())) {
            return Some(core.pool.lend(buffer, cqe.result() as u32));
        }
        self.provided.recycle(&mut core.pool, buffer);
        None
    }

    /// `ENOBUFS`: nobody hears of it. With more buffers try again; with all of them lent out a single
    /// receive gets memory of its own and a multishot one waits for a lease to come back.
    fn out_of_buffers(&mut self, core: &mut Core, id: OpId) -> Verdict {
        let refilled = self.provided.grow(&mut core.pool);
        let buffer_len = core.pool.buffer_len();
        let Some(entry) = core.table.get(id) else { return Verdict::Starved };
        if entry.cancelled {
            return Verdict::Done(Err(Errno::CANCELED), Payload::None);
        }
        match &mut entry.pending {
            Pending::Recv { max_len, heap, .. } if !refilled => {
                let len = (*max_len).clamp(1, buffer_len) as usize;
                *heap = Some(vec![0; len].into_boxed_slice());
                Verdict::Again
            }
            Pending::RecvMany { .. } if !refilled => Verdict::Starved,
            _ => Verdict::Again,
        }
    }
}

fn is_pooled(pending: &Pending) -> bool {
    matches!(pending, Pending::Recv { heap: None, .. } | Pending::RecvMany { .. })
}

fn judge(entry: &mut Entry, cqe: &cqueue::Entry, lease: Option<Lease>) -> Verdict {
    let result = match cqe.result() {
        result if result < 0 => Err(Errno::from_raw_os_error(-result)),
        result => Ok(result as u32),
    };
    let more = cqueue::more(cqe.flags());
    let cancelled = entry.cancelled;
    match (&mut entry.pending, result) {
        (Pending::Connect { fd, addr, stage }, result)
            if *stage != Stage::New || result == Err(Errno::INTR) =>
        {
            judge_connect(*fd, addr, stage, result, cancelled)
        }
        // A signal interrupted the kernel's attempt, which says nothing about the operation.
        (pending, Err(Errno::INTR)) if !cancelled && !matches!(pending, Pending::Close { .. }) => {
            Verdict::Again
        }
        // Asked to wait for readiness first, the kernel says EAGAIN for a file that cannot be waited for.
        (Pending::Recv { fd, .. }, Err(Errno::AGAIN)) => match sys::check_socket(*fd) {
            Ok(()) if !cancelled => Verdict::Again,
            Ok(()) => Verdict::Done(Err(Errno::CANCELED), Payload::None),
            Err(errno) => Verdict::Done(Err(errno), Payload::None),
        },
        (Pending::Accept { peer, .. }, Ok(fd)) => {
            // SAFETY: the kernel made the file for this operation, and this, its one completion, gives it to us.
            let fd = unsafe { sys::own(fd as i32) };
            let payload = Payload::Accepted { fd, peer: Some(peer.clone()) };
            Verdict::Done(Ok(0), payload)
        }
        (Pending::AcceptMany { .. }, Ok(fd)) => {
            // SAFETY: each completion of the operation gives us a file of its own.
            let fd = unsafe { sys::own(fd as i32) };
            let payload = Payload::Accepted { fd, peer: None };
            if more || !cancelled { Verdict::More(0, payload, !more) } else { Verdict::Done(Ok(0), payload) }
        }
        (Pending::RecvMany { .. }, Ok(len)) if len > 0 => {
            let payload = lease.map_or(Payload::None, Payload::Lease);
            if more || !cancelled {
                Verdict::More(len, payload, !more)
            } else {
                Verdict::Done(Ok(len), payload)
            }
        }
        (Pending::Recv { heap, .. }, Ok(len)) if len > 0 => {
            let lease = lease.or_else(|| heap.take().map(|bytes| Lease::heap(bytes, len)));
            Verdict::Done(Ok(len), lease.map_or(Payload::None, Payload::Lease))
        }
        (Pending::Send { data, offset, sent, .. }, Ok(len)) => {
            *sent = sent.saturating_add(len);
            let done = *offset + *sent as usize >= data.bytes().len();
            if done || cancelled || len == 0 || *sent > u32::MAX / 2 {
                Verdict::Done(Ok(*sent), Payload::None)
            } else {
                Verdict::Again
            }
        }
        (Pending::Send { sent, .. }, Err(_)) if *sent > 0 => Verdict::Done(Ok(*sent), Payload::None),
        (Pending::Timeout { .. }, Err(Errno::TIME)) => Verdict::Done(Ok(0), Payload::None),
        (_, result) => Verdict::Done(result, Payload::None),
    }
}

/// An attempt that may have begun before this operation.
fn judge_connect(
    fd: RawFd,
    addr: &mut SocketAddress,
    stage: &mut Stage,
    result: Result<u32, Errno>,
    cancelled: bool,
) -> Verdict {
    let outcome = match (*stage, result) {
        // Writable, or broken: which, the pending error does not tell for sure, as the other side of a fork may have
        // taken it.
        (Stage::UnderWay, Ok(_)) => sys::connect(fd, addr).map(|()| 0),
        (_, outcome) => outcome,
    };
    *stage = Stage::Begun;
    match outcome {
        Err(Errno::ISCONN) => Verdict::Done(Ok(0), Payload::None),
        Err(Errno::INTR | Errno::ALREADY | Errno::INPROGRESS) if cancelled => {
            Verdict::Done(Err(Errno::CANCELED), Payload::None)
        }
        Err(Errno::INTR) => Verdict::Again,
        Err(Errno::ALREADY | Errno::INPROGRESS) => {
            *stage = Stage::UnderWay;
            Verdict::Again
        }
        outcome => Verdict::Done(outcome, Payload::None),
    }
}
