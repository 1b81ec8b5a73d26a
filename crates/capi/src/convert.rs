//! From the events of the core to those of C.
//!
//! The rule: one conversion for batches and callbacks, so both tell the same. What an event says by
//! itself is apart from what its loop adds, for those who tell of an event that is over. The bytes of
//! data are not looked at here: they are taken first (`take`), and data has ways of its own.

use std::ffi::{c_int, c_void};
use std::ptr;

use echoloop_core::{ConnId, Event, EventLoop, ListenerId, Readiness, UdpId, WatchId};
use echoloop_server::ServerEvent;

use crate::close::close_code;
use crate::datagram::lend_datagrams;
use crate::event::refusal_code;
use crate::handle::handle;
use crate::own::Own;
use crate::registry::LoopCell;
use crate::{
    ECHOLOOP_EVENT_ACCEPT_PAUSED, ECHOLOOP_EVENT_ACCEPT_RESUMED, ECHOLOOP_EVENT_ADOPTED,
    ECHOLOOP_EVENT_CLOSED, ECHOLOOP_EVENT_CONGESTED, ECHOLOOP_EVENT_CONNECT_PAUSED,
    ECHOLOOP_EVENT_CONNECTED, ECHOLOOP_EVENT_DATA, ECHOLOOP_EVENT_DATAGRAMS,
    ECHOLOOP_EVENT_DRAINED, ECHOLOOP_EVENT_END_OF_STREAM, ECHOLOOP_EVENT_OPENED,
    ECHOLOOP_EVENT_OVER_BUDGET, ECHOLOOP_EVENT_POSTED, ECHOLOOP_EVENT_REFUSED,
    ECHOLOOP_EVENT_RESOLVED, ECHOLOOP_EVENT_SIGNAL, ECHOLOOP_EVENT_STOP, ECHOLOOP_EVENT_TICK,
    ECHOLOOP_EVENT_TIMER, ECHOLOOP_EVENT_UDP_DRAINED, ECHOLOOP_EVENT_UDP_ERROR,
    ECHOLOOP_EVENT_UNDER_BUDGET, ECHOLOOP_EVENT_WATCH, ECHOLOOP_EVENT_WATCH_DEAD, ECHOLOOP_FAILED,
    ECHOLOOP_HANG_UP, ECHOLOOP_INVALID, ECHOLOOP_PRIORITY, ECHOLOOP_READ_CLOSED, ECHOLOOP_READABLE,
    ECHOLOOP_WRITABLE, echoloop_event, echoloop_event_source as source, status,
};

/// An event as C sees it; `None` for one that a later core may add.
#[inline(never)]
pub(crate) fn convert(
    cell: &LoopCell,
    el: &mut EventLoop,
    event: ServerEvent,
) -> Option<echoloop_event> {
    let event = match event {
        ServerEvent::Loop(event) => event,
        ServerEvent::Tick => return Some(echoloop_event::new(ECHOLOOP_EVENT_TICK)),
        ServerEvent::Refused { conn, why } => {
            return Some(echoloop_event {
                status: refusal_code(why),
                ..echoloop_event::of_conn(ECHOLOOP_EVENT_REFUSED, conn, conn_user(el, conn))
            });
        }
    };
    let mut told = bare(event)?;
    match event {
        Event::Accepted { conn, .. }
        | Event::Connected { conn }
        | Event::Adopted { conn }
        | Event::ConnectPaused { conn, .. }
        | Event::Congested { conn }
        | Event::Drained { conn }
        | Event::EndOfStream { conn }
        | Event::Closed { conn, .. } => told.user = pointer(conn_user(el, conn)),
        Event::Timer { timer } => told.user = pointer(el.timer_user_data(timer).unwrap_or(0)),
        Event::Watch { watch, .. } | Event::WatchDead { watch, .. } => {
            told.user = pointer(el.watch_user_data(watch).unwrap_or(0));
        }
        Event::Datagrams { udp } => {
            told.len = lend_datagrams(cell, el, udp);
            told.user = pointer(udp_user(el, udp));
        }
        Event::UdpError { udp, .. } | Event::UdpDrained { udp } => {
            told.user = pointer(udp_user(el, udp));
        }
        Event::Resolved { lookup } => {
            match el.resolved(lookup) {
                Ok(addrs) => told.len = addrs.len(),
                Err(e) => told.status = status::of(e.kind()),
            }
            if let Some(Own::Lookup(user)) = cell.own.borrow_mut().remove(lookup.to_raw()) {
                told.user = pointer(user as u64);
            }
        }
        _ => {}
    }
    Some(told)
}

/// What an event says by itself, without what only its loop knows.
pub(crate) fn bare(event: Event) -> Option<echoloop_event> {
    let of_conn = |r#type, conn| echoloop_event::of_conn(r#type, conn, 0);
    let of = |r#type, status, source| echoloop_event {
        status,
        source,
        ..echoloop_event::new(r#type)
    };
    let listener = |id: ListenerId| source {
        listener: handle(id.to_raw()),
    };
    let udp = |id: UdpId| source {
        udp: handle(id.to_raw()),
    };
    let watch = |id: WatchId| source {
        watch: handle(id.to_raw()),
    };
    Some(match event {
        Event::Accepted { conn, listener: at } => echoloop_event {
            source: listener(at),
            ..of_conn(ECHOLOOP_EVENT_OPENED, conn)
        },
        Event::Connected { conn } => of_conn(ECHOLOOP_EVENT_CONNECTED, conn),
        Event::Adopted { conn } => of_conn(ECHOLOOP_EVENT_ADOPTED, conn),
        Event::ConnectPaused { conn, errno } => echoloop_event {
            status: -errno,
            ..of_conn(ECHOLOOP_EVENT_CONNECT_PAUSED, conn)
        },
        Event::Data { conn } => of_conn(ECHOLOOP_EVENT_DATA, conn),
        Event::Congested { conn } => of_conn(ECHOLOOP_EVENT_CONGESTED, conn),
        Event::Drained { conn } => of_conn(ECHOLOOP_EVENT_DRAINED, conn),
        Event::EndOfStream { conn } => of_conn(ECHOLOOP_EVENT_END_OF_STREAM, conn),
        Event::Closed {
            conn,
            reason,
            unsent,
        } => echoloop_event {
            status: close_code(reason),
            source: source { unsent },
            ..of_conn(ECHOLOOP_EVENT_CLOSED, conn)
        },
        Event::Timer { timer } => {
            let timer = handle(timer.to_raw());
            of(ECHOLOOP_EVENT_TIMER, 0, source { timer })
        }
        Event::Posted { word } => {
            let word = pointer(word);
            of(ECHOLOOP_EVENT_POSTED, 0, source { word })
        }
        Event::Stop => echoloop_event::new(ECHOLOOP_EVENT_STOP),
        Event::AcceptPaused {
            listener: at,
            errno,
        } => of(ECHOLOOP_EVENT_ACCEPT_PAUSED, -errno, listener(at)),
        Event::AcceptResumed { listener: at } => of(ECHOLOOP_EVENT_ACCEPT_RESUMED, 0, listener(at)),
        Event::Watch {
            watch: id,
            readiness,
        } => of(ECHOLOOP_EVENT_WATCH, readiness_bits(readiness), watch(id)),
        Event::WatchDead { watch: id, fd } => of(ECHOLOOP_EVENT_WATCH_DEAD, fd, watch(id)),
        Event::Datagrams { udp: id } => of(ECHOLOOP_EVENT_DATAGRAMS, 0, udp(id)),
        Event::UdpError { udp: id, errno } => of(ECHOLOOP_EVENT_UDP_ERROR, -errno, udp(id)),
        Event::UdpDrained { udp: id } => of(ECHOLOOP_EVENT_UDP_DRAINED, 0, udp(id)),
        Event::Resolved { lookup } => {
            let lookup = handle(lookup.to_raw());
            of(ECHOLOOP_EVENT_RESOLVED, 0, source { lookup })
        }
        Event::Signal { signal, number } => {
            let signal = handle(signal.to_raw());
            of(ECHOLOOP_EVENT_SIGNAL, number, source { signal })
        }
        Event::OverBudget => echoloop_event::new(ECHOLOOP_EVENT_OVER_BUDGET),
        Event::UnderBudget => echoloop_event::new(ECHOLOOP_EVENT_UNDER_BUDGET),
        _ => return None,
    })
}

/// The bits of what a descriptor is ready for.
pub(crate) fn readiness_bits(readiness: Readiness) -> c_int {
    let bit = |is: bool, bit: c_int| if is { bit } else { 0 };
    bit(readiness.is_readable(), ECHOLOOP_READABLE)
        | bit(readiness.is_writable(), ECHOLOOP_WRITABLE)
        | bit(readiness.is_priority(), ECHOLOOP_PRIORITY)
        | bit(readiness.is_read_closed(), ECHOLOOP_READ_CLOSED)
        | bit(readiness.is_error(), ECHOLOOP_FAILED)
        | bit(readiness.is_hang_up(), ECHOLOOP_HANG_UP)
        | bit(readiness.is_invalid(), ECHOLOOP_INVALID)
}

fn conn_user(el: &mut EventLoop, conn: ConnId) -> u64 {
    el.conn(conn).map_or(0, |view| view.user_data())
}

fn udp_user(el: &mut EventLoop, udp: UdpId) -> u64 {
    el.udp(udp).map_or(0, |view| view.user_data())
}

/// The pointer that a program's word was.
#[inline]
pub(crate) fn pointer(word: u64) -> *mut c_void {
    ptr::with_exposed_provenance_mut(word as usize)
}
