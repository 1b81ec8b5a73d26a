//! Watching descriptors by number, over mio.
//!
//! The rule: a number alone proves nothing, since the program may have closed it and the system
//! given it to another. So the kernel is asked (`epoll_ctl` answers ENOENT and EEXIST by the open
//! file, not by the number), and a number that a socket of the loop's own has got since is never
//! touched on behalf of the old watch. mio tells urgent data as readable too, and hides a hang-up
//! behind an error: where that matters, a second selector with nothing else in it is asked.

use std::os::fd::RawFd;
use std::time::Duration;

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest as MioInterest, Poll, Registry, Token};
use rustix::io::Errno;

use super::errno;
use crate::sys::{Interest, Readiness};

/// The numbers that are watched, and the second selector.
#[derive(Default)]
pub(super) struct Watching {
    /// One bit for each number that is registered for a watch, or may be still.
    numbers: Vec<u64>,
    second: Option<(Poll, Events)>,
}

impl Watching {
    pub(super) fn watch(
        &mut self,
        registry: &Registry,
        fd: RawFd,
        token: u64,
        interest: Interest,
    ) -> Result<(), Errno> {
        let words = (place(fd).0 + 1).saturating_sub(self.numbers.len());
        self.numbers.try_reserve(words).map_err(|_| Errno::NOMEM)?;
        registry
            .register(
                &mut SourceFd(&fd),
                Token(token as usize),
                mio_interest(interest),
            )
            .map_err(errno)?;
        self.set(fd);
        Ok(())
    }

    pub(super) fn rewatch(
        &self,
        registry: &Registry,
        fd: RawFd,
        token: u64,
        interest: Interest,
    ) -> Result<(), Errno> {
        if !self.has(fd) {
            return Err(Errno::NOENT);
        }
        registry
            .reregister(
                &mut SourceFd(&fd),
                Token(token as usize),
                mio_interest(interest),
            )
            .map_err(errno)
    }

    pub(super) fn unwatch(&mut self, registry: &Registry, fd: RawFd) {
        // What could not be undone is kept in mind: it is ours to take over should it come back.
        if self.has(fd) && registry.deregister(&mut SourceFd(&fd)).is_ok() {
            self.taken(fd);
        }
    }

    pub(super) fn probe(&self, registry: &Registry, fd: RawFd) -> Result<(), Errno> {
        let added = registry.register(&mut SourceFd(&fd), Token(0), mio_interest(Interest::NONE));
        match added.map_err(errno) {
            Err(Errno::EXIST) if self.has(fd) => Ok(()),
            Err(Errno::EXIST) => Err(Errno::NOENT),
            Err(e) => Err(e),
            // kqueue knows no EEXIST, and forgets a descriptor when it is closed.
            Ok(()) if cfg!(not(any(target_os = "linux", target_os = "android"))) => Ok(()),
            Ok(()) => {
                let _ = registry.deregister(&mut SourceFd(&fd));
                Err(Errno::NOENT)
            }
        }
    }

    pub(super) fn look_again(&mut self, fd: RawFd) -> Option<Readiness> {
        let (poll, events) = match &mut self.second {
            Some(second) => second,
            none => none.insert((Poll::new().ok()?, Events::with_capacity(1))),
        };
        let source = &mut SourceFd(&fd);
        poll.registry()
            .register(source, Token(0), MioInterest::READABLE)
            .ok()?;
        let waited = poll.poll(events, Some(Duration::ZERO));
        let _ = poll.registry().deregister(source);
        waited.ok()?;
        Some(
            events
                .iter()
                .next()
                .map_or(Readiness::default(), exact_readiness),
        )
    }

    /// A socket of the loop's own has this number now: if it was watched, the watch is dead.
    #[inline]
    pub(super) fn taken(&mut self, fd: RawFd) -> bool {
        let (word, bit) = place(fd);
        match self.numbers.get_mut(word) {
            Some(bits) if *bits & bit != 0 => {
                *bits &= !bit;
                true
            }
            _ => false,
        }
    }

    fn set(&mut self, fd: RawFd) {
        let (word, bit) = place(fd);
        if word >= self.numbers.len() {
            self.numbers.resize(word + 1, 0);
        }
        self.numbers[word] |= bit;
    }

    fn has(&self, fd: RawFd) -> bool {
        let (word, bit) = place(fd);
        self.numbers.get(word).is_some_and(|bits| bits & bit != 0)
    }
}

/// What mio says of a watched descriptor, bit by bit.
pub(super) fn exact_readiness(event: &Event) -> Readiness {
    let hung_up = event.is_read_closed() && event.is_write_closed();
    Readiness::default()
        .and(Readiness::READABLE, event.is_readable())
        .and(Readiness::WRITABLE, event.is_writable())
        .and(Readiness::PRIORITY, event.is_priority())
        .and(Readiness::FAILED, event.is_error())
        .and(Readiness::FINISHED, event.is_read_closed())
        .and(Readiness::HANG_UP, hung_up)
}

/// Nothing at all can't be registered: urgent data is the rarest, and `Readiness::asked` hides it.
fn mio_interest(interest: Interest) -> MioInterest {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const LEAST: MioInterest = MioInterest::PRIORITY;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const LEAST: MioInterest = MioInterest::READABLE;
    let wanted = [
        (Interest::READABLE, MioInterest::READABLE),
        (Interest::WRITABLE, MioInterest::WRITABLE),
        (Interest::PRIORITY, LEAST),
    ];
    wanted
        .into_iter()
        .filter(|(of, _)| interest.contains(*of))
        .map(|(_, mio)| mio)
        .reduce(|a, b| a | b)
        .unwrap_or(LEAST)
}

fn place(fd: RawFd) -> (usize, u64) {
    // No descriptor is negative: the kernel refused it before.
    (fd as usize / 64, 1 << (fd as usize % 64))
}
