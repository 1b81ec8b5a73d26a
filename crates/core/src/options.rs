//! Options of loops, listeners and connections, with the defaults that bound memory.
//!
//! The rule: `Default` is what a program that never heard of the option should have. Sizes are in
//! bytes. The options are read when the object is made; [`Connection`](crate::Connection) has
//! setters for those that make sense later.

use std::net::SocketAddr;
use std::time::Duration;

use crate::{Rate, Resolver};

/// Options of an [`EventLoop`](crate::EventLoop).
///
/// ```
/// use echoloop_core::{ConnOptions, EventLoop, ListenOptions, LoopOptions};
///
/// let options = LoopOptions { memory_budget: 64 << 20, ..LoopOptions::default() }; // Of all.
/// let mut el = EventLoop::new(options)?;
/// let conn = ConnOptions { send_cap: 1 << 20, max_unread: 64 << 10, ..ConnOptions::default() };
/// let options = ListenOptions { conn, ..ListenOptions::default() }; // Of each accepted here.
/// el.listen("127.0.0.1:0", &options)?;
/// # Ok::<(), echoloop_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LoopOptions {
    /// Bytes that all connections together may hold queued and unread. Above it the loop tells
    /// [`OverBudget`](crate::Event::OverBudget), nobody is accepted, `send` answers
    /// `QueueFull` where something is queued already, those with a queue are not read from, and one
    /// that leaves more unread than its even share is closed as `InputTooLarge`. Default 1 GiB.
    pub memory_budget: usize,
    /// Reports of the kernel, one for each socket or descriptor, that one turn takes; from 1 to
    /// 65,536. Default 1,024.
    pub events_per_turn: usize,
    /// Words that may wait after [`Remote::post`](crate::Remote::post). Default 1,048,576.
    pub post_capacity: usize,
    /// Warn in the log of each handler that takes so long or longer, with its event; see
    /// [`on_slow_handler`](crate::EventLoop::on_slow_handler), which calls a hook instead. Default
    /// none.
    pub slow_handler: Option<Duration>,
    /// Resolves names in place of the system's resolver. Default none.
    pub resolver: Option<Resolver>,
    /// For a program whose allocator keeps a reserve: whether it lives on that now. Asked before each
    /// handle is made and each connection is accepted: while it says yes, calls that make one
    /// answer [`OutOfMemory`](crate::ErrorKind::OutOfMemory), and accepting pauses with `ENOMEM`.
    /// What there is goes on. Default none.
    pub memory_is_short: Option<fn() -> bool>,
}

impl LoopOptions {
    /// [`events_per_turn`](Self::events_per_turn) within its bounds.
    pub(crate) fn reports(&self) -> usize {
        self.events_per_turn.clamp(1, 1 << 16)
    }
}

impl Default for LoopOptions {
    fn default() -> Self {
        Self {
            memory_budget: 1 << 30,
            events_per_turn: 1024,
            post_capacity: 1 << 20,
            slow_handler: None,
            resolver: None,
            memory_is_short: None,
        }
    }
}

/// Options of a connection, accepted or connected.
///
/// Those of TCP and IP are not for Unix sockets, which go without them. On Linux an accepted
/// connection has the options of its socket from the listener, where they are set once.
///
/// ```
/// use std::time::Duration;
/// use echoloop_core::{ConnOptions, Keepalive};
///
/// let options = ConnOptions {
///     keepalive: Some(Keepalive { idle: Duration::from_secs(300), ..Keepalive::default() }),
///     notsent_lowat: Some(16 << 10),
///     ..ConnOptions::default()
/// };
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
pub struct ConnOptions {
    /// TCP_NODELAY, tcp(7): small sends leave at once. They are gathered by handler here, so
    /// Nagle's algorithm would only add delay. Default true.
    pub nodelay: bool,
    /// SO_KEEPALIVE, socket(7), and its times: find out that a silent peer is gone. Default none;
    /// an [`idle_timeout`](Self::idle_timeout) finds it out too, where silence is no good sign.
    pub keepalive: Option<Keepalive>,
    /// SO_SNDBUF, socket(7), in bytes: what the kernel holds to be sent. Linux doubles it, and
    /// caps it at net.core.wmem_max. Default none: the kernel lets it grow, for TCP to megabytes
    /// with a peer that does not read (tcp(7), tcp_wmem).
    pub send_buffer: Option<usize>,
    /// SO_RCVBUF, socket(7), in bytes: what the kernel holds to be read. Linux doubles it, and
    /// caps it at net.core.rmem_max. Default none: the kernel tunes it. Without effect on Unix
    /// sockets, where only the sender's buffer counts.
    pub recv_buffer: Option<usize>,
    /// TCP_NOTSENT_LOWAT, tcp(7), in bytes: the kernel takes no more while so much was not sent
    /// yet, so what waits does so in the loop's queue, where the marks see it. Default none: all
    /// that fits the send buffer.
    pub notsent_lowat: Option<u32>,
    /// IP_TOS, ip(7), and IPV6_TCLASS: the type of service of what is sent. The two lowest bits
    /// (ECN) are the kernel's. Default none.
    pub tos: Option<u8>,
    /// Keep the connection open after the peer has finished sending, until it is closed here.
    /// Default false: flush what is queued, then close.
    pub half_open: bool,
    /// Stop reading while more than the high mark waits to be sent. Default true. Switch it off
    /// where two sides both send a lot before they read: both pausing would be a deadlock.
    pub auto_pause: bool,
    /// Above so many queued bytes the connection is `Congested`. Default 256 KiB.
    pub high_mark: usize,
    /// At or below it the connection is `Drained`. Default 64 KiB.
    pub low_mark: usize,
    /// While more bytes than this wait, `send` answers `QueueFull`. Default 4 MiB.
    pub send_cap: usize,
    /// A connection whose handler leaves so many bytes unread is closed as `InputTooLarge`.
    /// Default 1 MiB.
    pub max_unread: usize,
    /// Read at most so many bytes a second from this connection, and so many at once. What is beyond
    /// stays in the kernel, so TCP slows the sender down: nothing is lost and nobody is closed. Both
    /// ways of a pipe have their own. It travels with the connection to another loop, as far as it
    /// is used up. While it waits for its rate a connection is not idle, an end of stream or a reset
    /// is told only after what came before it, and [`counters`](crate::Counters::throttled) tell how
    /// often one had to wait. What a closing connection discards does not count. Default none.
    pub receive_rate: Option<Rate>,
    /// SO_MAX_PACING_RATE, socket(7) (Linux), in bytes a second: the kernel sends no faster to this
    /// peer, and spreads what it sends in time. What waits does so in the kernel's buffer and then in
    /// the queue. TCP alone; a 0 counts as 1. Default none.
    pub pacing_rate: Option<u64>,
    /// Close when no byte moved in either direction for so long. Default none.
    pub idle_timeout: Option<Duration>,
    /// Close when the peer has sent nothing at all so long after the connection was accepted,
    /// connected or adopted, whatever was sent to it; as [`TimedOut`](crate::CloseReason::TimedOut),
    /// like the idle timeout. The first byte, or an end of stream, ends this wait. Default none.
    pub first_byte_timeout: Option<Duration>,
    /// Close so long after the connection was accepted, connected or adopted, however busy it is:
    /// in order, as [`close`](crate::Connection::close) does, so what was sent is flushed within
    /// [`close_timeout`](Self::close_timeout), and what was received and not handed out is dropped.
    /// The reason is [`TimedOut`](crate::CloseReason::TimedOut); the program is told no sooner.
    /// One that flushes for a peer that has finished has `close_timeout` left from then on.
    ///
    /// Against peers that send a byte now and then for ever, which no idle timeout finds
    /// (slowloris), and so that clients of a load balancer come anew. Default none.
    pub lifetime: Option<Duration>,
    /// Close when the peer takes no byte of a waiting queue for so long. Default none.
    pub write_stall_timeout: Option<Duration>,
    /// How long a close may take to flush what is queued. After an end of stream it counts anew
    /// whenever the peer takes something: it is owed its bytes, however slowly it reads. Default
    /// 10 s.
    pub close_timeout: Duration,
    /// How long a closed and flushed connection waits for its peer to finish too, discarding what
    /// still comes. Default 1 s; zero closes at once, and a peer that is still sending may then
    /// lose what it has not read.
    ///
    /// SO_LINGER with a time is not offered: it makes close(2) wait, on a non-blocking socket too.
    /// This does not block; and after it the kernel goes on delivering what it took.
    pub linger: Duration,
}

/// When to ask a silent peer whether it is there, tcp(7). Each time is rounded up to seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keepalive {
    /// TCP_KEEPIDLE: silence before the first question. Default 60 s (Linux alone: two hours).
    pub idle: Duration,
    /// TCP_KEEPINTVL: time between questions. Default 10 s.
    pub interval: Duration,
    /// TCP_KEEPCNT: questions without an answer after which the connection ends, as `ETIMEDOUT`.
    /// Default 6.
    pub count: u32,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(60),
            interval: Duration::from_secs(10),
            count: 6,
        }
    }
}

impl Default for ConnOptions {
    fn default() -> Self {
        Self {
            nodelay: true,
            keepalive: None,
            send_buffer: None,
            recv_buffer: None,
            notsent_lowat: None,
            tos: None,
            half_open: false,
            auto_pause: true,
            high_mark: 256 << 10,
            low_mark: 64 << 10,
            send_cap: 4 << 20,
            max_unread: 1 << 20,
            receive_rate: None,
            pacing_rate: None,
            idle_timeout: None,
            first_byte_timeout: None,
            lifetime: None,
            write_stall_timeout: None,
            close_timeout: Duration::from_secs(10),
            linger: Duration::from_secs(1),
        }
    }
}

/// Options of [`EventLoop::listen`](crate::EventLoop::listen).
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// Connections that may wait to be accepted, listen(2); the system caps it (on Linux by
    /// net.core.somaxconn). Default 4,096.
    pub backlog: u32,
    /// SO_REUSEADDR, socket(7): listen although old connections of the port linger in TIME_WAIT.
    /// Default true.
    pub reuse_address: bool,
    /// SO_REUSEPORT, socket(7): several sockets listen on one port and share what comes in.
    /// Default false.
    pub reuse_port: bool,
    /// For IPv6 addresses: leave IPv4 alone, ipv6(7). Default true, so that `[::]:80` and
    /// `0.0.0.0:80` go side by side on every system.
    pub ipv6_only: bool,
    /// SO_BINDTODEVICE, socket(7) (Linux): only what comes in on this interface, such as `"eth0"`.
    /// Default none.
    pub device: Option<String>,
    /// TCP_DEFER_ACCEPT, tcp(7) (Linux): accept only those that have sent something, or about so
    /// long after they came, rounded up to seconds. Default none.
    pub defer_accept: Option<Duration>,
    /// TCP_FASTOPEN, tcp(7) (Linux): how many may come with data in their SYN (RFC 7413) and wait
    /// for their handshake. Works where net.ipv4.tcp_fastopen allows it. Default none.
    ///
    /// There is no such option for connects: the kernel then says at once that the connection is
    /// made, although nobody has answered, and `Connected` would mean nothing.
    pub fast_open: Option<u32>,
    /// The mode of a Unix socket's file, such as `0o660`, exactly: the umask does not count.
    /// Connecting needs write permission. Default none: what the umask leaves.
    pub unix_mode: Option<u32>,
    /// Options of the connections that are accepted.
    pub conn: ConnOptions,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            backlog: 4096,
            reuse_address: true,
            reuse_port: false,
            ipv6_only: true,
            device: None,
            defer_accept: None,
            fast_open: None,
            unix_mode: None,
            conn: ConnOptions::default(),
        }
    }
}

/// Options of [`EventLoop::connect`](crate::EventLoop::connect).
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// How long the connect may take, resolving the name and all tries together. Default 30 s;
    /// `None` leaves it to the system (minutes).
    pub timeout: Option<Duration>,
    /// Local address to bind first; of a name's addresses, only those of its family are tried.
    /// Default none.
    pub local: Option<SocketAddr>,
    /// SO_BINDTODEVICE, socket(7) (Linux): go out by this interface, such as `"eth0"`. Default
    /// none.
    pub device: Option<String>,
    /// How long one address of a name may take before the next is tried beside it, RFC 8305, 5;
    /// from 10 ms to 2 s. Default 250 ms.
    pub attempt_delay: Duration,
    /// Options of the connection.
    pub conn: ConnOptions,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            timeout: Some(Duration::from_secs(30)),
            local: None,
            device: None,
            attempt_delay: Duration::from_millis(250),
            conn: ConnOptions::default(),
        }
    }
}
