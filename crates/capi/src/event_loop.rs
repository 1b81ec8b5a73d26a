//! Functions on a loop: make, free, stop, listen, connect, ask.

use std::ffi::{c_char, c_int};
use std::ptr;
use std::time::Duration;

use echoloop_core::Kind;
use echoloop_server::Server;

use crate::addr::target;
use crate::callbacks::call_own;
use crate::detail::{Refused, returned};
use crate::guard::{lend_server, occupy, occupy_cell};
use crate::handle::{handle, raw};
use crate::options::timeout;
use crate::pointer::{check_out, check_sized, read_sized, write, write_sized};
use crate::{
    bug, echoloop, echoloop_conn, echoloop_connect_options, echoloop_counters, echoloop_event,
    echoloop_listen_options, echoloop_listener, echoloop_options, nested, own, registry, remote,
    selector, workers,
};

/// Makes a loop that belongs to this thread. options may be NULL. Returns NULL on failure
/// (echoloop_last_status(): -EMFILE, -ENOMEM, ECHOLOOP_ETOOMANY, ECHOLOOP_EINVAL). End it with
/// echoloop_free(), on this thread, before the thread ends.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_new(options: *const echoloop_options) -> *mut echoloop {
    // SAFETY: header, "Structs": NULL, or readable for its size.
    let options = unsafe { read_sized("create loop", options) };
    let made = options.and_then(|options| {
        let options = options.unwrap_or_default().convert();
        make("create loop", Kind::Loop, || {
            Server::builder().loop_options(options).build()
        })
    });
    made.map_or(ptr::null_mut(), handle)
}

/// Frees a loop with all that is in it: what was sent and not taken by the kernel is lost, no
/// further callback is called. In a callback of the same loop, the run ends when the callback
/// returns, and the loop is freed then. On another thread the owner's wait ends, and the loop is
/// freed by its next call or poll. The handle is dead in all cases: a second free gets
/// ECHOLOOP_EBADHANDLE. The loop of a server can't be freed apart from it (ECHOLOOP_EINVAL).
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_free(r#loop: *mut echoloop) -> c_int {
    returned(registry::free("free loop", raw(r#loop), Kind::Loop).map(|()| 0))
}

/// Makes echoloop_run() return 0 after the present callback, and a server begin to drain. Outside
/// of a run it is remembered for the next one, or for echoloop_poll_batch(), which hands out
/// ECHOLOOP_EVENT_STOP. On this loop's thread only; others use echoloop_remote_stop().
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_stop(r#loop: *mut echoloop) -> c_int {
    returned(
        registry::exact("stop", raw(r#loop), Kind::Loop).map(|cell| {
            cell.stop.set(true);
            cell.interrupted.set(true);
            if !cell.busy.get() {
                nested::tell_stop(cell);
            }
            0
        }),
    )
}

/// The time of this turn in microseconds since the loop was made; it stands still while callbacks
/// run. Negative: a status code.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_now_us(r#loop: *mut echoloop) -> i64 {
    let now = lend_server("now", raw(r#loop), Kind::Loop, |server| {
        Ok(server.event_loop().now())
    });
    now.map_or_else(
        |refused| refused.status().into(),
        |now| now.as_micros() as i64,
    )
}

/// Fills *out with what the loop has done so far; out->size must be set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_counters_get(
    r#loop: *mut echoloop,
    out: *mut echoloop_counters,
) -> c_int {
    // SAFETY: header, "Structs": NULL, or readable and writable for its size.
    let size = unsafe { check_sized("counters", out) };
    returned(size.and_then(|size| {
        let value = lend_server("counters", raw(r#loop), Kind::Loop, |server| {
            let el = server.event_loop();
            let (connections, buffered) = (el.connection_count() as u64, el.buffered() as u64);
            Ok(echoloop_counters::of(el.counters(), connections, buffered))
        })?;
        // SAFETY: passed `check_sized`, which said `size`.
        unsafe { write_sized(out, size, &value) };
        Ok(0)
    }))
}

/// Listens on addr, "127.0.0.1:7007", "[::]:7007", "unix:/run/x.sock" or "unix:@name"; port 0 lets the
/// system choose, and echoloop_listener_addr() tells. options may be NULL. Connections that come are
/// told by on_open or OPENED. The file of a Unix socket is made here, in the place of one that a dead
/// server has left, and removed when the listener ends. Errors: -EADDRINUSE, -EACCES, -EADDRNOTAVAIL,
/// -EMFILE, -ENOENT, -ENAMETOOLONG, ECHOLOOP_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_listen(
    r#loop: *mut echoloop,
    addr: *const c_char,
    options: *const echoloop_listen_options,
    out: *mut *mut echoloop_listener,
) -> c_int {
    returned(check_out("listen", out).and_then(|()| {
        // SAFETY: header, "Pointers": NULL, or a string with an end mark.
        let addr = unsafe { crate::addr::addr("listen", addr) }?;
        // SAFETY: header, "Structs": NULL, or readable for its size.
        let options = unsafe { read_sized("listen", options) }?.unwrap_or_default();
        // SAFETY: header, "Pointers".
        let options = unsafe { options.convert() }?;
        let listener = lend_server("listen", raw(r#loop), Kind::Loop, |server| {
            Ok(server.listen(addr, Some(&options))?)
        })?;
        // SAFETY: header, "Pointers": out is writable for a handle; it is not NULL.
        unsafe { write(out, handle(listener.to_raw())) };
        Ok(0)
    }))
}

/// Starts to connect to addr: an address as echoloop_listen() has it, or a name and a port,
/// "example.org:80". options may be NULL. The answer is one event: on_open or CONNECTED, or on_close
/// or CLOSED with the reason. Sends are taken at once and leave when the connection is made.
///
/// A name is resolved on another thread. Its addresses are tried one beside the other (RFC 8305)
/// until one connection is made; echoloop_conn_attempt() tells which. If none is, the reason is the
/// most telling error. A name that can't be resolved is a reason below ECHOLOOP_RESOLVER_BASE.
///
/// Without a free descriptor or port it waits for one, within its deadline. Errors are only those of
/// this machine that do not pass, such as -EADDRINUSE for the local address; that the peer refuses, or
/// that there is no such Unix socket (-ENOENT), is the reason of CLOSED, even when it is known at
/// once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_connect(
    r#loop: *mut echoloop,
    addr: *const c_char,
    options: *const echoloop_connect_options,
    out: *mut *mut echoloop_conn,
) -> c_int {
    returned(check_out("connect", out).and_then(|()| {
        // SAFETY: header, "Pointers": NULL, or a string with an end mark.
        let target = unsafe { target("connect", addr) }?;
        // SAFETY: header, "Structs": NULL, or readable for its size.
        let options = unsafe { read_sized("connect", options) }?.unwrap_or_default();
        // SAFETY: header, "Pointers".
        let options = unsafe { options.convert() }?;
        let conn = lend_server("connect", raw(r#loop), Kind::Loop, |server| {
            if server.is_draining() {
                return Err(Refused::new("connect", crate::ECHOLOOP_ECLOSING));
            }
            Ok(server.event_loop().connect(target, &options)?)
        })?;
        // SAFETY: header, "Pointers": out is writable for a handle; it is not NULL.
        unsafe { write(out, handle(conn.to_raw())) };
        Ok(0)
    }))
}

/// Closes all listeners and all connections, as echoloop_conn_close() does, as
/// ECHOLOOP_CLOSE_SHUT_DOWN, with deadline_us in place of each one's close_timeout_us (negative: as
/// long as they take). Timers, watches and UDP sockets go on. Run or poll until the last CLOSED:
/// echoloop_counters_get() tells how many connections there are. One that comes later, or was handed
/// over and not told yet, is not closed by this.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_shut_down(r#loop: *mut echoloop, deadline_us: i64) -> c_int {
    returned(lend_server(
        "shut down",
        raw(r#loop),
        Kind::Loop,
        |server| {
            let deadline = timeout(deadline_us).unwrap_or(Duration::MAX);
            server.event_loop().shut_down(deadline);
            Ok(0)
        },
    ))
}

/// How many handles of all kinds the process has: loops and servers (a server and its loop count
/// once), connections, listeners, timers, watches, remotes, selectors and so on. 0 when all is freed.
/// What loops of other threads hold is as of their last turn.
#[unsafe(no_mangle)]
pub extern "C" fn echoloop_live_handles() -> i64 {
    registry::live_handles() + remote::live() + selector::live() + workers::live()
}

/// Makes a server and takes it in; a panic in there is no loop's.
pub(crate) fn make(
    operation: &'static str,
    kind: Kind,
    build: impl FnOnce() -> Result<Server, echoloop_core::Error>,
) -> Result<u64, Refused> {
    if crate::reserve::is_short() {
        return Err(Refused::new(operation, crate::ECHOLOOP_ENOMEM));
    }
    bug::watch();
    let server = bug::caught(build).ok_or_else(|| bug::refused(operation))??;
    Ok(registry::adopt(server, kind))
}

/// One turn by callbacks, for a loop within another one, or within a frame of a game: hands out what
/// is there, or else waits at most timeout_us (0: not at all, negative: for ever) and hands out what
/// came. Returns how many events there were; 0 after the timeout, and early as
/// echoloop_poll_batch(). A stop ends nothing: it is told to on_event as ECHOLOOP_EVENT_STOP. Errors:
/// ECHOLOOP_EREENTRY in a callback, ECHOLOOP_EPANIC, ECHOLOOP_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_run_once(
    r#loop: *mut echoloop,
    hooks: *const crate::echoloop_hooks,
    user: *mut std::ffi::c_void,
    timeout_us: i64,
) -> c_int {
    // SAFETY: header, "Structs": NULL, or readable for its size.
    let hooks = unsafe { read_sized("run once", hooks) };
    returned(hooks.and_then(|hooks| {
        let hooks = hooks.ok_or_else(|| Refused::new("run once", crate::ECHOLOOP_ENULL))?;
        let timeout = timeout(timeout_us);
        occupy("run once", raw(r#loop), Kind::Loop, |cell| {
            crate::run::once(cell, &hooks, user, timeout)
        })
    }))
}

/// For batches: calls the callback that the timer or watch of a TIMER, WATCH or WATCH_DEAD event has
/// of its own (echoloop_timer_set_callback(), echoloop_watch_set_callback()), on the loop's thread
/// and before the next call for events. Returns 1 if it had one; 0 if the event is the program's. This
/// is a callback like those of a run: no run or poll of this loop in it, and a free of the loop is
/// done when it returns. Errors: ECHOLOOP_EBADHANDLE if the timer or watch was ended since the
/// batch was collected: its event is nobody's any more. ECHOLOOP_EREENTRY in a callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_dispatch(event: *const echoloop_event) -> c_int {
    if event.is_null() {
        return Refused::new("dispatch", crate::ECHOLOOP_ENULL).status();
    }
    // SAFETY: header, "Pointers": event is readable.
    let event = unsafe { event.read_unaligned() };
    let kind = match event.r#type {
        crate::ECHOLOOP_EVENT_TIMER => Kind::Timer,
        crate::ECHOLOOP_EVENT_WATCH | crate::ECHOLOOP_EVENT_WATCH_DEAD => Kind::Watch,
        _ => return 0,
    };
    // SAFETY: all members are pointers or integers of eight bytes, and all bits are valid.
    let source = unsafe { event.source.watch };
    let found = registry::find("dispatch", raw(source), kind);
    returned(found.and_then(|cell| {
        occupy_cell("dispatch", cell, |cell| {
            own::check_alive(cell, kind, raw(source))?;
            Ok(c_int::from(call_own(cell, &event)))
        })
    }))
}

/// Runs the loop: waits for events and calls hooks, until echoloop_stop() or
/// echoloop_remote_stop(); then returns 0. What was sent before is flushed as far as the kernel
/// takes it; connections stay, and the loop can be run again. user is handed to every callback.
/// Errors: ECHOLOOP_EREENTRY in a callback, ECHOLOOP_EPANIC.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_run(
    r#loop: *mut echoloop,
    hooks: *const crate::echoloop_hooks,
    user: *mut std::ffi::c_void,
) -> c_int {
    // SAFETY: header, "Structs": NULL, or readable for its size.
    let hooks = unsafe { read_sized("run", hooks) };
    returned(hooks.and_then(|hooks| {
        let hooks = hooks.ok_or_else(|| Refused::new("run", crate::ECHOLOOP_ENULL))?;
        occupy("run", raw(r#loop), Kind::Loop, |cell| {
            crate::run::until_stopped(cell, &hooks, user)
        })
    }))
}
