//! UDP sockets: the table of them, and their events.
//!
//! The rule: a socket stands in the line at most once, a visit makes at most one event and reads at
//! most one batch, and a socket that may have more waits for the next turn (promise 8). An error is
//! told, never fatal. Coming to be is in `open`, reading in `receive`, sending in `send`, what a program
//! sees in `view`.

mod open;
mod options;
mod queue;
mod receive;
mod send;
mod view;

use std::collections::VecDeque;
use std::net::SocketAddr;

use rustix::io::Errno;

pub use options::UdpOptions;
pub use send::UdpSender;
pub use view::{Datagram, Datagrams, Udp};

use crate::event_loop::EventLoop;
use crate::handle::slot_of;
use crate::sys::{Ready, System, UdpFeatures, UdpSend};
use crate::turn::pop;
use crate::{Error, ErrorKind, Event, UdpId};
use options::LARGEST;
use queue::Queue;
pub(crate) use receive::Batch;

/// A UDP socket of the loop.
pub(crate) struct UdpSocket<K> {
    pub(crate) socket: K,
    features: UdpFeatures,
    ipv6: bool,
    pub(crate) peer: Option<SocketAddr>,
    max_datagram: usize,
    send_cap: usize,
    pub(crate) queue: Queue,
    /// Errors to tell, each number once.
    pub(crate) errors: Vec<i32>,
    /// Datagrams of this size and above are not sent as segments.
    segments_below: usize,
    /// Messages to ask for in the next read.
    batch: usize,
    pub(crate) dropped: u64,
    user_data: u64,
    /// A read may find something.
    pub(crate) readable: bool,
    /// An error was reported, so one short read does not mean drained.
    error_reported: bool,
    pub(crate) paused: bool,
    /// The kernel took no more: the queue waits for a report.
    pub(crate) stalled: bool,
    /// A send was refused, and `UdpDrained` is owed.
    pub(crate) refused: bool,
    /// It is in the list of those to flush at the end of the handler.
    dirty: bool,
    in_line: bool,
}

/// What the loop keeps for all its UDP sockets together.
#[derive(Default)]
pub(crate) struct UdpWork {
    /// Sockets that want a visit in this turn.
    line: VecDeque<u32>,
    /// Sockets that had their read in this turn and may have more.
    pub(crate) later: Vec<u32>,
    /// Sockets with datagrams sent since the last flush.
    dirty: Vec<u32>,
    plan: Vec<UdpSend>,
}

impl<S: System> EventLoop<S> {
    /// A view of a UDP socket, to read, send and set.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadHandle`].
    pub fn udp(&mut self, id: UdpId) -> Result<Udp<'_, S>, Error> {
        match self.udps.find(id.0) {
            Some(slot) => Ok(Udp::new(self, slot)),
            None => Err(Error::new("find udp socket", ErrorKind::BadHandle)),
        }
    }

    /// Closes a UDP socket. The kernel gets what it takes at once of what waits to be sent; the
    /// rest is dropped and counted. There is no event: the handle is stale from now on.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadHandle`].
    pub fn close_udp(&mut self, id: UdpId) -> Result<(), Error> {
        let Some(slot) = self.udps.find(id.0) else {
            return Err(Error::new("close udp socket", ErrorKind::BadHandle));
        };
        if !self.sys.forked() {
            self.offer_udp(slot); // In a child it may be the parent's to send.
        }
        if let Some(mut udp) = self.udps.remove(slot) {
            self.buffered -= udp.queue.cost();
            self.counters.datagrams_dropped += udp.queue.len() as u64;
            udp.queue.clear(&mut self.pool);
            self.sys.close(udp.socket);
        }
        self.udp_work.line.retain(|s| *s != slot);
        self.udp_work.later.retain(|s| *s != slot);
        self.udp_work.dirty.retain(|s| *s != slot);
        self.descriptor_freed();
        Ok(())
    }

    /// The kernel has reported something about a socket.
    pub(crate) fn udp_ready(&mut self, report: Ready) {
        let Some((slot, udp)) = self.udps.find_mut(report.token) else {
            self.counters.stale_events += 1;
            return;
        };
        udp.readable |= report.readiness.is_readable();
        udp.error_reported |= report.readiness.is_error();
        if report.readiness.is_writable() {
            udp.stalled = false;
        }
        self.udp_work.line_up(slot, udp);
    }

    /// Sockets want a visit in this turn.
    pub(crate) fn udp_has_work(&self) -> bool {
        !self.udp_work.line.is_empty()
    }

    pub(crate) fn begin_udp_turn(&mut self) {
        if !self.udp_work.later.is_empty() {
            self.udp_work.line.extend(self.udp_work.later.drain(..));
        }
    }

    /// The next event of any UDP socket.
    pub(crate) fn next_udp(&mut self) -> Option<Event> {
        while let Some(slot) = pop(&mut self.udp_work.line, &mut self.left.udps) {
            if let Some(event) = self.visit_udp(slot) {
                return Some(event);
            }
        }
        None
    }

    fn visit_udp(&mut self, slot: u32) -> Option<Event> {
        let id = UdpId(self.udps.key(slot));
        let udp = self.udps.get_mut(slot)?;
        udp.in_line = false;
        if !udp.stalled && !udp.queue.is_empty() {
            self.flush_udp(slot);
        }
        let udp = self.udps.get_mut(slot)?;
        if udp.paused
            && std::mem::take(&mut udp.error_reported)
            && let Some(e) = self.sys.take_error(&udp.socket)
        {
            udp.note_error(e);
        }
        let event = if !udp.errors.is_empty() {
            let errno = udp.errors.remove(0);
            Some(Event::UdpError { udp: id, errno })
        } else if udp.refused && udp.queue.is_empty() {
            udp.refused = false;
            Some(Event::UdpDrained { udp: id })
        } else if udp.readable && !udp.paused {
            return self.read_udp(slot);
        } else {
            None
        };
        self.requeue_udp(slot);
        event
    }

    /// Puts a socket in the line of the next turn if there is something to tell or to read: a
    /// handler that answers each event by what leads to the next can't make a turn endless.
    fn requeue_udp(&mut self, slot: u32) {
        let Some(udp) = self.udps.get_mut(slot) else {
            return;
        };
        let wanted = udp.has_to_tell() || udp.readable && !udp.paused;
        if wanted && !udp.in_line {
            udp.in_line = true;
            self.udp_work.later.push(slot);
        }
        self.changed();
    }

    /// Sends what was sent to UDP sockets in this handler.
    pub(crate) fn flush_udps(&mut self) {
        while let Some(slot) = self.udp_work.dirty.pop() {
            if let Some(udp) = self.udps.get_mut(slot) {
                udp.dirty = false;
            }
            self.flush_udp(slot);
            self.requeue_udp(slot);
        }
    }

    /// After a fork: what was sent before is left to the parent.
    pub(crate) fn forget_datagrams(&mut self) {
        self.udp_work.dirty.clear();
        for key in self.udps.keys().collect::<Vec<u64>>() {
            if let Some(udp) = self.udps.get_mut(slot_of(key)) {
                udp.dirty = false;
                self.buffered -= udp.queue.cost();
                udp.queue.clear(&mut self.pool);
            }
        }
    }

    /// The loop ends: offers the kernel all that waits once more.
    pub(crate) fn offer_udps(&mut self) {
        for key in self.udps.keys().collect::<Vec<u64>>() {
            self.offer_udp(slot_of(key));
        }
    }

    /// Flushes whether or not the kernel has said that it takes more.
    fn offer_udp(&mut self, slot: u32) {
        if let Some(udp) = self.udps.get_mut(slot) {
            udp.stalled = false;
        }
        self.flush_udp(slot);
    }

    fn flush_udp(&mut self, slot: u32) {
        if let Some(mut sender) = self.udp_sender(slot) {
            sender.flush();
        }
    }
}

impl UdpWork {
    fn line_up<K>(&mut self, slot: u32, udp: &mut UdpSocket<K>) {
        if !udp.in_line {
            udp.in_line = true;
            self.line.push_back(slot);
        }
    }
}

impl<K> UdpSocket<K> {
    fn new(socket: K, features: UdpFeatures, ipv6: bool, options: &UdpOptions) -> Self {
        Self {
            socket,
            features,
            ipv6,
            peer: options.connect,
            max_datagram: options.max_datagram.clamp(1, LARGEST),
            send_cap: options.send_queue,
            queue: Queue::default(),
            errors: Vec::new(),
            segments_below: if features.gso {
                usize::from(u16::MAX)
            } else {
                0
            },
            batch: 1,
            dropped: 0,
            user_data: 0,
            readable: false,
            error_reported: false,
            paused: false,
            stalled: false,
            refused: false,
            dirty: false,
            in_line: false,
        }
    }

    fn has_to_tell(&self) -> bool {
        !self.errors.is_empty() || self.refused && self.queue.is_empty()
    }

    fn note_error(&mut self, e: Errno) {
        let errno = e.raw_os_error();
        if !self.errors.contains(&errno) {
            self.errors.push(errno);
        }
    }
}
