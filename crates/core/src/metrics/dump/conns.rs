//! Connections in a dump: handle, addresses, state, buffers, when a byte last moved, what is due.

use std::fmt::{self, Write};

use super::lookups::write_race;
use super::{between, each, write_due};
use crate::conn::adopt::ADOPTED;
use crate::conn::{Conn, DeadlineKind, Flags, NEVER};
use crate::event_loop::EventLoop;
use crate::handle::slot_of;
use crate::sys::System;
use crate::turn::Current;
use crate::{ConnId, ListenerId};

/// What to call the flags that say why a connection does what it does, or does nothing.
const STATES: [(Flags, &str); 19] = [
    (Flags::EOF, "half-closed by the peer"),
    (Flags::FINISHED, "half-closed here"),
    (Flags::BROKEN, "read to the end after a failed write"),
    (Flags::PAUSED, "paused"),
    (Flags::PIPED, "piped"),
    (Flags::CONGESTED, "congested"),
    (Flags::HELD, "not read until drained"),
    (Flags::STARVED, "starved by the budget"),
    (Flags::STALLED, "stalled by the peer"),
    (Flags::READABLE, "input to be read"),
    (Flags::FLUSH, "room to send"),
    (Flags::ERROR, "an error to be read"),
    (Flags::THROTTLED, "waiting for its receive rate"),
    (Flags::TELL_OPEN, "its beginning to be told"),
    (Flags::TELL_CONGESTED, "congestion to be told"),
    (Flags::TELL_DRAINED, "draining to be told"),
    (Flags::TELL_END, "end of stream to be told"),
    (Flags::OFFER, "unread bytes to be offered"),
    (Flags::IN_LINE, "in line"),
];

impl<S: System> EventLoop<S> {
    pub(super) fn dump_conns(&self, out: &mut dyn Write, now: u64) -> fmt::Result {
        for (key, conn) in each(&self.conns) {
            let slot = slot_of(key);
            write!(out, "{:?} {}", ConnId(key), conn.peer)?;
            if let Some(Ok(local)) = conn.socket.as_ref().map(|s| self.sys.local_addr(s)) {
                write!(out, ", here {local}")?;
            }
            match conn.listener {
                ListenerId(0) => {}
                ADOPTED => out.write_str(", adopted")?,
                listener => write!(out, ", from {listener:?}")?,
            }
            out.write_str(": ")?;
            write_state(out, conn)?;
            let queued = conn.queue.len() + self.gathered_len(slot);
            let here = match self.current {
                Current::Data(current) if current == slot => self.unread_here.len(),
                _ => 0,
            };
            let unread = conn.unread.len() + here;
            let moved = between(conn.active_at, now);
            write!(
                out,
                "; {queued} queued, {unread} unread, last byte {moved:.1?} ago"
            )?;
            if conn.user_data != 0 {
                write!(out, ", user data {:#x}", conn.user_data)?;
            }
            let (at, kind) = conn.next_deadline();
            if at != NEVER && !conn.flags.any(Flags::DEAD) {
                write!(out, "; {} ", deadline_name(conn, kind))?;
                write_due(out, Some(at), now)?;
                if self.deadlines.at(conn.deadline).is_none() {
                    out.write_str(", not armed")?;
                }
            }
            out.write_char('\n')?;
        }
        Ok(())
    }
}

fn write_state<K>(out: &mut dyn Write, conn: &Conn<K>) -> fmt::Result {
    if conn.flags.any(Flags::DEAD) {
        return write!(out, "ended, to be told: {}", conn.reason);
    }
    if conn.flags.any(Flags::CONNECTING) {
        out.write_str("connecting")?;
        if let Some(race) = &conn.race {
            write_race(out, race)?;
        }
    } else if conn.flags.any(Flags::CLOSING) {
        write!(out, "closing: {}", conn.reason)?;
    } else {
        out.write_str("open")?;
    }
    for (_, state) in STATES.iter().filter(|(flags, _)| conn.flags.any(*flags)) {
        write!(out, ", {state}")?;
    }
    if conn.flags.lingers() {
        out.write_str(", waiting for the peer to finish")?;
    }
    Ok(())
}

fn deadline_name<K>(conn: &Conn<K>, kind: DeadlineKind) -> &'static str {
    match kind {
        DeadlineKind::WriteStall => "write-stall timeout",
        DeadlineKind::Idle => "idle timeout",
        DeadlineKind::FirstByte => "first-byte timeout",
        DeadlineKind::Lifetime => "end of its lifetime",
        DeadlineKind::End if conn.flags.any(Flags::CONNECTING) => "connect timeout",
        DeadlineKind::End if conn.flags.lingers() => "end of lingering",
        DeadlineKind::End => "close timeout",
    }
}
