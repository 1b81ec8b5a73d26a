//! What the mailbox of a loop holds: words, and connections that another loop hands over.
//!
//! The rule: a letter owns all that it brings, so one that nobody takes any more, because its loop
//! has ended, closes the socket when it is dropped.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::conn::Flags;
use crate::conn::buffer::Buffer;
use crate::conn::rate::Bucket;
use crate::{Addr, ConnOptions};

/// One thing left in a mailbox, in the order in which they came.
pub(crate) enum Letter {
    Word(u64),
    Handed(Box<Handed>),
}

/// A connection on its way between two loops.
pub(crate) struct Handed {
    pub(crate) socket: OwnedFd,
    pub(crate) peer: Addr,
    pub(crate) options: Arc<ConnOptions>,
    /// How long it has been open, in nanoseconds; no clock of one loop is another's.
    pub(crate) age: u64,
    /// That of its receive rate.
    pub(crate) bucket: Option<Bucket>,
    /// Nothing was received yet that is to come in time.
    pub(crate) awaits_first: bool,
    pub(crate) unread: Buffer,
    pub(crate) queue: Buffer,
    /// How far it has finished sending.
    pub(crate) finishing: Flags,
    pub(crate) user_data: u64,
}
