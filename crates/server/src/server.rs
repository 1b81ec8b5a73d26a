//! The server: one event loop under a policy.
//!
//! The rule: the policy sees every event first, in [`Server::next_event`], and hands on what is the
//! program's. [`Server::run`] is one loop over it; the C and Python faces are others.

use std::time::Duration;

use echoloop_core::{
    Addr, CloseReason, ConnId, Error, ErrorKind, Event, EventLoop, ListenOptions, ListenerId,
    Remote, TimerId,
};

use crate::seldom::Seldom;
use crate::{Context, Hooks, Report, ServerBuilder, ServerCounters};

/// A server on one thread.
pub struct Server {
    el: EventLoop,
    listeners: Vec<ListenerId>,
    policy: ServerBuilder,
    tick: Option<TimerId>,
    drain: Option<Report>,
    counters: ServerCounters,
    /// Refused connections whose `Closed` is still to come, within this turn.
    refused: Vec<ConnId>,
    refusals_told: Seldom,
}

/// What [`Server::next_event`] hands out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServerEvent {
    /// An event of the loop that is the program's.
    Loop(Event),
    /// The tick interval has passed.
    Tick,
    /// The maximum of connections is reached and this one was refused. It has no other events.
    Refused {
        /// The connection, for the address of its peer.
        conn: ConnId,
    },
}

impl Server {
    /// Settings to make a server from.
    #[must_use]
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    pub(crate) fn start(
        el: EventLoop,
        tick: Option<TimerId>,
        policy: ServerBuilder,
    ) -> Result<Self, Error> {
        let addresses = policy.addresses.clone();
        let mut server = Self {
            el,
            listeners: Vec::new(),
            policy,
            tick,
            drain: None,
            counters: ServerCounters::default(),
            refused: Vec::new(),
            refusals_told: Seldom::default(),
        };
        for addr in addresses {
            server.listen(addr?, None)?;
        }
        Ok(server)
    }

    /// Listens on one more address, with the options of the builder or others.
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
        if self.is_draining() {
            return Err(Error::new("listen", ErrorKind::Closing).at(addr));
        }
        let id = self
            .el
            .listen(addr, options.unwrap_or(&self.policy.listen))?;
        self.listeners.push(id);
        Ok(id)
    }

    /// The addresses of all listeners, with the ports that the system chose.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<Addr> {
        self.listeners
            .iter()
            .filter_map(|id| self.el.listener_addr(*id).ok())
            .collect()
    }

    /// A handle for other threads. Its `stop` makes [`run`](Self::run) drain and return; a second
    /// `stop` cuts what is left.
    #[must_use]
    pub fn remote(&self) -> Remote {
        self.el.remote()
    }

    /// The loop, for all that the server has no say in.
    pub fn event_loop(&mut self) -> &mut EventLoop {
        &mut self.el
    }

    /// What the server counts; [`EventLoop::counters`] has the rest.
    #[must_use]
    pub fn counters(&self) -> ServerCounters {
        self.counters
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
            let (mut drain, draining) = (false, self.drain.is_some());
            loop {
                if let Some(conn) = self.el.next_data() {
                    hooks.on_data(&mut Context::new(&mut self.el, &mut drain, draining), conn);
                } else if let Some(event) = self.next_event() {
                    self.call(hooks, event, &mut drain);
                } else {
                    break;
                }
            }
            if drain {
                self.drain();
            }
        }
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

    /// Applies the policy to one event of the loop; `None` when it is not the program's.
    fn judge(&mut self, event: Event) -> Option<ServerEvent> {
        match event {
            Event::Accepted { conn, .. } => {
                Some(self.admit(conn).unwrap_or(ServerEvent::Loop(event)))
            }
            Event::Closed {
                conn,
                reason,
                unsent,
            } => self
                .note_closed(conn, reason, unsent)
                .then_some(ServerEvent::Loop(event)),
            Event::Timer { timer } if self.tick == Some(timer) => Some(ServerEvent::Tick),
            _ => Some(ServerEvent::Loop(event)),
        }
    }

    /// Begins to drain: no more is accepted, every connection is flushed and closed, within the
    /// drain deadline. Poll on until [`report`](Self::report) has the result.
    pub fn drain(&mut self) {
        if self.drain.is_some() {
            return;
        }
        self.drain = Some(Report::default());
        log::debug!("draining {} connections", self.el.connection_count());
        self.el.shut_down(self.policy.drain_deadline);
        self.listeners.clear();
        if let Some(tick) = self.tick.take() {
            let _ = self.el.cancel_timer(tick);
        }
    }

    /// Whether a drain has begun. A server drains once: from then on it neither listens nor
    /// connects, and [`run`](Self::run) returns the report of that drain.
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
        self.drain.filter(|_| self.el.connection_count() == 0)
    }

    fn call(&mut self, hooks: &mut impl Hooks, event: ServerEvent, drain: &mut bool) {
        let cx = &mut Context::new(&mut self.el, drain, self.drain.is_some());
        let event = match event {
            ServerEvent::Loop(event) => event,
            ServerEvent::Tick => return hooks.on_tick(cx),
            ServerEvent::Refused { conn } => return hooks.on_refused(cx, conn),
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
            Event::AcceptPaused { errno, .. } => {
                hooks.on_error(cx, Error::new("accept, paused", ErrorKind::Os(errno)));
            }
            Event::Stop => self.stop(),
            _ => {}
        }
    }

    /// The first stop drains, the second cuts.
    fn stop(&mut self) {
        if self.drain.is_some() {
            self.abort_all();
        }
        self.drain();
    }

    /// Lets a connection in, or refuses it.
    fn admit(&mut self, id: ConnId) -> Option<ServerEvent> {
        let open = self.el.connection_count() - self.refused.len();
        let max = self.policy.max_connections;
        if open <= max {
            self.counters.most_open = self.counters.most_open.max(open as u64);
            return None;
        }
        let mut conn = self.el.conn(id).ok()?;
        let peer = conn.peer_addr().clone();
        conn.abort();
        self.refused.push(id);
        self.counters.refused += 1;
        if let Some(untold) = self.refusals_told.tell(self.el.now()) {
            let more = if untold > 0 {
                format!(" ({untold} more since the last such line)")
            } else {
                String::new()
            };
            log::warn!("refused {peer}: the maximum of {max} connections is reached{more}");
        }
        Some(ServerEvent::Refused { conn: id })
    }

    /// Counts an end; false when nobody was told of the beginning.
    fn note_closed(&mut self, id: ConnId, reason: CloseReason, unsent: u64) -> bool {
        if let Some(place) = self.refused.iter().position(|refused| *refused == id) {
            self.refused.swap_remove(place);
            return false;
        }
        self.counters.bytes_lost += unsent;
        self.counters.timed_out += u64::from(matches!(reason, CloseReason::TimedOut(_)));
        if let Some(report) = &mut self.drain {
            report.bytes_lost += unsent;
            match unsent {
                0 => report.closed_clean += 1,
                _ => report.aborted += 1,
            }
        }
        true
    }
}
