//! What lies between the loop and those it connects to: names, and what each address answers.
//!
//! The rule: everything is planned by the test and happens by the simulated clock, to the
//! nanosecond; what was not planned is accepted at once, and a name that was not is unknown.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use super::Sim;
use super::net::Net;
use crate::sys::Answer;
use crate::{Addr, ResolveError};

/// What a connect of the loop to an address meets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meets {
    /// A listener.
    Accepts,
    /// `ECONNREFUSED`.
    Refuses,
    /// Silence.
    Ignores,
    /// This error number, from the call itself.
    Fails(i32),
}

/// The names and addresses of a simulated network.
#[derive(Default)]
pub(super) struct Roads {
    names: HashMap<String, (Duration, Answer)>,
    lookups: Vec<Lookup>,
    roads: HashMap<Addr, (Meets, Duration)>,
    connects: Vec<(Duration, Addr)>,
    errors: VecDeque<Errno>,
    most_sockets: Option<usize>,
}

struct Lookup {
    host: usize,
    token: u64,
    due: u64,
    answer: Answer,
    told: bool,
}

/// Lookups that may be under way.
const MOST_LOOKUPS: usize = 1024;

impl Sim {
    /// Plans the answer to a name; `Duration::MAX` never comes.
    pub fn name(&self, host: &str, after: Duration, answer: Result<Vec<IpAddr>, ResolveError>) {
        let names = &mut self.net.borrow_mut().roads.names;
        names.insert(host.to_owned(), (after, answer));
    }

    /// Plans what connects to `addr` meet, and after what time.
    pub fn road(&self, addr: SocketAddr, meets: Meets, after: Duration) {
        let roads = &mut self.net.borrow_mut().roads.roads;
        roads.insert(addr.into(), (meets, after));
    }

    /// Lets the next connect of the loop fail with this error number.
    pub fn fail_connect(&self, errno: i32) {
        let errors = &mut self.net.borrow_mut().roads.errors;
        errors.push_back(Errno::from_raw_os_error(errno));
    }

    /// Lets connects fail with `EMFILE` while so many sockets are open.
    pub fn limit_sockets(&self, most: Option<usize>) {
        self.net.borrow_mut().roads.most_sockets = most;
    }

    /// All connects of the loop so far that got under way or were refused by plan, and when.
    #[must_use]
    pub fn connects(&self) -> Vec<(Duration, Addr)> {
        self.net.borrow().roads.connects.clone()
    }

    /// Lookups that are under way or answered and not fetched.
    #[must_use]
    pub fn lookups(&self) -> usize {
        self.net.borrow().roads.lookups.len()
    }
}

impl Net {
    /// What a connect to `addr` meets, and when it is answered.
    pub(super) fn set_out(&mut self, addr: &Addr) -> Result<Option<(Meets, u64)>, Errno> {
        let open = self.sockets.iter().filter(|s| s.open).count();
        if self.roads.most_sockets.is_some_and(|most| open >= most) {
            return Err(Errno::MFILE);
        }
        if let Some(e) = self.roads.errors.pop_front() {
            return Err(e);
        }
        let now = Duration::from_nanos(self.clock);
        self.roads.connects.push((now, addr.clone()));
        match self.roads.roads.get(addr) {
            Some((Meets::Fails(errno), _)) => Err(Errno::from_raw_os_error(*errno)),
            Some((meets, delay)) => Ok(Some((*meets, later(self.clock, *delay)))),
            None => Ok(None),
        }
    }

    pub(super) fn lookup(&mut self, host: usize, token: u64, name: &Arc<str>) -> Result<(), Errno> {
        if self.roads.lookups.len() >= MOST_LOOKUPS {
            return Err(Errno::NOBUFS);
        }
        let unknown = (Duration::ZERO, Err(ResolveError::new(libc::EAI_NONAME, 0)));
        let planned = self.roads.names.get(&**name).cloned();
        let (delay, answer) = planned.unwrap_or(unknown);
        self.roads.lookups.push(Lookup {
            host,
            token,
            due: later(self.clock, delay),
            answer,
            told: false,
        });
        Ok(())
    }

    pub(super) fn cancel_lookup(&mut self, host: usize, token: u64) {
        let lookups = &mut self.roads.lookups;
        lookups.retain(|l| (l.host, l.token) != (host, token));
    }

    pub(super) fn looked_up(&mut self, host: usize) -> Option<(u64, Answer)> {
        let lookups = &mut self.roads.lookups;
        let answered = |l: &Lookup| l.host == host && l.due <= self.clock;
        let place = lookups.iter().position(answered)?;
        let lookup = lookups.swap_remove(place);
        Some((lookup.token, lookup.answer))
    }

    /// An answer has come in that was not reported yet.
    pub(super) fn answers_came(&mut self, host: usize) -> bool {
        let lookups = self.roads.lookups.iter_mut();
        let came = lookups.filter(|l| l.host == host && l.due <= self.clock && !l.told);
        came.map(|l| l.told = true).count() > 0
    }

    /// Answers came in that `answers_came` has not told of.
    pub(super) fn answers_wait(&self, host: usize) -> bool {
        let mut lookups = self.roads.lookups.iter();
        lookups.any(|l| l.host == host && l.due <= self.clock && !l.told)
    }

    /// When the next planned thing happens.
    pub(super) fn next_plan(&self) -> Option<u64> {
        let sockets = self.sockets.iter().filter(|s| s.open && !s.silent);
        let answers = sockets.map(|s| s.answers_at);
        let lookups = self.roads.lookups.iter().map(|l| l.due);
        let coming = answers.chain(lookups).filter(|at| *at > self.clock);
        coming.filter(|at| *at != u64::MAX).min()
    }
}

fn later(clock: u64, delay: Duration) -> u64 {
    let nanos = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
    clock.saturating_add(nanos)
}
