//! Connections that stay: each keeps a number of messages in flight and sends one for each that
//! comes back. Echo of small messages, pipelining and streams of large messages are all this.
//!
//! The rule: whatever is ready on a connection moves in one `recv` and one `send`, and a short read
//! is not followed by another. All offsets count bytes since the connection was opened, so what was
//! sent, what came back and what may still be sent are three numbers and no state.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};

use crate::pattern::Pattern;
use crate::{Budget, Error, Plan, Report, Until, socket, source};

const READ_SIZE: usize = 1 << 20;

/// All connections of a steady load.
#[derive(Debug)]
pub(crate) struct Steady {
    plan: Plan,
    poller: OwnedFd,
    connections: Vec<Connection>,
    pattern: Pattern,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Connection {
    fd: OwnedFd,
    index: usize,
    /// Bytes of all messages that were begun, of those the bytes the kernel has taken, and the
    /// bytes that came back: issued >= sent >= received.
    issued: u64,
    sent: u64,
    received: u64,
    /// When each message in flight was begun, oldest first.
    begun: VecDeque<Instant>,
}

impl Steady {
    pub(crate) fn connect(plan: Plan) -> Result<Steady, Error> {
        let poller =
            epoll::create(epoll::CreateFlags::CLOEXEC).map_err(Error::system("epoll_create1"))?;
        let mut connections = Vec::with_capacity(plan.connections);
        for index in 0..plan.connections {
            let fd = socket::connect(plan.target, source(&plan, index))?;
            socket::watch(&poller, &fd, index, true)?;
            connections.push(Connection {
                fd,
                index,
                issued: 0,
                sent: 0,
                received: 0,
                begun: VecDeque::with_capacity(plan.depth),
            });
        }
        Ok(Steady {
            poller,
            connections,
            pattern: Pattern::new(&plan),
            buffer: vec![0; READ_SIZE],
            plan,
        })
    }

    pub(crate) fn run(&mut self, until: Until) -> Result<Report, Error> {
        let started = Instant::now();
        let mut report = Report::new();
        let mut budget = Budget::new(until, started);
        for connection in &mut self.connections {
            let taken = budget.take(self.plan.depth as u64);
            connection.begin(taken, self.plan.size, started);
            connection.push(&self.pattern)?;
        }

        let mut events = Vec::with_capacity(1024);
        let mut last = started;
        while report.messages < budget.taken {
            wait_for(&self.poller, &mut events, budget.wait(self.plan.patience))?;
            let now = Instant::now();
            budget.look_at(now);
            for event in &events {
                let (flags, i) = (event.flags, event.data.u64() as usize);
                let connection = &mut self.connections[i];
                if flags.intersects(epoll::EventFlags::IN | hung_up()) {
                    let mut more = true;
                    while more {
                        let n = connection.pull(&self.plan, &self.pattern, &mut self.buffer)?;
                        more = n == READ_SIZE || (n > 0 && flags.intersects(hung_up()));
                        last = Instant::now();
                        let done = connection.complete(self.plan.size, last, &mut report);
                        connection.begin(budget.take(done), self.plan.size, last);
                    }
                }
                connection.push(&self.pattern)?;
            }
            if now.saturating_duration_since(last) > self.plan.patience {
                return Err(Error::Stalled(self.plan.patience));
            }
        }
        report.elapsed = last - started;
        Ok(report)
    }
}

impl Connection {
    fn begin(&mut self, messages: u64, size: usize, now: Instant) {
        self.issued += messages * size as u64;
        self.begun.extend((0..messages).map(|_| now));
    }

    fn push(&mut self, pattern: &Pattern) -> Result<(), Error> {
        while self.sent < self.issued {
            let bytes = pattern.slice(self.index, self.sent, self.issued - self.sent);
            match socket::send(&self.fd, bytes).map_err(Error::system("send"))? {
                Some(n) => self.sent += n as u64,
                None => break,
            }
        }
        Ok(())
    }

    /// Receives once; how many bytes, 0 when none have come.
    fn pull(&mut self, plan: &Plan, pattern: &Pattern, buffer: &mut [u8]) -> Result<usize, Error> {
        let connection = self.index;
        let discard = !plan.verify;
        let Some(n) = socket::recv(&self.fd, buffer, discard).map_err(Error::system("recv"))?
        else {
            return Ok(0);
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
        Ok(n)
    }

    /// Records the messages that are wholly back; their number.
    fn complete(&mut self, size: usize, now: Instant, report: &mut Report) -> u64 {
        let open = (self.issued - self.received).div_ceil(size as u64) as usize;
        let done = self.begun.len() - open;
        for begun in self.begun.drain(..done) {
            report.record(now - begun);
        }
        done as u64
    }
}

pub(crate) fn hung_up() -> epoll::EventFlags {
    epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR
}

/// Waits for events; none when the time is over or a signal came.
pub(crate) fn wait_for(
    poller: &OwnedFd,
    events: &mut Vec<epoll::Event>,
    time: Duration,
) -> Result<(), Error> {
    let time = Timespec {
        tv_sec: time.as_secs() as i64,
        tv_nsec: i64::from(time.subsec_nanos()),
    };
    events.clear();
    match epoll::wait(poller, rustix::buffer::spare_capacity(events), Some(&time)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(Error::system("epoll_wait")(errno)),
    }
}
