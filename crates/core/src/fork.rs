//! Loops and fork(2): an error in the child, until the child makes the loop its own.
//!
//! The rule: a fork copies the loop's memory and shares its sockets. So the child must not act on
//! what the parent is bound to do: what was sent before the fork leaves from the parent, and closing
//! in the child neither shuts down nor resets what the parent may still use.
//! The short ways of events and sends do not look; `poll`, and each call that makes a handle, do.

use crate::conn::{Flags, NEVER};
use crate::event_loop::EventLoop;
use crate::handle::slot_of;
use crate::sys::System;
use crate::turn::{Current, NOBODY};
use crate::{CloseReason, Error, ErrorKind, Target};

impl<S: System> EventLoop<S> {
    /// Makes a loop usable in the child of a fork(2). Before, [`poll`](Self::poll) and the calls
    /// that make a handle answer [`ErrorKind::Forked`] there, and dropping the loop does not disturb
    /// the parent. In the process that made the loop this does nothing.
    ///
    /// All handles stay good, [`Remote`](crate::Remote)s too: those in the child reach the child's
    /// loop. The sockets are shared, two descriptors of one connection: what arrives goes to
    /// whoever reads first. So usually the parent closes what the child serves and the child the
    /// rest. Of a connection from before the fork, `close` and `abort` in the child close only the
    /// child's descriptor (after a flush of what the child has sent); the peer sees the end when
    /// the last one is closed. What was queued before the fork is left to the parent. The rest of
    /// the loop's memory is there twice: timers, posts, unread bytes.
    ///
    /// Call it in the child before anything else of the loop: events that were collected before the
    /// fork are not looked after. The loop's [`descriptor`](Self::descriptor) is another one then.
    /// As for every lock, fork while no other thread is in the middle of a post.
    ///
    /// # Errors
    ///
    /// The system's: `EMFILE`, `ENFILE`, `ENOMEM`. Then the loop is of no more use: drop it.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use echoloop_core::{EventLoop, ListenOptions, LoopOptions};
    /// # fn fork() -> i32 { 1 }
    /// let mut el = EventLoop::new(LoopOptions::default())?;
    /// el.listen("127.0.0.1:0", &ListenOptions::default())?;
    /// if fork() == 0 {
    ///     el.after_fork()?; // A worker that accepts from the same listener.
    /// }
    /// el.poll(Some(Duration::ZERO))?;
    /// # Ok::<(), echoloop_core::Error>(())
    /// ```
    pub fn after_fork(&mut self) -> Result<(), Error> {
        if !self.sys.forked() {
            return Ok(());
        }
        // The handler that forked is over here too. (Watches are all armed anew below.)
        if !matches!(self.current, Current::Watch(_)) {
            self.settle();
        }
        self.forget_turn();
        let failed = |e| Error::os("after fork", e);
        self.sys.after_fork().map_err(failed)?;
        self.nesting.alarm = NEVER;
        self.nesting.wake(); // Posts may wait.
        self.register_all().map_err(failed)?;
        for key in self.conns.keys().collect::<Vec<u64>>() {
            self.inherit(slot_of(key));
        }
        self.tell_descriptor();
        Ok(())
    }

    /// An error in the child of a fork.
    #[inline]
    pub(crate) fn check_process(&mut self, operation: &'static str) -> Result<(), Error> {
        if self.sys.forked() {
            return Err(Error::new(operation, ErrorKind::Forked));
        }
        Ok(())
    }

    /// Drops what the turn of the parent has collected and gathered.
    pub(crate) fn forget_turn(&mut self) {
        self.ready.clear();
        self.come_inside();
        self.gatherer = NOBODY;
        self.gathered.clear();
        self.gathered_here = 0..0;
        self.unread_here = 0..0;
        self.parked.clear();
        self.parked_bytes.clear();
        self.dirty.clear();
        self.current = Current::Nothing;
        self.timing.forget_handler();
        self.forget_datagrams();
    }

    fn register_all(&mut self) -> Result<(), rustix::io::Errno> {
        for key in self.listeners.keys().collect::<Vec<u64>>() {
            if let Some(listener) = self.listeners.get_mut(slot_of(key)) {
                listener.waiting = None; // It is the parent's to serve.
                self.sys.register(&listener.socket, key)?;
            }
        }
        for key in self.udps.keys().collect::<Vec<u64>>() {
            if let Some(udp) = self.udps.get(slot_of(key)) {
                self.sys.register(&udp.socket, key)?;
            }
        }
        for key in self.attempts.keys().collect::<Vec<u64>>() {
            if let Some(attempt) = self.attempts.get(slot_of(key)) {
                self.sys.register(&attempt.socket, key)?;
            }
        }
        for number in self.signals.numbers() {
            self.sys.watch_signal(number)?;
        }
        self.watches.watch_anew(&mut self.sys);
        for key in self.lookups.keys().collect::<Vec<u64>>() {
            if let Some(lookup) = self.lookups.get(slot_of(key))
                && lookup.answer.is_none()
            {
                let host = lookup.host.clone();
                let _ = self.start_lookup(key, &host); // Else its deadline tells.
            }
        }
        Ok(())
    }

    /// Takes over a connection from before the fork.
    fn inherit(&mut self, slot: u32) {
        let key = self.conns.key(slot);
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        conn.flags.set(Flags::INHERITED);
        conn.flags.clear(Flags::DIRTY | Flags::PARKED);
        self.buffered -= conn.queue.len();
        conn.queue.clear(&mut self.pool);
        conn.queue_changed();
        conn.relieve();
        if let Some(race) = &conn.race
            && race.resolving
            && let Target::Name { host, .. } = &race.target
        {
            let host = host.clone();
            let _ = self.start_lookup(key, &host); // Else its deadline tells.
        }
        if let Err(e) = self.register(slot) {
            self.terminate(slot, CloseReason::Error(e.raw_os_error()));
        }
        self.requeue(slot);
    }
}
