//! One client on one connection, acting out its [`Manners`].
//!
//! The rule: all that a visit does is in [`Visit::advance`], which is called when its socket is ready
//! or its next time has come, does what is then possible without waiting, and says whether and how
//! the visit has ended. Pieces are timed from when they were due, not from when they could be sent, so
//! a server that stalls is not spared the messages that would have come meanwhile.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use nix::sys::socket::{setsockopt, sockopt::TcpRepair};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{self, Shutdown, sockopt};

use super::manners::{Manners, Read, Then};
use crate::pattern::Pattern;
use crate::socket::{self, hung_up};
use crate::{Cause, Error};

/// How a visit has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As its manners have it.
    Done,
    /// The server, or the system, ended it before; [`Cause::Silent`]: it took too long.
    Cut(Cause),
}

impl Ending {
    fn failed(doing: &'static str) -> impl Fn(Errno) -> Ending {
        move |errno| Ending::Cut(Cause::system(doing, errno))
    }
}

#[derive(Debug)]
pub(crate) struct Visit {
    fd: OwnedFd,
    manners: Manners,
    /// Names its stream of bytes.
    pub(crate) number: usize,
    pub(crate) born: Instant,
    /// When it is on the agenda.
    pub(crate) planned: Option<Instant>,
    gives_up: Option<Instant>,
    /// Bytes that were due so far, those that the kernel has taken, those that came back.
    issued: u64,
    sent: u64,
    pub(crate) received: u64,
    next_piece: Instant,
    next_sip: Instant,
    finished: bool,
    vanishes_by_silence: bool,
    /// Where each piece that is not wholly back ends, and when it was due.
    pending: VecDeque<(u64, Instant)>,
}

/// What all visits share.
pub(crate) struct Shared<'a> {
    pub(crate) pattern: &'a Pattern,
    pub(crate) buffer: &'a mut [u8],
    pub(crate) latency: &'a mut Histogram<u64>,
}

impl Visit {
    pub(crate) fn new(
        fd: OwnedFd,
        manners: Manners,
        number: usize,
        now: Instant,
        patience: Duration,
    ) -> Visit {
        Visit {
            fd,
            number,
            born: now,
            planned: None,
            gives_up: (manners.then != Then::Stay).then(|| now + patience),
            issued: 0,
            sent: 0,
            received: 0,
            next_piece: now + manners.every.mul_f64(phase(number)),
            next_sip: now,
            finished: false,
            vanishes_by_silence: false,
            pending: VecDeque::new(),
            manners,
        }
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Whether it would still be there if nobody ended it.
    pub(crate) fn stays(&self) -> bool {
        self.manners.then == Then::Stay || self.vanishes_by_silence
    }

    /// Sends no more than what was due so far.
    pub(crate) fn send_no_more(&mut self) {
        self.manners.send = self.issued;
    }

    /// When it has something to do though its socket is not ready.
    pub(crate) fn wakes_at(&self) -> Option<Instant> {
        let piece = (self.issued < self.manners.send).then_some(self.next_piece);
        let sip = matches!(self.manners.read, Read::Sips(_)).then_some(self.next_sip);
        [piece, sip, self.gives_up].into_iter().flatten().min()
    }

    /// Does all that can be done now; `None` while it goes on.
    pub(crate) fn advance(
        &mut self,
        flags: EventFlags,
        now: Instant,
        shared: &mut Shared<'_>,
    ) -> Result<Option<Ending>, Error> {
        if let Some(ending) = self.read(flags, now, shared)? {
            return Ok(Some(ending));
        }
        self.issue(now);
        if let Err(errno) = self.send(shared.pattern) {
            return Ok(Some(Ending::failed("send")(errno)));
        }
        if self.sent == self.manners.send
            && let Some(ending) = self.go()
        {
            return Ok(Some(ending));
        }
        let late = self.gives_up.is_some_and(|at| now >= at);
        Ok(late.then_some(Ending::Cut(Cause::Silent)))
    }

    fn read(
        &mut self,
        flags: EventFlags,
        now: Instant,
        shared: &mut Shared<'_>,
    ) -> Result<Option<Ending>, Error> {
        match self.manners.read {
            Read::All if flags.intersects(EventFlags::IN | hung_up()) => loop {
                match self.receive(usize::MAX, shared)? {
                    Ok(Some(0)) => return Ok(Some(self.end_of_stream())),
                    Ok(Some(_)) => self.complete(shared.latency),
                    Ok(None) => return Ok(None),
                    Err(errno) => return Ok(Some(Ending::failed("recv")(errno))),
                }
            },
            Read::All => return Ok(None),
            Read::Sips(pause) if now >= self.next_sip => {
                self.next_sip = now + pause;
                if let Err(errno) = self.receive(1, shared)? {
                    return Ok(Some(Ending::failed("recv")(errno)));
                }
            }
            Read::Sips(_) | Read::Nothing => {}
        }
        if !flags.intersects(hung_up()) {
            return Ok(None);
        }
        Ok(match sockopt::socket_error(&self.fd) {
            Ok(Ok(())) => Some(Ending::Cut(Cause::Closed)),
            Ok(Err(errno)) | Err(errno) => Some(Ending::failed("recv")(errno)),
        })
    }

    /// Receives once and compares; how many bytes, `None` when none have come.
    fn receive(
        &mut self,
        most: usize,
        shared: &mut Shared<'_>,
    ) -> Result<Result<Option<usize>, Errno>, Error> {
        let most = most.min(shared.buffer.len());
        let n = match socket::recv(&self.fd, &mut shared.buffer[..most], false) {
            // ENOTCONN: the connect is under way.
            Ok(None) | Err(Errno::NOTCONN) => return Ok(Ok(None)),
            Ok(Some(n)) => n,
            Err(errno) => return Ok(Err(errno)),
        };
        if self.received + n as u64 > self.sent {
            return Err(Error::TooMany {
                connection: self.number,
            });
        }
        let found = &shared.buffer[..n];
        shared.pattern.check(self.number, self.received, found)?;
        self.received += n as u64;
        Ok(Ok(Some(n)))
    }

    fn end_of_stream(&self) -> Ending {
        match self.finished && self.received == self.sent {
            true => Ending::Done,
            false => Ending::Cut(Cause::Closed),
        }
    }

    /// Records the pieces that are wholly back.
    fn complete(&mut self, latency: &mut Histogram<u64>) {
        while let Some((end, due)) = self.pending.front()
            && *end <= self.received
        {
            latency.saturating_record(due.elapsed().as_nanos() as u64);
            self.pending.pop_front();
        }
    }

    fn issue(&mut self, now: Instant) {
        while self.issued < self.manners.send && self.next_piece <= now {
            let left = self.manners.send - self.issued;
            let piece = match self.manners.every.is_zero() {
                true => left,
                false => left.min(self.manners.piece as u64),
            };
            self.issued += piece;
            if self.manners.read == Read::All {
                self.pending.push_back((self.issued, self.next_piece));
            }
            self.next_piece += self.manners.every;
        }
    }

    fn send(&mut self, pattern: &Pattern) -> Result<(), Errno> {
        while self.sent < self.issued {
            let wanted = (self.issued - self.sent).min(self.manners.piece as u64);
            let bytes = pattern.slice(self.number, self.sent, wanted);
            match socket::send(&self.fd, bytes) {
                Ok(Some(n)) => self.sent += n as u64,
                Ok(None) | Err(Errno::NOTCONN) => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// All is sent: goes, if it is time to.
    fn go(&mut self) -> Option<Ending> {
        let back = self.manners.read != Read::All || self.received == self.sent;
        match self.manners.then {
            Then::Finish => {
                if !self.finished {
                    self.finished = true;
                    if let Err(errno) = net::shutdown(&self.fd, Shutdown::Write) {
                        return Some(Ending::failed("shutdown")(errno));
                    }
                }
                None
            }
            Then::Stay => None,
            _ if !back => None,
            Then::Close => Some(Ending::Done),
            Then::Reset => {
                let reset = sockopt::set_socket_linger(&self.fd, Some(Duration::ZERO));
                Some(reset.map_or_else(Ending::failed("setsockopt SO_LINGER"), |()| Ending::Done))
            }
            Then::Vanish => self.vanish(),
        }
    }

    /// tcp(7) says nothing of it, but close(2) on a socket under TCP_REPAIR sends nothing.
    fn vanish(&mut self) -> Option<Ending> {
        if self.vanishes_by_silence {
            return None;
        }
        if setsockopt(&self.fd, TcpRepair, &1).is_ok() {
            return Some(Ending::Done);
        }
        self.vanishes_by_silence = true;
        self.gives_up = None;
        None
    }
}

/// Which part of its period a client lets pass before its first piece, so that those who come together
/// do not go on speaking together: multiples of the golden ratio are spread evenly, however many.
fn phase(number: usize) -> f64 {
    (number as f64 * 0.618_033_988_749_895).fract()
}
