//! Receiving datagrams: one batch a visit, into the buffer that all UDP sockets share.
//!
//! The rule: fewer messages than asked for means drained (contract of `sys/udp.rs`). How many to ask
//! for follows from what the last reads brought: a busy socket asks for a whole batch, one with a
//! datagram now and then for a few, so that one call says too that there are no more.

use std::net::SocketAddr;

use rustix::io::Errno;

use super::UdpSocket;
use super::options::LARGEST;
use crate::event_loop::EventLoop;
use crate::sys::{System, UdpPlaces, UdpReceived};
use crate::turn::Current;
use crate::{Event, UdpId};

/// Messages that one read receives at most.
pub(super) const BATCH: usize = 32;
/// From one place of the batch buffer to the next: the largest datagram, and a cache line more, so
/// that not all places begin in the same set of the cache.
const STRIDE: usize = 65_536 + 64;

/// What one read brought.
#[derive(Default)]
pub(crate) struct Batch {
    /// The socket's handle; 0 for no batch.
    pub(super) owner: u64,
    /// One buffer for all sockets, with one place at first and more for those that are busy.
    pub(super) buf: Vec<u8>,
    pub(super) received: Vec<UdpReceived>,
}

impl<S: System> EventLoop<S> {
    /// Reads one batch.
    pub(super) fn read_udp(&mut self, slot: u32) -> Option<Event> {
        let id = UdpId(self.udps.key(slot));
        let udp = self.udps.get_mut(slot)?;
        let batch = &mut self.udp_batch;
        udp.batch = batch.make_room(udp.batch);
        let places = udp.places();
        batch.received.clear();
        let outcome = self
            .sys
            .udp_recv(&udp.socket, &places, &mut batch.buf, &mut batch.received);
        match outcome {
            Ok(()) => {
                udp.has_read(batch.received.len());
                udp.keep_peers(&mut batch.received);
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => udp.readable = false,
            Err(e) => udp.note_error(e),
        }
        if batch.received.is_empty() {
            self.requeue_udp(slot);
            return None;
        }
        batch.owner = id.0;
        for message in &batch.received {
            self.counters.datagrams_received += message.datagrams() as u64;
            self.counters.bytes_received += message.len as u64;
        }
        self.current = Current::Datagrams(slot);
        Some(Event::Datagrams { udp: id })
    }

    /// The handler of a batch is done with it.
    pub(crate) fn datagrams_handled(&mut self, slot: u32) {
        self.udp_batch.owner = 0;
        self.requeue_udp(slot);
    }
}

impl Batch {
    /// Makes room for so many messages, or as many as there is memory for; answers how many.
    pub(super) fn make_room(&mut self, messages: usize) -> usize {
        let more = (messages * STRIDE).saturating_sub(self.buf.len());
        if more > 0 && self.buf.try_reserve_exact(more).is_ok() {
            self.buf.resize(messages * STRIDE, 0);
        }
        messages.min(self.buf.len() / STRIDE)
    }
}

impl<K> UdpSocket<K> {
    fn places(&self) -> UdpPlaces {
        // A run of datagrams fills up to the largest size, whatever the size of each.
        let len = if self.features.gro {
            LARGEST
        } else {
            self.max_datagram
        };
        UdpPlaces {
            most: self.batch,
            stride: STRIDE,
            len,
            ipv6: self.ipv6,
            features: self.features,
        }
    }

    /// Concludes from how much a read brought whether there is more, and how much to ask for.
    fn has_read(&mut self, messages: usize) {
        if messages < self.batch && !std::mem::take(&mut self.error_reported) {
            self.readable = false;
        }
        if messages == self.batch {
            self.batch = BATCH.min(self.batch * 4);
        } else if messages < self.batch / 4 {
            self.batch /= 4;
        }
    }

    /// Drops what came from others before the socket was connected.
    fn keep_peers(&self, received: &mut Vec<UdpReceived>) {
        let plain = |a: SocketAddr| (a.ip().to_canonical(), a.port());
        if let Some(peer) = self.peer {
            received.retain(|message| plain(message.from) == plain(peer));
        }
    }
}

impl UdpReceived {
    /// How many datagrams it is; an empty one is one.
    fn datagrams(&self) -> usize {
        self.len.div_ceil(self.segment.max(1)).max(1)
    }
}
