//! The settings of a server before it exists.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use echoloop_core::sys::System;
use echoloop_core::{
    Addr, Error, EventLoop, ListenOptions, ListenerId, LoopOptions, UdpId, UdpOptions,
};

use crate::Server;
use crate::limits::Limits;

/// Settings for a [`Server`]; made by [`Server::builder`].
#[derive(Clone, Debug)]
pub struct ServerBuilder {
    pub(crate) openings: Vec<Opening>,
    pub(crate) listen: ListenOptions,
    pub(crate) udp: UdpOptions,
    pub(crate) event_loop: LoopOptions,
    pub(crate) max_connections: usize,
    pub(crate) max_per_peer: Option<u32>,
    pub(crate) accept_rate: Option<(u32, u32)>,
    pub(crate) tick: Option<Duration>,
    pub(crate) drain_grace: Duration,
    pub(crate) drain_deadline: Duration,
}

/// Where a server is reached.
#[derive(Clone, Debug)]
pub(crate) enum Opening {
    Listen(Result<Addr, Error>),
    Inherited(Arc<OwnedFd>),
    Udp(Result<Addr, Error>),
}

/// What an [`Opening`] became.
#[derive(Clone, Copy)]
pub(crate) enum Opened {
    Listener(ListenerId),
    Udp(UdpId),
}

impl Default for ServerBuilder {
    fn default() -> Self {
        Self {
            openings: Vec::new(),
            listen: ListenOptions::default(),
            udp: UdpOptions::default(),
            event_loop: LoopOptions::default(),
            max_connections: usize::MAX,
            max_per_peer: None,
            accept_rate: None,
            tick: None,
            drain_grace: Duration::ZERO,
            drain_deadline: Duration::from_secs(5),
        }
    }
}

impl ServerBuilder {
    /// Listens on this address too, TCP or Unix (`unix:PATH`); may be called several times. Port 0
    /// lets the system choose; [`Server::local_addrs`] tells. A text that is no address is an error
    /// of [`build`](Self::build).
    #[must_use]
    pub fn listen(mut self, on: impl TryInto<Addr, Error: Into<Error>>) -> Self {
        let addr = on.try_into().map_err(Into::into);
        self.openings.push(Opening::Listen(addr));
        self
    }

    /// Serves this socket too, a listener or a UDP socket that was opened elsewhere: one of
    /// [`inherited_listeners`](echoloop_core::inherited_listeners). The builder keeps it open, so
    /// drop the builder, or what was made of it, to let go of it.
    #[must_use]
    pub fn inherit(mut self, listener: impl Into<OwnedFd>) -> Self {
        let listener = Arc::new(listener.into());
        self.openings.push(Opening::Inherited(listener));
        self
    }

    /// Opens a UDP socket on this address too; see
    /// [`Hooks::on_datagrams`](crate::Hooks::on_datagrams).
    #[must_use]
    pub fn bind_udp(mut self, on: impl TryInto<Addr, Error: Into<Error>>) -> Self {
        let addr = on.try_into().map_err(Into::into);
        self.openings.push(Opening::Udp(addr));
        self
    }

    /// Options of all UDP sockets.
    #[must_use]
    pub fn udp_options(mut self, options: UdpOptions) -> Self {
        self.udp = options;
        self
    }

    /// Options of all listeners and the connections they accept: marks, caps, deadlines, backlog.
    #[must_use]
    pub fn listen_options(mut self, options: ListenOptions) -> Self {
        self.listen = options;
        self
    }

    /// Closes connections on which no byte moved for so long. Default: never.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.listen.conn.idle_timeout = Some(timeout);
        self
    }

    /// Options of the event loop.
    #[must_use]
    pub fn loop_options(mut self, options: LoopOptions) -> Self {
        self.event_loop = options;
        self
    }

    /// At most so many accepted connections at a time; the next one is refused: reset at once,
    /// counted, told to [`Hooks::on_refused`](crate::Hooks::on_refused), and now and then logged.
    /// Default: no limit but the system's.
    #[must_use]
    pub fn max_connections(mut self, max: usize) -> Self {
        self.max_connections = max;
        self
    }

    /// At most so many accepted connections at a time from one IPv4 address, or from one /64 of
    /// IPv6, which is the least that a site is given (RFC 6177); the next one is refused. Unix
    /// peers are not counted. Default: no limit.
    #[must_use]
    pub fn max_per_peer(mut self, max: u32) -> Self {
        self.max_per_peer = Some(max);
        self
    }

    /// Accepts so many connections a second, and `burst` at once after a quiet time (a token
    /// bucket, tc-tbf(8)); those beyond are refused. Default: no limit.
    #[must_use]
    pub fn accept_rate(mut self, per_second: u32, burst: u32) -> Self {
        self.accept_rate = Some((per_second, burst));
        self
    }

    /// Calls [`Hooks::on_tick`](crate::Hooks::on_tick) once in this time, until a drain begins.
    /// Default: never.
    #[must_use]
    pub fn tick_interval(mut self, interval: Duration) -> Self {
        self.tick = Some(interval);
        self
    }

    /// How long connections are served on after a drain has begun, before they are closed. The
    /// drain ends sooner where they end by themselves. For a restart that loses nothing: nobody
    /// who was accepted is cut off before its request came. Default zero: they are closed at once.
    #[must_use]
    pub fn drain_grace(mut self, grace: Duration) -> Self {
        self.drain_grace = grace;
        self
    }

    /// How long closing them, at the end of a drain, may take. Default 5 s.
    #[must_use]
    pub fn drain_deadline(mut self, deadline: Duration) -> Self {
        self.drain_deadline = deadline;
        self
    }

    /// Makes the server and starts to listen. Nothing is served until it is run.
    ///
    /// # Errors
    ///
    /// Those of [`EventLoop::new`] and [`EventLoop::listen`], the latter with the address.
    pub fn build(self) -> Result<Server, Error> {
        let el = EventLoop::new(self.event_loop.clone())?;
        let limits = Arc::new(self.limits());
        Server::start(el, self, limits)
    }

    /// As [`build`](Self::build), on another system: the simulated one, in tests.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build).
    pub fn build_on<S: System>(self, sys: S) -> Result<Server<S>, Error> {
        let el = EventLoop::with_system(sys, self.event_loop.clone())?;
        let limits = Arc::new(self.limits());
        Server::start(el, self, limits)
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits::new(self.max_connections, self.max_per_peer, self.accept_rate)
    }
}
