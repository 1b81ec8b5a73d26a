//! UDP on the real system: making sockets, and changing them.
//!
//! The rule: what the kernel lacks (segments, destinations) is found out when the socket is made,
//! and done without. Moving datagrams is in `datagrams`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockRef, Socket, Type};

use super::errno;
use super::options::{self, Outcome};
use crate::sys::{Membership, UdpChange, UdpFeatures};
use crate::{Addr, Interface, UdpOptions};

pub(super) fn bind(addr: &Addr, options: &UdpOptions) -> Outcome<(OwnedFd, UdpFeatures)> {
    let addr = addr.ip().ok_or(Errno::AFNOSUPPORT)?;
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    set_options(&socket, addr, options)?;
    socket.bind(&addr.into())?;
    if let Some(peer) = options.connect {
        socket.connect(&peer.into())?;
    }
    let socket = OwnedFd::from(socket);
    let features = enable(&socket, addr, options);
    Ok((socket, features))
}

/// Checks that it is a UDP socket with an address, and makes it one of ours. What must be set
/// before a socket is bound (reuse, device, IPv6 only) stays as it is.
pub(super) fn adopt(fd: OwnedFd, options: &UdpOptions) -> Outcome<(OwnedFd, UdpFeatures)> {
    let socket = Socket::from(fd);
    if socket.r#type()? != Type::DGRAM {
        return Err(Errno::PROTOTYPE.into());
    }
    let addr = socket.local_addr()?.as_socket();
    let addr = addr.ok_or(Errno::PROTOTYPE)?;
    socket.set_nonblocking(true)?;
    socket.set_cloexec(true)?;
    options::set_buffers(socket.as_fd(), options.send_buffer, options.recv_buffer)?;
    match addr {
        SocketAddr::V4(_) => set_options_v4(&socket, options)?,
        SocketAddr::V6(_) => set_options_v6(&socket, options)?,
    }
    let socket = OwnedFd::from(socket);
    let features = enable(&socket, addr, options);
    Ok((socket, features))
}

fn set_options(socket: &Socket, addr: SocketAddr, options: &UdpOptions) -> Outcome {
    socket.set_reuse_address(options.reuse_address)?;
    if options.reuse_port {
        let set = socket.set_reuse_port(true).map_err(errno);
        options::named("set SO_REUSEPORT", set)?;
    }
    socket.set_broadcast(options.broadcast)?;
    options::set_buffers(socket.as_fd(), options.send_buffer, options.recv_buffer)?;
    if let Some(device) = &options.device {
        options::bind_to_device(socket.as_fd(), device)?;
    }
    if addr.is_ipv6() {
        socket.set_only_v6(options.ipv6_only)?;
        set_options_v6(socket, options)
    } else {
        set_options_v4(socket, options)
    }
}

/// Those of the options that were asked for, by name.
fn each_named<const N: usize>(each: [(&'static str, Option<io::Result<()>>); N]) -> Outcome {
    let asked = each
        .into_iter()
        .filter_map(|(name, set)| Some((name, set?)));
    for (name, set) in asked {
        options::named(name, set.map_err(errno))?;
    }
    Ok(())
}

fn set_options_v4(socket: &Socket, options: &UdpOptions) -> Outcome {
    let leave_by = match options.multicast_interface {
        Interface::Default => None,
        Interface::Addr(addr) => Some(socket.set_multicast_if_v4(&addr)),
        #[cfg(target_os = "linux")]
        Interface::Index(index) => {
            let any = &Ipv4Addr::UNSPECIFIED;
            let set =
                rustix::net::sockopt::set_ip_multicast_if_with_ifindex(socket, any, any, index);
            Some(set.map_err(io::Error::from))
        }
        #[cfg(not(target_os = "linux"))]
        Interface::Index(_) => Some(Err(Errno::INVAL.into())),
    };
    let ttl = options.multicast_ttl;
    let ttl = ttl.map(|n| socket.set_multicast_ttl_v4(n));
    let echo = options.multicast_loop;
    let echo = echo.map(|on| socket.set_multicast_loop_v4(on));
    each_named([
        ("set IP_MULTICAST_IF", leave_by),
        ("set IP_MULTICAST_TTL", ttl),
        ("set IP_MULTICAST_LOOP", echo),
        ("set IP_TTL", options.ttl.map(|n| socket.set_ttl_v4(n))),
        (
            "set IP_TOS",
            options.tos.map(|n| socket.set_tos_v4(n.into())),
        ),
    ])
}

fn set_options_v6(socket: &Socket, options: &UdpOptions) -> Outcome {
    let leave_by = match options.multicast_interface {
        Interface::Default => None,
        Interface::Index(index) => Some(socket.set_multicast_if_v6(index)),
        Interface::Addr(_) => Some(Err(Errno::INVAL.into())),
    };
    let hops = options.multicast_ttl;
    let hops = hops.map(|n| socket.set_multicast_hops_v6(n));
    let echo = options.multicast_loop;
    let echo = echo.map(|on| socket.set_multicast_loop_v6(on));
    let unicast_hops = options.ttl.map(|n| socket.set_unicast_hops_v6(n));
    let class = options.tos.map(|n| socket.set_tclass_v6(n.into()));
    // Linux looks here for what is sent to IPv4-mapped addresses; others know it on IPv4 alone.
    let tos = options.tos.filter(|_| cfg!(target_os = "linux"));
    let tos = tos.map(|n| socket.set_tos_v4(n.into()));
    each_named([
        ("set IPV6_MULTICAST_IF", leave_by),
        ("set IPV6_MULTICAST_HOPS", hops),
        ("set IPV6_MULTICAST_LOOP", echo),
        ("set IPV6_UNICAST_HOPS", unicast_hops),
        ("set IPV6_TCLASS", class),
        ("set IP_TOS", tos),
    ])
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
        Interface::Index(_) => Err(rustix::io::Errno::INVAL.into()),
    }
}
