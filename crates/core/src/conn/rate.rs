//! Rates: how many bytes a second are read from a connection.
//!
//! The rule: a token bucket, as tc-tbf(8) has it, counted in whole numbers, so over any time no more
//! is read than it says, and nothing of what it allows is lost to rounding. What may not be read yet
//! stays in the kernel, and TCP's window slows the sender down. A connection that has to wait is
//! `THROTTLED` and has a deadline for the moment when a read is worth its call: not for each byte.
//! One with a rate has the flag `WATCHED`, by which it is read the long way; buckets stand in a side
//! table. What a closing connection discards is not counted.

use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use crate::conn::{Conn, Flags, MIN_READ, Received};
use crate::event_loop::EventLoop;
use crate::sys::System;
use crate::time::deadlines::{DeadlineId, Owner};
use crate::{CloseReason, Connection};

/// So many bytes a second, and so many at once: a token bucket, as in tc-tbf(8).
///
/// Over any time of T seconds at most `burst + bytes_per_second * T` bytes pass. The bucket is full
/// in the beginning. A 0 counts as 1.
///
/// # Examples
///
/// ```
/// use echoloop_core::{ConnOptions, Rate};
///
/// let rate = Rate { bytes_per_second: 1 << 20, burst: 64 << 10 };
/// let options = ConnOptions { receive_rate: Some(rate), ..ConnOptions::default() };
/// # let _ = options;
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Bytes that the bucket gains each second.
    pub bytes_per_second: u64,
    /// Bytes that the bucket holds: what may pass at once after a rest.
    pub burst: u64,
}

/// Tokens are counted in parts of a byte, of which a byte has as many as a second nanoseconds: so a
/// nanosecond brings as many parts as a second brings bytes.
const BYTE: u128 = 1_000_000_000;
/// A wait for tokens is at most about this long: a slow connection is not to stutter.
const PAUSE: Duration = Duration::from_millis(50);

/// The bucket of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    rate: Rate,
    /// Parts of bytes that were saved until `filled_at`.
    saved: u128,
    filled_at: u64,
    /// Armed while the connection is throttled.
    deadline: DeadlineId,
}

impl Bucket {
    fn new(rate: Rate, now: u64) -> Self {
        let mut bucket = Self {
            rate: Rate {
                bytes_per_second: rate.bytes_per_second.max(1),
                burst: rate.burst.max(1),
            },
            saved: 0,
            filled_at: now,
            deadline: DeadlineId::NONE,
        };
        bucket.saved = bucket.most();
        bucket
    }

    fn most(&self) -> u128 {
        u128::from(self.rate.burst) * BYTE
    }

    /// Adds what came since it was filled last; answers how many bytes may pass.
    fn fill(&mut self, now: u64) -> u64 {
        let passed = now.saturating_sub(self.filled_at);
        let gained = u128::from(passed) * u128::from(self.rate.bytes_per_second);
        self.saved = self.most().min(self.saved + gained);
        self.filled_at = self.filled_at.max(now);
        // At most the burst, which is one.
        u64::try_from(self.saved / BYTE).unwrap_or(u64::MAX)
    }

    fn take(&mut self, bytes: usize) {
        self.saved = self.saved.saturating_sub(bytes as u128 * BYTE);
    }

    /// How many bytes are worth a read: those of a [`PAUSE`], within reason. Not all that the bucket
    /// holds, or it would overflow when the loop is late.
    fn worth_a_read(&self) -> u64 {
        let a_pause = u128::from(self.rate.bytes_per_second) * PAUSE.as_nanos() / BYTE;
        let most = self.rate.burst.div_ceil(2).min(MIN_READ.into());
        u64::try_from(a_pause).unwrap_or(most).clamp(1, most)
    }

    /// When so many bytes may pass, which are no more than the burst.
    fn when(&self, bytes: u64) -> u64 {
        let lacking = (u128::from(bytes) * BYTE).saturating_sub(self.saved);
        let wait = lacking.div_ceil(self.rate.bytes_per_second.into());
        let wait = u64::try_from(wait).unwrap_or(u64::MAX);
        self.filled_at.saturating_add(wait)
    }

    /// Another rate from now on; of what was saved that much stays as the new bucket holds.
    fn change(&mut self, rate: Rate, now: u64) {
        self.fill(now);
        let new = Self::new(rate, now);
        self.saved = self.saved.min(new.saved);
        self.rate = new.rate;
    }
}

impl<K> Conn<K> {
    /// Whether it is read the long way, by its options and what has come.
    pub(crate) fn is_watched(&self) -> bool {
        self.awaits_first || self.options.receive_rate.is_some()
    }
}

impl<S: System> EventLoop<S> {
    /// How many of `size` bytes may be read now. When it is not worth a read the connection waits.
    pub(crate) fn may_read(&mut self, slot: u32, size: usize) -> Option<usize> {
        let conn = self.conns.get_mut(slot)?;
        let Some(rate) = conn.options.receive_rate else {
            return Some(size);
        };
        let now = self.sys.now();
        if self.buckets.try_reserve(1).is_err() {
            return self.no_rate(slot);
        }
        let bucket = self.buckets.entry(slot);
        let bucket = bucket.or_insert_with(|| Bucket::new(rate, now));
        let tokens = bucket.fill(now);
        let wanted = bucket.worth_a_read().min(size as u64);
        if tokens >= wanted {
            // No more than `size`, so it fits.
            return Some(usize::try_from(tokens).map_or(size, |tokens| size.min(tokens)));
        }
        if bucket.deadline == DeadlineId::NONE {
            let Some(deadline) = self.deadlines.add(Owner::Rate(slot)) else {
                return self.no_rate(slot);
            };
            bucket.deadline = deadline;
        }
        conn.flags.set(Flags::THROTTLED);
        self.counters.throttled += 1;
        self.deadlines.arm(bucket.deadline, bucket.when(wanted));
        self.changed();
        None
    }

    /// There is no memory to hold the connection to its rate, so it ends.
    #[cold]
    fn no_rate(&mut self, slot: u32) -> Option<usize> {
        self.terminate(slot, CloseReason::Error(Errno::NOMEM.raw_os_error()));
        None
    }

    /// So many bytes were read of a watched connection; none is its end.
    pub(crate) fn was_read(&mut self, slot: u32, bytes: usize) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        conn.heard();
        if let Some(bucket) = self.buckets.get_mut(&slot) {
            bucket.take(bytes);
        }
    }

    /// [`read`](Self::read) of a watched connection.
    #[cold]
    pub(crate) fn read_watched(&mut self, slot: u32) -> bool {
        let Some(room) = self.conns.get(slot).map(Conn::room) else {
            return false;
        };
        let Some(size) = self.may_read(slot, room) else {
            return false;
        };
        let size = self.read_room(size);
        let Some(conn) = self.conns.get_mut(slot) else {
            return false;
        };
        let outcome = conn.receive_up_to(&mut self.sys, &mut self.read_buf, self.now, size);
        match outcome {
            Received::Bytes { n, .. } => {
                let more = conn.flags.any(Flags::READABLE);
                self.was_read(slot, n);
                if more {
                    self.may_read(slot, room); // If not, it waits without another visit.
                }
            }
            Received::End => self.was_read(slot, 0),
            Received::Failed(_) | Received::BufferTooSmall => {}
        }
        self.has_read(slot, outcome)
    }

    /// The tokens that a throttled connection has waited for have come.
    pub(crate) fn tokens_came(&mut self, slot: u32) {
        if let Some(conn) = self.conns.get_mut(slot) {
            conn.flags.clear(Flags::THROTTLED);
            self.requeue(slot);
        }
    }

    /// From now on the connection is read without a rate, if at all.
    pub(crate) fn end_rate(&mut self, slot: u32) {
        self.take_bucket(slot);
        if let Some(conn) = self.conns.get_mut(slot) {
            conn.flags.clear(Flags::THROTTLED);
        }
    }

    /// Takes the bucket of a connection that leaves, as it is now.
    pub(crate) fn take_bucket(&mut self, slot: u32) -> Option<Bucket> {
        if self.buckets.is_empty() {
            return None;
        }
        let mut bucket = self.buckets.remove(&slot)?;
        let deadline = std::mem::replace(&mut bucket.deadline, DeadlineId::NONE);
        self.deadlines.remove(deadline);
        bucket.fill(self.now);
        Some(bucket)
    }

    /// Puts the bucket of a connection that arrives in place; on its way it gained nothing.
    pub(crate) fn put_bucket(&mut self, slot: u32, bucket: Option<Bucket>) {
        let lives = |c: &Conn<S::Socket>| !c.flags.any(Flags::DEAD);
        if let Some(mut bucket) = bucket
            && self.conns.get(slot).is_some_and(lives)
        {
            bucket.filled_at = self.now;
            if self.buckets.try_reserve(1).is_ok() {
                self.buckets.insert(slot, bucket);
            }
        }
    }
}

impl<S: System> Connection<'_, S> {
    /// Sets or removes the [`receive_rate`](crate::ConnOptions::receive_rate). What the bucket of the rate
    /// before has saved stays, as far as the new one holds it.
    pub fn set_receive_rate(&mut self, rate: Option<Rate>) {
        let (slot, el) = (self.slot, &mut *self.el);
        let now = el.sys.now();
        let Some(conn) = el.conns.get_mut(slot) else {
            return;
        };
        let before = conn.options.receive_rate;
        Arc::make_mut(&mut conn.options).receive_rate = rate;
        if conn.flags.any(Flags::DEAD | Flags::CLOSING) {
            return;
        }
        conn.flags.clear(Flags::WATCHED | Flags::THROTTLED);
        if conn.is_watched() {
            conn.flags.set(Flags::WATCHED);
        }
        match (before, rate) {
            // Without memory for it, the first read makes it or ends the connection.
            (Some(before), Some(rate)) if el.buckets.try_reserve(1).is_ok() => {
                let bucket = el.buckets.entry(slot);
                let bucket = bucket.or_insert_with(|| Bucket::new(before, now));
                bucket.change(rate, now);
            }
            (_, Some(_)) => {} // It is made, full, by the first read.
            (_, None) => el.end_rate(slot),
        }
        el.changed();
        el.requeue(slot);
    }
}
