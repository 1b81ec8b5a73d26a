//! Sockets that change hands: what must hold of one that comes, and leaving the selector.
//!
//! The rule: all checks come before the first change, so a socket that is refused is as it was.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use mio::Registry;
use mio::unix::SourceFd;
use rustix::io::{Errno, FdFlags};
use rustix::net::{AddressFamily, SocketType, sockopt};

use super::known_addr;
use crate::{Addr, ConnOptions};

/// Checks that it is a connected stream socket, and makes it one of ours.
pub(super) fn check(socket: BorrowedFd<'_>, options: &ConnOptions) -> Result<Addr, Errno> {
    if sockopt::socket_type(socket)? != SocketType::STREAM {
        return Err(Errno::PROTOTYPE);
    }
    if sockopt::socket_acceptconn(socket)? {
        return Err(Errno::INVAL);
    }
    let peer = rustix::net::getpeername(socket)?.ok_or(Errno::NOTCONN)?;
    let peer = known_addr(peer).ok_or(Errno::AFNOSUPPORT)?;
    rustix::io::ioctl_fionbio(socket, true)?;
    rustix::io::fcntl_setfd(socket, rustix::io::fcntl_getfd(socket)? | FdFlags::CLOEXEC)?;
    if sockopt::socket_domain(socket)? != AddressFamily::UNIX {
        sockopt::set_tcp_nodelay(socket, options.nodelay)?;
    }
    Ok(peer)
}

/// Takes a socket out of the selector.
pub(super) fn release(registry: &Registry, socket: OwnedFd) -> OwnedFd {
    let _ = registry.deregister(&mut SourceFd(&socket.as_raw_fd()));
    socket
}
