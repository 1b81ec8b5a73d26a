//! Datagrams and binary addresses as C sees them.
//!
//! The rule: what arrived is lent, not copied: the bytes stay where the core has read them to until
//! the next event, and so does the array that tells of them.

use std::ffi::c_int;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use echoloop_core::{EventLoop, UdpId};

use crate::registry::LoopCell;

/// An IP address and a port, plain data: it may be kept, copied and compared by memcmp(3).
/// echoloop_ip_parse() makes one of text, echoloop_ip_text() the reverse.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct echoloop_ip {
    /// The address in network order: 16 bytes, or 4 and 12 zeros.
    pub bytes: [u8; 16],
    /// The interface of a link-local IPv6 address, ipv6(7); else 0.
    pub scope: u32,
    /// The port, in the order of this machine.
    pub port: u16,
    /// 4 or 6; 0: no address.
    pub version: u8,
    /// Always 0.
    pub reserved: u8,
}

/// A datagram that arrived.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct echoloop_datagram {
    /// What it says, readable as long as the array of datagrams is.
    pub data: *const u8,
    /// Bytes of data, perhaps 0.
    pub len: usize,
    /// Who sent it.
    pub from: echoloop_ip,
    /// The address of this machine, or the group, that it was sent to, without a port. Told only by
    /// a socket that is bound to all addresses, where the system can; else its version is 0.
    pub to: echoloop_ip,
    /// Not 0: it was longer than max_datagram; this is its beginning.
    pub truncated: c_int,
    /// Always 0.
    pub reserved: c_int,
}

impl echoloop_ip {
    pub(crate) fn of(addr: SocketAddr) -> Self {
        let scope = match addr {
            SocketAddr::V4(_) => 0,
            SocketAddr::V6(v6) => v6.scope_id(),
        };
        Self {
            scope,
            port: addr.port(),
            ..Self::of_host(addr.ip())
        }
    }

    pub(crate) fn of_host(host: IpAddr) -> Self {
        let mut ip = Self::default();
        match host {
            IpAddr::V4(v4) => {
                ip.version = 4;
                ip.bytes[..4].copy_from_slice(&v4.octets());
            }
            IpAddr::V6(v6) => {
                ip.version = 6;
                ip.bytes = v6.octets();
            }
        }
        ip
    }

    /// The address, unless its version is none.
    #[allow(dead_code, reason = "sending datagrams is to come")]
    pub(crate) fn addr(&self) -> Option<SocketAddr> {
        let [a, b, c, d, ..] = self.bytes;
        match self.version {
            4 => Some((Ipv4Addr::new(a, b, c, d), self.port).into()),
            6 => {
                let host = Ipv6Addr::from(self.bytes);
                Some(SocketAddrV6::new(host, self.port, 0, self.scope).into())
            }
            _ => None,
        }
    }
}

/// The datagrams of the event that is being handled, in the cell's array; how many.
pub(crate) fn lend_datagrams(cell: &LoopCell, el: &mut EventLoop, udp: UdpId) -> usize {
    let mut lent = cell.datagrams.borrow_mut();
    lent.clear();
    if let Ok(view) = el.udp(udp) {
        for datagram in view.datagrams() {
            if lent.len() == lent.capacity() && lent.try_reserve(64).is_err() {
                break; // As if the system had dropped them.
            }
            lent.push(echoloop_datagram {
                data: datagram.bytes.as_ptr(),
                len: datagram.bytes.len(),
                from: echoloop_ip::of(datagram.from),
                to: datagram
                    .to
                    .map_or(echoloop_ip::default(), echoloop_ip::of_host),
                truncated: c_int::from(datagram.truncated),
                reserved: 0,
            });
        }
    }
    lent.len()
}
