//! The few system calls the face makes itself, all of them non-blocking, and bytes objects filled in place.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use pyo3::exceptions::{PyMemoryError, PyOSError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

// CPython, Include/cpython/bytesobject.h; not in pyo3's bindings.
unsafe extern "C" {
    fn _PyBytes_Resize(object: *mut *mut ffi::PyObject, size: ffi::Py_ssize_t) -> libc::c_int;
}

/// `OSError(errno, strerror)`: unlike pyo3's own conversion it keeps errno, which eventlet looks at.
pub fn os_error(errno: i32) -> PyErr {
    let text = io::Error::from_raw_os_error(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default().to_owned();
    PyOSError::new_err((errno, text))
}

fn checked(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Receives what is there, without waiting.
pub fn recv_now(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is a live exclusive borrow for the duration of the call, which never blocks.
    checked(unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) })
}

/// Sends what fits, without waiting and without SIGPIPE.
pub fn send_now(fd: RawFd, data: &[u8], flags: i32) -> io::Result<usize> {
    let flags = flags | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the data is a live borrow for the duration of the call, which never blocks.
    checked(unsafe { libc::send(fd, data.as_ptr().cast(), data.len(), flags) })
}

/// Whether the descriptor is a stream socket (what TCP and Unix stream sockets are).
pub fn is_stream(fd: RawFd) -> bool {
    let mut kind: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: both out-parameters are live locals of the size that is passed.
    let status = unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_TYPE, (&raw mut kind).cast(), &raw mut len)
    };
    status == 0 && kind == libc::SOCK_STREAM
}

/// Whether the number is an open descriptor of this process.
pub fn is_open(fd: RawFd) -> bool {
    // SAFETY: F_GETFD takes no pointer.
    unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
}

/// The kernel's cookie of the socket that a number names; no other socket ever has the same.
pub fn cookie(fd: RawFd) -> Option<u64> {
    if fd < 0 {
        return None;
    }
    // SAFETY: not -1. The borrow is only passed to one system call, which answers EBADF for a closed file.
    rustix::net::sockopt::socket_cookie(unsafe { BorrowedFd::borrow_raw(fd) }).ok()
}

/// A bytes object of at most `capacity` bytes, filled by `fill`, which returns how many it wrote.
pub fn bytes_from<'py>(
    py: Python<'py>,
    capacity: usize,
    fill: impl FnOnce(&mut [u8]) -> io::Result<usize>,
) -> PyResult<io::Result<Bound<'py, PyBytes>>> {
    let Ok(size) = ffi::Py_ssize_t::try_from(capacity) else {
        return Err(PyMemoryError::new_err(()));
    };
    // SAFETY: attached; returns a new bytes object that nobody else has seen, or null with an exception.
    let mut object = unsafe { ffi::PyBytes_FromStringAndSize(std::ptr::null(), size) };
    if object.is_null() {
        return Err(PyErr::fetch(py));
    }
    // SAFETY: the object owns `capacity` writable bytes, and no one else has a reference. They are
    // uninitialised; `fill` hands them to recv(2) or writes them, and only the part it wrote is kept.
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
    // SAFETY: refcount is one, as _PyBytes_Resize demands; on failure it frees the object and nulls it.
    unsafe {
        if written != capacity && _PyBytes_Resize(&raw mut object, written as ffi::Py_ssize_t) < 0 {
            return Err(PyErr::fetch(py));
        }
        Ok(Ok(Bound::from_owned_ptr(py, object).cast_into_unchecked()))
    }
}
