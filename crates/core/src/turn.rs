//! What comes next: reports go into the line, visits turn the line into events.
//!
//! The rule: a connection stands in the line at most once and reads at most once a turn; one that
//! has more waits for the next turn, behind the others (promise 8). One visit makes at most one
//! event, and always leaves the connection's flags telling what is still to be done.

use crate::conn::Flags;
use crate::event_loop::EventLoop;
use crate::handle::{Kind, kind_of};
use crate::io::errno_reason;
use crate::sys::{Ready, System, WAKER};
use crate::{CloseReason, ConnId, Event, ListenerId};

/// Accepts a turn may make, over all listeners.
const ACCEPTS_A_TURN: usize = 256;

/// What the program is handling: the event handed out last, as far as it leaves work behind.
#[derive(Clone, Copy)]
pub(crate) enum Current {
    Nothing,
    Data(u32),
    EndOfStream(u32),
    /// Any other event of a connection that lives.
    Told(u32),
    Closed(u32),
    Timer(u32),
}

impl<S: System> EventLoop<S> {
    /// Something can be handed out without asking the kernel.
    pub(crate) fn has_work(&self) -> bool {
        !(self.line.is_empty()
            && self.later.is_empty()
            && self.accepting.is_empty()
            && self.due.is_empty()
            && self.posted.is_empty()
            && !self.stop)
    }

    pub(crate) fn begin_turn(&mut self) {
        self.line.extend(self.later.drain(..));
        self.accepts_left = ACCEPTS_A_TURN;
    }

    /// Notes what the kernel reported. A report for a token that lives no more is dropped.
    #[inline]
    pub(crate) fn dispatch(&mut self, ready: Ready) {
        if let Some(slot) = self.conns.find(ready.token) {
            let Some(conn) = self.conns.get_mut(slot) else { return };
            if ready.readable {
                conn.flags.set(Flags::READABLE);
            }
            if ready.read_closed {
                conn.flags.set(Flags::READABLE | Flags::READ_CLOSED);
            }
            if ready.error {
                conn.flags.set(Flags::READABLE | Flags::READ_CLOSED | Flags::ERROR);
            }
            if ready.writable {
                conn.flags.set(Flags::WRITABLE);
                if !conn.queue.is_empty() || conn.flags.any(Flags::CONNECTING) {
                    conn.flags.set(Flags::FLUSH);
                }
            }
            let due = conn.flags.any(Flags::SPECIAL)
                || (conn.flags.any(Flags::READABLE) && conn.may_read());
            if due && !conn.flags.any(Flags::IN_LINE) {
                conn.flags.set(Flags::IN_LINE);
                self.line.push_back(slot);
            }
        } else if ready.token == WAKER {
            self.stop |= self.mailbox.take(&mut self.posted);
        } else if kind_of(ready.token) == Kind::Listener as u64 {
            self.listener_ready(ready.token);
        }
    }

    /// Does what the handler of the last event left to be done: flush, then look what else.
    #[inline]
    pub(crate) fn finish_handler(&mut self) {
        if !self.dirty.is_empty() {
            self.flush_dirty();
        }
        if !matches!(self.current, Current::Nothing) {
            self.settle();
        }
    }

    fn settle(&mut self) {
        match std::mem::replace(&mut self.current, Current::Nothing) {
            Current::Nothing => {}
            Current::Data(slot) => {
                self.keep_unread(slot);
                self.requeue(slot);
            }
            Current::EndOfStream(slot) => {
                self.keep_unread(slot);
                self.peer_finished(slot);
                self.requeue(slot);
            }
            Current::Told(slot) => self.requeue(slot),
            Current::Closed(slot) => {
                if let Some(mut conn) = self.conns.remove(slot) {
                    self.buffered -= conn.unread.len() + conn.queue.len();
                    conn.unread.clear(&mut self.pool);
                    conn.queue.clear(&mut self.pool);
                    self.feed_starved();
                }
            }
            Current::Timer(slot) => self.timer_handled(slot),
        }
    }

    /// Puts a connection in the line if its flags ask for a visit: in this turn for what is to be
    /// told, in the next for another read.
    pub(crate) fn requeue(&mut self, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        if conn.flags.any(Flags::IN_LINE) {
            return;
        }
        if conn.flags.any(Flags::URGENT) {
            conn.flags.set(Flags::IN_LINE);
            self.line.push_back(slot);
        } else if conn.flags.any(Flags::OFFER) || (conn.flags.any(Flags::READABLE) && conn.may_read()) {
            conn.flags.set(Flags::IN_LINE);
            self.later.push(slot);
        }
    }

    #[inline]
    pub(crate) fn visit(&mut self, slot: u32) -> Option<Event> {
        let conn = self.conns.get_mut(slot)?;
        conn.flags.clear(Flags::IN_LINE);
        if conn.flags.any(Flags::SPECIAL) {
            return self.visit_special(slot);
        }
        if conn.flags.any(Flags::READABLE) && conn.may_read() {
            return self.read(slot);
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
        if conn.flags.take(Flags::ERROR) && !conn.may_read() {
            self.hung_up(slot);
        }
        let conn = self.conns.get_mut(slot)?;
        if conn.flags.any(Flags::DEAD) {
            return Some(self.tell_closed(slot));
        }
        self.current = Current::Told(slot);
        if conn.flags.take(Flags::TELL_CONGESTED) {
            return Some(Event::Congested { conn: id });
        }
        if conn.flags.take(Flags::TELL_DRAINED) {
            return Some(Event::Drained { conn: id });
        }
        let may_read = conn.may_read();
        if conn.flags.take(Flags::OFFER) && !conn.flags.any(Flags::PAUSED) && !conn.unread.is_empty() {
            self.current = Current::Data(slot);
            return Some(Event::Data { conn: id });
        }
        self.current = Current::Nothing;
        if conn.flags.any(Flags::READABLE) && may_read {
            return self.read(slot);
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
        Event::Closed { conn, reason, unsent }
    }

    /// A hang-up was reported while nobody reads: an error ends the connection at once.
    fn hung_up(&mut self, slot: u32) {
        let Some(socket) = self.conns.get(slot).and_then(|c| c.socket.as_ref()) else { return };
        if let Some(e) = self.sys.take_error(socket) {
            self.terminate(slot, errno_reason(e));
        }
    }

    /// Events that are not a connection's line: posts, stop, timers, accepts.
    #[inline(never)]
    pub(crate) fn next_other(&mut self) -> Option<Event> {
        if let Some(word) = self.posted.pop_front() {
            return Some(Event::Posted { word });
        }
        if std::mem::take(&mut self.stop) {
            return Some(Event::Stop);
        }
        if let Some(event) = self.next_timer() {
            return Some(event);
        }
        if self.accepting.is_empty() {
            return None;
        }
        self.next_accept()
    }
}
