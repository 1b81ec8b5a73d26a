//! Receiving: one read a turn, into the buffer that all connections share.
//!
//! The rule: the shared buffer holds what the current event brought; only what its handler leaves
//! is copied, to the connection, within its bounds. A read that brought less than it asked for has
//! emptied the kernel's side, so no second one asks for `EAGAIN` (contract 4 of `sys`).

use std::ops::Range;

use rustix::io::Errno;

use crate::conn::{Conn, Flags, Received};
use crate::event_loop::EventLoop;
use crate::sys::System;
use crate::turn::Current;
use crate::{CloseReason, ConnId, Event};

impl<S: System> EventLoop<S> {
    /// Reads once from a connection; true when that brought bytes. What it brought instead is in
    /// the connection's flags.
    #[inline(always)]
    pub(crate) fn read(&mut self, slot: u32) -> bool {
        let Some(conn) = self.conns.get_mut(slot) else {
            return false;
        };
        let outcome = conn.receive(&mut self.sys, &mut self.read_buf, self.now);
        self.has_read(slot, outcome)
    }

    /// What follows from a read.
    #[inline(always)]
    pub(crate) fn has_read(&mut self, slot: u32, outcome: Received) -> bool {
        let Received::Bytes { n, join } = outcome else {
            return self.read_ended(slot, outcome);
        };
        self.counters.bytes_received += n as u64;
        self.counters.reads += 1;
        self.unread_here = 0..n;
        self.current = Current::Data(slot);
        !join || self.join_unread(slot)
    }

    /// [`read`](Self::read), to an event.
    pub(crate) fn read_event(&mut self, slot: u32) -> Option<Event> {
        let conn = ConnId(self.conns.key(slot));
        let watched = |c: &Conn<S::Socket>| c.flags.any(Flags::WATCHED);
        let brought = if self.conns.get(slot).is_some_and(watched) {
            self.read_watched(slot)
        } else {
            self.read(slot)
        };
        brought.then_some(Event::Data { conn })
    }

    #[cold]
    fn read_ended(&mut self, slot: u32, outcome: Received) -> bool {
        let Some(conn) = self.conns.get_mut(slot) else {
            return false;
        };
        match outcome {
            Received::BufferTooSmall => {
                let wanted = conn.room();
                let size = self.read_room(wanted);
                if let Some(conn) = self.conns.get_mut(slot) {
                    // No more than there is memory for; it learns to ask for more again.
                    conn.read_size = conn.read_size.min(size as u32);
                }
                return self.read(slot);
            }
            Received::Failed(Errno::INTR) => self.requeue(slot),
            Received::Failed(_) | Received::End if conn.flags.any(Flags::BROKEN) => {
                let reason = match outcome {
                    Received::Failed(e) if e != Errno::AGAIN => errno_reason(e),
                    _ => conn.reason,
                };
                self.terminate(slot, reason);
            }
            Received::Failed(Errno::AGAIN) => conn.flags.clear(Flags::READABLE),
            Received::Failed(e) => self.terminate(slot, errno_reason(e)),
            Received::End => {
                conn.flags.clear(Flags::READABLE);
                conn.flags.set(Flags::EOF);
                if conn.end_told {
                    self.peer_finished(slot); // It was piped since, and is told once.
                } else {
                    conn.flags.set(Flags::TELL_END);
                    self.requeue(slot);
                }
            }
            Received::Bytes { .. } => {}
        }
        false
    }

    /// Adds what was just read to what earlier handlers have left.
    #[inline(never)]
    fn join_unread(&mut self, slot: u32) -> bool {
        let here = std::mem::replace(&mut self.unread_here, 0..0);
        self.current = Current::Kept(slot);
        let Some(conn) = self.conns.get_mut(slot) else {
            return false;
        };
        self.buffered += here.len();
        let kept = conn
            .unread
            .push(&self.read_buf[here.clone()], &mut self.pool);
        if !kept {
            self.buffered -= here.len();
            self.terminate(slot, CloseReason::Error(Errno::NOMEM.raw_os_error()));
        }
        kept
    }

    /// Moves what the handler left in the shared buffer to the connection, within its bounds.
    #[inline]
    pub(crate) fn keep_unread(&mut self, slot: u32) {
        let left = std::mem::replace(&mut self.unread_here, 0..0);
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        if left.is_empty() && conn.unread.is_empty() {
            return;
        }
        self.keep_some(slot, left);
    }

    fn keep_some(&mut self, slot: u32, left: Range<usize>) {
        let live = self.conns.len();
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        if conn.flags.any(Flags::CLOSING | Flags::DEAD) {
            return;
        }
        if !left.is_empty() {
            if !conn
                .unread
                .push(&self.read_buf[left.clone()], &mut self.pool)
            {
                return self.terminate(slot, CloseReason::Error(Errno::NOMEM.raw_os_error()));
            }
            self.buffered += left.len();
        }
        let over = self.buffered > self.options.memory_budget;
        let share = self.options.memory_budget / live.max(1);
        let over_budget = over && conn.unread.len() > share;
        let too_much = over_budget || conn.unread.len() >= conn.options.max_unread;
        if too_much && !conn.flags.any(Flags::PAUSED | Flags::EOF) {
            self.terminate(slot, CloseReason::InputTooLarge);
        }
    }
}

/// The reason of a connection that this error of a read or write ends.
pub(crate) fn errno_reason(e: Errno) -> CloseReason {
    match e {
        // The last is what shutdown(2) says of a connection that was reset.
        Errno::CONNRESET | Errno::PIPE | Errno::NOTCONN => CloseReason::Reset,
        other => CloseReason::Error(other.raw_os_error()),
    }
}
