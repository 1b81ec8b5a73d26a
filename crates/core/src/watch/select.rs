//! One-shot `select`: waits once for descriptors in three lists.
//!
//! The rule: which descriptor is in which list of the answer is as select(2) has it, though it is
//! poll(2) that waits: so there is no limit of 1,024, and a dead descriptor is named.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::sys::{Interest, OneShot, Readiness};
use crate::{Error, ErrorKind};

/// What [`select`] found ready, each in the order in which it was given.
#[derive(Clone, Default, Debug)]
pub struct Selection<'fd> {
    /// From these a read would not block.
    pub readable: Vec<BorrowedFd<'fd>>,
    /// To these a write would not block.
    pub writable: Vec<BorrowedFd<'fd>>,
    /// These have something exceptional, such as urgent data of TCP.
    pub exceptional: Vec<BorrowedFd<'fd>>,
}

/// Waits until one of `readers` can be read, one of `writers` written, or one of `exceptional` has
/// something exceptional, at most for `timeout`; answers which.
///
/// `None` waits for as long as it takes, `Some(Duration::ZERO)` not at all. A signal ends it early
/// with nothing. A descriptor may be in several lists.
///
/// # Errors
///
/// [`ErrorKind::BadDescriptor`] with the number of the first that is not open, whatever else is
/// ready. [`ErrorKind::OutOfMemory`], `ENOMEM`, and `EINVAL` for more different descriptors than
/// `RLIMIT_NOFILE` allows to be open.
///
/// # Examples
///
/// ```
/// use std::os::fd::AsFd;
/// use std::time::Duration;
/// use echoloop_core::select;
///
/// let (reader, writer) = std::io::pipe().unwrap();
/// let found = select(&[reader.as_fd()], &[writer.as_fd()], &[], Some(Duration::from_secs(1)))?;
/// assert_eq!((found.readable.len(), found.writable.len()), (0, 1));
/// # Ok::<(), echoloop_core::Error>(())
/// ```
pub fn select<'fd>(
    readers: &[BorrowedFd<'fd>],
    writers: &[BorrowedFd<'fd>],
    exceptional: &[BorrowedFd<'fd>],
    timeout: Option<Duration>,
) -> Result<Selection<'fd>, Error> {
    let start = Instant::now();
    let no_memory = Error::new("select", ErrorKind::OutOfMemory);
    let lists = [
        (readers, Interest::READABLE),
        (writers, Interest::WRITABLE),
        (exceptional, Interest::PRIORITY),
    ];
    let all = lists.iter().map(|(fds, _)| fds.len()).sum();
    let mut once = OneShot::new(all).ok_or(no_memory)?;
    for (fds, interest) in lists {
        fds.iter().for_each(|fd| once.add(*fd, interest));
    }
    loop {
        let left = timeout.map(|t| t.saturating_sub(start.elapsed()));
        let any = once.wait(left).map_err(|e| Error::os("select", e))?;
        let mut all = lists.iter().flat_map(|(fds, _)| fds.iter());
        if let Some(dead) = all.find(|fd| once.found(**fd).is_invalid()) {
            let kind = ErrorKind::BadDescriptor(dead.as_raw_fd());
            return Err(Error::new("select", kind));
        }
        let found = pick(&once, lists.map(|(fds, _)| fds));
        let none = found.readable.is_empty() && found.writable.is_empty();
        if !any || !none || !found.exceptional.is_empty() {
            return Ok(found);
        }
        // poll(2) tells a hang-up also to those who wait for something else, again and again.
        once.drop_ready();
    }
}

/// By the bits that select(2) goes by.
fn pick<'fd>(once: &OneShot<'fd>, lists: [&[BorrowedFd<'fd>]; 3]) -> Selection<'fd> {
    let read = Readiness::READABLE
        .and(Readiness::HANG_UP, true)
        .and(Readiness::FAILED, true);
    let write = Readiness::WRITABLE.and(Readiness::FAILED, true);
    let [readable, writable, exceptional] = [
        (lists[0], read),
        (lists[1], write),
        (lists[2], Readiness::PRIORITY),
    ]
    .map(|(fds, bits)| {
        let is_ready = |fd: &BorrowedFd<'_>| once.found(*fd).has(bits);
        fds.iter().copied().filter(is_ready).collect()
    });
    Selection {
        readable,
        writable,
        exceptional,
    }
}
