//! Handing what came to a protocol that offers buffers.

use std::os::fd::RawFd;

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;

use super::bytes;
use super::core::LoopCore;
use super::engine::SinkId;
use super::stream::{Kind, fatal, note};
use crate::export::Export;
use crate::proactor::Lease;

/// Receives straight into the buffer that the protocol offers.
pub fn fill_direct(
    core: &Bound<'_, LoopCore>,
    id: SinkId,
    protocol: &Bound<'_, PyAny>,
    transport: &Bound<'_, PyAny>,
    fd: RawFd,
) -> PyResult<()> {
    let py = core.py();
    let received =
        offered(protocol).and_then(|target| target.fill(py, usize::MAX, |room| bytes::recv_now(fd, room)));
    let received = match received {
        Ok(received) => received,
        Err(error) => return fatal(transport, error, "Fatal error: protocol.get_buffer() call failed."),
    };
    if note(core, id, &received.as_ref().map(|count| *count))?
        && let Ok(count) = received
        && let Err(error) = protocol.call_method1(intern!(py, "buffer_updated"), (count,))
    {
        return fatal(transport, error, "Fatal error: protocol.buffer_updated() call failed.");
    }
    Ok(())
}

/// The buffer that a protocol offers.
fn offered(protocol: &Bound<'_, PyAny>) -> PyResult<Export> {
    let buffer = protocol.call_method1(intern!(protocol.py(), "get_buffer"), (-1,))?;
    let target = Export::get(&buffer)?;
    if target.len_bytes() == 0 {
        return Err(PyRuntimeError::new_err("get_buffer() returned an empty buffer"));
    }
    Ok(target)
}

/// Copies into the buffers that the protocol offers, for as long as it reads and is the same protocol.
pub fn fill_buffers(
    core: &Bound<'_, LoopCore>,
    id: SinkId,
    transport: &Bound<'_, PyAny>,
    leases: Vec<Lease>,
) -> PyResult<()> {
    let py = core.py();
    let mut rest: Vec<u8> = Vec::new();
    let mut result = Ok(());
    let mut raised = None;
    let mut leases = leases.into_iter();
    for lease in leases.by_ref() {
        let mut offset = 0;
        while offset < lease.len() {
            let protocol = {
                let mut engine = core.get().engine()?.borrow_mut();
                match engine.receiver(id) {
                    Some(receiver) if receiver.wanted && receiver.kind == Kind::Buffered => {
                        receiver.entry.clone_ref(py).into_bound(py)
                    }
                    _ => break,
                }
            };
            match fill_one(&protocol, transport, &lease.bytes()[offset..]) {
                Ok(Some(count)) => offset += count,
                Ok(None) => {
                    result = Err(());
                    break;
                }
                Err((count, error)) => {
                    offset += count;
                    raised = Some(error);
                    break;
                }
            }
        }
        let unread = offset < lease.len();
        if unread && result.is_ok() {
            rest.extend_from_slice(&lease.bytes()[offset..]);
        }
        core.get().with_engine(|engine| engine.recycle(vec![lease]));
        if unread || raised.is_some() {
            break;
        }
    }
    let others: Vec<Lease> = leases.collect();
    core.get().with_engine(|engine| match engine.receiver(id) {
        Some(receiver) if result.is_ok() => {
            let mut queue = Vec::new();
            if !rest.is_empty() {
                let len = rest.len() as u32;
                queue.push(Lease::heap(rest.into_boxed_slice(), len));
            }
            queue.extend(others);
            queue.append(&mut receiver.incoming);
            receiver.incoming = queue;
        }
        _ => engine.recycle(others),
    });
    raised.map_or(Ok(()), Err)
}

/// One `get_buffer` and `buffer_updated`; how many bytes went in, or None after a fatal error. With an exception that ends
/// the loop, how many the protocol has got.
fn fill_one(
    protocol: &Bound<'_, PyAny>,
    transport: &Bound<'_, PyAny>,
    data: &[u8],
) -> Result<Option<usize>, (usize, PyErr)> {
    let py = protocol.py();
    let filled = offered(protocol).and_then(|target| {
        target.fill(py, data.len(), |room| {
            let count = room.len().min(data.len());
            room[..count].copy_from_slice(&data[..count]);
            count
        })
    });
    match filled {
        Err(error) => {
            fatal(transport, error, "Fatal error: protocol.get_buffer() call failed.")
                .map_err(|error| (0, error))?;
            Ok(None)
        }
        Ok(count) => match protocol.call_method1(intern!(py, "buffer_updated"), (count,)) {
            Ok(_) => Ok(Some(count)),
            Err(error) => {
                fatal(transport, error, "Fatal error: protocol.buffer_updated() call failed.")
                    .map_err(|error| (count, error))?;
                Ok(None)
            }
        },
    }
}
