//! One error type: the operation, the address it was about, and what went wrong (promise 16).
//!
//! The rule: a program decides by [`Error::kind`] or [`Error::errno`], never by the text. Errors are
//! plain data, made without an allocation save for the address. What befalls a connection later is
//! not an `Error` but the reason of its [`Closed`](crate::Event::Closed) event.

use std::fmt;

use rustix::io::Errno;

use crate::{ResolveError, Target};

/// What went wrong with one call, on which address.
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    operation: &'static str,
    kind: ErrorKind,
    target: Option<Box<Target>>,
}

/// The kinds of [`Error`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The handle is stale, of another kind, of another loop, zero or made up.
    #[error("not a living handle of this kind in this loop")]
    BadHandle,
    /// There is no room, and nothing was queued. Of a connection more than the hard cap waits to be
    /// sent: send again after [`Drained`](crate::Event::Drained). Of a UDP socket the queue is full:
    /// again after [`UdpDrained`](crate::Event::UdpDrained). Of a [`Remote`](crate::Remote) the
    /// mailbox is full: again when its loop has taken a turn.
    #[error("queue is full, nothing was queued; try again after the drained event")]
    QueueFull,
    /// The connection takes no more sends: `close`, `abort` or `shutdown_write` was called, or it
    /// is dead and its [`Closed`](crate::Event::Closed) event is on the way.
    #[error("connection takes no more sends")]
    Closing,
    /// The loop behind a [`Remote`](crate::Remote) is gone.
    #[error("loop is gone")]
    Closed,
    /// All handles of this kind are taken.
    #[error("too many objects of this kind")]
    TooMany,
    /// Memory could not be had, for bytes or a handle; nothing was done.
    #[error("out of memory, nothing was done")]
    OutOfMemory,
    /// An argument makes no sense; the text says which.
    #[error("{0}")]
    InvalidInput(&'static str),
    /// A name could not be resolved; the `EAI_` code, its name and a text say why.
    #[error(transparent)]
    Resolve(ResolveError),
    /// A descriptor is not open.
    #[error("descriptor {0} is not open (EBADF)")]
    BadDescriptor(i32),
    /// The loop was made before a fork and this is the child.
    /// [`after_fork`](crate::EventLoop::after_fork) makes it usable here. A
    /// [`Selector`](crate::Selector) has no such call: make another.
    #[error("made in the parent of this process; call after_fork first, or make another")]
    Forked,
    /// The operating system said no, with this error number.
    #[error("{} ({})", errno_text(*.0), errno_name(*.0))]
    Os(i32),
}

impl Error {
    /// An error of `operation`. The layers above the core make theirs this way too.
    #[must_use]
    pub const fn new(operation: &'static str, kind: ErrorKind) -> Self {
        Self {
            operation,
            kind,
            target: None,
        }
    }

    pub(crate) fn os(operation: &'static str, errno: Errno) -> Self {
        Self::new(operation, ErrorKind::Os(errno.raw_os_error()))
    }

    /// The same error, about this address or name.
    #[must_use]
    pub fn at(mut self, target: impl Into<Target>) -> Self {
        self.target = Some(Box::new(target.into()));
        self
    }

    /// What was asked for, in a word or two: `"listen"`, `"send"`.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The address or name the operation was about, where there was one.
    #[must_use]
    pub fn target(&self) -> Option<&Target> {
        self.target.as_deref()
    }

    /// The number of an operating system error (errno(3)).
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self.kind {
            ErrorKind::Os(errno) => Some(errno),
            ErrorKind::BadDescriptor(_) => Some(Errno::BADF.raw_os_error()),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Some(addr) => write!(f, "{} {addr}: {}", self.operation, self.kind),
            None => write!(f, "{}: {}", self.operation, self.kind),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({self})")
    }
}

impl std::error::Error for Error {}

/// The symbolic name of an error number, `"ECONNREFUSED"`; `"UNKNOWN"` for one the system lacks.
#[must_use]
pub fn errno_name(errno: i32) -> String {
    match nix::errno::Errno::from_raw(errno) {
        nix::errno::Errno::UnknownErrno => "UNKNOWN".to_owned(),
        known => format!("{known:?}"),
    }
}

/// The text of an error number, `"Connection refused"`.
#[must_use]
pub fn errno_text(errno: i32) -> &'static str {
    nix::errno::Errno::from_raw(errno).desc()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_carry_operation_address_name_number_and_text() {
        let e = Error::os("listen", Errno::ADDRINUSE)
            .at(std::net::SocketAddr::from(([127, 0, 0, 1], 80)));
        assert_eq!(e.errno(), Some(Errno::ADDRINUSE.raw_os_error()));
        assert_eq!(
            e.to_string(),
            "listen 127.0.0.1:80: Address already in use (EADDRINUSE)"
        );
    }
}
