//! Options of UDP sockets, with the defaults that bound memory.
//!
//! The rule: `Default` is what a program that never heard of the option should have. Sizes are in
//! bytes. Options that are `None` are left as the system has them.

use std::net::SocketAddr;

use crate::Interface;

/// The largest UDP datagram there is, udp(7): 65,535 bytes less the header, and over IPv4 less the
/// 20 of the IP header too.
pub(crate) const LARGEST: usize = 65_535;

/// Options of [`EventLoop::bind_udp`](crate::EventLoop::bind_udp).
#[derive(Clone, Debug)]
pub struct UdpOptions {
    /// Send to this peer with [`Udp::send`](crate::Udp::send), and receive from nobody else.
    /// Default none.
    pub connect: Option<SocketAddr>,
    /// What is longer is cut to this many bytes and marked
    /// [`truncated`](crate::Datagram::truncated). Default 65,535, so nothing is.
    pub max_datagram: usize,
    /// What may wait to be sent, in bytes: each datagram counts its bytes and 64 more. What comes when it is
    /// full is dropped, counted, and answered with
    /// [`QueueFull`](crate::ErrorKind::QueueFull). Default 1 MiB.
    pub send_queue: usize,
    /// UDP_GRO and UDP_SEGMENT, udp(7): the kernel takes and gives runs of datagrams in one piece.
    /// The datagrams are the same either way. Default true; without effect where it has neither.
    pub offload: bool,
    /// SO_RCVBUF, socket(7), in bytes; the system caps it. When it is full, the kernel drops what
    /// arrives. Default none: as the system has it.
    pub recv_buffer: Option<usize>,
    /// SO_SNDBUF, socket(7), in bytes; the system caps it. Default none: as the system has it.
    pub send_buffer: Option<usize>,
    /// SO_REUSEADDR, socket(7): several sockets on one address. On Linux each gets a copy of what
    /// is multicast, and the last one bound gets the rest. Default false.
    pub reuse_address: bool,
    /// SO_REUSEPORT, socket(7): several sockets of one user share what comes in. Default false.
    pub reuse_port: bool,
    /// For IPv6 addresses: leave IPv4 alone, ipv6(7). Default true, as for listeners.
    pub ipv6_only: bool,
    /// SO_BROADCAST, socket(7): sending to a broadcast address is allowed. Default false.
    pub broadcast: bool,
    /// Where multicast leaves from. Default: as the routing table has it.
    pub multicast_interface: Interface,
    /// How many hops multicast goes. Default none: the system's, 1, the local network.
    pub multicast_ttl: Option<u32>,
    /// Whether this machine gets the multicast that it sends. Default none: the system's, true.
    pub multicast_loop: Option<bool>,
    /// How many hops anything else goes. Default none: the system's, mostly 64.
    pub ttl: Option<u32>,
    /// IP_TOS, ip(7), and IPV6_TCLASS, RFC 2474: the type of service of what is sent. Default none.
    pub tos: Option<u8>,
    /// SO_BINDTODEVICE, socket(7): the name of the one network device to use (Linux). Default
    /// none.
    pub device: Option<String>,
}

impl Default for UdpOptions {
    fn default() -> Self {
        Self {
            connect: None,
            max_datagram: LARGEST,
            send_queue: 1 << 20,
            offload: true,
            recv_buffer: None,
            send_buffer: None,
            reuse_address: false,
            reuse_port: false,
            ipv6_only: true,
            broadcast: false,
            multicast_interface: Interface::Default,
            multicast_ttl: None,
            multicast_loop: None,
            ttl: None,
            tos: None,
            device: None,
        }
    }
}
