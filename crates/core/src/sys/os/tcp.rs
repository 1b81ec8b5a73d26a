//! TCP sockets (tcp(7)) that listen or connect.
//!
//! The rule: options come first, then the address; nothing here waits for a peer.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::AddressFamily;
use socket2::{Domain, Protocol, Socket, Type};

use super::errno;
use super::options::{self, Outcome};
use crate::{ConnectOptions, ListenOptions};

pub(super) fn listen(addr: SocketAddr, options: &ListenOptions) -> Outcome<OwnedFd> {
    let socket = stream_socket(addr)?;
    let fd = socket.as_fd();
    if addr.is_ipv6() {
        socket.set_only_v6(options.ipv6_only)?;
    }
    socket.set_reuse_address(options.reuse_address)?;
    if options.reuse_port {
        let set = socket.set_reuse_port(true).map_err(errno);
        options::named("set SO_REUSEPORT", set)?;
    }
    if let Some(device) = &options.device {
        options::bind_to_device(fd, device)?;
    }
    options::tune_listener(fd, family(addr), options)?;
    socket.bind(&addr.into())?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

pub(super) fn connect(addr: SocketAddr, options: &ConnectOptions) -> Outcome<OwnedFd> {
    let socket = stream_socket(addr)?;
    if let Some(device) = &options.device {
        options::bind_to_device(socket.as_fd(), device)?;
    }
    options::tune(socket.as_fd(), family(addr), &options.conn)?;
    if let Some(local) = options.local {
        socket.bind(&local.into())?;
    }
    match rustix::net::connect(&socket, &addr) {
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(socket.into()),
        Err(e) => Err(e.into()),
    }
}

fn family(addr: SocketAddr) -> AddressFamily {
    if addr.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    }
}

fn stream_socket(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
