//! What can go wrong: with the bytes, with one connection, with the plan or the machine.
//!
//! The rule: a wrong byte always ends the run; what befalls one connection is a [`Cause`], which is
//! counted, and ends the run unless the plan says to keep going.

use std::fmt;
use std::io;

use nix::errno::Errno as Named;
use rustix::io::Errno;

use crate::Report;

/// Why a load failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A byte came back that was not the one sent.
    #[error(
        "connection {connection}: byte {offset} came back as {found:#04x}, sent was {sent:#04x}"
    )]
    WrongByte {
        /// Which connection, counted from 0.
        connection: usize,
        /// Which byte of all that this connection has sent, counted from 0.
        offset: u64,
        /// What was sent.
        sent: u8,
        /// What came back.
        found: u8,
    },
    /// More came back than was sent.
    #[error("connection {connection}: more bytes came back than were sent")]
    TooMany {
        /// Which connection, counted from 0.
        connection: usize,
    },
    /// A datagram came back longer or shorter than it was sent.
    #[error("connection {connection}: a datagram of {sent} bytes came back with {found}")]
    WrongLength {
        /// Which connection, counted from 0.
        connection: usize,
        /// Its bytes when it was sent.
        sent: usize,
        /// Its bytes when it came back.
        found: usize,
    },
    /// A connection ended before its messages were back.
    #[error("connection {connection}: {cause}")]
    Connection {
        /// Which connection, counted from 0.
        connection: usize,
        /// What befell it.
        cause: Cause,
    },
    /// The plan asks for what can't be.
    #[error("{0}")]
    Plan(&'static str),
    /// The operating system refused what the load itself needs.
    #[error("{doing}: {source}")]
    System {
        /// The operation that failed.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// Whether the bytes themselves were wrong, and not just too few.
    #[must_use]
    pub fn is_wrong_bytes(&self) -> bool {
        matches!(
            self,
            Error::WrongByte { .. } | Error::TooMany { .. } | Error::WrongLength { .. }
        )
    }

    pub(crate) fn system(doing: &'static str) -> impl Fn(Errno) -> Error {
        move |errno| Error::System {
            doing,
            source: errno.into(),
        }
    }
}

/// What befell a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The server ended it.
    Closed,
    /// Nothing came back for as long as [`Plan::patience`](crate::Plan::patience).
    Silent,
    /// The system refused.
    System {
        /// The operation that failed: `connect`, `send`, `recv` or `bind`.
        doing: &'static str,
        /// The number of the error, errno(3).
        errno: i32,
    },
}

impl Cause {
    pub(crate) fn system(doing: &'static str, errno: Errno) -> Cause {
        Cause::System {
            doing,
            errno: errno.raw_os_error(),
        }
    }

    /// `ECONNREFUSED` and the like; `CLOSED` and `SILENT` where the system has no part in it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Cause::Closed => "CLOSED".into(),
            Cause::Silent => "SILENT".into(),
            Cause::System { errno, .. } => format!("{:?}", Named::from_raw(*errno)),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Closed => f.write_str("closed by the server"),
            Cause::Silent => f.write_str("no answer"),
            Cause::System { doing, errno } => {
                let named = Named::from_raw(*errno);
                write!(f, "{doing}: {named:?} ({})", named.desc())
            }
        }
    }
}

/// A run that failed, and what it had done until then.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Failed {
    /// The first thing that went wrong.
    pub error: Error,
    /// What was measured before, and all connections that failed.
    pub report: Box<Report>,
}
