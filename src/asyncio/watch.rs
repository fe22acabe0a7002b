//! `add_reader` and `add_writer`: a poll operation that is armed again after each callback.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use pyo3::exceptions::{PyPermissionError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyTuple};

use super::bytes;
use super::core::LoopCore;
use super::engine::{Engine, Side, Sink, SinkId, Watch};
use super::handle::handles;
use crate::closings::Moment;

/// A watch's handle and file object, to be dropped where the engine is not borrowed.
pub type Watched = (Py<PyAny>, Option<Py<PyAny>>);

impl Engine {
    /// Watches one side of a descriptor for a handle; returns what it replaces.
    pub fn watch(&mut self, fd: RawFd, side: Side, (handle, file): Watched) -> Option<Watched> {
        let mut replaced = None;
        if let Some(id) = *self.descriptor(fd).side(side) {
            match self.sinks.get_mut(id) {
                // The armed poll serves the new callback as well as the old one, unless it may be of a file that
                // another thread has closed since.
                Some(Sink::Watch(watch)) if watch.op.is_some() && watch.begun == Moment::now() => {
                    return Some((std::mem::replace(&mut watch.handle, handle), file));
                }
                // Its completion is queued or its callback is running: that belongs to the old handle.
                Some(Sink::Watch(_)) => {
                    if let Some(Sink::Watch(watch)) = self.sinks.remove(id) {
                        if let Some(op) = watch.op {
                            self.proactor.cancel(op);
                        }
                        replaced = Some((watch.handle, watch.file));
                    }
                }
                _ => {}
            }
        }
        let begun = Moment::now();
        let watch = Watch { fd, side, handle, file, op: None, own: None, begun, is_closed: false };
        let id = self.sinks.insert(Sink::Watch(watch));
        let op = self.poll(id, fd, side);
        if let Some(Sink::Watch(watch)) = self.sinks.get_mut(id) {
            watch.op = Some(op);
        }
        *self.descriptor(fd).side(side) = Some(id);
        self.numbers.add(fd);
        replaced
    }

    /// Watches a descriptor of the loop's own for reading.
    pub fn watch_own(&mut self, own: OwnedFd, handle: Py<PyAny>) -> RawFd {
        let fd = own.as_raw_fd();
        // The number is new: whoever was watched under it has been closed behind the loop's back.
        if let Some(stale) = self.descriptor(fd).reader {
            self.end(stale);
        }
        let id = self.sinks.insert(Sink::Watch(Watch {
            fd,
            side: Side::Read,
            handle,
            file: None,
            op: None,
            own: Some(own),
            begun: Moment::now(),
            is_closed: false,
        }));
        self.rearm(id);
        self.descriptor(fd).reader = Some(id);
        fd
    }

    /// The number that a file object was watched under.
    fn number_of(&self, file: &Bound<'_, PyAny>, side: Side) -> Option<RawFd> {
        self.sinks.values().find_map(|sink| match sink {
            Sink::Watch(watch)
                if watch.side == side && watch.file.as_ref().is_some_and(|own| own.is(file)) =>
            {
                Some(watch.fd)
            }
            _ => None,
        })
    }

    /// Ends a watch; returns what it held.
    ///
    /// The caller is likely to close the descriptor next, and with a poll in flight a listener would go on
    /// accepting and a connection send no FIN: where the ring is this thread's own (`settle`), the poll is
    /// over when this returns. The stock loop makes a system call here too.
    pub fn unwatch(&mut self, fd: RawFd, side: Side, settle: bool) -> Option<Watched> {
        self.known(fd)?;
        let id = *self.descriptor(fd).side(side);
        let id = id?;
        if !matches!(self.sinks.get(id), Some(Sink::Watch(_))) {
            return None;
        }
        *self.descriptor(fd).side(side) = None;
        let Some(Sink::Watch(watch)) = self.sinks.remove(id) else { return None };
        match watch.op {
            Some(op) if settle => drop(self.proactor.settle(op)),
            Some(op) => drop(self.proactor.cancel(op)),
            None => {}
        }
        Some((watch.handle, watch.file))
    }

    /// The handle that watches one side of a descriptor.
    pub fn watcher(&self, fd: RawFd, side: Side) -> Option<&Sink> {
        let descriptor = self.known(fd)?;
        let id = match side {
            Side::Read => descriptor.reader,
            Side::Write => descriptor.writer,
        };
        self.sinks.get(id?)
    }

    /// Arms the poll of a watch again, if the watch still stands.
    fn rearm(&mut self, id: SinkId) {
        let Some(Sink::Watch(watch)) = self.sinks.get(id) else { return };
        if watch.op.is_some() || watch.is_closed {
            return;
        }
        let (fd, side) = (watch.fd, watch.side);
        let op = self.poll(id, fd, side);
        if let Some(Sink::Watch(watch)) = self.sinks.get_mut(id) {
            watch.op = Some(op);
        }
    }
}

/// Calls the handle of a watch whose poll has completed.
pub fn run(core: &Bound<'_, LoopCore>, id: SinkId, monitored: bool) -> PyResult<()> {
    let py = core.py();
    let handle = match core.get().engine()?.borrow().sinks.get(id) {
        Some(Sink::Watch(watch)) if watch.op.is_none() => watch.handle.clone_ref(py).into_bound(py),
        _ => return Ok(()),
    };
    let result = handles(py)?.step(core, &handle, monitored);
    // Level-triggered: what the callback left unread makes the next poll complete at once.
    core.get().with_engine(|engine| engine.rearm(id));
    result
}

impl LoopCore {
    /// `add_reader` or `add_writer`.
    pub fn add<'py>(
        slf: &Bound<'py, Self>,
        fd: &Bound<'py, PyAny>,
        side: Side,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.get().check_closed()?;
        let number = fileno(fd)?;
        let handle = Self::make(slf, "add_reader", callback, args, None)?;
        let file = (!fd.is_instance_of::<PyInt>()).then(|| fd.clone().unbind());
        Self::watch(slf, number, side, (handle.clone().unbind(), file))?;
        Ok(handle)
    }

    fn watch(slf: &Bound<'_, Self>, fd: RawFd, side: Side, watched: Watched) -> PyResult<()> {
        let mode = bytes::file_mode(fd).map_err(|error| bytes::failed(&error))? & libc::S_IFMT;
        let is_always_ready = match mode {
            libc::S_IFREG | libc::S_IFDIR => true,
            libc::S_IFCHR | libc::S_IFBLK => bytes::has_no_readiness(fd),
            _ => false,
        };
        if is_always_ready {
            // As epoll_ctl says it: watching such files is a mistake.
            return Err(PyPermissionError::new_err((libc::EPERM, "Operation not permitted")));
        }
        let old = slf.get().engine()?.borrow_mut().watch(fd, side, watched);
        if let Some((old, _file)) = old {
            old.call_method0(slf.py(), intern!(slf.py(), "cancel"))?;
        }
        Ok(())
    }

    /// `remove_reader` or `remove_writer`; True if there was one.
    pub fn unwatch(slf: &Bound<'_, Self>, file: &Bound<'_, PyAny>, side: Side) -> PyResult<bool> {
        let core = slf.get();
        if core.is_closed() {
            return Ok(false);
        }
        let fd = match fileno(file) {
            Ok(fd) => fd,
            // Closed since it was watched: it has no number any more.
            Err(error) => core.engine()?.borrow().number_of(file, side).ok_or(error)?,
        };
        let (handle, paused) = {
            let mut engine = core.engine()?.borrow_mut();
            let handle = engine.unwatch(fd, side, core.ran_here());
            let reader = engine.known(fd).and_then(|descriptor| descriptor.reader);
            let paused = handle.is_none() && side == Side::Read && reader.is_some_and(|id| engine.pause(id));
            (handle, paused)
        };
        match handle {
            Some((handle, _file)) => {
                handle.call_method0(slf.py(), intern!(slf.py(), "cancel"))?;
                Ok(true)
            }
            None => Ok(paused),
        }
    }
}

/// The number of a descriptor or file object, as the `selectors` module takes it.
pub fn fileno(file: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    let py = file.py();
    let number = if let Ok(number) = file.extract::<RawFd>() {
        number
    } else {
        let number = file.call_method0(intern!(py, "fileno")).and_then(|number| number.extract::<RawFd>());
        number.or_else(|_| Err(PyValueError::new_err(format!("Invalid file object: {}", file.repr()?))))?
    };
    if number < 0 {
        return Err(PyValueError::new_err(format!("Invalid file descriptor: {number}")));
    }
    Ok(number)
}
