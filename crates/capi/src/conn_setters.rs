//! Options of a connection that may change while it lives.
//!
//! The rule: the numbers mean what they mean in echoloop_conn_options, save that 0 is none here: there
//! is no default to go back to. What the kernel refuses changes nothing.

use std::ffi::c_int;

use crate::detail::returned;
use crate::echoloop_conn;
use crate::guard::lend_conn;
use crate::options::{given, keepalive, rate, time};

/// Sets how long the connection may live, counted from when it was made: it is then closed in order,
/// however busy it is; in the next turn if that time is over. 0 or negative: for ever.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_conn_set_lifetime(conn: *mut echoloop_conn, lifetime_us: i64) -> c_int {
    returned(lend_conn("set lifetime", conn, |view| {
        view.set_lifetime(time(lifetime_us, None));
        Ok(0)
    }))
}

/// Bounds what is read: so many bytes a second and, after a silence, burst at once (0: those of a
/// second). What is beyond stays in the kernel, so TCP slows the sender down. A bytes_per_second of 0
/// or negative: no bound.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_conn_set_receive_rate(
    conn: *mut echoloop_conn,
    bytes_per_second: i64,
    burst: i64,
) -> c_int {
    returned(lend_conn("set receive rate", conn, |view| {
        view.set_receive_rate(rate(bytes_per_second, burst));
        Ok(0)
    }))
}

/// Switches TCP_NODELAY, tcp(7), on (not 0) or off (0). Errors: -EOPNOTSUPP on a Unix socket; -EBADF
/// while there is no socket: once the connection is dead, and as long as it is being made by name.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_conn_set_no_delay(conn: *mut echoloop_conn, on: c_int) -> c_int {
    returned(lend_conn("set TCP_NODELAY", conn, |view| {
        view.set_nodelay(on != 0)?;
        Ok(0)
    }))
}

/// Sets SO_KEEPALIVE, socket(7), with the times and count of echoloop_conn_options: keepalive_us (0 or
/// negative: off), keepalive_interval_us (0: 10 s), keepalive_count (0: 6). Errors: as
/// echoloop_conn_set_no_delay(); -EINVAL for what Linux does not take: above 32,767 s, or more than
/// 127 questions.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_conn_set_keepalive(
    conn: *mut echoloop_conn,
    idle_us: i64,
    interval_us: i64,
    count: i64,
) -> c_int {
    returned(lend_conn("set SO_KEEPALIVE", conn, |view| {
        view.set_keepalive(keepalive(idle_us, interval_us, count))?;
        Ok(0)
    }))
}

/// Sets TCP_NOTSENT_LOWAT, tcp(7), in bytes: the kernel takes no more while so much was not sent yet.
/// 0 or negative: all that fits its buffer. Errors: as echoloop_conn_set_no_delay().
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_conn_set_notsent_lowat(conn: *mut echoloop_conn, bytes: i64) -> c_int {
    returned(lend_conn("set TCP_NOTSENT_LOWAT", conn, |view| {
        view.set_notsent_lowat(given(bytes))?;
        Ok(0)
    }))
}
