//! Moving bytes: reads into the shared buffer, sends past the queue where that is empty.
//!
//! The rule: bytes leave in the order of the sends, and a send is taken whole or not at all. The
//! shared buffer holds what the current event brought; only what its handler leaves is copied.
//! A read or write that moved less than offered has emptied or filled the kernel's side, so no
//! second call asks for `EAGAIN` (contract 3 and 4 of `sys`).

use std::io::IoSlice;

use rustix::io::Errno;

use crate::conn::{FIRST_READ_SHIFT, Flags, MAX_READ_SHIFT, MIN_READ_SHIFT};
use crate::event_loop::EventLoop;
use crate::sys::System;
use crate::turn::Current;
use crate::{CloseReason, ConnId, Error, ErrorKind, Event};

/// Sends of at least this size go to the kernel at once, uncopied; smaller ones are gathered.
const DIRECT: usize = 8 << 10;
/// Gathered bytes that leave before the handler has ended.
const GATHERED_MAX: usize = 64 << 10;

impl<S: System> EventLoop<S> {
    /// Reads once from a connection and makes the event of what came.
    #[inline]
    pub(crate) fn read(&mut self, slot: u32) -> Option<Event> {
        let id = ConnId(self.conns.key(slot));
        let conn = self.conns.get_mut(slot)?;
        let size = conn.read_size();
        if self.read_buf.len() < size {
            self.read_buf.resize(size.max(1 << FIRST_READ_SHIFT), 0);
        }
        let socket = conn.socket.as_ref()?;
        let n = loop {
            match self.sys.recv(socket, &mut self.read_buf[..size]) {
                Ok(n) => break n,
                Err(Errno::INTR) => {}
                Err(e) => return self.read_failed(slot, e),
            }
        };
        if n == 0 {
            conn.flags.clear(Flags::READABLE);
            conn.flags.set(Flags::EOF);
            self.current = Current::EndOfStream(slot);
            return Some(Event::EndOfStream { conn: id });
        }
        conn.active_at = self.now;
        self.counters.bytes_received += n as u64;
        self.counters.reads += 1;
        if n < size {
            if !conn.flags.any(Flags::READ_CLOSED) {
                conn.flags.clear(Flags::READABLE);
            }
            if n < size / 4 && conn.read_shift > MIN_READ_SHIFT {
                conn.read_shift -= 1;
            }
        } else if size == 1 << conn.read_shift && conn.read_shift < MAX_READ_SHIFT {
            conn.read_shift += 1;
        }
        if conn.unread.is_empty() {
            self.unread_here = 0..n;
        } else {
            self.buffered += n;
            if !conn.unread.push(&self.read_buf[..n], &mut self.pool) {
                self.buffered -= n;
                self.terminate(slot, CloseReason::Error(Errno::NOMEM.raw_os_error()));
                return None;
            }
        }
        self.current = Current::Data(slot);
        Some(Event::Data { conn: id })
    }

    #[cold]
    fn read_failed(&mut self, slot: u32, e: Errno) -> Option<Event> {
        if e != Errno::AGAIN {
            self.terminate(slot, errno_reason(e));
            return None;
        }
        self.conns.get_mut(slot)?.flags.clear(Flags::READABLE);
        None
    }

    /// Moves what the handler left in the shared buffer to the connection, within its bounds.
    #[inline]
    pub(crate) fn keep_unread(&mut self, slot: u32) {
        let left = std::mem::replace(&mut self.unread_here, 0..0);
        let Some(conn) = self.conns.get_mut(slot) else { return };
        if left.is_empty() && conn.unread.is_empty() {
            return;
        }
        self.keep_some(slot, left);
    }

    fn keep_some(&mut self, slot: u32, left: std::ops::Range<usize>) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        if conn.flags.any(Flags::CLOSING | Flags::DEAD) {
            return;
        }
        if !left.is_empty() {
            if !conn.unread.push(&self.read_buf[left.clone()], &mut self.pool) {
                return self.terminate(slot, CloseReason::Error(Errno::NOMEM.raw_os_error()));
            }
            self.buffered += left.len();
        }
        let too_much =
            conn.unread.len() >= conn.options.max_unread || self.buffered > self.options.memory_budget;
        if too_much && !conn.flags.any(Flags::PAUSED | Flags::EOF) {
            self.terminate(slot, CloseReason::InputTooLarge);
        }
    }

    /// Takes all of `bytes` to be sent, or none and says why.
    #[inline]
    pub(crate) fn send(&mut self, slot: u32, bytes: &[u8]) -> Result<(), Error> {
        let refused = |kind| Err(Error::new("send", kind));
        let Some(conn) = self.conns.get_mut(slot) else { return refused(ErrorKind::BadHandle) };
        if conn.flags.any(Flags::NO_SEND) {
            return refused(ErrorKind::Closing);
        }
        let waiting = conn.queue.len();
        if waiting > conn.options.send_cap || (waiting > 0 && self.buffered > self.options.memory_budget) {
            return refused(ErrorKind::QueueFull);
        }
        if bytes.len() >= DIRECT && conn.flags.any(Flags::WRITABLE) {
            return self.send_direct(slot, bytes);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        if !conn.queue.push(bytes, &mut self.pool) {
            return refused(ErrorKind::OutOfMemory);
        }
        self.buffered += bytes.len();
        if waiting == 0 {
            conn.progress_at = self.now;
        }
        let gathered_enough = waiting + bytes.len() > GATHERED_MAX && conn.flags.any(Flags::WRITABLE);
        if !conn.flags.any(Flags::DIRTY) {
            conn.flags.set(Flags::DIRTY);
            self.dirty.push(slot);
        }
        if gathered_enough {
            self.flush(slot);
        }
        Ok(())
    }

    /// Hands the kernel what is gathered and `bytes` in one call; only the rest is copied.
    fn send_direct(&mut self, slot: u32, bytes: &[u8]) -> Result<(), Error> {
        let Some(conn) = self.conns.get_mut(slot) else { return Ok(()) };
        let Some(socket) = conn.socket.as_ref() else { return Ok(()) };
        let waiting = conn.queue.len();
        let taken = loop {
            let queued = IoSlice::new(conn.queue.bytes());
            let both = [queued, IoSlice::new(bytes)];
            match self.sys.send(socket, if waiting == 0 { &both[1..] } else { &both }) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break 0,
                Err(e) => {
                    self.terminate(slot, errno_reason(e));
                    return Err(Error::new("send", ErrorKind::Closing));
                }
                Ok(n) => break n,
            }
        };
        let now = self.now;
        self.counters.bytes_sent += taken as u64;
        conn.queue.consume(taken.min(waiting), &mut self.pool);
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
        self.buffered += rest.len();
        self.queue_waits(slot);
        Ok(())
    }

    /// Flushes all that was sent since the last event.
    #[inline]
    pub(crate) fn flush_dirty(&mut self) {
        while let Some(slot) = self.dirty.pop() {
            self.flush(slot);
        }
    }

    /// Hands the kernel as much of the queue as it takes.
    #[inline]
    pub(crate) fn flush(&mut self, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        conn.flags.clear(Flags::DIRTY);
        let waiting = conn.queue.len();
        if waiting == 0 {
            return;
        }
        if !conn.flags.any(Flags::WRITABLE) {
            return self.queue_waits(slot);
        }
        let Some(socket) = conn.socket.as_ref() else { return };
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
            conn.progress_at = self.now;
            conn.active_at = self.now;
        }
        conn.queue.consume(taken, &mut self.pool);
        if taken < waiting {
            conn.flags.clear(Flags::WRITABLE);
        }
        if taken < waiting || conn.flags.any(Flags::CONGESTED | Flags::FINISHING | Flags::CLOSING) {
            self.queue_waits(slot);
        }
    }

    /// Looks at the marks after the queue has changed, and at what an empty queue allows.
    fn queue_waits(&mut self, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let waiting = conn.queue.len();
        let closing = conn.flags.any(Flags::CLOSING);
        if waiting > conn.options.high_mark && !conn.flags.any(Flags::CONGESTED) && !closing {
            conn.flags.set(Flags::CONGESTED | Flags::TELL_CONGESTED);
            self.counters.congested += 1;
        } else if waiting <= conn.options.low_mark && conn.flags.take(Flags::CONGESTED) && !closing {
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
        let Some(conn) = self.conns.get_mut(slot) else { return };
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

/// The reason of a connection that this error of a read or write ends.
pub(crate) fn errno_reason(e: Errno) -> CloseReason {
    match e {
        Errno::CONNRESET | Errno::PIPE => CloseReason::Reset,
        other => CloseReason::Error(other.raw_os_error()),
    }
}
