//! Whom a load drives, in the kinds of sockets that an echo server has.

use std::fmt;
use std::net::{SocketAddr, SocketAddrV4};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr as UnixAddr;

/// The echo server: its address, and the kind of its socket.
#[derive(Debug, Clone)]
pub enum Target {
    /// TCP over IPv4 or IPv6.
    Tcp(SocketAddr),
    /// UDP over IPv4 or IPv6: every message is a datagram.
    Udp(SocketAddr),
    /// A Unix stream socket, by path or abstract name (unix(7)).
    Unix(UnixAddr),
}

impl Target {
    /// Whether this is an address of this machine alone, which has many: 127.0.0.0/8.
    pub(crate) fn is_ipv4_loopback(&self) -> bool {
        match self {
            Target::Tcp(addr) | Target::Udp(addr) => addr.is_ipv4() && addr.ip().is_loopback(),
            Target::Unix(_) => false,
        }
    }
}

impl From<SocketAddr> for Target {
    fn from(addr: SocketAddr) -> Self {
        Target::Tcp(addr)
    }
}

impl From<SocketAddrV4> for Target {
    fn from(addr: SocketAddrV4) -> Self {
        Target::Tcp(addr.into())
    }
}

impl From<UnixAddr> for Target {
    fn from(addr: UnixAddr) -> Self {
        Target::Unix(addr)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tcp(addr) | Target::Udp(addr) => addr.fmt(f),
            Target::Unix(addr) => match (addr.as_pathname(), addr.as_abstract_name()) {
                (Some(path), _) => write!(f, "unix:{}", path.display()),
                (None, Some(name)) => write!(f, "unix:@{}", name.escape_ascii()),
                (None, None) => f.write_str("unix:"),
            },
        }
    }
}
