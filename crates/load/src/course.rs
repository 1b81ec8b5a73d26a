//! One run under way: how much may still be sent, whether to go on, and what came of it.
//!
//! The rule: a message that was taken ends in exactly one of three counts, so the run is over when
//! they add up to what was taken: back, unanswered (its connection failed) or lost (a datagram).
//! After a failure nothing more is sent, unless the plan says to keep going; what is in flight is
//! still waited for, so the report tells of all connections that failed.

use std::fmt;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use crate::{Cause, Error, Failed, Plan, Progress, Report, Until};

/// How often somebody who watches is told, and the longest wait.
const TICK: Duration = Duration::from_millis(100);

/// Looks at a run now and then, and may end it.
pub(crate) type Watch<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

/// One run.
pub(crate) struct Course<'a> {
    pub(crate) report: Report,
    /// When the last byte came back.
    pub(crate) last: Instant,
    watch: Watch<'a>,
    patience: Duration,
    keep_going: bool,
    taken: u64,
    left: u64,
    ends: Option<Instant>,
    started: Instant,
    now: Instant,
    told: Instant,
    stopped: bool,
    error: Option<Error>,
}

impl<'a> Course<'a> {
    pub(crate) fn new(plan: &Plan, until: Until, watch: Watch<'a>) -> Course<'a> {
        let now = Instant::now();
        let (left, ends) = match until {
            Until::Elapsed(time) => (u64::MAX, now.checked_add(time)),
            Until::Messages(left) => (left, None),
        };
        Course {
            report: Report::default(),
            last: now,
            watch,
            patience: plan.patience,
            keep_going: plan.keep_going,
            taken: 0,
            left,
            ends,
            started: now,
            now,
            told: now,
            stopped: false,
            error: None,
        }
    }

    /// When the run began.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Something has come back now; the time since the run began, in nanoseconds.
    pub(crate) fn came_back(&mut self) -> u64 {
        self.last = Instant::now();
        (self.last - self.started).as_nanos() as u64
    }

    /// Takes as many of `wanted` messages as may still be sent.
    pub(crate) fn take(&mut self, wanted: u64) -> u64 {
        let taken = wanted.min(self.left);
        self.taken += taken;
        self.left -= taken;
        taken
    }

    /// Whether anything is in flight and worth waiting for.
    pub(crate) fn goes_on(&self) -> bool {
        let ended = self.report.messages + self.report.unanswered + self.report.lost;
        ended < self.taken && !self.stopped
    }

    /// Waits for events, at most a tick; returns the time then. A signal ends it early.
    pub(crate) fn wait(
        &mut self,
        poller: &OwnedFd,
        events: &mut Vec<epoll::Event>,
    ) -> Result<Instant, Error> {
        let most = self.patience.min(TICK);
        let time = self.ends.map_or(most, |ends| {
            ends.saturating_duration_since(self.now).min(most)
        });
        let time = Timespec {
            tv_sec: time.as_secs() as i64,
            tv_nsec: i64::from(time.subsec_nanos()),
        };
        events.clear();
        match epoll::wait(poller, rustix::buffer::spare_capacity(events), Some(&time)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::system("epoll_wait")(errno)),
        }
        self.now = Instant::now();
        if self.ends.is_some_and(|ends| self.now >= ends) {
            self.send_no_more();
        }
        if self.now - self.told >= TICK {
            self.told = self.now;
            let progress = Progress {
                messages: self.report.messages,
                elapsed: self.now - self.started,
            };
            self.stopped = (self.watch)(progress).is_break();
        }
        Ok(self.now)
    }

    /// Whether nothing has come back for too long.
    pub(crate) fn is_silent(&self) -> bool {
        self.now.saturating_duration_since(self.last) > self.patience
    }

    /// A connection has ended with so many of its messages in flight.
    pub(crate) fn lose(&mut self, connection: usize, cause: Cause, unanswered: u64) {
        self.report.unanswered += unanswered;
        *self.report.failures.entry(cause).or_default() += 1;
        let error = Error::Connection { connection, cause };
        self.error.get_or_insert(error);
        if !self.keep_going {
            self.send_no_more();
        }
    }

    /// What came of it; `alive` when some connections are left, or some messages came back.
    pub(crate) fn finish(
        mut self,
        outcome: Result<(), Error>,
        alive: bool,
    ) -> Result<Report, Failed> {
        self.report.elapsed = self.last - self.started;
        let failed = self.error.filter(|_| !self.keep_going || !alive);
        match outcome.err().or(failed) {
            None => Ok(self.report),
            Some(error) => Err(Failed {
                error,
                report: Box::new(self.report),
            }),
        }
    }

    fn send_no_more(&mut self) {
        self.left = 0;
        self.ends = None;
    }
}

impl fmt::Debug for Course<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Course")
            .field("taken", &self.taken)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}
