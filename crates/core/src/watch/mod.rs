//! Watching descriptors of the program's own: pipes, devices, sockets that others drive.
//!
//! The rule: the loop never reads, writes or changes such a descriptor, not even its O_NONBLOCK. A
//! borrowed one is known by its number alone and stays the program's to close; an adopted one is
//! closed with its watch. What is kept of them is in `watches`.

pub(crate) mod poll_once;
pub(crate) mod select;
pub(crate) mod selector;
pub(crate) mod sweep;
pub(crate) mod watches;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use crate::event_loop::EventLoop;
use crate::sys::{Interest, System, WatchMode};
use crate::turn::Current;
use crate::watch::watches::Told;
use crate::{Error, ErrorKind, Event, WatchId};

impl<S: System> EventLoop<S> {
    /// Watches a descriptor that the program keeps: [`Event::Watch`] tells when it is ready.
    ///
    /// Only its number is kept. [`unwatch`](Self::unwatch) it before it is closed. One that was
    /// closed all the same is told by [`Event::WatchDead`], soon: at its next event, or when the
    /// loop is about to sleep, or by and by while it has many to look after (promise 11).
    ///
    /// What poll(2) calls always ready, such as a file, a directory or `/dev/null`, is so here:
    /// with [`WatchMode::Level`] every turn, else once and after each
    /// [`modify_watch`](Self::modify_watch). Readiness is a hint: other code may have read what was
    /// there, so the descriptor had better be non-blocking.
    ///
    /// # Errors
    ///
    /// `EEXIST` when this descriptor is watched already, [`ErrorKind::BadDescriptor`] when it is
    /// not open; `ENOMEM`, `ENOSPC` (epoll(7), `max_user_watches`), `ELOOP` (epoll_ctl(2)).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::Write;
    /// use echoloop_core::{Event, EventLoop, Interest, LoopOptions, WatchMode};
    ///
    /// let (reader, mut writer) = std::io::pipe().unwrap();
    /// let mut el = EventLoop::new(LoopOptions::default())?;
    /// let watch = el.watch(&reader, Interest::READABLE, WatchMode::Level)?;
    /// writer.write_all(b"x").unwrap();
    /// el.poll(None)?;
    /// assert!(matches!(el.next_event(), Some(Event::Watch { readiness, .. }) if readiness.is_readable()));
    /// el.unwatch(watch)?;
    /// # Ok::<(), echoloop_core::Error>(())
    /// ```
    pub fn watch(
        &mut self,
        fd: &impl AsFd,
        interest: Interest,
        mode: WatchMode,
    ) -> Result<WatchId, Error> {
        self.watch_number(fd.as_fd().as_raw_fd(), interest, mode)
    }

    /// Watches a descriptor that the loop adopts: it is closed by [`unwatch`](Self::unwatch) and
    /// with the loop, or comes back by [`unwatch_owned`](Self::unwatch_owned).
    ///
    /// Else like [`watch`](Self::watch).
    ///
    /// # Errors
    ///
    /// Those of [`watch`](Self::watch); the descriptor is closed then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use echoloop_core::{EventLoop, Interest, LoopOptions, WatchMode};
    /// # let mut el = EventLoop::new(LoopOptions::default())?;
    /// let (reader, _writer) = std::io::pipe().unwrap();
    /// let watch = el.watch_owned(reader.into(), Interest::READABLE, WatchMode::OneShot)?;
    /// let reader = el.unwatch_owned(watch)?;
    /// # drop(reader);
    /// # Ok::<(), echoloop_core::Error>(())
    /// ```
    pub fn watch_owned(
        &mut self,
        fd: OwnedFd,
        interest: Interest,
        mode: WatchMode,
    ) -> Result<WatchId, Error> {
        let id = self.watch_number(fd.as_raw_fd(), interest, mode)?;
        self.watches.adopt(id.0, fd);
        Ok(id)
    }

    /// For the C ABI: the loop adopts the descriptor of a watch that was lent to it.
    #[doc(hidden)]
    pub fn adopt_watched(&mut self, id: WatchId, fd: OwnedFd) {
        self.watches.adopt(id.0, fd);
    }

    /// Sets what a watch asks for, and arms it again: if the descriptor is ready for it, that is
    /// told, in every mode.
    ///
    /// With [`Interest::NONE`] an error or a hang-up is told still, once.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadHandle`]; [`ErrorKind::BadDescriptor`] when the descriptor is found dead,
    /// which [`Event::WatchDead`] tells too.
    pub fn modify_watch(&mut self, id: WatchId, interest: Interest) -> Result<(), Error> {
        self.check_process("modify watch")?;
        let slot = self.find_watch(id, "modify watch")?;
        let alive = self.watches.modify(&mut self.sys, slot, interest);
        self.changed();
        if alive {
            return Ok(());
        }
        let fd = self.watches.slots.get(slot).map_or(-1, |w| w.fd);
        Err(Error::new("modify watch", ErrorKind::BadDescriptor(fd)))
    }

    /// Ends a watch, from anywhere; nothing more is told of it. An adopted descriptor is closed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadHandle`].
    pub fn unwatch(&mut self, id: WatchId) -> Result<(), Error> {
        let slot = self.find_watch(id, "unwatch")?;
        if self.watches.remove(&mut self.sys, slot).is_some() {
            self.descriptor_freed();
        }
        Ok(())
    }

    /// Ends the watch of an adopted descriptor and gives it back.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadHandle`], and [`ErrorKind::InvalidInput`] when the descriptor was not
    /// adopted; in both cases nothing has changed. [`ErrorKind::BadDescriptor`] when it was closed
    /// behind the loop's back; then the watch is gone.
    pub fn unwatch_owned(&mut self, id: WatchId) -> Result<OwnedFd, Error> {
        let failed = |kind| Error::new("unwatch", kind);
        let slot = self.find_watch(id, "unwatch")?;
        let fd = match self.watches.slots.get(slot) {
            Some(watch) if watch.owned.is_some() => watch.fd,
            _ => {
                return Err(failed(ErrorKind::InvalidInput(
                    "the descriptor is borrowed",
                )));
            }
        };
        let owned = self.watches.remove(&mut self.sys, slot);
        self.descriptor_freed(); // Or is about to be: it is the program's to close.
        owned.ok_or(failed(ErrorKind::BadDescriptor(fd)))
    }

    /// The number of the descriptor that a watch watches.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadHandle`].
    pub fn watched_fd(&self, id: WatchId) -> Result<RawFd, Error> {
        let slot = self.find_watch(id, "watched descriptor")?;
        Ok(self.watches.slots.get(slot).map_or(-1, |w| w.fd))
    }

    /// The descriptor of a watch that adopted it, to read and write.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadHandle`], and [`ErrorKind::InvalidInput`] when it was not adopted.
    pub fn watched(&self, id: WatchId) -> Result<BorrowedFd<'_>, Error> {
        let slot = self.find_watch(id, "watched descriptor")?;
        let owned = self.watches.slots.get(slot).and_then(|w| w.owned.as_ref());
        let borrowed = ErrorKind::InvalidInput("the descriptor is borrowed");
        owned
            .map(AsFd::as_fd)
            .ok_or(Error::new("watched descriptor", borrowed))
    }

    /// A word of the program's own, kept with the watch; 0 at first.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadHandle`].
    pub fn watch_user_data(&self, id: WatchId) -> Result<u64, Error> {
        let slot = self.find_watch(id, "watch user data")?;
        Ok(self.watches.slots.get(slot).map_or(0, |w| w.user_data))
    }

    /// Sets the word that is kept with the watch.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadHandle`].
    pub fn set_watch_user_data(&mut self, id: WatchId, word: u64) -> Result<(), Error> {
        let slot = self.find_watch(id, "watch user data")?;
        if let Some(watch) = self.watches.slots.get_mut(slot) {
            watch.user_data = word;
        }
        Ok(())
    }

    /// Hands out what a watch has to tell.
    pub(crate) fn next_watch(&mut self) -> Option<Event> {
        let left = self.left.watches.checked_sub(1)?;
        let (slot, told) = self.watches.next()?;
        self.left.watches = left;
        self.current = Current::Watch(slot);
        let watch = WatchId(self.watches.slots.key(slot));
        Some(match told {
            Told::Ready(readiness) => Event::Watch { watch, readiness },
            Told::Dead => {
                let fd = self.watches.slots.get(slot).map_or(-1, |w| w.fd);
                Event::WatchDead { watch, fd }
            }
        })
    }

    fn watch_number(
        &mut self,
        fd: RawFd,
        interest: Interest,
        mode: WatchMode,
    ) -> Result<WatchId, Error> {
        self.check_new("watch")?;
        let key = self.watches.add(&mut self.sys, fd, interest, mode, 0)?;
        self.changed();
        Ok(WatchId(key))
    }

    fn find_watch(&self, id: WatchId, operation: &'static str) -> Result<u32, Error> {
        let found = self.watches.slots.find(id.0);
        found.ok_or(Error::new(operation, ErrorKind::BadHandle))
    }
}
