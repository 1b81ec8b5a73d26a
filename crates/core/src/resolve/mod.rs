//! Lookups of names, for programs that want the addresses themselves.
//!
//! The rule: every lookup has one answer and one event, whatever befalls it, and is gone after that
//! event's handler. The work is done off the loop's thread by the [`System`]; `connect` by name
//! has its own lookups, under the connection's token (see `connect`).

pub(crate) mod resolve_error;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use crate::addr;
use crate::conn::after;
use crate::event_loop::EventLoop;
use crate::handle::{Kind, kind_of, slot_of};
use crate::room::queue_room;
use crate::sys::{Answer, System};
use crate::time::deadlines::{DeadlineId, Owner};
use crate::turn::{Current, pop};
use crate::{Error, ErrorKind, LookupId, ResolveError, Target};

/// A program's own way to resolve names, for [`LoopOptions::resolver`](crate::LoopOptions).
///
/// It is called on threads of the loop, at most four at once, and may block there. The addresses
/// are tried in the order it gives them. A panic in it is the answer `EAI_FAIL`, an empty list is
/// `EAI_NODATA`.
///
/// ```
/// use echoloop_core::{LoopOptions, ResolveError, Resolver};
///
/// let resolver = Resolver::new(|host| match host {
///     "printer" => Ok(vec!["10.0.0.9".parse().unwrap()]),
///     _ => Err(ResolveError::new(libc::EAI_NONAME, 0)),
/// });
/// let options = LoopOptions { resolver: Some(resolver), ..Default::default() };
/// # let _ = options;
/// ```
#[derive(Clone)]
pub struct Resolver(Arc<Function>);

type Function = dyn Fn(&str) -> Answer + Send + Sync;

impl Resolver {
    /// Wraps a function from a host's name to its addresses.
    pub fn new(
        resolve: impl Fn(&str) -> Result<Vec<IpAddr>, ResolveError> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(resolve))
    }

    pub(crate) fn resolve(&self, host: &str) -> Answer {
        (self.0)(host)
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

pub(crate) struct Lookup {
    pub(crate) host: Arc<str>,
    pub(crate) deadline: DeadlineId,
    /// `Some` once the event is on its way.
    pub(crate) answer: Option<Result<Vec<IpAddr>, ErrorKind>>,
    told: bool,
}

impl<S: System> EventLoop<S> {
    /// Resolves a name off this thread, by the system's resolver (so `/etc/hosts` counts) or by
    /// [`LoopOptions::resolver`](crate::LoopOptions). The answer is one
    /// [`Resolved`](crate::Event::Resolved), then [`resolved`](Self::resolved) has it.
    ///
    /// An IP address is its own answer, also by an event. When `timeout` passes first, the answer
    /// is the error `ETIMEDOUT`. To connect, give the name to [`connect`](Self::connect): it
    /// resolves it and tries all addresses.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] for what can't be a name; [`ErrorKind::TooMany`] while 1,024
    /// lookups are under way; `EAGAIN` when no thread can be started.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use echoloop_core::{Event, EventLoop, LoopOptions};
    /// let mut el = EventLoop::new(LoopOptions::default())?;
    /// let lookup = el.resolve("localhost", Some(Duration::from_secs(5)))?;
    /// let addrs = loop {
    ///     el.poll(None)?;
    ///     if el.next_event() == Some(Event::Resolved { lookup }) {
    ///         break el.resolved(lookup)?;
    ///     }
    /// };
    /// assert!(addrs.iter().all(|addr| addr.is_loopback()));
    /// # Ok::<(), echoloop_core::Error>(())
    /// ```
    pub fn resolve(&mut self, host: &str, timeout: Option<Duration>) -> Result<LookupId, Error> {
        self.check_new("resolve")?;
        let literal = host.parse::<IpAddr>().ok();
        if literal.is_none() {
            addr::check_host(host)?;
        }
        self.lookups.make_room()?;
        queue_room(&mut self.resolved, self.lookups.end() as usize + 1)?;
        let key = self.lookups.insert(Lookup {
            host: host.into(),
            deadline: DeadlineId::NONE,
            answer: None,
            told: false,
        })?;
        let slot = slot_of(key);
        if let Some(ip) = literal {
            self.lookup_answered(slot, Ok(vec![ip]));
            return Ok(LookupId(key));
        }
        if let Err(e) = self.start_lookup(key, &host.into()) {
            self.lookups.remove(slot);
            return Err(Error::new("resolve", e).at(named(host)));
        }
        if let Some(timeout) = timeout {
            let Some(deadline) = self.deadlines.add(Owner::Lookup(slot)) else {
                self.sys.cancel_lookup(key);
                self.lookups.remove(slot);
                return Err(Error::new("resolve", ErrorKind::OutOfMemory).at(named(host)));
            };
            self.deadlines.arm(deadline, after(self.sys.now(), timeout));
            if let Some(lookup) = self.lookups.get_mut(slot) {
                lookup.deadline = deadline;
            }
            self.changed();
        }
        Ok(LookupId(key))
    }

    /// The addresses that a lookup found, in the order to try them (RFC 6724); good until the next
    /// call of `next_event` or `poll` after its event.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Resolve`] when the name could not be resolved, `ETIMEDOUT` when it was not in
    /// time, [`ErrorKind::BadHandle`], [`ErrorKind::InvalidInput`] before the event.
    pub fn resolved(&self, id: LookupId) -> Result<Vec<IpAddr>, Error> {
        let found = self.lookups.find(id.0);
        let Some(lookup) = found.and_then(|slot| self.lookups.get(slot)) else {
            return Err(Error::new("resolved", ErrorKind::BadHandle));
        };
        let failed = |kind| Err(Error::new("resolve", kind).at(named(&lookup.host)));
        match &lookup.answer {
            Some(Ok(addrs)) if lookup.told => Ok(addrs.clone()),
            Some(Err(kind)) if lookup.told => failed(*kind),
            _ => failed(ErrorKind::InvalidInput("the lookup is still under way")),
        }
    }

    /// Ends a lookup without an event.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadHandle`].
    pub fn cancel_lookup(&mut self, id: LookupId) -> Result<(), Error> {
        let Some(slot) = self.lookups.find(id.0) else {
            return Err(Error::new("cancel lookup", ErrorKind::BadHandle));
        };
        if let Some(lookup) = self.lookups.remove(slot) {
            self.deadlines.remove(lookup.deadline);
        }
        self.sys.cancel_lookup(id.0);
        self.resolved.retain(|key| *key != id.0);
        self.changed();
        Ok(())
    }

    /// Asks the system, under a token that is a lookup's or a connection's key.
    pub(crate) fn start_lookup(&mut self, token: u64, host: &Arc<str>) -> Result<(), ErrorKind> {
        self.sys.lookup(token, host).map_err(|e| match e {
            Errno::NOBUFS => ErrorKind::TooMany,
            e => ErrorKind::Os(e.raw_os_error()),
        })
    }

    /// Takes the answers that came in since the last report.
    pub(crate) fn take_answers(&mut self) {
        while let Some((token, answer)) = self.sys.looked_up() {
            if kind_of(token) == Kind::Lookup as u64 {
                if let Some(slot) = self.lookups.find(token) {
                    self.lookup_answered(slot, answer.map_err(ErrorKind::Resolve));
                }
            } else if let Some(slot) = self.conns.find(token) {
                self.name_resolved(slot, answer);
            }
        }
    }

    /// The deadline of a lookup has passed.
    pub(crate) fn lookup_due(&mut self, slot: u32) {
        let key = self.lookups.key(slot);
        self.sys.cancel_lookup(key);
        let timed_out = ErrorKind::Os(Errno::TIMEDOUT.raw_os_error());
        self.lookup_answered(slot, Err(timed_out));
    }

    fn lookup_answered(&mut self, slot: u32, answer: Result<Vec<IpAddr>, ErrorKind>) {
        let key = self.lookups.key(slot);
        let Some(lookup) = self.lookups.get_mut(slot) else {
            return;
        };
        let deadline = std::mem::replace(&mut lookup.deadline, DeadlineId::NONE);
        lookup.answer = Some(answer);
        self.deadlines.remove(deadline);
        self.resolved.push_back(key);
        self.work_left();
    }

    pub(crate) fn next_resolved(&mut self) -> Option<LookupId> {
        let key = pop(&mut self.resolved, &mut self.left.lookups)?;
        let (slot, lookup) = self.lookups.find_mut(key)?;
        lookup.told = true;
        self.current = Current::Lookup(slot);
        Some(LookupId(key))
    }

    /// After the handler of `Resolved`. The slot may have a new tenant, which was not told.
    pub(crate) fn lookup_handled(&mut self, slot: u32) {
        if self.lookups.get(slot).is_some_and(|lookup| lookup.told) {
            self.lookups.remove(slot);
        }
    }
}

/// A host as an error names it.
fn named(host: &str) -> Target {
    Target::Name {
        host: host.into(),
        port: 0,
    }
}
