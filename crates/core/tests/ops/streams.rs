//! The bytes of one connection, both ways: what was sent, what was handed out, what is owed.
//!
//! The rule: byte `n` of a direction follows from the connection and from `n`, so one that is lost,
//! doubled or out of place is seen at once. `owed` holds what a loop took to send and the peer has
//! not got. What a pipe moves is found out afterwards, from how much the other side holds.

use std::collections::VecDeque;

use echoloop_core::sys::Peer;
use echoloop_core::{ConnId, GivenAway};

use super::world::World;

pub(super) struct Stream {
    pub(super) n: usize,
    /// Unknown as long as a connect by name has no winner.
    pub(super) peer: Option<Peer>,
    pub(super) at: At,
    /// `Accepted`, `Connected` or `Adopted` was told by the loop that has it.
    pub(super) is_open: bool,
    pub(super) end_told: bool,
    pub(super) peer_sent: usize,
    pub(super) peer_finished: bool,
    pub(super) hung_up: bool,
    /// What the program has consumed of what the peer sent.
    pub(super) used: usize,
    /// What was taken to be sent so far, and what of it the peer has still to get.
    pub(super) taken: usize,
    pub(super) owed: VecDeque<u8>,
    pub(super) piped_with: Option<usize>,
    pub(super) asked: Asked,
    pub(super) ends_in_order: bool,
}

/// Where a connection is.
pub(super) enum At {
    Backlog,
    Loop(usize, ConnId),
    /// On its way to a loop.
    Mail,
    Hand(Box<GivenAway>),
    Gone,
}

/// What was done to it that may be the reason of its end.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) close: bool,
    pub(super) abort: bool,
    pub(super) pipe: bool,
    pub(super) shut_down: bool,
    pub(super) deadline: bool,
}

impl Stream {
    pub(super) fn new(n: usize, peer: Option<Peer>, at: At) -> Self {
        Self {
            n,
            peer,
            at,
            is_open: false,
            end_told: false,
            peer_sent: 0,
            peer_finished: false,
            hung_up: false,
            used: 0,
            taken: 0,
            owed: VecDeque::new(),
            piped_with: None,
            asked: Asked::default(),
            ends_in_order: false,
        }
    }

    /// Bytes that the peer sends, from its n-th on.
    pub(super) fn input(&self, from: usize, len: usize) -> Vec<u8> {
        pattern(2 * self.n, from, len)
    }

    /// Bytes for the program to send, that go on where those taken so far end.
    pub(super) fn output(&self, len: usize) -> Vec<u8> {
        pattern(2 * self.n + 1, self.taken, len)
    }

    pub(super) fn was_taken(&mut self, bytes: &[u8]) {
        self.taken += bytes.len();
        self.owed.extend(bytes);
    }

    pub(super) fn is_reset(&self) -> bool {
        self.hung_up || self.peer.as_ref().is_some_and(Peer::is_reset)
    }

    pub(super) fn arrived(&self) -> usize {
        self.peer.as_ref().map_or(0, Peer::arrived)
    }

    pub(super) fn place(&self) -> Option<(usize, ConnId)> {
        match self.at {
            At::Loop(side, id) => Some((side, id)),
            _ => None,
        }
    }

    /// What a loop hands out must be what comes next.
    pub(super) fn check_unread(&self, unread: &[u8]) {
        let expected = self.input(self.used, unread.len());
        assert!(
            expected == unread,
            "stream {}: {} bytes from {} on are not what the peer sent",
            self.n,
            unread.len(),
            self.used
        );
        assert!(
            self.used + unread.len() <= self.peer_sent,
            "stream {}: more than the peer sent",
            self.n
        );
    }
}

fn pattern(stream: usize, from: usize, len: usize) -> Vec<u8> {
    let byte = |i: usize| (i * 7 + (i >> 8) * 13 + (i >> 16) * 3 + stream * 101) as u8;
    (from..from + len).map(byte).collect()
}

impl World<'_> {
    pub(super) fn peer_sends(&mut self, n: usize, size: usize) {
        let stream = &mut self.streams[n];
        let Some(peer) = &stream.peer else { return };
        if stream.peer_finished || stream.is_reset() {
            return;
        }
        let bytes = stream.input(stream.peer_sent, size);
        stream.peer_sent += peer.send(&bytes);
    }

    /// The peer takes what has arrived, which must be what was sent, in order.
    pub(super) fn peer_receives(&mut self, n: usize, most: usize) {
        self.carry(n);
        let stream = &mut self.streams[n];
        let Some(peer) = &stream.peer else { return };
        for (place, byte) in peer.receive(most).into_iter().enumerate() {
            let owed = stream.owed.pop_front();
            assert_eq!(
                owed,
                Some(byte),
                "stream {n}: byte {place} of a read by the peer"
            );
        }
    }

    /// Notes what a pipe has moved to this stream: all that its loop holds or has delivered beyond
    /// what was sent before came from the other.
    pub(super) fn carry(&mut self, n: usize) {
        let (Some(from), Some((side, id))) = (self.streams[n].piped_with, self.streams[n].place())
        else {
            return;
        };
        let Ok(view) = self.sides[side].el.conn(id) else {
            return;
        };
        let there = view.queued() + self.streams[n].arrived();
        let moved = there.checked_sub(self.streams[n].owed.len());
        let moved = moved.unwrap_or_else(|| panic!("stream {n}: a pipe has lost bytes"));
        let source = &mut self.streams[from];
        let bytes = source.input(source.used, moved);
        source.used += moved;
        assert!(
            source.used <= source.peer_sent,
            "stream {from}: a pipe has made bytes up"
        );
        self.streams[n].was_taken(&bytes);
    }

    /// The two are piped no more.
    pub(super) fn unlink(&mut self, n: usize) {
        let Some(other) = self.streams[n].piped_with else {
            return;
        };
        self.carry(n);
        self.carry(other);
        self.streams[n].piped_with = None;
        self.streams[other].piped_with = None;
    }

    /// The stream of a living connection of this side, whichever the next byte says.
    pub(super) fn any_conn(&mut self, side: usize) -> Option<(usize, ConnId)> {
        let n = self.below(self.sides[side].conns.len());
        let (id, stream) = self.sides[side].conns.iter().nth(n)?;
        Some((*stream, *id))
    }
}
