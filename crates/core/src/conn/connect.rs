//! Connecting: one call, one answer (promise 12), whatever has to happen in between.
//!
//! The rule: a connect to an address that this machine can start at once is one socket of the
//! connection's own, and costs nothing more. Everything else is a race (see `race`): a name, whose
//! addresses are tried one beside the other, and an address that has to wait because descriptors,
//! memory or ports have run out. Those that wait stand in one line for the whole loop and go on
//! when a descriptor of the loop is closed, or a tenth of a second later.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustix::io::Errno;

use crate::conn::accept::RETRY;
use crate::conn::race::{Race, order};
use crate::conn::{Conn, Flags, NEVER, after};
use crate::event_loop::EventLoop;
use crate::handle::slot_of;
use crate::sys::{Answer, System};
use crate::time::deadlines::DeadlineId;
use crate::turn::Current;
use crate::{Addr, CloseReason, ConnId, ConnectOptions, Deadline, Error, Event, Target};

/// Waiting connects that one turn tries again.
const RETRIES_A_TURN: usize = 256;

impl<S: System> EventLoop<S> {
    /// Starts to connect, to an address or to a name and a port. The answer is one event:
    /// `Connected`, or `Closed` with the reason (promise 12). Sends are taken at once and leave
    /// when the connection is made.
    ///
    /// A name is resolved off this thread, then its addresses are tried in the manner of RFC 8305:
    /// IPv6 and IPv4 by turns, beginning with the resolver's first, the next one as soon as one
    /// fails or after [`attempt_delay`](ConnectOptions::attempt_delay). The first connection that
    /// is made wins and the others are closed. If none is, the reason is `ResolveFailed`,
    /// `ConnectFailed` with the most telling of the errors (a refusal by the peer before a silence,
    /// a silence before a missing route) or `TimedOut`, and
    /// [`attempts`](crate::Connection::attempts) lists them all. At most 64 addresses are tried.
    ///
    /// A connect that lacks a descriptor, memory or a port of this machine, or room in the backlog
    /// of a Unix socket, waits for it within its deadline, and says so by
    /// [`ConnectPaused`](Event::ConnectPaused). When the deadline passes first, the reason is
    /// `ConnectFailed` with that error.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for a text that is no target, [`ErrorKind::TooMany`](crate::ErrorKind::TooMany) while 1,024
    /// names are being resolved, [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory). Else only those of this machine that do not pass, such as
    /// `EADDRINUSE` for the local address or `EAFNOSUPPORT`; for an option that the kernel refuses
    /// [`Error::operation`] names it. A refusal by the peer is always the
    /// reason of `Closed`, even when it is known at once.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use echoloop_core::{ConnectOptions, Event, EventLoop, LoopOptions};
    /// let mut el = EventLoop::new(LoopOptions::default())?;
    /// let conn = el.connect("example.org:80", &ConnectOptions::default())?;
    /// el.conn(conn)?.send(b"HEAD / HTTP/1.0\r\n\r\n")?;
    /// loop {
    ///     el.poll(None)?;
    ///     while let Some(event) = el.next_event() {
    ///         if let Event::Closed { conn, reason, .. } = event {
    ///             eprintln!("{reason}; tried {:?}", el.conn(conn)?.attempts());
    ///         }
    ///     }
    /// }
    /// # #[allow(unreachable_code)]
    /// # Ok::<(), echoloop_core::Error>(())
    /// ```
    pub fn connect(
        &mut self,
        to: impl TryInto<Target, Error: Into<Error>>,
        options: &ConnectOptions,
    ) -> Result<ConnId, Error> {
        self.check_new("connect")?;
        match to.try_into().map_err(Into::into)? {
            Target::Addr(addr) => self.connect_addr(addr, options),
            Target::Name { host, port } => match host.parse::<IpAddr>() {
                Ok(ip) => self.connect_addr(SocketAddr::new(ip, port).into(), options),
                Err(_) => self.connect_name(&host, port, options),
            },
        }
    }

    fn connect_addr(&mut self, addr: Addr, options: &ConnectOptions) -> Result<ConnId, Error> {
        let failed = |e| Error::os("connect", e).at(&addr);
        let (socket, e) = match self.sys.connect(&addr, options) {
            Ok(socket) => (Some(socket), None),
            Err(e) => (None, Some(e)),
        };
        if let Some(option) = self.sys.refused_option()
            && let Some(e) = e
        {
            return Err(Error::os(option, e).at(&addr));
        }
        let waits = e.is_some_and(|e| self.sys.may_free_up(&addr, options, e));
        if let Some(e) = e.filter(|e| !waits && own_fault(*e)) {
            return Err(failed(e));
        }
        let slot = self.insert_connecting(socket, addr.clone(), options)?;
        let id = ConnId(self.conns.key(slot));
        match e {
            Some(e) if waits => self.start_paused(slot, addr, options, e),
            Some(e) => self.terminate(slot, CloseReason::ConnectFailed(e.raw_os_error())),
            None => match self.register(slot) {
                Ok(()) => self.arm(slot),
                Err(e) => {
                    let socket = self.conns.get_mut(slot).and_then(|c| c.socket.take());
                    socket.into_iter().for_each(|s| self.sys.close(s));
                    if !self.sys.may_free_up(&addr, options, e) {
                        self.conns.remove(slot);
                        return Err(failed(e));
                    }
                    self.start_paused(slot, addr, options, e);
                }
            },
        }
        Ok(id)
    }

    fn start_paused(&mut self, slot: u32, addr: Addr, options: &ConnectOptions, lacking: Errno) {
        let mut race = Race::new(addr.clone().into(), options);
        race.waiting.push_back(addr);
        self.begin_race(slot, race);
        self.pause_connect(slot, lacking);
    }

    fn connect_name(
        &mut self,
        host: &Arc<str>,
        port: u16,
        options: &ConnectOptions,
    ) -> Result<ConnId, Error> {
        let host = Arc::clone(host);
        // Nobody's address yet, but the port is known.
        let nowhere = SocketAddr::from(([0, 0, 0, 0], port));
        let slot = self.insert_connecting(None, nowhere.into(), options)?;
        let key = self.conns.key(slot);
        if let Err(e) = self.start_lookup(key, &host) {
            self.conns.remove(slot);
            return Err(Error::new("connect", e).at(Target::Name { host, port }));
        }
        let mut race = Race::new(Target::Name { host, port }, options);
        race.resolving = true;
        self.begin_race(slot, race);
        Ok(ConnId(key))
    }

    fn insert_connecting(
        &mut self,
        socket: Option<S::Socket>,
        addr: Addr,
        options: &ConnectOptions,
    ) -> Result<u32, Error> {
        self.conn_room()?;
        let mut conn = Conn::new(socket, addr, Arc::new(options.conn.clone()), self.now);
        conn.flags.set(Flags::CONNECTING);
        conn.ends_by = options.timeout.map_or(NEVER, |t| after(self.sys.now(), t));
        Ok(slot_of(self.conns.insert(conn)?))
    }

    fn begin_race(&mut self, slot: u32, race: Race) {
        if let Some(conn) = self.conns.get_mut(slot) {
            conn.race = Some(Box::new(race));
        }
        self.arm(slot);
    }

    /// The name of a connect has its answer.
    pub(crate) fn name_resolved(&mut self, slot: u32, answer: Answer) {
        let Some(race) = self.race_mut(slot) else {
            return;
        };
        race.resolving = false;
        let found = match answer {
            Ok(found) => found,
            Err(e) => return self.terminate(slot, CloseReason::ResolveFailed(e)),
        };
        let local = race.options.local;
        let fits = |ip: &IpAddr| local.is_none_or(|local| local.is_ipv4() == ip.is_ipv4());
        let port = match race.target {
            Target::Name { port, .. } => port,
            Target::Addr(_) => 0,
        };
        let found = order(found.into_iter().filter(fits));
        race.waiting = found
            .into_iter()
            .map(|ip| SocketAddr::new(ip, port).into())
            .collect();
        self.try_next_address(slot);
    }

    /// Puts a connect in the line of those that wait for a resource; tells so the first time.
    pub(crate) fn pause_connect(&mut self, slot: u32, e: Errno) {
        if self.starved_connects.try_reserve(1).is_err() {
            let reason = CloseReason::ConnectFailed(Errno::NOMEM.raw_os_error());
            return self.terminate(slot, reason);
        }
        let connecting = |c: &&mut Conn<S::Socket>| c.flags.any(Flags::CONNECTING);
        let conn = self.conns.get_mut(slot).filter(connecting);
        let Some(race) = conn.and_then(|c| c.race.as_mut()) else {
            return;
        };
        race.lacking = Some(e);
        self.deadlines
            .remove(std::mem::replace(&mut race.next, DeadlineId::NONE));
        if race.told_lack.is_none() {
            race.told_lack = Some(e);
            race.tell_paused = true;
            self.counters.connect_pauses += 1;
            log::debug!("a connect waits: {}", Error::os("connect", e));
            self.line_up(slot);
        }
        self.starved_connects.push_back(self.conns.key(slot));
        if self.deadlines.at(self.connect_retry).is_none() {
            let at = after(self.sys.now(), RETRY);
            self.deadlines.arm(self.connect_retry, at);
            self.changed();
        }
    }

    /// A descriptor was closed, so one of those that wait may go on; or all may, after a while.
    pub(crate) fn retry_connects(&mut self, most: usize) {
        let tries = self.connect_retries.saturating_add(most);
        self.connect_retries = tries.min(self.starved_connects.len());
    }

    /// Tries those that wait again, in order, until one finds that the process or the machine has
    /// run out. (What one destination lacks, another may have.)
    pub(crate) fn retry_starved_connects(&mut self) {
        for _ in 0..RETRIES_A_TURN {
            // A try that ends a connection counts them anew.
            if self.connect_retries == 0 {
                break;
            }
            let Some(key) = self.starved_connects.pop_front() else {
                break;
            };
            self.connect_retries -= 1;
            let Some(slot) = self.conns.find(key) else {
                continue;
            };
            self.try_next_address(slot);
            let lacking = self.race_mut(slot).and_then(|race| race.lacking);
            if lacking.is_some_and(for_everyone) {
                // It has joined the end of the line and was the first.
                self.starved_connects.rotate_right(1);
                self.connect_retries = 0;
                break;
            }
        }
        if self.starved_connects.is_empty() {
            self.connect_retries = 0;
            self.deadlines.disarm(self.connect_retry);
        }
    }

    /// The `ConnectPaused` that is to be told of a connection.
    pub(crate) fn tell_connect_paused(&mut self, slot: u32) -> Option<Event> {
        let conn = ConnId(self.conns.key(slot));
        let race = self.race_mut(slot)?;
        if !std::mem::take(&mut race.tell_paused) {
            return None;
        }
        // It may go on already; what it lacked is told all the same.
        let errno = race.told_lack?.raw_os_error();
        self.current = Current::Told(slot);
        Some(Event::ConnectPaused { conn, errno })
    }

    /// Why a connect ends whose deadline has passed.
    pub(crate) fn connect_timed_out(&self, slot: u32) -> CloseReason {
        let race = self.conns.get(slot).and_then(|c| c.race.as_ref());
        match race.and_then(|race| race.lacking.filter(|_| race.running.is_empty())) {
            Some(e) => CloseReason::ConnectFailed(e.raw_os_error()),
            None => CloseReason::TimedOut(Deadline::Connect),
        }
    }

    /// Puts a connecting connection in this turn's line, whatever its flags say.
    pub(crate) fn line_up(&mut self, slot: u32) {
        if let Some(conn) = self.conns.get_mut(slot)
            && !conn.flags.any(Flags::IN_LINE)
        {
            conn.flags.set(Flags::IN_LINE);
            self.line.push_back(slot);
            self.work_left();
        }
    }
}

/// Errors of `connect` that say nothing about the peer: report them to the caller at once.
fn own_fault(e: Errno) -> bool {
    matches!(
        e,
        Errno::MFILE
            | Errno::NFILE
            | Errno::NOBUFS
            | Errno::NOMEM
            | Errno::ADDRINUSE
            | Errno::ADDRNOTAVAIL
            | Errno::AFNOSUPPORT
            | Errno::INVAL
            | Errno::ACCESS
            | Errno::PERM
            | Errno::NAMETOOLONG
    )
}

/// Whoever lacks this, all others lack it too.
pub(crate) fn for_everyone(e: Errno) -> bool {
    matches!(
        e,
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::NOSPC
    )
}
