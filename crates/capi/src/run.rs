//! Receiving by callbacks.
//!
//! The rule: nothing is borrowed while a callback runs, so it may call anything but another run.
//! After each callback one flag tells whether it, or a bug, asked for anything but the next event.

use std::ffi::{c_int, c_void};
use std::time::Duration;
use std::{ptr, slice};

use echoloop_core::{ConnId, Event};
use echoloop_server::{Report, ServerEvent};

use crate::detail::Refused;
use crate::event::close_code;
use crate::handle::handle;
use crate::registry::{self, LoopCell};
use crate::take::{Taken, put_back, take};
use crate::text::FixedText;
use crate::{
    ECHOLOOP_EINVAL, ECHOLOOP_ENOMEM, ECHOLOOP_EPANIC, ECHOLOOP_ETOOMANY, echoloop_hooks, status,
};

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
        wait(cell)?;
    }
}

/// Runs until a drain has ended; `None` if the server was freed before.
pub(crate) fn until_drained(
    cell: &LoopCell,
    hooks: &echoloop_hooks,
    user: *mut c_void,
) -> Result<Option<Report>, Refused> {
    let callbacks = Callbacks { hooks, user };
    let mut stopped = false;
    loop {
        match callbacks.events(cell)? {
            Pause::Freed => return Ok(None),
            Pause::Stopped => {
                let mut server = cell.server.borrow_mut();
                server.drain();
                if std::mem::replace(&mut stopped, true) {
                    server.abort_all();
                }
            }
            Pause::TurnEnded => {
                let report = cell.server.borrow().report();
                if report.is_some() {
                    return Ok(report);
                }
                wait(cell)?;
            }
        }
    }
}

/// Waits for events, and looks what other threads want.
fn wait(cell: &LoopCell) -> Result<(), Refused> {
    let mut server = cell.server.borrow_mut();
    server.poll(None)?;
    registry::note_turn(cell, server.event_loop().live_handles());
    Ok(())
}

/// Why no more events are handed out for now.
enum Pause {
    TurnEnded,
    Stopped,
    Freed,
}

struct Callbacks<'a> {
    hooks: &'a echoloop_hooks,
    user: *mut c_void,
}

impl Callbacks<'_> {
    /// Hands out events until this turn has no more, or until something else is asked for.
    fn events(&self, cell: &LoopCell) -> Result<Pause, Refused> {
        loop {
            if cell.interrupted.get()
                && let Some(pause) = interruption(cell)?
            {
                return Ok(pause);
            }
            let mut server = cell.server.borrow_mut();
            let el = server.event_loop();
            if let Some(conn) = el.next_data() {
                let taken = take(cell, el, conn);
                drop(server);
                self.data(cell, conn, taken);
                continue;
            }
            let Some(event) = server.next_event() else {
                return Ok(Pause::TurnEnded);
            };
            if let ServerEvent::Loop(Event::Data { conn }) = event {
                let taken = take(cell, server.event_loop(), conn);
                drop(server);
                self.data(cell, conn, taken);
                continue;
            }
            if let ServerEvent::Loop(Event::Stop) = event {
                return Ok(Pause::Stopped);
            }
            drop(server);
            self.tell(cell, event);
        }
    }

    #[inline]
    fn data(&self, cell: &LoopCell, conn: ConnId, taken: Taken) {
        let Some(on_data) = self.hooks.on_data else {
            return;
        };
        // SAFETY: header, "Callbacks": the hook is a function of this type. The bytes stay where
        // they are until the next event (see `take`), and it returns or ends the process.
        let used = unsafe { on_data(self.user, handle(conn.to_raw()), taken.data, taken.len) };
        if used != taken.len {
            self.not_all_used(cell, conn, taken, used);
        }
    }

    #[cold]
    fn not_all_used(&self, cell: &LoopCell, conn: ConnId, taken: Taken, used: usize) {
        if used > taken.len {
            let len = taken.len;
            return self.error(
                ECHOLOOP_EINVAL,
                format_args!("on_data returned {used}, but there were only {len} bytes"),
            );
        }
        // SAFETY: as above: the bytes are still there, and nobody writes them.
        let rest = unsafe { slice::from_raw_parts(taken.data.add(used), taken.len - used) };
        let kept = put_back(cell.server.borrow_mut().event_loop(), conn, rest);
        if !kept {
            self.error(
                ECHOLOOP_ENOMEM,
                format_args!("no memory for what on_data left unread"),
            );
        }
    }

    /// All events but data. SAFETY of each call: header, "Callbacks": the hook is a function of
    /// its type, and it returns or ends the process.
    #[inline(never)]
    fn tell(&self, cell: &LoopCell, event: ServerEvent) {
        let (hooks, user) = (self.hooks, self.user);
        let event = match event {
            ServerEvent::Loop(event) => event,
            ServerEvent::Tick => {
                if let Some(on_tick) = hooks.on_tick {
                    // SAFETY: above.
                    unsafe { on_tick(user) };
                }
                return;
            }
            ServerEvent::Refused { conn, .. } => {
                let mut server = cell.server.borrow_mut();
                let view = server.event_loop().conn(conn);
                let peer = view.map_or(String::new(), |view| view.peer_addr().to_string());
                drop(server);
                return self.error(
                    ECHOLOOP_ETOOMANY,
                    format_args!("refused {peer}: the maximum of connections is reached"),
                );
            }
        };
        match event {
            Event::Accepted { conn, listener } => {
                if let Some(on_open) = hooks.on_open {
                    // SAFETY: above.
                    unsafe { on_open(user, handle(conn.to_raw()), handle(listener.to_raw())) };
                }
            }
            Event::Connected { conn } | Event::Adopted { conn } => {
                if let Some(on_open) = hooks.on_open {
                    // SAFETY: above.
                    unsafe { on_open(user, handle(conn.to_raw()), ptr::null_mut()) };
                }
            }
            Event::Congested { conn } => {
                if let Some(on_congested) = hooks.on_congested {
                    // SAFETY: above.
                    unsafe { on_congested(user, handle(conn.to_raw())) };
                }
            }
            Event::Drained { conn } => {
                if let Some(on_drained) = hooks.on_drained {
                    // SAFETY: above.
                    unsafe { on_drained(user, handle(conn.to_raw())) };
                }
            }
            Event::EndOfStream { conn } => {
                if let Some(on_end_of_stream) = hooks.on_end_of_stream {
                    // SAFETY: above.
                    unsafe { on_end_of_stream(user, handle(conn.to_raw())) };
                }
            }
            Event::Closed {
                conn,
                reason,
                unsent,
            } => {
                if let Some(on_close) = hooks.on_close {
                    // SAFETY: above.
                    unsafe { on_close(user, handle(conn.to_raw()), close_code(reason), unsent) };
                }
            }
            Event::Timer { timer } => {
                let Some(on_timer) = hooks.on_timer else {
                    return;
                };
                let word = cell
                    .server
                    .borrow_mut()
                    .event_loop()
                    .timer_user_data(timer)
                    .unwrap_or(0);
                let timer_user = ptr::with_exposed_provenance_mut(word as usize);
                // SAFETY: above.
                unsafe { on_timer(user, handle(timer.to_raw()), timer_user) };
            }
            Event::Posted { word } => {
                if let Some(on_post) = hooks.on_post {
                    // SAFETY: above.
                    unsafe { on_post(user, ptr::with_exposed_provenance_mut(word as usize)) };
                }
            }
            Event::AcceptPaused { errno, .. } => {
                let why = status::system_text(errno);
                self.error(-errno, format_args!("accepting is paused: {why}"));
            }
            Event::AcceptResumed { .. } => self.error(0, format_args!("accepting goes on")),
            // Data and stops were taken before; a later core may have events unknown here.
            _ => {}
        }
    }

    #[cold]
    fn error(&self, status: c_int, text: std::fmt::Arguments<'_>) {
        let Some(on_error) = self.hooks.on_error else {
            return;
        };
        let text = FixedText::<200>::of(text);
        // SAFETY: header, "Callbacks": the hook is a function of this type, and it returns or ends
        // the process; the text lives until then.
        unsafe { on_error(self.user, status, text.with_end().as_ptr().cast()) };
    }
}

/// What interrupts the events, in the order of importance.
#[cold]
fn interruption(cell: &LoopCell) -> Result<Option<Pause>, Refused> {
    if registry::is_poisoned(cell) {
        return Err(Refused::new("run", ECHOLOOP_EPANIC));
    }
    if cell.free_at_end.get() {
        return Ok(Some(Pause::Freed));
    }
    cell.interrupted.set(false);
    Ok(cell.stop.take().then_some(Pause::Stopped))
}
