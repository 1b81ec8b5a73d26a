//! The state of one connection: a few flags, two buffers, four times.
//!
//! The rule: an idle connection owns no memory but this struct. What is to be done for a
//! connection is always visible in its flags, so it needs no queue of its own, and it stands in
//! the loop's line at most once. `receive`, `gather` and `send` move the bytes, `lifecycle` ends
//! it, `connection` is what a program sees of it.

pub(crate) mod accept;
pub(crate) mod adopt;
pub(crate) mod batch;
pub(crate) mod budget;
pub(crate) mod buffer;
pub(crate) mod connect;
pub(crate) mod connection;
pub(crate) mod deadline;
pub(crate) mod flags;
pub(crate) mod gather;
pub(crate) mod lifecycle;
pub(crate) mod memory;
pub(crate) mod park;
pub(crate) mod pipe;
pub(crate) mod pipe_end;
pub(crate) mod race;
pub(crate) mod rate;
pub(crate) mod receive;
pub(crate) mod send;
mod setters;
pub(crate) mod visit;

use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use crate::conn::buffer::Buffer;
use crate::conn::race::Race;
use crate::sys::{Readiness, System};
use crate::time::deadlines::DeadlineId;
use crate::{Addr, CloseReason, ConnOptions, ErrorKind, ListenerId};

pub(crate) use crate::conn::deadline::DeadlineKind;
pub(crate) use crate::conn::flags::Flags;

/// A time that never comes.
pub(crate) const NEVER: u64 = u64::MAX;
/// Reads ask for 64 KiB, and for up to 512 KiB from a connection that keeps filling them.
pub(crate) const MIN_READ: u32 = 64 << 10;
pub(crate) const MAX_READ: u32 = 512 << 10;

pub(crate) struct Conn<K> {
    /// The open socket; `None` once the connection is dead.
    pub(crate) socket: Option<K>,
    pub(crate) flags: Flags,
    /// How much a read asks for while nothing is unread.
    pub(crate) read_size: u32,
    pub(crate) reason: CloseReason,
    pub(crate) deadline: DeadlineId,
    pub(crate) options: Arc<ConnOptions>,
    /// Received and left unread by earlier handlers.
    pub(crate) unread: Buffer,
    /// Sent and not yet taken by the kernel.
    pub(crate) queue: Buffer,
    /// When a byte last moved, for the idle timeout.
    pub(crate) active_at: u64,
    /// When the kernel last took a byte of a queue, for the write-stall timeout.
    pub(crate) progress_at: u64,
    /// When connecting or closing must be over.
    pub(crate) ends_by: u64,
    /// When it was accepted, connected or adopted.
    pub(crate) opened_at: u64,
    /// There is a first-byte timeout, and nothing has come yet.
    pub(crate) awaits_first: bool,
    /// `EndOfStream` was told.
    pub(crate) end_told: bool,
    pub(crate) user_data: u64,
    pub(crate) peer: Addr,
    pub(crate) listener: ListenerId,
    /// While the connect is more than one socket under way, and in the handler of its end.
    pub(crate) race: Option<Box<Race>>,
}

/// What a read came to.
pub(crate) enum Received {
    /// So many bytes, which are to be joined to those left unread before, or not.
    Bytes {
        n: usize,
        join: bool,
    },
    End,
    Failed(Errno),
    /// Nothing was read: the shared buffer is smaller than this connection reads.
    BufferTooSmall,
}

impl<K> Conn<K> {
    /// Receives once into the shared buffer.
    #[inline(always)]
    pub(crate) fn receive(
        &mut self,
        sys: &mut impl System<Socket = K>,
        buf: &mut [u8],
        now: u64,
    ) -> Received {
        let size = self.room();
        self.receive_up_to(sys, buf, now, size)
    }

    /// Receives at most `size` bytes, once.
    #[inline(always)]
    pub(crate) fn receive_up_to(
        &mut self,
        sys: &mut impl System<Socket = K>,
        buf: &mut [u8],
        now: u64,
        size: usize,
    ) -> Received {
        let Some(buf) = buf.get_mut(..size) else {
            return Received::BufferTooSmall;
        };
        let Some(socket) = &self.socket else {
            return Received::Failed(Errno::AGAIN);
        };
        match sys.recv(socket, buf) {
            Ok(0) => Received::End,
            Err(e) => Received::Failed(e),
            Ok(n) => {
                self.active_at = now;
                self.learn(n);
                if n < size && !self.flags.any(Flags::READ_CLOSED) {
                    self.flags.clear(Flags::READABLE);
                }
                Received::Bytes {
                    n,
                    join: !self.unread.is_empty(),
                }
            }
        }
    }

    pub(crate) fn new(socket: Option<K>, peer: Addr, options: Arc<ConnOptions>, now: u64) -> Self {
        let awaits_first = options.first_byte_timeout.is_some();
        let watched = awaits_first || options.receive_rate.is_some();
        Self {
            socket,
            flags: Flags::default().with(Flags::WATCHED, watched),
            read_size: read_size(MIN_READ, &options),
            reason: CloseReason::ClosedHere,
            deadline: DeadlineId::NONE,
            options,
            unread: Buffer::default(),
            queue: Buffer::default(),
            active_at: now,
            progress_at: now,
            ends_by: NEVER,
            opened_at: now,
            awaits_first,
            end_told: false,
            user_data: 0,
            peer,
            listener: ListenerId(0),
            race: None,
        }
    }

    /// The peer has sent its first byte, or its end.
    pub(crate) fn heard(&mut self) {
        self.awaits_first = false;
        if !self.is_watched() {
            self.flags.clear(Flags::WATCHED);
        }
    }

    /// No more than the low mark waits: `Drained` is to be told, if `Congested` was.
    pub(crate) fn relieve(&mut self) {
        if self.flags.take(Flags::CONGESTED) {
            self.flags.clear(Flags::HELD);
            self.flags.set(Flags::TELL_DRAINED);
        }
    }

    /// Why it takes no send of the program's.
    pub(crate) fn takes_no_send(&self) -> ErrorKind {
        if self.flags.any(Flags::NO_SEND) {
            ErrorKind::Closing
        } else {
            ErrorKind::InvalidInput("it is piped; unpipe it first")
        }
    }

    /// To be called after each change of the queue.
    pub(crate) fn queue_changed(&mut self) {
        if self.queue.is_empty() {
            self.flags.clear(Flags::QUEUED | Flags::STALLED);
        } else {
            self.flags.set(Flags::QUEUED);
        }
    }

    /// There is nothing to do.
    #[inline]
    pub(crate) fn at_rest(&self) -> bool {
        !self.flags.any(Flags::NOT_PLAIN | Flags::READABLE) && self.unread.is_empty()
    }

    /// Notes what the kernel reported.
    #[inline]
    pub(crate) fn note(&mut self, readiness: Readiness) {
        self.flags.0 |= readiness.0;
        let both = Flags::QUEUED.0 | Flags::WRITABLE.0;
        if self.flags.0 & both == both {
            self.flags.set(Flags::FLUSH);
        }
    }

    /// The kernel may have something to read, and it is wanted.
    #[inline]
    pub(crate) fn wants_read(&self) -> bool {
        // Closing reads only to see the peer finish.
        let wanted = if self.flags.any(Flags::CLOSING) {
            self.flags.lingers()
        } else {
            !self.flags.any(Flags::NO_READ)
        };
        wanted && self.flags.any(Flags::READABLE)
    }

    /// How much the next read may bring.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        if self.unread.is_empty() {
            return self.read_size as usize;
        }
        let room = self.options.max_unread.saturating_sub(self.unread.len());
        room.clamp(1, self.read_size as usize)
    }

    /// Learns from a read of `n` bytes how large the next one should be.
    #[inline]
    pub(crate) fn learn(&mut self, n: usize) {
        if n == self.read_size as usize {
            self.read_size = read_size(self.read_size * 2, &self.options);
        } else if self.read_size > MIN_READ && n < self.read_size as usize / 4 {
            self.read_size /= 2;
        }
    }
}

/// A read size within the bounds of all connections and of this one.
fn read_size(wanted: u32, options: &ConnOptions) -> u32 {
    let most = u32::try_from(options.max_unread).unwrap_or(MAX_READ);
    wanted.min(MAX_READ).min(most).max(1)
}

/// The time `delay` after `from`, in nanoseconds; [`NEVER`] where it would overflow.
#[inline]
pub(crate) fn after(from: u64, delay: Duration) -> u64 {
    u64::try_from(delay.as_nanos()).map_or(NEVER, |nanos| from.saturating_add(nanos))
}
