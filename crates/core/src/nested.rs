//! The loop's own descriptor, by which it nests in any other loop, and the alarm behind it.
//!
//! The rule (promise 14): between the turns of a nested loop its descriptor is readable exactly when
//! `poll` with a timeout of zero would do or tell something. The kernel's reports and posts make it
//! so by themselves. What the loop alone knows of is told to it here: the earliest deadline by the
//! alarm, work at hand by the waker. So whatever leaves work for the next turn, or moves a
//! deadline, must say so by `work_left` or `changed`; both cost one look at a flag.
//!
//! A loop that is not nested sets the alarm only when it goes to sleep, and only to an earlier time;
//! when it goes off for nobody, the loop goes on sleeping.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::io::Errno;

use crate::conn::{NEVER, after};
use crate::event_loop::EventLoop;
use crate::sys::{ALARM, Ready, System, Waker};
use crate::turn::{Current, NOBODY, OUTSIDE};

/// From here on a timeout of the system is fine enough by itself.
const COARSE: u64 = 1_000_000;

pub(crate) struct Nesting {
    /// Somebody watches the descriptor.
    nested: bool,
    /// Nested, between two turns, and the descriptor was not made readable yet.
    pub(crate) outside: bool,
    /// When the alarm goes off.
    pub(crate) alarm: u64,
    waker: Waker,
}

impl Nesting {
    pub(crate) fn new(waker: Waker) -> Self {
        Self {
            nested: false,
            outside: false,
            alarm: NEVER,
            waker,
        }
    }

    pub(crate) fn wake(&self) {
        (self.waker)();
    }

    /// [`work_left`](EventLoop::work_left), for who has but a part of the loop.
    pub(crate) fn work_left(&mut self) {
        if std::mem::take(&mut self.outside) {
            self.wake();
        }
    }
}

impl<S: System + AsFd> EventLoop<S> {
    /// The loop's own descriptor, to be watched for reading by another loop (promise 14): GLib, Qt,
    /// asyncio, libuv, poll(2), another `EventLoop`.
    ///
    /// It is readable exactly when `poll(Some(Duration::ZERO))` would do or tell something: I/O,
    /// timers, posts, events that were left over, bytes sent between two turns. When it is,
    /// poll with a timeout of zero and take events until there are no more; what is done inside, a
    /// flush or a lazily moved idle deadline, may leave nothing to be taken. Nothing is to be read
    /// from the descriptor itself. Watch it level-triggered.
    ///
    /// The first call begins this: from then on the loop keeps the descriptor right whenever
    /// `next_event` has answered `None`. A program that goes back to the loop around before that
    /// calls this once more. It is the same descriptor for the life of the loop, until
    /// `after_fork`.
    ///
    /// That a borrowed descriptor was closed behind the loop's back
    /// ([`WatchDead`](crate::Event::WatchDead)) is found in the next turn: looking for it by itself
    /// would wake the loop around for nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use echoloop_core::{EventLoop, LoopOptions};
    /// use rustix::event::{PollFd, PollFlags, poll};
    ///
    /// let mut el = EventLoop::new(LoopOptions::default())?;
    /// el.remote().post(7)?;
    /// // The program's own poll(2), in which the loop is one descriptor among others.
    /// poll(&mut [PollFd::new(&el.descriptor(), PollFlags::IN)], None).unwrap();
    /// el.poll(Some(Duration::ZERO))?;
    /// while let Some(event) = el.next_event() {
    ///     println!("{event:?}");
    /// }
    /// # Ok::<(), echoloop_core::Error>(())
    /// ```
    pub fn descriptor(&mut self) -> BorrowedFd<'_> {
        self.nest();
        self.sys.as_fd()
    }
}

impl<S: System> EventLoop<S> {
    /// How long until the loop wants a turn by itself: zero when it has something to do or to tell
    /// already, `None` when it has nothing planned.
    ///
    /// This is what a loop around takes as the timeout of its own wait. It holds until the next call
    /// on this loop, so ask after the last one; during a turn whose events are not all taken it is
    /// zero. What comes from outside is no part of it: input, posts and signals are told by the
    /// [`descriptor`](Self::descriptor) alone. That knows deadlines too, so a program that watches it
    /// needs this only where it has to say a timeout anyway, and on systems without timerfd(2), where
    /// the descriptor can't tell time. It is never later than the truth.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use echoloop_core::{EventLoop, LoopOptions, TimerSpec};
    ///
    /// let mut el = EventLoop::new(LoopOptions::default())?;
    /// assert_eq!(el.next_deadline(), None);
    /// el.add_timer(TimerSpec::after(Duration::from_secs(5)))?;
    /// assert!(el.next_deadline().is_some_and(|left| left <= Duration::from_secs(5)));
    /// el.remote().post(7)?; // Tells the descriptor.
    /// assert!(el.next_deadline().is_some_and(|left| !left.is_zero()));
    /// # Ok::<(), echoloop_core::Error>(())
    /// ```
    #[must_use]
    pub fn next_deadline(&mut self) -> Option<Duration> {
        self.arm_delayed();
        if self.work_waits() {
            return Some(Duration::ZERO);
        }
        let at = self.deadlines.earliest()?;
        Some(Duration::from_nanos(at.saturating_sub(self.sys.now())))
    }

    /// What [`descriptor`](Self::descriptor) does, for systems without one.
    #[doc(hidden)]
    pub fn nest(&mut self) {
        self.nesting.nested = true;
        self.arm_delayed(); // The turn may have been left before its end.
        self.tell_descriptor();
    }

    /// A turn is over: the descriptor tells what waits for the next.
    #[inline]
    pub(crate) fn tell_descriptor(&mut self) {
        if self.nesting.nested {
            self.go_outside();
        }
    }

    /// Something was left to be done in the next turn. Between turns that makes the descriptor
    /// readable; during one, its end does.
    #[inline]
    pub(crate) fn work_left(&mut self) {
        if self.nesting.outside {
            self.come_inside();
            if !self.sys.forked() {
                self.nesting.wake();
            }
        }
    }

    /// Anything may have changed: a deadline, or what is left to be done. Between turns the
    /// descriptor follows.
    #[inline]
    pub(crate) fn changed(&mut self) {
        if self.nesting.outside {
            self.go_outside();
        }
    }

    /// A turn begins, or is bound to: the descriptor needs no more care.
    #[inline]
    pub(crate) fn come_inside(&mut self) {
        self.nesting.outside = false;
        if self.gatherer == OUTSIDE {
            self.gatherer = NOBODY;
        }
    }

    fn go_outside(&mut self) {
        if self.sys.forked() {
            return; // The alarm is the parent's.
        }
        self.nesting.outside = true;
        if self.work_waits() {
            return self.work_left();
        }
        self.gatherer = OUTSIDE;
        let earliest = self.deadlines.earliest();
        self.set_alarm(earliest.unwrap_or(NEVER));
    }

    /// A `poll` would find something to do without asking the kernel.
    fn work_waits(&self) -> bool {
        let gathered = self.gatherer != NOBODY && self.gatherer != OUTSIDE;
        gathered
            || self.current != Current::Nothing
            || !self.dirty.is_empty()
            || !self.ready.is_empty()
            || !self.later.is_empty()
            || !self.udp_work.later.is_empty()
            || self.may_feed()
            || self.has_work()
    }

    /// Waits for reports, at most for `timeout` and not past the next deadline.
    pub(crate) fn sleep(&mut self, timeout: Option<Duration>) -> Result<(), Errno> {
        let mut due = self.deadlines.earliest().unwrap_or(NEVER);
        if timeout == Some(Duration::ZERO) {
            return self.wait(timeout);
        }
        // Handlers may have taken their time since the turn began, so the clock is read again.
        let timed = timeout.is_some() || due != NEVER;
        let mut now = if timed { self.sys.now() } else { self.now };
        let ends = timeout.map_or(NEVER, |t| after(now, t));
        loop {
            let first = due.min(ends);
            self.wake_at(first, ends, now);
            let left = first.saturating_sub(now);
            self.wait((first != NEVER).then_some(Duration::from_nanos(left)))?;
            if !matches!(self.ready[..], [Ready { token: ALARM, .. }]) {
                return Ok(());
            }
            // An alarm that was not moved away from goes off for nobody.
            now = self.sys.now();
            due = self.deadlines.earliest().unwrap_or(NEVER);
            if due.min(ends) <= now {
                return Ok(());
            }
            self.ready.clear();
            self.nesting.alarm = NEVER;
        }
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<(), Errno> {
        let timeout = self.watches.sweep(&mut self.sys, self.now, timeout);
        self.sys.wait(timeout, &mut self.ready)
    }

    /// Sets the alarm for a sleep until `first`, where it is finer than a timeout.
    fn wake_at(&mut self, first: u64, ends: u64, now: u64) {
        let coarse = first == ends && ends.saturating_sub(now) >= COARSE;
        // One that goes off before is left as it is: moving it with each deadline that moves would
        // cost more than to sleep once more.
        let before = self.nesting.alarm > now && self.nesting.alarm <= first;
        if first > now && !coarse && !before {
            self.set_alarm(first);
        }
    }

    fn set_alarm(&mut self, at: u64) {
        if at == self.nesting.alarm {
            return;
        }
        self.nesting.alarm = at;
        // A system without an alarm has its timeouts.
        let _ = self.sys.set_alarm((at != NEVER).then_some(at));
    }
}
