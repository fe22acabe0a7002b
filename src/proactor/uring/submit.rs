//! Encoding operations as submission queue entries.

use std::os::fd::RawFd;
use std::time::Instant;

use io_uring::{opcode, squeue, types};

use super::super::op::OpId;
use super::super::table::{Pending, Stage};
use super::provided::GROUP;

/// Wait for readiness, do not try first (`IORING_RECVSEND_POLL_FIRST`, Linux 5.19).
const POLL_FIRST: u16 = 1;
/// The kernel caps one transfer near 2 GiB; the driver continues from there.
const MAX_TRANSFER: usize = 1 << 30;

/// Completions with generation 0 are the driver's own.
pub(super) const WAKE: u64 = 1;
pub(super) const CANCEL: u64 = 2;

/// The entry of an operation. All addresses in it point into `pending`'s boxes. With `tries_first` a receive takes what is
/// there before it waits.
pub(super) fn encode(pending: &mut Pending, id: OpId, buffer_len: u32, tries_first: bool) -> squeue::Entry {
    let poll_first = if tries_first { 0 } else { POLL_FIRST };
    let entry = match pending {
        Pending::Accept { fd, peer } => {
            peer.reset_len();
            let (address, len) = peer.as_ptr();
            opcode::Accept::new(types::Fd(*fd), address, len).flags(ACCEPT_FLAGS).build()
        }
        Pending::AcceptMany { fd } => opcode::AcceptMulti::new(types::Fd(*fd)).flags(ACCEPT_FLAGS).build(),
        Pending::Connect { fd, stage: Stage::UnderWay, .. } => {
            opcode::PollAdd::new(types::Fd(*fd), libc::POLLOUT as u32).build()
        }
        Pending::Connect { fd, addr, .. } => {
            opcode::Connect::new(types::Fd(*fd), addr.as_ptr().0, addr.len()).build()
        }
        Pending::Recv { fd, max_len, heap: Some(bytes) } => {
            let len = (*max_len).min(bytes.len() as u32);
            opcode::Recv::new(types::Fd(*fd), bytes.as_mut_ptr(), len).ioprio(poll_first).build()
        }
        Pending::Recv { fd, max_len, heap: None } => {
            let len = (*max_len).min(buffer_len);
            opcode::Recv::new(types::Fd(*fd), std::ptr::null_mut(), len)
                .ioprio(poll_first)
                .buf_group(GROUP)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT)
        }
        Pending::RecvMany { fd } => opcode::RecvMulti::new(types::Fd(*fd), GROUP).build(),
        Pending::Send { fd, data, offset, sent, flags } => {
            let rest = data.bytes().get(*offset + *sent as usize..).unwrap_or(&[]);
            let len = rest.len().min(MAX_TRANSFER) as u32;
            // WAITALL: the kernel goes on after a short send by itself. Linux 5.19.
            opcode::Send::new(types::Fd(*fd), rest.as_ptr(), len)
                .flags(*flags | libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
                .build()
        }
        Pending::RecvMsg { fd, message, flags } => opcode::RecvMsg::new(types::Fd(*fd), message.header())
            .ioprio(poll_first)
            .flags(*flags as u32)
            .build(),
        Pending::SendMsg { fd, message, flags } => {
            let flags = (*flags | libc::MSG_NOSIGNAL) as u32;
            opcode::SendMsg::new(types::Fd(*fd), message.header()).flags(flags).build()
        }
        Pending::Poll { fd, interest } => opcode::PollAdd::new(types::Fd(*fd), interest.poll_mask()).build(),
        Pending::Close { fd } => opcode::Close::new(types::Fd(*fd)).build(),
        Pending::Timeout { deadline, timespec } => {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // Due already: no kernel timer and no interrupt for it.
                opcode::Nop::new().build()
            } else {
                **timespec = types::Timespec::from(left);
                opcode::Timeout::new(&raw const **timespec).build()
            }
        }
    };
    entry.user_data(id.bits())
}

const ACCEPT_FLAGS: i32 = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;

/// Watches the eventfd for ever, one completion per edge. Linux 5.13.
pub(super) fn watch_eventfd(fd: RawFd) -> squeue::Entry {
    opcode::PollAdd::new(types::Fd(fd), libc::POLLIN as u32).multi(true).build().user_data(WAKE)
}

/// Cancels one operation by its id, never by fd: numbers are reused.
pub(super) fn cancel(id: OpId) -> squeue::Entry {
    // The cancelled operation's own completion says it all.
    opcode::AsyncCancel::new(id.bits()).build().user_data(CANCEL).flags(squeue::Flags::SKIP_SUCCESS)
}
