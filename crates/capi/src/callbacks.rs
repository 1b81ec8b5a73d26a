//! Calling C: one callback for each event.
//!
//! The rule: nothing is borrowed while a callback runs. Data goes the short way; all other events are
//! converted as for a batch, and the callback of their kind is called with its parts.

use std::ffi::{c_int, c_void};
use std::{ptr, slice};

use echoloop_core::{ConnId, Event};
use echoloop_server::ServerEvent;

use crate::convert::convert;
use crate::detail::Refused;
use crate::handle::handle;
use crate::own::Own;
use crate::registry::LoopCell;
use crate::run::interruption;
use crate::take::{Taken, put_back, take};
use crate::text::FixedText;
use crate::{
    ECHOLOOP_EINVAL, ECHOLOOP_ENOMEM, ECHOLOOP_EVENT_ACCEPT_PAUSED, ECHOLOOP_EVENT_ADOPTED,
    ECHOLOOP_EVENT_CLOSED, ECHOLOOP_EVENT_CONGESTED, ECHOLOOP_EVENT_CONNECT_PAUSED,
    ECHOLOOP_EVENT_CONNECTED, ECHOLOOP_EVENT_DATAGRAMS, ECHOLOOP_EVENT_DRAINED,
    ECHOLOOP_EVENT_END_OF_STREAM, ECHOLOOP_EVENT_OPENED, ECHOLOOP_EVENT_POSTED,
    ECHOLOOP_EVENT_REFUSED, ECHOLOOP_EVENT_RESOLVED, ECHOLOOP_EVENT_SIGNAL, ECHOLOOP_EVENT_TICK,
    ECHOLOOP_EVENT_TIMER, ECHOLOOP_EVENT_UDP_ERROR, ECHOLOOP_EVENT_WATCH,
    ECHOLOOP_EVENT_WATCH_DEAD, ECHOLOOP_INVALID, echoloop_event, echoloop_hooks, status,
};

/// Why no more events are handed out for now.
pub(crate) enum Pause {
    TurnEnded,
    Stopped,
    Freed,
}

pub(crate) struct Callbacks<'a> {
    pub(crate) hooks: &'a echoloop_hooks,
    pub(crate) user: *mut c_void,
}

impl Callbacks<'_> {
    /// Hands out events until this turn has no more, or until something else is asked for.
    pub(crate) fn events(&self, cell: &LoopCell) -> Result<Pause, Refused> {
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
            if let ServerEvent::Loop(Event::Stop) = event {
                return Ok(Pause::Stopped);
            }
            drop(server);
            self.other(cell, event);
        }
    }

    /// Hands out all events of this turn, a stop among them; how many there were.
    pub(crate) fn turn(&self, cell: &LoopCell) -> Result<c_int, Refused> {
        let mut n: c_int = 0;
        loop {
            let event = match cell.interrupted.get() {
                true => match interruption(cell)? {
                    Some(Pause::Freed) => return Ok(n),
                    Some(_) => ServerEvent::Loop(Event::Stop),
                    None => continue,
                },
                false => match cell.server.borrow_mut().next_event() {
                    Some(event) => event,
                    None => return Ok(n),
                },
            };
            self.other(cell, event);
            n = n.saturating_add(1);
        }
    }

    #[inline(never)]
    fn other(&self, cell: &LoopCell, event: ServerEvent) {
        let mut server = cell.server.borrow_mut();
        let el = server.event_loop();
        if let ServerEvent::Loop(Event::Data { conn }) = event {
            let taken = take(cell, el, conn);
            drop(server);
            return self.data(cell, conn, taken);
        }
        let event = convert(cell, el, event);
        drop(server);
        if let Some(event) = event {
            self.tell(cell, &event);
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
                cell,
                ECHOLOOP_EINVAL,
                format_args!("on_data returned {used}, but there were only {len} bytes"),
            );
        }
        // SAFETY: as above: the bytes are still there, and nobody writes them.
        let rest = unsafe { slice::from_raw_parts(taken.data.add(used), taken.len - used) };
        let kept = put_back(cell.server.borrow_mut().event_loop(), conn, rest);
        if !kept {
            self.error(
                cell,
                ECHOLOOP_ENOMEM,
                format_args!("no memory for what on_data left unread"),
            );
        }
    }

    /// Calls the callback for an event. SAFETY of each call, and of each look into `source`: header,
    /// "Callbacks": the hook is a function of its type, and it returns or ends the process; `convert`
    /// has set the member of `source` that belongs to the type.
    #[inline(never)]
    fn tell(&self, cell: &LoopCell, event: &echoloop_event) {
        let (hooks, user) = (self.hooks, self.user);
        let (conn, source) = (event.conn, event.source);
        /// Calls a hook, if it is there.
        macro_rules! call {
            ($hook:ident $(, $argument:expr)*) => {
                if let Some(hook) = hooks.$hook {
                    // SAFETY: above.
                    unsafe { hook(user $(, $argument)*) }
                }
            };
        }
        match event.r#type {
            ECHOLOOP_EVENT_OPENED => call!(on_open, conn, source.listener),
            ECHOLOOP_EVENT_CONNECTED | ECHOLOOP_EVENT_ADOPTED => {
                call!(on_open, conn, ptr::null_mut());
            }
            ECHOLOOP_EVENT_CONGESTED => call!(on_congested, conn),
            ECHOLOOP_EVENT_DRAINED => call!(on_drained, conn),
            ECHOLOOP_EVENT_END_OF_STREAM => call!(on_end_of_stream, conn),
            ECHOLOOP_EVENT_CLOSED => call!(on_close, conn, event.status, source.unsent),
            ECHOLOOP_EVENT_REFUSED => call!(on_refused, conn, event.status),
            ECHOLOOP_EVENT_TIMER | ECHOLOOP_EVENT_WATCH if call_own(cell, event) => {}
            ECHOLOOP_EVENT_TIMER => call!(on_timer, source.timer, event.user),
            ECHOLOOP_EVENT_WATCH => call!(on_watch, source.watch, event.user, event.status),
            ECHOLOOP_EVENT_WATCH_DEAD if call_own(cell, event) => {}
            ECHOLOOP_EVENT_POSTED => call!(on_post, source.word),
            ECHOLOOP_EVENT_TICK => call!(on_tick),
            ECHOLOOP_EVENT_SIGNAL => call!(on_signal, source.signal, event.status),
            ECHOLOOP_EVENT_RESOLVED => {
                call!(
                    on_resolved,
                    source.lookup,
                    event.user,
                    event.status,
                    event.len
                );
            }
            ECHOLOOP_EVENT_DATAGRAMS => {
                let first = cell.datagrams.borrow().first();
                call!(on_datagrams, source.udp, first, event.len);
            }
            ECHOLOOP_EVENT_ACCEPT_PAUSED => self.paused(cell, "accepting is paused", event),
            ECHOLOOP_EVENT_CONNECT_PAUSED => self.paused(cell, "a connect is paused", event),
            ECHOLOOP_EVENT_UDP_ERROR => self.paused(cell, "a UDP socket failed", event),
            _ => call!(on_event, event),
        }
    }

    #[cold]
    fn paused(&self, cell: &LoopCell, what: &str, event: &echoloop_event) {
        let why = status::system_text(-event.status);
        self.error(cell, event.status, format_args!("{what}: {why}"));
        if cell.free_at_end.get() {
            return; // By on_error.
        }
        if let Some(on_event) = self.hooks.on_event {
            // SAFETY: as in `tell`.
            unsafe { on_event(self.user, event) };
        }
    }

    #[cold]
    fn error(&self, cell: &LoopCell, status: c_int, text: std::fmt::Arguments<'_>) {
        let Some(on_error) = self.hooks.on_error else {
            return;
        };
        if cell.free_at_end.get() {
            return; // By the callback that this is about.
        }
        let text = FixedText::<200>::of(text);
        // SAFETY: header, "Callbacks": the hook is a function of this type, and it returns or ends
        // the process; the text lives until then.
        unsafe { on_error(self.user, status, text.with_end().as_ptr().cast()) };
    }
}

/// Calls what a timer or watch has of its own; false if it has nothing.
pub(crate) fn call_own(cell: &LoopCell, event: &echoloop_event) -> bool {
    let readiness = match event.r#type {
        ECHOLOOP_EVENT_WATCH_DEAD => ECHOLOOP_INVALID,
        _ => event.status,
    };
    // SAFETY: all members are pointers or integers of eight bytes, and all bits are valid.
    let (timer, watch) = unsafe { (event.source.timer, event.source.watch) };
    let own = cell.own.borrow().get(watch.addr() as u64);
    match own {
        Some(Own::Timer(Some(callback))) => {
            // SAFETY: header, "Callbacks": the callback is a function of its type, set for this
            // object, and it returns or ends the process.
            unsafe { callback(event.user, timer) };
        }
        Some(Own::Watch(Some(callback))) => {
            // SAFETY: above.
            unsafe { callback(event.user, watch, readiness) };
        }
        _ => return false,
    }
    true
}
