//! Options of sockets, set on the real ones.
//!
//! The rule: an option that nobody asked for costs no call, and one that the kernel refuses is an
//! error that names it. All are set before a socket listens or connects. Linux hands those of a TCP
//! listener down to what it accepts (measured: every one here), so an accept costs no call either;
//! a Unix socket that is accepted starts anew, and [`tune`] sees to it. Options of TCP and IP are
//! left out on Unix sockets.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, sockopt};
use socket2::SockRef;

use crate::sys::SocketOption;
use crate::{ConnOptions, Keepalive, ListenOptions};

/// Why a socket could not be made: an error of the system, and the option it was about, if one.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) errno: Errno,
    pub(super) option: Option<&'static str>,
}

pub(super) type Outcome<T = ()> = Result<T, Failed>;

impl From<Errno> for Failed {
    fn from(errno: Errno) -> Self {
        Self {
            errno,
            option: None,
        }
    }
}

impl From<std::io::Error> for Failed {
    fn from(e: std::io::Error) -> Self {
        super::errno(e).into()
    }
}

/// What [`ConnOptions`] say about the socket; `None` leaves it as it is.
pub(super) fn tune(fd: BorrowedFd<'_>, family: AddressFamily, options: &ConnOptions) -> Outcome {
    set_buffers(fd, options.send_buffer, options.recv_buffer)?;
    if family == AddressFamily::UNIX {
        return Ok(());
    }
    set(fd, SocketOption::Nodelay(options.nodelay))?;
    if options.keepalive.is_some() {
        set(fd, SocketOption::Keepalive(options.keepalive))?;
    }
    if options.notsent_lowat.is_some() {
        set(fd, SocketOption::NotsentLowat(options.notsent_lowat))?;
    }
    if let Some(rate) = options.pacing_rate {
        named("set SO_MAX_PACING_RATE", max_pacing_rate(fd, rate.max(1)))?;
    }
    let Some(tos) = options.tos else {
        return Ok(());
    };
    if family == AddressFamily::INET6 {
        named("set IPV6_TCLASS", sockopt::set_ipv6_tclass(fd, tos.into()))?;
    }
    // An IPv6 socket may speak IPv4 too, and Linux then looks here; others know it on IPv4 alone.
    if family == AddressFamily::INET || cfg!(target_os = "linux") {
        named("set IP_TOS", sockopt::set_ip_tos(fd, tos))?;
    }
    Ok(())
}

/// The sizes of the kernel's buffers, which count in an `int`.
pub(super) fn set_buffers(fd: BorrowedFd<'_>, send: Option<usize>, recv: Option<usize>) -> Outcome {
    let most = i32::MAX as usize;
    if let Some(size) = send {
        let set = sockopt::set_socket_send_buffer_size(fd, size.min(most));
        named("set SO_SNDBUF", set)?;
    }
    if let Some(size) = recv {
        let set = sockopt::set_socket_recv_buffer_size(fd, size.min(most));
        named("set SO_RCVBUF", set)?;
    }
    Ok(())
}

/// What only listeners have, save for the address's own options.
pub(super) fn tune_listener(
    fd: BorrowedFd<'_>,
    family: AddressFamily,
    options: &ListenOptions,
) -> Outcome {
    tune(fd, family, &options.conn)?;
    if family == AddressFamily::UNIX {
        return Ok(());
    }
    if let Some(delay) = options.defer_accept {
        named("set TCP_DEFER_ACCEPT", defer_accept(fd, seconds(delay)))?;
    }
    if let Some(waiting) = options.fast_open {
        named("set TCP_FASTOPEN", fast_open(fd, waiting))?;
    }
    Ok(())
}

/// One option of a TCP socket.
pub(super) fn set(fd: BorrowedFd<'_>, option: SocketOption) -> Outcome {
    match option {
        SocketOption::Nodelay(on) => named("set TCP_NODELAY", sockopt::set_tcp_nodelay(fd, on)),
        SocketOption::Keepalive(times) => set_keepalive(fd, times),
        SocketOption::NotsentLowat(bytes) => {
            // 0 is the system's own, net.ipv4.tcp_notsent_lowat.
            let set = SockRef::from(&fd).set_tcp_notsent_lowat(bytes.unwrap_or(0));
            named("set TCP_NOTSENT_LOWAT", set.map_err(super::errno))
        }
    }
}

/// SO_BINDTODEVICE, which needs no privilege since Linux 5.7.
pub(super) fn bind_to_device(fd: BorrowedFd<'_>, device: &str) -> Outcome {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let bound = SockRef::from(&fd)
        .bind_device(Some(device.as_bytes()))
        .map_err(super::errno);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let bound = (fd, device, Err(Errno::NOPROTOOPT)).2;
    named("set SO_BINDTODEVICE", bound)
}

/// The same outcome, with the option it is about.
pub(super) fn named(option: &'static str, outcome: Result<(), Errno>) -> Outcome {
    outcome.map_err(|errno| Failed {
        errno,
        option: Some(option),
    })
}

fn set_keepalive(fd: BorrowedFd<'_>, times: Option<Keepalive>) -> Outcome {
    if let Some(times) = times {
        let (idle, interval) = (seconds(times.idle), seconds(times.interval));
        named("set TCP_KEEPIDLE", sockopt::set_tcp_keepidle(fd, idle))?;
        named(
            "set TCP_KEEPINTVL",
            sockopt::set_tcp_keepintvl(fd, interval),
        )?;
        named("set TCP_KEEPCNT", sockopt::set_tcp_keepcnt(fd, times.count))?;
    }
    let on = sockopt::set_socket_keepalive(fd, times.is_some());
    named("set SO_KEEPALIVE", on)
}

/// Whole seconds, rounded up.
fn seconds(time: Duration) -> Duration {
    let part = u64::from(time.subsec_nanos() > 0);
    Duration::from_secs(time.as_secs().saturating_add(part))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux {
    //! Options that no crate has a function for, by nix's macro for options of one's own.

    use nix::sys::socket::SetSockOpt;
    use nix::{setsockopt_impl, sockopt_impl};

    use super::{AsFd, BorrowedFd, Duration, Errno};

    sockopt_impl!(
        DeferAccept,
        SetOnly,
        libc::IPPROTO_TCP,
        libc::TCP_DEFER_ACCEPT,
        i32
    );
    sockopt_impl!(
        FastOpen,
        SetOnly,
        libc::IPPROTO_TCP,
        libc::TCP_FASTOPEN,
        i32
    );

    sockopt_impl!(
        MaxPacingRate,
        SetOnly,
        libc::SOL_SOCKET,
        libc::SO_MAX_PACING_RATE,
        u64
    );

    pub(super) fn max_pacing_rate(fd: BorrowedFd<'_>, rate: u64) -> Result<(), Errno> {
        set(MaxPacingRate, fd, rate)
    }

    pub(super) fn defer_accept(fd: BorrowedFd<'_>, delay: Duration) -> Result<(), Errno> {
        let seconds = i32::try_from(delay.as_secs()).unwrap_or(i32::MAX);
        set(DeferAccept, fd, seconds)
    }

    pub(super) fn fast_open(fd: BorrowedFd<'_>, waiting: u32) -> Result<(), Errno> {
        set(FastOpen, fd, i32::try_from(waiting).unwrap_or(i32::MAX))
    }

    fn set<O: SetSockOpt>(option: O, fd: BorrowedFd<'_>, to: O::Val) -> Result<(), Errno>
    where
        O::Val: Sized,
    {
        let failed = |e| Errno::from_raw_os_error(e as i32);
        option.set(&fd.as_fd(), &to).map_err(failed)
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
use linux::{defer_accept, fast_open, max_pacing_rate};

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn defer_accept(_: BorrowedFd<'_>, _: Duration) -> Result<(), Errno> {
    Err(Errno::NOPROTOOPT)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn max_pacing_rate(_: BorrowedFd<'_>, _: u64) -> Result<(), Errno> {
    Err(Errno::NOPROTOOPT)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn fast_open(_: BorrowedFd<'_>, _: u32) -> Result<(), Errno> {
    Err(Errno::NOPROTOOPT)
}
