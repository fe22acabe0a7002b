//! Where the server is.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// The address of a server and the kind of socket that it has there.
#[derive(Clone, Debug)]
pub enum Target {
    /// TCP.
    Tcp(SocketAddr),
    /// One message is one datagram.
    Udp(SocketAddr),
    /// A Unix stream socket: a path, or `@` and a name of the abstract namespace.
    Unix(String),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = |address: &str| address.parse().map_err(|e| format!("{address}: {e}"));
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Target::Unix(path.to_owned()));
        }
        match text.strip_prefix("udp:") {
            Some(address) => parsed(address).map(Target::Udp),
            None => parsed(text).map(Target::Tcp),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tcp(address) => address.fmt(f),
            Target::Udp(address) => write!(f, "udp:{address}"),
            Target::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}
