//! Sockets that a service manager opened for this process (sd_listen_fds(3), systemd.socket(5)).
//!
//! The rule: they are taken once, by the process that LISTEN_PID names, and nothing is touched
//! unless all is as it was said. The variables stay in the environment, since no program can change
//! it safely while it has threads; a child reads another process's number in them and takes nothing.

use std::num::ParseIntError;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd};

use crate::{Error, ErrorKind};

/// More than any process is given, so that a wrong LISTEN_FDS does not ask for all memory.
const MOST: u32 = 1 << 16;
const OPERATION: &str = "inherit listeners";

/// A descriptor that was there when the process started.
#[derive(Debug)]
pub struct Inherited {
    /// Its name, FileDescriptorName= in systemd.socket(5); `"unknown"` if it has none.
    pub name: String,
    /// The descriptor, close-on-exec and non-blocking.
    pub fd: OwnedFd,
}

/// The descriptors that a service manager passed to this process, with their names: 3 and those
/// after it, as LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES say (sd_listen_fds(3)).
///
/// Empty when nothing was passed, when it was for another process, and when it was taken before.
/// Call it first thing: a descriptor that the program opened itself would be taken for inherited
/// where the variables lie. They may be other things than listeners, as the service's units say.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] for variables that are no numbers, [`ErrorKind::BadDescriptor`] for
/// a descriptor that is not open. Then none is taken, changed or closed, and the next call answers
/// the same.
///
/// # Examples
///
/// ```
/// use echoloop_core::{EventLoop, ListenOptions, LoopOptions, inherited_listeners};
///
/// let mut el = EventLoop::new(LoopOptions::default())?;
/// for inherited in inherited_listeners()? {
///     let listener = el.adopt_listener(inherited.fd, &ListenOptions::default())?;
///     println!("{} is {}", inherited.name, el.listener_addr(listener)?);
/// }
/// # Ok::<(), echoloop_core::Error>(())
/// ```
pub fn inherited_listeners() -> Result<Vec<Inherited>, Error> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if !are_for_us()? || TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let taken = take();
    TAKEN.store(taken.is_ok(), Ordering::Relaxed);
    taken
}

/// Whether the variables pass descriptors to this process.
fn are_for_us() -> Result<bool, Error> {
    // Whose they are comes first: what is said to another is no matter.
    match variable("LISTEN_PID") {
        None => return Ok(false),
        Some(Ok(pid)) if pid != std::process::id() => return Ok(false),
        Some(Ok(_)) => {}
        Some(Err(_)) => return Err(wrong()),
    }
    match variable("LISTEN_FDS") {
        None => Ok(false),
        Some(Ok(..=MOST)) => Ok(true),
        Some(_) => Err(wrong()),
    }
}

fn take() -> Result<Vec<Inherited>, Error> {
    let passed = sd_listen_fds::get().map_err(|_| wrong())?;
    let passed: Vec<Inherited> = passed
        .into_iter()
        .map(|(name, fd)| Inherited {
            name: name.unwrap_or_else(|| "unknown".to_owned()),
            fd: fd.into_std(),
        })
        .collect();
    let failed = [is_open, prepare].iter().find_map(|step| {
        let mut fds = passed.iter().map(|inherited| &inherited.fd);
        fds.find_map(|fd| Some((fd.as_raw_fd(), step(fd).err()?)))
    });
    let Some((fd, errno)) = failed else {
        return Ok(passed);
    };
    for inherited in passed {
        let _ = inherited.fd.into_raw_fd(); // Not open, or not known to be ours: hands off.
    }
    Err(match errno {
        Errno::BADF => Error::new(OPERATION, ErrorKind::BadDescriptor(fd)),
        e => Error::os(OPERATION, e),
    })
}

fn variable(name: &str) -> Option<Result<u32, ParseIntError>> {
    Some(std::env::var(name).ok()?.parse())
}

fn wrong() -> Error {
    let why = "LISTEN_PID or LISTEN_FDS is no number, or too large";
    Error::new(OPERATION, ErrorKind::InvalidInput(why))
}

fn is_open(fd: &OwnedFd) -> Result<(), Errno> {
    fcntl_getfd(fd).map(drop)
}

fn prepare(fd: &OwnedFd) -> Result<(), Errno> {
    fcntl_setfd(fd, FdFlags::CLOEXEC)?;
    fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)
}
