//! What a hook may do with the loop: everything but run it.

use std::time::Duration;

use echoloop_core::{
    Addr, ConnId, ConnectOptions, Connection, Counters, Error, ErrorKind, EventLoop, ListenerId,
    Metrics, Remote, Target, TimerId, TimerSpec,
};

/// The loop as a hook sees it: all of [`EventLoop`] but `poll` and `next_event`, so a nested poll
/// does not compile.
///
/// ```compile_fail
/// # use echoloop_server::{ConnId, Context, Hooks};
/// struct Nested;
/// impl Hooks for Nested {
///     fn on_data(&mut self, cx: &mut Context<'_>, _: ConnId) {
///         cx.poll(None); // no such method
///     }
/// }
/// ```
pub struct Context<'a> {
    el: &'a mut EventLoop,
    drain: &'a mut bool,
    draining: bool,
}

impl<'a> Context<'a> {
    pub(crate) fn new(el: &'a mut EventLoop, drain: &'a mut bool, draining: bool) -> Self {
        Self {
            el,
            drain,
            draining,
        }
    }

    /// A view of a connection.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadHandle`](crate::ErrorKind::BadHandle).
    #[inline]
    pub fn conn(&mut self, id: ConnId) -> Result<Connection<'_>, Error> {
        self.el.conn(id)
    }

    /// Starts to connect; see [`EventLoop::connect`].
    ///
    /// # Errors
    ///
    /// As [`EventLoop::connect`]; [`ErrorKind::Closing`](crate::ErrorKind::Closing) while the
    /// server drains, or else the drain might never end.
    pub fn connect(
        &mut self,
        to: impl TryInto<Target, Error: Into<Error>>,
        options: &ConnectOptions,
    ) -> Result<ConnId, Error> {
        let to = to.try_into().map_err(Into::into)?;
        if self.draining {
            return Err(Error::new("connect", ErrorKind::Closing).at(to));
        }
        self.el.connect(to, options)
    }

    /// Adds a timer, for [`Hooks::on_timer`](crate::Hooks::on_timer).
    ///
    /// # Errors
    ///
    /// As [`EventLoop::add_timer`].
    pub fn add_timer(&mut self, spec: TimerSpec) -> Result<TimerId, Error> {
        self.el.add_timer(spec)
    }

    /// Moves a timer; see [`EventLoop::rearm_timer`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadHandle`](crate::ErrorKind::BadHandle).
    pub fn rearm_timer(&mut self, id: TimerId, delay: Duration) -> Result<(), Error> {
        self.el.rearm_timer(id, delay)
    }

    /// Removes a timer.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadHandle`](crate::ErrorKind::BadHandle).
    pub fn cancel_timer(&mut self, id: TimerId) -> Result<(), Error> {
        self.el.cancel_timer(id)
    }

    /// The word given with a timer.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadHandle`](crate::ErrorKind::BadHandle).
    pub fn timer_user_data(&self, id: TimerId) -> Result<u64, Error> {
        self.el.timer_user_data(id)
    }

    /// The address of a listener.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadHandle`](crate::ErrorKind::BadHandle).
    pub fn listener_addr(&self, id: ListenerId) -> Result<Addr, Error> {
        self.el.listener_addr(id)
    }

    /// All connections, for a broadcast.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnId> {
        self.el.connections()
    }

    /// How many connections there are.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.el.connection_count()
    }

    /// The time of this turn since the loop was made.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.el.now()
    }

    /// What the loop has done so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        self.el.counters()
    }

    /// Where the loop's time goes.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        self.el.metrics()
    }

    /// All that is open, as text; see [`EventLoop::dump`].
    #[must_use]
    pub fn dump(&self) -> String {
        self.el.dump()
    }

    /// A handle for other threads.
    #[must_use]
    pub fn remote(&self) -> Remote {
        self.el.remote()
    }

    /// Drains the server at the end of this turn: see [`Server::drain`](crate::Server::drain).
    pub fn drain(&mut self) {
        *self.drain = true;
    }
}
