//! The load generator: many connections to an echo server, driven from one thread.
//!
//! [`Plan`] says what to do, [`Load`] holds the connections, [`Load::run`] drives them for a time or
//! for a number of messages and returns a [`Report`]. A run ends only when every message it sent has
//! come back, or was lost with its connection, so its count is exactly what the server has echoed;
//! between two runs the connections stay open and silent. [`crowd`] has clients of all manners.
//!
//! The rule: it must cost less per message than the server it drives. One `recv` and one `send` move
//! all messages of a connection that are ready, the clock is read once per ready connection, and
//! without [`Plan::verify`] the kernel throws the received bytes away uncopied (`MSG_TRUNC`).
//!
//! It starts no process, pins nothing and measures nothing but its own clock; [`cpu_time`] is for
//! those who do.

#![forbid(unsafe_code)]

mod churn;
mod course;
mod cpu;
pub mod crowd;
mod datagrams;
mod error;
mod pattern;
mod report;
mod socket;
mod steady;
mod target;

use std::ops::ControlFlow;
use std::time::Duration;

pub use cpu::{cpu_time, own_cpu_time};
pub use error::{Cause, Error, Failed};
pub use report::{Progress, Report};
pub use target::Target;

use churn::Churn;
use datagrams::Datagrams;
use steady::Steady;

/// What the connections do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Every connection keeps `depth` messages in flight; a message that is back is sent again.
    Steady,
    /// Every message has a connection of its own: connect, send, receive it back, close.
    /// `connections` of them are under way at any time; `depth` is not used.
    Churn,
}

/// One load: who is driven, and how.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The echo server.
    pub target: Target,
    /// What the connections do.
    pub mode: Mode,
    /// How many connections are open at a time; at least 1. Over UDP these are sockets.
    pub connections: usize,
    /// Bytes in a message; at least 1.
    pub size: usize,
    /// Messages in flight on each connection; at least 1.
    pub depth: usize,
    /// Whether every byte that returns is compared with the one that was sent.
    pub verify: bool,
    /// How many addresses, from 127.0.0.2 upwards, the connections come from, in turn; 0 leaves the
    /// choice to the kernel. Each address has its own 28,000 ports.
    pub sources: u32,
    /// A connection on which a message waits ends when nothing at all comes back for this long.
    pub patience: Duration,
    /// Whether the others go on when a connection has failed. Then a run fails only when no
    /// connection is left ([`Mode::Churn`]: when no message came back); wrong bytes always end it.
    pub keep_going: bool,
}

impl Plan {
    /// A hundred connections with one message of 64 bytes in flight each, not verified.
    pub fn new(target: impl Into<Target>) -> Plan {
        Plan {
            target: target.into(),
            mode: Mode::Steady,
            connections: 100,
            size: 64,
            depth: 1,
            verify: false,
            sources: 0,
            patience: Duration::from_secs(20),
            keep_going: false,
        }
    }

    /// Whether this can be done at all.
    ///
    /// # Errors
    /// [`Error::Plan`] says what contradicts what.
    pub fn check(&self) -> Result<(), Error> {
        // What fits behind the headers of UDP and IPv4 in 65,535 bytes (RFC 768, RFC 791).
        const LARGEST_DATAGRAM: usize = 65_507;
        const MOST_IN_FLIGHT: usize = 10_000_000;
        let udp = matches!(self.target, Target::Udp(_));
        let wrong = if self.connections == 0 || self.size == 0 || self.depth == 0 {
            "connections, size and depth are at least 1"
        } else if self.connections.saturating_mul(self.depth) > MOST_IN_FLIGHT {
            "at most 10,000,000 messages are in flight"
        } else if self.sources > 0 && !self.target.is_ipv4_loopback() {
            "source addresses are for a target in 127.0.0.0/8 alone"
        } else if self.sources > 0xff_fffc {
            "127.0.0.0/8 has 16,777,212 source addresses"
        } else if udp && self.mode == Mode::Churn {
            "UDP has no connections that could come and go"
        } else if udp && self.size > LARGEST_DATAGRAM {
            "a datagram has at most 65,507 bytes"
        } else {
            return Ok(());
        };
        Err(Error::Plan(wrong))
    }
}

/// When a run stops sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// After this time; what is then in flight is still waited for.
    Elapsed(Duration),
    /// After exactly this many messages.
    Messages(u64),
}

/// The open connections of one plan.
#[derive(Debug)]
pub struct Load {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Steady(Steady),
    Churn(Churn),
    Datagrams(Datagrams),
}

impl Load {
    /// Connects all connections of the plan; with [`Mode::Churn`] there are none yet.
    ///
    /// A connect over TCP may still be under way when this returns; that it was refused is then told
    /// by the next run.
    ///
    /// # Errors
    /// [`Error::Plan`]; [`Error::System`] when a socket can't be made; [`Error::Connection`] when a
    /// connect is refused at once and the plan does not keep going.
    pub fn connect(plan: Plan) -> Result<Load, Error> {
        plan.check()?;
        let kind = match (&plan.target, plan.mode) {
            (Target::Udp(_), _) => Kind::Datagrams(Datagrams::open(plan)?),
            (_, Mode::Steady) => Kind::Steady(Steady::connect(plan)?),
            (_, Mode::Churn) => Kind::Churn(Churn::new(plan)?),
        };
        Ok(Load { kind })
    }

    /// Drives the connections until `until`, then until all that was sent has come back.
    ///
    /// # Errors
    /// [`Failed`], with what was done until then; the load is of no use after it. When a connection
    /// has failed, no more is sent on the others, but what is in flight there is waited for.
    pub fn run(&mut self, until: Until) -> Result<Report, Failed> {
        self.run_watched(until, |_| ControlFlow::Continue(()))
    }

    /// Like [`run`](Self::run), and tells ten times a second how far it is. `Break` ends the run at
    /// once: what is then in flight is in no count, and the load is of no further use.
    ///
    /// # Errors
    /// As of [`run`](Self::run).
    pub fn run_watched(
        &mut self,
        until: Until,
        mut watch: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Report, Failed> {
        match &mut self.kind {
            Kind::Steady(steady) => steady.run(until, &mut watch),
            Kind::Churn(churn) => churn.run(until, &mut watch),
            Kind::Datagrams(datagrams) => datagrams.run(until, &mut watch),
        }
    }
}
