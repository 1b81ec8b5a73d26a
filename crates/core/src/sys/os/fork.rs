//! The real system after a fork: what is shared with the parent, and what is made anew.
//!
//! The rule: in the child the selector is the parent's, one object for both. So until `after_fork`
//! nothing is taken out of it, nothing is shut down and nothing is reset there; closing a number
//! closes the child's copy alone. `after_fork` makes a selector, a waker and an alarm of the child's
//! own. Whether this is the child costs one load: a handler of pthread_atfork(3) counts forks.

use std::io::ErrorKind;
use std::sync::{Arc, OnceLock};

use forkguard::Guard;
use mio::Token;
use rustix::io::Errno;

use super::{Alarm, Os, Watching, errno};
use crate::sys::WAKER;

/// The waker of a process, and that of its child: who has the first reaches the last.
pub(super) struct Waking {
    waker: mio::Waker,
    child: OnceLock<Arc<Waking>>,
}

impl Waking {
    pub(super) fn new(waker: mio::Waker) -> Arc<Self> {
        Arc::new(Self {
            waker,
            child: OnceLock::new(),
        })
    }

    pub(super) fn wake(&self) {
        let mut last = self;
        while let Some(child) = last.child.get() {
            last = child;
        }
        // The only other failure is a full eventfd counter, and then the loop is awake anyway.
        while matches!(last.waker.wake(), Err(e) if e.kind() == ErrorKind::Interrupted) {}
    }
}

/// Knows whether this process is a fork of the one that made it.
pub(super) struct Process {
    guard: Guard,
    forked: bool,
}

impl Process {
    pub(super) fn new() -> Result<Self, Errno> {
        let guard = Guard::try_new().map_err(|_| Errno::NOMEM)?;
        let forked = false;
        Ok(Self { guard, forked })
    }

    #[inline]
    pub(super) fn forked(&mut self) -> bool {
        self.forked |= self.guard.detected_fork();
        self.forked
    }
}

impl Os {
    pub(super) fn start_anew(&mut self) -> Result<(), Errno> {
        let poll = mio::Poll::new().map_err(errno)?;
        let registry = poll.registry().try_clone().map_err(errno)?;
        let waker = mio::Waker::new(&registry, Token(WAKER as usize)).map_err(errno)?;
        let alarm = Alarm::new(&registry).map_err(errno)?;
        let waker = Waking::new(waker);
        let _ = self.waker.child.set(Arc::clone(&waker)); // Nobody has: it is this process's own.
        self.waker = waker;
        (self.poll, self.registry, self.alarm) = (poll, registry, alarm);
        self.signals = None;
        self.watching = Watching::default();
        // Its threads are the parent's, and may have held its lock in the moment of the fork.
        std::mem::forget(self.threads.take());
        self.process.forked = false;
        Ok(())
    }
}
