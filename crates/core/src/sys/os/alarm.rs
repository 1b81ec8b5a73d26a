//! The alarm of the real system: one timerfd(2) in the set that the loop waits on.
//!
//! The rule: it is registered edge-triggered and never read. It is reported once when it goes off,
//! and setting it anew takes back a report that nobody has fetched. epoll counts milliseconds; this
//! counts nanoseconds, and it makes the epoll descriptor itself readable, which a timeout does not.
//! Where there is no timerfd the loop has its timeouts alone.

use std::io;

use mio::Registry;
use rustix::io::Errno;

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) struct Alarm(std::os::fd::OwnedFd);

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Alarm {
    pub(super) fn new(registry: &Registry) -> io::Result<Self> {
        use std::os::fd::AsRawFd;

        use mio::unix::SourceFd;
        use mio::{Interest, Token};
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};

        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let token = Token(crate::sys::ALARM as usize);
        registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self(timer))
    }

    /// Goes off at a time of CLOCK_MONOTONIC, at once if that has passed, or not at all.
    pub(super) fn set(&self, at: Option<u64>) -> Result<(), Errno> {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};

        // The time 0 would disarm it.
        let nanos = at.map_or(0, |at| at.max(1));
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: (nanos / 1_000_000_000) as i64,
                tv_nsec: (nanos % 1_000_000_000) as _,
            },
        };
        timerfd_settime(&self.0, TimerfdTimerFlags::ABSTIME, &once).map(|_| ())
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) struct Alarm;

#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Alarm {
    pub(super) fn new(_: &Registry) -> io::Result<Self> {
        Ok(Self)
    }

    pub(super) fn set(&self, _: Option<u64>) -> Result<(), Errno> {
        Err(Errno::NOSYS)
    }
}
