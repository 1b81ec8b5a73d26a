//! Datagrams on the simulated network: between the UDP sockets of its loops.
//!
//! The rule: what a socket took arrives once and in the order of its sends, so that a test finds
//! what the loop loses or swaps; what is sent to nobody is gone. It takes and gives fewer messages
//! than it is asked to, has no segments for some messages, and joins datagrams of one size to runs,
//! all at random. With [`SimOptions::reset`](super::SimOptions) sends are refused by ICMP later.

use std::collections::VecDeque;
use std::net::SocketAddr;

use rustix::io::Errno;

use super::net::Net;
use crate::sys::{UdpChange, UdpFeatures, UdpPlaces, UdpReceived, UdpSend};
use crate::{Addr, UdpOptions};

/// What makes a socket one for datagrams.
pub(super) struct Inbox {
    pub(super) local: SocketAddr,
    peer: Option<SocketAddr>,
    pub(super) arrived: VecDeque<(SocketAddr, Vec<u8>)>,
    /// The answer to an earlier send, to be told once.
    pub(super) refusal: Option<Errno>,
}

impl Net {
    pub(super) fn udp_bind(
        &mut self,
        addr: &Addr,
        options: &UdpOptions,
    ) -> Result<(usize, UdpFeatures), Errno> {
        let local = addr.ip().ok_or(Errno::AFNOSUPPORT)?;
        if self.inbox_at(local).is_some() {
            return Err(Errno::ADDRINUSE);
        }
        let index = self.open();
        self.sockets[index].inbox = Some(Inbox {
            local,
            peer: options.connect,
            arrived: VecDeque::new(),
            refusal: None,
        });
        let features = UdpFeatures {
            gro: options.offload,
            gso: options.offload,
            destination: false,
        };
        Ok((index, features))
    }

    pub(super) fn udp_change(&mut self, index: usize, change: UdpChange) -> Result<(), Errno> {
        let inbox = self.sockets[index].inbox.as_mut().ok_or(Errno::NOTSOCK)?;
        match change {
            UdpChange::Connect(peer) => inbox.peer = Some(peer),
            UdpChange::Disconnect => inbox.peer = None,
            UdpChange::Join(_) | UdpChange::Leave(_) => return Err(Errno::NODEV),
        }
        Ok(())
    }

    pub(super) fn udp_recv(
        &mut self,
        index: usize,
        places: &UdpPlaces,
        buf: &mut [u8],
        received: &mut Vec<UdpReceived>,
    ) -> Result<(), Errno> {
        self.udp_mishap(index)?;
        let again = self.refuses_now();
        let most = self.piece(places.most);
        if again {
            self.sockets[index].read_armed = true;
            return Err(Errno::AGAIN);
        }
        for place in 0..most {
            let joins = self.chance(2);
            let inbox = self.sockets[index].inbox.as_mut().ok_or(Errno::NOTSOCK)?;
            let start = place * places.stride;
            let place = &mut buf[start..start + places.len];
            let Some(mut message) = inbox.take(place) else {
                break;
            };
            while joins && places.features.gro && inbox.join(&mut message, place) {}
            received.push(UdpReceived { start, ..message });
        }
        self.sockets[index].read_armed |= received.len() < places.most;
        if received.is_empty() {
            return Err(Errno::AGAIN);
        }
        Ok(())
    }

    pub(super) fn udp_send(
        &mut self,
        index: usize,
        bytes: &[u8],
        messages: &[UdpSend],
    ) -> Result<usize, Errno> {
        self.udp_mishap(index)?;
        let again = self.refuses_now();
        let most = self.piece(messages.len());
        let (mut sent, mut rest) = (0, bytes);
        for message in &messages[..most] {
            if message.segment != 0 && self.chance(self.options.cut) {
                return if sent == 0 {
                    Err(Errno::INVAL)
                } else {
                    Ok(sent)
                };
            }
            let (own, others) = rest.split_at(message.len);
            if again || !self.deliver(index, message, own)? {
                break;
            }
            (sent, rest) = (sent + 1, others);
        }
        if self.chance(self.options.reset) {
            let inbox = self.sockets[index].inbox.as_mut().ok_or(Errno::NOTSOCK)?;
            inbox.refusal = inbox.peer.map(|_| Errno::CONNREFUSED);
            self.sockets[index].told_end = false;
        }
        self.sockets[index].write_armed |= sent < messages.len();
        if sent == 0 {
            Err(Errno::AGAIN)
        } else {
            Ok(sent)
        }
    }

    /// False when there is no room where it should go.
    fn deliver(&mut self, index: usize, message: &UdpSend, bytes: &[u8]) -> Result<bool, Errno> {
        let room = self.options.buffer;
        let inbox = self.sockets[index].inbox.as_ref().ok_or(Errno::NOTSOCK)?;
        let from = inbox.local;
        let to = message.to.or(inbox.peer).ok_or(Errno::DESTADDRREQ)?;
        let Some(inbox) = self.inbox_at(to) else {
            return Ok(true);
        };
        if inbox
            .arrived
            .iter()
            .map(|(_, b)| b.len() + 64)
            .sum::<usize>()
            > room
        {
            return Ok(false);
        }
        if inbox.peer.is_none_or(|peer| peer == from) {
            let segment = if message.segment == 0 {
                bytes.len()
            } else {
                message.segment
            };
            let whole = bytes.is_empty().then_some(bytes);
            let datagrams = whole.into_iter().chain(bytes.chunks(segment.max(1)));
            inbox.arrived.extend(datagrams.map(|d| (from, d.to_vec())));
        }
        Ok(true)
    }

    fn inbox_at(&mut self, local: SocketAddr) -> Option<&mut Inbox> {
        let open = self.sockets.iter_mut().filter(|s| s.open);
        open.filter_map(|s| s.inbox.as_mut())
            .find(|inbox| inbox.local == local)
    }

    fn udp_mishap(&mut self, index: usize) -> Result<(), Errno> {
        if self.interrupts() {
            return Err(Errno::INTR);
        }
        let inbox = self.sockets[index].inbox.as_mut();
        inbox.and_then(|i| i.refusal.take()).map_or(Ok(()), Err)
    }
}

impl Inbox {
    /// The next datagram, as much of it as there is place for.
    fn take(&mut self, place: &mut [u8]) -> Option<UdpReceived> {
        let (from, bytes) = self.arrived.pop_front()?;
        let len = bytes.len().min(place.len());
        place[..len].copy_from_slice(&bytes[..len]);
        Some(UdpReceived {
            from,
            to: None,
            start: 0,
            len,
            segment: len,
            truncated: len < bytes.len(),
        })
    }

    /// Adds the next datagram to a message, if it may follow there.
    fn join(&mut self, message: &mut UdpReceived, place: &mut [u8]) -> bool {
        let Some((from, bytes)) = self.arrived.front() else {
            return false;
        };
        let whole_so_far = message.len.is_multiple_of(message.segment);
        let fits = (1..=message.segment).contains(&bytes.len())
            && message.len + bytes.len() <= place.len();
        if *from != message.from || message.truncated || !whole_so_far || !fits {
            return false;
        }
        place[message.len..message.len + bytes.len()].copy_from_slice(bytes);
        message.len += bytes.len();
        self.arrived.pop_front();
        true
    }
}
