//! A view of one connection, for as long as a handler needs it.
//!
//! The rule: nothing here blocks, and nothing here makes an event before the next call of
//! `next_event`. Methods come in four families: getters, input, output, ending.

use std::sync::Arc;

use rustix::io::Errno;

use crate::conn::adopt::ADOPTED;
use crate::conn::{Conn, Flags};
use crate::event_loop::EventLoop;
use crate::sys::{Credentials, Os, System};
use crate::turn::Current;
use crate::{Addr, Attempted, CloseReason, ConnId, Error, ErrorKind, ListenerId, Origin, Target};

/// A connection of an [`EventLoop`], borrowed by [`EventLoop::conn`].
///
/// # Examples
///
/// Messages that end with a newline; the beginning of the next one waits for the rest of it:
///
/// ```
/// # use echoloop_core::{ConnId, Error, EventLoop};
/// fn on_data(el: &mut EventLoop, conn: ConnId) -> Result<(), Error> {
///     let mut view = el.conn(conn)?;
///     while let Some(end) = view.received().iter().position(|b| *b == b'\n') {
///         println!("{}", view.received()[..end].escape_ascii());
///         view.consume(end + 1);
///         view.send(b"ok\n")?;
///     }
///     Ok(())
/// }
/// ```
pub struct Connection<'a, S: System = Os> {
    pub(in crate::conn) el: &'a mut EventLoop<S>,
    pub(in crate::conn) slot: u32,
}

impl<'a, S: System> Connection<'a, S> {
    pub(crate) fn new(el: &'a mut EventLoop<S>, slot: u32) -> Self {
        Self { el, slot }
    }

    /// The handle of the connection.
    #[must_use]
    pub fn id(&self) -> ConnId {
        ConnId(self.el.conns.key(self.slot))
    }

    /// How it came to this loop.
    #[must_use]
    pub fn origin(&self) -> Origin {
        match self.conn().listener {
            ListenerId(0) => Origin::Connected,
            ADOPTED => Origin::Adopted,
            listener => Origin::Accepted(listener),
        }
    }

    /// The address of the peer. Of a connection by name it is unspecified, `0.0.0.0` and the port,
    /// until the connection is made.
    #[must_use]
    pub fn peer_addr(&self) -> &Addr {
        &self.conn().peer
    }

    /// The address of this side.
    ///
    /// # Errors
    ///
    /// `EBADF` once the connection is dead, and while it has no socket yet.
    pub fn local_addr(&self) -> Result<Addr, Error> {
        let socket = self.conn().socket.as_ref();
        let addr = socket.map_or(Err(Errno::BADF), |s| self.el.sys.local_addr(s));
        addr.map_err(|e| Error::os("local address", e))
    }

    /// Who is at the other end of a Unix socket.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` for other sockets, `ENOSYS` where the system has no SO_PEERCRED, `EBADF` once
    /// the connection is dead, or not made yet.
    pub fn peer_credentials(&self) -> Result<Credentials, Error> {
        let socket = self.conn().socket.as_ref();
        let peer = socket.map_or(Err(Errno::BADF), |s| self.el.sys.peer_credentials(s));
        peer.map_err(|e| Error::os("peer credentials", e))
    }

    /// What was asked for: of a connection by name the name, until the handler of `Connected` or
    /// `Closed` ends; otherwise the address of the peer.
    #[must_use]
    pub fn target(&self) -> Target {
        match &self.conn().race {
            Some(race) => race.target.clone(),
            None => self.peer_addr().into(),
        }
    }

    /// The addresses that a connect by name has tried so far, in order; the list is good until the
    /// handler of `Connected` or `Closed` ends. Empty for a connect to an address, which tries
    /// just that, unless it had to wait.
    #[must_use]
    pub fn attempts(&self) -> &[Attempted] {
        let race = self.conn().race.as_ref();
        race.map_or(&[], |race| &race.attempted)
    }

    /// The word of the program's own; 0 until it is set.
    #[must_use]
    #[inline]
    pub fn user_data(&self) -> u64 {
        self.conn().user_data
    }

    /// Sets the word of the program's own.
    pub fn set_user_data(&mut self, word: u64) {
        self.conn_mut().user_data = word;
    }

    /// Bytes that wait to be taken by the kernel.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.conn().queue.len() + self.el.gathered_len(self.slot)
    }

    /// Whether [`send`](Self::send) may still succeed: the connection is neither closing nor dead
    /// and has not shut down its writing side.
    #[must_use]
    pub fn may_send(&self) -> bool {
        !self.conn().flags.any(Flags::NO_SEND)
    }

    /// The bytes that were received and not consumed. Those left by one handler are offered again
    /// together with what arrives next, so a message in parts needs no second buffer.
    #[must_use]
    #[inline]
    pub fn received(&self) -> &[u8] {
        if self.is_here() {
            &self.el.read_buf[self.el.unread_here.clone()]
        } else {
            self.conn().unread.bytes()
        }
    }

    /// Drops the first `n` bytes of [`received`](Self::received), at most all of them.
    #[inline]
    pub fn consume(&mut self, n: usize) {
        if self.is_here() {
            let here = &mut self.el.unread_here;
            here.start = here.end.min(here.start.saturating_add(n));
            return;
        }
        self.consume_kept(n);
    }

    fn consume_kept(&mut self, n: usize) {
        let (slot, el) = (self.slot, &mut *self.el);
        let Some(conn) = el.conns.get_mut(slot) else {
            return;
        };
        let n = n.min(conn.unread.len());
        conn.unread.consume(n, &mut el.pool);
        el.buffered -= n;
        el.changed();
    }

    /// Puts bytes back in front of what is received, as `ungetc` does; they are offered again
    /// together with what arrives next.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closing`] after `close` or `abort`, [`ErrorKind::OutOfMemory`], and
    /// [`ErrorKind::QueueFull`] when more than `max_unread` would be unread;
    /// [`ErrorKind::InvalidInput`] while it is piped, save in the handler that piped it: then the bytes
    /// go through the pipe first.
    pub fn put_back(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.is_here() {
            self.el.current = Current::Kept(self.slot);
            self.el.keep_unread(self.slot);
        }
        let refused = |kind| Err(Error::new("put back", kind));
        let el = &mut *self.el;
        let Some(conn) = el.conns.get_mut(self.slot) else {
            return refused(ErrorKind::BadHandle);
        };
        if conn.flags.any(Flags::CLOSING | Flags::DEAD) {
            return refused(ErrorKind::Closing);
        }
        let piped = conn.flags.any(Flags::PIPED);
        if piped && el.current != Current::Told(self.slot) {
            return refused(conn.takes_no_send()); // What came after may have been sent on.
        }
        if conn.unread.len() + bytes.len() > conn.options.max_unread {
            return refused(ErrorKind::QueueFull);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        if !conn.unread.push_front(bytes, &mut el.pool) {
            return refused(ErrorKind::OutOfMemory);
        }
        el.buffered += bytes.len();
        if piped {
            conn.flags.set(Flags::OFFER);
            el.requeue(self.slot);
        }
        el.changed();
        Ok(())
    }

    /// Stops reading until [`resume`](Self::resume). What the kernel holds stays there, and the
    /// peer stops sending when its window is full. A reset or a failed write still ends the
    /// connection at once, and what was not read is lost.
    pub fn pause(&mut self) {
        let slot = self.slot;
        let conn = self.conn_mut();
        conn.flags.set(Flags::PAUSED);
        if conn.flags.any(Flags::READ_CLOSED) {
            // Nobody will read, so nobody would find a reset that was reported already.
            conn.flags.set(Flags::ERROR);
            self.el.requeue(slot);
        }
    }

    /// Reads again after [`pause`](Self::pause). What is unread is offered again at once.
    pub fn resume(&mut self) {
        let slot = self.slot;
        let here = self.is_here() && !self.el.unread_here.is_empty();
        let conn = self.conn_mut();
        if !conn.flags.take(Flags::PAUSED) {
            return;
        }
        if (here || !conn.unread.is_empty()) && !conn.flags.any(Flags::CLOSING | Flags::DEAD) {
            conn.flags.set(Flags::OFFER);
        }
        self.el.requeue(slot);
    }

    /// Switches off, or on again, that reading pauses by itself above the high mark; see
    /// [`ConnOptions::auto_pause`](crate::ConnOptions::auto_pause).
    pub fn set_auto_pause(&mut self, on: bool) {
        let slot = self.slot;
        let conn = self.conn_mut();
        Arc::make_mut(&mut conn.options).auto_pause = on;
        if conn.flags.any(Flags::PIPED) {
            return;
        }
        conn.flags.clear(Flags::HELD);
        if on && conn.flags.any(Flags::CONGESTED) {
            conn.flags.set(Flags::HELD);
        }
        self.el.requeue(slot);
    }

    /// Sends `bytes`: all are taken, in order, or none. Never blocks, and a slow peer is no error;
    /// what the kernel does not take is queued. Small sends of one handler leave together when it
    /// ends.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::QueueFull`] while more than the hard cap waits,
    /// [`ErrorKind::Closing`] after `close`, `abort`, `shutdown_write` or the connection's death,
    /// [`ErrorKind::OutOfMemory`].
    #[inline(always)]
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let id = self.id();
        self.el.send(id, bytes)
    }

    /// Sends the first `n` bytes of [`received`](Self::received), at most all, and consumes them.
    /// Large data goes to the kernel straight from where it was received.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); then nothing is consumed.
    #[inline(always)]
    pub fn send_received(&mut self, n: usize) -> Result<(), Error> {
        if self.is_here() {
            let start = self.el.unread_here.start;
            let end = self.el.unread_here.end.min(start.saturating_add(n));
            self.el.send_here(self.slot, start..end)?;
            self.el.unread_here.start = end;
            return Ok(());
        }
        self.send_kept(n)
    }

    fn send_kept(&mut self, n: usize) -> Result<(), Error> {
        let el = &mut *self.el;
        let Some(conn) = el.conns.get_mut(self.slot) else {
            return Ok(());
        };
        let unread = std::mem::take(&mut conn.unread);
        let n = n.min(unread.len());
        let sent = el.send_more(self.slot, &unread.bytes()[..n]);
        if let Some(conn) = el.conns.get_mut(self.slot) {
            conn.unread = unread;
        }
        sent?;
        self.consume_kept(n);
        Ok(())
    }

    /// Hands the kernel what was gathered so far, without waiting for the end of the handler.
    /// Returns how many bytes still wait.
    pub fn flush(&mut self) -> usize {
        self.el.spill_gathered(self.slot);
        self.el.flush(self.slot);
        self.queued()
    }

    /// Finishes sending (half-close): the peer sees end of stream after all that was sent.
    /// Receiving goes on. A second call does nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closing`] after `close`, `abort` or the connection's death.
    pub fn shutdown_write(&mut self) -> Result<(), Error> {
        self.el.shutdown_write(self.slot)
    }

    /// Closes in order: what was sent is flushed, the peer sees end of stream, and `Closed`
    /// follows when it has finished too, at the latest after
    /// [`linger`](crate::ConnOptions::linger) more or after
    /// [`close_timeout`](crate::ConnOptions::close_timeout). No more bytes are handed out. A second
    /// call does nothing.
    pub fn close(&mut self) {
        self.el
            .begin_close(self.slot, CloseReason::ClosedHere, None);
    }

    /// Resets the connection at once; what was not taken by the kernel is lost and counted in
    /// `Closed`.
    pub fn abort(&mut self) {
        self.el.abort(self.slot, CloseReason::AbortedHere);
    }

    /// For layers above that keep bytes of a connection: ends it because they could not, for want
    /// of memory, and its stream would have a hole. The reason is the error `ENOMEM`.
    #[doc(hidden)]
    pub fn abort_without_memory(&mut self) {
        let reason = CloseReason::Error(Errno::NOMEM.raw_os_error());
        self.el.abort(self.slot, reason);
    }

    /// What is unread is in the shared buffer, for the event being handled.
    #[inline]
    fn is_here(&self) -> bool {
        matches!(self.el.current, Current::Data(slot) if slot == self.slot)
    }

    #[inline]
    fn conn(&self) -> &Conn<S::Socket> {
        self.el
            .conns
            .get(self.slot)
            .expect("a view is made of a living connection and borrows its loop")
    }

    #[inline]
    pub(in crate::conn) fn conn_mut(&mut self) -> &mut Conn<S::Socket> {
        self.el
            .conns
            .get_mut(self.slot)
            .expect("a view is made of a living connection and borrows its loop")
    }
}
