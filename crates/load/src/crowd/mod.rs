//! Crowds: parties of clients of all manners, driven from one thread against one server.
//!
//! A [`Party`] says who comes, how many at a time and how fast; [`Crowd::run`] drives all of them for a
//! time, and goes on where it stopped when it is called again; a [`Tally`] says what became of them.
//!
//! The rule: what the server does to a client is counted and judged by nobody here, for to be cut off
//! is right for some and wrong for others. Only a wrong byte is an error, whoever received it.

mod manners;
#[cfg(test)]
mod tests;
mod visit;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use crate::pattern::Pattern;
use crate::{Cause, Error, Plan, socket};
pub use manners::{Kind, Manners, Read, Then};
use visit::{Ending, Shared, Visit};

const READ_SIZE: usize = 64 * 1024;

/// Clients of one kind.
#[derive(Debug, Clone)]
pub struct Party {
    /// The server, and the addresses they come from: `target` and `sources` of the plan.
    pub plan: Plan,
    /// How each behaves.
    pub manners: Manners,
    /// How many there are at a time; one that has ended is followed by another.
    pub at_once: usize,
    /// How many come in a second, evenly.
    pub per_second: f64,
    /// How many come in all.
    pub total: u64,
    /// How long one that goes by itself may take.
    pub patience: Duration,
    /// SO_RCVBUF and SO_SNDBUF of each, in bytes: how much of what is on its way is in the kernel on
    /// their side.
    pub buffers: Option<usize>,
}

/// What became of a party.
#[derive(Debug, Clone)]
pub struct Tally {
    /// Connections that were begun.
    pub opened: u64,
    /// Of these: those that came to the end they wanted.
    pub done: u64,
    /// Those that the server or the system ended before, by what they saw of it;
    /// [`Cause::Silent`]: those that did not come to their end in time.
    pub cut: BTreeMap<Cause, u64>,
    /// Those that are there now.
    pub open: u64,
    /// Bytes that came back, all of them right.
    pub received: u64,
    /// Nanoseconds from when a piece was due until it was back.
    pub latency: Histogram<u64>,
    /// Milliseconds from the connect to the end of those whom the server ended.
    pub ages: Histogram<u64>,
}

impl Tally {
    fn new() -> Tally {
        // Bounds that the constructor accepts: 1 <= low, 2 * low <= high, 3 <= 5.
        let histogram = |high| Histogram::new_with_bounds(1, high, 3).expect("constant bounds");
        Tally {
            opened: 0,
            done: 0,
            cut: BTreeMap::new(),
            open: 0,
            received: 0,
            latency: histogram(120_000_000_000),
            ages: histogram(3_600_000),
        }
    }

    /// How many did not come to the end they wanted.
    #[must_use]
    pub fn all_cut(&self) -> u64 {
        self.cut.values().sum()
    }

    fn note(&mut self, ending: Ending, age: Duration) {
        let Ending::Cut(cause) = ending else {
            self.done += 1;
            return;
        };
        *self.cut.entry(cause).or_default() += 1;
        if cause != Cause::Silent {
            self.ages.saturating_record(age.as_millis() as u64);
        }
    }
}

/// All parties, and their clients.
#[derive(Debug)]
pub struct Crowd {
    poller: OwnedFd,
    alarm: OwnedFd,
    parties: Vec<Guests>,
    visits: Vec<Option<(usize, Visit)>>,
    free: Vec<usize>,
    /// When a visit, by its token, has something to do; also times that have passed by.
    agenda: BinaryHeap<Reverse<(Instant, u64)>>,
    opened: usize,
    pattern: Pattern,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Guests {
    party: Party,
    tally: Tally,
    next: Instant,
}

impl Crowd {
    /// Nobody.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn new() -> Result<Crowd, Error> {
        let poller =
            epoll::create(epoll::CreateFlags::CLOEXEC).map_err(Error::system("epoll_create1"))?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let alarm = timerfd_create(TimerfdClockId::Monotonic, flags)
            .map_err(Error::system("timerfd_create"))?;
        let edges = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&poller, &alarm, epoll::EventData::new_u64(ALARM), edges)
            .map_err(Error::system("epoll_ctl"))?;
        Ok(Crowd {
            poller,
            alarm,
            parties: Vec::new(),
            visits: Vec::new(),
            free: Vec::new(),
            agenda: BinaryHeap::new(),
            opened: 0,
            pattern: Pattern::of_slices(READ_SIZE, true),
            buffer: vec![0; READ_SIZE],
        })
    }

    /// Adds a party, which begins to come with the next run; its number, counted from 0.
    pub fn invite(&mut self, party: Party) -> usize {
        self.parties.push(Guests {
            party,
            tally: Tally::new(),
            next: Instant::now(),
        });
        self.parties.len() - 1
    }

    /// Nobody comes any more, and nobody sends what was not due yet.
    pub fn dismiss(&mut self) {
        for guests in &mut self.parties {
            guests.party.total = 0;
        }
        for (_, visit) in self.visits.iter_mut().flatten() {
            visit.send_no_more();
        }
    }

    /// Closes those that only the server would end.
    pub fn send_home(&mut self) {
        for slot in 0..self.visits.len() {
            if self.visits[slot].as_ref().is_some_and(|(_, v)| v.stays()) {
                self.leave(slot, Ending::Done);
            }
        }
    }

    /// How many clients are there now.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.parties.iter().map(|guests| guests.tally.open).sum()
    }

    /// What became of a party so far.
    #[must_use]
    pub fn tally(&self, party: usize) -> &Tally {
        &self.parties[party].tally
    }

    /// What became of a party since this was asked last.
    pub fn take_tally(&mut self, party: usize) -> Tally {
        let guests = &mut self.parties[party];
        let fresh = Tally {
            open: guests.tally.open,
            ..Tally::new()
        };
        std::mem::replace(&mut guests.tally, fresh)
    }

    /// Drives all of them for so long.
    ///
    /// # Errors
    /// [`Error::WrongByte`], [`Error::TooMany`]; [`Error::System`] when the load itself can't go on.
    pub fn run(&mut self, time: Duration) -> Result<(), Error> {
        let ends = Instant::now() + time;
        let mut events = Vec::with_capacity(1024);
        loop {
            let now = Instant::now();
            if now >= ends {
                return Ok(());
            }
            let next_comes = self.let_in(now)?;
            let next_wakes = self.agenda.peek().map(|Reverse((at, _))| *at);
            let until = [next_comes, next_wakes].into_iter().flatten().min();
            let wait = until.unwrap_or(ends).min(ends);
            let wait = wait.saturating_duration_since(Instant::now());
            wait_for(&self.poller, &self.alarm, &mut events, wait)?;
            for event in &events {
                self.advance(event.data.u64(), event.flags)?;
            }
            let now = Instant::now();
            while let Some(Reverse((at, token))) = self.agenda.peek().copied()
                && at <= now
            {
                self.agenda.pop();
                self.advance(token, epoll::EventFlags::empty())?;
            }
        }
    }

    /// Opens the connections whose time has come; when the next one's does.
    fn let_in(&mut self, now: Instant) -> Result<Option<Instant>, Error> {
        let mut earliest: Option<Instant> = None;
        for index in 0..self.parties.len() {
            loop {
                let Guests { party, tally, next } = &mut self.parties[index];
                if party.total == 0 || tally.open >= party.at_once as u64 {
                    break;
                }
                // Who was held up for long does not come in a heap.
                *next = (*next).max(now.checked_sub(Duration::from_millis(100)).unwrap_or(now));
                if *next > now {
                    earliest = Some(earliest.map_or(*next, |at| at.min(*next)));
                    break;
                }
                *next += Duration::from_secs_f64(1.0 / party.per_second);
                party.total -= 1;
                tally.opened += 1;
                self.open_one(index)?;
            }
        }
        Ok(earliest)
    }

    fn open_one(&mut self, index: usize) -> Result<(), Error> {
        let number = self.opened;
        self.opened += 1;
        let Guests { party, tally, .. } = &mut self.parties[index];
        let fd = match socket::connect(&party.plan, number) {
            Ok(fd) => fd,
            Err(Error::Connection { cause, .. }) => {
                tally.note(Ending::Cut(cause), Duration::ZERO);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if let Some(bytes) = party.buffers {
            sockopt::set_socket_recv_buffer_size(&fd, bytes)
                .map_err(Error::system("setsockopt SO_RCVBUF"))?;
            sockopt::set_socket_send_buffer_size(&fd, bytes)
                .map_err(Error::system("setsockopt SO_SNDBUF"))?;
        }
        tally.open += 1;
        let visit = Visit::new(fd, party.manners, number, Instant::now(), party.patience);
        let slot = self.free.pop().unwrap_or(self.visits.len());
        if slot == self.visits.len() {
            self.visits.push(None);
        }
        let token = token(slot, &visit);
        socket::watch(&self.poller, visit.fd(), token as usize, true)?;
        self.visits[slot] = Some((index, visit));
        self.advance(token, epoll::EventFlags::empty())
    }

    /// Lets one client do what it can.
    fn advance(&mut self, token: u64, flags: epoll::EventFlags) -> Result<(), Error> {
        let slot = (token & 0xffff_ffff) as usize;
        let Some((index, visit)) = self.visits.get_mut(slot).and_then(Option::as_mut) else {
            return Ok(());
        };
        if self::token(slot, visit) != token {
            return Ok(());
        }
        let tally = &mut self.parties[*index].tally;
        let (received, planned) = (visit.received, visit.planned);
        let mut shared = Shared {
            pattern: &self.pattern,
            buffer: &mut self.buffer,
            latency: &mut tally.latency,
        };
        let now = Instant::now();
        let ending = visit.advance(flags, now, &mut shared)?;
        tally.received += visit.received - received;
        if let Some(ending) = ending {
            self.leave(slot, ending);
            return Ok(());
        }
        // One entry at a time; a later time is found when the earlier one has come.
        if let Some(at) = visit.wakes_at()
            && planned.is_none_or(|planned| at < planned || planned <= now)
        {
            visit.planned = Some(at);
            self.agenda.push(Reverse((at, token)));
        }
        Ok(())
    }

    fn leave(&mut self, slot: usize, ending: Ending) {
        if let Some((index, visit)) = self.visits[slot].take() {
            let tally = &mut self.parties[index].tally;
            tally.open -= 1;
            tally.note(ending, visit.born.elapsed());
            self.free.push(slot);
        }
    }
}

/// A visit's slot, and the low half of its number: a report for one that has ended finds another.
fn token(slot: usize, visit: &Visit) -> u64 {
    (visit.number as u64) << 32 | slot as u64
}

/// The token of the alarm, which is no visit's.
const ALARM: u64 = u64::MAX;

/// Waits for events; none when the time is over or a signal came. The time is that of a timerfd, for
/// epoll counts milliseconds, and half of one would be the better part of what is measured.
fn wait_for(
    poller: &OwnedFd,
    alarm: &OwnedFd,
    events: &mut Vec<epoll::Event>,
    time: Duration,
) -> Result<(), Error> {
    let timespec = |time: Duration| Timespec {
        tv_sec: time.as_secs() as i64,
        tv_nsec: i64::from(time.subsec_nanos()),
    };
    let once = Itimerspec {
        it_interval: timespec(Duration::ZERO),
        // Zero would disarm it.
        it_value: timespec(time.max(Duration::from_nanos(1))),
    };
    timerfd_settime(alarm, TimerfdTimerFlags::empty(), &once)
        .map_err(Error::system("timerfd_settime"))?;
    events.clear();
    match epoll::wait(poller, rustix::buffer::spare_capacity(events), None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(Error::system("epoll_wait")(errno)),
    }
}
