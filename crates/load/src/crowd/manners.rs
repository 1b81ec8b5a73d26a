//! How a client behaves: what it sends and how fast, what it reads, and how it goes.
//!
//! The rule: a behaviour is data, five answers that one engine acts out, so that a new kind of client
//! is a row in the table of [`Kind`] and no code. Good ones are in the table too: they are told from
//! the others by what becomes of them, not by what drives them.

use std::time::Duration;

/// The behaviour of a client on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manners {
    /// Bytes it sends in all.
    pub send: u64,
    /// Bytes it sends at a time; over UDP a datagram each.
    pub piece: usize,
    /// The time between two pieces, counted from when they were due; zero sends all at once.
    pub every: Duration,
    /// What it reads.
    pub read: Read,
    /// What it does when all is sent and, if it reads, all is back.
    pub then: Then,
}

/// What a client reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// Whatever comes; every byte is compared with the one that was sent.
    All,
    /// Nothing.
    Nothing,
    /// A byte, then so long nothing.
    Sips(Duration),
}

/// How a client goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Not by itself: the server has to end it.
    Stay,
    /// close(2); the kernel makes a reset of it when anything is unread.
    Close,
    /// A reset: SO_LINGER with a time of zero, socket(7).
    Reset,
    /// It shuts down its writing side as soon as all is sent, and reads to the end of the stream.
    Finish,
    /// Its machine is gone: no packet tells the server (TCP_REPAIR, which needs CAP_NET_ADMIN). Where
    /// that is not allowed it stays and is silent.
    Vanish,
}

/// The kinds of clients that are driven by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Echoes a message of 64 bytes 20 times a second for 3 seconds, and closes.
    Good,
    /// Echoes 1,000 bytes and closes.
    Echo,
    /// Sends 100,000 bytes, shuts down its writing side and reads them all.
    HalfClose,
    /// Echoes 40 bytes, one at a time, in a second.
    Slow,
    /// Asks for 20,000 bytes and closes without reading them.
    Abandon,
    /// Connects and says nothing.
    Silent,
    /// Echoes 64 bytes, then says nothing.
    Idle,
    /// Sends a byte a second for ever (slowloris).
    Trickle,
    /// Sends 4 MB and reads nothing.
    Greedy,
    /// Sends 4 MB and reads a byte a second.
    Sip,
    /// Connects and closes.
    Knock,
    /// Connects, sends 64 bytes and resets.
    Reset,
    /// Connects and vanishes.
    VanishSilent,
    /// Echoes 64 bytes and vanishes.
    VanishIdle,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 14] = [
        Kind::Good,
        Kind::Echo,
        Kind::HalfClose,
        Kind::Slow,
        Kind::Abandon,
        Kind::Silent,
        Kind::Idle,
        Kind::Trickle,
        Kind::Greedy,
        Kind::Sip,
        Kind::Knock,
        Kind::Reset,
        Kind::VanishSilent,
        Kind::VanishIdle,
    ];

    /// The name on command lines and in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Good => "good",
            Kind::Echo => "echo",
            Kind::HalfClose => "half-close",
            Kind::Slow => "slow",
            Kind::Abandon => "abandon",
            Kind::Silent => "silent",
            Kind::Idle => "idle",
            Kind::Trickle => "trickle",
            Kind::Greedy => "greedy",
            Kind::Sip => "sip",
            Kind::Knock => "knock",
            Kind::Reset => "reset",
            Kind::VanishSilent => "vanish-silent",
            Kind::VanishIdle => "vanish-idle",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// How it behaves.
    #[must_use]
    pub fn manners(self) -> Manners {
        use Read::{All, Nothing, Sips};
        use Then::{Close, Finish, Reset, Stay, Vanish};
        let second = Duration::from_secs(1);
        let (send, piece, every, read, then) = match self {
            Kind::Good => (60 * 64, 64, second / 20, All, Close),
            Kind::Echo => (1_000, 1_000, Duration::ZERO, All, Close),
            Kind::HalfClose => (100_000, 100_000, Duration::ZERO, All, Finish),
            Kind::Slow => (40, 1, second / 40, All, Close),
            Kind::Abandon => (20_000, 20_000, Duration::ZERO, Nothing, Close),
            Kind::Silent => (0, 1, Duration::ZERO, All, Stay),
            Kind::Idle => (64, 64, Duration::ZERO, All, Stay),
            Kind::Trickle => (u64::MAX, 1, second, All, Stay),
            Kind::Greedy => (4_000_000, 65_536, Duration::ZERO, Nothing, Stay),
            Kind::Sip => (4_000_000, 65_536, Duration::ZERO, Sips(second), Stay),
            Kind::Knock => (0, 1, Duration::ZERO, Nothing, Close),
            Kind::Reset => (64, 64, Duration::ZERO, Nothing, Reset),
            Kind::VanishSilent => (0, 1, Duration::ZERO, All, Vanish),
            Kind::VanishIdle => (64, 64, Duration::ZERO, All, Vanish),
        };
        Manners {
            send,
            piece,
            every,
            read,
            then,
        }
    }
}
