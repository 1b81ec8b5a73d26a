//! Functions on a listener: its address, its end, its socket from elsewhere and for elsewhere.

use std::ffi::{c_char, c_int};
use std::os::fd::IntoRawFd;

use echoloop_core::{Error, ErrorKind, Kind, ListenerId};

use crate::adopt::take_descriptor;
use crate::detail::returned;
use crate::guard::{lend, lend_server};
use crate::handle::{handle, raw};
use crate::pointer::{check_out, read_sized, write, write_address};
use crate::{echoloop, echoloop_listen_options, echoloop_listener};

/// Writes the text of the address a listener listens on to buf, with the port that the system
/// chose, and returns its length without the end mark. ECHOLOOP_ADDR_MAX bytes always suffice;
/// ECHOLOOP_EINVAL if capacity does not.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_listener_addr(
    listener: *mut echoloop_listener,
    buf: *mut c_char,
    capacity: usize,
) -> c_int {
    let id = raw(listener);
    returned(lend("listener address", id, Kind::Listener, |el| {
        let addr = el.listener_addr(ListenerId::from_raw(id))?;
        // SAFETY: header, "Pointers": NULL, or buf is writable for capacity bytes.
        unsafe { write_address("listener address", &addr, buf, capacity) }
    }))
}

/// Stops listening. Connections that were accepted stay.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_listener_close(listener: *mut echoloop_listener) -> c_int {
    let id = raw(listener);
    returned(lend("close listener", id, Kind::Listener, |el| {
        el.close_listener(ListenerId::from_raw(id))?;
        Ok(0)
    }))
}

/// Listens on a socket that listens already, TCP or Unix: one of echoloop_inherited(), say, or a
/// duplicate by echoloop_listener_share(). options may be NULL; of them those count that are not of the
/// socket's making: conn, defer_accept_us, fast_open. Who waits in its backlog is accepted. A Unix
/// socket's file is never removed.
///
/// On success fd is the loop's; after an error it is still open, and the caller's (it may be
/// non-blocking by then). fd must be the program's own, not one that another loop or library has.
/// Errors: -EBADF, -ENOTSOCK, -EMFILE; ECHOLOOP_EINVAL for one that is no stream socket, or does not
/// listen; the system's for an option that it refuses; ECHOLOOP_ECLOSING for a server that drains.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_adopt_listener(
    r#loop: *mut echoloop,
    fd: c_int,
    options: *const echoloop_listen_options,
    out: *mut *mut echoloop_listener,
) -> c_int {
    const OPERATION: &str = "adopt listener";
    returned(check_out(OPERATION, out).and_then(|()| {
        // SAFETY: header, "Structs": NULL, or readable for its size.
        let options = unsafe { read_sized(OPERATION, options) }?.unwrap_or_default();
        // SAFETY: header, "Pointers".
        let options = unsafe { options.convert() }?;
        let listener = lend_server(OPERATION, raw(r#loop), Kind::Loop, |server| {
            // SAFETY: header, "Pointers": a descriptor that is passed is the program's own.
            let socket = unsafe { take_descriptor(OPERATION, fd) }?;
            // The core closes what it refuses, so it gets a duplicate.
            let adopted = socket
                .try_clone()
                .map_err(|e| {
                    let errno = e.raw_os_error().unwrap_or_default();
                    Error::new(OPERATION, ErrorKind::Os(errno))
                })
                .and_then(|duplicate| server.adopt_listener(duplicate, Some(&options)));
            if adopted.is_err() {
                let _ = socket.into_raw_fd(); // Stays open, and the caller's.
            }
            Ok(adopted?)
        })?;
        // SAFETY: header, "Pointers": out is writable for a handle; it is not NULL.
        unsafe { write(out, handle(listener.to_raw())) };
        Ok(0)
    }))
}

/// Returns a duplicate of a listener's socket, close-on-exec, for another process or loop to listen on
/// (echoloop_adopt_listener()); it is the caller's. The listener goes on here until it is closed; then
/// who knocks is the other's, and nobody is turned away. A Unix socket's file is removed at the close
/// only if nobody else has the socket. Errors: -EMFILE.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_listener_share(listener: *mut echoloop_listener) -> c_int {
    let id = raw(listener);
    returned(lend("share listener", id, Kind::Listener, |el| {
        let shared = el.share_listener(ListenerId::from_raw(id))?;
        Ok(shared.into_raw_fd())
    }))
}
