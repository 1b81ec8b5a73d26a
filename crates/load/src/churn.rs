//! Connections that come and go: connect, send one message, receive it back, close, and again.
//!
//! A fixed number of slots is under way at a time. The message is sent right after the connect, for
//! on loopback the handshake is over when connect returns; only when it is not does the slot wait to
//! write. A slot whose connection failed opens the next a little later. The client closes first and
//! keeps the TIME_WAIT, so it comes from many source addresses.

use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::epoll;
use rustix::io::Errno;

use crate::course::{Course, Watch};
use crate::pattern::Pattern;
use crate::{Cause, Error, Failed, Plan, Report, Until, socket};

/// All slots of a churning load.
#[derive(Debug)]
pub(crate) struct Churn {
    plan: Plan,
    poller: OwnedFd,
    slots: Vec<Option<Visit>>,
    /// Slots whose connection failed, to be opened after the next wait.
    failed: Vec<usize>,
    pattern: Pattern,
    buffer: Vec<u8>,
    /// Connections opened so far.
    opened: usize,
}

/// One short-lived connection.
#[derive(Debug)]
struct Visit {
    fd: OwnedFd,
    number: usize,
    begun: Instant,
    sent: u64,
    received: u64,
}

impl Churn {
    pub(crate) fn new(plan: Plan) -> Result<Churn, Error> {
        Ok(Churn {
            poller: epoll::create(epoll::CreateFlags::CLOEXEC)
                .map_err(Error::system("epoll_create1"))?,
            slots: (0..plan.connections).map(|_| None).collect(),
            failed: Vec::new(),
            pattern: Pattern::new(&plan),
            // Room for one byte more than is owed: a server that answers too much is found out.
            buffer: vec![0; plan.size.saturating_add(1).min(1 << 20)],
            opened: 0,
            plan,
        })
    }

    pub(crate) fn run(&mut self, until: Until, watch: Watch<'_>) -> Result<Report, Failed> {
        let mut course = Course::new(&self.plan, until, watch);
        let outcome = self.drive(&mut course);
        let alive = course.report.messages > 0;
        course.finish(outcome, alive)
    }

    fn drive(&mut self, course: &mut Course<'_>) -> Result<(), Error> {
        for slot in 0..self.slots.len() {
            self.open(slot, course.started(), course)?;
        }
        let mut events = Vec::with_capacity(1024);
        while course.goes_on() {
            let now = course.wait(&self.poller, &mut events)?;
            for event in &events {
                let (flags, slot) = (event.flags, event.data.u64() as usize);
                if self.advance(slot, flags, course)? {
                    course.came_back();
                    // Dropping the visit closes its socket.
                    if let Some(visit) = self.slots[slot].take() {
                        let latency = course.last - visit.begun;
                        course.report.record(latency.as_nanos() as u64);
                    }
                    self.open(slot, course.last, course)?;
                }
            }
            if course.is_silent() {
                self.give_up(course);
            }
            for slot in std::mem::take(&mut self.failed) {
                self.open(slot, now, course)?;
            }
        }
        self.failed.clear();
        Ok(())
    }

    fn open(&mut self, slot: usize, now: Instant, course: &mut Course<'_>) -> Result<(), Error> {
        if course.take(1) == 0 {
            return Ok(());
        }
        let number = self.opened;
        self.opened += 1;
        let begin = || -> Result<Visit, Error> {
            let mut visit = Visit {
                fd: socket::connect(&self.plan, number)?,
                number,
                begun: now,
                sent: 0,
                received: 0,
            };
            visit.push(&self.plan, &self.pattern)?;
            let unsent = visit.sent < self.plan.size as u64;
            socket::watch(&self.poller, &visit.fd, slot, unsent)?;
            Ok(visit)
        };
        match begin() {
            Ok(visit) => self.slots[slot] = Some(visit),
            Err(Error::Connection { connection, cause }) => {
                self.lose(slot, connection, cause, course);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Moves what can be moved; true when the message is wholly back.
    fn advance(
        &mut self,
        slot: usize,
        flags: epoll::EventFlags,
        course: &mut Course<'_>,
    ) -> Result<bool, Error> {
        let Some(visit) = &mut self.slots[slot] else {
            return Ok(false);
        };
        let size = self.plan.size as u64;
        let mut moved = || -> Result<bool, Error> {
            visit.push(&self.plan, &self.pattern)?;
            if flags.intersects(epoll::EventFlags::IN | socket::hung_up()) {
                while visit.received < size
                    && visit.pull(&self.plan, &self.pattern, &mut self.buffer)?
                {}
            }
            Ok(visit.received == size)
        };
        match moved() {
            Err(Error::Connection { connection, cause }) => {
                self.lose(slot, connection, cause, course);
                Ok(false)
            }
            other => other,
        }
    }

    fn lose(&mut self, slot: usize, connection: usize, cause: Cause, course: &mut Course<'_>) {
        course.lose(connection, cause, 1);
        self.slots[slot] = None;
        self.failed.push(slot);
    }

    /// Ends every connection that still waits for an answer.
    fn give_up(&mut self, course: &mut Course<'_>) {
        for slot in 0..self.slots.len() {
            if let Some(visit) = &self.slots[slot] {
                self.lose(slot, visit.number, Cause::Silent, course);
            }
        }
        // Those that follow have their own patience.
        course.last = Instant::now();
    }
}

impl Visit {
    fn push(&mut self, plan: &Plan, pattern: &Pattern) -> Result<(), Error> {
        while self.sent < plan.size as u64 {
            let bytes = pattern.slice(self.number, self.sent, plan.size as u64 - self.sent);
            match socket::send(&self.fd, bytes) {
                Ok(Some(n)) => self.sent += n as u64,
                // ENOTCONN: the handshake has not begun to be answered.
                Ok(None) | Err(Errno::NOTCONN) => break,
                Err(errno) => return Err(self.refused("send", errno)),
            }
        }
        Ok(())
    }

    /// Receives once; false when nothing has come.
    fn pull(&mut self, plan: &Plan, pattern: &Pattern, buffer: &mut [u8]) -> Result<bool, Error> {
        let connection = self.number;
        let n = match socket::recv(&self.fd, buffer, !plan.verify) {
            Ok(Some(n)) => n,
            Ok(None) => return Ok(false),
            Err(errno) => return Err(self.refused("recv", errno)),
        };
        if n == 0 {
            let cause = Cause::Closed;
            return Err(Error::Connection { connection, cause });
        }
        if self.received + n as u64 > self.sent {
            return Err(Error::TooMany { connection });
        }
        if plan.verify {
            pattern.check(connection, self.received, &buffer[..n])?;
        }
        self.received += n as u64;
        Ok(true)
    }

    /// The first call after a connect that failed tells its error.
    fn refused(&self, doing: &'static str, errno: Errno) -> Error {
        let doing = if self.sent == 0 { "connect" } else { doing };
        Error::Connection {
            connection: self.number,
            cause: Cause::system(doing, errno),
        }
    }
}
