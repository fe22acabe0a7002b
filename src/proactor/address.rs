//! Socket addresses on the heap, as the kernel reads and writes them.

use std::fmt;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// One `sockaddr` of any family. The bytes are boxed, so their address is stable when this value moves.
#[derive(Clone)]
pub struct SocketAddress(Box<Raw>);

#[derive(Clone)]
pub(crate) struct Raw {
    storage: libc::sockaddr_storage,
    len: libc::socklen_t,
}

const CAPACITY: usize = mem::size_of::<libc::sockaddr_storage>();

impl SocketAddress {
    /// Room for the kernel to write into; its length says "all of it".
    pub(crate) fn empty() -> Self {
        // SAFETY: sockaddr_storage is plain data for which all-zero is a valid value (AF_UNSPEC).
        let storage = unsafe { mem::zeroed() };
        SocketAddress(Box::new(Raw { storage, len: CAPACITY as libc::socklen_t }))
    }

    /// From the bytes of a `sockaddr`, family first. `None` if longer than any address (128 bytes).
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > CAPACITY {
            return None;
        }
        let mut address = SocketAddress::empty();
        // SAFETY: the source is `bytes.len()` readable bytes, the target our own storage of at least that
        // size; they cannot overlap as the target was just allocated.
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                (&raw mut address.0.storage).cast::<u8>(),
                bytes.len(),
            );
        }
        address.0.len = bytes.len() as libc::socklen_t;
        Some(address)
    }

    /// A Unix socket address: a path, an abstract name (leading NUL), or empty for unnamed.
    /// `None` if longer than the kernel takes (108 bytes with the closing NUL of a path).
    pub fn unix(path: &[u8]) -> Option<Self> {
        let is_path = !path.is_empty() && path[0] != 0;
        if path.len() + usize::from(is_path) > 108 {
            return None;
        }
        let mut bytes = (libc::AF_UNIX as libc::sa_family_t).to_ne_bytes().to_vec();
        bytes.extend_from_slice(path);
        if is_path {
            bytes.push(0);
        }
        SocketAddress::from_bytes(&bytes)
    }

    /// The raw bytes, family first.
    pub fn as_bytes(&self) -> &[u8] {
        let len = (self.0.len as usize).min(CAPACITY);
        // SAFETY: the storage is initialised plain data of CAPACITY bytes, owned by `self`.
        unsafe { std::slice::from_raw_parts((&raw const self.0.storage).cast::<u8>(), len) }
    }

    /// `AF_INET`, `AF_INET6`, `AF_UNIX`, ...
    pub fn family(&self) -> i32 {
        if self.0.len == 0 { libc::AF_UNSPEC } else { i32::from(self.0.storage.ss_family) }
    }

    /// The path or abstract name of a Unix address, without the closing NUL.
    pub fn unix_path(&self) -> Option<&[u8]> {
        if self.family() != libc::AF_UNIX {
            return None;
        }
        let path = self.as_bytes().get(2..).unwrap_or(&[]);
        match path.first() {
            None | Some(0) => Some(path),
            Some(_) => Some(path.split(|&byte| byte == 0).next().unwrap_or(path)),
        }
    }

    /// As an internet address, if it is one.
    pub fn to_socket_addr(&self) -> Option<SocketAddr> {
        let bytes = self.as_bytes();
        let port = || u16::from_be_bytes([bytes[2], bytes[3]]);
        match self.family() {
            libc::AF_INET if bytes.len() >= 8 => {
                let ip = Ipv4Addr::new(bytes[4], bytes[5], bytes[6], bytes[7]);
                Some(SocketAddr::V4(SocketAddrV4::new(ip, port())))
            }
            libc::AF_INET6 if bytes.len() >= 28 => {
                let ip: [u8; 16] = bytes[8..24].try_into().ok()?;
                let flow = u32::from_be_bytes(bytes[4..8].try_into().ok()?);
                let scope = u32::from_ne_bytes(bytes[24..28].try_into().ok()?);
                Some(SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(ip), port(), flow, scope)))
            }
            _ => None,
        }
    }

    /// Where the kernel reads or writes the address, and its length.
    pub(crate) fn as_ptr(&mut self) -> (*mut libc::sockaddr, *mut libc::socklen_t) {
        ((&raw mut self.0.storage).cast(), &raw mut self.0.len)
    }

    pub(crate) fn len(&self) -> libc::socklen_t {
        self.0.len
    }

    pub(crate) fn set_len(&mut self, len: libc::socklen_t) {
        self.0.len = len.min(CAPACITY as libc::socklen_t);
    }

    /// Makes room again before the kernel writes.
    pub(crate) fn reset_len(&mut self) {
        self.0.len = CAPACITY as libc::socklen_t;
    }
}

impl From<SocketAddr> for SocketAddress {
    fn from(addr: SocketAddr) -> Self {
        let mut bytes = [0u8; 28];
        let len = match addr {
            SocketAddr::V4(v4) => {
                bytes[..2].copy_from_slice(&(libc::AF_INET as libc::sa_family_t).to_ne_bytes());
                bytes[2..4].copy_from_slice(&v4.port().to_be_bytes());
                bytes[4..8].copy_from_slice(&v4.ip().octets());
                16
            }
            SocketAddr::V6(v6) => {
                bytes[..2].copy_from_slice(&(libc::AF_INET6 as libc::sa_family_t).to_ne_bytes());
                bytes[2..4].copy_from_slice(&v6.port().to_be_bytes());
                bytes[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
                bytes[8..24].copy_from_slice(&v6.ip().octets());
                bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                28
            }
        };
        SocketAddress::from_bytes(&bytes[..len]).expect("an internet address fits sockaddr_storage")
    }
}

impl PartialEq for SocketAddress {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for SocketAddress {}

impl fmt::Debug for SocketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.to_socket_addr(), self.unix_path()) {
            (Some(addr), _) => write!(f, "{addr}"),
            (_, Some(path)) => write!(f, "unix:{}", path.escape_ascii()),
            _ => write!(f, "family {}: {:02x?}", self.family(), self.as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internet_addresses_survive_the_round_trip() {
        for text in ["127.0.0.1:80", "[::1]:65535", "[fe80::1%3]:9"] {
            let addr: SocketAddr = text.parse().expect("valid address");
            assert_eq!(SocketAddress::from(addr).to_socket_addr(), Some(addr));
        }
    }

    #[test]
    fn unix_paths_abstract_names_and_unnamed_are_told_apart() {
        let path = |bytes: &[u8]| SocketAddress::unix(bytes).and_then(|a| a.unix_path().map(<[u8]>::to_vec));
        assert_eq!(path(b"/tmp/s"), Some(b"/tmp/s".to_vec()));
        assert_eq!(path(b"\0abs\0tract"), Some(b"\0abs\0tract".to_vec()));
        assert_eq!(path(b""), Some(Vec::new()));
        assert_eq!(path(&[b'x'; 108]), None);
    }
}
