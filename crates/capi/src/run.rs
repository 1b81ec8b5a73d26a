//! Receiving by callbacks: how a run goes on and ends.
//!
//! The rule: nothing is borrowed while a callback runs, so it may call anything but another run.
//! After each callback one flag tells whether it, or a bug, asked for anything but the next event.
//! The callbacks themselves are called by `callbacks`.

use std::ffi::{c_int, c_void};
use std::time::Duration;

use echoloop_server::Report;

use crate::callbacks::{Callbacks, Pause};
use crate::detail::Refused;
use crate::registry::{self, LoopCell};
use crate::{ECHOLOOP_EFORKED, ECHOLOOP_EPANIC, echoloop_hooks};

/// Runs until a stop, or until the loop is freed.
pub(crate) fn until_stopped(
    cell: &LoopCell,
    hooks: &echoloop_hooks,
    user: *mut c_void,
) -> Result<c_int, Refused> {
    let callbacks = Callbacks { hooks, user };
    loop {
        if !matches!(callbacks.events(cell)?, Pause::TurnEnded) {
            // What was sent leaves before the program goes on to something else.
            cell.server.borrow_mut().poll(Some(Duration::ZERO))?;
            return Ok(0);
        }
        wait(cell, None)?;
    }
}

/// One turn: what is there, else what comes within the timeout. Returns how many events there were.
pub(crate) fn once(
    cell: &LoopCell,
    hooks: &echoloop_hooks,
    user: *mut c_void,
    timeout: Option<Duration>,
) -> Result<c_int, Refused> {
    let callbacks = Callbacks { hooks, user };
    let drained_before = cell.server.borrow().report().is_some();
    let mut n = callbacks.turn(cell)?;
    if n == 0 {
        if !drained_before && cell.server.borrow().report().is_some() {
            return Ok(0); // The drain has ended just now, nothing will come.
        }
        wait(cell, timeout)?;
        n = callbacks.turn(cell)?;
    }
    Ok(n)
}

/// Runs until a drain has ended; `None` if the server was freed before.
pub(crate) fn until_drained(
    cell: &LoopCell,
    hooks: &echoloop_hooks,
    user: *mut c_void,
) -> Result<Option<Report>, Refused> {
    let callbacks = Callbacks { hooks, user };
    loop {
        match callbacks.events(cell)? {
            Pause::Freed => return Ok(None),
            Pause::Stopped => cell.server.borrow_mut().stop(),
            Pause::TurnEnded => {
                let report = cell.server.borrow().report();
                if report.is_some() {
                    return Ok(report);
                }
                wait(cell, None)?;
            }
        }
    }
}

/// Waits for events, and looks what other threads want.
fn wait(cell: &LoopCell, timeout: Option<Duration>) -> Result<(), Refused> {
    let mut server = cell.server.borrow_mut();
    server.poll(timeout)?;
    registry::note_turn(cell, server.event_loop().live_handles());
    Ok(())
}

/// What interrupts the events, in the order of importance.
#[cold]
pub(crate) fn interruption(cell: &LoopCell) -> Result<Option<Pause>, Refused> {
    if registry::is_forked(cell) {
        return Err(Refused::new("run", ECHOLOOP_EFORKED));
    }
    if registry::is_poisoned(cell) {
        return Err(Refused::new("run", ECHOLOOP_EPANIC));
    }
    if cell.free_at_end.get() {
        return Ok(Some(Pause::Freed));
    }
    cell.interrupted.set(false);
    Ok(cell.stop.take().then_some(Pause::Stopped))
}
