//! Connections that stay: each keeps a number of messages in flight and sends one for each that
//! comes back. Echo of small messages, pipelining and streams of large messages are all this.
//!
//! The rule: whatever is ready on a connection moves in one `recv` and one `send`, and a short read
//! is not followed by another. All offsets count bytes since the connection was opened, so what was
//! sent, what came back and what may still be sent are three numbers and no state.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;

use rustix::event::epoll;

use crate::course::{Course, Watch};
use crate::pattern::Pattern;
use crate::{Cause, Error, Failed, Plan, Report, Until, socket};

const READ_SIZE: usize = 1 << 20;

/// All connections of a steady load.
#[derive(Debug)]
pub(crate) struct Steady {
    plan: Plan,
    poller: OwnedFd,
    /// `None` is one that has failed.
    connections: Vec<Option<Connection>>,
    /// Those that could not even begin to connect, for the next report.
    stillborn: BTreeMap<usize, Cause>,
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
    /// When each message in flight was begun, in nanoseconds of this run, oldest first.
    begun: VecDeque<u64>,
}

impl Steady {
    pub(crate) fn connect(plan: Plan) -> Result<Steady, Error> {
        let poller =
            epoll::create(epoll::CreateFlags::CLOEXEC).map_err(Error::system("epoll_create1"))?;
        let mut steady = Steady {
            poller,
            connections: Vec::with_capacity(plan.connections),
            stillborn: BTreeMap::new(),
            pattern: Pattern::new(&plan),
            buffer: vec![0; READ_SIZE],
            plan,
        };
        for index in 0..steady.plan.connections {
            let connection = match socket::connect(&steady.plan, index) {
                Ok(fd) => Some(Connection::new(fd, index, &steady)?),
                Err(Error::Connection { cause, .. }) if steady.plan.keep_going => {
                    steady.stillborn.insert(index, cause);
                    None
                }
                Err(error) => return Err(error),
            };
            steady.connections.push(connection);
        }
        Ok(steady)
    }

    pub(crate) fn run(&mut self, until: Until, watch: Watch<'_>) -> Result<Report, Failed> {
        let mut course = Course::new(&self.plan, until, watch);
        let outcome = self.drive(&mut course);
        let alive = self.connections.iter().any(Option::is_some);
        course.finish(outcome, alive)
    }

    fn drive(&mut self, course: &mut Course<'_>) -> Result<(), Error> {
        for (index, cause) in std::mem::take(&mut self.stillborn) {
            course.lose(index, cause, 0);
        }
        for connection in self.connections.iter_mut().flatten() {
            let taken = course.take(self.plan.depth as u64);
            connection.begin(taken, self.plan.size, 0);
        }
        for i in 0..self.connections.len() {
            self.advance(i, epoll::EventFlags::OUT, course)?;
        }

        let mut events = Vec::with_capacity(1024);
        while course.goes_on() {
            course.wait(&self.poller, &mut events)?;
            for event in &events {
                self.advance(event.data.u64() as usize, event.flags, course)?;
            }
            if course.is_silent() {
                self.give_up(course);
            }
        }
        Ok(())
    }

    /// Moves what is ready on a connection, which may be its end.
    fn advance(
        &mut self,
        i: usize,
        flags: epoll::EventFlags,
        course: &mut Course<'_>,
    ) -> Result<(), Error> {
        let Some(connection) = &mut self.connections[i] else {
            return Ok(());
        };
        let mut moved = || -> Result<(), Error> {
            if flags.intersects(epoll::EventFlags::IN | socket::hung_up()) {
                let mut more = true;
                while more {
                    let n = connection.pull(&self.plan, &self.pattern, &mut self.buffer)?;
                    more = n == READ_SIZE || (n > 0 && flags.intersects(socket::hung_up()));
                    let now = course.came_back();
                    let done = connection.complete(self.plan.size, now, course);
                    connection.begin(course.take(done), self.plan.size, now);
                }
            }
            connection.push(&self.pattern)
        };
        match moved() {
            Err(Error::Connection { cause, .. }) => {
                course.lose(i, cause, connection.begun.len() as u64);
                self.connections[i] = None;
                Ok(())
            }
            other => other,
        }
    }

    /// Ends every connection that still waits for an answer.
    fn give_up(&mut self, course: &mut Course<'_>) {
        for (i, slot) in self.connections.iter_mut().enumerate() {
            let waiting = slot.as_ref().map_or(0, |c| c.begun.len());
            if waiting > 0 {
                course.lose(i, Cause::Silent, waiting as u64);
                *slot = None;
            }
        }
    }
}

impl Connection {
    fn new(fd: OwnedFd, index: usize, steady: &Steady) -> Result<Connection, Error> {
        socket::watch(&steady.poller, &fd, index, true)?;
        Ok(Connection {
            fd,
            index,
            issued: 0,
            sent: 0,
            received: 0,
            begun: VecDeque::with_capacity(steady.plan.depth),
        })
    }

    fn begin(&mut self, messages: u64, size: usize, now: u64) {
        self.issued += messages * size as u64;
        for _ in 0..messages {
            self.begun.push_back(now);
        }
    }

    fn push(&mut self, pattern: &Pattern) -> Result<(), Error> {
        while self.sent < self.issued {
            let bytes = pattern.slice(self.index, self.sent, self.issued - self.sent);
            match socket::send(&self.fd, bytes) {
                Ok(Some(n)) => self.sent += n as u64,
                Ok(None) => break,
                Err(errno) => return Err(self.refused("send", errno)),
            }
        }
        Ok(())
    }

    /// Receives once; how many bytes, 0 when none have come.
    fn pull(&mut self, plan: &Plan, pattern: &Pattern, buffer: &mut [u8]) -> Result<usize, Error> {
        let connection = self.index;
        let n = match socket::recv(&self.fd, buffer, !plan.verify) {
            Ok(Some(n)) => n,
            Ok(None) => return Ok(0),
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
        Ok(n)
    }

    /// Records the messages that are wholly back; their number.
    fn complete(&mut self, size: usize, now: u64, course: &mut Course<'_>) -> u64 {
        let missing = self.issued - self.received;
        let open = match missing {
            0 => 0, // Most often; a division costs.
            _ => missing.div_ceil(size as u64) as usize,
        };
        let mut done = 0;
        while self.begun.len() > open
            && let Some(begun) = self.begun.pop_front()
        {
            course.report.record(now - begun);
            done += 1;
        }
        done
    }

    /// The first call after a connect that failed tells its error.
    fn refused(&self, doing: &'static str, errno: rustix::io::Errno) -> Error {
        let doing = if self.sent == 0 { "connect" } else { doing };
        Error::Connection {
            connection: self.index,
            cause: Cause::system(doing, errno),
        }
    }
}
