//! What the loop and the system say to each other about datagrams: the contract, and plain data.
//!
//! 1. **A UDP socket is a socket**: `register`, `take_error`, `local_addr` and `close` apply, and so
//!    does what `sys` says of readiness.
//! 2. **`udp_recv` receives at least one message, or answers an error**; it appends what it has
//!    received to the list. Fewer than asked for means drained. An error (of a peer, of an earlier
//!    send) is answered once, and no datagram is lost by it.
//! 3. **`udp_send` sends the first messages of the list, in order, and answers how many**: at least
//!    one, or an error about the first or of an earlier send. Offered one message, it loses no error
//!    of an earlier send. An error about a message with segments may say that there are none.
//! 4. **`udp_change` takes effect for what is received later**; what has arrived before a `Connect`
//!    may still be from others.

use std::net::{IpAddr, SocketAddr};

use crate::Interface;

/// What a UDP socket can do, as found when it was bound.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct UdpFeatures {
    /// Runs of datagrams of one sender may come in one piece (UDP_GRO).
    pub gro: bool,
    /// One message may be cut into segments by the kernel (UDP_SEGMENT).
    pub gso: bool,
    /// It tells to which of this machine's addresses a datagram was sent (IP_PKTINFO).
    pub destination: bool,
}

/// How to receive: the buffer is cut into places, one for each message.
#[derive(Clone, Copy, Debug)]
pub struct UdpPlaces {
    /// Messages to receive at most; the buffer has so many places.
    pub most: usize,
    /// From the start of one place to that of the next, in bytes.
    pub stride: usize,
    /// Bytes of each place.
    pub len: usize,
    /// Whether the socket is an IPv6 one.
    pub ipv6: bool,
    /// What the socket can do.
    pub features: UdpFeatures,
}

/// One message received: a datagram, or a run of datagrams of one sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UdpReceived {
    /// Who sent it.
    pub from: SocketAddr,
    /// To which address of this machine, where that is told.
    pub to: Option<IpAddr>,
    /// Where in the buffer it starts.
    pub start: usize,
    /// Its bytes.
    pub len: usize,
    /// The length of each datagram in it save the last, which may be shorter.
    pub segment: usize,
    /// It was longer than its place.
    pub truncated: bool,
}

/// One message to send: a datagram, or a run of datagrams to one address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UdpSend {
    /// To whom; nobody on a connected socket.
    pub to: Option<SocketAddr>,
    /// From which address of this machine; `None` leaves it to the system.
    pub from: Option<IpAddr>,
    /// Its bytes.
    pub len: usize,
    /// The length of each datagram in it save the last, which may be shorter; 0 for one datagram.
    pub segment: usize,
    /// How many datagrams it is.
    pub datagrams: usize,
}

/// A change to a UDP socket that is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UdpChange {
    /// Send to this peer and receive from nobody else.
    Connect(SocketAddr),
    /// The opposite; the local address stays.
    Disconnect,
    /// Join a multicast group.
    Join(Membership),
    /// Leave it.
    Leave(Membership),
}

/// What is joined, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Membership {
    /// The group.
    pub group: IpAddr,
    /// Only what this sender sends to it, RFC 4607.
    pub source: Option<IpAddr>,
    /// Through which interface.
    pub interface: Interface,
}
