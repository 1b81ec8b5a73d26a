//! What a process passes to its successor, so that a restart turns nobody away.
//!
//! The rule: the queue of a listening socket lives as long as any process holds the socket. Who
//! passes a duplicate on and stops accepting loses nobody: those who wait are the successor's.
//! Passing descriptors to a process, and the variables that say so (sd_listen_fds(3)), are the
//! program's; [`inherited_listeners`](crate::inherited_listeners) is the other side.

use std::os::fd::OwnedFd;

use crate::event_loop::EventLoop;
use crate::sys::System;
use crate::{Error, ErrorKind, ListenerId, UdpId};

impl<S: System> EventLoop<S> {
    /// A duplicate of a listener's socket, close-on-exec, for another process to listen on.
    ///
    /// The listener goes on here until it is [closed](Self::close_listener). A Unix socket's file
    /// is removed then only if nobody else has the socket: else it leads to the other process.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadHandle`]; `EMFILE` and what else dup(2) has.
    ///
    /// # Examples
    ///
    /// ```
    /// # use echoloop_core::{EventLoop, ListenOptions, LoopOptions};
    /// let mut old = EventLoop::new(LoopOptions::default())?;
    /// let mut new = EventLoop::new(LoopOptions::default())?; // In another process.
    /// let listener = old.listen("127.0.0.1:0", &ListenOptions::default())?;
    /// new.adopt_listener(old.share_listener(listener)?, &ListenOptions::default())?;
    /// old.close_listener(listener)?; // Who knocks from now on is the new one's.
    /// # Ok::<(), echoloop_core::Error>(())
    /// ```
    pub fn share_listener(&mut self, id: ListenerId) -> Result<OwnedFd, Error> {
        let found = self.listeners.find(id.0);
        let Some(listener) = found.and_then(|slot| self.listeners.get(slot)) else {
            return Err(Error::new("share listener", ErrorKind::BadHandle));
        };
        let shared = self.sys.share(&listener.socket);
        shared.map_err(|e| Error::os("share listener", e))
    }

    /// A duplicate of a UDP socket, likewise, for another process to
    /// [adopt](Self::adopt_udp). Each datagram is received by one of the two.
    ///
    /// # Errors
    ///
    /// As [`share_listener`](Self::share_listener).
    pub fn share_udp(&mut self, id: UdpId) -> Result<OwnedFd, Error> {
        let found = self.udps.find(id.0);
        let Some(udp) = found.and_then(|slot| self.udps.get(slot)) else {
            return Err(Error::new("share udp socket", ErrorKind::BadHandle));
        };
        let shared = self.sys.share(&udp.socket);
        shared.map_err(|e| Error::os("share udp socket", e))
    }
}
