//! What a loop holds, as text, for the moment something hangs.
//!
//! The rule: one line for each object, kinds and slots in their order, in words that a reader of
//! this crate's documentation knows. It changes nothing and asks the system only for addresses and
//! the time. Each kind has one function in a file of its own here; this file has the frame.

mod conns;
mod listeners;
mod lookups;
mod signals;
mod timers;
mod udps;
mod watches;

use std::fmt::{self, Write};
use std::time::Duration;

use crate::event_loop::EventLoop;
use crate::handle::slot_of;
use crate::slots::Slots;
use crate::sys::System;
use crate::turn::Current;
use crate::{ConnId, LookupId, TimerId, UdpId, WatchId};

impl<S: System> EventLoop<S> {
    /// All that is open, a line each, then what waits to be handed out, counters and times: text
    /// for people, whose form may change with any version.
    ///
    /// A line has the handle, addresses, the state in words, bytes queued and unread, and the next
    /// deadline. It takes some microseconds for each object; the loop goes on as if nothing was.
    ///
    /// # Examples
    ///
    /// A thread that asks a loop what it is waiting for:
    ///
    /// ```
    /// # use echoloop_core::{Event, EventLoop, LoopOptions};
    /// # use std::time::Duration;
    /// const DUMP: u64 = 1;
    /// let mut el = EventLoop::new(LoopOptions::default())?;
    /// let remote = el.remote();
    /// std::thread::spawn(move || remote.post(DUMP));
    /// el.poll(Some(Duration::from_secs(5)))?;
    /// while let Some(event) = el.next_event() {
    ///     if event == (Event::Posted { word: DUMP }) {
    ///         eprint!("{}", el.dump());
    ///     }
    /// }
    /// # Ok::<(), echoloop_core::Error>(())
    /// ```
    #[must_use]
    pub fn dump(&self) -> String {
        let mut out = String::new();
        // A String takes all that is written.
        let _ = self.write_dump(&mut out);
        out
    }

    /// The same, written to `out`: for a place of limited size.
    ///
    /// # Errors
    ///
    /// Those of `out`, after which the rest is not written.
    pub fn write_dump(&self, out: &mut dyn Write) -> fmt::Result {
        let now = self.sys.now();
        let kinds = [
            ("listeners", self.listeners.len()),
            ("connections", self.conns.len()),
            ("timers", self.timers.len()),
            ("watches", self.watches.slots.len()),
            ("datagram sockets", self.udps.len()),
            ("lookups", self.lookups.len()),
            ("signals", self.signals.slots.len()),
        ];
        write!(out, "loop {}: ", self.id().index())?;
        for (kind, n) in kinds.iter().filter(|(_, n)| *n > 0) {
            write!(out, "{n} {kind}, ")?;
        }
        let (buffered, budget) = (self.buffered, self.options.memory_budget);
        write!(out, "{buffered} of {budget} bytes buffered")?;
        if self.told_over_budget {
            out.write_str(", over the budget: nobody is accepted")?;
        }
        out.write_char('\n')?;
        self.dump_listeners(out, now)?;
        self.dump_conns(out, now)?;
        self.dump_timers(out, now)?;
        self.dump_watches(out)?;
        self.dump_lookups(out, now)?;
        self.dump_udps(out)?;
        self.dump_signals(out)?;
        self.dump_turn(out, now)?;
        writeln!(out, "{:?}", self.counters)?;
        writeln!(out, "{}", self.timing.metrics)
    }

    /// Where the loop stands in its turn.
    fn dump_turn(&self, out: &mut dyn Write, now: u64) -> fmt::Result {
        let handled = match self.current {
            Current::Nothing => String::from("no event"),
            Current::Data(slot) | Current::Kept(slot) => format!("data of {:?}", self.named(slot)),
            Current::EndOfStream(slot) => format!("the end of stream of {:?}", self.named(slot)),
            Current::Told(slot) | Current::Connected(slot) => {
                format!("an event of {:?}", self.named(slot))
            }
            Current::Closed(slot) => format!("the end of {:?}", self.named(slot)),
            Current::Timer(slot) => format!("{:?}", TimerId(self.timers.key(slot))),
            Current::Watch(slot) => format!("{:?}", WatchId(self.watches.slots.key(slot))),
            Current::Lookup(slot) => format!("{:?}", LookupId(self.lookups.key(slot))),
            Current::Datagrams(slot) => format!("datagrams of {:?}", UdpId(self.udps.key(slot))),
        };
        writeln!(
            out,
            "turn {}, polled {:.1?} ago: handling {handled}; still to look at: {} reports, {} in \
             line, {} for the next turn, {} due timers, {} listeners, {} posts{}",
            self.counters.turns,
            between(self.now, now),
            self.ready.len(),
            self.line.len(),
            self.later.len(),
            self.due.len(),
            self.accepting.len(),
            self.posted.len(),
            if self.stop { ", a stop" } else { "" }
        )
    }

    fn named(&self, slot: u32) -> ConnId {
        ConnId(self.conns.key(slot))
    }
}

/// The objects of one kind, by slot, with their keys.
fn each<T>(slots: &Slots<T>) -> impl Iterator<Item = (u64, &T)> {
    slots
        .keys()
        .filter_map(|key| Some((key, slots.get(slot_of(key))?)))
}

/// Writes when a deadline is due.
fn write_due(out: &mut dyn Write, at: Option<u64>, now: u64) -> fmt::Result {
    match at {
        Some(at) if at <= now => write!(out, "due since {:.1?}", between(at, now)),
        Some(at) => write!(out, "due in {:.1?}", between(now, at)),
        None => out.write_str("not armed"),
    }
}

fn between(from: u64, to: u64) -> Duration {
    Duration::from_nanos(to.saturating_sub(from))
}
