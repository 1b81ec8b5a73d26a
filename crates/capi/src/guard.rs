//! Lending a loop to one exported call: lookup, re-entry, panics.
//!
//! The rule: every call that touches a loop goes through here. A panic inside ends as
//! `ECHOLOOP_EPANIC`, poisons that loop and no other, and never unwinds into C.

use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};

use echoloop_core::{ConnId, Connection, EventLoop, Kind};
use echoloop_server::Server;

use crate::detail::Refused;
use crate::handle::raw;
use crate::registry::{self, LoopCell};
use crate::{ECHOLOOP_EBADHANDLE, ECHOLOOP_EREENTRY, echoloop, echoloop_conn, nested};

/// Lends the event loop behind a handle that the core checks: a listener's, a timer's.
#[inline]
pub(crate) fn lend<R>(
    operation: &'static str,
    handle: u64,
    kind: Kind,
    act: impl FnOnce(&mut EventLoop) -> Result<R, Refused>,
) -> Result<R, Refused> {
    let cell = registry::find(operation, handle, kind)?;
    lend_cell(operation, cell, |server| act(server.event_loop()))
}

/// Lends the server behind the handle of a loop or server.
pub(crate) fn lend_server<R>(
    operation: &'static str,
    handle: u64,
    kind: Kind,
    act: impl FnOnce(&mut Server) -> Result<R, Refused>,
) -> Result<R, Refused> {
    let cell = registry::exact(operation, handle, kind)?;
    lend_cell(operation, cell, act)
}

/// Lends a connection.
#[inline]
pub(crate) fn lend_conn<R>(
    operation: &'static str,
    conn: *mut echoloop_conn,
    act: impl FnOnce(&mut Connection<'_>) -> Result<R, Refused>,
) -> Result<R, Refused> {
    let handle = raw(conn);
    let cell = registry::find(operation, handle, Kind::Conn)?;
    lend_cell(operation, cell, |server| {
        match server.event_loop().conn(ConnId::from_raw(handle)) {
            Ok(mut view) => act(&mut view),
            Err(_) => Err(Refused::new(operation, ECHOLOOP_EBADHANDLE)),
        }
    })
}

/// Occupies a loop for a run or a poll, which may call back; what was deferred is done at the end.
pub(crate) fn occupy(
    operation: &'static str,
    handle: u64,
    kind: Kind,
    act: impl FnOnce(&LoopCell) -> Result<c_int, Refused>,
) -> Result<c_int, Refused> {
    let cell = registry::exact(operation, handle, kind)?;
    occupy_cell(operation, cell, act)
}

/// [`occupy`] for a loop that was found.
pub(crate) fn occupy_cell(
    operation: &'static str,
    cell: &LoopCell,
    act: impl FnOnce(&LoopCell) -> Result<c_int, Refused>,
) -> Result<c_int, Refused> {
    if registry::is_lent(cell) || cell.busy.replace(true) {
        return Err(Refused::new(operation, ECHOLOOP_EREENTRY));
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let outcome = act(cell);
        nested::leave(cell);
        outcome
    }))
    .unwrap_or_else(|_| Err(registry::poison(operation, cell)));
    cell.busy.set(false);
    if cell.free_at_end.get() {
        registry::destroy(cell.index);
    }
    outcome
}

/// Provokes a panic inside a call on this loop, for the tests of what follows from one.
#[doc(hidden)]
pub fn panic_inside(el: *mut echoloop) -> c_int {
    crate::detail::returned(lend_server("panic", raw(el), Kind::Loop, |_| {
        panic!("provoked by a test")
    }))
}

#[inline]
fn lend_cell<R>(
    operation: &'static str,
    cell: &LoopCell,
    act: impl FnOnce(&mut Server) -> Result<R, Refused>,
) -> Result<R, Refused> {
    let Ok(mut server) = cell.server.try_borrow_mut() else {
        return Err(Refused::new(operation, ECHOLOOP_EREENTRY));
    };
    match catch_unwind(AssertUnwindSafe(|| act(&mut server))) {
        Ok(outcome) => outcome,
        Err(_) => Err(registry::poison(operation, cell)),
    }
}
