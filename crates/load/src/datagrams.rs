//! UDP: each socket keeps a number of datagrams in flight, and one that is not back in time is lost.
//!
//! The rule: datagrams may be lost, doubled and come in any order, so each begins with its number (as
//! many of its 8 bytes as fit), and only one that is in flight counts. A lost one is counted and
//! another takes its place; one that comes back after all, or twice, is passed over. Its length is
//! checked always, its other bytes with [`Plan::verify`].

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::io::Errno;

use crate::course::{Course, Watch};
use crate::pattern::Pattern;
use crate::{Cause, Error, Failed, Plan, Report, Until, socket};

/// A datagram that is not back after this time is lost.
const LOST_AFTER: Duration = Duration::from_secs(1);

/// All sockets of a load over UDP.
#[derive(Debug)]
pub(crate) struct Datagrams {
    plan: Plan,
    poller: OwnedFd,
    /// `None` is one that has failed.
    sockets: Vec<Option<Socket>>,
    pattern: Pattern,
    /// The datagram to be sent, or to compare with.
    wanted: Vec<u8>,
    /// The one that came; a byte longer, to see what is too long.
    found: Vec<u8>,
}

#[derive(Debug)]
struct Socket {
    fd: OwnedFd,
    index: usize,
    /// The number of the next datagram.
    next: u64,
    /// How many more may be sent, once the kernel takes them.
    allowed: u64,
    /// Number of each in flight, and when it was sent, oldest first.
    flight: VecDeque<(u64, Instant)>,
}

impl Datagrams {
    pub(crate) fn open(plan: Plan) -> Result<Datagrams, Error> {
        let poller =
            epoll::create(epoll::CreateFlags::CLOEXEC).map_err(Error::system("epoll_create1"))?;
        let mut sockets = Vec::with_capacity(plan.connections);
        for index in 0..plan.connections {
            let fd = socket::connect(&plan, index)?;
            socket::watch(&poller, &fd, index, true)?;
            sockets.push(Some(Socket {
                fd,
                index,
                next: 0,
                allowed: 0,
                flight: VecDeque::with_capacity(plan.depth),
            }));
        }
        let pattern = Pattern::new(&plan);
        Ok(Datagrams {
            poller,
            sockets,
            wanted: pattern.slice(0, 0, plan.size as u64).to_vec(),
            found: vec![0; if plan.verify { plan.size + 1 } else { 8 }],
            pattern,
            plan,
        })
    }

    pub(crate) fn run(&mut self, until: Until, watch: Watch<'_>) -> Result<Report, Failed> {
        let mut course = Course::new(&self.plan, until, watch);
        let mut outcome = self.drive(&mut course);
        if outcome.is_ok() && course.report.messages == 0 && course.report.lost > 0 {
            outcome = Err(Error::Connection {
                connection: 0,
                cause: Cause::Silent,
            });
        }
        let alive = self.sockets.iter().any(Option::is_some);
        course.finish(outcome, alive)
    }

    fn drive(&mut self, course: &mut Course<'_>) -> Result<(), Error> {
        for socket in self.sockets.iter_mut().flatten() {
            socket.allowed = course.take(self.plan.depth as u64);
        }
        for i in 0..self.sockets.len() {
            self.advance(i, epoll::EventFlags::OUT, course)?;
        }
        let mut events = Vec::with_capacity(1024);
        let mut swept = course.started();
        while course.goes_on() {
            let now = course.wait(&self.poller, &mut events)?;
            for event in &events {
                self.advance(event.data.u64() as usize, event.flags, course)?;
            }
            if course.is_silent() {
                self.give_up(course);
            } else if now - swept > LOST_AFTER / 10 {
                swept = now;
                self.sweep(now, course)?;
            }
        }
        Ok(())
    }

    /// Receives all that has come on a socket and sends what may be sent.
    fn advance(
        &mut self,
        i: usize,
        flags: epoll::EventFlags,
        course: &mut Course<'_>,
    ) -> Result<(), Error> {
        let moved = if flags.intersects(epoll::EventFlags::IN | socket::hung_up()) {
            self.pull(i, course)
        } else {
            Ok(())
        };
        match moved.and_then(|()| self.push(i)) {
            Err(Error::Connection { cause, .. }) => {
                let socket = self.sockets[i].take();
                let waiting = socket.map_or(0, |s| s.flight.len() as u64 + s.allowed);
                course.lose(i, cause, waiting);
                Ok(())
            }
            other => other,
        }
    }

    fn push(&mut self, i: usize) -> Result<(), Error> {
        let Some(socket) = &mut self.sockets[i] else {
            return Ok(());
        };
        while socket.allowed > 0 {
            compose(&mut self.wanted, &self.pattern, &self.plan, i, socket.next);
            match socket::send(&socket.fd, &self.wanted) {
                Ok(Some(_)) => {
                    socket.flight.push_back((socket.next, Instant::now()));
                    socket.next += 1;
                    socket.allowed -= 1;
                }
                Ok(None) => break,
                Err(errno) => return Err(socket.refused("send", errno)),
            }
        }
        Ok(())
    }

    /// Receives until nothing is left or nothing more is expected.
    fn pull(&mut self, i: usize, course: &mut Course<'_>) -> Result<(), Error> {
        let Some(socket) = &mut self.sockets[i] else {
            return Ok(());
        };
        loop {
            let n = match socket::recv(&socket.fd, &mut self.found, true) {
                Ok(Some(n)) => n,
                Ok(None) => return Ok(()),
                Err(errno) => return Err(socket.refused("recv", errno)),
            };
            if n != self.plan.size {
                return Err(Error::WrongLength {
                    connection: i,
                    sent: self.plan.size,
                    found: n,
                });
            }
            let width = n.min(8);
            let Some(place) = socket
                .flight
                .iter()
                .position(|(number, _)| number.to_le_bytes()[..width] == self.found[..width])
            else {
                socket.pass_over(&self.found[..width])?;
                continue;
            };
            let Some((number, begun)) = socket.flight.remove(place) else {
                continue;
            };
            if self.plan.verify {
                compose(&mut self.wanted, &self.pattern, &self.plan, i, number);
                compare(&self.wanted, &self.found[..n], i, number)?;
            }
            course.came_back();
            course
                .report
                .record((course.last - begun).as_nanos() as u64);
            socket.allowed += course.take(1);
            if socket.flight.is_empty() {
                return Ok(());
            }
        }
    }

    /// Counts those that are not back in time, and sends others.
    fn sweep(&mut self, now: Instant, course: &mut Course<'_>) -> Result<(), Error> {
        for i in 0..self.sockets.len() {
            let Some(socket) = &mut self.sockets[i] else {
                continue;
            };
            let old =
                |(_, begun): &(u64, Instant)| now.saturating_duration_since(*begun) > LOST_AFTER;
            while socket.flight.front().is_some_and(old) {
                socket.flight.pop_front();
                course.report.lost += 1;
                socket.allowed += course.take(1);
            }
            self.advance(i, epoll::EventFlags::OUT, course)?;
        }
        Ok(())
    }

    /// Ends every socket that still waits for an answer.
    fn give_up(&mut self, course: &mut Course<'_>) {
        for (i, slot) in self.sockets.iter_mut().enumerate() {
            let waiting = slot
                .as_ref()
                .map_or(0, |s| s.flight.len() as u64 + s.allowed);
            if waiting > 0 {
                course.lose(i, Cause::Silent, waiting);
                *slot = None;
            }
        }
    }
}

impl Socket {
    /// What came is not in flight: an old one, late or doubled, is passed over, all else is wrong.
    fn pass_over(&self, found: &[u8]) -> Result<(), Error> {
        let (connection, width) = (self.index, found.len());
        let mut number = [0; 8];
        number[..width].copy_from_slice(found);
        // Short numbers wrap, so nothing can be said of them once they have.
        let wrapped = width < 8 && self.next >> (8 * width) > 0;
        if wrapped || u64::from_le_bytes(number) < self.next {
            return Ok(());
        }
        match self.flight.front() {
            Some((sent, _)) => compare(&sent.to_le_bytes()[..width], found, connection, *sent),
            None => Err(Error::TooMany { connection }),
        }
    }

    fn refused(&self, doing: &'static str, errno: Errno) -> Error {
        Error::Connection {
            connection: self.index,
            cause: Cause::system(doing, errno),
        }
    }
}

/// The datagram of this number, in place of the one before.
fn compose(datagram: &mut [u8], pattern: &Pattern, plan: &Plan, index: usize, number: u64) {
    let (size, width) = (datagram.len(), datagram.len().min(8));
    if plan.verify {
        let offset = number * size as u64;
        datagram.copy_from_slice(pattern.slice(index, offset, size as u64));
    }
    datagram[..width].copy_from_slice(&number.to_le_bytes()[..width]);
}

fn compare(sent: &[u8], found: &[u8], connection: usize, number: u64) -> Result<(), Error> {
    match sent.iter().zip(found).position(|(s, f)| s != f) {
        None => Ok(()),
        Some(i) => Err(Error::WrongByte {
            connection,
            offset: number * sent.len() as u64 + i as u64,
            sent: sent[i],
            found: found[i],
        }),
    }
}
