//! `uringhub._native.Datagrams`: the native half of a datagram transport on an internet socket.
//!
//! One wait for readiness serves all the datagrams that have come: each is received by a direct call into a
//! buffer that takes the longest there can be, so that none is cut.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyInt, PyString, PyTuple, PyType};

use super::bytes;
use super::core::LoopCore;
use super::slots::Slot;
use crate::fastcall::{self, Arguments, Function};
use crate::proactor::SocketAddress;

/// So many datagrams at most for one wait, so that a flood leaves the other descriptors their turn.
const BATCH: usize = 32;
/// Peers whose address objects are kept: making one costs more than receiving the datagram.
const PEERS: usize = 256;

/// The address objects of the latest peers; a peer has one place.
#[derive(Default)]
struct Peers(Vec<Option<(SocketAddr, Py<PyAny>)>>);

impl Peers {
    fn place(address: &SocketAddr) -> usize {
        let host = match address.ip() {
            std::net::IpAddr::V4(ip) => u32::from(ip),
            std::net::IpAddr::V6(ip) => (u128::from(ip) as u32) ^ ((u128::from(ip) >> 96) as u32),
        };
        (host ^ (host >> 8) ^ u32::from(address.port())) as usize % PEERS
    }

    fn find(&self, py: Python<'_>, address: &SocketAddr) -> Option<Py<PyAny>> {
        let (known, object) = self.0.get(Self::place(address))?.as_ref()?;
        (known == address).then(|| object.clone_ref(py))
    }

    fn keep(&mut self, address: SocketAddr, object: Py<PyAny>) -> Option<(SocketAddr, Py<PyAny>)> {
        if self.0.is_empty() {
            self.0.resize_with(PEERS, || None);
        }
        self.0[Self::place(&address)].replace((address, object))
    }
}

/// The native half of a datagram transport.
#[pyclass(frozen, module = "uringhub._native")]
pub struct Datagrams {
    core: Py<LoopCore>,
    fd: RawFd,
    /// The socket's own: only an address of this one needs no judgement of the `socket` module.
    family: i32,
    /// The socket has a peer.
    connected: bool,
    /// Nothing speaks against sending at once: no backlog, not closing.
    direct: AtomicBool,
    /// The transport is not what it was when the batch began: paused, closing, with another protocol.
    interrupted: AtomicBool,
    /// Room for the kernel to write the source of a datagram into.
    source: Mutex<SocketAddress>,
    peers: Mutex<Peers>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[pymethods]
impl Datagrams {
    #[new]
    fn new(core: Py<LoopCore>, fd: RawFd, family: i32, connected: bool) -> Self {
        Self {
            core,
            fd,
            family,
            connected,
            direct: AtomicBool::new(false),
            interrupted: AtomicBool::new(false),
            source: Mutex::new(SocketAddress::empty()),
            peers: Mutex::default(),
        }
    }

    /// Whether `sendto` may try to send at once.
    #[getter]
    fn direct(&self) -> bool {
        self.direct.load(Ordering::Relaxed)
    }

    #[setter]
    fn set_direct(&self, direct: bool) {
        self.direct.store(direct, Ordering::Relaxed);
    }

    /// Ends the batch under way: the transport asks again if it still wants datagrams.
    fn interrupt(&self) {
        self.interrupted.store(true, Ordering::Relaxed);
    }

    /// Hands the datagrams that have come to the protocol of `transport`.
    fn receive(&self, py: Python<'_>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        let protocol = transport.getattr(intern!(py, "_protocol"))?;
        let received = protocol.getattr(intern!(py, "datagram_received"))?;
        self.interrupted.store(false, Ordering::Relaxed);
        for _ in 0..BATCH {
            match self.take(py)? {
                Ok((data, source)) => received.call1((data, source))?,
                Err(error) if bytes::not_now(&error) => break,
                Err(error) => {
                    let error = bytes::failed(&error).into_value(py);
                    protocol.call_method1(intern!(py, "error_received"), (error,))?
                }
            };
            if self.interrupted.load(Ordering::Relaxed) {
                break;
            }
        }
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.core)
    }
}

impl Datagrams {
    /// The next datagram and its source.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<std::io::Result<(Bound<'py, PyBytes>, Py<PyAny>)>> {
        let received = self.core.get().with_scratch(|room| {
            let count = bytes::recv_from_now(self.fd, room, &mut lock(&self.source))?;
            Ok(PyBytes::new(py, &room[..count]))
        });
        match received {
            Ok(data) => Ok(Ok((data, self.source_object(py)?))),
            Err(error) => Ok(Err(error)),
        }
    }

    /// The source of the last datagram, as the `socket` module shows it.
    fn source_object(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let address = lock(&self.source).to_socket_addr();
        let Some(address) = address else { return Ok(py.None()) };
        if let Some(object) = lock(&self.peers).find(py, &address) {
            return Ok(object);
        }
        let object = match address {
            SocketAddr::V4(v4) => (v4.ip().to_string(), v4.port()).into_pyobject(py)?.into_any().unbind(),
            SocketAddr::V6(v6) => {
                // Rust and libc do not write every address alike.
                let octets = PyBytes::new(py, &v6.ip().octets());
                let host = py.import("socket")?.call_method1("inet_ntop", (libc::AF_INET6, octets))?;
                let named = (host, v6.port(), v6.flowinfo(), v6.scope_id());
                named.into_pyobject(py)?.into_any().unbind()
            }
        };
        let old = lock(&self.peers).keep(address, object.clone_ref(py));
        drop(old);
        Ok(object)
    }

    /// Sends at once if that is simple; None if the Python method has to decide.
    fn send_now(&self, args: Arguments<'_, '_>) -> Option<std::io::Result<()>> {
        if !self.direct() {
            return None;
        }
        let data = args.get(0)?;
        let data = data.cast_exact::<PyBytes>().ok()?;
        let data = data.as_bytes();
        if data.is_empty() {
            return None;
        }
        let to = args.get(1).filter(|to| !to.is_none());
        let sent = match (self.connected, to) {
            (true, None) => bytes::send_now(self.fd, data),
            (false, Some(to)) => {
                let to = SocketAddress::from(numeric(&to)?);
                if to.family() != self.family {
                    return None;
                }
                bytes::send_to_now(self.fd, data, &to)
            }
            _ => return None,
        };
        match sent {
            // A datagram is sent whole.
            Ok(_) => Some(Ok(())),
            Err(error) if bytes::not_now(&error) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

/// An address that needs no look-up and no judgement of the `socket` module.
fn numeric(address: &Bound<'_, PyAny>) -> Option<SocketAddr> {
    let address = address.cast_exact::<PyTuple>().ok()?;
    let host = address.get_item(0).ok()?;
    let host = host.cast_exact::<PyString>().ok()?.to_str().ok()?;
    let number = |index| address.get_item(index).ok()?.cast_exact::<PyInt>().ok()?.extract::<u32>().ok();
    let port = u16::try_from(number(1)?).ok()?;
    match address.len() {
        2 if !host.contains(':') => {
            Some(SocketAddr::V4(SocketAddrV4::new(host.parse::<Ipv4Addr>().ok()?, port)))
        }
        4 => {
            let (flow, scope) = (number(2)?, number(3)?);
            // The socket module refuses what does not fit the header.
            let host = (flow <= 0xf_ffff).then(|| host.parse::<Ipv6Addr>().ok())??;
            Some(SocketAddr::V6(SocketAddrV6::new(host, port, flow, scope)))
        }
        _ => None,
    }
}

static DATAGRAMS_SLOT: PyOnceLock<Slot> = PyOnceLock::new();

/// Gives a transport class its native `sendto`; the class has a slot `_datagrams`.
#[pyfunction]
pub fn set_datagram_class(cls: &Bound<'_, PyType>) -> PyResult<()> {
    let _ = DATAGRAMS_SLOT.set(cls.py(), Slot::find(cls, "_datagrams")?);
    fastcall::bind::<SendTo>(cls)
}

struct SendTo;

impl Function for SendTo {
    const NAME: &'static CStr = c"sendto";
    const DOC: &'static CStr = c"sendto($self, data, addr=None)\n--\n\n\
        Send a datagram; without an address, to the socket's peer.";
    type Error = PyErr;

    fn call<'py>(
        transport: &Bound<'py, PyAny>,
        arguments: Arguments<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        send(transport, arguments)
    }
}

fn send<'py>(transport: &Bound<'py, PyAny>, args: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    let py = transport.py();
    let Some(slot) = DATAGRAMS_SLOT.get(py) else { return Err(PyTypeError::new_err("no slot _datagrams")) };
    // SAFETY: the method is bound to instances of the class with the slot only.
    let datagrams = unsafe { slot.get(transport) };
    if let Some(datagrams) = &datagrams
        && let Ok(datagrams) = datagrams.cast::<Datagrams>()
        && args.is_plain()
        && let Some(sent) = datagrams.get().send_now(args)
    {
        if let Err(error) = sent {
            let error = bytes::failed(&error).into_value(py);
            let protocol = transport.getattr(intern!(py, "_protocol"))?;
            protocol.call_method1(intern!(py, "error_received"), (error,))?;
        }
        return Ok(py.None().into_bound(py));
    }
    args.pass_to(&transport.getattr(intern!(py, "_sendto_slowly"))?)
}
