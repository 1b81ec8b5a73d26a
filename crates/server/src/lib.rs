//! The server layer of echoloop: hooks, limits and a graceful drain over the core's event loop.
//!
//! [`Server`] applies its policy (how many connections, the idle timeout, when to tick, how to
//! drain) to the events of one loop and hands on the rest. A program takes them either by
//! [`Hooks`], a trait of callbacks, or by [`Server::next_event`], in pull style. [`Workers`] are one
//! server on several threads, with a loop and hooks each. [`Echo`] and [`Proxy`] are hooks ready made.
//!
//! ```
//! use echoloop_server::{ConnId, Context, Hooks, Server};
//!
//! /// Answers each line with its length.
//! struct Lengths;
//!
//! impl Hooks for Lengths {
//!     fn on_data(&mut self, cx: &mut Context<'_>, conn: ConnId) {
//!         let Ok(mut conn) = cx.conn(conn) else { return };
//!         while let Some(end) = conn.received().iter().position(|b| *b == b'\n') {
//!             let answer = format!("{end}\n");
//!             conn.consume(end + 1);
//!             let _ = conn.send(answer.as_bytes()); // A slow peer is no error; a closed one ends.
//!         }
//!     }
//! }
//!
//! let mut server = Server::builder().listen("127.0.0.1:0").build()?;
//! server.remote().stop()?; // From any thread: drain and return.
//! let report = server.run(&mut Lengths)?;
//! assert_eq!(report.bytes_lost, 0);
//! # Ok::<(), echoloop_server::Error>(())
//! ```

#![forbid(unsafe_code)]

mod builder;
mod context;
mod drain;
mod echo;
mod hooks;
mod limits;
mod proxy;
mod report;
mod seldom;
mod server;
mod sockets;
mod workers;

pub use builder::ServerBuilder;
pub use context::Context;
pub use echo::Echo;
pub use hooks::Hooks;
pub use limits::Refusal;
pub use proxy::{Proxy, ProxyCounters};
pub use report::{Report, ServerCounters};
pub use seldom::Seldom;
pub use server::{Server, ServerEvent};
pub use workers::{Spread, Stopper, WorkerLoad, Workers};

#[doc(no_inline)]
pub use echoloop_core::{
    Addr, CloseReason, ConnId, ConnOptions, ConnectOptions, Connection, Counters, Credentials,
    Datagram, Datagrams, Deadline, Error, ErrorKind, Event, EventLoop, GivenAway, Inherited,
    Interest, Keepalive, ListenOptions, ListenerId, LookupId, LoopOptions, Metrics, Origin, Rate,
    Readiness, Remote, ResolveError, Resolver, SignalId, Target, TimerId, TimerSpec, Udp, UdpId,
    UdpOptions, UdpSender, UnixAddr, WatchId, WatchMode, errno_name, errno_text,
    inherited_listeners,
};

/// The program of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
