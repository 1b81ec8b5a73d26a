//! What a descriptor is ready for, and what a program asks of one.
//!
//! The rule: the lowest four bits of a [`Readiness`] go straight into the flags of a connection, the
//! highest three mean something for watched descriptors only. How mio tells is in `sys/os`.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// What a descriptor is ready for.
///
/// ```
/// use echoloop_core::Readiness;
///
/// let readiness = Readiness::READABLE.and(Readiness::WRITABLE, true);
/// assert!(readiness.is_readable() && !readiness.is_hang_up());
/// assert_eq!(readiness.to_string(), "readable, writable");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Readiness(pub(crate) u32);

impl Readiness {
    /// A read may find something.
    pub const READABLE: Self = Self(1);
    /// A write may be taken.
    pub const WRITABLE: Self = Self(1 << 1);
    /// The peer has finished sending; end of stream is to be read after the bytes before it.
    pub const READ_CLOSED: Self = Self(FINISHED | 1);
    /// The socket has failed or hung up; a read tells how.
    pub const ERROR: Self = Self(FAILED | Self::READ_CLOSED.0);
    /// There is something exceptional to read, such as urgent data of TCP (`POLLPRI` of poll(2)).
    pub const PRIORITY: Self = Self(1 << 31);

    /// The other end is gone (`POLLHUP`).
    pub(crate) const HANG_UP: Self = Self(1 << 30);
    /// The descriptor is not open, or not the one it was (`POLLNVAL`).
    pub(crate) const INVALID: Self = Self(1 << 29);
    /// An error is pending (`POLLERR`), and nothing else said.
    pub(crate) const FAILED: Self = Self(FAILED);
    /// The peer has finished (`POLLRDHUP`), and nothing else said.
    pub(crate) const FINISHED: Self = Self(FINISHED);

    /// This, and `other` where `also` holds.
    #[must_use]
    #[inline]
    pub fn and(self, other: Self, also: bool) -> Self {
        Self(if also { self.0 | other.0 } else { self.0 })
    }

    /// A read would find something, or end of stream, or an error: it would not block.
    #[must_use]
    pub fn is_readable(self) -> bool {
        self.has(Self::READABLE)
    }

    /// A write would be taken, or fail: it would not block.
    #[must_use]
    pub fn is_writable(self) -> bool {
        self.has(Self::WRITABLE)
    }

    /// There is something exceptional to read (`POLLPRI`).
    #[must_use]
    pub fn is_priority(self) -> bool {
        self.has(Self::PRIORITY)
    }

    /// An error is pending; for a pipe, the reading end is closed (`POLLERR`).
    #[must_use]
    pub fn is_error(self) -> bool {
        self.has(Self::FAILED)
    }

    /// The peer has finished sending (`POLLRDHUP`), or hung up.
    #[must_use]
    pub fn is_read_closed(self) -> bool {
        self.has(Self::FINISHED)
    }

    /// The other end is gone (`POLLHUP`). What it sent before may still be to be read.
    #[must_use]
    pub fn is_hang_up(self) -> bool {
        self.has(Self::HANG_UP)
    }

    /// The descriptor is not open, or its number names another one by now (`POLLNVAL`).
    #[must_use]
    pub fn is_invalid(self) -> bool {
        self.has(Self::INVALID)
    }

    /// There is nothing.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What is to be told to one who asked for `interest`. Errors and hang-ups are always told;
    /// with them neither a read nor a write would block, so they count as both, as in select(2):
    /// who looks for nothing but readable does not overlook the end.
    pub(crate) fn asked(self, interest: Interest) -> Self {
        let over = Self::FAILED.0 | Self::HANG_UP.0;
        let both = Self::READABLE.0 | Self::WRITABLE.0;
        let all = self
            .and(Self(both), self.0 & over != 0)
            .and(Self::FINISHED, self.is_hang_up());
        let mut asked = over | Self::INVALID.0;
        for (interest_in, bits) in [
            (Interest::READABLE, Self::READ_CLOSED),
            (Interest::WRITABLE, Self::WRITABLE),
            (Interest::PRIORITY, Self::PRIORITY),
        ] {
            if interest.contains(interest_in) {
                asked |= bits.0;
            }
        }
        Self(all.0 & asked)
    }

    pub(crate) fn has(self, bits: Self) -> bool {
        self.0 & bits.0 != 0
    }
}

const FINISHED: u32 = 1 << 2;
const FAILED: u32 = 1 << 3;

impl BitOrAssign for Readiness {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            (Self::READABLE, "readable"),
            (Self::WRITABLE, "writable"),
            (Self::PRIORITY, "priority"),
            (Self::FAILED, "error"),
            (Self::FINISHED, "read-closed"),
            (Self::HANG_UP, "hang-up"),
            (Self::INVALID, "invalid"),
        ];
        list(f, words.iter().filter(|(bit, _)| self.has(*bit)))
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Readiness({self})")
    }
}

/// What a program wants to be told about a descriptor: a set. Errors and hang-ups are always told.
///
/// ```
/// use echoloop_core::Interest;
///
/// let both = Interest::READABLE | Interest::WRITABLE;
/// assert!(both.contains(Interest::READABLE) && !both.contains(Interest::PRIORITY));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Interest(u8);

impl Interest {
    /// Errors and hang-ups alone.
    pub const NONE: Self = Self(0);
    /// A read would not block.
    pub const READABLE: Self = Self(1);
    /// A write would not block.
    pub const WRITABLE: Self = Self(1 << 1);
    /// There is something exceptional to read (`POLLPRI` of poll(2)). Linux only; elsewhere it is
    /// never told.
    pub const PRIORITY: Self = Self(1 << 2);

    /// All of `other` is in this.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Nothing is asked for but errors and hang-ups.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Interest {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Display for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            (Self::READABLE, "readable"),
            (Self::WRITABLE, "writable"),
            (Self::PRIORITY, "priority"),
        ];
        list(f, words.iter().filter(|(bit, _)| self.contains(*bit)))
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Interest({self})")
    }
}

/// When a watched descriptor that is ready is told.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum WatchMode {
    /// Every turn as long as it is ready, as poll(2) has it.
    #[default]
    Level,
    /// When it becomes ready, or something new comes, and after each change of the interest. It
    /// is up to the program to read or write until `EAGAIN`.
    Edge,
    /// Once, and then not again before the interest is set anew, to the same or another one.
    OneShot,
}

fn list<'a, T: 'a>(
    f: &mut fmt::Formatter<'_>,
    words: impl Iterator<Item = &'a (T, &'a str)>,
) -> fmt::Result {
    let mut separator = "";
    for (_, word) in words {
        f.write_str(separator)?;
        f.write_str(word)?;
        separator = ", ";
    }
    if separator.is_empty() {
        f.write_str("nothing")?;
    }
    Ok(())
}
