//! One non-blocking connection: TCP, TLS, Unix or UDP.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixStream};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::target::Target;

/// What is connected; reads and writes follow the rules of a non-blocking socket.
pub enum Link {
    /// TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// A Unix stream.
    Unix(UnixStream),
    /// Datagrams: a read is a message.
    Udp(UdpSocket),
}

impl Link {
    /// Connects (blocking), finishes the handshake, then switches to non-blocking mode.
    pub fn connect(target: &Target, tls: Option<&Arc<ClientConfig>>) -> io::Result<Link> {
        let link = match target {
            Target::Tcp(address) => Link::tcp(*address, tls),
            Target::Udp(address) => Link::udp(*address),
            Target::Unix(path) => {
                unix_address(path).and_then(|a| UnixStream::connect_addr(&a)).map(Link::Unix)
            }
        };
        let link = link.map_err(|e| io::Error::new(e.kind(), format!("connect {target}: {e}")))?;
        link.set_nonblocking(true)?;
        Ok(link)
    }

    fn tcp(address: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> io::Result<Link> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        let Some(config) = tls else { return Ok(Link::Plain(socket)) };
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let mut session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        Ok(Link::Tls(Box::new(StreamOwned::new(session, socket))))
    }

    fn udp(address: SocketAddr) -> io::Result<Link> {
        let local: SocketAddr = if address.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
        let socket = UdpSocket::bind(local)?;
        socket.connect(address)?;
        Ok(Link::Udp(socket))
    }

    /// Blocking or not.
    pub fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        match self {
            Link::Plain(socket) => socket.set_nonblocking(on),
            Link::Tls(stream) => stream.sock.set_nonblocking(on),
            Link::Unix(socket) => socket.set_nonblocking(on),
            Link::Udp(socket) => socket.set_nonblocking(on),
        }
    }

    /// Whether bytes accepted by `write` still wait for the socket (TLS records only).
    pub fn has_unsent(&self) -> bool {
        match self {
            Link::Tls(stream) => stream.conn.wants_write(),
            _ => false,
        }
    }

    /// Whether a read may find bytes that the socket's readiness does not show.
    pub fn buffers_reads(&self) -> bool {
        matches!(self, Link::Tls(_))
    }

    /// Reads what is there.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Link::Plain(socket) => socket.read(buffer),
            Link::Tls(stream) => stream.read(buffer),
            Link::Unix(socket) => socket.read(buffer),
            Link::Udp(socket) => socket.recv(buffer),
        }
    }

    /// Writes what fits.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Link::Plain(socket) => socket.write(bytes),
            Link::Tls(stream) => stream.write(bytes),
            Link::Unix(socket) => socket.write(bytes),
            Link::Udp(socket) => socket.send(bytes),
        }
    }

    /// Hands buffered TLS records to the socket.
    pub fn flush(&mut self) -> io::Result<()> {
        match self {
            Link::Tls(stream) => stream.flush(),
            _ => Ok(()),
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Link::Plain(socket) => socket.as_fd(),
            Link::Tls(stream) => stream.sock.as_fd(),
            Link::Unix(socket) => socket.as_fd(),
            Link::Udp(socket) => socket.as_fd(),
        }
    }
}

fn unix_address(path: &str) -> io::Result<UnixAddr> {
    match path.strip_prefix('@') {
        Some(name) => UnixAddr::from_abstract_name(name),
        None => UnixAddr::from_pathname(path),
    }
}

/// Client configuration that trusts exactly the given certificate.
pub fn tls_config(certificate: &Path) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(certificate)
        .map_err(|e| io::Error::other(format!("read {}: {e}", certificate.display())))?;
    roots.add(certificate).map_err(io::Error::other)?;
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok(Arc::new(config))
}
