//! Listeners: accepting, and pausing when there is nothing to accept with.
//!
//! The rule: a listener that can't accept for want of descriptors or memory stays on a retry list
//! and goes on when any descriptor of the loop is closed, or a tenth of a second later. Waiting for
//! the next report would be wrong: with edge triggering nobody in the backlog is reported again.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use crate::conn::{Conn, Flags, after};
use crate::event_loop::EventLoop;
use crate::handle::slot_of;
use crate::room::queue_room;
use crate::sys::System;
use crate::time::deadlines::{DeadlineId, Owner};
use crate::turn::{Current, pop};
use crate::{Addr, ConnId, ConnOptions, Error, ErrorKind, Event, ListenOptions, ListenerId};

/// How long a starved listener or connect waits before it tries again by itself.
pub(crate) const RETRY: Duration = Duration::from_millis(100);
/// So many failures in a row that are not the listener's count as its own.
const FAILURES: u8 = 64;

pub(crate) struct Listener<K> {
    pub(crate) socket: K,
    options: Arc<ConnOptions>,
    pub(crate) in_line: bool,
    /// Accepting is paused, until `retry` is due or a descriptor is closed.
    pub(crate) paused: bool,
    pub(crate) retry: DeadlineId,
    /// Accepted, but the selector has had no room for it yet.
    pub(crate) waiting: Option<(K, Addr)>,
    /// Accepts in a row that failed for the connection that came.
    failed: u8,
}

impl<S: System> EventLoop<S> {
    /// Listens on an address; port 0 lets the system choose, and
    /// [`listener_addr`](Self::listener_addr) tells. Connections that come are
    /// [`Event::Accepted`].
    ///
    /// At the path of a Unix socket the file of a dead server is replaced; that of a living one, of
    /// whatever type, is `EADDRINUSE`, and what is no socket is `ENOTSOCK` and left alone. Of two
    /// that start at once one gets the path. The file is removed when the listener is closed or the
    /// loop dropped, if it is still the one made here, and not by a forked child.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] for a text that is no address; the system's, with the address:
    /// `EADDRINUSE`, `EACCES`, `EADDRNOTAVAIL`, `EMFILE`, `ENAMETOOLONG` for a Unix path that does
    /// not fit (107 bytes on Linux). For an option that the kernel refuses
    /// [`Error::operation`] names it: `"set TCP_NOTSENT_LOWAT"`.
    ///
    /// # Examples
    ///
    /// ```
    /// use echoloop_core::{ConnectOptions, Event, EventLoop, ListenOptions, LoopOptions};
    ///
    /// # let folder = std::env::temp_dir();
    /// # let path = format!("unix:{}/echoloop-doc-{}.sock", folder.display(), std::process::id());
    /// let mut el = EventLoop::new(LoopOptions::default())?;
    /// let options = ListenOptions { unix_mode: Some(0o600), ..ListenOptions::default() };
    /// el.listen(path.as_str(), &options)?; // "unix:/run/me/echo.sock", or "unix:@name"
    /// el.connect(path.as_str(), &ConnectOptions::default())?;
    /// loop {
    ///     el.poll(None)?;
    ///     if let Some(Event::Accepted { conn, .. }) = el.next_event() {
    ///         let peer = el.conn(conn)?.peer_credentials()?;
    ///         assert_eq!(peer.pid, Some(std::process::id() as i32));
    ///         break;
    ///     }
    /// }
    /// # Ok::<(), echoloop_core::Error>(())
    /// ```
    pub fn listen(
        &mut self,
        on: impl TryInto<Addr, Error: Into<Error>>,
        options: &ListenOptions,
    ) -> Result<ListenerId, Error> {
        self.check_new("listen")?;
        self.listen_addr(&on.try_into().map_err(Into::into)?, options)
    }

    fn listen_addr(&mut self, addr: &Addr, options: &ListenOptions) -> Result<ListenerId, Error> {
        let listening = match self.sys.listen(addr, options) {
            Ok(socket) => self.add_listener("listen", socket, options),
            Err(e) => Err(self.option_or("listen", e)),
        };
        listening.map_err(|e| e.at(addr))
    }

    /// Listens on a socket that listens already, one of
    /// [`inherited_listeners`](crate::inherited_listeners), say: TCP or Unix. Who waits in its
    /// backlog is accepted. It is made non-blocking and close-on-exec.
    ///
    /// Of the options those count that are not of its making: `conn`, `defer_accept`, `fast_open`.
    /// A Unix socket's file is never removed.
    ///
    /// # Errors
    ///
    /// `ENOTSOCK`; [`ErrorKind::InvalidInput`] for a socket that is no stream or does not listen; as
    /// [`listen`](Self::listen) for options. The descriptor is closed then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use echoloop_core::{EventLoop, ListenOptions, LoopOptions};
    /// let mut el = EventLoop::new(LoopOptions::default())?;
    /// # let bound = || std::net::TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string());
    /// let listener = bound()?; // A std::net::TcpListener
    /// let id = el.adopt_listener(listener.into(), &ListenOptions::default())?;
    /// println!("listening on {}", el.listener_addr(id)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn adopt_listener(
        &mut self,
        fd: OwnedFd,
        options: &ListenOptions,
    ) -> Result<ListenerId, Error> {
        self.check_new("adopt listener")?;
        let unfit = |why| Err(Error::new("adopt listener", ErrorKind::InvalidInput(why)));
        match self.sys.adopt_listener(fd, options) {
            Ok(socket) => self.add_listener("adopt listener", socket, options),
            Err(Errno::PROTOTYPE) => unfit("socket is neither a TCP nor a Unix stream socket"),
            Err(Errno::INVAL) => unfit("socket does not listen"),
            Err(e) => Err(self.option_or("adopt listener", e)),
        }
    }

    fn add_listener(
        &mut self,
        operation: &'static str,
        socket: S::Socket,
        options: &ListenOptions,
    ) -> Result<ListenerId, Error> {
        if let Err(e) = self.listener_room() {
            self.sys.unlisten(socket);
            return Err(e);
        }
        let key = self.listeners.insert(Listener {
            socket,
            options: Arc::new(options.conn.clone()),
            in_line: false,
            paused: false,
            retry: DeadlineId::NONE,
            waiting: None,
            failed: 0,
        })?;
        let slot = slot_of(key);
        let retry = self.deadlines.add(Owner::Listener(slot));
        let registered = match (self.listeners.get_mut(slot), retry) {
            (Some(listener), Some(retry)) => {
                listener.retry = retry;
                self.sys.register(&listener.socket, key)
            }
            _ => Err(Errno::NOMEM),
        };
        if let Err(e) = registered {
            if let Some(listener) = self.listeners.remove(slot) {
                self.deadlines.remove(listener.retry);
                self.sys.unlisten(listener.socket);
            }
            return Err(Error::os(operation, e));
        }
        Ok(ListenerId(key))
    }

    fn listener_room(&mut self) -> Result<(), Error> {
        self.listeners.make_room()?;
        queue_room(&mut self.accepting, self.listeners.end() as usize + 1)
    }

    /// An error of the operation, or of the option that was refused in it.
    pub(crate) fn option_or(&mut self, operation: &'static str, e: Errno) -> Error {
        Error::os(self.sys.refused_option().unwrap_or(operation), e)
    }

    /// The address a listener listens on.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadHandle`].
    pub fn listener_addr(&self, id: ListenerId) -> Result<Addr, Error> {
        let listener = self.find_listener(id, "listener address")?;
        let listener = self.listeners.get(listener);
        let addr = listener
            .map(|l| self.sys.local_addr(&l.socket))
            .unwrap_or(Err(Errno::BADF));
        addr.map_err(|e| Error::os("listener address", e))
    }

    /// Stops listening. Connections that were accepted stay; those in the backlog are reset by the
    /// system, and so is one that waits for room in the selector.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadHandle`].
    pub fn close_listener(&mut self, id: ListenerId) -> Result<(), Error> {
        let slot = self.find_listener(id, "close listener")?;
        if let Some(listener) = self.listeners.remove(slot) {
            self.starved_listeners -= usize::from(listener.paused);
            self.deadlines.remove(listener.retry);
            if let Some((socket, _)) = listener.waiting {
                self.sys.abort(socket);
            }
            self.sys.unlisten(listener.socket);
        }
        self.accepting.retain(|s| *s != slot);
        self.descriptor_freed();
        Ok(())
    }

    fn find_listener(&self, id: ListenerId, operation: &'static str) -> Result<u32, Error> {
        self.listeners
            .find(id.0)
            .ok_or(Error::new(operation, ErrorKind::BadHandle))
    }

    /// Notes that a listener may have somebody to accept.
    pub(crate) fn listener_ready(&mut self, token: u64) {
        match self.listeners.find(token) {
            Some(slot) => self.try_accepting(slot),
            None => self.counters.stale_events += 1,
        }
    }

    /// The retry timer of a starved listener fired.
    pub(crate) fn try_accepting(&mut self, slot: u32) {
        let Some(listener) = self.listeners.get_mut(slot) else {
            return;
        };
        if !listener.in_line {
            listener.in_line = true;
            self.accepting.push_back(slot);
            self.work_left();
        }
    }

    /// A descriptor was closed: starved connects and listeners may go on.
    pub(crate) fn descriptor_freed(&mut self) {
        self.retry_connects(1);
        self.changed();
        if self.starved_listeners == 0 {
            return;
        }
        for slot in 0..self.listeners.end() {
            if self.listeners.get(slot).is_some_and(|l| l.paused) {
                self.try_accepting(slot);
            }
        }
    }

    /// Accepts one connection from the listeners in turn, within the turn's bound.
    pub(crate) fn next_accept(&mut self) -> Option<Event> {
        while let Some(slot) = pop(&mut self.accepting, &mut self.left.accepts) {
            let short = self.is_short();
            let Some(listener) = self.listeners.get_mut(slot) else {
                continue;
            };
            listener.in_line = false;
            let accepted = match listener.waiting.take() {
                Some(waiting) => Ok(waiting),
                None if short => Err(Errno::NOMEM),
                None => self.sys.accept(&listener.socket),
            };
            match accepted.and_then(|(socket, peer)| self.accepted(slot, socket, peer)) {
                Ok(event) => {
                    self.try_accepting(slot);
                    return Some(event);
                }
                Err(Errno::AGAIN) => {}
                // accept(2): errors of the connection that came, not of the listener.
                Err(
                    Errno::INTR
                    | Errno::CONNABORTED
                    | Errno::PROTO
                    | Errno::PERM
                    | Errno::NETDOWN
                    | Errno::NETUNREACH
                    | Errno::NOPROTOOPT
                    | Errno::HOSTDOWN
                    | Errno::HOSTUNREACH
                    | Errno::OPNOTSUPP,
                ) if self.may_fail_again(slot) => self.try_accepting(slot),
                Err(e) => {
                    if let Some(event) = self.pause_accepting(slot, e) {
                        return Some(event);
                    }
                }
            }
        }
        None
    }

    /// Whether to try again at once: an error that stays must not keep the loop busy.
    fn may_fail_again(&mut self, slot: u32) -> bool {
        let Some(listener) = self.listeners.get_mut(slot) else {
            return false;
        };
        listener.failed = (listener.failed + 1) % FAILURES;
        listener.failed != 0
    }

    /// Takes in a connection. One that can't be registered stays with its listener, to be tried again.
    fn accepted(&mut self, slot: u32, socket: S::Socket, peer: Addr) -> Result<Event, Errno> {
        let listener = ListenerId(self.listeners.key(slot));
        if self.conn_room().is_err() {
            self.keep_waiting(slot, socket, peer);
            return Err(Errno::NOMEM);
        }
        let options = match self.listeners.get(slot) {
            Some(listener) => Arc::clone(&listener.options),
            None => Arc::default(),
        };
        // A Unix socket that is accepted has nothing from its listener.
        let buffers = options.send_buffer.or(options.recv_buffer);
        if peer.unix().is_some() && buffers.is_some() {
            let _ = self.sys.tune(&socket, &options); // The listener took the same.
        }
        let mut conn = Conn::new(Some(socket), peer, options, self.now);
        conn.listener = listener;
        conn.flags.set(Flags::WRITABLE);
        let Ok(key) = self.conns.insert(conn) else {
            return Err(Errno::NOMEM); // There is room, by the above.
        };
        let (conn, at) = (ConnId(key), slot_of(key));
        if let Err(e) = self.register(at) {
            self.put_back(slot, at);
            return Err(e);
        }
        let resumed = self.resume_accepting(slot);
        let slot = at;
        self.counters.accepted += 1;
        self.arm(slot);
        if resumed {
            if let Some(conn) = self.conns.get_mut(slot) {
                conn.flags.set(Flags::TELL_OPEN);
            }
            self.requeue(slot);
            return Ok(Event::AcceptResumed { listener });
        }
        self.current = Current::Told(slot);
        Ok(Event::Accepted { conn, listener })
    }

    /// Nobody has heard of the connection yet, so its end would be told of nothing.
    fn put_back(&mut self, listener: u32, conn: u32) {
        let Some(conn) = self.conns.remove(conn) else {
            return;
        };
        if let Some(socket) = conn.socket {
            self.keep_waiting(listener, socket, conn.peer);
        }
    }

    fn keep_waiting(&mut self, listener: u32, socket: S::Socket, peer: Addr) {
        if let Some(listener) = self.listeners.get_mut(listener) {
            listener.waiting = Some((socket, peer));
        }
    }

    /// Puts the listener on the retry list; tells so the first time.
    fn pause_accepting(&mut self, slot: u32, e: Errno) -> Option<Event> {
        let key = self.listeners.key(slot);
        let listener = self.listeners.get_mut(slot)?;
        let first = !std::mem::replace(&mut listener.paused, true);
        self.starved_listeners += usize::from(first);
        self.deadlines.arm(listener.retry, after(self.now, RETRY));
        if !first {
            return None;
        }
        log::debug!("accepting is paused: {}", Error::os("accept", e));
        self.counters.accept_pauses += 1;
        Some(Event::AcceptPaused {
            listener: ListenerId(key),
            errno: e.raw_os_error(),
        })
    }

    fn resume_accepting(&mut self, slot: u32) -> bool {
        let Some(listener) = self.listeners.get_mut(slot) else {
            return false;
        };
        listener.failed = 0;
        if !std::mem::take(&mut listener.paused) {
            return false;
        }
        self.deadlines.disarm(listener.retry);
        self.starved_listeners -= 1;
        true
    }
}
