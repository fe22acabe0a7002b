//! One non-blocking byte stream, plain or TLS.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// A connected stream; reads and writes follow the rules of a non-blocking socket.
pub enum Link {
    /// TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Link {
    /// Connects (blocking), finishes the handshake, then switches to non-blocking mode.
    pub fn connect(address: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> io::Result<Link> {
        let mut socket = TcpStream::connect(address)
            .map_err(|e| io::Error::new(e.kind(), format!("connect {address}: {e}")))?;
        socket.set_nodelay(true)?;
        let link = match tls {
            None => Link::Plain(socket),
            Some(config) => {
                let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
                let mut session =
                    ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
                while session.is_handshaking() {
                    session.complete_io(&mut socket)?;
                }
                Link::Tls(Box::new(StreamOwned::new(session, socket)))
            }
        };
        link.socket().set_nonblocking(true)?;
        Ok(link)
    }

    /// The TCP socket below.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Link::Plain(socket) => socket,
            Link::Tls(stream) => &stream.sock,
        }
    }

    /// Whether bytes accepted by `write` still wait for the socket (TLS records only).
    pub fn has_unsent(&self) -> bool {
        match self {
            Link::Plain(_) => false,
            Link::Tls(stream) => stream.conn.wants_write(),
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
        }
    }

    /// Writes what fits.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Link::Plain(socket) => socket.write(bytes),
            Link::Tls(stream) => stream.write(bytes),
        }
    }

    /// Hands buffered TLS records to the socket.
    pub fn flush(&mut self) -> io::Result<()> {
        match self {
            Link::Plain(_) => Ok(()),
            Link::Tls(stream) => stream.flush(),
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket().as_fd()
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
