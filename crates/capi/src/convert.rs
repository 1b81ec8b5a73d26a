//! From the events of the core to those of C.
//!
//! The rule: one conversion for batches and callbacks, so both tell the same. Data is not converted
//! here: its bytes are taken first (`take`), and it has ways of its own.

use std::ffi::{c_int, c_void};
use std::ptr;

use echoloop_core::{ConnId, Event, EventLoop, Readiness, TimerId, UdpId, WatchId};
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
    ECHOLOOP_EVENT_CONNECTED, ECHOLOOP_EVENT_DATAGRAMS, ECHOLOOP_EVENT_DRAINED,
    ECHOLOOP_EVENT_END_OF_STREAM, ECHOLOOP_EVENT_OPENED, ECHOLOOP_EVENT_OVER_BUDGET,
    ECHOLOOP_EVENT_POSTED, ECHOLOOP_EVENT_REFUSED, ECHOLOOP_EVENT_RESOLVED, ECHOLOOP_EVENT_SIGNAL,
    ECHOLOOP_EVENT_STOP, ECHOLOOP_EVENT_TICK, ECHOLOOP_EVENT_TIMER, ECHOLOOP_EVENT_UDP_DRAINED,
    ECHOLOOP_EVENT_UDP_ERROR, ECHOLOOP_EVENT_UNDER_BUDGET, ECHOLOOP_EVENT_WATCH,
    ECHOLOOP_EVENT_WATCH_DEAD, ECHOLOOP_FAILED, ECHOLOOP_HANG_UP, ECHOLOOP_INVALID,
    ECHOLOOP_PRIORITY, ECHOLOOP_READ_CLOSED, ECHOLOOP_READABLE, ECHOLOOP_WRITABLE, echoloop_event,
    echoloop_event_source as source, status,
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
                ..of_conn(el, ECHOLOOP_EVENT_REFUSED, conn)
            });
        }
    };
    Some(match event {
        Event::Accepted { conn, listener } => echoloop_event {
            source: source {
                listener: handle(listener.to_raw()),
            },
            ..of_conn(el, ECHOLOOP_EVENT_OPENED, conn)
        },
        Event::Connected { conn } => of_conn(el, ECHOLOOP_EVENT_CONNECTED, conn),
        Event::Adopted { conn } => of_conn(el, ECHOLOOP_EVENT_ADOPTED, conn),
        Event::ConnectPaused { conn, errno } => echoloop_event {
            status: -errno,
            ..of_conn(el, ECHOLOOP_EVENT_CONNECT_PAUSED, conn)
        },
        Event::Congested { conn } => of_conn(el, ECHOLOOP_EVENT_CONGESTED, conn),
        Event::Drained { conn } => of_conn(el, ECHOLOOP_EVENT_DRAINED, conn),
        Event::EndOfStream { conn } => of_conn(el, ECHOLOOP_EVENT_END_OF_STREAM, conn),
        Event::Closed {
            conn,
            reason,
            unsent,
        } => echoloop_event {
            status: close_code(reason),
            source: source { unsent },
            ..of_conn(el, ECHOLOOP_EVENT_CLOSED, conn)
        },
        Event::Timer { timer } => echoloop_event {
            user: pointer(timer_user(el, timer)),
            source: source {
                timer: handle(timer.to_raw()),
            },
            ..echoloop_event::new(ECHOLOOP_EVENT_TIMER)
        },
        Event::Posted { word } => echoloop_event {
            source: source {
                word: pointer(word),
            },
            ..echoloop_event::new(ECHOLOOP_EVENT_POSTED)
        },
        Event::Stop => echoloop_event::new(ECHOLOOP_EVENT_STOP),
        Event::AcceptPaused { listener, errno } => echoloop_event {
            status: -errno,
            source: source {
                listener: handle(listener.to_raw()),
            },
            ..echoloop_event::new(ECHOLOOP_EVENT_ACCEPT_PAUSED)
        },
        Event::AcceptResumed { listener } => echoloop_event {
            source: source {
                listener: handle(listener.to_raw()),
            },
            ..echoloop_event::new(ECHOLOOP_EVENT_ACCEPT_RESUMED)
        },
        Event::Watch { watch, readiness } => echoloop_event {
            status: readiness_bits(readiness),
            ..of_watch(el, ECHOLOOP_EVENT_WATCH, watch)
        },
        Event::WatchDead { watch, fd } => echoloop_event {
            status: fd,
            ..of_watch(el, ECHOLOOP_EVENT_WATCH_DEAD, watch)
        },
        Event::Datagrams { udp } => echoloop_event {
            len: lend_datagrams(cell, el, udp),
            ..of_udp(el, ECHOLOOP_EVENT_DATAGRAMS, udp)
        },
        Event::UdpError { udp, errno } => echoloop_event {
            status: -errno,
            ..of_udp(el, ECHOLOOP_EVENT_UDP_ERROR, udp)
        },
        Event::UdpDrained { udp } => of_udp(el, ECHOLOOP_EVENT_UDP_DRAINED, udp),
        Event::Resolved { lookup } => {
            let answer = el.resolved(lookup);
            let user = match cell.own.borrow_mut().remove(lookup.to_raw()) {
                Some(Own::Lookup(user)) => user,
                _ => 0,
            };
            echoloop_event {
                status: answer.as_ref().map_or_else(|e| status::of(e.kind()), |_| 0),
                len: answer.map_or(0, |addrs| addrs.len()),
                user: pointer(user as u64),
                source: source {
                    lookup: handle(lookup.to_raw()),
                },
                ..echoloop_event::new(ECHOLOOP_EVENT_RESOLVED)
            }
        }
        Event::Signal { signal, number } => echoloop_event {
            status: number,
            source: source {
                signal: handle(signal.to_raw()),
            },
            ..echoloop_event::new(ECHOLOOP_EVENT_SIGNAL)
        },
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

fn of_conn(el: &mut EventLoop, r#type: u32, conn: ConnId) -> echoloop_event {
    let user = el.conn(conn).map_or(0, |view| view.user_data());
    echoloop_event::of_conn(r#type, conn, user)
}

fn of_watch(el: &EventLoop, r#type: u32, watch: WatchId) -> echoloop_event {
    echoloop_event {
        user: pointer(el.watch_user_data(watch).unwrap_or(0)),
        source: source {
            watch: handle(watch.to_raw()),
        },
        ..echoloop_event::new(r#type)
    }
}

fn of_udp(el: &mut EventLoop, r#type: u32, udp: UdpId) -> echoloop_event {
    echoloop_event {
        user: pointer(el.udp(udp).map_or(0, |view| view.user_data())),
        source: source {
            udp: handle(udp.to_raw()),
        },
        ..echoloop_event::new(r#type)
    }
}

fn timer_user(el: &EventLoop, timer: TimerId) -> u64 {
    el.timer_user_data(timer).unwrap_or(0)
}

/// The pointer that a program's word was.
#[inline]
pub(crate) fn pointer(word: u64) -> *mut c_void {
    ptr::with_exposed_provenance_mut(word as usize)
}
