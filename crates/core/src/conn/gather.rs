//! Gathering: small sends of one handler leave in one call when it ends, and what was received is
//! sent from where it is.
//!
//! The rule: what is gathered for a connection comes before anything that is sent on it later, and
//! after anything that is in its queue; so only a connection without a queue gathers, and whoever
//! takes another way spills first. One connection at a time is the gatherer, and its bytes never
//! see a queue; when another takes over, in a broadcast or a batch, they are parked (`park`).

use std::io::IoSlice;
use std::ops::Range;

use rustix::io::Errno;

use crate::conn::park::PARKED_MAX;
use crate::conn::send::{DIRECT, refused};
use crate::event_loop::EventLoop;
use crate::sys::System;
use crate::turn::{Current, NOBODY, OUTSIDE};
use crate::{CloseReason, ConnId, Error, ErrorKind};

/// The most that is gathered for one connection; what goes beyond takes the way of large sends.
const GATHERED_MAX: usize = 64 << 10;

impl<S: System> EventLoop<S> {
    /// Sends `bytes` on a connection: [`Connection::send`](crate::Connection::send) without the
    /// view.
    ///
    /// # Errors
    ///
    /// As [`Connection::send`](crate::Connection::send), and [`ErrorKind::BadHandle`].
    #[inline(always)]
    pub fn send(&mut self, id: ConnId, bytes: &[u8]) -> Result<(), Error> {
        if self.gatherer == NOBODY
            && (1..DIRECT).contains(&bytes.len())
            && let Some((slot, conn)) = self.conns.find_mut(id.0)
            && conn.flags.may_send_now()
        {
            self.gathered.extend_from_slice(bytes);
            self.gatherer = slot;
            return Ok(());
        }
        self.send_unusual(id, bytes)
    }

    /// For the C ABI: sends the `len` bytes at `address` if they lie in the memory that
    /// [`take_data`](Self::take_data) handed out, and nothing stands in the way. Then they are not
    /// even copied: that memory does not change before they leave. Otherwise false, with nothing
    /// changed; [`send`](Self::send) takes any bytes or says why not.
    #[doc(hidden)]
    #[inline(always)]
    pub fn send_in_place(&mut self, id: ConnId, address: usize, len: usize) -> bool {
        let start = address.wrapping_sub(self.read_buf.as_ptr().addr());
        let end = start.wrapping_add(len);
        if start < end
            && end <= self.read_buf.len()
            && self.gatherer == NOBODY
            && let Some((slot, conn)) = self.conns.find_mut(id.0)
            && conn.flags.may_send_now()
        {
            self.gathered_here = start..end;
            self.gatherer = slot;
            return true;
        }
        false
    }

    #[inline(never)]
    fn send_unusual(&mut self, id: ConnId, bytes: &[u8]) -> Result<(), Error> {
        let Some(slot) = self.conns.find(id.0) else {
            return refused(ErrorKind::BadHandle);
        };
        if (1..DIRECT).contains(&bytes.len()) && self.take_over(slot) {
            self.gathered.extend_from_slice(bytes);
            return Ok(());
        }
        self.unpark(slot);
        self.send_more(slot, bytes)
    }

    /// Sends a part of the shared buffer. If it is all that the handler sends, it is not even
    /// copied: the buffer is not touched before the flush.
    #[inline(always)]
    pub(crate) fn send_here(&mut self, slot: u32, here: Range<usize>) -> Result<(), Error> {
        let Some(conn) = self.conns.get(slot) else {
            return refused(ErrorKind::BadHandle);
        };
        if self.gatherer == NOBODY && here.start < here.end && conn.flags.may_send_now() {
            self.gathered_here = here;
            self.gatherer = slot;
            return Ok(());
        }
        self.send_here_more(slot, here)
    }

    #[inline(never)]
    fn send_here_more(&mut self, slot: u32, here: Range<usize>) -> Result<(), Error> {
        if (1..DIRECT).contains(&here.len()) && self.take_over(slot) {
            self.gathered.extend_from_slice(&self.read_buf[here]);
            return Ok(());
        }
        // What is gathered may be a part of the buffer that is about to be lent out.
        self.spill_gathered(slot);
        let buf = std::mem::take(&mut self.read_buf);
        let sent = self.send_more(slot, &buf[here]);
        self.read_buf = buf;
        sent
    }

    /// Makes another connection the gatherer, if it may gather.
    fn take_over(&mut self, slot: u32) -> bool {
        let may = self.conns.get(slot).is_some_and(|c| c.flags.may_send_now());
        if !may || self.gatherer == slot || self.parked_bytes.len() > PARKED_MAX {
            return false;
        }
        self.work_left();
        if !matches!(self.gatherer, NOBODY | OUTSIDE) {
            self.park();
        }
        self.gatherer = slot;
        true
    }

    /// Adds to what the gatherer has, within bounds.
    pub(crate) fn gather_more(&mut self, slot: u32, bytes: &[u8]) -> bool {
        let gathered = self.gathered.len() + self.gathered_here.len();
        if self.gatherer != slot || gathered + bytes.len() > GATHERED_MAX {
            return false;
        }
        if (self
            .gathered
            .try_reserve(self.gathered_here.len() + bytes.len()))
        .is_err()
        {
            return false;
        }
        let here = std::mem::replace(&mut self.gathered_here, 0..0);
        self.gathered.extend_from_slice(&self.read_buf[here]);
        self.gathered.extend_from_slice(bytes);
        true
    }

    #[cold]
    pub(super) fn queue_gathered(&mut self) {
        let slot = std::mem::replace(&mut self.gatherer, NOBODY);
        self.with_gathered(|el, bytes| el.queue_rest(slot, bytes));
        self.soil(slot);
    }

    /// Takes what is gathered out of the loop for an act that needs all of the loop.
    fn with_gathered(&mut self, act: impl FnOnce(&mut Self, &[u8])) {
        let here = std::mem::replace(&mut self.gathered_here, 0..0);
        let buf = std::mem::take(&mut self.read_buf);
        let mut gathered = std::mem::take(&mut self.gathered);
        let bytes = if here.is_empty() {
            &gathered[..]
        } else {
            &buf[here]
        };
        act(self, bytes);
        gathered.clear();
        (self.read_buf, self.gathered) = (buf, gathered);
    }

    /// Queues bytes that were taken to be sent.
    pub(super) fn queue_rest(&mut self, slot: u32, rest: &[u8]) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        if conn.queue.push(rest, &mut self.pool) {
            conn.queue_changed();
            self.buffered += rest.len();
        } else {
            // Without them the stream would have a hole.
            self.terminate(slot, CloseReason::Error(Errno::NOMEM.raw_os_error()));
        }
    }

    /// The kernel took some of what was gathered, or nothing, or failed.
    #[cold]
    pub(super) fn not_all_sent(&mut self, slot: u32, bytes: &[u8], sent: Result<usize, Errno>) {
        let taken = sent.unwrap_or(0);
        self.counters.bytes_sent += taken as u64;
        if taken > 0 {
            self.counters.sends += 1;
            if let Some(conn) = self.conns.get_mut(slot) {
                conn.active_at = self.now;
            }
        }
        self.queue_rest(slot, &bytes[taken..]);
        match sent {
            Ok(_) | Err(Errno::AGAIN) => self.stall(slot),
            Err(Errno::INTR) => self.flush(slot),
            Err(e) => self.write_failed(slot, e),
        }
    }

    /// Hands the kernel what the handler has gathered. Answers true when that was all the handler
    /// has left to be done.
    #[inline(always)]
    pub(crate) fn flush_gathered(&mut self) -> bool {
        let slot = std::mem::replace(&mut self.gatherer, NOBODY);
        let here = self.gathered_here.clone();
        let all = if here.start < here.end {
            &self.read_buf[here]
        } else {
            &self.gathered[..]
        };
        let Some(conn) = self.conns.get_mut(slot) else {
            return self.nothing_gathered();
        };
        let Some(socket) = conn.socket.as_ref() else {
            return self.nothing_gathered();
        };
        let sent = self.sys.send(socket, &[IoSlice::new(all)]);
        if sent != Ok(all.len()) {
            return self.gathered_not_all_sent(slot, sent);
        }
        conn.active_at = self.now;
        self.counters.bytes_sent += all.len() as u64;
        self.counters.sends += 1;
        let read_all = self.unread_here.start >= self.unread_here.end;
        let done = conn.at_rest() && read_all && self.dirty.is_empty();
        self.clear_gathered();
        if done && self.current == Current::Data(slot) {
            self.current = Current::Nothing;
            return true;
        }
        false
    }

    #[cold]
    fn gathered_not_all_sent(&mut self, slot: u32, sent: Result<usize, Errno>) -> bool {
        self.with_gathered(|el, bytes| el.not_all_sent(slot, bytes, sent));
        false
    }

    /// The gatherer is gone: nothing is to be flushed.
    #[cold]
    fn nothing_gathered(&mut self) -> bool {
        self.come_inside(); // Or there was none: events are asked for between two turns.
        self.clear_gathered();
        false
    }

    #[inline]
    pub(super) fn clear_gathered(&mut self) {
        self.gathered_here = 0..0;
        self.gathered.clear();
    }
}
