//! Receiving by batches: one crossing of the language border for many events.
//!
//! The rule: what a batch hands out is good until the next call for events. Small reads are copied
//! to the batch's memory, since the next read overwrites them; a large one stays where it is and
//! ends the batch. So do the events whose objects the core lets go with the next event.

use std::ffi::{c_int, c_void};
use std::ptr;

use echoloop_core::{ConnId, Event, EventLoop, Kind};
use echoloop_server::{Server, ServerEvent};

use crate::detail::{Refused, returned};
use crate::event::close_code;
use crate::guard::occupy;
use crate::handle::{handle, raw};
use crate::options::time;
use crate::registry::{self, LoopCell};
use crate::take::take;
use crate::{
    ECHOLOOP_ECLOSED, ECHOLOOP_EINVAL, ECHOLOOP_ENOMEM, ECHOLOOP_ENULL, ECHOLOOP_ETOOMANY,
    ECHOLOOP_EVENT_ACCEPT_PAUSED, ECHOLOOP_EVENT_ACCEPT_RESUMED, ECHOLOOP_EVENT_CLOSED,
    ECHOLOOP_EVENT_CONGESTED, ECHOLOOP_EVENT_CONNECTED, ECHOLOOP_EVENT_DATA,
    ECHOLOOP_EVENT_DRAINED, ECHOLOOP_EVENT_END_OF_STREAM, ECHOLOOP_EVENT_OPENED,
    ECHOLOOP_EVENT_POSTED, ECHOLOOP_EVENT_REFUSED, ECHOLOOP_EVENT_STOP, ECHOLOOP_EVENT_TICK,
    ECHOLOOP_EVENT_TIMER, echoloop, echoloop_event, echoloop_event_source,
};

/// Reads up to this size are copied.
const SMALL: usize = 32 << 10;
/// Memory for the small reads of one batch.
const ARENA: usize = 512 << 10;

/// The memory of a loop's batches; nothing until the first.
#[derive(Default)]
pub(crate) struct Batch {
    arena: Vec<u8>,
    used: usize,
}

/// Waits until something happens, at most timeout_us (0: not at all, negative: for ever), and
/// fills events. Returns how many there are; 0 after the timeout, and early when a signal came or
/// echoloop_remote_wake() was called, or now and then when nothing came of a wake-up: simply call
/// again. What was sent since the last call leaves first.
///
/// Data counts as used; echoloop_conn_unread() puts back what is not. Data pointers, and the
/// handles in CLOSED and TIMER events, hold until the next call for events on this loop. The events
/// were collected before you act on the first: one may come of a connection you have just closed.
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
        let mut batch = cell.batch.borrow_mut();
        batch.begin()?;
        let mut server = cell.server.borrow_mut();
        let mut filling = Filling {
            cell,
            batch: &mut batch,
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
            let timeout = if timeout_us == 0 {
                Some(std::time::Duration::ZERO)
            } else {
                time(timeout_us, None)
            };
            server.poll(timeout)?;
            registry::note_turn(cell, server.event_loop().live_handles());
            if cell.free_at_end.get() {
                return Err(Refused::new("poll batch", ECHOLOOP_ECLOSED));
            }
            filling.fill(&mut server);
        }
        Ok(filling.n as c_int)
    }))
}

impl Batch {
    fn begin(&mut self) -> Result<(), Refused> {
        self.used = 0;
        if self.arena.capacity() < ARENA && self.arena.try_reserve_exact(ARENA).is_err() {
            return Err(Refused::new("poll batch", ECHOLOOP_ENOMEM));
        }
        Ok(())
    }
}

struct Filling<'a> {
    cell: &'a LoopCell,
    batch: &'a mut Batch,
    events: *mut echoloop_event,
    capacity: usize,
    n: usize,
}

impl Filling<'_> {
    fn fill(&mut self, server: &mut Server) {
        if self.cell.stop.take() {
            return self.push(echoloop_event::new(ECHOLOOP_EVENT_STOP));
        }
        while self.n < self.capacity && self.batch.used + SMALL <= ARENA {
            let Some(event) = server.next_event() else {
                return;
            };
            if self.add(server.event_loop(), event) {
                return;
            }
        }
    }

    /// Adds one event; true if it must be the last of its batch.
    #[inline]
    fn add(&mut self, el: &mut EventLoop, event: ServerEvent) -> bool {
        let ServerEvent::Loop(Event::Data { conn }) = event else {
            return self.add_other(el, event);
        };
        let user = el.conn(conn).map_or(0, |view| view.user_data());
        let taken = take(self.cell, el, conn);
        let mut event = of_conn(ECHOLOOP_EVENT_DATA, conn, user);
        event.len = taken.len;
        event.data = taken.data;
        let small = taken.len <= SMALL;
        if small {
            // SAFETY: `taken` is readable until the next event (see `take`). The arena has ARENA
            // bytes, of which `fill` has left SMALL; C only reads parts handed out before, and
            // only through pointers made like this one, as no slice of the arena is ever made.
            unsafe {
                let copy = self.batch.arena.as_mut_ptr().add(self.batch.used);
                ptr::copy_nonoverlapping(taken.data, copy, taken.len);
                event.data = copy;
            }
            self.batch.used += taken.len;
        }
        self.push(event);
        !small
    }

    #[inline(never)]
    fn add_other(&mut self, el: &mut EventLoop, event: ServerEvent) -> bool {
        let mut user = |conn: ConnId| el.conn(conn).map_or(0, |view| view.user_data());
        let mut last = false;
        let event = match event {
            ServerEvent::Tick => echoloop_event::new(ECHOLOOP_EVENT_TICK),
            ServerEvent::Refused { .. } => echoloop_event {
                status: ECHOLOOP_ETOOMANY,
                ..echoloop_event::new(ECHOLOOP_EVENT_REFUSED)
            },
            ServerEvent::Loop(event) => match event {
                Event::Accepted { conn, listener } => echoloop_event {
                    source: echoloop_event_source {
                        listener: handle(listener.to_raw()),
                    },
                    ..of_conn(ECHOLOOP_EVENT_OPENED, conn, user(conn))
                },
                Event::Connected { conn } => of_conn(ECHOLOOP_EVENT_CONNECTED, conn, user(conn)),
                Event::Congested { conn } => of_conn(ECHOLOOP_EVENT_CONGESTED, conn, user(conn)),
                Event::Drained { conn } => of_conn(ECHOLOOP_EVENT_DRAINED, conn, user(conn)),
                Event::EndOfStream { conn } => {
                    last = true; // With the next event the core begins to close.
                    of_conn(ECHOLOOP_EVENT_END_OF_STREAM, conn, user(conn))
                }
                Event::Closed {
                    conn,
                    reason,
                    unsent,
                } => {
                    last = true; // With the next event the handle is stale.
                    echoloop_event {
                        status: close_code(reason),
                        source: echoloop_event_source { unsent },
                        ..of_conn(ECHOLOOP_EVENT_CLOSED, conn, user(conn))
                    }
                }
                Event::Timer { timer } => {
                    last = true; // With the next event a timer that fires once is gone.
                    let mut event = echoloop_event::new(ECHOLOOP_EVENT_TIMER);
                    event.user = pointer(el.timer_user_data(timer).unwrap_or(0));
                    event.source.timer = handle(timer.to_raw());
                    event
                }
                Event::Posted { word } => echoloop_event {
                    source: echoloop_event_source {
                        word: pointer(word),
                    },
                    ..echoloop_event::new(ECHOLOOP_EVENT_POSTED)
                },
                Event::Stop => {
                    last = true; // A program that ends here has missed nothing.
                    echoloop_event::new(ECHOLOOP_EVENT_STOP)
                }
                Event::AcceptPaused { listener, errno } => echoloop_event {
                    status: -errno,
                    source: echoloop_event_source {
                        listener: handle(listener.to_raw()),
                    },
                    ..echoloop_event::new(ECHOLOOP_EVENT_ACCEPT_PAUSED)
                },
                Event::AcceptResumed { listener } => echoloop_event {
                    source: echoloop_event_source {
                        listener: handle(listener.to_raw()),
                    },
                    ..echoloop_event::new(ECHOLOOP_EVENT_ACCEPT_RESUMED)
                },
                // Data was taken before; a later core may have events unknown here.
                _ => return false,
            },
        };
        self.push(event);
        last
    }

    #[inline]
    fn push(&mut self, event: echoloop_event) {
        // SAFETY: header, "Pointers": events is writable for capacity events, and `n` is below it:
        // `fill` checks before each event, and begins with at least one free.
        unsafe { self.events.add(self.n).write(event) };
        self.n += 1;
    }
}

#[inline]
fn of_conn(r#type: u32, conn: ConnId, user: u64) -> echoloop_event {
    echoloop_event {
        conn: handle(conn.to_raw()),
        user: pointer(user),
        ..echoloop_event::new(r#type)
    }
}

#[inline]
fn pointer(word: u64) -> *mut c_void {
    ptr::with_exposed_provenance_mut(word as usize)
}
