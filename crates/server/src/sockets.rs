//! Where a server is reached: its listeners and UDP sockets.
//!
//! The rule: what is opened here is closed when a drain begins, and from then on nothing is opened.
//! What a program opens on the loop itself is its own.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use echoloop_core::sys::System;
use echoloop_core::{Addr, Error, ErrorKind, ListenOptions, ListenerId, UdpId, UdpOptions};

use crate::Server;
use crate::builder::{Opened, Opening};

impl<S: System> Server<S> {
    /// Listens on one more address, TCP or Unix, with the options of the builder or others.
    ///
    /// # Errors
    ///
    /// As [`EventLoop::listen`](crate::EventLoop::listen); [`ErrorKind::Closing`] once a drain has begun.
    pub fn listen(
        &mut self,
        on: impl TryInto<Addr, Error: Into<Error>>,
        options: Option<&ListenOptions>,
    ) -> Result<ListenerId, Error> {
        let addr = on.try_into().map_err(Into::into)?;
        self.refuse_if_draining("listen")
            .map_err(|e| e.at(addr.clone()))?;
        let id = self
            .el
            .listen(addr, options.unwrap_or(&self.policy.listen))?;
        self.listeners.push(id);
        Ok(id)
    }

    /// Listens on a socket that was opened elsewhere, with the options of the builder or others.
    ///
    /// # Errors
    ///
    /// As [`EventLoop::adopt_listener`](crate::EventLoop::adopt_listener); [`ErrorKind::Closing`] once a drain has begun.
    pub fn adopt_listener(
        &mut self,
        listener: OwnedFd,
        options: Option<&ListenOptions>,
    ) -> Result<ListenerId, Error> {
        self.refuse_if_draining("adopt listener")?;
        let options = options.unwrap_or(&self.policy.listen);
        let id = self.el.adopt_listener(listener, options)?;
        self.listeners.push(id);
        Ok(id)
    }

    /// Opens one more UDP socket, with the options of the builder or others.
    ///
    /// # Errors
    ///
    /// As [`EventLoop::bind_udp`](crate::EventLoop::bind_udp); [`ErrorKind::Closing`] once a drain has begun.
    pub fn bind_udp(
        &mut self,
        on: impl TryInto<Addr, Error: Into<Error>>,
        options: Option<&UdpOptions>,
    ) -> Result<UdpId, Error> {
        let addr = on.try_into().map_err(Into::into)?;
        self.refuse_if_draining("bind udp")
            .map_err(|e| e.at(addr.clone()))?;
        let options = options.unwrap_or(&self.policy.udp);
        let id = self.el.bind_udp(addr, options)?;
        self.udps.push(id);
        Ok(id)
    }

    /// Opens what the builder was asked for.
    pub(crate) fn open(&mut self, opening: &Opening) -> Result<Opened, Error> {
        match opening {
            Opening::Listen(addr) => self.listen(addr.clone()?, None).map(Opened::Listener),
            Opening::Udp(addr) => self.bind_udp(addr.clone()?, None).map(Opened::Udp),
            Opening::Inherited(fd) => self.take_up(fd.as_fd()),
        }
    }

    /// Serves a duplicate of this socket too, a listener or a UDP socket that was opened elsewhere,
    /// with the options of the builder.
    ///
    /// # Errors
    ///
    /// As [`EventLoop::adopt_listener`](crate::EventLoop::adopt_listener); [`ErrorKind::Closing`] once a drain has begun.
    pub fn inherit(&mut self, socket: BorrowedFd<'_>) -> Result<(), Error> {
        self.refuse_if_draining("inherit")?;
        self.take_up(socket).map(|_| ())
    }

    /// A socket that was there when the process started: a listener, or a UDP socket.
    fn take_up(&mut self, fd: BorrowedFd<'_>) -> Result<Opened, Error> {
        let another = || {
            fd.try_clone_to_owned().map_err(|e| {
                let errno = e.raw_os_error().unwrap_or_default();
                Error::new("inherit", ErrorKind::Os(errno))
            })
        };
        let no_listener = match self.adopt_listener(another()?, None) {
            Ok(id) => return Ok(Opened::Listener(id)),
            Err(e) => e,
        };
        let udp = self.el.adopt_udp(another()?, &self.policy.udp);
        let id = udp.map_err(|_| no_listener)?;
        self.udps.push(id);
        Ok(Opened::Udp(id))
    }

    /// The addresses of all listeners, in the order in which they were added, with the ports that
    /// the system chose. None once a drain has begun.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<Addr> {
        let addrs = self.listeners.iter().map(|id| self.el.listener_addr(*id));
        addrs.flatten().collect()
    }

    /// The addresses of all UDP sockets, likewise.
    pub fn udp_addrs(&mut self) -> Vec<Addr> {
        let addr = |id: &UdpId| self.el.udp(*id).ok()?.local_addr().ok().map(Addr::from);
        self.udps.iter().filter_map(addr).collect()
    }

    fn refuse_if_draining(&self, operation: &'static str) -> Result<(), Error> {
        match self.is_draining() {
            true => Err(Error::new(operation, ErrorKind::Closing)),
            false => Ok(()),
        }
    }
}
