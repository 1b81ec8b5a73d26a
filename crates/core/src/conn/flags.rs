//! The flags of a connection: what is known of it, and what is still to be done.
//!
//! The rule: each flag has a bit of its own, which is checked below when this is compiled. The sets
//! of flags decide between the short way of an event and the long one (`turn`).

use crate::sys::Readiness;

/// What is known of a connection, and what is to be done for it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Flags(pub(in crate::conn) u32);

impl Flags {
    // The lowest four are those of `Readiness`.
    /// The kernel may have bytes, or end of stream, for us.
    pub(crate) const READABLE: Self = Self(Readiness::READABLE.0);
    /// The kernel may take bytes.
    pub(crate) const WRITABLE: Self = Self(Readiness::WRITABLE.0);
    /// The peer is known to have finished: read until end of stream, a short read is not the end.
    pub(crate) const READ_CLOSED: Self = Self(1 << 2);
    /// The kernel reported an error or a hang-up.
    pub(crate) const ERROR: Self = Self(1 << 3);
    /// Stands in the loop's line.
    pub(crate) const IN_LINE: Self = Self(1 << 12);
    /// Its queue has grown since the last flush.
    pub(crate) const DIRTY: Self = Self(1 << 4);
    /// Reading was paused by the program.
    pub(crate) const PAUSED: Self = Self(1 << 5);
    /// Above the high mark and not yet below the low one.
    pub(crate) const CONGESTED: Self = Self(1 << 6);
    /// End of stream was read.
    pub(crate) const EOF: Self = Self(1 << 7);
    /// `shutdown_write` was asked for.
    pub(crate) const FINISHING: Self = Self(1 << 8);
    /// The kernel was told that we have finished sending.
    pub(crate) const FINISHED: Self = Self(1 << 9);
    /// Held back from reading by the budget of the loop.
    pub(crate) const STARVED: Self = Self(1 << 10);
    /// Something waits in the queue.
    pub(crate) const QUEUED: Self = Self(1 << 14);
    /// What it gathered is parked.
    pub(crate) const PARKED: Self = Self(1 << 15);
    /// Reading is paused for a queue that is too long: its own, or that of the one it is piped to.
    pub(crate) const HELD: Self = Self(1 << 13);
    /// The kernel has refused bytes since the queue was empty.
    pub(crate) const STALLED: Self = Self(1 << 25);
    /// The handler of its next event is to be timed, so that event comes the long way.
    pub(crate) const TIMED: Self = Self(1 << 26);

    /// The following want a visit beyond a plain read.
    pub(crate) const CONNECTING: Self = Self(1 << 16);
    /// `close` was called or end of stream was told: flush, finish, see the peer finish.
    pub(crate) const CLOSING: Self = Self(1 << 17);
    /// The socket is closed, `Closed` is to be told.
    pub(crate) const DEAD: Self = Self(1 << 18);
    /// `Accepted` or `Connected` is to be told.
    pub(crate) const TELL_OPEN: Self = Self(1 << 19);
    pub(crate) const TELL_CONGESTED: Self = Self(1 << 20);
    pub(crate) const TELL_DRAINED: Self = Self(1 << 21);
    pub(crate) const TELL_END: Self = Self(1 << 22);
    /// The kernel takes bytes again and a queue waits.
    pub(crate) const FLUSH: Self = Self(1 << 23);
    /// What is unread is to be offered again although nothing new came.
    pub(crate) const OFFER: Self = Self(1 << 24);

    /// What it receives is sent on; nothing of it is told but its ends.
    pub(crate) const PIPED: Self = Self(1 << 27);
    /// Its socket is shared with the parent of a fork: it is closed and no more.
    pub(crate) const INHERITED: Self = Self(1 << 28);

    /// A write has failed: what the peer sent before is read to its end, then it is dead.
    pub(crate) const BROKEN: Self = Self(1 << 29);

    /// What it receives is looked at, so it is read the long way: its first byte is awaited, or it
    /// has a rate.
    pub(crate) const WATCHED: Self = Self(1 << 30);
    /// Reading waits for tokens of its rate.
    pub(crate) const THROTTLED: Self = Self(1 << 31);

    /// Every flag.
    const EACH: &[Self] = &[
        Self::READABLE,
        Self::WRITABLE,
        Self::READ_CLOSED,
        Self::ERROR,
        Self::IN_LINE,
        Self::DIRTY,
        Self::PAUSED,
        Self::CONGESTED,
        Self::EOF,
        Self::FINISHING,
        Self::FINISHED,
        Self::STARVED,
        Self::QUEUED,
        Self::PARKED,
        Self::HELD,
        Self::STALLED,
        Self::TIMED,
        Self::CONNECTING,
        Self::CLOSING,
        Self::DEAD,
        Self::TELL_OPEN,
        Self::TELL_CONGESTED,
        Self::TELL_DRAINED,
        Self::TELL_END,
        Self::FLUSH,
        Self::OFFER,
        Self::PIPED,
        Self::INHERITED,
        Self::BROKEN,
        Self::WATCHED,
        Self::THROTTLED,
    ];

    /// All that a visit does beside a plain read.
    pub(crate) const SPECIAL: Self =
        Self(0x01ff_0000 | Self::ERROR.0 | Self::PIPED.0 | Self::BROKEN.0);
    /// All for which a visit is due in this turn, whatever was read.
    pub(crate) const URGENT: Self = Self(
        Self::DEAD.0
            | Self::TELL_OPEN.0
            | Self::TELL_CONGESTED.0
            | Self::TELL_DRAINED.0
            | Self::TELL_END.0
            | Self::ERROR.0
            | Self::FLUSH.0,
    );
    /// What keeps a connection from being read.
    pub(crate) const NO_READ: Self = Self(
        Self::PAUSED.0
            | Self::EOF.0
            | Self::DEAD.0
            | Self::STARVED.0
            | Self::HELD.0
            | Self::THROTTLED.0,
    );
    /// What keeps a report or the end of a handler from being a plain matter.
    pub(crate) const NOT_PLAIN: Self =
        Self(Self::SPECIAL.0 | Self::NO_READ.0 | Self::IN_LINE.0 | Self::TIMED.0 | Self::WATCHED.0);
    /// No further send is taken.
    pub(crate) const NO_SEND: Self = Self(Self::ENDING.0 | Self::FINISHING.0);
    /// What is left of it is its end.
    pub(crate) const ENDING: Self = Self(Self::CLOSING.0 | Self::DEAD.0 | Self::BROKEN.0);

    #[inline]
    pub(crate) fn any(self, of: Self) -> bool {
        self.0 & of.0 != 0
    }

    /// Those of `these` that are set.
    pub(crate) fn only(self, these: Self) -> Self {
        Self(self.0 & these.0)
    }

    /// All there is to do is to read.
    #[inline]
    pub(crate) fn just_read(self) -> bool {
        self.0 & (Self::NOT_PLAIN.0 | Self::READABLE.0) == Self::READABLE.0
    }

    /// Closing, flushed, and waiting for the peer to finish.
    #[inline]
    pub(crate) fn lingers(self) -> bool {
        let both = Self::CLOSING.0 | Self::FINISHED.0;
        self.0 & both == both
    }

    /// Sends are taken, nothing waits before them, and the kernel takes them too as far as is
    /// known.
    #[inline]
    pub(crate) fn may_send_now(self) -> bool {
        let waits = Self::QUEUED.0 | Self::PARKED.0;
        let not = Self::NO_SEND.0 | Self::CONNECTING.0 | Self::PIPED.0 | waits;
        self.0 & (not | Self::WRITABLE.0) == Self::WRITABLE.0
    }

    /// The kernel may be offered bytes. While a connect has its answer and was not told, it takes
    /// them already; but what it refuses then would hide that answer.
    #[inline]
    pub(crate) fn may_write(self) -> bool {
        self.0 & (Self::WRITABLE.0 | Self::CONNECTING.0) == Self::WRITABLE.0
    }

    #[inline]
    pub(crate) fn set(&mut self, these: Self) {
        self.0 |= these.0;
    }

    #[inline]
    pub(crate) fn clear(&mut self, these: Self) {
        self.0 &= !these.0;
    }

    /// With `these` set if `on`.
    pub(crate) fn with(self, these: Self, on: bool) -> Self {
        if on { self | these } else { self }
    }

    /// Clears `these` and answers whether any was set.
    #[inline]
    pub(crate) fn take(&mut self, these: Self) -> bool {
        let had = self.any(these);
        self.clear(these);
        had
    }
}

impl std::ops::BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// No two flags share a bit.
const _: () = {
    let (mut seen, mut n) = (0, 0);
    while n < Flags::EACH.len() {
        assert!(Flags::EACH[n].0.is_power_of_two() && seen & Flags::EACH[n].0 == 0);
        seen |= Flags::EACH[n].0;
        n += 1;
    }
};
