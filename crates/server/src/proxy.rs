//! The proxy: each client gets a connection of its own to one target, and the two are piped.
//!
//! The rule: a client is not read from before its connection is made, so what it has sent meanwhile
//! waits in the kernel and nothing is lost. One that can't be connected is reset, never closed as
//! if it had been answered. Until they are piped, the user data of each of the two names the other;
//! after that the loop itself carries bytes and ends (`EventLoop::pipe`), and no hook is called for
//! them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use echoloop_core::{CloseReason, ConnId, ConnectOptions, Error, ListenerId, Origin, Target};

use crate::{Context, Hooks, Seldom};

/// Connects each client to one target and carries bytes, ends of streams and resets both ways, over
/// TCP and Unix sockets in any combination.
///
/// A drain lets the pairs go on for its [grace](crate::ServerBuilder::drain_grace).
/// [`max_connections`](crate::ServerBuilder::max_connections) and the other limits count clients;
/// the options of listeners are those of the clients' side, deadlines too. While a client waits for
/// its connection it is not read from, so its
/// [`first_byte_timeout`](crate::ConnOptions::first_byte_timeout) should be longer than a connect
/// may take.
///
/// Clones share one set of [counters](Self::counters), so that each worker can have its own.
///
/// ```no_run
/// use echoloop_server::{Proxy, Server};
///
/// let mut server = Server::builder().listen("127.0.0.1:8080").build()?;
/// server.run(&mut Proxy::new("localhost:80")?)?;
/// # Ok::<(), echoloop_server::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Proxy {
    target: Target,
    options: ConnectOptions,
    counts: Arc<Counts>,
    failures_told: Seldom,
}

/// What a [`Proxy`] and its clones have done.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct ProxyCounters {
    /// Clients that were connected to the target.
    pub connected: u64,
    /// Clients that were reset because their connection could not be made, or because a drain ended
    /// it before.
    pub failed: u64,
    /// Clients that ended before it was made.
    pub gave_up: u64,
}

#[derive(Default, Debug)]
struct Counts {
    connected: AtomicU64,
    failed: AtomicU64,
    gave_up: AtomicU64,
}

impl Proxy {
    /// A proxy to this target: an address, or a name and a port, which is resolved anew for each
    /// client. Connects have [`ConnectOptions::default`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for a text that is no target.
    pub fn new(target: impl TryInto<Target, Error: Into<Error>>) -> Result<Self, Error> {
        Ok(Self {
            target: target.try_into().map_err(Into::into)?,
            options: ConnectOptions::default(),
            counts: Arc::default(),
            failures_told: Seldom::default(),
        })
    }

    /// The same with these options for its connects and the connections that they make.
    #[must_use]
    pub fn connect_options(mut self, options: ConnectOptions) -> Self {
        self.options = options;
        self
    }

    /// What it and its clones have done so far. May be asked from any thread.
    #[must_use]
    pub fn counters(&self) -> ProxyCounters {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        ProxyCounters {
            connected: read(&self.counts.connected),
            failed: read(&self.counts.failed),
            gave_up: read(&self.counts.gave_up),
        }
    }

    /// A client came: it waits for a connection of its own.
    fn welcome(&mut self, cx: &mut Context<'_>, client: ConnId) {
        let upstream = match cx.connect(self.target.clone(), &self.options) {
            Ok(upstream) => upstream,
            Err(e) => return self.refuse(cx, client, &e.kind().to_string()),
        };
        if let Ok(mut view) = cx.conn(client) {
            view.pause();
            view.set_user_data(upstream.to_raw());
        }
        if let Ok(mut view) = cx.conn(upstream) {
            view.set_user_data(client.to_raw());
        }
    }

    /// The connection of a client is made: the rest is the loop's.
    fn join(&mut self, cx: &mut Context<'_>, upstream: ConnId) {
        let Some(client) = part(cx, upstream) else {
            return abort(cx, upstream);
        };
        match cx.pipe(client, upstream) {
            Ok(()) => {
                self.counts.connected.fetch_add(1, Ordering::Relaxed);
                if let Ok(mut view) = cx.conn(client) {
                    view.resume();
                }
            }
            Err(e) => {
                abort(cx, upstream);
                self.refuse(cx, client, &e.to_string());
            }
        }
    }

    /// Resets a client that can't be connected.
    fn refuse(&mut self, cx: &mut Context<'_>, client: ConnId, why: &str) {
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
        let told = self.failures_told.tell(cx.now());
        let Ok(mut view) = cx.conn(client) else {
            return;
        };
        if let Some(untold) = told {
            let more = match untold {
                0 => String::new(),
                n => format!(" ({n} more could not be since the last such line)"),
            };
            let (peer, target) = (view.peer_addr(), &self.target);
            log::warn!("{peer} could not be connected to {target}: {why}{more}");
        }
        view.abort();
    }
}

impl Hooks for Proxy {
    fn on_open(&mut self, cx: &mut Context<'_>, conn: ConnId, _: Option<ListenerId>) {
        match cx.conn(conn).map(|view| view.origin()) {
            Ok(Origin::Connected) => self.join(cx, conn),
            _ => self.welcome(cx, conn),
        }
    }

    /// Nothing: what comes before the two are piped goes first when they are.
    fn on_data(&mut self, _: &mut Context<'_>, _: ConnId) {}

    fn on_close(&mut self, cx: &mut Context<'_>, conn: ConnId, reason: CloseReason, _: u64) {
        let Ok(view) = cx.conn(conn) else { return };
        let is_client = view.origin() != Origin::Connected;
        log::debug!("closed {}: {reason}", view.peer_addr());
        let Some(other) = part(cx, conn) else { return };
        if is_client {
            self.counts.gave_up.fetch_add(1, Ordering::Relaxed);
            abort(cx, other);
        } else {
            self.refuse(cx, other, &reason.to_string());
        }
    }

    fn on_error(&mut self, _: &mut Context<'_>, error: Error) {
        log::warn!("{error}");
    }
}

/// The other of two that wait to be piped; from now on neither names the other.
fn part(cx: &mut Context<'_>, conn: ConnId) -> Option<ConnId> {
    let mut view = cx.conn(conn).ok()?;
    let other = view.user_data();
    view.set_user_data(0);
    let other = ConnId::from_raw(other);
    // Zero, too, is nobody's handle.
    cx.conn(other).ok()?.set_user_data(0);
    Some(other)
}

fn abort(cx: &mut Context<'_>, conn: ConnId) {
    if let Ok(mut view) = cx.conn(conn) {
        view.abort();
    }
}
