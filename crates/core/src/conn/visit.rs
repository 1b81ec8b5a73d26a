//! A visit of a connection: one thing that its flags say is to be done, told or read.
//!
//! The rule: a visit makes at most one event, and leaves the connection in the line if its flags
//! ask for another one. Whose turn it is, is for `turn` to say.

use crate::conn::adopt::ADOPTED;
use crate::conn::{Conn, Flags};
use crate::event_loop::EventLoop;
use crate::sys::System;
use crate::turn::Current;
use crate::{CloseReason, ConnId, Event, ListenerId};

impl<S: System> EventLoop<S> {
    /// Puts a connection in the line if its flags ask for a visit: in this turn for what is to be
    /// told, in the next for another read.
    pub(crate) fn requeue(&mut self, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        if conn.flags.any(Flags::IN_LINE) || self.current == Current::Closed(slot) {
            return;
        }
        let answered = conn.flags.any(Flags::CONNECTING) && conn.flags.any(Flags::WRITABLE);
        if answered || conn.flags.any(Flags::URGENT) {
            conn.flags.set(Flags::IN_LINE);
            self.line.push_back(slot);
            self.work_left();
        } else if conn.flags.any(Flags::OFFER) || conn.wants_read() {
            conn.flags.set(Flags::IN_LINE);
            if self.later.try_reserve(1).is_ok() {
                self.later.push(slot);
            } else {
                self.line.push_back(slot); // Where there is room for everyone.
            }
            self.work_left();
        }
    }

    /// Does what there is to do for a connection.
    pub(crate) fn visit(&mut self, slot: u32) -> Option<Event> {
        let conn = self.conns.get_mut(slot)?;
        conn.flags.clear(Flags::IN_LINE | Flags::TIMED);
        if conn.flags.any(Flags::SPECIAL) {
            return self.visit_special(slot);
        }
        if conn.wants_read() {
            return self.read_event(slot);
        }
        None
    }

    fn visit_special(&mut self, slot: u32) -> Option<Event> {
        let id = ConnId(self.conns.key(slot));
        let conn = self.conns.get_mut(slot)?;
        if conn.flags.take(Flags::TELL_OPEN) {
            self.current = Current::Told(slot);
            return Some(match conn.listener {
                ListenerId(0) => Event::Connected { conn: id },
                ADOPTED => Event::Adopted { conn: id },
                listener => Event::Accepted { conn: id, listener },
            });
        }
        if conn.flags.any(Flags::DEAD) {
            return Some(self.tell_closed(slot));
        }
        if conn.flags.any(Flags::CONNECTING) {
            return self.finish_connect(slot);
        }
        if conn.flags.take(Flags::FLUSH) {
            self.flush(slot);
        }
        let conn = self.conns.get_mut(slot)?;
        if conn.flags.any(Flags::CLOSING) {
            conn.flags.clear(Flags::ERROR);
            self.progress_close(slot);
            self.discard_input(slot);
            self.requeue(slot);
            return None;
        }
        if conn.flags.take(Flags::ERROR) && !conn.wants_read() {
            self.hung_up(slot);
        }
        let conn = self.conns.get_mut(slot)?;
        if conn.flags.any(Flags::DEAD) {
            return Some(self.tell_closed(slot));
        }
        if conn.flags.any(Flags::PIPED) {
            self.pump(slot);
            return None;
        }
        self.current = Current::Told(slot);
        if conn.flags.take(Flags::TELL_CONGESTED) {
            return Some(Event::Congested { conn: id });
        }
        if conn.flags.take(Flags::TELL_DRAINED) {
            // What was left for want of room in the queue has it now, whether or not more comes.
            if !conn.unread.is_empty() {
                conn.flags.set(Flags::OFFER);
            }
            return Some(Event::Drained { conn: id });
        }
        if conn.flags.take(Flags::TELL_END) {
            conn.end_told = true;
            self.current = Current::EndOfStream(slot);
            return Some(Event::EndOfStream { conn: id });
        }
        if conn.flags.take(Flags::OFFER)
            && !conn.flags.any(Flags::PAUSED)
            && !conn.unread.is_empty()
        {
            self.current = Current::Kept(slot);
            return Some(Event::Data { conn: id });
        }
        self.current = Current::Nothing;
        if self.conns.get(slot).is_some_and(Conn::wants_read) {
            return self.read_event(slot);
        }
        None
    }

    fn tell_closed(&mut self, slot: u32) -> Event {
        self.current = Current::Closed(slot);
        self.counters.closed += 1;
        let conn = ConnId(self.conns.key(slot));
        let (reason, unsent) = match self.conns.get_mut(slot) {
            Some(conn) => (conn.reason, conn.queue.len() as u64),
            None => (CloseReason::ClosedHere, 0),
        };
        Event::Closed {
            conn,
            reason,
            unsent,
        }
    }

    /// A hang-up was reported while nobody reads: an error ends the connection at once.
    fn hung_up(&mut self, slot: u32) {
        let Some(socket) = self.conns.get(slot).and_then(|c| c.socket.as_ref()) else {
            return;
        };
        let error = self.sys.take_error(socket);
        let Some(conn) = self.conns.get(slot) else {
            return;
        };
        if !conn.flags.any(Flags::BROKEN) {
            if let Some(e) = error {
                self.write_failed(slot, e);
            }
            return;
        }
        // It was paused in the middle of its last words. Others wait, for room or tokens.
        if conn.flags.any(Flags::PAUSED) {
            let reason = conn.reason;
            self.terminate(slot, reason);
        }
    }
}
