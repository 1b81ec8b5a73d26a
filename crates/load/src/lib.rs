//! The load generator: many connections to an echo server, driven from one thread.
//!
//! [`Plan`] says what to do, [`Load`] holds the connections, [`Load::run`] drives them for a time or
//! for a number of messages and returns a [`Report`]. A run ends only when every message it sent has
//! come back, so its count is exactly what the server has echoed; between two runs the connections
//! stay open and silent.
//!
//! The rule: it must cost less per message than the server it drives. One `recv` and one `send` move
//! all messages of a connection that are ready, the clock is read once per ready connection, and
//! without [`Plan::verify`] the kernel throws the received bytes away uncopied (`MSG_TRUNC`).
//!
//! It starts no process, pins nothing and measures nothing but its own clock.

#![forbid(unsafe_code)]

mod churn;
mod pattern;
mod socket;
mod steady;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use churn::Churn;
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
    pub target: SocketAddrV4,
    /// What the connections do.
    pub mode: Mode,
    /// How many connections are open at a time; at least 1.
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
    /// A run in which nothing at all comes back for this long has failed.
    pub patience: Duration,
}

impl Plan {
    /// A hundred connections with one message of 64 bytes in flight each, not verified.
    pub fn new(target: SocketAddrV4) -> Plan {
        Plan {
            target,
            mode: Mode::Steady,
            connections: 100,
            size: 64,
            depth: 1,
            verify: false,
            sources: 0,
            patience: Duration::from_secs(20),
        }
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

/// What a run has done.
#[derive(Debug, Clone)]
pub struct Report {
    /// Messages that were sent and have come back whole.
    pub messages: u64,
    /// From the first send to the last byte.
    pub elapsed: Duration,
    /// Nanoseconds from the send of a message (or its connect) to its last byte, three digits.
    pub latency: Histogram<u64>,
}

impl Report {
    fn new() -> Report {
        // The bounds are constants that the constructor accepts: 1 <= low, 2 * low <= high, 3 <= 5.
        let latency = Histogram::new_with_bounds(1, 120_000_000_000, 3).expect("constant bounds");
        Report {
            messages: 0,
            elapsed: Duration::ZERO,
            latency,
        }
    }

    fn record(&mut self, latency: Duration) {
        self.messages += 1;
        self.latency.saturating_record(latency.as_nanos() as u64);
    }
}

/// Why a load failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A byte came back that was not the one sent.
    #[error(
        "connection {connection}: byte {offset} came back as {found:#04x}, sent was {sent:#04x}"
    )]
    WrongByte {
        /// Which connection, counted from 0.
        connection: usize,
        /// Which byte of all that this connection has sent, counted from 0.
        offset: u64,
        /// What was sent.
        sent: u8,
        /// What came back.
        found: u8,
    },
    /// More came back than was sent.
    #[error("connection {connection}: more bytes came back than were sent")]
    TooMany {
        /// Which connection, counted from 0.
        connection: usize,
    },
    /// The server ended a connection on which a message was in flight.
    #[error("connection {connection}: the server closed it")]
    Closed {
        /// Which connection, counted from 0.
        connection: usize,
    },
    /// Nothing came back for as long as [`Plan::patience`].
    #[error("nothing came back for {0:?}")]
    Stalled(Duration),
    /// The operating system refused.
    #[error("{doing}: {source}")]
    System {
        /// The operation that failed.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    fn system(doing: &'static str) -> impl Fn(rustix::io::Errno) -> Error {
        move |errno| Error::System {
            doing,
            source: errno.into(),
        }
    }
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
}

impl Load {
    /// Connects all connections of the plan; with [`Mode::Churn`] there are none yet.
    ///
    /// # Errors
    /// [`Error::System`] when a socket can't be made or the server refuses.
    pub fn connect(plan: Plan) -> Result<Load, Error> {
        assert!(plan.connections >= 1 && plan.size >= 1 && plan.depth >= 1);
        let kind = match plan.mode {
            Mode::Steady => Kind::Steady(Steady::connect(plan)?),
            Mode::Churn => Kind::Churn(Churn::new(plan)?),
        };
        Ok(Load { kind })
    }

    /// Drives the connections until `until`, then until all that was sent has come back.
    ///
    /// # Errors
    /// Any [`Error`]; the load is of no use after one.
    pub fn run(&mut self, until: Until) -> Result<Report, Error> {
        match &mut self.kind {
            Kind::Steady(steady) => steady.run(until),
            Kind::Churn(churn) => churn.run(until),
        }
    }
}

/// How many messages have been and may still be sent, and until when.
#[derive(Debug)]
struct Budget {
    taken: u64,
    left: u64,
    ends: Option<Instant>,
}

impl Budget {
    fn new(until: Until, now: Instant) -> Budget {
        let (left, ends) = match until {
            Until::Elapsed(time) => (u64::MAX, Some(now + time)),
            Until::Messages(left) => (left, None),
        };
        Budget {
            taken: 0,
            left,
            ends,
        }
    }

    /// Takes as many of `wanted` messages as may still be sent.
    fn take(&mut self, wanted: u64) -> u64 {
        let taken = wanted.min(self.left);
        self.taken += taken;
        self.left -= taken;
        taken
    }

    fn look_at(&mut self, now: Instant) {
        if self.ends.is_some_and(|ends| now >= ends) {
            self.left = 0;
            self.ends = None;
        }
    }

    /// How long to wait for events at most.
    fn wait(&self, patience: Duration) -> Duration {
        self.ends.map_or(patience, |ends| {
            ends.saturating_duration_since(Instant::now()).min(patience)
        })
    }
}

/// The address that connection number `index` comes from.
fn source(plan: &Plan, index: usize) -> Option<Ipv4Addr> {
    let first = u32::from(Ipv4Addr::new(127, 0, 0, 2));
    (plan.sources > 0).then(|| Ipv4Addr::from(first + index as u32 % plan.sources))
}
