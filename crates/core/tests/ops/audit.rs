//! What must hold between two turns, and when all is over.
//!
//! The rule: what the loop says of itself, `live_handles`, `buffered`, `connections` and its
//! counters, adds up with what the world knows; no byte is anywhere but where it is owed. At the
//! end, when everybody has closed, nothing is left.

use std::time::Duration;

use echoloop_core::Event;
use echoloop_core::sys::Peer;

use super::others::DATAGRAM;
use super::streams::At;
use super::world::{Mail, Side, Told, World};

/// Turns within which all must end, half a second of the simulated clock each.
const MOST_TURNS: usize = 400;

impl World<'_> {
    /// A turn of this loop is over.
    pub(super) fn audit(&mut self, side: usize) {
        let conns: Vec<_> = self.sides[side]
            .conns
            .iter()
            .map(|(id, n)| (*n, *id))
            .collect();
        let mut held = 0;
        for (n, id) in &conns {
            self.carry(*n);
            let view = self.sides[side].el.conn(*id);
            let view = view.unwrap_or_else(|_| panic!("stream {n}: gone without its Closed"));
            held += view.queued() + view.received().len();
            let stream = &self.streams[*n];
            if stream.peer.is_some() {
                let there = view.queued() + stream.arrived();
                assert_eq!(stream.owed.len(), there, "stream {n}: what it owes");
            }
            let piped = stream.piped_with.is_some();
            if let Some(peer) = &stream.peer
                && stream.is_open
                && !piped
                && view.may_send()
            {
                stream.check_unread(view.received());
                let read = stream.used + view.received().len();
                assert_eq!(read + peer.unread(), stream.peer_sent, "stream {n}: input");
            }
        }
        let side_ = &mut self.sides[side];
        let el = &mut side_.el;
        // Datagrams that wait cost more than their bytes.
        let waiting: usize = side_.sockets.iter().map(|s| s.queued(el)).sum();
        assert!(el.buffered() >= held + waiting, "buffered");
        assert_eq!(el.buffered() == held, waiting == 0, "buffered, {held}");
        let mut ids = el.connections();
        ids.sort();
        let mut known: Vec<_> = side_.conns.keys().chain(side_.leaving.keys()).collect();
        known.sort();
        assert!(ids.iter().eq(known), "connections");
        assert_eq!(el.connection_count(), ids.len());
        let handles = ids.len()
            + side_.timers.len()
            + side_.sockets.len()
            + usize::from(side_.listener.is_some());
        assert_eq!(el.live_handles(), handles, "live handles");
        let counters = el.counters();
        let counted = Told {
            accepted: counters.accepted,
            connected: counters.connected,
            adopted: counters.adopted,
            given_away: counters.given_away,
            closed: counters.closed,
            posts: counters.posts,
            timers: counters.timers_fired,
        };
        assert_eq!(counted, side_.told, "counters");
        self.check_sums();
    }

    /// Bytes that the loops have counted are those that the peers know of.
    fn check_sums(&self) {
        let Some(by_dropped) = self.sent_by_dropped else {
            return;
        };
        let of_streams = |s: &Side| {
            let counters = s.el.counters();
            counters.bytes_sent - counters.datagrams_sent * DATAGRAM as u64
        };
        let sent = self.sides.iter().map(of_streams).sum::<u64>() + by_dropped;
        let kept: usize = self.strangers.iter().map(Peer::arrived).sum();
        // What was taken, save for what still waits in a loop, on its way or in a hand.
        let streams = self.streams.iter();
        let got = streams.map(|s| s.taken - s.owed.len() + s.arrived());
        let delivered = got.sum::<usize>() + kept;
        // A pipe may have moved more since.
        assert!(sent >= delivered as u64, "bytes sent: {sent}, {delivered}");
        if self.streams.iter().all(|s| s.piped_with.is_none()) {
            assert_eq!(sent, delivered as u64, "bytes sent");
        }
    }

    /// A loop is dropped with all that it has, and another one takes its place.
    pub(super) fn drop_loop(&mut self, side: usize) {
        for n in 0..self.streams.len() {
            if self.streams[n].place().is_some_and(|(at, _)| at == side) {
                self.unlink(n);
                self.streams[n].at = At::Gone;
            }
        }
        let new = self.new_side(self.sim.neighbour());
        let old = std::mem::replace(&mut self.sides[side], new);
        let remote = old.el.remote();
        for letter in old.mail {
            if let Mail::Handed(n) = letter {
                self.streams[n].at = At::Gone;
            }
        }
        self.gone.extend(old.conns.keys().chain(old.leaving.keys()));
        self.sent_by_dropped = None; // It has sent what it could in its end.
        drop(old.el);
        assert!(remote.post(1).is_err() && remote.stop().is_err());
        self.listen(side);
    }

    /// Everybody finishes or falls silent; then nothing is left, within the deadlines.
    pub(super) fn end(&mut self) {
        self.quiet = true;
        if !self.abrupt {
            self.fall_quiet();
        }
        self.ending = true;
        self.sim.limit_sockets(None);
        for stream in &mut self.streams {
            if let At::Hand(_) = stream.at {
                stream.at = At::Gone;
            }
        }
        for side in 0..self.sides.len() {
            self.sides[side].el.shut_down(Duration::from_secs(5));
            self.note_shut_down(side);
        }
        for turn in 0.. {
            if !self.silent {
                (0..self.streams.len()).for_each(|n| self.peer_receives(n, usize::MAX));
            }
            for side in 0..self.sides.len() {
                self.turn(side);
            }
            let is_empty =
                |s: &Side| s.conns.is_empty() && s.leaving.is_empty() && s.mail.is_empty();
            if self.sides.iter().all(is_empty) {
                break;
            }
            self.sim.advance(Duration::from_millis(500));
            assert!(turn < MOST_TURNS, "no end");
        }
        for n in 0..self.streams.len() {
            self.peer_receives(n, usize::MAX);
            let stream = &self.streams[n];
            if stream.ends_in_order && !stream.is_reset() {
                assert!(stream.owed.is_empty(), "stream {n}: not all has come");
            }
        }
        for side in 0..self.sides.len() {
            self.leave(side);
        }
        assert_eq!(self.sim.open_sockets(), 0, "sockets that are left");
        if self.sent_by_dropped.is_some() {
            assert_eq!(self.sim.lookups(), 0, "lookups that are left");
        }
    }

    fn leave(&mut self, side: usize) {
        let side = &mut self.sides[side];
        for id in side.timers.drain().map(|(id, _)| id) {
            side.el.cancel_timer(id).expect("it lives");
        }
        for socket in side.sockets.drain(..) {
            socket.close(&mut side.el);
        }
        // A wait that is interrupted has told nothing.
        for _ in 0..20 {
            side.el.poll(Some(Duration::ZERO)).expect("it polls");
            while let Some(event) = side.el.next_event() {
                match event {
                    Event::Stop => side.stop_is_due = false,
                    other => assert_eq!(other, Event::UnderBudget, "after the end"),
                }
            }
        }
        assert!(!side.stop_is_due, "a stop was forgotten");
        assert_eq!((side.el.live_handles(), side.el.buffered()), (0, 0));
    }
}
