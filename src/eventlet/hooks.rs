//! What subclasses of eventlet's classes may define: a `switch_out` hook, or a `switch` method of their own.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::greenlet;

static PLAIN: PyOnceLock<[Py<PyAny>; 2]> = PyOnceLock::new();
static GREEN_SOCKET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
/// The classes of Python's own sockets.
static SOCKETS: PyOnceLock<Vec<Py<PyAny>>> = PyOnceLock::new();

/// Names the two classes that have neither, and the socket class, so that usual calls do not look for what
/// subclasses may define.
pub fn set_classes(py: Python<'_>, plain: [Py<PyAny>; 2], green_socket: Py<PyAny>, sockets: Vec<Py<PyAny>>) {
    // A second hub of the same process sets the same ones.
    let _ = PLAIN.set(py, plain);
    let _ = GREEN_SOCKET.set(py, green_socket);
    let _ = SOCKETS.set(py, sockets);
}

/// Whether the socket is of eventlet's own class, and not of a subclass.
pub fn is_green_socket(socket: &Bound<'_, PyAny>) -> bool {
    GREEN_SOCKET.get(socket.py()).is_some_and(|class| socket.get_type().is(class))
}

/// Whether a green socket's `send` is not the one that `sendall` stands for.
pub fn overrides_send(socket: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = socket.py();
    if is_green_socket(socket) {
        return Ok(false);
    }
    let Some(class) = GREEN_SOCKET.get(py) else { return Ok(true) };
    let send = intern!(py, "send");
    Ok(!socket.get_type().getattr(send)?.is(&class.bind(py).getattr(send)?))
}

/// Whether what a green socket wraps is one of Python's own, and sends and receives by no methods of its own.
pub fn is_plain_socket(socket: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = socket.py();
    let class = socket.get_type();
    let Some(sockets) = SOCKETS.get(py) else { return Ok(false) };
    if sockets.iter().any(|socket| class.is(socket)) {
        return Ok(true);
    }
    let Some(base) = sockets.first().map(|base| base.bind(py)) else { return Ok(false) };
    for name in [intern!(py, "recv"), intern!(py, "recv_into"), intern!(py, "send"), intern!(py, "sendall")] {
        let own = class.getattr_opt(name)?;
        if !own.is_some_and(|own| base.getattr(name).is_ok_and(|known| own.is(&known))) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the greenlet is of a class that is known to have neither.
pub fn is_plain(greenlet: &Bound<'_, PyAny>) -> bool {
    let class = greenlet.get_type();
    PLAIN.get(greenlet.py()).is_some_and(|plain| plain.iter().any(|plain| class.is(plain)))
}

/// The greenlet's `switch_out` hook, which eventlet's hub calls when it leaves.
pub fn find<'py>(greenlet: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    if is_plain(greenlet) {
        return Ok(None);
    }
    let hook = greenlet.getattr_opt(intern!(greenlet.py(), "switch_out"))?;
    Ok(hook.filter(|hook| !hook.is_none()))
}

/// Switches to a suspended greenlet, through its own `switch` method if its class may define one.
pub fn resume<'py>(target: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if is_plain(target) {
        greenlet::switch(target, None, None).map_err(|raised| raised.fetch(target.py()))
    } else {
        target.call_method0(intern!(target.py(), "switch"))
    }
}

/// As `resume`, passing arguments.
pub fn switch_with<'py>(
    target: &Bound<'py, PyAny>,
    args: &Bound<'py, pyo3::types::PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    if is_plain(target) {
        greenlet::switch(target, Some(args), None).map_err(|raised| raised.fetch(target.py()))
    } else {
        target.call_method1(intern!(target.py(), "switch"), args)
    }
}
