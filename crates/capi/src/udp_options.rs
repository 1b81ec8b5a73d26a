//! Options of UDP sockets as C sees them, and their conversion to the core's.
//!
//! The rule: that of `options`: 0 is the default of a field.

use std::ffi::{c_char, c_int};

use echoloop_core::{Error, ErrorKind, Interface, UdpOptions};

use crate::detail::Refused;
use crate::ip::ip_with_port;
use crate::options::{given, size};
use crate::pointer::string;

/// Options of echoloop_udp_bind() and echoloop_udp_adopt(). Start with ECHOLOOP_UDP_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct echoloop_udp_options {
    /// sizeof(echoloop_udp_options); ECHOLOOP_UDP_OPTIONS_INIT sets it.
    pub size: usize,
    /// Send to this peer with echoloop_udp_send(), and receive from nobody else: "127.0.0.1:7007".
    /// NULL: none.
    pub connect: *const c_char,
    /// SO_BINDTODEVICE, socket(7) (Linux): the one network interface to use, such as "eth0". NULL:
    /// all.
    pub device: *const c_char,
    /// Where multicast leaves from: the name, the number, or for IPv4 an address of an interface of
    /// this machine: "eth0", "2", "192.0.2.1". NULL: as routed.
    pub multicast_interface: *const c_char,
    /// What is longer is cut to this many bytes and marked as truncated. 0: 65,535, so nothing is.
    pub max_datagram: i64,
    /// What may wait to be sent, in bytes: each datagram counts its bytes and 64 more. What comes
    /// when it is full is dropped, counted, and gets ECHOLOOP_EQUEUEFULL. 0: 1 MiB; negative: no
    /// bound.
    pub send_queue: i64,
    /// SO_RCVBUF, socket(7), in bytes; the system caps it. When it is full, the kernel drops what
    /// arrives. 0: the system's.
    pub recv_buffer: i64,
    /// SO_SNDBUF, socket(7), in bytes; the system caps it. 0: the system's.
    pub send_buffer: i64,
    /// Not 0: no UDP_GRO and UDP_SEGMENT, udp(7), with which the kernel takes and gives runs of
    /// datagrams in one piece. The datagrams are the same either way.
    pub no_offload: c_int,
    /// Not 0: SO_REUSEADDR, socket(7): several sockets on one address. On Linux each gets a copy of
    /// what is multicast, and the last one bound gets the rest.
    pub reuse_address: c_int,
    /// Not 0: SO_REUSEPORT, socket(7): several sockets of one user share what comes in.
    pub reuse_port: c_int,
    /// Not 0: a socket on an IPv6 address takes IPv4 too, ipv6(7), with IPv4-mapped addresses (RFC
    /// 4291, 2.5.5.2).
    pub dual_stack: c_int,
    /// Not 0: SO_BROADCAST, socket(7): sending to a broadcast address is allowed.
    pub broadcast: c_int,
    /// Not 0: this machine does not get the multicast that it sends.
    pub no_multicast_loop: c_int,
    /// How many hops multicast goes, 1 to 255. 0: the system's, 1, the local network; negative:
    /// none, it stays on this machine.
    pub multicast_ttl: c_int,
    /// How many hops anything else goes, 1 to 255. 0: the system's, mostly 64.
    pub ttl: c_int,
    /// IP_TOS, ip(7), and IPV6_TCLASS: the type of service of what is sent, 0 to 255. 0: the
    /// system's.
    pub tos: c_int,
    /// Always 0.
    pub reserved: c_int,
}

impl echoloop_udp_options {
    /// # Safety
    ///
    /// The pointers among the options are NULL or good, header section "Pointers".
    pub(crate) unsafe fn convert(&self, operation: &'static str) -> Result<UdpOptions, Refused> {
        let default = UdpOptions::default();
        let Ok(tos) = u8::try_from(self.tos) else {
            let what = "the type of service is not from 0 to 255";
            return Err(Error::new(operation, ErrorKind::InvalidInput(what)).into());
        };
        let Ok(ttl) = u32::try_from(self.ttl) else {
            let what = "the number of hops is negative";
            return Err(Error::new(operation, ErrorKind::InvalidInput(what)).into());
        };
        let connect = match self.connect.is_null() {
            true => None,
            // SAFETY: the caller's.
            false => Some(unsafe { ip_with_port("bind udp, connect", self.connect) }?),
        };
        Ok(UdpOptions {
            connect,
            max_datagram: size(self.max_datagram, default.max_datagram),
            send_queue: size(self.send_queue, default.send_queue),
            offload: self.no_offload == 0,
            recv_buffer: given(self.recv_buffer),
            send_buffer: given(self.send_buffer),
            reuse_address: self.reuse_address != 0,
            reuse_port: self.reuse_port != 0,
            ipv6_only: self.dual_stack == 0,
            broadcast: self.broadcast != 0,
            // SAFETY: the caller's.
            multicast_interface: unsafe { interface(operation, self.multicast_interface) }?,
            multicast_ttl: (self.multicast_ttl != 0).then(|| self.multicast_ttl.max(0) as u32),
            multicast_loop: (self.no_multicast_loop != 0).then_some(false),
            ttl: (ttl != 0).then_some(ttl),
            tos: (tos != 0).then_some(tos),
            // SAFETY: the caller's.
            device: unsafe { string("bind udp, device", self.device) }?,
        })
    }
}

/// An interface from its text; NULL: as routed.
///
/// # Safety
///
/// `text` is NULL or a string with an end mark.
pub(crate) unsafe fn interface(
    operation: &'static str,
    text: *const c_char,
) -> Result<Interface, Refused> {
    // SAFETY: the caller's.
    let Some(text) = unsafe { string(operation, text) }? else {
        return Ok(Interface::Default);
    };
    text.parse().map_err(|_| {
        let why = format_args!("\"{text}\" is no network interface of this machine");
        Refused::because(operation, -libc::ENODEV, why)
    })
}
