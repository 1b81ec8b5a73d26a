//! The core of echoloop: one non-blocking network event loop, in pull style.
//!
//! [`EventLoop::poll`] waits, [`EventLoop::next_event`] hands out one [`Event`]. Events are ids and
//! kinds; the bytes are read and sent through a short-lived view, [`Connection`]. Nothing is
//! borrowed while a program handles an event, so it may send, close, start timers or close the very
//! connection it is handling, from anywhere.
//!
//! ```
//! use std::time::Duration;
//! use echoloop_core::{ConnectOptions, Event, EventLoop, ListenOptions, LoopOptions};
//!
//! let mut el = EventLoop::new(LoopOptions::default())?;
//! let listener = el.listen("127.0.0.1:0", &ListenOptions::default())?;
//! let addr = el.listener_addr(listener)?;
//! let client = el.connect(addr, &ConnectOptions::default())?;
//! el.conn(client)?.send(b"hello")?; // Taken at once, sent when the connection is made.
//!
//! let mut echoed = Vec::new();
//! while echoed.len() < 5 {
//!     el.poll(Some(Duration::from_secs(5)))?;
//!     while let Some(event) = el.next_event() {
//!         match event {
//!             Event::Data { conn } if conn == client => {
//!                 let mut view = el.conn(conn)?;
//!                 echoed.extend_from_slice(view.received());
//!                 view.consume(usize::MAX);
//!             }
//!             Event::Data { conn } => el.conn(conn)?.send_received(usize::MAX)?,
//!             _ => {}
//!         }
//!     }
//! }
//! assert_eq!(echoed, b"hello");
//! # Ok::<(), echoloop_core::Error>(())
//! ```
//!
//! # How do I ...
//!
//! Each link leads to what does it, with an example there.
//!
//! | ... | |
//! |---|---|
//! | listen, on TCP or a Unix socket | [`EventLoop::listen`] |
//! | listen on what systemd has opened | [`inherited_listeners`], [`EventLoop::adopt_listener`] |
//! | pass listeners to the process that replaces this one | [`EventLoop::share_listener`] |
//! | connect to a name or an address | [`EventLoop::connect`] |
//! | resolve a name by itself, or by my own means | [`EventLoop::resolve`], [`Resolver`] |
//! | cut what arrives into messages, and answer | [`Connection`] |
//! | bound the memory, of all and of each | [`LoopOptions`] |
//! | set options of sockets, deadlines, half-open | [`ConnOptions`] |
//! | be rid of peers that are silent or trickle | [`ConnOptions::first_byte_timeout`], [`ConnOptions::lifetime`] |
//! | bound how fast a peer may send | [`ConnOptions::receive_rate`] |
//! | bound how fast I send | [`ConnOptions::pacing_rate`] |
//! | join two connections into a proxy | [`EventLoop::pipe`] |
//! | take over a socket, or give one up | [`EventLoop::adopt`], [`EventLoop::give_away`] |
//! | move a connection to a loop of another thread | [`EventLoop::hand_over`] |
//! | send and receive datagrams, join a group | [`EventLoop::bind_udp`], [`Udp::join_multicast`] |
//! | start timers | [`EventLoop::add_timer`], [`TimerSpec`] |
//! | reach the loop from other threads | [`EventLoop::remote`] |
//! | watch a descriptor of my own | [`EventLoop::watch`], [`EventLoop::watch_owned`] |
//! | wait for descriptors without a loop | [`Selector`], [`poll()`], [`select`] |
//! | have signals as events | [`EventLoop::watch_signal`] |
//! | nest the loop in another one | [`EventLoop::descriptor`] |
//! | know what goes on | [`Counters`], [`Metrics`], [`EventLoop::on_slow_handler`], [`EventLoop::dump`] |
//! | go on in the child of a fork | [`EventLoop::after_fork`] |
//!
//! What a loop promises, and what it does not, is said by [`EventLoop`]; what can happen, by
//! [`Event`]; why a connection ended, by [`CloseReason`].

#![forbid(unsafe_code)]

mod addr;
mod conn;
mod end;
mod error;
mod event;
mod event_loop;
mod fork;
mod handle;
mod inherited;
mod interface;
mod metrics;
mod nested;
mod options;
mod remote;
mod resolve;
mod room;
mod signal;
mod slots;
mod successor;
mod sync;
pub mod sys;
mod time;
mod turn;
mod udp;
mod watch;

pub use addr::{Addr, Target, UnixAddr};
pub use conn::adopt::{AdoptError, GivenAway};
pub use conn::connection::Connection;
pub use conn::race::Attempted;
pub use conn::rate::Rate;
pub use error::{Error, ErrorKind, errno_name, errno_text};
pub use event::{CloseReason, Deadline, Event, Origin};
pub use event_loop::EventLoop;
#[doc(hidden)]
pub use handle::try_hold_loop_numbers;
pub use handle::{
    ConnId, Kind, ListenerId, LookupId, LoopId, MAX_LOOPS, SignalId, TimerId, UdpId, WatchId,
};
pub use inherited::{Inherited, inherited_listeners};
pub use interface::Interface;
pub use metrics::Metrics;
pub use metrics::counters::Counters;
pub use metrics::histogram::{Bucket, Histogram};
pub use metrics::timing::SlowHandler;
pub use options::{ConnOptions, ConnectOptions, Keepalive, ListenOptions, LoopOptions};
pub use remote::Remote;
pub use resolve::Resolver;
pub use resolve::resolve_error::ResolveError;
pub use sys::{Credentials, Interest, Readiness, WatchMode};
pub use time::timer::TimerSpec;
pub use udp::{Datagram, Datagrams, Udp, UdpOptions, UdpSender};
pub use watch::poll_once::{PollFd, poll};
pub use watch::select::{Selection, select};
pub use watch::selector::{Selected, Selector};
