//! Functions on a server.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;

use ::echoloop_server::{Echo, Report};
use echoloop_core::Kind;

use crate::detail::{Refused, returned};
use crate::event_loop::make;
use crate::guard::{lend_server, occupy};
use crate::handle::{handle, raw};
use crate::pointer::{address, check_sized, read_sized, write, write_sized};
use crate::registry::{self, LoopCell};
use crate::{
    ECHOLOOP_ECLOSED, echoloop, echoloop_hooks, echoloop_listen_options, echoloop_listener,
    echoloop_report, echoloop_server, echoloop_server_counters, echoloop_server_options, run,
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
    let addr = unsafe { address("listen", addr) };
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

/// Serves until it is stopped (echoloop_remote_stop(), echoloop_stop()), then drains: no more is
/// accepted, every connection is flushed and closed, within the drain deadline. A second stop cuts
/// what is left. Returns 0, with *report filled (report->size must be set; report may be NULL).
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
            unsafe { write_sized(report, size, &reported(drained)) };
        }
        Ok(0)
    }))
}

/// Begins to drain, as a stop does: no more is accepted, and every connection is flushed and closed
/// within the drain deadline. A second call cuts what is left. echoloop_server_run() returns when
/// it has ended; in a program that polls, echoloop_server_report() tells when. A server drains
/// once: from then on it neither listens nor connects (ECHOLOOP_ECLOSING).
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_server_drain(server: *mut echoloop_server) -> c_int {
    returned(lend_server("drain", raw(server), Kind::Server, |server| {
        if server.is_draining() {
            server.abort_all();
        }
        server.drain();
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
            unsafe { write_sized(report, size, &reported(drained)) };
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
        let c = lend_server("server counters", raw(server), Kind::Server, |server| {
            Ok(server.counters())
        })?;
        let value = echoloop_server_counters {
            size,
            refused: c.refused,
            timed_out: c.timed_out,
            bytes_lost: c.bytes_lost,
            most_open: c.most_open,
        };
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

fn serve(
    cell: &LoopCell,
    hooks: Option<&echoloop_hooks>,
    user: *mut c_void,
) -> Result<Report, Refused> {
    let drained = match hooks {
        Some(hooks) => run::until_drained(cell, hooks, user)?,
        None => {
            let mut server = cell.server.borrow_mut();
            if cell.stop.take() {
                server.drain();
            }
            Some(server.run(&mut Echo)?)
        }
    };
    drained.ok_or_else(|| Refused::new("run server", ECHOLOOP_ECLOSED))
}

fn reported(report: Report) -> echoloop_report {
    echoloop_report {
        size: size_of::<echoloop_report>(),
        closed_clean: report.closed_clean,
        aborted: report.aborted,
        bytes_lost: report.bytes_lost,
    }
}
