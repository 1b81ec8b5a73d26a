//! One-shot waits: `poll` and `select`, without a selector.
//!
//! The rule: as poll(2) and select(2) have it, without a limit of 1,024 and with the dead descriptor
//! named. Nothing is kept between calls, and there is no handle: any thread may call, at any time.

use std::ffi::c_int;
use std::os::fd::{AsRawFd, BorrowedFd};

use echoloop_core::{PollFd, poll, select};

use crate::convert::readiness_bits;
use crate::detail::{Refused, returned};
use crate::options::timeout;
use crate::watch::{borrow, interest_of};
use crate::{ECHOLOOP_EINVAL, ECHOLOOP_ENOMEM, ECHOLOOP_ENULL, bug};

/// A descriptor for echoloop_poll().
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct echoloop_pollfd {
    /// The descriptor; negative: this entry is ignored.
    pub fd: c_int,
    /// What to wait for: ECHOLOOP_READABLE, ECHOLOOP_WRITABLE and ECHOLOOP_PRIORITY, or'ed. Errors and
    /// hang-ups are always told.
    pub interest: c_int,
    /// What it was found ready for; 0: nothing. ECHOLOOP_INVALID: it is not open.
    pub readiness: c_int,
    /// Not used; 0.
    pub reserved: c_int,
}

/// Waits once until one of n descriptors is ready, at most timeout_us (0: not at all, negative: for
/// ever), and sets the readiness of each. Returns how many are ready; 0 after the timeout, and early
/// when a signal came. A descriptor that is not open counts as ready, for ECHOLOOP_INVALID. The same
/// one may be there more than once. On any thread; for many descriptors, or often, an
/// echoloop_selector does better. Errors: ECHOLOOP_EINVAL, ECHOLOOP_ENOMEM, -ENOMEM, and -EINVAL for
/// more different descriptors than RLIMIT_NOFILE allows to be open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_poll(
    fds: *mut echoloop_pollfd,
    n: usize,
    timeout_us: i64,
) -> c_int {
    let operation = "poll";
    returned(caught(operation, || {
        check_array(operation, fds, n)?;
        let mut asked = with_room(operation, n)?;
        for place in 0..n {
            // SAFETY: header, "Pointers": fds is readable for n entries; it is not NULL.
            let entry = unsafe { fds.add(place).read_unaligned() };
            let interest = interest_of(operation, entry.interest)?;
            if entry.fd >= 0 {
                asked.push(PollFd::from_borrowed(
                    borrow(operation, entry.fd)?,
                    interest,
                ));
            }
        }
        let ready = poll(&mut asked, timeout(timeout_us))?;
        let mut answers = asked.iter();
        for place in 0..n {
            // SAFETY: header, "Pointers": fds is readable and writable for n entries.
            unsafe {
                let mut entry = fds.add(place).read_unaligned();
                let answer = (entry.fd >= 0).then(|| answers.next()).flatten();
                entry.readiness = answer.map_or(0, |fd| readiness_bits(fd.readiness()));
                fds.add(place).write_unaligned(entry);
            }
        }
        Ok(c_int::try_from(ready).unwrap_or(c_int::MAX))
    }))
}

/// Waits once until one of readers can be read, one of writers written, or one of exceptional has
/// something exceptional (urgent data of TCP), at most timeout_us (0: not at all, negative: for
/// ever). Then each array holds -1 in the place of each descriptor that is not ready for what its
/// array says, and those that are ready stay: fill the arrays anew before the next call. Returns how
/// many are ready, over all arrays; 0 after the timeout, and early when a signal came.
///
/// Negative entries are ignored, a descriptor may be in several arrays or more than once, and an
/// array of length 0 may be NULL. On any thread. Errors: -EBADF if one is not open, whatever else is
/// ready, and echoloop_last_error() says which; ECHOLOOP_ENOMEM, -ENOMEM, and -EINVAL for more different
/// descriptors than RLIMIT_NOFILE allows to be open. After an error the arrays are as they were.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echoloop_select(
    readers: *mut c_int,
    n_readers: usize,
    writers: *mut c_int,
    n_writers: usize,
    exceptional: *mut c_int,
    n_exceptional: usize,
    timeout_us: i64,
) -> c_int {
    returned(caught("select", || {
        // SAFETY: header, "Pointers": each is NULL, or readable and writable for its length.
        unsafe {
            let lists = [
                list(readers, n_readers)?,
                list(writers, n_writers)?,
                list(exceptional, n_exceptional)?,
            ];
            let [read, write, except] = &lists;
            let found = select(read, write, except, timeout(timeout_us))?;
            let ready = keep(readers, n_readers, &found.readable)
                + keep(writers, n_writers, &found.writable)
                + keep(exceptional, n_exceptional, &found.exceptional);
            Ok(c_int::try_from(ready).unwrap_or(c_int::MAX))
        }
    }))
}

/// The descriptors of an array, without the negative ones.
///
/// # Safety
///
/// `fds` is NULL or readable for `n` numbers.
unsafe fn list<'fd>(fds: *const c_int, n: usize) -> Result<Vec<BorrowedFd<'fd>>, Refused> {
    check_array("select", fds, n)?;
    let mut list = with_room("select", n)?;
    for place in 0..n {
        // SAFETY: the caller's.
        let fd = unsafe { fds.add(place).read_unaligned() };
        if fd >= 0 {
            list.push(borrow("select", fd)?);
        }
    }
    Ok(list)
}

/// Writes -1 in the place of each that is not among those `found`, which are in the same order.
///
/// # Safety
///
/// `fds` is readable and writable for `n` numbers.
unsafe fn keep(fds: *mut c_int, n: usize, found: &[BorrowedFd<'_>]) -> usize {
    let mut left = found.iter().map(AsRawFd::as_raw_fd).peekable();
    for place in 0..n {
        // SAFETY: the caller's.
        unsafe {
            let entry = fds.add(place);
            let fd = entry.read_unaligned();
            if left.next_if_eq(&fd).is_none() {
                entry.write_unaligned(-1);
            }
        }
    }
    found.len()
}

/// NULL is good for no entries.
fn check_array<T>(operation: &'static str, array: *const T, n: usize) -> Result<(), Refused> {
    if n == 0 {
        return Ok(());
    }
    if array.is_null() {
        return Err(Refused::new(operation, ECHOLOOP_ENULL));
    }
    if n > isize::MAX as usize / size_of::<T>() {
        let why = format_args!("the length is beyond all memory");
        return Err(Refused::because(operation, ECHOLOOP_EINVAL, why));
    }
    Ok(())
}

fn with_room<T>(operation: &'static str, n: usize) -> Result<Vec<T>, Refused> {
    let mut list = Vec::new();
    match list.try_reserve_exact(n) {
        Ok(()) => Ok(list),
        Err(_) => Err(Refused::new(operation, ECHOLOOP_ENOMEM)),
    }
}

/// A panic has no loop to poison here.
fn caught(
    operation: &'static str,
    act: impl FnOnce() -> Result<c_int, Refused>,
) -> Result<c_int, Refused> {
    bug::watch();
    bug::caught(act).unwrap_or_else(|| Err(bug::refused(operation)))
}
