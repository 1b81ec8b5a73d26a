//! UDP on the real system: making sockets, and changing them.
//!
//! The rule: what the kernel lacks (segments, destinations) is found out when the socket is made,
//! and done without. Moving datagrams is in `datagrams`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockRef, Socket, Type};

use super::errno;
use crate::sys::{Membership, UdpChange, UdpFeatures};
use crate::{Addr, Interface, UdpOptions};

pub(super) fn bind(addr: &Addr, options: &UdpOptions) -> Result<(OwnedFd, UdpFeatures), Errno> {
    let addr = addr.ip().ok_or(Errno::AFNOSUPPORT)?;
    let open = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        set_options(&socket, addr, options)?;
        socket.bind(&addr.into())?;
        if let Some(peer) = options.connect {
            socket.connect(&peer.into())?;
        }
        Ok(socket)
    };
    let socket = OwnedFd::from(open().map_err(errno)?);
    let features = enable(&socket, addr, options);
    Ok((socket, features))
}

fn set_options(socket: &Socket, addr: SocketAddr, options: &UdpOptions) -> io::Result<()> {
    socket.set_reuse_address(options.reuse_address)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.set_broadcast(options.broadcast)?;
    if let Some(size) = options.recv_buffer {
        socket.set_recv_buffer_size(size)?;
    }
    if let Some(size) = options.send_buffer {
        socket.set_send_buffer_size(size)?;
    }
    #[cfg(target_os = "linux")]
    if let Some(device) = &options.device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    if addr.is_ipv6() {
        socket.set_only_v6(options.ipv6_only)?;
        set_options_v6(socket, options)
    } else {
        set_options_v4(socket, options)
    }
}

fn set_options_v4(socket: &Socket, options: &UdpOptions) -> io::Result<()> {
    match options.multicast_interface {
        Interface::Default => {}
        Interface::Addr(addr) => socket.set_multicast_if_v4(&addr)?,
        #[cfg(target_os = "linux")]
        Interface::Index(index) => {
            let any = &Ipv4Addr::UNSPECIFIED;
            rustix::net::sockopt::set_ip_multicast_if_with_ifindex(socket, any, any, index)?;
        }
        #[cfg(not(target_os = "linux"))]
        Interface::Index(_) => return Err(io::ErrorKind::InvalidInput.into()),
    }
    let each = [
        options
            .multicast_ttl
            .map(|n| socket.set_multicast_ttl_v4(n)),
        options
            .multicast_loop
            .map(|on| socket.set_multicast_loop_v4(on)),
        options.ttl.map(|n| socket.set_ttl_v4(n)),
        options.tos.map(|n| socket.set_tos_v4(n.into())),
    ];
    each.into_iter().flatten().collect()
}

fn set_options_v6(socket: &Socket, options: &UdpOptions) -> io::Result<()> {
    match options.multicast_interface {
        Interface::Default => {}
        Interface::Index(index) => socket.set_multicast_if_v6(index)?,
        Interface::Addr(_) => return Err(io::ErrorKind::InvalidInput.into()),
    }
    let each = [
        options
            .multicast_ttl
            .map(|n| socket.set_multicast_hops_v6(n)),
        options
            .multicast_loop
            .map(|on| socket.set_multicast_loop_v6(on)),
        options.ttl.map(|n| socket.set_unicast_hops_v6(n)),
        options.tos.map(|n| socket.set_tclass_v6(n.into())),
    ];
    each.into_iter().flatten().collect()
}

/// Switches on what the kernel has.
#[cfg(target_os = "linux")]
fn enable(socket: &OwnedFd, addr: SocketAddr, options: &UdpOptions) -> UdpFeatures {
    use nix::sys::socket::{setsockopt, sockopt};

    // A socket with an address of its own gets nothing else, and answers from there.
    let destination = addr.ip().is_unspecified()
        && match addr {
            SocketAddr::V4(_) => setsockopt(socket, sockopt::Ipv4PacketInfo, &true).is_ok(),
            SocketAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true).is_ok(),
        };
    let gro = options.offload && setsockopt(socket, sockopt::UdpGroSegment, &true).is_ok();
    // 0 is "no segments unless a message asks for them", and an error where there are none.
    let gso = options.offload && setsockopt(socket, sockopt::UdpGsoSegment, &0).is_ok();
    UdpFeatures {
        gro,
        gso,
        destination,
    }
}

#[cfg(not(target_os = "linux"))]
fn enable(_: &OwnedFd, _: SocketAddr, _: &UdpOptions) -> UdpFeatures {
    UdpFeatures::default()
}

pub(super) fn change(socket: &OwnedFd, change: UdpChange) -> Result<(), Errno> {
    match change {
        UdpChange::Connect(peer) => rustix::net::connect(socket, &peer),
        UdpChange::Disconnect => disconnect(socket),
        UdpChange::Join(membership) => join(&SockRef::from(socket), membership).map_err(errno),
        UdpChange::Leave(membership) => leave(&SockRef::from(socket), membership).map_err(errno),
    }
}

fn disconnect(socket: &OwnedFd) -> Result<(), Errno> {
    let local = |socket| SocketAddr::try_from(rustix::net::getsockname(socket)?);
    let before = local(socket)?;
    rustix::net::connect_unspec(socket)?;
    let after = local(socket)?;
    // Linux takes back a port that the program left for it to choose.
    if after.port() != before.port() {
        rustix::net::bind(socket, &SocketAddr::new(after.ip(), before.port()))?;
    }
    Ok(())
}

fn join(socket: &Socket, membership: Membership) -> io::Result<()> {
    match (membership.group, membership.source) {
        (IpAddr::V4(group), None) => {
            socket.join_multicast_v4_n(&group, &interface_v4(membership.interface))
        }
        (IpAddr::V6(group), None) => {
            socket.join_multicast_v6(&group, interface_v6(membership.interface)?)
        }
        (IpAddr::V4(group), Some(IpAddr::V4(source))) => {
            socket.join_ssm_v4(&source, &group, &address_v4(membership.interface)?)
        }
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

fn leave(socket: &Socket, membership: Membership) -> io::Result<()> {
    match (membership.group, membership.source) {
        (IpAddr::V4(group), None) => {
            socket.leave_multicast_v4_n(&group, &interface_v4(membership.interface))
        }
        (IpAddr::V6(group), None) => {
            socket.leave_multicast_v6(&group, interface_v6(membership.interface)?)
        }
        (IpAddr::V4(group), Some(IpAddr::V4(source))) => {
            socket.leave_ssm_v4(&source, &group, &address_v4(membership.interface)?)
        }
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

fn interface_v4(interface: Interface) -> InterfaceIndexOrAddress {
    match interface {
        Interface::Default => InterfaceIndexOrAddress::Index(0),
        Interface::Index(index) => InterfaceIndexOrAddress::Index(index),
        Interface::Addr(addr) => InterfaceIndexOrAddress::Address(addr),
    }
}

fn interface_v6(interface: Interface) -> io::Result<u32> {
    match interface {
        Interface::Default => Ok(0),
        Interface::Index(index) => Ok(index),
        Interface::Addr(_) => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// ip_mreq_source has room for an address only, ip(7).
fn address_v4(interface: Interface) -> io::Result<Ipv4Addr> {
    match interface {
        Interface::Default => Ok(Ipv4Addr::UNSPECIFIED),
        Interface::Addr(addr) => Ok(addr),
        Interface::Index(_) => Err(io::ErrorKind::InvalidInput.into()),
    }
}
