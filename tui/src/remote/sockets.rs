//! Who is at the other end of a socket, from `/proc/PID/net`.

use super::procfs::Proc;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Socket inode to a readable description (`tcp 127.0.0.1:80 → 127.0.0.1:5432`, `unix /run/x.sock`).
#[derive(Debug, Default, Clone)]
pub struct Peers {
    by_inode: HashMap<u64, String>,
}

impl Peers {
    /// Reads the socket tables of the process's network namespace.
    pub fn read(process: &Proc) -> Self {
        let mut peers = Self::default();
        for (file, protocol) in [("tcp", "tcp"), ("tcp6", "tcp"), ("udp", "udp"), ("udp6", "udp")] {
            let text = process.text(&format!("net/{file}")).unwrap_or_default();
            peers.by_inode.extend(text.lines().skip(1).filter_map(|line| inet_line(line, protocol)));
        }
        let text = process.text("net/unix").unwrap_or_default();
        peers.by_inode.extend(text.lines().skip(1).filter_map(unix_line));
        peers
    }

    /// The description of a socket.
    pub fn of_inode(&self, inode: u64) -> Option<&str> {
        self.by_inode.get(&inode).map(String::as_str)
    }

    /// Adds a later reading; sockets that are gone stay known, until there are too many of them.
    pub fn merge(&mut self, later: Self) {
        const LIMIT: usize = 1 << 17;
        if self.by_inode.len() > LIMIT {
            self.by_inode.clear();
        }
        self.by_inode.extend(later.by_inode);
    }

    /// Number of sockets known.
    pub fn len(&self) -> usize {
        self.by_inode.len()
    }

    /// No socket is known.
    pub fn is_empty(&self) -> bool {
        self.by_inode.is_empty()
    }
}

/// The inode in a link of the form `socket:[1234]`.
pub fn socket_inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Describes the link of a descriptor: a socket by its peer, anything else by its path.
pub fn describe_link(link: &str, peers: &Peers) -> String {
    socket_inode(link).and_then(|inode| peers.of_inode(inode)).unwrap_or(link).to_owned()
}

fn inet_line(line: &str, protocol: &str) -> Option<(u64, String)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (local, remote) = (inet_address(fields.get(1)?)?, inet_address(fields.get(2)?)?);
    let inode = fields.get(9)?.parse().ok()?;
    let text = if remote.port() == 0 {
        let role = if fields.get(3) == Some(&"0A") { "listening on" } else { "bound to" };
        format!("{protocol} {role} {local}")
    } else {
        format!("{protocol} {local} → {remote}")
    };
    Some((inode, text))
}

fn inet_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // The kernel prints each 32-bit word of the address in host order.
    let word = |index: usize| {
        u32::from_str_radix(address.get(index * 8..index * 8 + 8)?, 16).ok().map(u32::to_le_bytes)
    };
    let address = if address.len() == 8 {
        IpAddr::V4(Ipv4Addr::from(word(0)?))
    } else {
        let mut bytes = [0; 16];
        for index in 0..4 {
            bytes[index * 4..index * 4 + 4].copy_from_slice(&word(index)?);
        }
        let v6 = Ipv6Addr::from(bytes);
        v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
    };
    Some(SocketAddr::new(address, port))
}

fn unix_line(line: &str) -> Option<(u64, String)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let inode = fields.get(6)?.parse().ok()?;
    let name = fields.get(7).map_or("unix (unnamed pair)".to_owned(), |path| format!("unix {path}"));
    Some((inode, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connected_tcp_line_names_both_ends() {
        let line = "0: 0100007F:1538 0100007F:C350 01 00000000:00000000 00:00000000 00000000 0 0 4242 1 0 20 4 30 10 -1";
        assert_eq!(inet_line(line, "tcp"), Some((4242, "tcp 127.0.0.1:5432 → 127.0.0.1:50000".to_owned())));
    }

    #[test]
    fn a_mapped_address_is_shown_as_ipv4() {
        let address = inet_address("0000000000000000FFFF00000100007F:0050");
        assert_eq!(address, Some("127.0.0.1:80".parse().expect("an address")));
    }
}
