//! What is known of a connection: how it came, who is at the other end, what was tried.
//!
//! The rule: nothing here changes anything. What belongs to a connect under way is good until the
//! callback of its CONNECTED or CLOSED returns; later there is nothing left to tell.

use std::ffi::{c_char, c_int};
use std::ptr;

use echoloop_core::Origin;

use crate::addr::AddrText;
use crate::detail::{Refused, returned};
use crate::guard::lend_conn;
use crate::handle::handle;
use crate::pointer::{check_out, check_sized, write, write_address, write_sized, write_text};
use crate::{ECHOLOOP_EINVAL, echoloop_conn, echoloop_listener};

/// A listener accepted the connection.
pub const ECHOLOOP_ORIGIN_ACCEPTED: c_int = 1;
/// echoloop_connect() asked for it.
pub const ECHOLOOP_ORIGIN_CONNECTED: c_int = 2;
/// It was adopted (echoloop_adopt()), or handed over by another loop.
pub const ECHOLOOP_ORIGIN_ADOPTED: c_int = 3;

/// Who is at the other end of a Unix socket, as of when it connected or listened. Start with
/// ECHOLOOP_CREDENTIALS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct echoloop_credentials {
    /// sizeof(echoloop_credentials); ECHOLOOP_CREDENTIALS_INIT sets it.
    pub size: usize,
    /// The process; 0 for one that this process can't see, in another pid namespace. It may have
    /// ended, and its number may be another's, by the time it is looked at.
    pub pid: i64,
    /// The effective user.
    pub uid: u32,
    /// The effective group.
    pub gid: u32,
}

/// How a connection came to its loop: returns ECHOLOOP_ORIGIN_... and, where out_listener is not
/// NULL, writes to it the listener that accepted the connection, which may be closed by now, or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_conn_origin(
    conn: *mut echoloop_conn,
    out_listener: *mut *mut echoloop_listener,
) -> c_int {
    returned(lend_conn("origin", conn, |view| {
        let (origin, listener) = match view.origin() {
            Origin::Accepted(listener) => (ECHOLOOP_ORIGIN_ACCEPTED, handle(listener.to_raw())),
            Origin::Connected => (ECHOLOOP_ORIGIN_CONNECTED, ptr::null_mut()),
            Origin::Adopted => (ECHOLOOP_ORIGIN_ADOPTED, ptr::null_mut()),
            // What a later core may add.
            _ => (c_int::MAX, ptr::null_mut()),
        };
        if !out_listener.is_null() {
            // SAFETY: header, "Pointers": out_listener is writable for a handle; it is not NULL.
            unsafe { write(out_listener, listener) };
        }
        Ok(origin)
    }))
}

/// Fills *out with who is at the other end of a Unix socket; out->size must be set. Errors:
/// -EOPNOTSUPP for other sockets, -ENOSYS where the system has no SO_PEERCRED, -EBADF once the
/// connection is dead, or while it is not made yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_conn_peer_credentials(
    conn: *mut echoloop_conn,
    out: *mut echoloop_credentials,
) -> c_int {
    // SAFETY: header, "Structs": NULL, or readable and writable for its size.
    let size = unsafe { check_sized("peer credentials", out) };
    returned(size.and_then(|size| {
        let peer = lend_conn(
            "peer credentials",
            conn,
            |view| Ok(view.peer_credentials()?),
        )?;
        let value = echoloop_credentials {
            size,
            pid: peer.pid.map_or(0, i64::from),
            uid: peer.uid,
            gid: peer.gid,
        };
        // SAFETY: passed `check_sized`, which said `size`.
        unsafe { write_sized(out, size, &value) };
        Ok(0)
    }))
}

/// Writes the text of what was asked for to buf: of a connect by name the name and port, until the
/// callback of its CONNECTED or CLOSED returns; otherwise the peer's address. Returns its length
/// without the end mark. ECHOLOOP_ADDR_MAX bytes always suffice; ECHOLOOP_EINVAL if capacity does not.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_conn_target(
    conn: *mut echoloop_conn,
    buf: *mut c_char,
    capacity: usize,
) -> c_int {
    returned(lend_conn("target", conn, |view| {
        let text = AddrText::of_target(&view.target());
        // SAFETY: header, "Pointers": NULL, or buf is writable for capacity bytes.
        unsafe { write_text("target", text.with_end(), buf, capacity) }
    }))
}

/// How many addresses a connect by name has tried so far, for echoloop_conn_attempt(); 0 once the
/// callback of its CONNECTED or CLOSED has returned. A connect to an address tries just that, and
/// has 0, unless it had to wait.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_conn_attempts(conn: *mut echoloop_conn) -> c_int {
    returned(lend_conn("attempts", conn, |view| {
        Ok(view.attempts().len() as c_int) // At most 64.
    }))
}

/// Writes the address that was tried as number i, from 0, to buf, as echoloop_conn_peer_addr() does,
/// and, where status is not NULL, the error with which it failed to *status: 0 for the one that won,
/// and for those that had no answer when another won. ECHOLOOP_EINVAL if there were fewer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_conn_attempt(
    conn: *mut echoloop_conn,
    i: usize,
    buf: *mut c_char,
    capacity: usize,
    status: *mut c_int,
) -> c_int {
    const OPERATION: &str = "attempt";
    returned(check_out(OPERATION, buf).and_then(|()| {
        lend_conn(OPERATION, conn, |view| {
            let Some(tried) = view.attempts().get(i) else {
                let why = format_args!("fewer addresses were tried");
                return Err(Refused::because(OPERATION, ECHOLOOP_EINVAL, why));
            };
            // SAFETY: header, "Pointers": buf is writable for capacity bytes.
            let len = unsafe { write_address(OPERATION, &tried.addr, buf, capacity) }?;
            if !status.is_null() {
                // SAFETY: header, "Pointers": status is writable for an int; it is not NULL.
                unsafe { write(status, tried.errno.map_or(0, |errno| -errno)) };
            }
            Ok(len)
        })
    }))
}

/// Whether echoloop_conn_send() may still succeed: 1, or 0 for a connection that is closing or dead
/// or has shut down its writing side.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_conn_may_send(conn: *mut echoloop_conn) -> c_int {
    returned(lend_conn("may send", conn, |view| {
        Ok(view.may_send().into())
    }))
}
