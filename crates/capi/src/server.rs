//! Functions on a server.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;

use ::echoloop_server::{Echo, Report};
use echoloop_core::{Addr, Kind};

use crate::detail::{Refused, returned};
use crate::event_loop::make;
use crate::guard::{lend_server, occupy};
use crate::handle::{handle, raw};
use crate::ip::ip_with_port;
use crate::options::time;
use crate::pointer::{check_sized, read_sized, write, write_address, write_sized};
use crate::registry::{self, LoopCell};
use crate::{
    ECHOLOOP_ECLOSED, ECHOLOOP_EINVAL, echoloop, echoloop_hooks, echoloop_listen_options,
    echoloop_listener, echoloop_report, echoloop_server, echoloop_server_counters,
    echoloop_server_options, echoloop_udp, echoloop_udp_options, run, watch,
};

/// Makes a server that belongs to this thread; it owns a loop. options may be NULL. Returns NULL
/// on failure, as echoloop_new(). End it with echoloop_server_free().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_server_new(
    options: *const echoloop_server_options,
) -> *mut echoloop_server {
    // SAFETY: header, "Structs": NULL, or readable for its size.
    let options = unsafe { read_sized("create server", options) };
    let made = options.and_then(|options| {
        // SAFETY: header, "Pointers".
        let builder = unsafe { options.unwrap_or_default().convert() }?;
        make("create server", Kind::Server, || builder.build())
    });
    made.map_or(ptr::null_mut(), handle)
}

/// The loop of a server, for all functions on loops, connects and timers. NULL on failure. It
/// belongs to the server.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_server_loop(server: *mut echoloop_server) -> *mut echoloop {
    let cell = registry::exact("loop of server", raw(server), Kind::Server);
    cell.map_or(ptr::null_mut(), |cell| handle(cell.loop_handle))
}

/// Listens on one more address, as echoloop_listen(). Where options is NULL, the connections have
/// the server's options; out may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_server_listen(
    server: *mut echoloop_server,
    addr: *const c_char,
    options: *const echoloop_listen_options,
    out: *mut *mut echoloop_listener,
) -> c_int {
    // SAFETY: header, "Pointers": NULL, or a string with an end mark.
    let addr = unsafe { crate::addr::addr("listen", addr) };
    returned(addr.and_then(|addr| {
        // SAFETY: header, "Structs": NULL, or readable for its size.
        let options = unsafe { read_sized("listen", options) }?;
        let options = match options {
            // SAFETY: header, "Pointers".
            Some(options) => Some(unsafe { options.convert() }?),
            None => None,
        };
        let listener = lend_server("listen", raw(server), Kind::Server, |server| {
            Ok(server.listen(addr, options.as_ref())?)
        })?;
        if !out.is_null() {
            // SAFETY: header, "Pointers": out is writable for a handle; it is not NULL.
            unsafe { write(out, handle(listener.to_raw())) };
        }
        Ok(0)
    }))
}

/// Opens one more UDP socket, as echoloop_udp_bind(); a drain closes it. Where options is NULL, it has
/// the server's options; out may be NULL. ECHOLOOP_ECLOSING once a drain has begun.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_server_bind_udp(
    server: *mut echoloop_server,
    addr: *const c_char,
    options: *const echoloop_udp_options,
    out: *mut *mut echoloop_udp,
) -> c_int {
    let operation = "bind udp";
    // SAFETY: header, "Pointers": NULL, or a string with an end mark.
    let addr = unsafe { ip_with_port(operation, addr) };
    returned(addr.and_then(|addr| {
        // SAFETY: header, "Structs": NULL, or readable for its size.
        let options = match unsafe { read_sized(operation, options) }? {
            // SAFETY: header, "Pointers".
            Some(options) => Some(unsafe { options.convert(operation) }?),
            None => None,
        };
        let udp = lend_server(operation, raw(server), Kind::Server, |server| {
            Ok(server.bind_udp(addr, options.as_ref())?)
        })?;
        if !out.is_null() {
            // SAFETY: header, "Pointers": out is writable for a handle; it is not NULL.
            unsafe { write(out, handle(udp.to_raw())) };
        }
        Ok(0)
    }))
}

/// Serves one more socket, which was opened elsewhere: a listener, or a bound UDP socket, such as one
/// of echoloop_inherited(); with the server's options. The descriptor is the server's from now on:
/// the program closes it only if this fails. Errors: -EBADF, -EMFILE, ECHOLOOP_ECLOSING,
/// ECHOLOOP_EINVAL or -errno for a descriptor that is neither.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_server_inherit(server: *mut echoloop_server, fd: c_int) -> c_int {
    returned(lend_server(
        "inherit",
        raw(server),
        Kind::Server,
        |server| {
            server.inherit(watch::borrow("inherit", fd)?)?;
            // SAFETY: it is open, as it has a duplicate, and ours from now on.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
            Ok(0)
        },
    ))
}

/// Writes the text of the address of the i-th listener (0 is the first) to buf, with the port that the
/// system chose, and returns its length without the end mark. ECHOLOOP_ADDR_MAX bytes always suffice.
/// ECHOLOOP_EINVAL if there are not so many, as after a drain has begun, or capacity is too small.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_server_addr(
    server: *mut echoloop_server,
    i: usize,
    buf: *mut c_char,
    capacity: usize,
) -> c_int {
    let of = "address of server";
    let addrs = lend_server(of, raw(server), Kind::Server, |server| {
        Ok(server.local_addrs())
    });
    // SAFETY: header, "Pointers": NULL, or buf is writable for capacity bytes.
    returned(addrs.and_then(|addrs| unsafe { write_nth(of, &addrs, i, buf, capacity) }))
}

/// The same of the i-th UDP socket.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_server_udp_addr(
    server: *mut echoloop_server,
    i: usize,
    buf: *mut c_char,
    capacity: usize,
) -> c_int {
    let of = "UDP address of server";
    let addrs = lend_server(of, raw(server), Kind::Server, |server| {
        Ok(server.udp_addrs())
    });
    // SAFETY: header, "Pointers": NULL, or buf is writable for capacity bytes.
    returned(addrs.and_then(|addrs| unsafe { write_nth(of, &addrs, i, buf, capacity) }))
}

/// Serves until it is stopped (echoloop_remote_stop(), echoloop_stop()), then drains: no more is
/// accepted, connections are served on for the drain grace, then every one is flushed and closed,
/// within the drain deadline. A second stop ends the grace, or, where there is none, cuts what is
/// left; so does a third. Returns 0, with *report filled (report->size must be set; report may be NULL).
/// hooks may be NULL: then it is an echo server, with no callback at all. ECHOLOOP_ECLOSED if the
/// server was freed meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_server_run(
    server: *mut echoloop_server,
    hooks: *const echoloop_hooks,
    user: *mut c_void,
    report: *mut echoloop_report,
) -> c_int {
    // SAFETY: header, "Structs": NULL, or readable for its size.
    let hooks = unsafe { read_sized("run server", hooks) };
    returned(hooks.and_then(|hooks| {
        let size = match report.is_null() {
            true => 0,
            // SAFETY: header, "Structs": readable and writable for its size.
            false => unsafe { check_sized("run server", report) }?,
        };
        let mut drained = Report::default();
        occupy("run server", raw(server), Kind::Server, |cell| {
            drained = serve(cell, hooks.as_ref(), user)?;
            Ok(0)
        })?;
        if !report.is_null() {
            // SAFETY: passed `check_sized`, which said `size`.
            unsafe { write_sized(report, size, &echoloop_report::of(drained)) };
        }
        Ok(0)
    }))
}

/// Begins to drain, as a stop does: no more is accepted, connections are served on for the drain
/// grace, then every one is flushed and closed, within the drain deadline. A second call ends the
/// grace, or, where there is none, cuts what is left; so does a third. echoloop_server_run() returns
/// when it has ended; in a program that polls, which is told of stops as ECHOLOOP_EVENT_STOP and
/// calls this for each, echoloop_server_report() tells when. A server drains once: from then on it
/// neither listens nor connects (ECHOLOOP_ECLOSING).
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_server_drain(server: *mut echoloop_server) -> c_int {
    returned(lend_server("drain", raw(server), Kind::Server, |server| {
        server.stop();
        Ok(0)
    }))
}

/// Begins to drain with another grace than drain_grace_us: for a restart, where what replaces this
/// server is ready, and who was accepted here is served on. 0 or negative: none. Once a drain has
/// begun this changes nothing.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_server_drain_with_grace(
    server: *mut echoloop_server,
    grace_us: i64,
) -> c_int {
    let grace = time(grace_us, None).unwrap_or_default();
    returned(lend_server("drain", raw(server), Kind::Server, |server| {
        server.drain_with_grace(grace);
        Ok(0)
    }))
}

/// Whether a drain has ended: 1, with *report filled (report->size must be set; report may be
/// NULL); 0 when it has not, or none was begun.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_server_report(
    server: *mut echoloop_server,
    report: *mut echoloop_report,
) -> c_int {
    let size = match report.is_null() {
        true => Ok(0),
        // SAFETY: header, "Structs": readable and writable for its size.
        false => unsafe { check_sized("report", report) },
    };
    returned(size.and_then(|size| {
        let ended = lend_server("report", raw(server), Kind::Server, |server| {
            Ok(server.report())
        })?;
        let Some(drained) = ended else { return Ok(0) };
        if !report.is_null() {
            // SAFETY: passed `check_sized`, which said `size`.
            unsafe { write_sized(report, size, &echoloop_report::of(drained)) };
        }
        Ok(1)
    }))
}

/// Fills *out with what the server counts; out->size must be set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_server_counters_get(
    server: *mut echoloop_server,
    out: *mut echoloop_server_counters,
) -> c_int {
    // SAFETY: header, "Structs": NULL, or readable and writable for its size.
    let size = unsafe { check_sized("server counters", out) };
    returned(size.and_then(|size| {
        let value = lend_server("server counters", raw(server), Kind::Server, |server| {
            Ok(echoloop_server_counters::of(server.counters()))
        })?;
        // SAFETY: passed `check_sized`, which said `size`.
        unsafe { write_sized(out, size, &value) };
        Ok(0)
    }))
}

/// Frees a server and its loop, as echoloop_free() frees a loop, and with the same rules in
/// callbacks and on other threads.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_server_free(server: *mut echoloop_server) -> c_int {
    returned(registry::free("free server", raw(server), Kind::Server).map(|()| 0))
}

pub(crate) fn serve(
    cell: &LoopCell,
    hooks: Option<&echoloop_hooks>,
    user: *mut c_void,
) -> Result<Report, Refused> {
    let drained = match hooks {
        Some(hooks) => run::until_drained(cell, hooks, user)?,
        None => {
            let mut server = cell.server.borrow_mut();
            if cell.stop.take() {
                server.stop();
            }
            Some(server.run(&mut Echo)?)
        }
    };
    drained.ok_or_else(|| Refused::new("run server", ECHOLOOP_ECLOSED))
}

/// Writes one of several addresses.
///
/// # Safety
///
/// `buf` is NULL or writable for `capacity` bytes.
pub(crate) unsafe fn write_nth(
    operation: &'static str,
    addrs: &[Addr],
    i: usize,
    buf: *mut c_char,
    capacity: usize,
) -> Result<c_int, Refused> {
    let Some(addr) = addrs.get(i) else {
        let why = format_args!("there are {}, counted from 0", addrs.len());
        return Err(Refused::because(operation, ECHOLOOP_EINVAL, why));
    };
    // SAFETY: the caller's.
    unsafe { write_address(operation, addr, buf, capacity) }
}
