//! The deadlines of a connection: which counts, and what follows when it is missed.
//!
//! The rule: a connection is armed for the earliest of its deadlines only, and one that moved to a
//! later time is left to fire and be armed anew. So traffic costs nothing here, and a connection
//! holds one number whatever it waits for.

use std::time::Duration;

use rustix::io::Errno;

use crate::conn::{Conn, Flags, NEVER, after};
use crate::event_loop::EventLoop;
use crate::sys::System;
use crate::time::deadlines::{DeadlineId, Owner};
use crate::{CloseReason, Deadline};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DeadlineKind {
    /// Connecting or closing takes too long.
    End,
    WriteStall,
    Idle,
    FirstByte,
    /// It is to be closed.
    Lifetime,
}

impl<K> Conn<K> {
    /// The earliest of the connection's deadlines, and which it is.
    pub(crate) fn next_deadline(&self) -> (u64, DeadlineKind) {
        let mut earliest = (self.ends_by, DeadlineKind::End);
        let mut consider = |from: u64, timeout: Option<Duration>, kind| {
            let at = timeout.map_or(NEVER, |t| after(from, t));
            if at < earliest.0 {
                earliest = (at, kind);
            }
        };
        let closing = self.flags.any(Flags::CLOSING);
        if !self.queue.is_empty() && !self.flags.any(Flags::CONNECTING | Flags::BROKEN) {
            consider(
                self.progress_at,
                self.options.write_stall_timeout,
                DeadlineKind::WriteStall,
            );
            if closing && self.ends_by == NEVER {
                consider(
                    self.progress_at,
                    Some(self.options.close_timeout),
                    DeadlineKind::End,
                );
            }
        }
        // One that closes is bounded already, save for a peer that is owed its bytes.
        if !self.flags.any(Flags::CONNECTING) && (!closing || self.ends_by == NEVER) {
            let lifetime = self.options.lifetime;
            consider(self.opened_at, lifetime, DeadlineKind::Lifetime);
        }
        if !closing && !self.flags.any(Flags::CONNECTING) {
            consider(
                self.active_at,
                self.options.idle_timeout,
                DeadlineKind::Idle,
            );
            let first = self
                .options
                .first_byte_timeout
                .filter(|_| self.awaits_first);
            consider(self.opened_at, first, DeadlineKind::FirstByte);
        }
        earliest
    }
}

impl<S: System> EventLoop<S> {
    /// Arms the connection's deadline if it is earlier than what is armed. One that moved to a
    /// later time is left to fire and be armed anew, so traffic costs nothing here.
    pub(crate) fn arm(&mut self, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        let (at, _) = conn.next_deadline();
        if at == NEVER || conn.flags.any(Flags::DEAD) {
            return;
        }
        if conn.deadline == DeadlineId::NONE {
            let Some(deadline) = self.deadlines.add(Owner::Conn(slot)) else {
                // Without it, nothing would end it that is to be ended.
                return self.terminate(slot, CloseReason::Error(Errno::NOMEM.raw_os_error()));
            };
            conn.deadline = deadline;
        }
        if self
            .deadlines
            .at(conn.deadline)
            .is_none_or(|armed| at < armed)
        {
            self.deadlines.arm(conn.deadline, at);
            self.changed();
        }
    }

    /// A connection's deadline fired: end it if it is really due, else arm it anew;
    /// whether it was.
    pub(crate) fn conn_due(&mut self, slot: u32) -> bool {
        let Some(conn) = self.conns.get_mut(slot) else {
            return false;
        };
        if conn.wants_read() {
            conn.active_at = self.now; // Bytes have come, only not been read yet.
        }
        if conn.flags.any(Flags::THROTTLED) {
            conn.active_at = self.now; // It is not read for a reason of ours.
        }
        if conn.awaits_first && conn.flags.any(Flags::READABLE) {
            conn.heard(); // Likewise, also while the program reads nothing.
        }
        if conn.flags.any(Flags::FLUSH) {
            conn.progress_at = self.now; // Likewise for room to send.
        }
        if conn.flags.any(Flags::HELD | Flags::STARVED) && conn.flags.any(Flags::PIPED) {
            self.held_is_not_idle(slot);
        }
        let Some(conn) = self.conns.get_mut(slot) else {
            return false;
        };
        let (at, kind) = conn.next_deadline();
        if at > self.now {
            self.arm(slot);
            return false;
        }
        let flushed = conn.queue.is_empty();
        let reason = match kind {
            DeadlineKind::WriteStall => CloseReason::TimedOut(Deadline::WriteStall),
            DeadlineKind::Idle => CloseReason::TimedOut(Deadline::Idle),
            DeadlineKind::FirstByte => CloseReason::TimedOut(Deadline::FirstByte),
            DeadlineKind::Lifetime => {
                let reason = CloseReason::TimedOut(Deadline::Lifetime);
                self.begin_close(slot, reason, None);
                return true;
            }
            DeadlineKind::End if conn.flags.any(Flags::CONNECTING) => self.connect_timed_out(slot),
            DeadlineKind::End if flushed => conn.reason,
            DeadlineKind::End => CloseReason::TimedOut(Deadline::Close),
        };
        self.terminate(slot, reason);
        true
    }
}
