//! Receiving by batches: one crossing of the language border for many events.
//!
//! The rule: what a batch hands out is good until the next call for events. Nearly all data is read
//! right into the batch's memory, which is the core's; a large read that is not stays where it is and
//! ends the batch. So do the events whose objects the core lets go with the next event.

use std::ffi::c_int;

use echoloop_core::{ConnId, Event, EventLoop, Kind};
use echoloop_server::{Server, ServerEvent};

use crate::convert::convert;
use crate::detail::{Refused, returned};
use crate::guard::occupy;
use crate::handle::raw;
use crate::options::timeout;
use crate::registry::{self, LoopCell};
use crate::take::{Taken, take};
use crate::{
    ECHOLOOP_ECLOSED, ECHOLOOP_EINVAL, ECHOLOOP_ENULL, ECHOLOOP_EVENT_CLOSED,
    ECHOLOOP_EVENT_CONNECTED, ECHOLOOP_EVENT_DATA, ECHOLOOP_EVENT_DATAGRAMS,
    ECHOLOOP_EVENT_END_OF_STREAM, ECHOLOOP_EVENT_REFUSED, ECHOLOOP_EVENT_RESOLVED,
    ECHOLOOP_EVENT_STOP, ECHOLOOP_EVENT_TIMER, ECHOLOOP_EVENT_WATCH_DEAD, echoloop, echoloop_event,
};

/// Waits until something happens, at most timeout_us (0: not at all, negative: for ever), and
/// fills events. Returns how many there are; 0 after the timeout, and early when a signal came or
/// echoloop_remote_wake() was called, or now and then when nothing came of a wake-up: simply call
/// again. What was sent since the last call leaves first.
///
/// Data counts as used; echoloop_conn_unread() puts back what is not. Data pointers, and the
/// handles in CLOSED, TIMER and WATCH_DEAD events, hold until the next call for events on this
/// loop. The events were collected before you act on the first: one may come of a connection you
/// have just closed.
/// Errors: ECHOLOOP_EREENTRY in a callback, ECHOLOOP_EINVAL for a capacity of 0, ECHOLOOP_ECLOSED
/// if another thread freed the loop meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_poll_batch(
    r#loop: *mut echoloop,
    events: *mut echoloop_event,
    capacity: usize,
    timeout_us: i64,
) -> c_int {
    returned(occupy("poll batch", raw(r#loop), Kind::Loop, |cell| {
        if events.is_null() {
            return Err(Refused::new("poll batch", ECHOLOOP_ENULL));
        }
        if capacity == 0 {
            return Err(Refused::because(
                "poll batch",
                ECHOLOOP_EINVAL,
                format_args!("the capacity is 0"),
            ));
        }
        let capacity = capacity.min(c_int::MAX as usize);
        let mut server = cell.server.borrow_mut();
        let mut filling = Filling {
            cell,
            events,
            capacity,
            n: 0,
        };
        let drained_before = server.report().is_some();
        filling.fill(&mut server);
        if filling.n == 0 {
            if !drained_before && server.report().is_some() {
                // The last CLOSED was handled just now: the drain has ended, nothing will come.
                return Ok(0);
            }
            server.poll(timeout(timeout_us))?;
            registry::note_turn(cell, server.event_loop().live_handles());
            if cell.free_at_end.get() {
                return Err(Refused::new("poll batch", ECHOLOOP_ECLOSED));
            }
            filling.fill(&mut server);
        }
        Ok(filling.n as c_int)
    }))
}

struct Filling<'a> {
    cell: &'a LoopCell,
    events: *mut echoloop_event,
    capacity: usize,
    n: usize,
}

impl Filling<'_> {
    fn fill(&mut self, server: &mut Server) {
        server.event_loop().begin_batch();
        if self.cell.stop.take() {
            return self.push(echoloop_event::new(ECHOLOOP_EVENT_STOP));
        }
        while self.n < self.capacity {
            let el = server.event_loop();
            if let Some((conn, user, data)) = el.next_data_of_batch() {
                let (data, len) = (data.as_ptr(), data.len());
                self.push_data(conn, user, Taken { data, len });
                continue;
            }
            if !el.batch_goes_on() {
                return;
            }
            let Some(event) = server.next_event() else {
                return;
            };
            if self.add(server.event_loop(), event) {
                return;
            }
        }
    }

    /// Adds one event; true if it must be the last of its batch.
    #[inline(never)]
    fn add(&mut self, el: &mut EventLoop, event: ServerEvent) -> bool {
        let ServerEvent::Loop(Event::Data { conn }) = event else {
            return self.add_other(el, event);
        };
        let user = el.conn(conn).map_or(0, |view| view.user_data());
        if let Some(data) = el.take_for_batch() {
            let (data, len) = (data.as_ptr(), data.len());
            self.push_data(conn, user, Taken { data, len });
            return false;
        }
        let taken = take(self.cell, el, conn);
        self.push_data(conn, user, taken);
        true
    }

    #[inline(always)]
    fn push_data(&mut self, conn: ConnId, user: u64, taken: Taken) {
        let mut event = echoloop_event::of_conn(ECHOLOOP_EVENT_DATA, conn, user);
        event.len = taken.len;
        event.data = taken.data;
        self.push(event);
    }

    fn add_other(&mut self, el: &mut EventLoop, event: ServerEvent) -> bool {
        let Some(event) = convert(self.cell, el, event) else {
            return false;
        };
        self.push(event);
        ends_batch(event.r#type) || event.r#type == ECHOLOOP_EVENT_CONNECTED && raced(el, &event)
    }

    #[inline]
    fn push(&mut self, event: echoloop_event) {
        // SAFETY: header, "Pointers": events is writable for capacity events, and `n` is below it:
        // `fill` checks before each event, and begins with at least one free.
        unsafe { self.events.add(self.n).write(event) };
        self.n += 1;
    }
}

/// Whether the addresses that a connect has tried are still to be asked for.
fn raced(el: &mut EventLoop, connected: &echoloop_event) -> bool {
    let conn = el.conn(ConnId::from_raw(raw(connected.conn)));
    conn.is_ok_and(|view| !view.attempts().is_empty())
}

/// Whether the core lets something go with the event after this one that its handler may want: the
/// handle of a connection that has ended, a timer that fires once, what a socket or lookup brought. A
/// stop does too, so that a program which ends there has missed nothing.
fn ends_batch(r#type: u32) -> bool {
    matches!(
        r#type,
        ECHOLOOP_EVENT_END_OF_STREAM
            | ECHOLOOP_EVENT_CLOSED
            | ECHOLOOP_EVENT_TIMER
            | ECHOLOOP_EVENT_STOP
            | ECHOLOOP_EVENT_REFUSED
            | ECHOLOOP_EVENT_DATAGRAMS
            | ECHOLOOP_EVENT_RESOLVED
            | ECHOLOOP_EVENT_WATCH_DEAD
    )
}
