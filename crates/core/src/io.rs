//! Moving bytes: reads into the shared buffer, sends past the queue where that is empty.
//!
//! The rule: bytes leave in the order of the sends, and a send is taken whole or not at all. The
//! shared buffer holds what the current event brought; only what its handler leaves is copied.
//! A read or write that moved less than offered has emptied or filled the kernel's side, so no
//! second call asks for `EAGAIN` (contract 3 and 4 of `sys`).

use std::io::IoSlice;
use std::ops::Range;

use rustix::io::Errno;

use crate::conn::{FIRST_READ, Flags, Received};
use crate::event_loop::EventLoop;
use crate::sys::System;
use crate::turn::{Current, NOBODY};
use crate::{CloseReason, ConnId, Error, ErrorKind, Event};

/// Sends of at least this size go to the kernel at once, uncopied; smaller ones are gathered.
const DIRECT: usize = 8 << 10;
/// Gathered bytes that leave before the handler has ended.
const GATHERED_MAX: usize = 64 << 10;

impl<S: System> EventLoop<S> {
    /// Reads once from a connection; true when that brought bytes. What it brought instead is in
    /// `met` or in the connection's flags.
    #[inline(always)]
    pub(crate) fn read(&mut self, slot: u32) -> bool {
        let Some(conn) = self.conns.get_mut(slot) else {
            return false;
        };
        let outcome = conn.receive(&mut self.sys, &mut self.read_buf, self.now);
        self.has_read(slot, outcome)
    }

    /// What follows from a read.
    #[inline(always)]
    pub(crate) fn has_read(&mut self, slot: u32, outcome: Received) -> bool {
        let Received::Bytes { n, join } = outcome else {
            return self.read_ended(slot, outcome);
        };
        self.counters.bytes_received += n as u64;
        self.counters.reads += 1;
        self.unread_here = 0..n;
        self.current = Current::Data(slot);
        !join || self.join_unread(slot)
    }

    /// [`read`](Self::read), to an event.
    pub(crate) fn read_event(&mut self, slot: u32) -> Option<Event> {
        let conn = ConnId(self.conns.key(slot));
        if self.read(slot) {
            Some(Event::Data { conn })
        } else {
            self.met.take()
        }
    }

    #[cold]
    fn read_ended(&mut self, slot: u32, outcome: Received) -> bool {
        let id = ConnId(self.conns.key(slot));
        let Some(conn) = self.conns.get_mut(slot) else {
            return false;
        };
        match outcome {
            Received::BufferTooSmall => {
                let size = conn.room().max(FIRST_READ as usize);
                self.read_buf.resize(size, 0);
                return self.read(slot);
            }
            Received::Failed(Errno::INTR) => self.requeue(slot),
            Received::Failed(Errno::AGAIN) => conn.flags.clear(Flags::READABLE),
            Received::Failed(e) => self.terminate(slot, errno_reason(e)),
            Received::End => {
                conn.flags.clear(Flags::READABLE);
                conn.flags.set(Flags::EOF);
                self.current = Current::EndOfStream(slot);
                self.met = Some(Event::EndOfStream { conn: id });
            }
            Received::Bytes { .. } => {}
        }
        false
    }

    /// Adds what was just read to what earlier handlers have left.
    #[inline(never)]
    fn join_unread(&mut self, slot: u32) -> bool {
        let here = std::mem::replace(&mut self.unread_here, 0..0);
        self.current = Current::Kept(slot);
        let Some(conn) = self.conns.get_mut(slot) else {
            return false;
        };
        self.buffered += here.len();
        let kept = conn
            .unread
            .push(&self.read_buf[here.clone()], &mut self.pool);
        if !kept {
            self.buffered -= here.len();
            self.terminate(slot, CloseReason::Error(Errno::NOMEM.raw_os_error()));
        }
        kept
    }

    /// Moves what the handler left in the shared buffer to the connection, within its bounds.
    #[inline]
    pub(crate) fn keep_unread(&mut self, slot: u32) {
        let left = std::mem::replace(&mut self.unread_here, 0..0);
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        if left.is_empty() && conn.unread.is_empty() {
            return;
        }
        self.keep_some(slot, left);
    }

    fn keep_some(&mut self, slot: u32, left: Range<usize>) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        if conn.flags.any(Flags::CLOSING | Flags::DEAD) {
            return;
        }
        if !left.is_empty() {
            if !conn
                .unread
                .push(&self.read_buf[left.clone()], &mut self.pool)
            {
                return self.terminate(slot, CloseReason::Error(Errno::NOMEM.raw_os_error()));
            }
            self.buffered += left.len();
        }
        let too_much = conn.unread.len() >= conn.options.max_unread
            || self.buffered > self.options.memory_budget;
        if too_much && !conn.flags.any(Flags::PAUSED | Flags::EOF) {
            self.terminate(slot, CloseReason::InputTooLarge);
        }
    }

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

    /// Sends the `len` bytes at `address` if they are few, lie in the memory that
    /// [`take_data`](Self::take_data) handed out, and nothing stands in the way. Then they are not
    /// even copied: that memory does not change before they leave. Otherwise false, with nothing
    /// changed; [`send`](Self::send) takes any bytes or says why not.
    #[inline(always)]
    pub fn send_in_place(&mut self, id: ConnId, address: usize, len: usize) -> bool {
        let start = address.wrapping_sub(self.read_buf.as_ptr().addr());
        let end = start.wrapping_add(len);
        if len < DIRECT
            && start < end
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
        match self.conns.find(id.0) {
            Some(slot) => self.send_more(slot, bytes),
            None => refused(ErrorKind::BadHandle),
        }
    }

    /// Sends a part of the shared buffer. If it is all that the handler sends, it is not even
    /// copied: the buffer is not touched before the flush.
    #[inline(always)]
    pub(crate) fn send_here(&mut self, slot: u32, here: Range<usize>) -> Result<(), Error> {
        let Some(conn) = self.conns.get(slot) else {
            return refused(ErrorKind::BadHandle);
        };
        if self.gatherer == NOBODY && here.len() < DIRECT && conn.flags.may_send_now() {
            self.gathered_here = here;
            self.gatherer = slot;
            return Ok(());
        }
        self.send_here_more(slot, here)
    }

    #[inline(never)]
    fn send_here_more(&mut self, slot: u32, here: Range<usize>) -> Result<(), Error> {
        // What is gathered may be a part of the buffer that is about to be lent out.
        self.spill_gathered(self.gatherer);
        let buf = std::mem::take(&mut self.read_buf);
        let sent = self.send_more(slot, &buf[here]);
        self.read_buf = buf;
        sent
    }

    #[inline]
    fn clear_gathered(&mut self) {
        self.gathered_here = 0..0;
        self.gathered.clear();
    }

    #[inline(never)]
    pub(crate) fn send_more(&mut self, slot: u32, bytes: &[u8]) -> Result<(), Error> {
        let gathered = self.gathered.len() + self.gathered_here.len();
        if self.gatherer == slot && gathered + bytes.len() <= GATHERED_MAX {
            let here = std::mem::replace(&mut self.gathered_here, 0..0);
            self.gathered.extend_from_slice(&self.read_buf[here]);
            self.gathered.extend_from_slice(bytes);
            return Ok(());
        }
        self.spill_gathered(self.gatherer);
        let Some(conn) = self.conns.get_mut(slot) else {
            return refused(ErrorKind::BadHandle);
        };
        if conn.flags.any(Flags::NO_SEND) {
            return refused(ErrorKind::Closing);
        }
        let waiting = conn.queue.len();
        if waiting > conn.options.send_cap
            || (waiting > 0 && self.buffered > self.options.memory_budget)
        {
            return refused(ErrorKind::QueueFull);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        if waiting + bytes.len() >= DIRECT && conn.flags.any(Flags::WRITABLE) {
            return self.send_direct(slot, bytes);
        }
        if !conn.queue.push(bytes, &mut self.pool) {
            return refused(ErrorKind::OutOfMemory);
        }
        conn.queue_changed();
        self.buffered += bytes.len();
        if waiting == 0 {
            conn.progress_at = self.sys.now();
        }
        self.soil(slot);
        Ok(())
    }

    /// Notes that a queue has grown and is to be flushed when the handler ends.
    fn soil(&mut self, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        if !conn.flags.any(Flags::DIRTY) {
            conn.flags.set(Flags::DIRTY);
            self.dirty.push(slot);
        }
    }

    /// Moves what is gathered for `slot`, if anything is, to its queue.
    pub(crate) fn spill_gathered(&mut self, slot: u32) {
        if self.gatherer != slot || slot == NOBODY {
            return;
        }
        self.gatherer = NOBODY;
        self.queue_gathered(slot, 0);
        self.soil(slot);
    }

    /// Moves what is gathered beyond the first `sent` bytes to the queue.
    fn queue_gathered(&mut self, slot: u32, sent: usize) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return self.clear_gathered();
        };
        let here = self.gathered_here.clone();
        let gathered = if here.is_empty() {
            &self.gathered
        } else {
            &self.read_buf[here]
        };
        let rest = &gathered[sent..];
        conn.progress_at = self.sys.now();
        let queued = conn.queue.push(rest, &mut self.pool);
        conn.queue_changed();
        if queued {
            self.buffered += rest.len();
        }
        self.clear_gathered();
        if !queued {
            // They were taken to be sent: without them the stream would have a hole.
            self.terminate(slot, CloseReason::Error(Errno::NOMEM.raw_os_error()));
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
            return self.flush_gathered_failed(slot, sent);
        }
        conn.active_at = self.now;
        self.counters.bytes_sent += all.len() as u64;
        let read_all = self.unread_here.start >= self.unread_here.end;
        let done = conn.at_rest() && read_all && self.dirty.is_empty();
        self.clear_gathered();
        if done && self.current == Current::Data(slot) {
            self.current = Current::Nothing;
            return true;
        }
        false
    }

    /// The gatherer is gone: nothing is to be flushed.
    #[cold]
    fn nothing_gathered(&mut self) -> bool {
        self.clear_gathered();
        false
    }

    #[cold]
    fn flush_gathered_failed(&mut self, slot: u32, sent: Result<usize, Errno>) -> bool {
        let taken = sent.unwrap_or(0);
        self.counters.bytes_sent += taken as u64;
        self.queue_gathered(slot, taken);
        if let Some(conn) = self.conns.get_mut(slot)
            && matches!(sent, Ok(_) | Err(Errno::AGAIN))
        {
            conn.flags.clear(Flags::WRITABLE);
        }
        // Asks again after a signal, and learns what else is wrong.
        self.flush(slot);
        false
    }

    /// Hands the kernel what is gathered and `bytes` in one call; only the rest is copied.
    fn send_direct(&mut self, slot: u32, bytes: &[u8]) -> Result<(), Error> {
        let Some(conn) = self.conns.get_mut(slot) else {
            return Ok(());
        };
        let Some(socket) = conn.socket.as_ref() else {
            return Ok(());
        };
        let waiting = conn.queue.len();
        let taken = loop {
            let queued = IoSlice::new(conn.queue.bytes());
            let both = [queued, IoSlice::new(bytes)];
            match self
                .sys
                .send(socket, if waiting == 0 { &both[1..] } else { &both })
            {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break 0,
                Err(e) => {
                    self.terminate(slot, errno_reason(e));
                    return Err(Error::new("send", ErrorKind::Closing));
                }
                Ok(n) => break n,
            }
        };
        let now = self.sys.now();
        self.counters.bytes_sent += taken as u64;
        conn.queue.consume(taken.min(waiting), &mut self.pool);
        conn.queue_changed();
        self.buffered -= taken.min(waiting);
        conn.progress_at = now;
        conn.active_at = now;
        let rest = &bytes[taken.saturating_sub(waiting)..];
        if taken == waiting + bytes.len() {
            return Ok(());
        }
        conn.flags.clear(Flags::WRITABLE);
        if !conn.queue.push(rest, &mut self.pool) {
            if rest.len() == bytes.len() {
                return Err(Error::new("send", ErrorKind::OutOfMemory));
            }
            // A part has left: without the rest the stream would have a hole.
            self.terminate(slot, CloseReason::Error(Errno::NOMEM.raw_os_error()));
            return Err(Error::new("send", ErrorKind::OutOfMemory));
        }
        conn.queue_changed();
        self.buffered += rest.len();
        self.queue_waits(slot);
        Ok(())
    }

    /// Flushes all that was sent since the last event.
    pub(crate) fn flush_dirty(&mut self) {
        while let Some(slot) = self.dirty.pop() {
            self.flush(slot);
        }
    }

    /// Hands the kernel as much of the queue as it takes.
    pub(crate) fn flush(&mut self, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        conn.flags.clear(Flags::DIRTY);
        let waiting = conn.queue.len();
        if waiting == 0 {
            return;
        }
        if !conn.flags.any(Flags::WRITABLE) {
            return self.queue_waits(slot);
        }
        let Some(socket) = conn.socket.as_ref() else {
            return;
        };
        let taken = loop {
            match self.sys.send(socket, &[IoSlice::new(conn.queue.bytes())]) {
                Ok(n) => break n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break 0,
                Err(e) => return self.terminate(slot, errno_reason(e)),
            }
        };
        self.buffered -= taken;
        self.counters.bytes_sent += taken as u64;
        if taken > 0 {
            conn.progress_at = self.sys.now();
            conn.active_at = conn.progress_at;
        }
        conn.queue.consume(taken, &mut self.pool);
        conn.queue_changed();
        if taken < waiting {
            conn.flags.clear(Flags::WRITABLE);
        }
        if taken < waiting
            || conn
                .flags
                .any(Flags::CONGESTED | Flags::FINISHING | Flags::CLOSING)
        {
            self.queue_waits(slot);
        }
    }

    /// Looks at the marks after the queue has changed, and at what an empty queue allows.
    fn queue_waits(&mut self, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        let waiting = conn.queue.len();
        let closing = conn.flags.any(Flags::CLOSING);
        if waiting > conn.options.high_mark && !conn.flags.any(Flags::CONGESTED) && !closing {
            conn.flags.set(Flags::CONGESTED | Flags::TELL_CONGESTED);
            if conn.options.auto_pause {
                conn.flags.set(Flags::HELD);
            }
            self.counters.congested += 1;
        } else if waiting <= conn.options.low_mark && conn.flags.take(Flags::CONGESTED) && !closing
        {
            conn.flags.clear(Flags::HELD);
            conn.flags.set(Flags::TELL_DRAINED);
        }
        if waiting > 0 {
            if conn.options.write_stall_timeout.is_some() || closing {
                self.arm(slot);
            }
            self.starve(slot);
        } else if closing {
            self.progress_close(slot);
        } else if conn.flags.any(Flags::FINISHING) {
            self.finish_sending(slot);
        }
        self.feed_starved();
        self.requeue(slot);
    }

    /// Over the budget, a connection with a queue is not read from until the loop is below it.
    fn starve(&mut self, slot: u32) {
        if self.buffered <= self.options.memory_budget {
            return;
        }
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        if !conn.flags.any(Flags::STARVED) {
            conn.flags.set(Flags::STARVED);
            self.starved.push(slot);
        }
    }

    pub(crate) fn feed_starved(&mut self) {
        if self.starved.is_empty() || self.buffered > self.options.memory_budget {
            return;
        }
        for slot in std::mem::take(&mut self.starved) {
            // The slot may have a new tenant by now; a visit too many does no harm.
            if let Some(conn) = self.conns.get_mut(slot) {
                conn.flags.clear(Flags::STARVED);
                self.requeue(slot);
            }
        }
    }
}

fn refused(kind: ErrorKind) -> Result<(), Error> {
    Err(Error::new("send", kind))
}

/// The reason of a connection that this error of a read or write ends.
pub(crate) fn errno_reason(e: Errno) -> CloseReason {
    match e {
        Errno::CONNRESET | Errno::PIPE => CloseReason::Reset,
        other => CloseReason::Error(other.raw_os_error()),
    }
}
