//! Sending datagrams: gathered while a handler runs, handed to the kernel when it ends.
//!
//! The rule: order is kept, nothing waits past the end of its handler but what the kernel refused,
//! and no datagram is lost in silence: one that finds the queue full is answered with `QueueFull`,
//! one that the kernel will not take is a `UdpError`, and both are counted.

use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;

use super::options::LARGEST;
use super::queue::Queue;
use super::receive::{BATCH, Batch};
use super::{UdpSocket, UdpWork};
use crate::conn::memory::Pool;
use crate::event_loop::EventLoop;
use crate::nested::Nesting;
use crate::sys::{Os, System, UdpSend};
use crate::turn::NOBODY;
use crate::{Counters, Error, ErrorKind};

/// Datagrams that are gathered at most before the kernel gets them.
const GATHER: usize = 64;
/// What they may count at most.
const GATHER_COST: usize = 64 << 10;
/// The headers that a datagram shares its 65,535 bytes with, udp(7).
const UDP_HEADER: usize = 8;
const IPV4_HEADER: usize = 20;

/// The sending half of a UDP socket, for use while its datagrams are looked at:
/// [`Udp::split`](crate::Udp::split).
pub struct UdpSender<'a, S: System = Os> {
    sys: &'a mut S,
    udp: &'a mut UdpSocket<S::Socket>,
    slot: u32,
    work: &'a mut UdpWork,
    /// What the loop looks at when a handler ends.
    dirty: &'a mut Vec<u32>,
    nesting: &'a mut Nesting,
    pool: &'a mut Pool,
    buffered: &'a mut usize,
    budget: usize,
    counters: &'a mut Counters,
}

impl<S: System> EventLoop<S> {
    pub(super) fn udp_sender(&mut self, slot: u32) -> Option<UdpSender<'_, S>> {
        Some(self.udp_halves(slot)?.1)
    }

    /// What was received, and the sending half of a socket.
    pub(super) fn udp_halves(&mut self, slot: u32) -> Option<(&Batch, UdpSender<'_, S>)> {
        let sender = UdpSender {
            sys: &mut self.sys,
            udp: self.udps.get_mut(slot)?,
            slot,
            work: &mut self.udp_work,
            dirty: &mut self.dirty,
            nesting: &mut self.nesting,
            pool: &mut self.pool,
            buffered: &mut self.buffered,
            budget: self.options.memory_budget,
            counters: &mut self.counters,
        };
        Some((&self.udp_batch, sender))
    }
}

impl<S: System> UdpSender<'_, S> {
    /// Sends a datagram to `to`. It leaves when the handler ends, or sooner.
    ///
    /// What the kernel does not take is queued, in order. A connected socket may send to others
    /// too; it does not hear from them.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::QueueFull`] when [`send_queue`](crate::UdpOptions::send_queue) is full, or the
    /// loop above its memory budget: the datagram is dropped and counted, and
    /// [`UdpDrained`](crate::Event::UdpDrained) tells when the queue is empty. `EMSGSIZE` for more
    /// than 65,507 bytes over IPv4, 65,527 over IPv6. [`ErrorKind::InvalidInput`] for an address
    /// that this socket can't send to. [`ErrorKind::OutOfMemory`]. What the kernel finds later is
    /// [`UdpError`](crate::Event::UdpError).
    pub fn send_to(&mut self, to: SocketAddr, bytes: &[u8]) -> Result<(), Error> {
        self.send_from(None, to, bytes)
    }

    /// [`send_to`](Self::send_to) from one of this machine's addresses, such as
    /// [`Datagram::to`](crate::Datagram::to), so that an answer comes from where it was asked.
    ///
    /// `None`, and a multicast or broadcast address, leave the choice to the system. Datagrams with
    /// an address of their own cost a system call each, save runs of one size to one address.
    ///
    /// # Errors
    ///
    /// Those of `send_to`.
    pub fn send_from(
        &mut self,
        from: impl Into<Option<IpAddr>>,
        to: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let own = |a: &IpAddr| !a.is_multicast() && *a != IpAddr::from([255; 4]);
        let from = from.into().filter(own);
        self.check(to, from, bytes.len())?;
        self.admit(bytes.len(), 1)?;
        self.push(Some(to), from, bytes)
    }

    /// Sends a datagram to the peer of a connected socket.
    ///
    /// # Errors
    ///
    /// `EDESTADDRREQ` when it is not connected, and those of [`send_to`](Self::send_to).
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Some(peer) = self.udp.peer else {
            return Err(Error::os("send", Errno::DESTADDRREQ));
        };
        self.check(peer, None, bytes.len())?;
        self.admit(bytes.len(), 1)?;
        self.push(None, None, bytes)
    }

    /// Sends `bytes` as datagrams of `segment` bytes each, the last one shorter. The kernel gets up
    /// to 64 of them in one piece where it can cut that itself (UDP_SEGMENT).
    ///
    /// # Errors
    ///
    /// Those of [`send_to`](Self::send_to), for all of them: none is queued or all are. Save for
    /// [`ErrorKind::OutOfMemory`], which may come in the middle: the first ones are queued or sent
    /// then, and the rest is dropped and counted.
    pub fn send_segments(
        &mut self,
        to: SocketAddr,
        bytes: &[u8],
        segment: usize,
    ) -> Result<(), Error> {
        if segment == 0 {
            return Err(invalid("datagrams can't be cut into segments of 0 bytes"));
        }
        self.check(to, None, segment.min(bytes.len()))?;
        self.admit(bytes.len(), bytes.len().div_ceil(segment))?;
        let mut datagrams = bytes.chunks(segment);
        let queued = datagrams.try_for_each(|datagram| self.push(Some(to), None, datagram));
        if queued.is_err() {
            self.count_dropped(datagrams.len()); // The rest: the one that failed is counted.
        }
        queued
    }

    /// Refuses what could never be sent.
    fn check(&self, to: SocketAddr, from: Option<IpAddr>, len: usize) -> Result<(), Error> {
        let ipv4 = to.ip().to_canonical().is_ipv4();
        let headers = UDP_HEADER + if ipv4 { IPV4_HEADER } else { 0 };
        if len > LARGEST - headers {
            return Err(Error::os("send", Errno::MSGSIZE).at(to));
        }
        if to.port() == 0 {
            return Err(invalid("no datagram can be sent to port 0").at(to));
        }
        let foreign = |ip: IpAddr| ip.is_ipv6() && !self.udp.ipv6;
        if foreign(to.ip()) || from.is_some_and(|f| foreign(f) || f.is_ipv6() != to.is_ipv6()) {
            return Err(invalid("addresses of IPv4 and IPv6 do not go together").at(to));
        }
        Ok(())
    }

    /// Refuses what there is no room for, after the kernel had its chance to make some.
    fn admit(&mut self, len: usize, datagrams: usize) -> Result<(), Error> {
        let cost = Queue::cost_of(len, datagrams);
        if !self.has_room(cost) {
            self.flush();
        }
        if self.has_room(cost) {
            return Ok(());
        }
        self.udp.refused = true;
        self.count_dropped(datagrams);
        Err(Error::new("send", ErrorKind::QueueFull))
    }

    fn has_room(&self, cost: usize) -> bool {
        let within = self.udp.queue.cost() + cost <= self.udp.send_cap;
        self.udp.queue.is_empty() || within && *self.buffered <= self.budget
    }

    fn push(
        &mut self,
        to: Option<SocketAddr>,
        from: Option<IpAddr>,
        bytes: &[u8],
    ) -> Result<(), Error> {
        if !self.udp.queue.push(to, from, bytes, self.pool) {
            self.count_dropped(1);
            return Err(Error::new("send", ErrorKind::OutOfMemory));
        }
        *self.buffered += Queue::cost_of(bytes.len(), 1);
        if !self.udp.dirty {
            self.udp.dirty = true;
            self.work.dirty.push(self.slot);
            // So that the end of the handler looks here; a list without room has somebody in it.
            if self.dirty.try_reserve(1).is_ok() {
                self.dirty.push(NOBODY);
            }
            self.nesting.work_left();
        }
        let queue = &self.udp.queue;
        if queue.len() >= GATHER || queue.cost() >= GATHER_COST {
            self.flush();
        }
        Ok(())
    }

    /// Hands the kernel as much of the queue as it takes.
    pub(super) fn flush(&mut self) {
        let mut plan = std::mem::take(&mut self.work.plan);
        while !self.udp.stalled && !self.udp.queue.is_empty() {
            self.udp
                .queue
                .plan(self.udp.segments_below, BATCH, &mut plan);
            self.send_planned(&plan);
        }
        self.work.plan = plan;
    }

    /// Sends the front of the queue as planned, until a plan without segments must be made, or the
    /// kernel takes no more.
    fn send_planned(&mut self, mut plan: &[UdpSend]) {
        // An error may be about an earlier datagram (ECONNREFUSED), so each is tried twice.
        let mut tried = false;
        while let Some(message) = plan.first() {
            // sendmmsg(2) loses an error that comes after the first message; only a connected
            // socket has errors that do not come again.
            let offered = if self.udp.peer.is_some() {
                1
            } else {
                plan.len()
            };
            let bytes = self.udp.queue.bytes();
            let sent = self.sys.udp_send(&self.udp.socket, bytes, &plan[..offered]);
            match sent {
                Ok(n) => {
                    let (sent, rest) = plan.split_at(n.min(offered));
                    sent.iter().for_each(|m| self.count_sent(m));
                    (plan, tried) = (rest, false);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.udp.stalled = true;
                    return;
                }
                Err(e) if message.segment != 0 && refuses_segments(e) => {
                    // EIO is for all, the others for segments that exceed the MTU of their way.
                    let all = e == Errno::IO;
                    self.udp.segments_below = if all { 0 } else { message.segment };
                    return;
                }
                Err(e) => {
                    self.udp.note_error(e);
                    if std::mem::replace(&mut tried, true) {
                        self.remove(message);
                        self.count_dropped(message.datagrams);
                        (plan, tried) = (&plan[1..], false);
                    }
                }
            }
        }
    }

    fn count_sent(&mut self, message: &UdpSend) {
        self.remove(message);
        self.counters.datagrams_sent += message.datagrams as u64;
        self.counters.bytes_sent += message.len as u64;
    }

    fn remove(&mut self, message: &UdpSend) {
        *self.buffered -= Queue::cost_of(message.len, message.datagrams);
        self.udp
            .queue
            .consume(message.datagrams, message.len, self.pool);
    }

    fn count_dropped(&mut self, datagrams: usize) {
        self.udp.dropped += datagrams as u64;
        self.counters.datagrams_dropped += datagrams as u64;
    }
}

/// Errors with which a kernel or a device says that it has no segments, or none so large.
fn refuses_segments(e: Errno) -> bool {
    matches!(
        e,
        Errno::IO | Errno::INVAL | Errno::MSGSIZE | Errno::OPNOTSUPP | Errno::NOPROTOOPT
    )
}

fn invalid(why: &'static str) -> Error {
    Error::new("send", ErrorKind::InvalidInput(why))
}
