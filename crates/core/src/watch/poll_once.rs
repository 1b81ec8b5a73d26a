//! One-shot `poll`: waits once for a few descriptors, without a selector.
//!
//! The rule: it is poll(2), with what is found told in the same words as by the loop. Nothing is
//! kept between calls; with many descriptors, or often, take a [`Selector`](crate::Selector).

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use crate::sys::{Interest, OneShot, Readiness};
use crate::{Error, ErrorKind};

/// A descriptor for [`poll`], what to wait for, and what it was found ready for.
#[derive(Clone, Debug)]
pub struct PollFd<'fd> {
    fd: BorrowedFd<'fd>,
    interest: Interest,
    readiness: Readiness,
}

impl<'fd> PollFd<'fd> {
    /// To wait until `fd` is ready for `interest`; errors and hang-ups are always told.
    #[must_use]
    pub fn new(fd: &'fd impl AsFd, interest: Interest) -> Self {
        Self::from_borrowed(fd.as_fd(), interest)
    }

    /// The same, of a descriptor that is borrowed already.
    #[must_use]
    pub fn from_borrowed(fd: BorrowedFd<'fd>, interest: Interest) -> Self {
        Self {
            fd,
            interest,
            readiness: Readiness::default(),
        }
    }

    /// The descriptor.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'fd> {
        self.fd
    }

    /// What the last [`poll`] found: nothing, if it was not ready.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.readiness
    }
}

/// Waits until one of `fds` is ready, at most for `timeout`; answers how many are.
///
/// `None` waits for as long as it takes, `Some(Duration::ZERO)` not at all. Times count in
/// nanoseconds as far as the system does. A signal ends it early with 0. A descriptor that is not
/// open is [`invalid`](Readiness::is_invalid), and counts as ready (poll(2), `POLLNVAL`). The same
/// descriptor may be there more than once.
///
/// # Errors
///
/// [`ErrorKind::OutOfMemory`], `ENOMEM`, and `EINVAL` for more different descriptors than
/// `RLIMIT_NOFILE` allows to be open.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use echoloop_core::{Interest, PollFd, poll};
///
/// let (reader, writer) = std::io::pipe().unwrap();
/// let mut fds = [
///     PollFd::new(&reader, Interest::READABLE),
///     PollFd::new(&writer, Interest::WRITABLE),
/// ];
/// assert_eq!(poll(&mut fds, Some(Duration::from_secs(1)))?, 1);
/// assert!(fds[0].readiness().is_empty() && fds[1].readiness().is_writable());
/// # Ok::<(), echoloop_core::Error>(())
/// ```
pub fn poll(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> Result<usize, Error> {
    let no_memory = Error::new("poll", ErrorKind::OutOfMemory);
    let mut once = OneShot::new(fds.len()).ok_or(no_memory)?;
    for entry in &*fds {
        once.add(entry.fd, entry.interest);
    }
    once.wait(timeout).map_err(|e| Error::os("poll", e))?;
    let mut ready = 0;
    for entry in fds {
        entry.readiness = once.found(entry.fd).asked(entry.interest);
        ready += usize::from(!entry.readiness.is_empty());
    }
    Ok(ready)
}
