//! System calls on file numbers that belong to others.
//!
//! Operations name files by number, as Python does, and a wrong number is a result (`EBADF`), not
//! undefined behaviour. rustix wants owned or borrowed files, so these few calls go to libc.

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;

use super::address::SocketAddress;
use super::error::Errno;
use super::message::Message;

fn check(result: isize) -> Result<u32, Errno> {
    if result < 0 { Err(last()) } else { Ok(u32::try_from(result).unwrap_or(u32::MAX)) }
}

fn last() -> Errno {
    Errno::from_raw_os_error(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

/// Borrows a number for a call that reports `EBADF` itself.
pub(crate) fn borrow<'a>(fd: RawFd) -> Result<BorrowedFd<'a>, Errno> {
    if fd < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: not -1. The borrow is only passed to one system call, which answers EBADF for a closed file.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// `recv(2)` without blocking.
pub(crate) fn recv(fd: RawFd, room: &mut [u8]) -> Result<u32, Errno> {
    // SAFETY: a live slice, the caller's exclusively.
    check(unsafe { libc::recv(fd, room.as_mut_ptr().cast(), room.len(), libc::MSG_DONTWAIT) })
}

/// `send(2)` without blocking or `SIGPIPE`.
pub(crate) fn send(fd: RawFd, bytes: &[u8], flags: i32) -> Result<u32, Errno> {
    let flags = flags | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: a live slice, only read.
    check(unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) })
}

/// `recvmsg(2)` without blocking.
pub(crate) fn recvmsg(fd: RawFd, message: &mut Box<Message>, flags: i32) -> Result<u32, Errno> {
    // SAFETY: the header points at live parts of the same boxed message, which is the caller's exclusively.
    check(unsafe { libc::recvmsg(fd, message.header(), flags | libc::MSG_DONTWAIT) })
}

/// `sendmsg(2)` without blocking or `SIGPIPE`.
pub(crate) fn sendmsg(fd: RawFd, message: &mut Box<Message>, flags: i32) -> Result<u32, Errno> {
    let flags = flags | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: as for `recvmsg`.
    check(unsafe { libc::sendmsg(fd, message.header(), flags) })
}

/// Runs `call` with the file in non-blocking mode, and restores the mode it had.
fn non_blocking<T>(fd: RawFd, call: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    // SAFETY: fcntl on a number has no memory effect.
    let flags = check(unsafe { libc::fcntl(fd, libc::F_GETFL) } as isize)? as i32;
    if flags & libc::O_NONBLOCK != 0 {
        return call();
    }
    // SAFETY: as above.
    check(unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) } as isize)?;
    let result = call();
    // SAFETY: as above. Restoring the flags that were just read cannot fail on the same file.
    unsafe { libc::fcntl(fd, libc::F_SETFL, flags) };
    result
}

/// `accept4(2)` without blocking, also on a blocking listener.
pub(crate) fn accept(fd: RawFd, peer: Option<&mut SocketAddress>) -> Result<OwnedFd, Errno> {
    let (address, len) = match peer {
        Some(peer) => {
            peer.reset_len();
            peer.as_ptr()
        }
        None => (std::ptr::null_mut(), std::ptr::null_mut()),
    };
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    non_blocking(fd, || {
        // SAFETY: `address` and `len` are null or point into the caller's live, boxed address.
        let accepted = check(unsafe { libc::accept4(fd, address, len, flags) } as isize)?;
        // SAFETY: accept has just made it, and nobody else knows the number.
        Ok(unsafe { own(accepted as RawFd) })
    })
}

/// Takes ownership of a file the kernel has just made for us.
///
/// # Safety
/// `fd` is the result of an accept, which one completion or return tells, and nobody else has taken it.
pub(crate) unsafe fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: the number is the caller's alone; from here the result owns the file until it is dropped.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// `connect(2)` without blocking, also on a blocking socket.
pub(crate) fn connect(fd: RawFd, addr: &mut SocketAddress) -> Result<(), Errno> {
    let (address, len) = (addr.as_ptr().0, addr.len());
    non_blocking(fd, || {
        // SAFETY: `address` points into the caller's live, boxed address of `len` bytes; only read.
        check(unsafe { libc::connect(fd, address, len) } as isize).map(|_| ())
    })
}

/// `close(2)`. Linux frees the number even when it reports `EINTR`.
pub(crate) fn close(fd: RawFd) -> Result<u32, Errno> {
    // SAFETY: the operation's submitter gave the number up.
    match check(unsafe { libc::close(fd) } as isize) {
        Err(Errno::INTR) => Ok(0),
        result => result,
    }
}

fn socket_option(fd: RawFd, option: libc::c_int) -> Result<libc::c_int, Errno> {
    let mut value: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: both out-pointers are live locals of the right size; getsockopt writes only during the call.
    let result =
        unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, option, (&raw mut value).cast(), &raw mut len) };
    check(result as isize).map(|_| value)
}

/// True for a TCP socket, where a short read proves that the socket is empty unless it ended at an urgent mark.
/// Datagrams, and Unix streams that carry files, end a read early with more behind it.
pub(crate) fn is_tcp(fd: RawFd) -> bool {
    socket_option(fd, libc::SO_PROTOCOL) == Ok(libc::IPPROTO_TCP)
}

/// `sockatmark(3)`: what is read next of a TCP socket stands behind an urgent mark.
pub(crate) fn is_at_mark(fd: RawFd) -> bool {
    /// The libc crate does not have it. `asm-generic/sockios.h`.
    const SIOCATMARK: libc::Ioctl = 0x8905;
    let mut at_mark: libc::c_int = 0;
    // SAFETY: SIOCATMARK writes one int, into this live local, during the call.
    let result = unsafe { libc::ioctl(fd, SIOCATMARK, &raw mut at_mark) };
    result == 0 && at_mark != 0
}

/// `ENOTSOCK` or `EBADF` for what is no socket.
pub(crate) fn check_socket(fd: RawFd) -> Result<(), Errno> {
    socket_option(fd, libc::SO_TYPE).map(|_| ())
}

/// Anonymous memory, untouched.
pub(crate) fn map_anonymous(len: usize) -> Result<NonNull<u8>, Errno> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing.
    let base = unsafe {
        libc::mmap(std::ptr::null_mut(), len.max(1), libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
    };
    if base == libc::MAP_FAILED { Err(last()) } else { NonNull::new(base.cast()).ok_or(Errno::NOMEM) }
}

/// Gives a mapping of `map_anonymous` back.
///
/// # Safety
/// `base` and `len` are those of one mapping that nobody uses any more.
pub(crate) unsafe fn unmap(base: NonNull<u8>, len: usize) {
    // SAFETY: the caller owns the mapping and gives it up here: neither the kernel nor a lease uses it any more.
    unsafe { libc::munmap(base.as_ptr().cast(), len.max(1)) };
}
