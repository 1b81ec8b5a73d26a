//! Functions on a UDP socket: make, connect, pause, ask, close.
//!
//! The rule: a socket has no end of its own; only its close, or its loop's free, ends it. Sending
//! is in `udp_send`, multicast in `udp_group`, what arrives in `datagram`.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::{io, ptr};

use echoloop_core::{Kind, Udp, UdpId};

use crate::detail::{Refused, returned};
use crate::guard::{lend, lend_server};
use crate::handle::{handle, raw};
use crate::ip::{ip_with_port, socket_addr};
use crate::pointer::{check_out, read_sized, write, write_address};
use crate::{ECHOLOOP_EBADHANDLE, echoloop, echoloop_ip, echoloop_udp, echoloop_udp_options};

/// Opens a UDP socket on addr, "127.0.0.1:7007", "[::]:7007" or "[fe80::1%eth0]:7007"; port 0 lets
/// the system choose, and echoloop_udp_local_addr() tells. options may be NULL. What arrives is
/// told by on_datagrams or DATAGRAMS. Errors: -EADDRINUSE, -EACCES, -EADDRNOTAVAIL, -EMFILE,
/// -ENODEV (an interface of the options), ECHOLOOP_EINVAL, ECHOLOOP_ENOMEM; for an option that the
/// system refuses its error, and echoloop_last_error() names the option.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_udp_bind(
    r#loop: *mut echoloop,
    addr: *const c_char,
    options: *const echoloop_udp_options,
    out: *mut *mut echoloop_udp,
) -> c_int {
    let operation = "bind udp";
    returned(check_out(operation, out).and_then(|()| {
        // SAFETY: header, "Pointers": NULL, or a string with an end mark.
        let addr = unsafe { ip_with_port(operation, addr) }?;
        // SAFETY: header, "Structs": NULL, or readable for its size.
        let options = unsafe { read_sized(operation, options) }?.unwrap_or_default();
        // SAFETY: header, "Pointers".
        let options = unsafe { options.convert(operation) }?;
        let udp = lend_server(operation, raw(r#loop), Kind::Loop, |server| {
            Ok(server.event_loop().bind_udp(addr, &options)?)
        })?;
        // SAFETY: header, "Pointers": out is writable for a handle; it is not NULL.
        unsafe { write(out, handle(udp.to_raw())) };
        Ok(0)
    }))
}

/// Takes over a UDP socket that was bound elsewhere: by the program, its service manager, or the
/// process before (echoloop_udp_share()). What waits in it is received as if it came now. Of the
/// options, those of a bind (connect, reuse_address, reuse_port, device, dual_stack) do not apply.
/// On success the descriptor is the library's: do not use or close it any more. On failure it is
/// still the program's; it may have become non-blocking. Errors: -EBADF, -ENOTSOCK, ECHOLOOP_EINVAL
/// for what is no UDP socket, and those of echoloop_udp_bind() for the options.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_udp_adopt(
    r#loop: *mut echoloop,
    fd: c_int,
    options: *const echoloop_udp_options,
    out: *mut *mut echoloop_udp,
) -> c_int {
    let operation = "adopt udp";
    returned(check_out(operation, out).and_then(|()| {
        // SAFETY: header, "Structs": NULL, or readable for its size.
        let options = unsafe { read_sized(operation, options) }?.unwrap_or_default();
        // SAFETY: header, "Pointers".
        let options = unsafe { options.convert(operation) }?;
        let udp = lend_server(operation, raw(r#loop), Kind::Loop, |server| {
            let udp = server
                .event_loop()
                .adopt_udp(duplicate(operation, fd)?, &options)?;
            Ok(udp)
        })?;
        // SAFETY: `duplicate` has found it open, and header, "echoloop_udp_adopt()": on success it
        // is the library's to close.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
        // SAFETY: header, "Pointers": out is writable for a handle; it is not NULL.
        unsafe { write(out, handle(udp.to_raw())) };
        Ok(0)
    }))
}

/// Returns a descriptor of the same socket, close-on-exec, the program's to close: for another
/// process to adopt. Each datagram is received by one of the two. Errors: -EMFILE.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_udp_share(udp: *mut echoloop_udp) -> c_int {
    let operation = "share udp socket";
    returned(lend(operation, raw(udp), Kind::Udp, |el| {
        let shared = el.share_udp(UdpId::from_raw(raw(udp)))?;
        Ok(shared.into_raw_fd())
    }))
}

/// Closes a UDP socket; its handle is stale at once, and there is no event. The kernel gets what it
/// takes at once of what waits to be sent; the rest is dropped and counted. Datagrams that are
/// being handled stay readable as they were.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_udp_close(udp: *mut echoloop_udp) -> c_int {
    let operation = "close udp socket";
    returned(lend(operation, raw(udp), Kind::Udp, |el| {
        el.close_udp(UdpId::from_raw(raw(udp)))?;
        Ok(0)
    }))
}

/// Sends to peer from now on with echoloop_udp_send(), and hears from nobody else; errors of the
/// peer, such as -ECONNREFUSED, are told as UDP_ERROR. What waits to be sent goes where it was sent
/// to. Errors: the system's, such as -ENETUNREACH; the socket then is as it was, or not connected.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_udp_connect(
    udp: *mut echoloop_udp,
    peer: *const echoloop_ip,
) -> c_int {
    let operation = "connect udp";
    // SAFETY: header, "Pointers": NULL, or peer is readable.
    returned(unsafe { socket_addr(operation, peer) }.and_then(|peer| {
        lend_udp(operation, udp, |view| {
            view.connect(peer)?;
            Ok(0)
        })
    }))
}

/// Hears from everybody again. The local address stays.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_udp_disconnect(udp: *mut echoloop_udp) -> c_int {
    returned(lend_udp("disconnect udp", udp, |view| {
        view.disconnect()?;
        Ok(0)
    }))
}

/// Stops reading until echoloop_udp_resume(). The kernel keeps what arrives until its buffer is
/// full, then drops it.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_udp_pause(udp: *mut echoloop_udp) -> c_int {
    returned(lend_udp("pause udp", udp, |view| {
        view.pause();
        Ok(0)
    }))
}

/// Reads again after echoloop_udp_pause().
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_udp_resume(udp: *mut echoloop_udp) -> c_int {
    returned(lend_udp("resume udp", udp, |view| {
        view.resume();
        Ok(0)
    }))
}

/// How many datagrams wait to be taken by the kernel. Negative: a status code.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_udp_queued(udp: *mut echoloop_udp) -> i64 {
    let queued = lend_udp("queued datagrams", udp, |view| Ok(view.queued()));
    queued.map_or_else(|refused| refused.status().into(), |n| n as i64)
}

/// How many datagrams that were sent here were dropped: the queue was full, or the kernel did not
/// take them. What is lost on the way, or dropped by the kernel on arrival, nobody knows. Negative:
/// a status code.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_udp_dropped(udp: *mut echoloop_udp) -> i64 {
    let dropped = lend_udp("dropped datagrams", udp, |view| Ok(view.dropped()));
    dropped.map_or_else(
        |refused| refused.status().into(),
        |n| i64::try_from(n).unwrap_or(i64::MAX),
    )
}

/// Keeps a pointer of the program's own with the socket; it comes with its events, and the library
/// never follows it.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_udp_set_user(udp: *mut echoloop_udp, user: *mut c_void) -> c_int {
    returned(lend_udp("set user of udp", udp, |view| {
        view.set_user_data(user.expose_provenance() as u64);
        Ok(0)
    }))
}

/// Writes what echoloop_udp_set_user() kept to *out; NULL until it was set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_udp_user(udp: *mut echoloop_udp, out: *mut *mut c_void) -> c_int {
    let operation = "user of udp";
    returned(check_out(operation, out).and_then(|()| {
        let user = lend_udp(operation, udp, |view| Ok(view.user_data()))?;
        // SAFETY: header, "Pointers": out is writable for a pointer; it is not NULL.
        unsafe { write(out, ptr::with_exposed_provenance_mut(user as usize)) };
        Ok(0)
    }))
}

/// Writes the text of the address a socket is bound to to buf, with the port that the system chose,
/// and returns its length without the end mark. ECHOLOOP_ADDR_MAX bytes always suffice;
/// ECHOLOOP_EINVAL if capacity does not.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_udp_local_addr(
    udp: *mut echoloop_udp,
    buf: *mut c_char,
    capacity: usize,
) -> c_int {
    let operation = "local address of udp";
    returned(check_out(operation, buf).and_then(|()| {
        lend_udp(operation, udp, |view| {
            let addr = view.local_addr()?.into();
            // SAFETY: header, "Pointers": NULL, or buf is writable for capacity bytes.
            unsafe { write_address(operation, &addr, buf, capacity) }
        })
    }))
}

/// Writes the text of the peer's address to buf, as echoloop_udp_local_addr() does. -ENOTCONN when
/// the socket is not connected.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_udp_peer_addr(
    udp: *mut echoloop_udp,
    buf: *mut c_char,
    capacity: usize,
) -> c_int {
    let operation = "peer address of udp";
    returned(check_out(operation, buf).and_then(|()| {
        lend_udp(operation, udp, |view| match view.peer_addr() {
            // SAFETY: header, "Pointers": NULL, or buf is writable for capacity bytes.
            Some(peer) => unsafe { write_address(operation, &peer.into(), buf, capacity) },
            None => {
                let why = format_args!("the socket is not connected");
                Err(Refused::because(operation, -libc::ENOTCONN, why))
            }
        })
    }))
}

/// Lends a UDP socket.
#[inline]
pub(crate) fn lend_udp<R>(
    operation: &'static str,
    udp: *mut echoloop_udp,
    act: impl FnOnce(&mut Udp<'_>) -> Result<R, Refused>,
) -> Result<R, Refused> {
    lend(operation, raw(udp), Kind::Udp, |el| {
        match el.udp(UdpId::from_raw(raw(udp))) {
            Ok(mut view) => act(&mut view),
            Err(_) => Err(Refused::new(operation, ECHOLOOP_EBADHANDLE)),
        }
    })
}

/// A second descriptor of the same open file: what becomes of it leaves the first one alone.
fn duplicate(operation: &'static str, fd: c_int) -> Result<OwnedFd, Refused> {
    // SAFETY: fcntl(2) takes any number for a descriptor, and answers with a new one or an error.
    let duplicate = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) };
    if duplicate < 0 {
        let e = io::Error::last_os_error();
        let errno = e.raw_os_error().unwrap_or(libc::EBADF);
        return Err(Refused::because(operation, -errno, format_args!("{e}")));
    }
    // SAFETY: it is open and nobody else's: it was made just now.
    Ok(unsafe { OwnedFd::from_raw_fd(duplicate) })
}
