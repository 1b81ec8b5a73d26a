//! Parking: what several connections have sent in one handler, until it ends.
//!
//! The rule: a connection that has bytes here has the flag `PARKED` and one entry, and nothing in its
//! queue nor gathered; so it is spilled before anything else is sent on it. Bytes that a batch has
//! handed out stay where they are, all others are copied. The list has an end to look at it: while it
//! is not empty, `dirty` is not either.

use std::io::IoSlice;
use std::ops::Range;

use crate::ConnId;
use crate::conn::Flags;
use crate::conn::send::DIRECT;
use crate::event_loop::EventLoop;
use crate::sys::System;
use crate::turn::{NOBODY, OUTSIDE};

/// Parked bytes from which on nobody is parked any more.
pub(super) const PARKED_MAX: usize = 256 << 10;

/// What a connection has sent that is not the gatherer.
pub(crate) struct Parked {
    slot: u32,
    /// Its bytes are in the memory of batches, and else among the parked ones.
    of_batch: bool,
    at: Range<usize>,
}

impl<S: System> EventLoop<S> {
    /// For the C ABI: [`send_in_place`](Self::send_in_place) of bytes that a batch has handed out.
    /// They leave from there with the next call for events, one send for each connection.
    #[doc(hidden)]
    #[inline]
    pub fn send_of_batch(&mut self, id: ConnId, address: usize, len: usize) -> bool {
        let start = address.wrapping_sub(self.lent.bytes.as_ptr().addr());
        let end = start.wrapping_add(len);
        if start >= end || end > self.lent.used {
            return false;
        }
        let Some((slot, conn)) = self.conns.find_mut(id.0) else {
            return false;
        };
        if !conn.flags.may_send_now() {
            return self.park_more(slot, start..end);
        }
        if self.gatherer == slot || self.parked.len() == self.parked.capacity() {
            return self.park_unusual(slot, start..end);
        }
        conn.flags.set(Flags::PARKED);
        self.parked.push(Parked {
            slot,
            of_batch: true,
            at: start..end,
        });
        if self.dirty.is_empty() || self.gatherer == OUTSIDE {
            self.has_parked();
        }
        true
    }

    /// Adds to what was parked last, if that is of the same connection and ends where this begins.
    #[inline(never)]
    fn park_more(&mut self, slot: u32, at: Range<usize>) -> bool {
        match self.parked.last_mut() {
            Some(last) if last.slot == slot && last.of_batch && last.at.end == at.start => {
                last.at.end = at.end;
                true
            }
            _ => false,
        }
    }

    /// The list of the parked is full, or the connection gathers.
    #[cold]
    fn park_unusual(&mut self, slot: u32, at: Range<usize>) -> bool {
        if self.gatherer == slot || self.parked.try_reserve(64).is_err() {
            return false;
        }
        if let Some(conn) = self.conns.get_mut(slot) {
            conn.flags.set(Flags::PARKED);
        }
        let of_batch = true;
        self.parked.push(Parked { slot, of_batch, at });
        self.has_parked();
        true
    }

    /// Sees to it that the end of the handler looks here.
    #[inline(never)]
    fn has_parked(&mut self) {
        if self.dirty.is_empty() {
            self.dirty.push(NOBODY); // It has room from the beginning.
        }
        self.work_left();
    }

    /// Puts the gatherer's bytes aside; where there is no memory for that, to the end of its queue.
    pub(super) fn park(&mut self) {
        let bytes = self.gathered.len() + self.gathered_here.len();
        if self.parked.try_reserve(1).is_err() || self.parked_bytes.try_reserve(bytes).is_err() {
            return self.queue_gathered();
        }
        let slot = std::mem::replace(&mut self.gatherer, NOBODY);
        let start = self.parked_bytes.len();
        self.parked_bytes
            .extend_from_slice(&self.read_buf[self.gathered_here.clone()]);
        self.parked_bytes.extend_from_slice(&self.gathered);
        self.clear_gathered();
        self.parked.push(Parked {
            slot,
            of_batch: false,
            at: start..self.parked_bytes.len(),
        });
        if let Some(conn) = self.conns.get_mut(slot) {
            conn.flags.set(Flags::PARKED);
        }
        self.soil(slot); // So that the end of the handler looks here.
    }

    /// Makes a connection the gatherer again that has parked last, so that what it sends now joins
    /// what it sent of a batch.
    pub(super) fn unpark(&mut self, slot: u32) {
        let small = |p: &Parked| p.slot == slot && p.of_batch && p.at.len() < DIRECT;
        if !self.parked.last().is_some_and(small) || self.parked_bytes.len() > PARKED_MAX {
            return;
        }
        let Some(Parked { at, .. }) = self.parked.pop() else {
            return;
        };
        if !matches!(self.gatherer, NOBODY | OUTSIDE) {
            self.park();
        }
        self.gathered.extend_from_slice(&self.lent.bytes[at]); // It has room for that from the beginning.
        self.gatherer = slot;
        if let Some(conn) = self.conns.get_mut(slot) {
            conn.flags.clear(Flags::PARKED);
        }
    }

    /// Moves what is gathered or parked for `slot`, if anything is, to its queue.
    pub(crate) fn spill_gathered(&mut self, slot: u32) {
        if self.gatherer == slot {
            self.park();
        }
        let parked = |c: &crate::conn::Conn<S::Socket>| c.flags.any(Flags::PARKED);
        if self.conns.get(slot).is_some_and(parked) {
            self.spill_parked(slot);
        }
    }

    fn spill_parked(&mut self, slot: u32) {
        // Nearly always it is among the last.
        let Some(place) = self.parked.iter().rposition(|p| p.slot == slot) else {
            return;
        };
        let Parked { of_batch, at, .. } = self.parked.remove(place);
        if let Some(conn) = self.conns.get_mut(slot) {
            conn.flags.clear(Flags::PARKED);
        }
        if of_batch {
            let bytes = std::mem::take(&mut self.lent.bytes);
            self.queue_rest(slot, &bytes[at]);
            self.lent.bytes = bytes;
        } else {
            let mut bytes = std::mem::take(&mut self.parked_bytes);
            self.queue_rest(slot, &bytes[at]);
            if self.parked.is_empty() {
                bytes.clear();
            }
            self.parked_bytes = bytes;
        }
        self.soil(slot);
    }

    /// Bytes that are gathered or parked for `slot`.
    pub(crate) fn gathered_len(&self, slot: u32) -> usize {
        if self.gatherer == slot {
            return self.gathered.len() + self.gathered_here.len();
        }
        let mine = self.parked.iter().find(|p| p.slot == slot);
        mine.map_or(0, |parked| parked.at.len())
    }

    /// Sends what was parked.
    #[inline]
    pub(crate) fn flush_parked(&mut self) {
        if !self.parked.is_empty() {
            self.send_all_parked();
        }
    }

    fn send_all_parked(&mut self) {
        let mut parked = std::mem::take(&mut self.parked);
        let mut bytes = std::mem::take(&mut self.parked_bytes);
        let lent = std::mem::take(&mut self.lent.bytes);
        for Parked { slot, of_batch, at } in parked.drain(..) {
            let from = if of_batch { &lent } else { &bytes };
            self.send_parked(slot, &from[at]);
        }
        bytes.clear();
        (self.parked, self.parked_bytes) = (parked, bytes);
        self.lent.bytes = lent;
    }

    #[inline(always)]
    fn send_parked(&mut self, slot: u32, bytes: &[u8]) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        conn.flags.clear(Flags::PARKED | Flags::DIRTY);
        let Some(socket) = &conn.socket else { return };
        let sent = self.sys.send(socket, &[IoSlice::new(bytes)]);
        if sent == Ok(bytes.len()) {
            conn.active_at = self.now;
            self.counters.bytes_sent += bytes.len() as u64;
            self.counters.sends += 1;
        } else {
            self.not_all_sent(slot, bytes, sent);
        }
    }
}
