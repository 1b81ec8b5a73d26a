//! Sending past what is gathered: large sends, queues, marks.
//!
//! The rule: bytes leave in the order of the sends, and a send is taken whole or not at all. A large
//! send goes to the kernel at once and uncopied; only what the kernel refuses is kept. A write that
//! took less than it was offered has filled the kernel's side (contract 3 of `sys`).

use std::io::IoSlice;

use rustix::io::Errno;

use crate::conn::Flags;
use crate::event_loop::EventLoop;
use crate::sys::System;
use crate::{CloseReason, Error, ErrorKind};

/// Sends of the program's own bytes of at least this size go to the kernel at once, uncopied;
/// smaller ones are gathered.
pub(crate) const DIRECT: usize = 8 << 10;

impl<S: System> EventLoop<S> {
    /// Takes all of `bytes` to be sent, or none and says why.
    #[inline(never)]
    pub(crate) fn send_more(&mut self, slot: u32, bytes: &[u8]) -> Result<(), Error> {
        if self.gather_more(slot, bytes) {
            return Ok(());
        }
        self.spill_gathered(slot);
        let Some(conn) = self.conns.get_mut(slot) else {
            return refused(ErrorKind::BadHandle);
        };
        if conn.flags.any(Flags::NO_SEND | Flags::PIPED) {
            return refused(conn.takes_no_send());
        }
        if conn.flags.may_write() && conn.queue.len() > conn.options.send_cap {
            self.flush(slot); // The kernel was not asked yet: it may take all of it.
        }
        let Some(conn) = self.conns.get_mut(slot) else {
            return refused(ErrorKind::BadHandle);
        };
        if conn.flags.any(Flags::DEAD) {
            return refused(ErrorKind::Closing);
        }
        let waiting = conn.queue.len();
        let over_budget = waiting > 0 && self.buffered > self.options.memory_budget;
        if waiting > conn.options.send_cap || over_budget {
            self.congest(slot);
            self.soil(slot);
            self.counters.sends_refused += 1;
            return refused(ErrorKind::QueueFull);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        if waiting + bytes.len() >= DIRECT && conn.flags.may_write() {
            return self.send_direct(slot, bytes);
        }
        if !conn.queue.push(bytes, &mut self.pool) {
            return refused(ErrorKind::OutOfMemory);
        }
        conn.queue_changed();
        self.buffered += bytes.len();
        self.soil(slot);
        Ok(())
    }

    /// Notes that a queue has grown and is to be flushed when the handler ends.
    pub(crate) fn soil(&mut self, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        if !conn.flags.any(Flags::DIRTY) {
            if self.dirty.try_reserve(1).is_err() {
                return self.flush(slot); // The list is not empty, so the end looks there anyway.
            }
            conn.flags.set(Flags::DIRTY);
            self.dirty.push(slot);
            self.work_left();
        }
    }

    /// Hands the kernel what is gathered and `bytes` in one call; only the rest is copied.
    pub(crate) fn send_direct(&mut self, slot: u32, bytes: &[u8]) -> Result<(), Error> {
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
                    self.write_failed(slot, e);
                    return Err(Error::new("send", ErrorKind::Closing));
                }
                Ok(n) => break n,
            }
        };
        self.counters.bytes_sent += taken as u64;
        if taken > 0 {
            self.counters.sends += 1;
            conn.active_at = self.now;
        }
        conn.queue.consume(taken.min(waiting), &mut self.pool);
        conn.queue_changed();
        self.buffered -= taken.min(waiting);
        let rest = &bytes[taken.saturating_sub(waiting)..];
        if taken == waiting + bytes.len() {
            if waiting > 0 {
                self.queue_waits(slot);
            }
            return Ok(());
        }
        if !conn.queue.push(rest, &mut self.pool) {
            if rest.len() == bytes.len() {
                self.stall(slot);
                return Err(Error::new("send", ErrorKind::OutOfMemory));
            }
            // A part has left: without the rest the stream would have a hole.
            self.terminate(slot, CloseReason::Error(Errno::NOMEM.raw_os_error()));
            return Err(Error::new("send", ErrorKind::OutOfMemory));
        }
        conn.queue_changed();
        self.buffered += rest.len();
        self.stall(slot);
        Ok(())
    }

    /// Notes that the kernel takes no more: from now on the peer is waited for.
    pub(crate) fn stall(&mut self, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        conn.flags.clear(Flags::WRITABLE);
        conn.flags.set(Flags::STALLED);
        conn.progress_at = self.sys.now(); // The handlers may have taken their time.
        self.queue_waits(slot);
    }

    /// Flushes all that was sent since the last event.
    pub(crate) fn flush_dirty(&mut self) {
        self.flush_parked();
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
        if waiting == 0 || conn.flags.any(Flags::BROKEN) {
            return;
        }
        if !conn.flags.may_write() {
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
                Err(e) => return self.write_failed(slot, e),
            }
        };
        self.buffered -= taken;
        self.counters.bytes_sent += taken as u64;
        if taken > 0 {
            self.counters.sends += 1;
            conn.active_at = self.now;
        }
        conn.queue.consume(taken, &mut self.pool);
        conn.queue_changed();
        if taken < waiting {
            if taken > 0 || !conn.flags.any(Flags::STALLED) {
                return self.stall(slot);
            }
            conn.flags.clear(Flags::WRITABLE);
        }
        let and_then = Flags::CONGESTED | Flags::FINISHING | Flags::CLOSING | Flags::PIPED;
        if taken < waiting || conn.flags.any(and_then) {
            self.queue_waits(slot);
        }
    }

    /// At the end of the loop: offers the kernel once more all that waits. What it takes it delivers
    /// (promise 4), which a reset would take back; so a peer that does not get all sees its end.
    pub(crate) fn flush_all(&mut self) {
        for slot in 0..self.conns.end() {
            if let Some(conn) = self.conns.get_mut(slot)
                && !conn.flags.any(Flags::CONNECTING)
            {
                conn.flags.set(Flags::WRITABLE);
                self.flush(slot);
            }
        }
    }

    /// Looks at the marks after the queue has changed, and at what an empty queue allows.
    pub(crate) fn queue_waits(&mut self, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        let waiting = conn.queue.len();
        let closing = conn.flags.any(Flags::CLOSING);
        let over_budget = waiting > 0 && self.buffered > self.options.memory_budget;
        if conn.flags.any(Flags::PIPED) {
            if waiting <= conn.options.low_mark && !over_budget {
                self.pipe_has_room(slot);
            }
        } else if waiting > conn.options.high_mark && !closing {
            self.congest(slot);
        } else if waiting <= conn.options.low_mark && !over_budget && !closing {
            conn.relieve();
        }
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
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

    /// Above the high mark, or a send was refused: `Congested` is told, and `Drained` will be.
    fn congest(&mut self, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        if conn.flags.any(Flags::CONGESTED) {
            return;
        }
        conn.flags.set(Flags::CONGESTED);
        // A `Drained` that was not told yet is no longer true.
        if !conn.flags.take(Flags::TELL_DRAINED) {
            conn.flags.set(Flags::TELL_CONGESTED);
        }
        if conn.options.auto_pause {
            conn.flags.set(Flags::HELD);
        }
        self.counters.congested += 1;
    }
}

pub(crate) fn refused(kind: ErrorKind) -> Result<(), Error> {
    Err(Error::new("send", kind))
}
