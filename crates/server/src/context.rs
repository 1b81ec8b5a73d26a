//! What a hook may do with the loop: everything but run it.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use echoloop_core::{
    Addr, AdoptError, ConnId, ConnOptions, ConnectOptions, Connection, Counters, Error, ErrorKind,
    EventLoop, GivenAway, Interest, ListenerId, LookupId, Metrics, Remote, SignalId, Target,
    TimerId, TimerSpec, Udp, UdpId, UdpOptions, WatchId, WatchMode,
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
    drain: &'a mut Option<Drain>,
    closing: bool,
}

/// What a hook asked for.
pub(crate) enum Drain {
    ByPolicy,
    WithGrace(Duration),
}

impl<'a> Context<'a> {
    pub(crate) fn new(el: &'a mut EventLoop, drain: &'a mut Option<Drain>, closing: bool) -> Self {
        Self { el, drain, closing }
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
    /// As [`EventLoop::connect`]; [`ErrorKind::Closing`](crate::ErrorKind::Closing) while a
    /// draining server closes its connections, or else the drain might never end.
    pub fn connect(
        &mut self,
        to: impl TryInto<Target, Error: Into<Error>>,
        options: &ConnectOptions,
    ) -> Result<ConnId, Error> {
        let to = to.try_into().map_err(Into::into)?;
        if self.closing {
            return Err(Error::new("connect", ErrorKind::Closing).at(to));
        }
        self.el.connect(to, options)
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

    /// All listeners.
    #[must_use]
    pub fn listeners(&self) -> Vec<ListenerId> {
        self.el.listeners()
    }

    /// All UDP sockets.
    #[must_use]
    pub fn udps(&self) -> Vec<UdpId> {
        self.el.udps()
    }

    /// Drains the server at the end of this turn: see [`Server::drain`](crate::Server::drain).
    pub fn drain(&mut self) {
        self.drain.get_or_insert(Drain::ByPolicy);
    }

    /// The same with another grace than the
    /// [builder's](crate::ServerBuilder::drain_grace): see
    /// [`Server::drain_with_grace`](crate::Server::drain_with_grace).
    pub fn drain_with_grace(&mut self, grace: Duration) {
        *self.drain = Some(Drain::WithGrace(grace));
    }

    /// Opens a UDP socket; see [`EventLoop::bind_udp`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn bind_udp(
        &mut self,
        on: impl TryInto<Addr, Error: Into<Error>>,
        options: &UdpOptions,
    ) -> Result<UdpId, Error> {
        self.el.bind_udp(on, options)
    }

    /// Takes over a connected socket; see [`EventLoop::adopt`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn adopt(
        &mut self,
        socket: impl Into<OwnedFd>,
        options: &ConnOptions,
    ) -> Result<ConnId, AdoptError> {
        self.el.adopt(socket, options)
    }
}

/// The methods that are the loop's own, each with its name there.
macro_rules! as_the_loop_has_it {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)*) => {
        /// As the loop has it: each is the method of [`EventLoop`] with its name, and the errors
        /// are those said there.
        #[allow(clippy::missing_errors_doc)]
        impl Context<'_> {
            $(
                #[doc = concat!("See [`EventLoop::", stringify!($name), "`].")]
                pub fn $name(&mut self, $($arg: $type),*) -> $answer {
                    self.el.$name($($arg),*)
                }
            )*
        }
    };
}

as_the_loop_has_it! {
    fn add_timer(spec: TimerSpec) -> Result<TimerId, Error>;
    fn rearm_timer(id: TimerId, delay: Duration) -> Result<(), Error>;
    fn rearm_timer_at(id: TimerId, at: Duration) -> Result<(), Error>;
    fn cancel_timer(id: TimerId) -> Result<(), Error>;
    fn timer_user_data(id: TimerId) -> Result<u64, Error>;
    fn listener_addr(id: ListenerId) -> Result<Addr, Error>;
    fn pipe(a: ConnId, b: ConnId) -> Result<(), Error>;
    fn unpipe(id: ConnId) -> Result<(), Error>;
    fn give_away(id: ConnId) -> Result<GivenAway, Error>;
    fn hand_over(id: ConnId, to: &Remote) -> Result<(), Error>;
    fn udp(id: UdpId) -> Result<Udp<'_>, Error>;
    fn share_listener(id: ListenerId) -> Result<OwnedFd, Error>;
    fn share_udp(id: UdpId) -> Result<OwnedFd, Error>;
    fn close_udp(id: UdpId) -> Result<(), Error>;
    fn resolve(host: &str, timeout: Option<Duration>) -> Result<LookupId, Error>;
    fn resolved(id: LookupId) -> Result<Vec<IpAddr>, Error>;
    fn cancel_lookup(id: LookupId) -> Result<(), Error>;
    fn watch_owned(fd: OwnedFd, interest: Interest, mode: WatchMode) -> Result<WatchId, Error>;
    fn modify_watch(id: WatchId, interest: Interest) -> Result<(), Error>;
    fn unwatch(id: WatchId) -> Result<(), Error>;
    fn unwatch_owned(id: WatchId) -> Result<OwnedFd, Error>;
    fn watch_signal(number: i32) -> Result<SignalId, Error>;
    fn unwatch_signal(id: SignalId) -> Result<(), Error>;
}
