//! The server: one event loop under a policy.
//!
//! The rule: the policy sees every event first, in [`Server::next_event`], and hands on what is the
//! program's. [`Server::run`] is one loop over it; the C and Python faces are others. Where it is
//! reached is in `sockets`, how it ends in `drain`.

use std::sync::Arc;
use std::time::Duration;

use echoloop_core::sys::{Os, System};
use echoloop_core::{
    CloseReason, ConnId, Error, ErrorKind, Event, EventLoop, ListenerId, Origin, Remote, TimerId,
    TimerSpec, UdpId,
};

use crate::context;
use crate::drain::Drain;
use crate::limits::{Limits, Refusal};
use crate::seldom::Seldom;
use crate::workers::seat::Seat;
use crate::{Context, Hooks, Report, ServerBuilder, ServerCounters};

/// A server on one thread.
pub struct Server<S: System = Os> {
    pub(crate) el: EventLoop<S>,
    pub(crate) listeners: Vec<ListenerId>,
    pub(crate) udps: Vec<UdpId>,
    pub(crate) policy: ServerBuilder,
    pub(crate) limits: Arc<Limits>,
    /// What the clock of the limits is ahead of the loop's.
    ahead: Duration,
    pub(crate) tick: Option<TimerId>,
    pub(crate) drain: Option<Drain>,
    pub(crate) counters: ServerCounters,
    /// Connections that the program is not told of, refused or passed on, and whose `Closed` is
    /// still to come, within this turn.
    untold: Vec<ConnId>,
    refusals_told: Seldom,
    /// Among the workers, if this is one.
    pub(crate) seat: Option<Seat>,
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
    /// [`drain`](Self::drain) is for the caller to say; [`stop`](Self::stop) is what `run` does. One of
    /// several [`Workers`](crate::Workers) does at the end of each turn what all of them are asked for:
    /// so call this until there is nothing left.
    pub fn next_event(&mut self) -> Option<ServerEvent> {
        loop {
            let Some(event) = self.el.next_event() else {
                if self.seat.is_some() {
                    self.heed();
                }
                return None;
            };
            if let Some(event) = self.judge(event) {
                return Some(event);
            }
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
        match why {
            Refusal::MaxConnections => self.counters.refused_full += 1,
            Refusal::MaxPerPeer => self.counters.refused_peer += 1,
            Refusal::AcceptRate => self.counters.refused_rate += 1,
            Refusal::NoMemory => {}
        }
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

/// The other workers learn what this one has counted, whatever it ended by.
impl<S: System> Drop for Server<S> {
    fn drop(&mut self) {
        if let Some(seat) = &self.seat {
            seat.tell_last(self.counters, self.el.counters());
        }
    }
}
