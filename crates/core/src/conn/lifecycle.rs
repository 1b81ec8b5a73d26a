//! How connections begin and end: connect's answer, close, abort.
//!
//! The rule: `terminate` is the only way to die. It closes the socket, keeps the reason and leaves
//! the connection in the line to tell `Closed`, once. Closing is orderly: flush, shut down the
//! writing side, then discard input until the peer has finished or `linger` is over. A socket
//! that is closed while input is still coming answers it with a reset, and a reset can destroy
//! what the peer has not read yet (RFC 9112, 9.6, on the same matter in HTTP).

use std::time::Duration;

use rustix::io::Errno;

use crate::conn::receive::errno_reason;
use crate::conn::{Flags, NEVER, after};
use crate::event_loop::EventLoop;
use crate::sys::System;
use crate::time::deadlines::DeadlineId;
use crate::turn::Current;
use crate::{CloseReason, ConnId, Error, ErrorKind, Event};

/// Reads that discard input in one visit of a closing connection.
const DISCARDS: usize = 8;

impl<S: System> EventLoop<S> {
    /// Registers a connection's socket, once, under its key.
    pub(crate) fn register(&mut self, slot: u32) -> Result<(), Errno> {
        let key = self.conns.key(slot);
        match self.conns.get(slot).and_then(|c| c.socket.as_ref()) {
            Some(socket) => self.sys.register(socket, key),
            None => Ok(()),
        }
    }

    /// Reads the answer of a connect under way.
    pub(crate) fn finish_connect(&mut self, slot: u32) -> Option<Event> {
        if let Some(paused) = self.tell_connect_paused(slot) {
            return Some(paused);
        }
        let conn = self.conns.get_mut(slot)?;
        if !conn.flags.any(Flags::WRITABLE | Flags::ERROR) {
            return None;
        }
        conn.flags.clear(Flags::ERROR | Flags::FLUSH);
        let socket = conn.socket.as_ref()?;
        if let Some(e) = self.sys.take_error(socket) {
            self.terminate(slot, CloseReason::ConnectFailed(e.raw_os_error()));
            return None;
        }
        conn.flags.clear(Flags::CONNECTING);
        conn.flags.set(Flags::WRITABLE);
        conn.ends_by = NEVER;
        conn.opened_at = self.now;
        conn.active_at = self.now;
        conn.progress_at = self.now;
        self.counters.connected += 1;
        self.arm(slot);
        self.flush(slot);
        let conn = self.conns.get_mut(slot)?;
        if conn.flags.any(Flags::FINISHING) && conn.queue.is_empty() {
            self.finish_sending(slot);
        }
        let conn = self.conns.get(slot)?;
        self.current = match conn.race {
            Some(_) => Current::Connected(slot),
            None => Current::Told(slot),
        };
        Some(Event::Connected {
            conn: ConnId(self.conns.key(slot)),
        })
    }

    /// Starts an orderly close; the first reason stays.
    pub(crate) fn begin_close(&mut self, slot: u32, reason: CloseReason, within: Option<Duration>) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        if conn.flags.any(Flags::DEAD) {
            return;
        }
        self.spill_gathered(slot);
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        let within = within.unwrap_or(conn.options.close_timeout);
        // The handler may have taken its time since the turn began.
        let now = self.sys.now();
        // Never `NEVER`, which is for a peer that is owed its bytes and may be ended by another.
        let ends_by = after(now, within).min(NEVER - 1);
        if conn.flags.any(Flags::CLOSING) {
            conn.ends_by = conn.ends_by.min(ends_by);
            return self.arm(slot);
        }
        let first = std::mem::replace(&mut conn.reason, reason);
        if conn.flags.any(Flags::CONNECTING) {
            return self.terminate(slot, reason);
        }
        if conn.flags.any(Flags::BROKEN) {
            return self.terminate(slot, first);
        }
        conn.flags.set(Flags::CLOSING);
        conn.flags
            .clear(Flags::PAUSED | Flags::OFFER | Flags::CONGESTED | Flags::HELD);
        conn.flags
            .clear(Flags::TELL_CONGESTED | Flags::TELL_DRAINED | Flags::TELL_END);
        self.buffered -= conn.unread.len();
        conn.unread.clear(&mut self.pool);
        conn.progress_at = now;
        // A peer that has finished sending may take its time to read what it is owed, as long as
        // it goes on reading.
        conn.ends_by = if reason == CloseReason::PeerFinished {
            NEVER
        } else {
            ends_by
        };
        self.end_rate(slot);
        self.arm(slot);
        self.progress_close(slot);
        self.changed();
        self.requeue(slot);
        self.end_pipe(slot, reason, Some(within));
    }

    /// After the handler of end of stream: by default close, half-open stay.
    pub(crate) fn peer_finished(&mut self, slot: u32) {
        let Some(conn) = self.conns.get(slot) else {
            return;
        };
        if conn.options.half_open && !conn.flags.any(Flags::FINISHED) {
            return;
        }
        self.begin_close(slot, CloseReason::PeerFinished, None);
    }

    /// Takes a closing connection as far as it goes.
    pub(crate) fn progress_close(&mut self, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        if !conn.queue.is_empty() || conn.flags.any(Flags::DEAD) {
            return;
        }
        let reason = conn.reason;
        if conn.flags.any(Flags::EOF | Flags::INHERITED) {
            return self.terminate(slot, reason);
        }
        let Some(socket) = conn.socket.as_ref() else {
            return;
        };
        if !conn.flags.any(Flags::FINISHED) {
            conn.flags.set(Flags::FINISHED);
            if self.sys.shutdown_write(socket).is_err() {
                return self.terminate(slot, reason);
            }
        }
        let linger = conn.options.linger;
        if linger.is_zero() {
            return self.terminate(slot, reason);
        }
        conn.ends_by = conn.ends_by.min(after(self.now, linger));
        self.arm(slot);
    }

    /// Reads what a closing connection still gets, to see the peer finish. Only for visits: it
    /// overwrites the shared buffer, which a handler may be looking at.
    pub(crate) fn discard_input(&mut self, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        let (reason, size) = (conn.reason, self.read_buf.len());
        let Some(socket) = conn.socket.as_ref() else {
            return;
        };
        if !conn.flags.lingers() {
            return;
        }
        for _ in 0..DISCARDS {
            if !conn.flags.any(Flags::READABLE) {
                return;
            }
            match self.sys.recv(socket, &mut self.read_buf) {
                // Everything was flushed before, so any end is the good end.
                Ok(0) => return self.terminate(slot, reason),
                Ok(n) if n < size && !conn.flags.any(Flags::READ_CLOSED) => {
                    conn.flags.clear(Flags::READABLE);
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => conn.flags.clear(Flags::READABLE),
                Err(_) => return self.terminate(slot, reason),
            }
        }
    }

    /// Shuts down the writing side, the queue being empty.
    pub(crate) fn finish_sending(&mut self, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        if conn
            .flags
            .any(Flags::FINISHED | Flags::DEAD | Flags::BROKEN | Flags::CONNECTING)
        {
            return;
        }
        conn.flags.set(Flags::FINISHED);
        let Some(socket) = conn.socket.as_ref() else {
            return;
        };
        if let Err(e) = self.sys.shutdown_write(socket) {
            return self.write_failed(slot, e);
        }
        // An end of stream that is still to be told closes after it was.
        if conn.flags.any(Flags::EOF) && !conn.flags.any(Flags::TELL_END) {
            self.begin_close(slot, CloseReason::PeerFinished, None);
        }
    }

    /// A write failed, so no other can succeed. What the peer sent before it went is handed out
    /// first, where somebody reads: then the reading finds the end.
    #[cold]
    pub(crate) fn write_failed(&mut self, slot: u32, e: Errno) {
        self.spill_gathered(slot);
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        let reason = errno_reason(e);
        let no_reader = Flags::PAUSED | Flags::EOF | Flags::ENDING;
        if conn.flags.any(no_reader) {
            return self.terminate(slot, reason);
        }
        conn.reason = reason;
        // Nobody waits for the queue any more.
        let waits = Flags::WRITABLE | Flags::FLUSH | Flags::CONGESTED | Flags::STARVED;
        let tells = Flags::TELL_CONGESTED | Flags::TELL_DRAINED;
        conn.flags.clear(waits | tells);
        conn.flags
            .set(Flags::BROKEN | Flags::READABLE | Flags::READ_CLOSED);
        if conn.flags.any(Flags::PIPED) {
            self.pipe_has_room(slot); // What comes for it is dropped.
        } else {
            conn.flags.clear(Flags::HELD);
        }
        self.requeue(slot);
    }

    /// Resets the connection at once.
    pub(crate) fn abort(&mut self, slot: u32, reason: CloseReason) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        // What is shared with the parent of a fork is not ours to reset.
        if !conn.flags.any(Flags::INHERITED)
            && let Some(socket) = conn.socket.take()
        {
            self.sys.abort(socket);
        }
        self.terminate(slot, reason);
    }

    /// Ends a connection: its socket is closed, or reset where bytes wait that will never be sent;
    /// `Closed` is to be told. What waits is kept until then, to be counted.
    pub(crate) fn terminate(&mut self, slot: u32, reason: CloseReason) {
        self.spill_gathered(slot);
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        if conn.flags.any(Flags::DEAD) {
            return;
        }
        conn.reason = reason;
        conn.flags.set(Flags::DEAD);
        conn.flags.clear(Flags::CONNECTING);
        let deadline = std::mem::replace(&mut conn.deadline, DeadlineId::NONE);
        // Where bytes are lost an end of stream would tell the peer that it has them all; and of one
        // that does not read, the kernel would keep for minutes what it has taken.
        let lost = !conn.queue.is_empty() && !conn.flags.any(Flags::INHERITED);
        match conn.socket.take() {
            Some(socket) if lost => self.sys.abort(socket),
            Some(socket) => self.sys.close(socket),
            None => {}
        }
        self.deadlines.remove(deadline);
        self.end_race(slot);
        self.end_rate(slot);
        self.descriptor_freed();
        self.requeue(slot);
        self.end_pipe(slot, reason, None);
    }

    /// Answers `shutdown_write`.
    pub(crate) fn shutdown_write(&mut self, slot: u32) -> Result<(), Error> {
        let refused = Err(Error::new("shutdown_write", ErrorKind::Closing));
        let Some(conn) = self.conns.get_mut(slot) else {
            return refused;
        };
        if conn.flags.any(Flags::ENDING) {
            return refused;
        }
        if conn.flags.any(Flags::PIPED) {
            return Err(Error::new("shutdown_write", conn.takes_no_send()));
        }
        conn.flags.set(Flags::FINISHING);
        self.spill_gathered(slot);
        let Some(conn) = self.conns.get_mut(slot) else {
            return Ok(());
        };
        if conn.queue.is_empty() {
            self.finish_sending(slot);
        }
        Ok(())
    }
}
