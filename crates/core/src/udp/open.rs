//! How UDP sockets come to a loop: opened here, or adopted.
//!
//! The rule: a socket is in the table only once the selector has it.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::UdpSocket;
use crate::event_loop::EventLoop;
use crate::handle::slot_of;
use crate::room::{list_room, queue_room};
use crate::sys::{System, UdpFeatures};
use crate::{Addr, Error, ErrorKind, UdpId, UdpOptions};

impl<S: System> EventLoop<S> {
    /// Opens a UDP socket on `on`; port 0 lets the system choose, and
    /// [`Udp::local_addr`](crate::Udp::local_addr) tells. What arrives is
    /// [`Event::Datagrams`](crate::Event::Datagrams).
    ///
    /// The socket lives until [`close_udp`](Self::close_udp). All of them share one
    /// buffer: 64 KiB, and up to 2 MiB once one of them is busy.
    ///
    /// # Errors
    ///
    /// The system's, with the address: `EADDRINUSE`, `EACCES`, `EADDRNOTAVAIL`, `EMFILE`, and
    /// `EAFNOSUPPORT` for a Unix address; for an option that it refuses [`Error::operation`] names
    /// it. [`ErrorKind::InvalidInput`] for a text that is no address. [`ErrorKind::OutOfMemory`].
    ///
    /// # Examples
    ///
    /// An echo server, whole; each answer leaves from the address that was asked:
    ///
    /// ```no_run
    /// use echoloop_core::{Event, EventLoop, LoopOptions, UdpOptions};
    ///
    /// let mut el = EventLoop::new(LoopOptions::default())?;
    /// el.bind_udp("0.0.0.0:7007", &UdpOptions::default())?;
    /// loop {
    ///     el.poll(None)?;
    ///     while let Some(event) = el.next_event() {
    ///         if let Event::Datagrams { udp } = event {
    ///             let (datagrams, mut sender) = el.udp(udp)?.split();
    ///             for d in datagrams {
    ///                 let _ = sender.send_from(d.to, d.from, d.bytes); // A full queue drops it.
    ///             }
    ///         }
    ///     }
    /// }
    /// # #[allow(unreachable_code)]
    /// # Ok::<(), echoloop_core::Error>(())
    /// ```
    pub fn bind_udp(
        &mut self,
        on: impl TryInto<Addr, Error: Into<Error>>,
        options: &UdpOptions,
    ) -> Result<UdpId, Error> {
        self.check_new("bind udp")?;
        let addr = on.try_into().map_err(Into::into)?;
        if self.udp_batch.make_room(1) == 0 {
            return Err(Error::new("bind udp", ErrorKind::OutOfMemory));
        }
        let (socket, features) = match self.sys.udp_bind(&addr, options) {
            Ok(bound) => bound,
            Err(e) => return Err(self.option_or("bind udp", e).at(&addr)),
        };
        self.add_udp("bind udp", socket, features, &addr, options)
            .map_err(|e| e.at(&addr))
    }

    /// Takes over a UDP socket that was bound elsewhere: one of
    /// [`inherited_listeners`](crate::inherited_listeners), say. What waits in it is received as if
    /// it came now. Of the options, those of a bind (reuse, device, `ipv6_only`, `connect`) do not
    /// apply: it is bound already.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] for what is no UDP socket; the system's for an option it refuses,
    /// which [`Error::operation`] names. [`ErrorKind::OutOfMemory`]. The socket is closed then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use echoloop_core::{EventLoop, LoopOptions, UdpOptions};
    /// let bound = std::net::UdpSocket::bind("127.0.0.1:0")?;
    /// let mut el = EventLoop::new(LoopOptions::default())?;
    /// let udp = el.adopt_udp(bound, &UdpOptions::default())?;
    /// println!("serving {}", el.udp(udp)?.local_addr()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn adopt_udp(
        &mut self,
        socket: impl Into<OwnedFd>,
        options: &UdpOptions,
    ) -> Result<UdpId, Error> {
        self.check_new("adopt udp")?;
        if self.udp_batch.make_room(1) == 0 {
            return Err(Error::new("adopt udp", ErrorKind::OutOfMemory));
        }
        let options = UdpOptions {
            connect: None,
            ..options.clone()
        };
        let (socket, features) = match self.sys.udp_adopt(socket.into(), &options) {
            Ok(adopted) => adopted,
            Err(Errno::PROTOTYPE) => {
                let what = "it is no UDP socket";
                return Err(Error::new("adopt udp", ErrorKind::InvalidInput(what)));
            }
            Err(e) => return Err(self.option_or("adopt udp", e)),
        };
        let addr = self.sys.local_addr(&socket);
        let addr = addr.map_err(|e| Error::os("adopt udp", e))?;
        self.add_udp("adopt udp", socket, features, &addr, &options)
    }

    fn add_udp(
        &mut self,
        operation: &'static str,
        socket: S::Socket,
        features: UdpFeatures,
        addr: &Addr,
        options: &UdpOptions,
    ) -> Result<UdpId, Error> {
        let ipv6 = addr.ip().is_some_and(|a| a.is_ipv6());
        let all = self.udps.end() as usize + 1;
        queue_room(&mut self.udp_work.line, all)?;
        list_room(&mut self.udp_work.later, all)?;
        list_room(&mut self.udp_work.dirty, all)?;
        let key = self
            .udps
            .insert(UdpSocket::new(socket, features, ipv6, options))?;
        let slot = slot_of(key);
        let registered = match self.udps.get(slot) {
            Some(udp) => self.sys.register(&udp.socket, key),
            None => Ok(()),
        };
        if let Err(e) = registered {
            self.udps.remove(slot);
            return Err(Error::os(operation, e));
        }
        Ok(UdpId(key))
    }
}
