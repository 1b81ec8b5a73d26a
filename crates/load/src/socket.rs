//! Sockets of the load generator: open, connect, read and write once, without blocking.
//!
//! Small sends leave at once (`TCP_NODELAY`). A source address is bound without taking a port
//! (`IP_BIND_ADDRESS_NO_PORT`, ip(7)), so connect picks one of the ports free for that pair of
//! addresses and tens of thousands of connections fit. The kernel's EAGAIN is `None` here.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr as UnixAddr;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use rustix::event::epoll;
use rustix::io::{Errno, ioctl_fionbio, retry_on_intr};
use rustix::net::{
    self, AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt,
};

use crate::{Cause, Error, Plan, Target};

/// A socket whose connect is under way, or done: on loopback it mostly is when this returns.
pub(crate) fn connect(plan: &Plan, connection: usize) -> Result<OwnedFd, Error> {
    let refused = |doing, errno| Error::Connection {
        connection,
        cause: Cause::system(doing, errno),
    };
    match &plan.target {
        Target::Tcp(addr) => {
            let fd = open(family(addr), SocketType::STREAM)?;
            sockopt::set_tcp_nodelay(&fd, true).map_err(Error::system("setsockopt TCP_NODELAY"))?;
            let started = from(plan, connection, &fd)
                .map_err(|errno| refused("bind", errno))
                .map(|()| net::connect(&fd, addr))?;
            match started {
                Ok(()) | Err(Errno::INPROGRESS) => Ok(fd),
                Err(errno) => Err(refused("connect", errno)),
            }
        }
        Target::Udp(addr) => {
            let fd = open(family(addr), SocketType::DGRAM)?;
            from(plan, connection, &fd).map_err(|errno| refused("bind", errno))?;
            net::connect(&fd, addr).map_err(|errno| refused("connect", errno))?;
            Ok(fd)
        }
        Target::Unix(addr) => {
            let fd = open(AddressFamily::UNIX, SocketType::STREAM)?;
            connect_unix(&fd, addr, plan.patience).map_err(|errno| refused("connect", errno))?;
            Ok(fd)
        }
    }
}

fn open(family: AddressFamily, kind: SocketType) -> Result<OwnedFd, Error> {
    net::socket_with(
        family,
        kind,
        SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
        None,
    )
    .map_err(Error::system("socket"))
}

fn family(addr: &SocketAddr) -> AddressFamily {
    match addr {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    }
}

/// Binds the address that connection number `index` comes from, if the plan has any.
fn from(plan: &Plan, index: usize, fd: &OwnedFd) -> Result<(), Errno> {
    if plan.sources == 0 {
        return Ok(());
    }
    setsockopt(fd, IpBindAddressNoPort, &true)
        .map_err(|errno| Errno::from_raw_os_error(errno as i32))?;
    let first = u32::from(Ipv4Addr::new(127, 0, 0, 2));
    let source = Ipv4Addr::from(first + index as u32 % plan.sources);
    net::bind(fd, &SocketAddrV4::new(source, 0))
}

/// A Unix socket that does not block says EAGAIN when the server's backlog is full, and tells nobody
/// when there is room again (connect(2)): so that connect waits, as long as the patience lasts.
fn connect_unix(fd: &OwnedFd, addr: &UnixAddr, patience: Duration) -> Result<(), Errno> {
    let addr = match (addr.as_pathname(), addr.as_abstract_name()) {
        (Some(path), _) => SocketAddrUnix::new(path)?,
        (None, Some(name)) => SocketAddrUnix::new_abstract_name(name)?,
        (None, None) => return Err(Errno::INVAL),
    };
    match net::connect(fd, &addr) {
        Err(Errno::AGAIN) => {}
        done => return done,
    }
    let patience = patience.clamp(Duration::from_millis(1), Duration::from_secs(3600));
    sockopt::set_socket_timeout(fd, sockopt::Timeout::Send, Some(patience))?;
    ioctl_fionbio(fd, false)?;
    retry_on_intr(|| net::connect(fd, &addr))?;
    ioctl_fionbio(fd, true)
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

/// The reports after which a read tells an end or an error.
pub(crate) fn hung_up() -> epoll::EventFlags {
    epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR
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

/// Receives up to a full buffer; `None` when nothing has come. With `truncate` the kernel counts all:
/// of TCP it drops the bytes (tcp(7), `MSG_TRUNC`), of a datagram it copies what fits and says how
/// long it was (udp(7)). A Unix stream knows no such flag.
pub(crate) fn recv(
    fd: &OwnedFd,
    buffer: &mut [u8],
    truncate: bool,
) -> Result<Option<usize>, Errno> {
    let flags = if truncate {
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
