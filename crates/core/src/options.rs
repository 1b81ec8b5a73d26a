//! Options of loops, listeners and connections, with the defaults that bound memory.
//!
//! The rule: `Default` is what a program that never heard of the option should have. Sizes are in
//! bytes. The options are read when the object is made; [`Connection`](crate::Connection) has
//! setters for those that make sense later.

use std::net::SocketAddr;
use std::time::Duration;

/// Options of an [`EventLoop`](crate::EventLoop).
#[derive(Clone, Debug)]
pub struct LoopOptions {
    /// What all connections together may hold queued and unread. Above it the loop tells
    /// [`OverBudget`](crate::Event::OverBudget), nobody is accepted, `send` answers
    /// `QueueFull` where something is queued already, those with a queue are not read from, and one
    /// that leaves more unread than its even share is closed as `InputTooLarge`. Default 1 GiB.
    pub memory_budget: usize,
    /// Connections whose readiness one turn takes from the kernel. Default 1,024.
    pub events_per_turn: usize,
    /// Words that may wait after [`Remote::post`](crate::Remote::post). Default 1,048,576.
    pub post_capacity: usize,
    /// Warn in the log of each handler that takes so long or longer, with its event; see
    /// [`on_slow_handler`](crate::EventLoop::on_slow_handler), which calls a hook instead. Default
    /// none.
    pub slow_handler: Option<Duration>,
}

impl Default for LoopOptions {
    fn default() -> Self {
        Self {
            memory_budget: 1 << 30,
            events_per_turn: 1024,
            post_capacity: 1 << 20,
            slow_handler: None,
        }
    }
}

/// Options of a connection, accepted or connected.
#[derive(Clone, Debug)]
pub struct ConnOptions {
    /// TCP_NODELAY, tcp(7): small sends leave at once. They are gathered by handler here, so
    /// Nagle's algorithm would only add delay. Default true.
    pub nodelay: bool,
    /// Keep the connection open after the peer has finished sending, until it is closed here.
    /// Default false: flush what is queued, then close.
    pub half_open: bool,
    /// Stop reading while more than the high mark waits to be sent. Default true. Switch it off
    /// where two sides both send a lot before they read: both pausing would be a deadlock.
    pub auto_pause: bool,
    /// Above this many queued bytes the connection is `Congested`. Default 256 KiB.
    pub high_mark: usize,
    /// At or below it the connection is `Drained`. Default 64 KiB.
    pub low_mark: usize,
    /// While more than this waits, `send` answers `QueueFull`. Default 4 MiB.
    pub send_cap: usize,
    /// A connection whose handler leaves so many bytes unread is closed as `InputTooLarge`.
    /// Default 1 MiB.
    pub max_unread: usize,
    /// Close when no byte moved in either direction for so long. Default none.
    pub idle_timeout: Option<Duration>,
    /// Close when the peer takes no byte of a waiting queue for so long. Default none.
    pub write_stall_timeout: Option<Duration>,
    /// How long a close may take to flush what is queued. After an end of stream it counts anew
    /// whenever the peer takes something: it is owed its bytes, however slowly it reads. Default
    /// 10 s.
    pub close_timeout: Duration,
}

impl Default for ConnOptions {
    fn default() -> Self {
        Self {
            nodelay: true,
            half_open: false,
            auto_pause: true,
            high_mark: 256 << 10,
            low_mark: 64 << 10,
            send_cap: 4 << 20,
            max_unread: 1 << 20,
            idle_timeout: None,
            write_stall_timeout: None,
            close_timeout: Duration::from_secs(10),
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
            conn: ConnOptions::default(),
        }
    }
}

/// Options of [`EventLoop::connect`](crate::EventLoop::connect).
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// How long the connect may take. Default 30 s; `None` leaves it to the system (minutes).
    pub timeout: Option<Duration>,
    /// Local address to bind first. Default none.
    pub local: Option<SocketAddr>,
    /// Options of the connection.
    pub conn: ConnOptions,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            timeout: Some(Duration::from_secs(30)),
            local: None,
            conn: ConnOptions::default(),
        }
    }
}
