//! Reading for batches: many connections, each to a place of its own, before anybody looks at them.
//!
//! The rule: what a batch hands out stays where it is until the next one begins, and counts as
//! consumed. Only a connection that is to be read, a little, and nothing else is read right to there; what
//! comes by any other way is copied, or lent from where it is if it is large. This is for the C ABI; nothing
//! here is of the public interface.

use crate::ConnId;
use crate::conn::{Flags, MIN_READ, Received};
use crate::event_loop::EventLoop;
use crate::sys::System;
use crate::turn::Current;

/// Memory for what one batch hands out.
const LENT_MAX: usize = 256 << 10;
/// What comes another way is copied up to this size.
const SMALL: usize = 32 << 10;

/// What the present batch has handed out; owns nothing until the first.
#[derive(Default)]
pub(crate) struct Lent {
    pub(crate) bytes: Vec<u8>,
    pub(crate) used: usize,
}

impl Lent {
    /// Makes the room of one read, if it is within bounds and there is memory.
    #[cold]
    fn grow(&mut self) -> bool {
        let wanted = self.used + MIN_READ as usize;
        if wanted > LENT_MAX {
            return false;
        }
        let all = LENT_MAX.saturating_sub(self.bytes.len());
        if self.used > 0 && self.bytes.capacity() < LENT_MAX {
            return false; // It would move what is lent.
        }
        if self.bytes.try_reserve_exact(all).is_err() {
            return false;
        }
        self.bytes.resize(wanted, 0); // No more than that: the rest was never touched.
        true
    }
}

impl<S: System> EventLoop<S> {
    /// Begins a batch: what was sent leaves, and what the batch before has handed out is over.
    #[doc(hidden)]
    #[inline]
    pub fn begin_batch(&mut self) {
        self.finish_handler();
        self.lent.used = 0;
    }

    /// Whether the batch has room for another event.
    #[doc(hidden)]
    #[must_use]
    pub fn batch_goes_on(&self) -> bool {
        self.lent.used + MIN_READ as usize <= LENT_MAX
    }

    /// [`next_data`](Self::next_data) of a batch: the connection, its user data, and all it has
    /// received, which is consumed and stays until the next [`begin_batch`](Self::begin_batch).
    ///
    /// `None` when the next event can't be had this way: then [`next_event`](Self::next_event) has it,
    /// if the [batch goes on](Self::batch_goes_on), and [`take_for_batch`](Self::take_for_batch) its data.
    #[doc(hidden)]
    #[inline(always)]
    pub fn next_data_of_batch(&mut self) -> Option<(ConnId, u64, &[u8])> {
        self.finish_handler();
        let start = self.lent.used;
        if self.lent.bytes.len() - start < MIN_READ as usize && !self.lent.grow() {
            return None;
        }
        let report = self.ready.pop()?;
        let Some((slot, conn)) = self.conns.find_mut(report.token) else {
            self.ready.push(report);
            return None;
        };
        conn.note(report.readiness);
        let place = &mut self.lent.bytes[start..];
        let plain = conn.flags.just_read() && conn.unread.is_empty();
        // Streams all use the shared buffer, which stays in the cache.
        if !plain || conn.read_size > MIN_READ {
            self.ready.push(report);
            return None;
        }
        let outcome = conn.receive(&mut self.sys, place, self.now);
        let Received::Bytes { n, .. } = outcome else {
            self.has_read(slot, outcome);
            return None;
        };
        self.counters.bytes_received += n as u64;
        self.counters.reads += 1;
        let user = conn.user_data;
        self.lent.used = start + n;
        if conn.flags.any(Flags::READABLE) {
            self.requeue(slot); // There is more, for the next turn.
        }
        let data = &self.lent.bytes[start..self.lent.used];
        Some((ConnId(report.token), user, data))
    }

    /// Takes the bytes of a `Data` event that came by [`next_event`](Self::next_event) into the batch.
    /// `None`, and nothing has changed, if they are too many.
    #[doc(hidden)]
    pub fn take_for_batch(&mut self) -> Option<&[u8]> {
        let from = match self.current {
            Current::Data(_) => &self.read_buf[self.unread_here.clone()],
            Current::Kept(slot) => self.conns.get(slot)?.unread.bytes(),
            _ => return None,
        };
        let (start, n) = (self.lent.used, from.len());
        let place = self.lent.bytes.get_mut(start..start + n)?;
        if n > SMALL {
            return None;
        }
        place.copy_from_slice(from);
        self.lent.used = start + n;
        match self.current {
            Current::Kept(slot) => {
                let id = ConnId(self.conns.key(slot));
                if let Ok(mut view) = self.conn(id) {
                    view.consume(usize::MAX);
                }
            }
            _ => self.unread_here.start = self.unread_here.end,
        }
        Some(&self.lent.bytes[start..start + n])
    }
}
