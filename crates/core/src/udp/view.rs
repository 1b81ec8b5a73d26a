//! The view of one UDP socket: what arrived, sending, and settings.
//!
//! The rule: a view is short-lived and borrows the loop. To send while looking at what arrived,
//! [`Udp::split`] makes two views of it, one for each.

use std::iter::FusedIterator;
use std::net::{IpAddr, SocketAddr};

use super::{Batch, UdpSender, UdpSocket};
use crate::event_loop::EventLoop;
use crate::sys::{Membership, Os, System, UdpChange, UdpReceived};
use crate::{Error, ErrorKind, Interface, UdpId};

/// A view of one UDP socket, from [`EventLoop::udp`].
pub struct Udp<'a, S: System = Os> {
    el: &'a mut EventLoop<S>,
    slot: u32,
}

/// One datagram that arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Datagram<'a> {
    /// Who sent it.
    pub from: SocketAddr,
    /// The address of this machine, or the group, that it was sent to. Told only by a socket that
    /// is bound to all addresses (`0.0.0.0` or `::`), where the system can.
    pub to: Option<IpAddr>,
    /// What it says, perhaps nothing.
    pub bytes: &'a [u8],
    /// It was longer than [`max_datagram`](crate::UdpOptions::max_datagram); this is its beginning.
    pub truncated: bool,
}

/// The datagrams of one [`Event::Datagrams`](crate::Event::Datagrams), in the order of arrival.
#[derive(Clone)]
pub struct Datagrams<'a> {
    buf: &'a [u8],
    messages: &'a [UdpReceived],
    /// How much of the first message was handed out.
    done: usize,
    max: usize,
}

impl<'a, S: System> Udp<'a, S> {
    pub(super) fn new(el: &'a mut EventLoop<S>, slot: u32) -> Self {
        Self { el, slot }
    }

    fn socket(&self) -> &UdpSocket<S::Socket> {
        match self.el.udps.get(self.slot) {
            Some(udp) => udp,
            // The view was made for a living socket, and borrows the loop ever since.
            None => unreachable!("a view outlives no socket"),
        }
    }

    fn socket_mut(&mut self) -> &mut UdpSocket<S::Socket> {
        match self.el.udps.get_mut(self.slot) {
            Some(udp) => udp,
            None => unreachable!("a view outlives no socket"),
        }
    }

    fn sender(&mut self) -> UdpSender<'_, S> {
        match self.el.udp_sender(self.slot) {
            Some(sender) => sender,
            None => unreachable!("a view outlives no socket"),
        }
    }

    /// The handle.
    #[must_use]
    pub fn id(&self) -> UdpId {
        UdpId(self.el.udps.key(self.slot))
    }

    /// The address it is bound to.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn local_addr(&self) -> Result<SocketAddr, Error> {
        let failed = |e| Error::os("local address", e);
        let addr = self.el.sys.local_addr(&self.socket().socket);
        let addr = addr.map_err(failed)?.ip();
        addr.ok_or(failed(rustix::io::Errno::AFNOSUPPORT))
    }

    /// The peer, if it is connected.
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.socket().peer
    }

    /// What arrived: those of the event that is being handled; none of other sockets or later.
    #[must_use]
    pub fn datagrams(&self) -> Datagrams<'_> {
        let max = self.socket().max_datagram;
        Datagrams::new(&self.el.udp_batch, self.id(), max)
    }

    /// What arrived, and the sending half, to answer while looking.
    ///
    /// ```
    /// # use echoloop_core::{Error, EventLoop, UdpId};
    /// fn echo(el: &mut EventLoop, udp: UdpId) -> Result<(), Error> {
    ///     let (datagrams, mut sender) = el.udp(udp)?.split();
    ///     for datagram in datagrams {
    ///         sender.send_to(datagram.from, datagram.bytes)?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn split(self) -> (Datagrams<'a>, UdpSender<'a, S>) {
        let (id, max) = (self.id(), self.socket().max_datagram);
        match self.el.udp_halves(self.slot) {
            Some((batch, sender)) => (Datagrams::new(batch, id, max), sender),
            None => unreachable!("a view outlives no socket"),
        }
    }

    /// [`UdpSender::send_to`].
    ///
    /// # Errors
    ///
    /// See there.
    pub fn send_to(&mut self, to: SocketAddr, bytes: &[u8]) -> Result<(), Error> {
        self.sender().send_to(to, bytes)
    }

    /// [`UdpSender::send_from`].
    ///
    /// # Errors
    ///
    /// See there.
    pub fn send_from(
        &mut self,
        from: impl Into<Option<IpAddr>>,
        to: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), Error> {
        self.sender().send_from(from, to, bytes)
    }

    /// [`UdpSender::send`].
    ///
    /// # Errors
    ///
    /// See there.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.sender().send(bytes)
    }

    /// [`UdpSender::send_segments`].
    ///
    /// # Errors
    ///
    /// See there.
    pub fn send_segments(
        &mut self,
        to: SocketAddr,
        bytes: &[u8],
        segment: usize,
    ) -> Result<(), Error> {
        self.sender().send_segments(to, bytes, segment)
    }

    /// Sends to `peer` from now on and hears from nobody else. What waits to be sent goes where it
    /// was sent to.
    ///
    /// # Errors
    ///
    /// The system's, such as `ENETUNREACH`; the socket then is as it was, or not connected.
    pub fn connect(&mut self, peer: SocketAddr) -> Result<(), Error> {
        self.leave_peer();
        let changed = self.change("connect", UdpChange::Connect(peer));
        if changed.is_ok() {
            self.socket_mut().peer = Some(peer);
        }
        changed.map_err(|e| e.at(peer))
    }

    /// Hears from everybody again. The local address stays.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn disconnect(&mut self) -> Result<(), Error> {
        self.leave_peer();
        self.change("disconnect", UdpChange::Disconnect)?;
        self.socket_mut().peer = None;
        Ok(())
    }

    fn leave_peer(&mut self) {
        self.sender().flush();
        let udp = self.socket_mut();
        if let Some(peer) = udp.peer {
            udp.queue.address(peer);
        }
    }

    /// Joins a multicast group, ip(7), ipv6(7): what is sent to the group and to the port of this
    /// socket arrives. Bind to the unspecified address or to the group's.
    ///
    /// # Errors
    ///
    /// The system's: `ENODEV` without an interface or route for it, `EADDRINUSE` when it is a
    /// member already; `EINVAL` for an address that is no group.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use echoloop_core::{EventLoop, Interface, LoopOptions, UdpOptions};
    /// # let mut el = EventLoop::new(LoopOptions::default())?;
    /// let options = UdpOptions { reuse_address: true, ..UdpOptions::default() };
    /// let udp = el.bind_udp("0.0.0.0:5353", &options)?;
    /// el.udp(udp)?.join_multicast([224, 0, 0, 251].into(), Interface::Default)?;
    /// # Ok::<(), echoloop_core::Error>(())
    /// ```
    pub fn join_multicast(&mut self, group: IpAddr, on: Interface) -> Result<(), Error> {
        self.change("join", UdpChange::Join(membership(group, None, on)))
    }

    /// Leaves a group.
    ///
    /// # Errors
    ///
    /// The system's: `EADDRNOTAVAIL` when it is no member.
    pub fn leave_multicast(&mut self, group: IpAddr, on: Interface) -> Result<(), Error> {
        self.change("leave", UdpChange::Leave(membership(group, None, on)))
    }

    /// Joins a group for what one sender sends to it, RFC 4607. IPv4 only, and not by the number of
    /// an interface.
    ///
    /// # Errors
    ///
    /// Those of [`join_multicast`](Self::join_multicast).
    pub fn join_multicast_source(
        &mut self,
        group: IpAddr,
        source: IpAddr,
        on: Interface,
    ) -> Result<(), Error> {
        self.change("join", UdpChange::Join(membership(group, Some(source), on)))
    }

    /// Leaves what [`join_multicast_source`](Self::join_multicast_source) joined.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn leave_multicast_source(
        &mut self,
        group: IpAddr,
        source: IpAddr,
        on: Interface,
    ) -> Result<(), Error> {
        self.change(
            "leave",
            UdpChange::Leave(membership(group, Some(source), on)),
        )
    }

    fn change(&mut self, operation: &'static str, change: UdpChange) -> Result<(), Error> {
        let Some(udp) = self.el.udps.get(self.slot) else {
            return Err(Error::new(operation, ErrorKind::BadHandle));
        };
        let changed = self.el.sys.udp_change(&udp.socket, change);
        changed.map_err(|e| Error::os(operation, e))
    }

    /// Stops reading; the kernel keeps what arrives until its buffer is full, then drops it.
    pub fn pause(&mut self) {
        self.socket_mut().paused = true;
    }

    /// Reads again.
    pub fn resume(&mut self) {
        let (slot, udp) = (self.slot, self.socket_mut());
        udp.paused = false;
        udp.readable = true;
        self.el.requeue_udp(slot);
    }

    /// Datagrams that wait to be sent.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.socket().queue.len()
    }

    /// Datagrams that were sent here and dropped: the queue was full, or the kernel did not take
    /// them. What is lost on the way, or dropped by the kernel on arrival, nobody knows.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.socket().dropped
    }

    /// What [`set_user_data`](Self::set_user_data) set; 0 at first.
    #[must_use]
    pub fn user_data(&self) -> u64 {
        self.socket().user_data
    }

    /// Keeps a word with the socket for the program.
    pub fn set_user_data(&mut self, data: u64) {
        self.socket_mut().user_data = data;
    }
}

fn membership(group: IpAddr, source: Option<IpAddr>, interface: Interface) -> Membership {
    Membership {
        group,
        source,
        interface,
    }
}

impl<'a> Datagrams<'a> {
    fn new(batch: &'a Batch, owner: UdpId, max: usize) -> Self {
        let messages: &[UdpReceived] = match batch.owner == owner.0 {
            true => &batch.received,
            false => &[],
        };
        Self {
            buf: &batch.buf,
            messages,
            done: 0,
            max,
        }
    }
}

impl<'a> Iterator for Datagrams<'a> {
    type Item = Datagram<'a>;

    fn next(&mut self) -> Option<Datagram<'a>> {
        let (message, others) = self.messages.split_first()?;
        let start = self.done;
        let end = message.len.min(start + message.segment.max(1));
        let last = end == message.len;
        (self.done, self.messages) = if last {
            (0, others)
        } else {
            (end, self.messages)
        };
        let bytes = self.buf.get(message.start + start..message.start + end)?;
        Some(Datagram {
            from: message.from,
            to: message.to,
            bytes: &bytes[..bytes.len().min(self.max)],
            truncated: bytes.len() > self.max || message.truncated && last,
        })
    }
}

impl FusedIterator for Datagrams<'_> {}
