//! Received and sent bytes: non-blocking calls on Python's own memory, with the GIL held.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use pyo3::exceptions::{PyMemoryError, PyOSError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyByteArrayMethods, PyBytes};

use rustix::event::epoll;
use rustix::io::Errno;

use crate::proactor::{Lease, SocketAddress};

// CPython, Include/cpython/bytesobject.h; not in pyo3's bindings.
unsafe extern "C" {
    fn _PyBytes_Resize(object: *mut *mut ffi::PyObject, size: ffi::Py_ssize_t) -> libc::c_int;
}

/// `OSError(errno, strerror)`, of the subclass that belongs to the errno.
pub fn os_error(errno: i32) -> PyErr {
    let text = io::Error::from_raw_os_error(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default().to_owned();
    PyOSError::new_err((errno, text))
}

/// The error of a system call as Python's.
pub fn failed(error: &io::Error) -> PyErr {
    os_error(error.raw_os_error().unwrap_or(libc::EIO))
}

/// Whether a call should be tried again when the descriptor is ready.
pub fn not_now(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn checked(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Receives what is there, without waiting.
pub fn recv_now(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is a live exclusive borrow for the duration of the call, which never blocks.
    checked(unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) })
}

/// How many bytes a stream socket has to read; 0 if the kernel does not say.
pub fn waiting(fd: RawFd) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: the out-parameter is a live local of the type that FIONREAD writes.
    let asked = unsafe { libc::ioctl(fd, libc::FIONREAD, &raw mut count) };
    if asked == 0 { usize::try_from(count).unwrap_or(0) } else { 0 }
}

/// Sends what fits, without waiting and without SIGPIPE.
pub fn send_now(fd: RawFd, data: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the data is a live borrow for the duration of the call, which never blocks.
    checked(unsafe { libc::send(fd, data.as_ptr().cast(), data.len(), flags) })
}

/// Receives a datagram that is there, without waiting, and its source.
pub fn recv_from_now(fd: RawFd, buffer: &mut [u8], source: &mut SocketAddress) -> io::Result<usize> {
    source.reset_len();
    let (address, len) = source.as_ptr();
    // SAFETY: buffer, address and length are live exclusive borrows for the duration of the call, which never
    // blocks; the length says how much room the address has.
    checked(unsafe {
        libc::recvfrom(fd, buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT, address, len)
    })
}

/// Sends a datagram, without waiting.
pub fn send_to_now(fd: RawFd, data: &[u8], to: &SocketAddress) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let address = to.as_bytes();
    let len = address.len() as libc::socklen_t;
    // SAFETY: data and address are live borrows for the duration of the call, which never blocks.
    checked(unsafe {
        libc::sendto(fd, data.as_ptr().cast(), data.len(), flags, address.as_ptr().cast(), len)
    })
}

/// What kind of file a descriptor is (`st_mode`).
pub fn file_mode(fd: RawFd) -> io::Result<libc::mode_t> {
    // SAFETY: `stat` is plain data for which all-zero is valid.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the out-parameter is a live local of the right type.
    if unsafe { libc::fstat(fd, &raw mut status) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(status.st_mode)
}

/// Whether epoll would refuse to watch the file, because it is always ready.
pub fn has_no_readiness(fd: RawFd) -> bool {
    let Ok(set) = epoll::create(epoll::CreateFlags::CLOEXEC) else { return false };
    // SAFETY: the caller has just looked at the file under this number, which is not -1; the borrow ends with the call.
    let file = unsafe { BorrowedFd::borrow_raw(fd) };
    epoll::add(&set, file, epoll::EventData::new_u64(0), epoll::EventFlags::IN) == Err(Errno::PERM)
}

/// A bytes object of at most `capacity` bytes, filled by `fill`, which returns how many it wrote.
pub fn bytes_from<'py>(
    py: Python<'py>,
    capacity: usize,
    fill: impl FnOnce(&mut [u8]) -> io::Result<usize>,
) -> PyResult<io::Result<Bound<'py, PyBytes>>> {
    let Ok(size) = ffi::Py_ssize_t::try_from(capacity) else { return Err(PyMemoryError::new_err(())) };
    if capacity == 0 {
        return Ok(fill(&mut []).map(|_| PyBytes::new(py, b"")));
    }
    // SAFETY: attached; returns a new bytes object that nobody else has seen, or null with an exception.
    let mut object = unsafe { ffi::PyBytes_FromStringAndSize(std::ptr::null(), size) };
    if object.is_null() {
        return Err(PyErr::fetch(py));
    }
    // SAFETY: the object owns `capacity` writable bytes, and no one else has a reference. They are
    // uninitialised; `fill` only writes them, and only the part it wrote is kept.
    let buffer =
        unsafe { std::slice::from_raw_parts_mut(ffi::PyBytes_AsString(object).cast::<u8>(), capacity) };
    let written = match fill(buffer) {
        Ok(written) => written.min(capacity),
        Err(error) => {
            // SAFETY: the only reference, given up here.
            unsafe { ffi::Py_DECREF(object) };
            return Ok(Err(error));
        }
    };
    // SAFETY: the refcount is one, as _PyBytes_Resize demands; on failure it frees the object and nulls it.
    unsafe {
        if written != capacity && _PyBytes_Resize(&raw mut object, written as ffi::Py_ssize_t) < 0 {
            return Err(PyErr::fetch(py));
        }
        Ok(Ok(Bound::from_owned_ptr(py, object).cast_into_unchecked()))
    }
}

/// The bytes of several leases in one object.
pub fn join<'py>(py: Python<'py>, leases: &[Lease]) -> PyResult<Bound<'py, PyBytes>> {
    if let [lease] = leases {
        return Ok(PyBytes::new(py, lease.bytes()));
    }
    let total = leases.iter().map(Lease::len).sum();
    PyBytes::new_with(py, total, |mut room| {
        for lease in leases {
            let (head, tail) = room.split_at_mut(lease.len());
            head.copy_from_slice(lease.bytes());
            room = tail;
        }
        Ok(())
    })
}

/// Appends the bytes of several leases; False, and nothing done, if the bytearray cannot grow now.
pub fn append(buffer: &Bound<'_, PyByteArray>, leases: &[Lease]) -> bool {
    let start = buffer.len();
    let total = start + leases.iter().map(Lease::len).sum::<usize>();
    if buffer.resize(total).is_err() {
        return false; // Somebody has exported its memory, or there is no more.
    }
    // SAFETY: attached, no Python code runs before the copy is done, and nobody has exported the memory, or it
    // would not have been resized.
    let mut room = unsafe { &mut buffer.as_bytes_mut()[start..] };
    for lease in leases {
        let (head, tail) = room.split_at_mut(lease.len());
        head.copy_from_slice(lease.bytes());
        room = tail;
    }
    true
}

/// At most `limit` bytes off the front of a bytearray; fails if somebody has exported its memory.
pub fn take<'py>(buffer: &Bound<'py, PyByteArray>, limit: usize) -> PyResult<Bound<'py, PyBytes>> {
    let py = buffer.py();
    let count = buffer.len().min(limit);
    // SAFETY: attached, and no Python code runs while the bytes are copied into a new object.
    let taken = PyBytes::new(py, unsafe { &buffer.as_bytes()[..count] });
    if count == buffer.len() {
        buffer.resize(0)?;
    } else {
        // `del buffer[:count]`: the rest stays where it is. `PySlice::new` of pyo3 0.30 leaks a large count.
        // SAFETY: attached, a live bytearray; -1 means that an exception is set.
        if unsafe { ffi::PySequence_DelSlice(buffer.as_ptr(), 0, count as ffi::Py_ssize_t) } < 0 {
            return Err(PyErr::fetch(py));
        }
    }
    Ok(taken)
}
