//! The server: one event loop under a policy.
//!
//! The rule: the policy sees every event first, in [`Server::next_event`], and hands on what is the
//! program's. [`Server::run`] is one loop over it; the C and Python faces are others.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use echoloop_core::sys::{Os, System};
use echoloop_core::{
    Addr, CloseReason, ConnId, Error, ErrorKind, Event, EventLoop, ListenOptions, ListenerId,
    Origin, Remote, TimerId, TimerSpec, UdpId, UdpOptions,
};

use crate::builder::{Opened, Opening};
use crate::context;
use crate::limits::{Limits, Refusal};
use crate::seldom::Seldom;
use crate::workers::seat::Seat;
use crate::workers::team::Phase;
use crate::{Context, Hooks, Report, ServerBuilder, ServerCounters};

/// A server on one thread.
pub struct Server<S: System = Os> {
    el: EventLoop<S>,
    listeners: Vec<ListenerId>,
    udps: Vec<UdpId>,
    policy: ServerBuilder,
    limits: Arc<Limits>,
    /// What the clock of the limits is ahead of the loop's.
    ahead: Duration,
    tick: Option<TimerId>,
    drain: Option<Drain>,
    counters: ServerCounters,
    /// Connections that the program is not told of, refused or passed on, and whose `Closed` is
    /// still to come, within this turn.
    untold: Vec<ConnId>,
    refusals_told: Seldom,
    /// Among the workers, if this is one.
    pub(crate) seat: Option<Seat>,
}

/// A drain that has begun.
struct Drain {
    report: Report,
    /// Ends the grace, in which connections are served on; `None` once they are being closed.
    grace: Option<TimerId>,
}

/// What [`Server::next_event`] hands out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServerEvent {
    /// An event of the loop that is the program's.
    Loop(Event),
    /// The tick interval has passed.
    Tick,
    /// This connection was refused. It has no other events.
    Refused {
        /// The connection, for the address of its peer.
        conn: ConnId,
        /// Which limit it met.
        why: Refusal,
    },
}

impl Server {
    /// Settings to make a server from.
    #[must_use]
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// Serves until a [`Remote`] stops it, then drains, and reports how that went.
    ///
    /// # Errors
    ///
    /// Those of [`EventLoop::poll`]; none in practice.
    pub fn run(&mut self, hooks: &mut impl Hooks) -> Result<Report, Error> {
        loop {
            if let Some(report) = self.report() {
                return Ok(report);
            }
            log::debug!("waiting for the next event");
            self.poll(None)?;
            let (mut drain, closing) = (None, self.is_closing());
            loop {
                if let Some(conn) = self.el.next_data() {
                    hooks.on_data(&mut Context::new(&mut self.el, &mut drain, closing), conn);
                } else if let Some(event) = self.next_event() {
                    self.call(hooks, event, &mut drain);
                } else {
                    break;
                }
            }
            match drain {
                Some(context::Drain::ByPolicy) => self.drain(),
                Some(context::Drain::WithGrace(grace)) => self.drain_with_grace(grace),
                None => {}
            }
            if self.seat.is_some() {
                self.heed();
            }
        }
    }

    fn call(
        &mut self,
        hooks: &mut impl Hooks,
        event: ServerEvent,
        drain: &mut Option<context::Drain>,
    ) {
        let closing = self.is_closing();
        let cx = &mut Context::new(&mut self.el, drain, closing);
        let event = match event {
            ServerEvent::Loop(event) => event,
            ServerEvent::Tick => return hooks.on_tick(cx),
            ServerEvent::Refused { conn, why } => return hooks.on_refused(cx, conn, why),
        };
        match event {
            Event::Accepted { conn, listener } => hooks.on_open(cx, conn, Some(listener)),
            Event::Connected { conn } | Event::Adopted { conn } => hooks.on_open(cx, conn, None),
            Event::Data { conn } => hooks.on_data(cx, conn),
            Event::Congested { conn } => hooks.on_congested(cx, conn),
            Event::Drained { conn } => hooks.on_drained(cx, conn),
            Event::EndOfStream { conn } => hooks.on_end_of_stream(cx, conn),
            Event::Closed {
                conn,
                reason,
                unsent,
            } => hooks.on_close(cx, conn, reason, unsent),
            Event::Timer { timer } => hooks.on_timer(cx, timer),
            Event::Posted { word } => hooks.on_post(cx, word),
            Event::Datagrams { udp } => hooks.on_datagrams(cx, udp),
            Event::AcceptPaused { errno, .. } => {
                hooks.on_error(cx, Error::new("accept, paused", ErrorKind::Os(errno)));
            }
            Event::ConnectPaused { errno, .. } => {
                hooks.on_error(cx, Error::new("connect, paused", ErrorKind::Os(errno)));
            }
            Event::UdpError { errno, .. } => {
                hooks.on_error(cx, Error::new("udp", ErrorKind::Os(errno)));
            }
            Event::Stop => self.stop(),
            event => hooks.on_event(cx, event),
        }
    }
}

impl<S: System> Server<S> {
    pub(crate) fn start(
        el: EventLoop<S>,
        mut policy: ServerBuilder,
        limits: Arc<Limits>,
    ) -> Result<Self, Error> {
        let openings = std::mem::take(&mut policy.openings);
        let mut server = Self {
            ahead: limits.epoch.elapsed().saturating_sub(el.now()),
            el,
            listeners: Vec::new(),
            udps: Vec::new(),
            policy,
            limits,
            tick: None,
            drain: None,
            counters: ServerCounters::default(),
            untold: Vec::new(),
            refusals_told: Seldom::default(),
            seat: None,
        };
        for opening in openings {
            server.open(&opening)?;
        }
        if let Some(interval) = server.policy.tick {
            server.tick = Some(server.el.add_timer(TimerSpec::every(interval))?);
        }
        Ok(server)
    }

    /// Listens on one more address, TCP or Unix, with the options of the builder or others.
    ///
    /// # Errors
    ///
    /// As [`EventLoop::listen`]; [`ErrorKind::Closing`] once a drain has begun.
    pub fn listen(
        &mut self,
        on: impl TryInto<Addr, Error: Into<Error>>,
        options: Option<&ListenOptions>,
    ) -> Result<ListenerId, Error> {
        let addr = on.try_into().map_err(Into::into)?;
        self.refuse_if_draining("listen")
            .map_err(|e| e.at(addr.clone()))?;
        let id = self
            .el
            .listen(addr, options.unwrap_or(&self.policy.listen))?;
        self.listeners.push(id);
        Ok(id)
    }

    /// Listens on a socket that was opened elsewhere, with the options of the builder or others.
    ///
    /// # Errors
    ///
    /// As [`EventLoop::adopt_listener`]; [`ErrorKind::Closing`] once a drain has begun.
    pub fn adopt_listener(
        &mut self,
        listener: OwnedFd,
        options: Option<&ListenOptions>,
    ) -> Result<ListenerId, Error> {
        self.refuse_if_draining("adopt listener")?;
        let options = options.unwrap_or(&self.policy.listen);
        let id = self.el.adopt_listener(listener, options)?;
        self.listeners.push(id);
        Ok(id)
    }

    /// Opens one more UDP socket, with the options of the builder or others.
    ///
    /// # Errors
    ///
    /// As [`EventLoop::bind_udp`]; [`ErrorKind::Closing`] once a drain has begun.
    pub fn bind_udp(
        &mut self,
        on: impl TryInto<Addr, Error: Into<Error>>,
        options: Option<&UdpOptions>,
    ) -> Result<UdpId, Error> {
        let addr = on.try_into().map_err(Into::into)?;
        self.refuse_if_draining("bind udp")
            .map_err(|e| e.at(addr.clone()))?;
        let options = options.unwrap_or(&self.policy.udp);
        let id = self.el.bind_udp(addr, options)?;
        self.udps.push(id);
        Ok(id)
    }

    /// Opens what the builder was asked for.
    pub(crate) fn open(&mut self, opening: &Opening) -> Result<Opened, Error> {
        match opening {
            Opening::Listen(addr) => self.listen(addr.clone()?, None).map(Opened::Listener),
            Opening::Udp(addr) => self.bind_udp(addr.clone()?, None).map(Opened::Udp),
            Opening::Inherited(fd) => self.inherit(fd),
        }
    }

    /// A socket that was there when the process started: a listener, or a UDP socket.
    fn inherit(&mut self, fd: &OwnedFd) -> Result<Opened, Error> {
        let another = || {
            fd.try_clone().map_err(|e| {
                let errno = e.raw_os_error().unwrap_or_default();
                Error::new("inherit", ErrorKind::Os(errno))
            })
        };
        let no_listener = match self.adopt_listener(another()?, None) {
            Ok(id) => return Ok(Opened::Listener(id)),
            Err(e) => e,
        };
        let udp = self.el.adopt_udp(another()?, &self.policy.udp);
        let id = udp.map_err(|_| no_listener)?;
        self.udps.push(id);
        Ok(Opened::Udp(id))
    }

    /// The addresses of all listeners, in the order in which they were added, with the ports that
    /// the system chose. None once a drain has begun.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<Addr> {
        let addrs = self.listeners.iter().map(|id| self.el.listener_addr(*id));
        addrs.flatten().collect()
    }

    /// The addresses of all UDP sockets, likewise.
    pub fn udp_addrs(&mut self) -> Vec<Addr> {
        let addr = |id: &UdpId| self.el.udp(*id).ok()?.local_addr().ok().map(Addr::from);
        self.udps.iter().filter_map(addr).collect()
    }

    /// A handle for other threads. Its `stop` makes [`run`](Server::run) drain and return; a second
    /// `stop` cuts what is left, or, in a drain's grace, ends that and closes them.
    #[must_use]
    pub fn remote(&self) -> Remote {
        self.el.remote()
    }

    /// The loop, for all that the server has no say in.
    pub fn event_loop(&mut self) -> &mut EventLoop<S> {
        &mut self.el
    }

    /// What the server counts; [`EventLoop::counters`] has the rest.
    #[must_use]
    pub fn counters(&self) -> ServerCounters {
        self.counters
    }

    /// Waits for events, as [`EventLoop::poll`] does.
    ///
    /// # Errors
    ///
    /// As [`EventLoop::poll`].
    pub fn poll(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        self.el.poll(timeout)
    }

    /// The next event that is the program's; see [`EventLoop::next_event`].
    ///
    /// [`Event::Stop`] is handed on: whether it ends the program or begins a
    /// [`drain`](Self::drain) is for the caller to say.
    pub fn next_event(&mut self) -> Option<ServerEvent> {
        loop {
            let event = self.el.next_event()?;
            if let Some(event) = self.judge(event) {
                return Some(event);
            }
        }
    }

    /// Begins to drain: no more is accepted, connections are served on for the drain grace, then
    /// every one is flushed and closed, within the drain deadline. Poll on until
    /// [`report`](Self::report) has the result.
    pub fn drain(&mut self) {
        self.drain_with_grace(self.policy.drain_grace);
    }

    /// The same with another grace than the builder's. For a restart: what replaces this server is
    /// ready, who was accepted here is served on.
    pub fn drain_with_grace(&mut self, grace: Duration) {
        if self.drain.is_some() {
            return;
        }
        log::debug!("draining {} connections", self.el.connection_count());
        for listener in std::mem::take(&mut self.listeners) {
            // One that the program closed itself is gone already.
            let _ = self.el.close_listener(listener);
        }
        for udp in std::mem::take(&mut self.udps) {
            let _ = self.el.close_udp(udp);
        }
        if let Some(tick) = self.tick.take() {
            let _ = self.el.cancel_timer(tick);
        }
        let agreed = self.seat.as_ref().map(|seat| seat.drains(grace));
        let grace = match agreed.unwrap_or(grace) {
            Duration::ZERO => None,
            // Without room for a timer there is no grace.
            grace => self.el.add_timer(TimerSpec::after(grace)).ok(),
        };
        if grace.is_none() {
            self.el.shut_down(self.policy.drain_deadline);
        }
        self.drain = Some(Drain {
            report: Report::default(),
            grace,
        });
    }

    /// Whether a drain has begun. A server drains once: from then on it listens no more, and
    /// [`run`](Server::run) returns the report of that drain.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// Cuts every connection that is left.
    pub fn abort_all(&mut self) {
        for id in self.el.connections() {
            if let Ok(mut conn) = self.el.conn(id) {
                conn.abort();
            }
        }
    }

    /// How the drain went, once it has ended.
    #[must_use]
    pub fn report(&self) -> Option<Report> {
        let drain = self.drain.as_ref()?;
        let nobody_comes = self.seat.as_ref().is_none_or(Seat::is_over);
        (nobody_comes && self.el.connection_count() == 0).then_some(drain.report)
    }

    /// Whether the drain is past its grace: who is there is being closed.
    fn is_closing(&self) -> bool {
        let drain = self.drain.as_ref();
        drain.is_some_and(|drain| drain.grace.is_none())
    }

    fn is_grace(&self, timer: TimerId) -> bool {
        let drain = self.drain.as_ref();
        drain.is_some_and(|drain| drain.grace == Some(timer))
    }

    fn refuse_if_draining(&self, operation: &'static str) -> Result<(), Error> {
        match self.is_draining() {
            true => Err(Error::new(operation, ErrorKind::Closing)),
            false => Ok(()),
        }
    }

    /// Applies the policy to one event of the loop; `None` when it is not the program's.
    fn judge(&mut self, event: Event) -> Option<ServerEvent> {
        match event {
            Event::Accepted { conn, listener } => match self.admit(conn) {
                Some(refused) => Some(refused),
                None => self
                    .stays(conn, listener)
                    .then_some(ServerEvent::Loop(event)),
            },
            Event::Adopted { conn } => {
                self.take_over(conn);
                Some(ServerEvent::Loop(event))
            }
            Event::Closed {
                conn,
                reason,
                unsent,
            } => self
                .note_closed(conn, reason, unsent)
                .then_some(ServerEvent::Loop(event)),
            Event::Timer { timer } if self.tick == Some(timer) => Some(ServerEvent::Tick),
            Event::Timer { timer } if self.is_grace(timer) => {
                self.end_grace();
                None
            }
            _ => Some(ServerEvent::Loop(event)),
        }
    }

    /// The first stop drains, the next ends the grace if there is one, the last cuts.
    fn stop(&mut self) {
        if let Some(seat) = &mut self.seat {
            return seat.stop();
        }
        if self.drain.is_none() {
            self.drain();
        } else if !self.end_grace() {
            self.abort_all();
        }
    }

    /// Ends the grace of a drain, if one is under way: all that is left is closed.
    fn end_grace(&mut self) -> bool {
        let grace = self.drain.as_mut().and_then(|drain| drain.grace.take());
        let Some(timer) = grace else { return false };
        let _ = self.el.cancel_timer(timer);
        self.el.shut_down(self.policy.drain_deadline);
        if let Some(seat) = &self.seat {
            seat.closes();
        }
        true
    }

    /// Lets a connection in, or refuses it.
    fn admit(&mut self, id: ConnId) -> Option<ServerEvent> {
        let now = self.el.now();
        let mut conn = self.el.conn(id).ok()?;
        let why = match self.limits.enter(conn.peer_addr(), now + self.ahead) {
            Ok(open) => {
                self.counters.most_open = self.counters.most_open.max(open as u64);
                return None;
            }
            Err(why) => why,
        };
        let peer = conn.peer_addr().clone();
        conn.abort();
        self.untold.push(id);
        self.counters.refused += 1;
        *match why {
            Refusal::MaxConnections => &mut self.counters.refused_full,
            Refusal::MaxPerPeer => &mut self.counters.refused_peer,
            Refusal::AcceptRate => &mut self.counters.refused_rate,
        } += 1;
        if let Some(untold) = self.refusals_told.tell(now) {
            let more = if untold > 0 {
                format!(" ({untold} more were refused since the last such line)")
            } else {
                String::new()
            };
            log::warn!("refused {peer}: {why}{more}");
        }
        Some(ServerEvent::Refused { conn: id, why })
    }

    /// Whether a connection that was let in is served here; else it is another worker's now.
    fn stays(&mut self, id: ConnId, listener: ListenerId) -> bool {
        let Some(seat) = &self.seat else { return true };
        let stays = self.drain.is_some() || !seat.pass_on(&mut self.el, id, listener);
        if stays {
            seat.came();
        } else {
            self.untold.push(id);
        }
        stays
    }

    /// At the end of a turn: does what the workers together have been asked for.
    fn heed(&mut self) {
        let Some(seat) = &mut self.seat else { return };
        self.limits.lose(seat.lost(self.el.counters()));
        seat.tell(self.counters, self.el.counters());
        let phase = seat.phase();
        if phase == Phase::Serving {
            return;
        }
        let grace = seat.grace();
        self.drain_with_grace(grace);
        if phase == Phase::Cutting {
            self.abort_all(); // Before they could be closed.
        }
        if phase >= Phase::Closing {
            self.end_grace();
        }
    }

    /// Counts a connection that was accepted elsewhere; closes it when it comes too late.
    fn take_over(&mut self, id: ConnId) {
        let closing = self.is_closing();
        let Ok(mut conn) = self.el.conn(id) else {
            return;
        };
        let counted = self.seat.as_ref().is_some_and(|seat| seat.takes(&mut conn));
        if !counted {
            self.limits.take_over(conn.peer_addr());
        }
        if closing {
            conn.close();
        }
    }

    /// Counts an end; false when nobody was told of the beginning.
    fn note_closed(&mut self, id: ConnId, reason: CloseReason, unsent: u64) -> bool {
        if let Some(place) = self.untold.iter().position(|untold| *untold == id) {
            self.untold.swap_remove(place);
            return false;
        }
        let mut came_in = false;
        if let Ok(conn) = self.el.conn(id)
            && conn.origin() != Origin::Connected
        {
            came_in = true;
            self.limits.leave(conn.peer_addr());
            if let Some(seat) = &self.seat {
                seat.left();
            }
        }
        self.counters.bytes_lost += unsent;
        self.counters.timed_out += u64::from(matches!(reason, CloseReason::TimedOut(_)));
        if let Some(drain) = &mut self.drain
            && reason != CloseReason::GivenAway
        {
            drain.report.bytes_lost += unsent;
            match unsent {
                0 => drain.report.closed_clean += u64::from(came_in),
                _ => drain.report.aborted += 1,
            }
        }
        true
    }
}
