//! Waiting once, by poll(2).
//!
//! The rule: each descriptor is one entry, however often it is asked about, since the system takes
//! no more entries than descriptors may be open. Answers are those of poll(2), bit by bit.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::sys::{Interest, Readiness};

pub(crate) struct OneShot<'fd> {
    fds: Vec<BorrowedFd<'fd>>,
    wanted: Vec<PollFlags>,
    found: Vec<Readiness>,
    places: HashMap<RawFd, usize>,
}

impl<'fd> OneShot<'fd> {
    /// `None` when there is no memory for `n` descriptors.
    pub(crate) fn new(n: usize) -> Option<Self> {
        let mut new = Self {
            fds: Vec::new(),
            wanted: Vec::new(),
            found: Vec::new(),
            places: HashMap::new(),
        };
        new.fds.try_reserve_exact(n).ok()?;
        new.wanted.try_reserve_exact(n).ok()?;
        new.found.try_reserve_exact(n).ok()?;
        new.places.try_reserve(n).ok()?;
        Some(new)
    }

    pub(crate) fn add(&mut self, fd: BorrowedFd<'fd>, interest: Interest) {
        let next = self.fds.len();
        let place = *self.places.entry(fd.as_raw_fd()).or_insert(next);
        if place == next {
            self.fds.push(fd);
            self.wanted.push(PollFlags::empty());
            self.found.push(Readiness::default());
        }
        self.wanted[place] |= flags(interest);
    }

    /// Waits until one is ready; answers whether one is. A signal ends it early with none.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> Result<bool, Errno> {
        // More seconds than the system can count are for ever.
        let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
        let mut entries = Vec::new();
        entries
            .try_reserve_exact(self.fds.len())
            .map_err(|_| Errno::NOMEM)?;
        let both = self.fds.iter().zip(&self.wanted);
        entries.extend(both.map(|(fd, wanted)| PollFd::from_borrowed_fd(*fd, *wanted)));
        match rustix::event::poll(&mut entries, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => entries.iter_mut().for_each(PollFd::clear_revents),
            Err(e) => return Err(e),
        }
        for (found, entry) in self.found.iter_mut().zip(&entries) {
            *found = readiness(entry.revents());
        }
        Ok(self.found.iter().any(|found| !found.is_empty()))
    }

    /// What the last wait found.
    pub(crate) fn found(&self, fd: BorrowedFd<'_>) -> Readiness {
        let place = self.places.get(&fd.as_raw_fd());
        place.map_or(Readiness::default(), |place| self.found[*place])
    }

    /// Takes out those that were found ready for anything.
    pub(crate) fn drop_ready(&mut self) {
        for place in (0..self.fds.len()).rev() {
            if !self.found[place].is_empty() {
                self.fds.swap_remove(place);
                self.wanted.swap_remove(place);
                self.found.swap_remove(place);
            }
        }
        self.places.clear();
        let numbers = self.fds.iter().map(AsRawFd::as_raw_fd);
        self.places.extend(numbers.zip(0..));
    }
}

fn flags(interest: Interest) -> PollFlags {
    let mut flags = PollFlags::empty();
    if interest.contains(Interest::READABLE) {
        flags |= PollFlags::IN;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            flags |= PollFlags::RDHUP;
        }
    }
    if interest.contains(Interest::WRITABLE) {
        flags |= PollFlags::OUT;
    }
    if interest.contains(Interest::PRIORITY) {
        flags |= PollFlags::PRI;
    }
    flags
}

fn readiness(flags: PollFlags) -> Readiness {
    let readiness = Readiness::default()
        .and(Readiness::READABLE, flags.contains(PollFlags::IN))
        .and(Readiness::WRITABLE, flags.contains(PollFlags::OUT))
        .and(Readiness::PRIORITY, flags.contains(PollFlags::PRI))
        .and(Readiness::FAILED, flags.contains(PollFlags::ERR))
        .and(Readiness::HANG_UP, flags.contains(PollFlags::HUP))
        .and(Readiness::INVALID, flags.contains(PollFlags::NVAL));
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let readiness = readiness.and(Readiness::FINISHED, flags.contains(PollFlags::RDHUP));
    readiness
}
