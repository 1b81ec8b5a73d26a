//! How the end of one piped connection is carried to the other.
//!
//! The rule: what one side had sent before its end comes first. An end of stream is carried as a
//! half-close, when all before it has left; an abort as a reset; all else as a close in order. A
//! reset is carried as a reset only when nothing of that side is on its way, for a reset destroys
//! what the peer has not read yet (RFC 9112, 9.6). When a write finds that a side is gone (`BROKEN`),
//! its last words are still read and sent on, and what the other sends meanwhile is dropped: nobody
//! will read it, and a peer that must first send all would never come to read them.

use std::time::Duration;

use rustix::io::Errno;

use crate::CloseReason;
use crate::conn::receive::errno_reason;
use crate::conn::{Conn, Flags};
use crate::event_loop::EventLoop;
use crate::sys::System;

impl<S: System> EventLoop<S> {
    /// The other end of a connection's pipe.
    pub(crate) fn piped_with(&self, slot: u32) -> Option<u32> {
        self.pipes.get(&slot).map(|end| end.to)
    }

    /// Takes a pipe apart; answers the other end, and whether this one had last words.
    pub(crate) fn unlink(&mut self, slot: u32) -> Option<(u32, bool)> {
        let end = self.pipes.remove(&slot)?;
        self.pipes.remove(&end.to);
        Some((end.to, end.last_words))
    }

    /// A write on it has failed, or it is dead.
    pub(crate) fn is_broken(&self, slot: u32) -> bool {
        let conn = self.conns.get(slot);
        conn.is_none_or(|c| c.flags.any(Flags::BROKEN | Flags::DEAD))
    }

    /// Bytes were sent on that came before an end that is known.
    pub(crate) fn note_last_words(&mut self, slot: u32) {
        if let Some(end) = self.pipes.get_mut(&slot) {
            end.last_words = true;
        }
    }

    /// The last words of a broken connection were read.
    pub(crate) fn broken_ends(&mut self, slot: u32) {
        if let Some(reason) = self.conns.get(slot).map(|c| c.reason) {
            self.terminate(slot, reason);
        }
    }

    /// Reads once from a connection whose other side is broken, for nobody.
    pub(crate) fn drop_input(&mut self, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        self.buffered -= conn.unread.len();
        conn.unread.clear(&mut self.pool);
        if !conn.wants_read() {
            return;
        }
        let Some(size) = self.may_read(slot, self.read_buf.len()) else {
            return;
        };
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        let Some(socket) = &conn.socket else {
            return;
        };
        match self.sys.recv(socket, &mut self.read_buf[..size]) {
            Err(Errno::INTR) => {}
            Ok(0) | Err(_) if conn.flags.any(Flags::BROKEN) => self.broken_ends(slot),
            Ok(0) => {
                conn.heard();
                conn.flags.clear(Flags::READABLE);
                conn.flags.set(Flags::EOF);
            }
            Ok(n) => {
                conn.active_at = self.now;
                if n < size && !conn.flags.any(Flags::READ_CLOSED) {
                    conn.flags.clear(Flags::READABLE);
                }
                self.counters.bytes_received += n as u64;
                self.counters.reads += 1;
                self.was_read(slot, n);
            }
            Err(Errno::AGAIN) => conn.flags.clear(Flags::READABLE),
            Err(e) => self.terminate(slot, errno_reason(e)),
        }
    }

    /// The other side has finished sending: so does this one, after what waits.
    pub(crate) fn carry_end(&mut self, to: u32) {
        let Some(conn) = self.conns.get_mut(to) else {
            return;
        };
        conn.flags.set(Flags::FINISHING);
        if conn.queue.is_empty() {
            self.finish_sending(to);
        }
    }

    /// A piped connection closes or has died: the other ends in the same manner.
    pub(crate) fn end_pipe(&mut self, slot: u32, reason: CloseReason, within: Option<Duration>) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        if !conn.flags.take(Flags::PIPED) {
            return;
        }
        let ended = conn.flags.any(Flags::EOF);
        let Some((other, last_words)) = self.unlink(slot) else {
            return;
        };
        let queued = |c: &Conn<S::Socket>| !c.queue.is_empty();
        let owed = ended || last_words || self.conns.get(other).is_some_and(queued);
        let reason = match reason {
            CloseReason::Reset | CloseReason::Error(_) if owed => CloseReason::ClosedHere,
            reason => reason,
        };
        self.end_other(other, reason, within);
    }

    pub(crate) fn end_other(&mut self, other: u32, reason: CloseReason, within: Option<Duration>) {
        match reason {
            // The other has ended too. It flushes and closes on its own, and stays silent.
            CloseReason::PeerFinished => {}
            CloseReason::Reset | CloseReason::AbortedHere | CloseReason::Error(_) => {
                self.abort(other, CloseReason::AbortedHere);
            }
            CloseReason::ShutDown => self.begin_close(other, reason, within),
            _ => self.begin_close(other, CloseReason::ClosedHere, None),
        }
    }
}
