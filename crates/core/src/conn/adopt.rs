//! Connections that come from elsewhere, and go elsewhere: adopt, give away, hand over.
//!
//! The rule: the peer notices nothing. A socket that changes hands is never shut down, and the
//! bytes on its way go with it: those received and not consumed, and those sent and not taken by
//! the kernel. Whoever gives a connection away sees it end as any other, with one `Closed`, of the
//! reason `GivenAway`. What the new owner is told is an `Adopted`, then as for any connection.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

use crate::conn::{Conn, Flags};
use crate::event_loop::EventLoop;
use crate::handle::slot_of;
use crate::remote::letter::{Handed, Letter};
use crate::sys::System;
use crate::turn::Current;
use crate::{Addr, CloseReason, ConnId, ConnOptions, Error, ErrorKind, Event, ListenerId, Remote};

/// Stands in for the listener of a connection that was adopted. Handles are odd, so none is this.
pub(crate) const ADOPTED: ListenerId = ListenerId(2);

/// A connection that was given away, by [`EventLoop::give_away`], and is now the caller's.
#[derive(Debug)]
#[non_exhaustive]
pub struct GivenAway {
    /// The socket: connected, non-blocking, close-on-exec.
    pub socket: OwnedFd,
    /// The address of the peer.
    pub peer: Addr,
    /// Received and not consumed: they come before all that is still to be read.
    pub unread: Vec<u8>,
    /// Sent and not taken by the kernel: they come before all that is still to be written.
    pub unsent: Vec<u8>,
    /// Whether `shutdown_write` was called: what is unsent is the last that the peer is to get.
    pub finishing: bool,
    /// The word of the program's own.
    pub user_data: u64,
}

/// Why a socket could not be adopted, and the socket, unharmed.
#[derive(Debug)]
pub struct AdoptError {
    /// What is wrong with it.
    pub error: Error,
    /// The socket, as it came.
    pub socket: OwnedFd,
}

impl fmt::Display for AdoptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for AdoptError {}

/// Closes the socket; for `?` where it is of no further use.
impl From<AdoptError> for Error {
    fn from(e: AdoptError) -> Self {
        e.error
    }
}

impl<S: System> EventLoop<S> {
    /// Takes over a connected stream socket, TCP or Unix, that was made elsewhere: accepted by
    /// another program, inherited, or one end of a `socketpair`.
    ///
    /// It is made non-blocking and close-on-exec, and `options` are applied. Its first event is
    /// [`Event::Adopted`], then it is a connection as any other. What the kernel holds for it
    /// already is read as if it arrived now.
    ///
    /// # Errors
    ///
    /// [`AdoptError`], which holds the socket: [`ErrorKind::InvalidInput`] for one that is no stream
    /// socket or that listens; `ENOTCONN` for one that is not connected, or no longer; `ENOTSOCK`;
    /// `EEXIST` for one that this loop watches, or has as a connection, which goes on as it was;
    /// `ENOSPC` (of watches, epoll(7)); the system's for an option it refuses, which
    /// [`Error::operation`] names.
    ///
    /// # Examples
    ///
    /// ```
    /// use echoloop_core::{ConnOptions, Event, EventLoop, LoopOptions};
    ///
    /// let (ours, _theirs) = std::os::unix::net::UnixStream::pair()?;
    /// let mut el = EventLoop::new(LoopOptions::default())?;
    /// let conn = el.adopt(ours, &ConnOptions::default())?;
    /// assert_eq!(el.next_event(), Some(Event::Adopted { conn }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn adopt(
        &mut self,
        socket: impl Into<OwnedFd>,
        options: &ConnOptions,
    ) -> Result<ConnId, AdoptError> {
        let socket = socket.into();
        let failed = |error, socket| Err(AdoptError { error, socket });
        if let Err(error) = self.check_new("adopt") {
            return failed(error, socket);
        }
        if self.watches.is_watched(&mut self.sys, socket.as_raw_fd()) {
            return failed(not_adopted(Errno::EXIST), socket);
        }
        let peer = match self.sys.check_adopted(socket.as_fd(), options) {
            Ok(peer) => peer,
            Err(e) => {
                let error = match self.sys.refused_option() {
                    Some(option) => Error::os(option, e),
                    None => not_adopted(e),
                };
                return failed(error, socket);
            }
        };
        let mut conn = Conn::new(None, peer, Arc::new(options.clone()), self.now);
        conn.flags.set(Flags::TELL_OPEN);
        let slot = match self.take_in(conn, socket) {
            Ok(slot) => slot,
            Err((error, socket)) => return failed(error, socket),
        };
        self.requeue(slot);
        Ok(ConnId(self.conns.key(slot)))
    }

    /// Gives a connection to the caller: it leaves this loop and is not shut down.
    ///
    /// What is queued is offered to the kernel once more. Then nothing is lost: what was received
    /// and not consumed is in `unread`, what the kernel has not taken is in `unsent`. May be called
    /// while the connection's `Data` is handled. The connection still ends with its `Closed`, of
    /// the reason [`CloseReason::GivenAway`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadHandle`]; [`ErrorKind::Closing`] for one that is closing, or whose flush
    /// finds it dead; [`ErrorKind::InvalidInput`] for one that is still connecting or piped;
    /// [`ErrorKind::OutOfMemory`]. Then nothing has changed.
    ///
    /// # Examples
    ///
    /// ```
    /// # use echoloop_core::{ConnOptions, Event, EventLoop, LoopOptions};
    /// # let (ours, _theirs) = std::os::unix::net::UnixStream::pair()?;
    /// # let mut el = EventLoop::new(LoopOptions::default())?;
    /// # let conn = el.adopt(ours, &ConnOptions::default())?;
    /// let given = el.give_away(conn)?;
    /// assert!(given.unread.is_empty() && given.unsent.is_empty());
    /// let stream = std::os::unix::net::UnixStream::from(given.socket);
    /// # drop(stream);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn give_away(&mut self, id: ConnId) -> Result<GivenAway, Error> {
        let slot = self.make_portable(id, "give away")?;
        if let Some(conn) = self.conns.get_mut(slot)
            && !(conn.unread.unmap() && conn.queue.unmap())
        {
            return Err(Error::os("give away", Errno::NOMEM));
        }
        let given = self.take_out(slot, "give away")?;
        self.terminate(slot, CloseReason::GivenAway);
        Ok(GivenAway {
            socket: given.socket,
            peer: given.peer,
            unread: given.unread.into_vec(),
            unsent: given.queue.into_vec(),
            finishing: given.finishing.any(Flags::FINISHING),
            user_data: given.user_data,
        })
    }

    /// Hands a connection to another loop, which may run on another thread.
    ///
    /// It travels in order with what the `Remote` posts, together with its options, its user data
    /// and all bytes on their way. There it begins with [`Event::Adopted`] under a new handle; what
    /// was unread is offered as `Data` again and what was unsent is sent first. A pause does not
    /// travel, and an end of stream is told there again. Here it ends with `Closed`, of the reason
    /// [`CloseReason::GivenAway`]. If the other loop ends before it sees the connection, that is
    /// closed as all of that loop's are. One that it sees only after its
    /// [`shut_down`](Self::shut_down) lives on there: that closes what is there, not what comes.
    ///
    /// # Errors
    ///
    /// As [`give_away`](Self::give_away); [`ErrorKind::Closed`] when the other loop is gone,
    /// [`ErrorKind::QueueFull`] when its mailbox is full. Then the connection stays here, intact.
    ///
    /// # Examples
    ///
    /// ```
    /// # use echoloop_core::{ConnOptions, Event, EventLoop, LoopOptions};
    /// # let (ours, _theirs) = std::os::unix::net::UnixStream::pair()?;
    /// # let mut el = EventLoop::new(LoopOptions::default())?;
    /// # let conn = el.adopt(ours, &ConnOptions::default())?;
    /// let mut other = EventLoop::new(LoopOptions::default())?;
    /// el.hand_over(conn, &other.remote())?;
    /// other.poll(None)?;
    /// assert!(matches!(other.next_event(), Some(Event::Adopted { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn hand_over(&mut self, id: ConnId, to: &Remote) -> Result<(), Error> {
        let slot = self.make_portable(id, "hand over")?;
        // The socket leaves this loop's selector only once it is certain that the other takes it.
        to.deliver("hand over", || {
            let handed = self.take_out(slot, "hand over")?;
            Ok(Letter::Handed(Box::new(handed)))
        })?;
        self.terminate(slot, CloseReason::GivenAway);
        Ok(())
    }

    /// Brings all bytes of a connection that may leave this loop together in its two buffers.
    fn make_portable(&mut self, id: ConnId, operation: &'static str) -> Result<u32, Error> {
        let refused = |kind| Err(Error::new(operation, kind));
        self.check_process(operation)?;
        let Some(slot) = self.conns.find(id.0) else {
            return refused(ErrorKind::BadHandle);
        };
        let flags = self.conns.get(slot).map_or(Flags::DEAD, |c| c.flags);
        if flags.any(Flags::ENDING) {
            return refused(ErrorKind::Closing);
        }
        if flags.any(Flags::CONNECTING) {
            return refused(ErrorKind::InvalidInput("it is still connecting"));
        }
        if flags.any(Flags::PIPED) {
            return refused(ErrorKind::InvalidInput("it is piped; unpipe it first"));
        }
        if !self.keep_here(slot) {
            return refused(ErrorKind::OutOfMemory);
        }
        self.spill_gathered(slot);
        self.flush(slot);
        let living = self.conns.get(slot);
        if living.is_none_or(|c| c.flags.any(Flags::ENDING)) {
            return refused(ErrorKind::Closing);
        }
        Ok(slot)
    }

    /// Moves what the current handler has not consumed from the shared buffer to the connection,
    /// without a look at bounds. False when there is no memory for it.
    pub(crate) fn keep_here(&mut self, slot: u32) -> bool {
        if self.current != Current::Data(slot) {
            return true;
        }
        let Some(conn) = self.conns.get_mut(slot) else {
            return true;
        };
        let here = &self.read_buf[self.unread_here.clone()];
        if !here.is_empty() && !conn.unread.push(here, &mut self.pool) {
            return false;
        }
        self.buffered += here.len();
        self.unread_here = 0..0;
        self.current = Current::Kept(slot);
        true
    }

    /// Takes the socket and all that goes with it out of a connection, which must end now.
    fn take_out(&mut self, slot: u32, operation: &'static str) -> Result<Handed, Error> {
        let Some(conn) = self.conns.get_mut(slot) else {
            return Err(Error::new(operation, ErrorKind::BadHandle));
        };
        let Some(socket) = conn.socket.take() else {
            return Err(Error::new(operation, ErrorKind::Closing));
        };
        let socket = match self.sys.release(socket) {
            Ok(socket) => socket,
            Err(socket) => {
                conn.socket = Some(socket);
                return Err(Error::os(operation, Errno::NOSYS));
            }
        };
        let bucket = self.take_bucket(slot);
        let Some(conn) = self.conns.get_mut(slot) else {
            return Err(Error::new(operation, ErrorKind::BadHandle));
        };
        let age = self.now.saturating_sub(conn.opened_at);
        let handed = Handed {
            age,
            bucket,
            awaits_first: conn.awaits_first && conn.unread.is_empty(),
            socket,
            peer: conn.peer.clone(),
            options: Arc::clone(&conn.options),
            unread: std::mem::take(&mut conn.unread),
            queue: std::mem::take(&mut conn.queue),
            finishing: conn.flags.only(Flags::FINISHING | Flags::FINISHED),
            user_data: conn.user_data,
        };
        self.buffered -= handed.unread.len() + handed.queue.len();
        self.counters.given_away += 1;
        Ok(handed)
    }

    /// A connection that another loop handed over has arrived.
    pub(crate) fn arrived(&mut self, handed: Handed) -> Option<Event> {
        let mut conn = Conn::new(None, handed.peer, handed.options, self.now);
        conn.flags.set(handed.finishing);
        conn.opened_at = self.now.saturating_sub(handed.age);
        if !handed.awaits_first {
            conn.heard();
        }
        conn.user_data = handed.user_data;
        conn.unread = handed.unread;
        conn.queue = handed.queue;
        conn.queue_changed();
        if !conn.unread.is_empty() {
            conn.flags.set(Flags::OFFER);
        }
        match self.take_in(conn, handed.socket) {
            Ok(slot) => {
                self.put_bucket(slot, handed.bucket);
                self.soil(slot);
                self.current = Current::Told(slot);
                Some(Event::Adopted {
                    conn: ConnId(self.conns.key(slot)),
                })
            }
            Err((e, _closes)) => {
                log::warn!("a connection that was handed over is closed: {e}");
                self.counters.arrivals_lost += 1;
                None
            }
        }
    }

    /// Makes a connection of this loop of a socket.
    fn take_in(
        &mut self,
        mut conn: Conn<S::Socket>,
        socket: OwnedFd,
    ) -> Result<u32, (Error, OwnedFd)> {
        conn.flags.set(Flags::WRITABLE);
        conn.listener = ADOPTED;
        let bytes = conn.unread.len() + conn.queue.len();
        if let Err(e) = self.conn_room() {
            return Err((e, socket));
        }
        let key = match self.conns.insert(conn) {
            Ok(key) => key,
            Err(e) => return Err((e, socket)),
        };
        let slot = slot_of(key);
        match self.sys.adopt(socket, key) {
            Ok(socket) => {
                if let Some(conn) = self.conns.get_mut(slot) {
                    conn.socket = Some(socket);
                }
            }
            Err((e, socket)) => {
                self.conns.remove(slot);
                return Err((not_adopted(e), socket));
            }
        }
        self.buffered += bytes;
        self.counters.adopted += 1;
        self.arm(slot);
        Ok(slot)
    }
}

fn not_adopted(e: Errno) -> Error {
    match e {
        Errno::PROTOTYPE => invalid("it is no stream socket"),
        Errno::INVAL => invalid("it listens: only a connected socket can be adopted"),
        e => Error::os("adopt", e),
    }
}

fn invalid(what: &'static str) -> Error {
    Error::new("adopt", ErrorKind::InvalidInput(what))
}
