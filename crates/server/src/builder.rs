//! The settings of a server before it exists.

use std::time::Duration;

use echoloop_core::{Addr, Error, EventLoop, ListenOptions, LoopOptions, TimerSpec};

use crate::Server;

/// Settings for a [`Server`]; made by [`Server::builder`].
#[derive(Clone, Debug)]
pub struct ServerBuilder {
    pub(crate) addresses: Vec<Result<Addr, Error>>,
    pub(crate) listen: ListenOptions,
    pub(crate) event_loop: LoopOptions,
    pub(crate) max_connections: usize,
    pub(crate) tick: Option<Duration>,
    pub(crate) drain_deadline: Duration,
}

impl Default for ServerBuilder {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            listen: ListenOptions::default(),
            event_loop: LoopOptions::default(),
            max_connections: usize::MAX,
            tick: None,
            drain_deadline: Duration::from_secs(5),
        }
    }
}

impl ServerBuilder {
    /// Listens on this address too; may be called several times, for IPv4 and IPv6. Port 0 lets
    /// the system choose; [`Server::local_addrs`] tells. A text that is no address is an error of
    /// [`build`](Self::build).
    #[must_use]
    pub fn listen(mut self, on: impl TryInto<Addr, Error: Into<Error>>) -> Self {
        self.addresses.push(on.try_into().map_err(Into::into));
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

    /// At most so many connections at a time; the next one is refused: reset at once, counted,
    /// told to [`Hooks::on_refused`](crate::Hooks::on_refused). Default: no limit but the system's.
    #[must_use]
    pub fn max_connections(mut self, max: usize) -> Self {
        self.max_connections = max;
        self
    }

    /// Calls [`Hooks::on_tick`](crate::Hooks::on_tick) once in this time. Default: never.
    #[must_use]
    pub fn tick_interval(mut self, interval: Duration) -> Self {
        self.tick = Some(interval);
        self
    }

    /// How long a drain may take. Default 5 s.
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
        let mut el = EventLoop::new(self.event_loop.clone())?;
        let tick = match self.tick {
            Some(interval) => Some(el.add_timer(TimerSpec::every(interval))?),
            None => None,
        };
        Server::start(el, tick, self)
    }
}
