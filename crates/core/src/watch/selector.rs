//! A selector by itself, for programs with a loop of their own.
//!
//! The rule: it is the table of watches over the operating system, the same that `EventLoop` has,
//! so what holds there holds here: level-triggered, files always ready, dead descriptors named. It
//! has no sockets, buffers or timers.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use rustix::io::Errno;

use crate::conn::{NEVER, after};
use crate::handle::LoopId;
use crate::sys::{Interest, Os, Readiness, Ready, System, WAKER, WatchMode};
use crate::watch::watches::{Told, Watches};
use crate::{Error, ErrorKind};

/// Reports taken from the system with one call; a wait takes as many calls as it needs.
const AT_ONCE: usize = 1024;

/// Waits for many descriptors at once: what `select`, `poll` and `epoll` do, without their traps.
///
/// # Promises
///
/// - Level-triggered: what is still ready is told again by the next [`wait`](Self::wait), unless
///   another [`WatchMode`] was asked for.
/// - Any descriptor that poll(2) takes is taken. What is always ready to it, such as a file or
///   `/dev/null`, is so here. There is no limit of 1,024.
/// - A descriptor that was closed without [`unregister`](Self::unregister) is told once, by its
///   number and as [`invalid`](Readiness::is_invalid), and is gone then. The others go on. It is
///   noticed before a long wait, or by and by while there are many to look after.
/// - In the child of a fork(2) it answers [`ErrorKind::Forked`] and does not disturb the parent: a
///   child that wants one makes its own.
///
/// # Examples
///
/// ```
/// use std::io::Write;
/// use std::os::fd::AsRawFd;
/// use echoloop_core::{Interest, Selector};
///
/// let (reader, mut writer) = std::io::pipe().unwrap();
/// let mut selector = Selector::new()?;
/// selector.register(&reader, Interest::READABLE, 7)?;
/// writer.write_all(b"x").unwrap();
/// let mut selected = Vec::new();
/// selector.wait(None, &mut selected)?;
/// assert_eq!((selected[0].key, selected[0].fd), (7, reader.as_raw_fd()));
/// assert!(selected[0].readiness.is_readable());
/// # Ok::<(), echoloop_core::Error>(())
/// ```
pub struct Selector {
    sys: Os,
    watches: Watches,
    /// The slots of those told by the last wait.
    told: Vec<u32>,
    ready: Vec<Ready>,
}

/// A descriptor that is ready, to [`Selector::wait`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Selected {
    /// The key it was registered with.
    pub key: u64,
    /// Its number.
    pub fd: RawFd,
    /// What it is ready for.
    pub readiness: Readiness,
}

impl Selector {
    /// Opens a selector.
    ///
    /// # Errors
    ///
    /// The system's: `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new() -> Result<Self, Error> {
        // Its handles are never handed out, so it needs no number of its own among the loops.
        let id = LoopId {
            index: 0,
            first_generation: 1,
        };
        Ok(Self {
            sys: Os::new(AT_ONCE).map_err(|e| Error::os("create selector", e))?,
            watches: Watches::new(id),
            told: Vec::new(),
            ready: Vec::new(),
        })
    }

    /// Registers a descriptor, level-triggered, with a key of the program's choice that comes back
    /// with each report. Only the number is kept: unregister it before it is closed.
    ///
    /// # Errors
    ///
    /// `EEXIST` when it is registered already, [`ErrorKind::BadDescriptor`] when it is not open;
    /// `ENOMEM`, `ENOSPC` (epoll(7), `max_user_watches`), `ELOOP` (epoll_ctl(2)).
    pub fn register(&mut self, fd: &impl AsFd, interest: Interest, key: u64) -> Result<(), Error> {
        self.register_as(fd, interest, WatchMode::Level, key)
    }

    /// Like [`register`](Self::register), in a mode of the program's choice.
    ///
    /// # Errors
    ///
    /// Those of [`register`](Self::register).
    pub fn register_as(
        &mut self,
        fd: &impl AsFd,
        interest: Interest,
        mode: WatchMode,
        key: u64,
    ) -> Result<(), Error> {
        self.check_process("watch")?;
        let fd = fd.as_fd().as_raw_fd();
        self.watches.add(&mut self.sys, fd, interest, mode, key)?;
        Ok(())
    }

    /// Sets what a registered descriptor is waited for, and arms a one-shot one again.
    ///
    /// With [`Interest::NONE`] an error or a hang-up is told still, once.
    ///
    /// # Errors
    ///
    /// `ENOENT` when this number is not registered; [`ErrorKind::BadDescriptor`] when it was
    /// closed since, which the next wait tells too.
    pub fn modify(&mut self, fd: RawFd, interest: Interest) -> Result<(), Error> {
        self.check_process("modify")?;
        let slot = self.find(fd, "modify")?;
        if self.watches.modify(&mut self.sys, slot, interest) {
            return Ok(());
        }
        Err(Error::new("modify", ErrorKind::BadDescriptor(fd)))
    }

    /// Ends a registration. The descriptor may have been closed before.
    ///
    /// # Errors
    ///
    /// `ENOENT` when this number is not registered.
    pub fn unregister(&mut self, fd: RawFd) -> Result<(), Error> {
        let slot = self.find(fd, "unregister")?;
        self.watches.remove(&mut self.sys, slot);
        Ok(())
    }

    /// Waits until a descriptor is ready, at most for `timeout`, and puts all that are into
    /// `selected`, each once, in the place of what was there.
    ///
    /// `None` waits for as long as it takes, `Some(Duration::ZERO)` not at all; other times are
    /// rounded up to a millisecond. A signal or the [`waker`](Self::waker) ends the wait early,
    /// mostly with nothing.
    ///
    /// # Errors
    ///
    /// The system's, when the selector fails; with a selector of our own it does not.
    pub fn wait(
        &mut self,
        timeout: Option<Duration>,
        selected: &mut Vec<Selected>,
    ) -> Result<(), Error> {
        selected.clear();
        self.check_process("wait")?;
        for slot in self.told.drain(..) {
            self.watches.handled(&mut self.sys, slot);
        }
        self.watches.begin_turn();
        self.watches.program_runs();
        let mut now = self.sys.now();
        let ends_at = timeout.map_or(NEVER, |t| after(now, t));
        loop {
            let left = Duration::from_nanos(ends_at.saturating_sub(now));
            let left = (ends_at != NEVER).then_some(left);
            let left = self.watches.sweep(&mut self.sys, now, left);
            let disturbed = self.take_reports(left)?;
            while let Some((slot, told)) = self.watches.next() {
                selected.extend(self.selected(slot, told));
                match told {
                    Told::Ready(_) => self.told.push(slot),
                    Told::Dead => drop(self.watches.remove(&mut self.sys, slot)),
                }
            }
            now = self.sys.now();
            if disturbed || !selected.is_empty() || now >= ends_at {
                return Ok(());
            }
        }
    }

    /// What ends the current or the next [`wait`](Self::wait) early, from any thread.
    pub fn waker(&self) -> impl Fn() + Clone + Send + Sync + 'static {
        let waker = self.sys.waker();
        move || waker()
    }

    /// How many descriptors are registered, those included whose end is not told yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.watches.slots.len()
    }

    /// No descriptor is registered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What a registered descriptor is waited for, and its key.
    #[must_use]
    pub fn registered(&self, fd: RawFd) -> Option<(Interest, u64)> {
        let slot = self.watches.find_number(fd)?;
        let watch = self.watches.slots.get(slot)?;
        Some((watch.interest, watch.user_data))
    }

    /// Waits and notes all that is reported. True: a signal or the waker ended it.
    fn take_reports(&mut self, timeout: Option<Duration>) -> Result<bool, Error> {
        let timeout = if self.watches.has_work() {
            Some(Duration::ZERO)
        } else {
            timeout
        };
        let mut waited = self.sys.wait(timeout, &mut self.ready);
        while waited.is_ok() && self.ready.len().is_multiple_of(AT_ONCE) && !self.ready.is_empty() {
            let before = self.ready.len();
            waited = self.sys.wait(Some(Duration::ZERO), &mut self.ready);
            if self.ready.len() == before {
                break;
            }
        }
        let mut disturbed = match waited {
            Ok(()) => false,
            Err(Errno::INTR) => true,
            Err(e) => return Err(Error::os("wait", e)),
        };
        for report in self.ready.drain(..) {
            disturbed |= report.token == WAKER;
            self.watches
                .report(&mut self.sys, report.token, report.readiness);
        }
        Ok(disturbed)
    }

    fn selected(&self, slot: u32, told: Told) -> Option<Selected> {
        let watch = self.watches.slots.get(slot)?;
        Some(Selected {
            key: watch.user_data,
            fd: watch.fd,
            readiness: match told {
                Told::Ready(readiness) => readiness,
                Told::Dead => Readiness::INVALID,
            },
        })
    }

    /// The kernel has one selector for a process and its forks.
    fn check_process(&mut self, operation: &'static str) -> Result<(), Error> {
        if self.sys.forked() {
            return Err(Error::new(operation, ErrorKind::Forked));
        }
        Ok(())
    }

    fn find(&self, fd: RawFd, operation: &'static str) -> Result<u32, Error> {
        let found = self.watches.find_number(fd);
        found.ok_or(Error::os(operation, Errno::NOENT))
    }
}
