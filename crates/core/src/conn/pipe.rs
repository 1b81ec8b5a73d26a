//! Piping: what one connection receives is sent to another, and back, by the loop itself.
//!
//! The rule: the bytes that wait for a piped connection never exceed its high mark. So nothing is
//! read for it but what still has room below that mark; the side it comes from is `HELD` when there
//! is none, until the low mark is reached. Bytes go to the kernel straight from the shared buffer;
//! only what it refuses is kept. A piped connection has the flag `PIPED`, by which all its reports
//! come the long way: those who pipe nothing pay nothing. How the ends of the two are carried over
//! is in `pipe_end`.

use rustix::io::Errno;

use crate::conn::Flags;
use crate::conn::receive::errno_reason;
use crate::event_loop::EventLoop;
use crate::sys::System;
use crate::turn::Current;
use crate::{CloseReason, ConnId, Error, ErrorKind};

/// What is known of one end of a pipe.
pub(crate) struct PipeEnd {
    /// The other end.
    pub(crate) to: u32,
    /// Bytes that it had sent before a reset were sent on after the reset was known.
    pub(crate) last_words: bool,
}

impl PipeEnd {
    fn new(to: u32) -> Self {
        Self {
            to,
            last_words: false,
        }
    }
}

impl<S: System> EventLoop<S> {
    /// Pipes two connections: what each receives is sent to the other, until both have ended.
    ///
    /// - What is unread when this is called goes first. Either may still be connecting; what comes
    ///   for it waits within its bounds.
    /// - A side is read from only while less than the other's high mark waits there, and again from
    ///   its low mark on. The bytes that wait ([`Connection::queued`](crate::Connection::queued))
    ///   never exceed the high mark. [`auto_pause`](crate::ConnOptions::auto_pause) has no part in
    ///   it.
    /// - An end of stream is carried on as a half-close, whatever `half_open` says. When both sides
    ///   have ended and all is flushed, both close, as `PeerFinished`. An abort of one side resets
    ///   the other (`AbortedHere`). A missed deadline, a close or a failed connect closes the other
    ///   in order (`ClosedHere`, or `ShutDown`).
    ///   One that has died already, such as a connect that was refused at once, ends the other so.
    /// - A reset or an error of one side resets the other if nothing was left to be sent on. What
    ///   that side had sent before goes first: when it was still to be read as the reset became
    ///   known, or waits in the queue, or was followed by an end of stream, the other gets it and
    ///   is closed in order (`ClosedHere`). So a server's "413" arrives although the client was
    ///   still sending; what the client sends meanwhile is dropped.
    /// - Deadlines count as ever. While a side is held back, bytes that move on the other keep it
    ///   from being idle.
    /// - No `Data`, `Congested`, `Drained` or `EndOfStream` is told of the two, only their opening
    ///   and `Closed` for each. `send`, `shutdown_write`, `put_back`, `give_away` and `hand_over`
    ///   are refused with `InvalidInput` until [`unpipe`](Self::unpipe).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadHandle`]; [`ErrorKind::Closing`] when one is closing or has finished sending;
    /// [`ErrorKind::InvalidInput`] for a connection and itself, or one that is piped already;
    /// [`ErrorKind::OutOfMemory`].
    ///
    /// # Examples
    ///
    /// Each client gets a connection of its own to another server:
    ///
    /// ```
    /// # use echoloop_core::{ConnectOptions, Error, Event, EventLoop};
    /// fn proxy(el: &mut EventLoop, event: Event) -> Result<(), Error> {
    ///     if let Event::Accepted { conn, .. } = event {
    ///         let server = el.connect("127.0.0.1:80", &ConnectOptions::default())?;
    ///         el.pipe(conn, server)?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn pipe(&mut self, a: ConnId, b: ConnId) -> Result<(), Error> {
        let refused = |kind| Err(Error::new("pipe", kind));
        let (Some(one), Some(two)) = (self.conns.find(a.0), self.conns.find(b.0)) else {
            return refused(ErrorKind::BadHandle);
        };
        if one == two {
            let why = "a connection can't be piped to itself";
            return refused(ErrorKind::InvalidInput(why));
        }
        for slot in [one, two] {
            let flags = self.conns.get(slot).map_or(Flags::DEAD, |c| c.flags);
            if flags.any(Flags::PIPED) {
                return refused(ErrorKind::InvalidInput("it is piped already"));
            }
            let told = self.current == Current::Closed(slot);
            if told || flags.any(Flags::NO_SEND) && !flags.any(Flags::DEAD) {
                return refused(ErrorKind::Closing);
            }
        }
        for (slot, other) in [(one, two), (two, one)] {
            if let Some(conn) = self.conns.get(slot)
                && conn.flags.any(Flags::DEAD)
            {
                let reason = match conn.reason {
                    // Nothing of this end was carried to the other.
                    CloseReason::PeerFinished => CloseReason::ClosedHere,
                    reason => reason,
                };
                self.end_other(other, reason, None);
                return Ok(());
            }
        }
        let kept = self.pipes.try_reserve(2).is_ok() && self.keep_here(one) && self.keep_here(two);
        if !kept {
            return refused(ErrorKind::OutOfMemory);
        }
        for slot in [one, two] {
            self.spill_gathered(slot);
            let handled = [Current::EndOfStream(slot), Current::Kept(slot)];
            if handled.contains(&self.current) {
                self.current = Current::Told(slot); // What its handler leaves is the pipe's.
            }
            if let Some(conn) = self.conns.get_mut(slot) {
                conn.flags.set(Flags::PIPED);
                conn.flags.clear(Flags::CONGESTED | Flags::HELD);
                conn.flags
                    .clear(Flags::TELL_CONGESTED | Flags::TELL_DRAINED);
            }
            self.see_end_again(slot);
        }
        self.pipes.insert(one, PipeEnd::new(two));
        self.pipes.insert(two, PipeEnd::new(one));
        self.requeue(one);
        self.requeue(two);
        Ok(())
    }

    /// Ends the piping of a connection and the one it is piped with; both live on.
    ///
    /// Their events are told again. What was received and not sent on is offered as `Data`, and an
    /// end of stream that came meanwhile is told, although it was carried to the other side; one that
    /// was told before the pipe closes the connection, unless it is half-open.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadHandle`]; [`ErrorKind::InvalidInput`] for one that is not piped, or no
    /// longer, because one of the two is closing.
    pub fn unpipe(&mut self, id: ConnId) -> Result<(), Error> {
        let Some(slot) = self.conns.find(id.0) else {
            return Err(Error::new("unpipe", ErrorKind::BadHandle));
        };
        let Some((other, _)) = self.unlink(slot) else {
            let why = ErrorKind::InvalidInput("it is not piped");
            return Err(Error::new("unpipe", why));
        };
        for slot in [slot, other] {
            if let Some(conn) = self.conns.get_mut(slot) {
                conn.flags.clear(Flags::PIPED | Flags::HELD);
            }
            self.see_end_again(slot);
            if !self.is_broken(slot) {
                self.queue_waits(slot); // More than the high mark may wait, from before the pipe.
            }
            self.requeue(slot);
        }
        Ok(())
    }

    /// What is unread is to be looked at; and an end that was read is read once more, after it
    /// (contract 6 of `sys`).
    fn see_end_again(&mut self, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        if conn.flags.take(Flags::EOF) {
            conn.flags.clear(Flags::TELL_END);
            conn.flags.set(Flags::READABLE);
        }
        if !conn.unread.is_empty() {
            conn.flags.set(Flags::OFFER);
        }
    }

    /// Moves bytes from a piped connection to the other: one read at most.
    pub(crate) fn pump(&mut self, slot: u32) {
        if let Some(conn) = self.conns.get_mut(slot) {
            conn.flags.clear(Flags::OFFER);
            if let Some(to) = self.piped_with(slot) {
                self.pump_once(slot, to);
            }
        }
        self.requeue(slot);
    }

    fn pump_once(&mut self, slot: u32, to: u32) {
        let Some(other) = self.conns.get(to) else {
            return;
        };
        if other.flags.any(Flags::BROKEN) {
            return self.drop_input(slot);
        }
        let (waiting, mark) = (other.queue.len(), other.options.high_mark.max(1));
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        if conn.flags.any(Flags::PAUSED | Flags::DEAD) {
            return;
        }
        let room = mark.saturating_sub(waiting);
        if room == 0 {
            conn.flags.set(Flags::HELD);
            return;
        }
        if !conn.unread.is_empty() {
            let known = conn.flags.any(Flags::BROKEN | Flags::READ_CLOSED);
            let mut unread = std::mem::take(&mut conn.unread);
            let n = unread.len().min(room);
            self.forward(to, &unread.bytes()[..n]);
            unread.consume(n, &mut self.pool);
            self.buffered -= n;
            let more = !unread.is_empty();
            if let Some(conn) = self.conns.get_mut(slot) {
                conn.unread = unread;
            }
            if known {
                self.note_last_words(slot);
            }
            return self.look_at_room(slot, to, more);
        }
        if !conn.wants_read() {
            return;
        }
        // The last words of one that is broken are bounded by the mark.
        let broken = conn.flags.any(Flags::BROKEN);
        if waiting > 0 && !broken && self.over_budget() {
            return self.starve(to);
        }
        self.read_for(slot, to, room);
    }

    /// Reads at most `room` bytes and sends them on.
    fn read_for(&mut self, slot: u32, to: u32, room: usize) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        let size = conn.room().min(room);
        let Some(size) = self.may_read(slot, size) else {
            return;
        };
        let size = self.read_room(size);
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        let Some(socket) = &conn.socket else {
            return;
        };
        let known = conn.flags.any(Flags::BROKEN | Flags::READ_CLOSED);
        match self.sys.recv(socket, &mut self.read_buf[..size]) {
            Err(Errno::INTR) => {}
            Ok(0) | Err(_) if conn.flags.any(Flags::BROKEN) => self.broken_ends(slot),
            Ok(0) => {
                conn.heard();
                conn.flags.clear(Flags::READABLE);
                conn.flags.set(Flags::EOF);
                let finished = conn.flags.any(Flags::FINISHED);
                self.carry_end(to);
                // Else it closes when it has finished too, by `finish_sending`.
                if finished {
                    self.begin_close(slot, CloseReason::PeerFinished, None);
                }
            }
            Ok(n) => {
                conn.active_at = self.now;
                if n < size || size == conn.read_size as usize {
                    conn.learn(n);
                }
                if n < size && !conn.flags.any(Flags::READ_CLOSED) {
                    conn.flags.clear(Flags::READABLE);
                }
                self.counters.bytes_received += n as u64;
                self.counters.reads += 1;
                self.was_read(slot, n);
                let buf = std::mem::take(&mut self.read_buf);
                self.forward(to, &buf[..n]);
                self.read_buf = buf;
                if known {
                    self.note_last_words(slot);
                }
                self.look_at_room(slot, to, false);
            }
            Err(Errno::AGAIN) => conn.flags.clear(Flags::READABLE),
            Err(e) => self.terminate(slot, errno_reason(e)),
        }
    }

    /// Sends on a piped connection, behind what waits there.
    fn forward(&mut self, to: u32, bytes: &[u8]) {
        let Some(conn) = self.conns.get_mut(to) else {
            return;
        };
        let taken = if conn.flags.may_write() {
            match self.send_direct(to, bytes).map_err(|e| e.kind()) {
                // It broke of this send, so these are counted as unsent.
                Err(ErrorKind::Closing) => self.wait_behind(to, bytes),
                sent => sent.is_ok(),
            }
        } else {
            self.wait_behind(to, bytes)
        };
        // One that died or broke of its send stays as it is.
        if !taken && !self.is_broken(to) {
            // The stream would have a hole.
            self.terminate(to, CloseReason::Error(Errno::NOMEM.raw_os_error()));
        }
    }

    /// Adds to what waits to be sent. False when there is no memory for it.
    fn wait_behind(&mut self, to: u32, bytes: &[u8]) -> bool {
        let Some(conn) = self.conns.get_mut(to) else {
            return false;
        };
        let pushed = conn.queue.push(bytes, &mut self.pool);
        conn.queue_changed();
        self.buffered += if pushed { bytes.len() } else { 0 };
        pushed
    }

    /// After bytes were sent on: holds their source back when there is no room for more.
    fn look_at_room(&mut self, slot: u32, to: u32, more_unread: bool) {
        let full = self
            .conns
            .get(to)
            .is_some_and(|to| to.queue.len() >= to.options.high_mark.max(1));
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        if full {
            conn.flags.set(Flags::HELD);
            self.counters.congested += 1;
        } else if more_unread {
            conn.flags.set(Flags::OFFER);
        }
    }

    /// The queue of a piped connection is at its low mark: its source is read again.
    pub(crate) fn pipe_has_room(&mut self, to: u32) {
        let Some(slot) = self.piped_with(to) else {
            return;
        };
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        if conn.flags.take(Flags::HELD) {
            if !conn.unread.is_empty() {
                conn.flags.set(Flags::OFFER);
            }
            self.requeue(slot);
        }
    }

    /// What is held back for the other side is no idler than that is.
    pub(crate) fn held_is_not_idle(&mut self, slot: u32) {
        let to = self.piped_with(slot).and_then(|to| self.conns.get(to));
        let moved_at = to.map_or(0, |to| to.active_at);
        if let Some(conn) = self.conns.get_mut(slot) {
            conn.active_at = conn.active_at.max(moved_at);
        }
    }
}
