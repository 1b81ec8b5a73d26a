//! Sockets of the load generator: open, connect, read and write once, without blocking.
//!
//! Small sends leave at once (`TCP_NODELAY`). A source address is bound without taking a port
//! (`IP_BIND_ADDRESS_NO_PORT`, ip(7)), so connect picks one of the ports free for that pair of
//! addresses and tens of thousands of connections fit. The kernel's EAGAIN is `None` here.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use rustix::event::epoll;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

use crate::Error;

/// A socket whose connect is under way, or done: on loopback it mostly is when this returns.
pub(crate) fn connect(target: SocketAddrV4, source: Option<Ipv4Addr>) -> Result<OwnedFd, Error> {
    let fd = net::socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
        None,
    )
    .map_err(Error::system("socket"))?;
    sockopt::set_tcp_nodelay(&fd, true).map_err(Error::system("setsockopt TCP_NODELAY"))?;
    if let Some(source) = source {
        setsockopt(&fd, IpBindAddressNoPort, &true)
            .map_err(|errno| Errno::from_raw_os_error(errno as i32))
            .map_err(Error::system("setsockopt IP_BIND_ADDRESS_NO_PORT"))?;
        net::bind(&fd, &SocketAddrV4::new(source, 0)).map_err(Error::system("bind"))?;
    }
    match net::connect(&fd, &target) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(fd),
        Err(errno) => Err(Error::system("connect")(errno)),
    }
}

/// Watches a socket edge-triggered, once for its whole life; for room to write as well if `write`.
pub(crate) fn watch(
    poller: &OwnedFd,
    fd: &OwnedFd,
    index: usize,
    write: bool,
) -> Result<(), Error> {
    use epoll::EventFlags as F;
    let mut flags = F::IN | F::RDHUP | F::ET;
    flags.set(F::OUT, write);
    epoll::add(poller, fd, epoll::EventData::new_u64(index as u64), flags)
        .map_err(Error::system("epoll_ctl"))
}

/// Sends what the kernel takes; `None` when that is nothing now.
pub(crate) fn send(fd: &OwnedFd, bytes: &[u8]) -> Result<Option<usize>, Errno> {
    match retry_on_intr(|| net::send(fd, bytes, SendFlags::NOSIGNAL)) {
        Ok(n) => Ok(Some(n)),
        // EAGAIN, too, while the connect is under way.
        Err(Errno::AGAIN) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Receives up to a full buffer; `None` when nothing has come. With `discard` the kernel counts and
/// drops the bytes, and the buffer only says how many (tcp(7), `MSG_TRUNC`).
pub(crate) fn recv(fd: &OwnedFd, buffer: &mut [u8], discard: bool) -> Result<Option<usize>, Errno> {
    let flags = if discard {
        RecvFlags::TRUNC
    } else {
        RecvFlags::empty()
    };
    match retry_on_intr(|| net::recv(fd, &mut *buffer, flags)) {
        Ok((_, n)) => Ok(Some(n)),
        Err(Errno::AGAIN) => Ok(None),
        Err(errno) => Err(errno),
    }
}
