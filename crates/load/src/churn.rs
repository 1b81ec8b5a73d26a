//! Connections that come and go: connect, send one message, receive it back, close, and again.
//!
//! A fixed number of slots is under way at a time. The message is sent right after the connect, for
//! on loopback the handshake is over when connect returns; only when it is not does the slot wait to
//! write. The client closes first and keeps the TIME_WAIT, so it comes from many source addresses.

use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::epoll;
use rustix::io::Errno;

use crate::pattern::Pattern;
use crate::steady::{hung_up, wait_for};
use crate::{Budget, Error, Plan, Report, Until, socket, source};

/// All slots of a churning load.
#[derive(Debug)]
pub(crate) struct Churn {
    plan: Plan,
    poller: OwnedFd,
    slots: Vec<Option<Visit>>,
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
            pattern: Pattern::new(&plan),
            buffer: vec![0; plan.size.clamp(1, 1 << 20)],
            opened: 0,
            plan,
        })
    }

    pub(crate) fn run(&mut self, until: Until) -> Result<Report, Error> {
        let started = Instant::now();
        let mut report = Report::new();
        let mut budget = Budget::new(until, started);
        for slot in 0..self.slots.len() {
            self.open(slot, &mut budget, started)?;
        }

        let mut events = Vec::with_capacity(1024);
        let mut last = started;
        while report.messages < budget.taken {
            wait_for(&self.poller, &mut events, budget.wait(self.plan.patience))?;
            let now = Instant::now();
            budget.look_at(now);
            for event in &events {
                let (flags, slot) = (event.flags, event.data.u64() as usize);
                if self.advance(slot, flags)? {
                    last = Instant::now();
                    // Dropping the visit closes its socket.
                    if let Some(visit) = self.slots[slot].take() {
                        report.record(last - visit.begun);
                    }
                    self.open(slot, &mut budget, last)?;
                }
            }
            if now.saturating_duration_since(last) > self.plan.patience {
                return Err(Error::Stalled(self.plan.patience));
            }
        }
        report.elapsed = last - started;
        Ok(report)
    }

    fn open(&mut self, slot: usize, budget: &mut Budget, now: Instant) -> Result<(), Error> {
        if budget.take(1) == 0 {
            return Ok(());
        }
        let mut visit = Visit {
            fd: socket::connect(self.plan.target, source(&self.plan, self.opened))?,
            number: self.opened,
            begun: now,
            sent: 0,
            received: 0,
        };
        self.opened += 1;
        visit.push(&self.plan, &self.pattern)?;
        let unsent = visit.sent < self.plan.size as u64;
        socket::watch(&self.poller, &visit.fd, slot, unsent)?;
        self.slots[slot] = Some(visit);
        Ok(())
    }

    /// Moves what can be moved; true when the message is wholly back.
    fn advance(&mut self, slot: usize, flags: epoll::EventFlags) -> Result<bool, Error> {
        let Some(visit) = &mut self.slots[slot] else {
            return Ok(false);
        };
        visit.push(&self.plan, &self.pattern)?;
        if flags.intersects(epoll::EventFlags::IN | hung_up()) {
            while visit.received < self.plan.size as u64
                && visit.pull(&self.plan, &self.pattern, &mut self.buffer)?
            {}
        }
        Ok(visit.received == self.plan.size as u64)
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
                Err(errno) => return Err(Error::system("send")(errno)),
            }
        }
        Ok(())
    }

    /// Receives once; false when nothing has come.
    fn pull(&mut self, plan: &Plan, pattern: &Pattern, buffer: &mut [u8]) -> Result<bool, Error> {
        let connection = self.number;
        let discard = !plan.verify;
        let Some(n) = socket::recv(&self.fd, buffer, discard).map_err(Error::system("recv"))?
        else {
            return Ok(false);
        };
        if n == 0 {
            return Err(Error::Closed { connection });
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
}
