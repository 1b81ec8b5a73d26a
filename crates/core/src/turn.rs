//! What comes next: first the kernel's reports, then the line of those with more to do or to tell.
//!
//! The rule: a connection stands in the line at most once, and one that has more to read waits for
//! the next turn (promise 8). One visit makes at most one event, and always leaves the connection's
//! flags telling what is still to be done. Nearly all events are had the short way, by `next_data`.

use std::collections::VecDeque;

use crate::conn::{Conn, Flags, NEVER};
use crate::event_loop::EventLoop;
use crate::handle::{Kind, kind_of};
use crate::remote::letter::Letter;
use crate::sys::{ALARM, Ready, SIGNALS, System, WAKER};
use crate::{ConnId, Event};

/// How much of each kind a turn may still hand out or visit. What is left over waits for the next,
/// and so does what handlers make anew for ever, such as a connect that is refused at once.
pub(crate) struct Left {
    pub(crate) visits: u16,
    pub(crate) posts: u16,
    pub(crate) timers: u16,
    /// Connections that their deadlines end.
    pub(crate) overdue: u16,
    pub(crate) watches: u16,
    pub(crate) lookups: u16,
    pub(crate) udps: u16,
    /// Over all listeners.
    pub(crate) accepts: u16,
}

impl Left {
    pub(crate) const A_TURN: Self = Self {
        visits: 1024,
        posts: 1024,
        timers: 1024,
        overdue: 8,
        watches: 1024,
        lookups: 1024,
        udps: 1024,
        accepts: 8,
    };
}

/// The next in a queue, if the turn has any of its kind left.
pub(crate) fn pop<T>(queue: &mut VecDeque<T>, left: &mut u16) -> Option<T> {
    *left = left.checked_sub(u16::from(!queue.is_empty()))?;
    queue.pop_front()
}

/// What the program is handling: the event handed out last, as far as it leaves work behind.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Current {
    Nothing,
    /// Data in the shared buffer.
    Data(u32),
    /// Data that is kept with the connection.
    Kept(u32),
    EndOfStream(u32),
    /// Any other event of a connection that lives.
    Told(u32),
    Closed(u32),
    /// `Connected`, after a race whose story goes with this event.
    Connected(u32),
    Timer(u32),
    Watch(u32),
    Lookup(u32),
    Datagrams(u32),
}

/// The slot of no connection. Among the dirty ones it stands in for a handler that is timed.
pub(crate) const NOBODY: u32 = u32::MAX;
/// No connection either: the gatherer between the turns of a nested loop, so that the first send
/// takes the long way and can tell the loop around this one.
pub(crate) const OUTSIDE: u32 = u32::MAX - 1;

impl<S: System> EventLoop<S> {
    /// Something can be handed out without asking the kernel.
    pub(crate) fn has_work(&self) -> bool {
        !(self.line.is_empty()
            && (self.accepting.is_empty() || self.told_over_budget)
            && !self.budget_turned()
            && self.due.is_empty()
            && self.posted.is_empty()
            && !self.watches.has_work()
            && self.resolved.is_empty()
            && self.connect_retries == 0
            && !self.udp_has_work()
            && !self.signals.has_work()
            && !self.stop)
    }

    /// Puts in the line what earlier turns have left: reports that nobody asked for, then the
    /// connections that have more to read.
    pub(crate) fn begin_turn(&mut self) {
        while let Some(report) = self.ready.pop() {
            match self.conns.find_mut(report.token) {
                Some((slot, conn)) => {
                    conn.note(report.readiness);
                    self.requeue(slot);
                }
                None => self.look_at_other(report),
            }
        }
        self.watches.begin_turn();
        self.feed_starved();
        // Nearly always there is nothing, and even to move nothing costs a hundred instructions.
        if !self.later.is_empty() {
            self.line.extend(self.later.drain(..));
        }
        self.begin_udp_turn();
        self.left = Left::A_TURN;
    }

    /// The wait was full, so reports may be left behind. Who is due is not ended before all had room
    /// to be told: what came in time is not to find its connection closed as idle.
    #[cold]
    pub(crate) fn put_off_deadlines(&mut self) {
        let sockets = self.conns.len() + self.listeners.len() + self.attempts.len();
        let others = self.udps.len() + self.watches.slots.len();
        let most = sockets + others + 3; // Waker, alarm and signals.
        self.full_waits += 1;
        if self.full_waits * self.options.events_per_turn <= most {
            self.left.overdue = 0;
        } else {
            self.full_waits = 0;
        }
    }

    /// The next event if it is [`Event::Data`] and can be had the short way, as nearly always.
    ///
    /// Otherwise `None`, and [`next_event`](Self::next_event) has the next event, if there is any.
    /// For those who write a loop over events themselves and count instructions; `next_event`
    /// alone gives the same events.
    #[inline(always)]
    pub fn next_data(&mut self) -> Option<ConnId> {
        self.finish_handler();
        let report = self.ready.pop()?;
        let Some((slot, conn)) = self.conns.find_mut(report.token) else {
            self.ready.push(report);
            return None;
        };
        conn.note(report.readiness);
        if !conn.flags.just_read() {
            self.ready.push(report);
            return None;
        }
        let outcome = conn.receive(&mut self.sys, &mut self.read_buf, self.now);
        self.has_read(slot, outcome).then_some(ConnId(report.token))
    }

    /// For the C ABI: all that is unread of the connection whose `Data` is being handled, which is
    /// consumed by this. The bytes stay where they are until the next call of `poll`, `next_event`
    /// or `next_data`, whatever becomes of the connection.
    ///
    /// `None` when no `Data` is being handled, or when some of it was left over from an earlier
    /// one: then [`Connection::received`](crate::Connection::received) has it.
    #[doc(hidden)]
    #[inline]
    pub fn take_data(&mut self) -> Option<&[u8]> {
        let Current::Data(_) = self.current else {
            return None;
        };
        let here = self.unread_here.clone();
        self.unread_here.start = here.end;
        self.read_buf.get(here)
    }

    /// The long way to the next event.
    #[inline(never)]
    pub(crate) fn next_special(&mut self) -> Option<Event> {
        if self.sys.forked() {
            self.forget_turn();
            return None;
        }
        loop {
            let event = if let Some(report) = self.ready.pop() {
                self.look_at(report)
            } else if let Some(slot) = pop(&mut self.line, &mut self.left.visits) {
                self.visit(slot)
            } else {
                let event = self.next_other();
                if event.is_none() {
                    self.handing_out = false;
                    self.arm_delayed();
                    self.turn_ends();
                    self.tell_descriptor();
                    return None;
                }
                event
            };
            if let Some(event) = event {
                self.handler_begins(event);
                return Some(event);
            }
        }
    }

    /// Acts on one report of the kernel. One for a token that lives no more is dropped.
    fn look_at(&mut self, report: Ready) -> Option<Event> {
        let Some((slot, conn)) = self.conns.find_mut(report.token) else {
            self.look_at_other(report);
            return None;
        };
        conn.note(report.readiness);
        if conn.flags.any(Flags::IN_LINE) {
            return None;
        }
        self.visit(slot)
    }

    pub(crate) fn look_at_other(&mut self, report: Ready) {
        if report.token == WAKER {
            self.stop |= self.mailbox.take(&mut self.posted);
            self.take_answers();
        } else if report.token == ALARM {
            self.nesting.alarm = NEVER; // Those that are due are found by the clock.
        } else if report.token == SIGNALS {
            self.signals_came();
        } else if kind_of(report.token) == Kind::Listener as u64 {
            self.listener_ready(report.token);
        } else if kind_of(report.token) == Kind::Attempt as u64 {
            self.attempt_ready(report);
        } else if kind_of(report.token) == Kind::Udp as u64 {
            self.udp_ready(report);
        } else if !self
            .watches
            .report(&mut self.sys, report.token, report.readiness)
        {
            self.counters.stale_events += 1;
        }
    }

    /// Does what the handler of the last event left to be done: flush, then look what else.
    #[inline(always)]
    pub(crate) fn finish_handler(&mut self) {
        if self.gatherer != NOBODY && self.flush_gathered() {
            return;
        }
        match self.current {
            Current::Nothing if self.dirty.is_empty() => {}
            Current::Data(slot) if self.is_handled(slot) => self.current = Current::Nothing,
            _ => self.finish_more(),
        }
    }

    /// The handler of a `Data` event has left nothing to be done.
    #[inline]
    fn is_handled(&self, slot: u32) -> bool {
        let read_all = self.unread_here.start >= self.unread_here.end;
        read_all && self.dirty.is_empty() && self.conns.get(slot).is_some_and(Conn::at_rest)
    }

    #[inline(never)]
    fn finish_more(&mut self) {
        self.flush_dirty();
        self.flush_udps();
        self.settle();
        self.handler_ends();
    }

    pub(crate) fn settle(&mut self) {
        match std::mem::replace(&mut self.current, Current::Nothing) {
            Current::Nothing => {}
            Current::Data(slot) | Current::Kept(slot) => {
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
            Current::Connected(slot) => {
                self.forget_race(slot);
                self.requeue(slot);
            }
            Current::Timer(slot) => self.timer_handled(slot),
            Current::Watch(slot) => self.watches.handled(&mut self.sys, slot),
            Current::Lookup(slot) => self.lookup_handled(slot),
            Current::Datagrams(slot) => self.datagrams_handled(slot),
        }
    }

    /// Events that are not a connection's line: posts, stop, timers, the budget, watches, accepts.
    fn next_other(&mut self) -> Option<Event> {
        while let Some(letter) = pop(&mut self.posted, &mut self.left.posts) {
            self.mailbox.still_waits(self.posted.len());
            match letter {
                Letter::Word(word) => {
                    self.counters.posts += 1;
                    return Some(Event::Posted { word });
                }
                Letter::Handed(handed) => {
                    if let Some(event) = self.arrived(*handed) {
                        return Some(event);
                    }
                }
            }
        }
        if std::mem::take(&mut self.stop) {
            return Some(Event::Stop);
        }
        if let Some(event) = self.next_signal() {
            return Some(event);
        }
        if let Some(event) = self.next_timer() {
            return Some(event);
        }
        if let Some(event) = self.next_budget_event() {
            return Some(event);
        }
        if let Some(event) = self.next_watch() {
            return Some(event);
        }
        if let Some(lookup) = self.next_resolved() {
            return Some(Event::Resolved { lookup });
        }
        if self.connect_retries > 0 {
            self.retry_starved_connects();
        }
        if let Some(event) = self.next_udp() {
            return Some(event);
        }
        if self.accepting.is_empty() || self.told_over_budget {
            return None;
        }
        self.next_accept()
    }
}
