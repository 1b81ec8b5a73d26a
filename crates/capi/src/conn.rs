//! Functions on a connection.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;

use echoloop_core::{ConnId, Kind};

use crate::detail::returned;
use crate::echoloop_conn;
use crate::guard::{lend, lend_conn};
use crate::handle::raw;
use crate::options::time;
use crate::pointer::{bytes, check_out, write, write_address};
use crate::registry::find_mine;

/// Sends len bytes: all are taken, in order, or none. Never blocks; what the kernel does not take
/// is queued. Small sends of one callback or batch leave together at its end, large ones at once.
/// data is read before the call returns. Errors: ECHOLOOP_EQUEUEFULL while more than send_cap
/// waits (send again after DRAINED, or leave the bytes that ask for it unread), ECHOLOOP_ECLOSING after close, abort, shutdown_write or the
/// connection's death, ECHOLOOP_ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_conn_send(
    conn: *mut echoloop_conn,
    data: *const c_void,
    len: usize,
) -> c_int {
    // The short way of an echo: nothing in it can fail or panic, and data is only compared.
    let id = ConnId::from_raw(raw(conn));
    if let Some(cell) = find_mine(raw(conn))
        && cell.server.try_borrow_mut().is_ok()
    {
        // SAFETY: nobody has borrowed it, and `send_in_place` calls nothing that could. (A borrow
        // held meanwhile would be written down and taken back, for each message.)
        let server = unsafe { &mut *cell.server.as_ptr() };
        if server.event_loop().send_in_place(id, data.addr(), len) {
            return 0;
        }
    }
    // SAFETY: the caller's.
    unsafe { send_of_batch(conn, data, len) }
}

/// The short way of what a batch has handed out, apart from the other one, which would pay for it.
///
/// # Safety
///
/// As [`echoloop_conn_send`].
#[inline(never)]
unsafe fn send_of_batch(conn: *mut echoloop_conn, data: *const c_void, len: usize) -> c_int {
    let id = ConnId::from_raw(raw(conn));
    if let Some(cell) = find_mine(raw(conn))
        && let Ok(mut server) = cell.server.try_borrow_mut()
        && server.event_loop().send_of_batch(id, data.addr(), len)
    {
        return 0;
    }
    // SAFETY: the caller's.
    unsafe { send_unusual(conn, data, len) }
}

/// Sends the long way.
///
/// # Safety
///
/// As [`echoloop_conn_send`].
#[inline(never)]
unsafe fn send_unusual(conn: *mut echoloop_conn, data: *const c_void, len: usize) -> c_int {
    returned(lend("send", raw(conn), Kind::Conn, |el| {
        // SAFETY: the caller's.
        let bytes = unsafe { bytes("send", data, len) }?;
        el.send(ConnId::from_raw(raw(conn)), bytes)?;
        Ok(0)
    }))
}

/// Puts bytes back in front of what is unread, as ungetc(3) does: they are offered again together
/// with what arrives next. For batches; in on_data simply return a smaller count. Errors:
/// ECHOLOOP_EQUEUEFULL if more than max_unread would be unread, ECHOLOOP_ECLOSING,
/// ECHOLOOP_ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_conn_unread(
    conn: *mut echoloop_conn,
    data: *const c_void,
    len: usize,
) -> c_int {
    returned(lend_conn("unread", conn, |view| {
        // SAFETY: header, "Pointers": data is readable for len bytes during the call. It may be
        // data of a batch: that is in the batch's memory or the read buffer, written by neither.
        let bytes = unsafe { bytes("unread", data, len) }?;
        view.put_back(bytes)?;
        Ok(0)
    }))
}

/// Hands the kernel what was gathered so far, without waiting for the end of the callback or
/// batch. Returns 0; echoloop_conn_queued() tells what still waits.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_conn_flush(conn: *mut echoloop_conn) -> c_int {
    returned(lend_conn("flush", conn, |view| {
        view.flush();
        Ok(0)
    }))
}

/// Bytes that wait to be taken by the kernel. Negative: a status code.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_conn_queued(conn: *mut echoloop_conn) -> i64 {
    let queued = lend_conn("queued", conn, |view| Ok(view.queued()));
    queued.map_or_else(|refused| refused.status().into(), |n| n as i64)
}

/// Stops reading until echoloop_conn_resume(). What the kernel holds stays there, and the peer
/// stops sending when its window is full. A reset is still noticed.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_conn_pause(conn: *mut echoloop_conn) -> c_int {
    returned(lend_conn("pause", conn, |view| {
        view.pause();
        Ok(0)
    }))
}

/// Reads again after echoloop_conn_pause(). What is unread is offered again at once.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_conn_resume(conn: *mut echoloop_conn) -> c_int {
    returned(lend_conn("resume", conn, |view| {
        view.resume();
        Ok(0)
    }))
}

/// Finishes sending (half-close): the peer sees end of stream after all that was sent. Receiving
/// goes on. A second call does nothing. Errors: ECHOLOOP_ECLOSING.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_conn_shutdown_write(conn: *mut echoloop_conn) -> c_int {
    returned(lend_conn("shutdown_write", conn, |view| {
        view.shutdown_write()?;
        Ok(0)
    }))
}

/// Closes in order: what was sent is flushed, the peer sees end of stream, and CLOSED follows, at
/// the latest after close_timeout_us. No more data is handed out, save what a batch holds already.
/// A second call does nothing.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_conn_close(conn: *mut echoloop_conn) -> c_int {
    returned(lend_conn("close", conn, |view| {
        view.close();
        Ok(0)
    }))
}

/// Resets the connection at once. What the kernel had not taken is lost, and counted in CLOSED.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_conn_abort(conn: *mut echoloop_conn) -> c_int {
    returned(lend_conn("abort", conn, |view| {
        view.abort();
        Ok(0)
    }))
}

/// Keeps a pointer of the program's own with the connection; the library never follows it.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_conn_set_user(conn: *mut echoloop_conn, user: *mut c_void) -> c_int {
    returned(lend_conn("set user", conn, |view| {
        view.set_user_data(user.expose_provenance() as u64);
        Ok(0)
    }))
}

/// Writes what echoloop_conn_set_user() kept to *out; NULL until it was set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_conn_user(
    conn: *mut echoloop_conn,
    out: *mut *mut c_void,
) -> c_int {
    returned(check_out("user", out).and_then(|()| {
        let user = lend_conn("user", conn, |view| Ok(view.user_data()))?;
        // SAFETY: header, "Pointers": out is writable for a pointer; it is not NULL.
        unsafe { write(out, ptr::with_exposed_provenance_mut(user as usize)) };
        Ok(0)
    }))
}

/// Writes the text of the peer's address to buf and returns its length without the end mark.
/// ECHOLOOP_ADDR_MAX bytes always suffice; ECHOLOOP_EINVAL if capacity does not.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_conn_peer_addr(
    conn: *mut echoloop_conn,
    buf: *mut c_char,
    capacity: usize,
) -> c_int {
    returned(lend_conn("peer address", conn, |view| {
        // SAFETY: header, "Pointers": NULL, or buf is writable for capacity bytes.
        unsafe { write_address("peer address", view.peer_addr(), buf, capacity) }
    }))
}

/// Writes the text of this side's address to buf, as echoloop_conn_peer_addr() does. -EBADF once
/// the connection is dead.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_conn_local_addr(
    conn: *mut echoloop_conn,
    buf: *mut c_char,
    capacity: usize,
) -> c_int {
    returned(lend_conn("local address", conn, |view| {
        let addr = view.local_addr()?;
        // SAFETY: header, "Pointers": NULL, or buf is writable for capacity bytes.
        unsafe { write_address("local address", &addr, buf, capacity) }
    }))
}

/// Switches off (0) or on (not 0) that reading pauses by itself above the high mark.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_conn_set_auto_pause(conn: *mut echoloop_conn, on: c_int) -> c_int {
    returned(lend_conn("set auto pause", conn, |view| {
        view.set_auto_pause(on != 0);
        Ok(0)
    }))
}

/// Sets the idle timeout, counted from the last byte that moved; 0 or negative: none.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_conn_set_idle_timeout(
    conn: *mut echoloop_conn,
    timeout_us: i64,
) -> c_int {
    returned(lend_conn("set idle timeout", conn, |view| {
        view.set_idle_timeout(time(timeout_us, None));
        Ok(0)
    }))
}

/// Sets the write-stall timeout, counted from the last byte the peer took; 0 or negative: none.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_conn_set_write_stall_timeout(
    conn: *mut echoloop_conn,
    timeout_us: i64,
) -> c_int {
    returned(lend_conn("set write-stall timeout", conn, |view| {
        view.set_write_stall_timeout(time(timeout_us, None));
        Ok(0)
    }))
}
