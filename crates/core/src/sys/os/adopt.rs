//! Sockets that change hands: what must hold of one that comes, and leaving the selector.
//!
//! The rule: all checks come before the first change, so a socket that is refused is as it was,
//! save for the options that were set before the one that was refused.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use mio::Registry;
use mio::unix::SourceFd;
use rustix::io::{Errno, FdFlags};
use rustix::net::{AddressFamily, SocketType, sockopt};

use super::known_addr;
use super::options::{self, Outcome};
use crate::{Addr, ConnOptions, ListenOptions};

/// Checks that it is a connected stream socket, and makes it one of ours.
pub(super) fn check(socket: BorrowedFd<'_>, options: &ConnOptions) -> Outcome<Addr> {
    if sockopt::socket_type(socket)? != SocketType::STREAM {
        return Err(Errno::PROTOTYPE.into());
    }
    if sockopt::socket_acceptconn(socket)? {
        return Err(Errno::INVAL.into());
    }
    let peer = rustix::net::getpeername(socket)?.ok_or(Errno::NOTCONN)?;
    let peer = known_addr(peer).ok_or(Errno::AFNOSUPPORT)?;
    options::tune(socket, sockopt::socket_domain(socket)?, options)?;
    prepare(socket)?;
    Ok(peer)
}

/// Checks that it is a TCP or Unix stream socket that listens, and makes it one of ours.
pub(super) fn listener(fd: OwnedFd, options: &ListenOptions) -> Outcome<OwnedFd> {
    let family = sockopt::socket_domain(&fd)?;
    let stream = sockopt::socket_type(&fd)? == SocketType::STREAM;
    let unix = family == AddressFamily::UNIX;
    if !stream || !(unix || family == AddressFamily::INET || family == AddressFamily::INET6) {
        return Err(Errno::PROTOTYPE.into());
    }
    if !sockopt::socket_acceptconn(&fd)? {
        return Err(Errno::INVAL.into());
    }
    prepare(fd.as_fd())?;
    options::tune_listener(fd.as_fd(), family, options)?;
    Ok(fd)
}

/// Takes a socket out of the selector.
pub(super) fn release(registry: &Registry, socket: OwnedFd) -> OwnedFd {
    let _ = registry.deregister(&mut SourceFd(&socket.as_raw_fd()));
    socket
}

/// Makes it non-blocking and close-on-exec.
fn prepare(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::io::ioctl_fionbio(socket, true)?;
    rustix::io::fcntl_setfd(socket, rustix::io::fcntl_getfd(socket)? | FdFlags::CLOEXEC)
}
