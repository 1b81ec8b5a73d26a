//! Options as C sees them, and their conversion to the core's.
//!
//! The rule: every struct begins with its size, so that it can grow; 0 is the default of a field, a
//! negative number means none or for ever. Times are in microseconds, sizes in bytes.

use std::ffi::{c_char, c_int};
use std::ptr;
use std::time::Duration;

use echoloop_core::{ConnOptions, ConnectOptions, Error, ErrorKind, ListenOptions, LoopOptions};

/// Options of echoloop_new(). Start with ECHOLOOP_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct echoloop_options {
    /// sizeof(echoloop_options); ECHOLOOP_OPTIONS_INIT sets it.
    pub size: usize,
    /// Bytes that all connections together may hold queued and unread. 0: 1 GiB.
    pub memory_budget: i64,
    /// Connections whose readiness one turn takes from the kernel. 0: 1,024.
    pub events_per_turn: i64,
    /// Words that may wait after echoloop_remote_post(). 0: 1,048,576.
    pub post_capacity: i64,
}

/// Options of a connection, part of the options of listeners, connects and servers.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct echoloop_conn_options {
    /// Not 0: leave Nagle's algorithm on, tcp(7). By default small sends leave at once; they are
    /// gathered by callback or batch here.
    pub no_delay_off: c_int,
    /// Not 0: stay open after the peer has finished sending, until closed here.
    pub half_open: c_int,
    /// Not 0: go on reading above the high mark. For two sides that both send a lot before they
    /// read, where both pausing would be a deadlock.
    pub no_auto_pause: c_int,
    /// Must be 0.
    pub reserved_flags: c_int,
    /// Above this many queued bytes the connection is CONGESTED. 0: 256 KiB.
    pub high_mark: i64,
    /// At or below it the connection is DRAINED. 0: 64 KiB, or a quarter of a smaller high mark.
    pub low_mark: i64,
    /// While more than this waits, sends get ECHOLOOP_EQUEUEFULL. 0: 4 MiB.
    pub send_cap: i64,
    /// Bytes that may be left unread. 0: 1 MiB.
    pub max_unread: i64,
    /// Close when no byte moved in either direction for so long. 0: none.
    pub idle_timeout_us: i64,
    /// Close when the peer takes no byte of a waiting queue for so long. 0: none.
    pub write_stall_timeout_us: i64,
    /// How long a close may take. 0: 10 s.
    pub close_timeout_us: i64,
    /// Must be 0.
    pub reserved: [i64; 4],
}

/// Options of echoloop_listen(). Start with ECHOLOOP_LISTEN_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct echoloop_listen_options {
    /// sizeof(echoloop_listen_options); ECHOLOOP_LISTEN_OPTIONS_INIT sets it.
    pub size: usize,
    /// Connections that may wait to be accepted, listen(2). 0: 4,096.
    pub backlog: c_int,
    /// Not 0: no SO_REUSEADDR, socket(7).
    pub no_reuse_address: c_int,
    /// Not 0: SO_REUSEPORT, socket(7).
    pub reuse_port: c_int,
    /// Not 0: an IPv6 address takes IPv4 connections too, ipv6(7).
    pub dual_stack: c_int,
    /// Of the connections that are accepted.
    pub conn: echoloop_conn_options,
}

/// Options of echoloop_connect(). Start with ECHOLOOP_CONNECT_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct echoloop_connect_options {
    /// sizeof(echoloop_connect_options); ECHOLOOP_CONNECT_OPTIONS_INIT sets it.
    pub size: usize,
    /// How long the connect may take. 0: 30 s; negative: as long as the system tries.
    pub timeout_us: i64,
    /// Local address to bind first, or NULL.
    pub local: *const c_char,
    /// Of the connection.
    pub conn: echoloop_conn_options,
}

/// Options of echoloop_server_new(). Start with ECHOLOOP_SERVER_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct echoloop_server_options {
    /// sizeof(echoloop_server_options); ECHOLOOP_SERVER_OPTIONS_INIT sets it.
    pub size: usize,
    /// As in echoloop_options.
    pub memory_budget: i64,
    /// As in echoloop_options.
    pub events_per_turn: i64,
    /// As in echoloop_options.
    pub post_capacity: i64,
    /// Connections at a time; the next one is reset at once and told as REFUSED. 0 or negative: no
    /// limit but the system's.
    pub max_connections: i64,
    /// Time from one TICK to the next. 0: no ticks.
    pub tick_us: i64,
    /// How long a drain may take. 0: 5 s.
    pub drain_deadline_us: i64,
    /// Of the connections of listeners that are given no options.
    pub conn: echoloop_conn_options,
}

impl echoloop_options {
    pub(crate) fn convert(&self) -> LoopOptions {
        let default = LoopOptions::default();
        LoopOptions {
            memory_budget: size(self.memory_budget, default.memory_budget),
            events_per_turn: size(self.events_per_turn, default.events_per_turn),
            post_capacity: size(self.post_capacity, default.post_capacity),
            ..default
        }
    }
}

impl echoloop_server_options {
    pub(crate) fn event_loop(&self) -> echoloop_options {
        echoloop_options {
            size: size_of::<echoloop_options>(),
            memory_budget: self.memory_budget,
            events_per_turn: self.events_per_turn,
            post_capacity: self.post_capacity,
        }
    }
}

impl echoloop_conn_options {
    pub(crate) fn convert(&self, operation: &'static str) -> Result<ConnOptions, Error> {
        let invalid = |what| Err(Error::new(operation, ErrorKind::InvalidInput(what)));
        if self.reserved_flags != 0 || self.reserved != [0; 4] {
            return invalid("reserved options must be 0; start with the _INIT macro");
        }
        let default = ConnOptions::default();
        let high_mark = size(self.high_mark, default.high_mark);
        let low_mark = size(self.low_mark, default.low_mark.min(high_mark / 4));
        if low_mark > high_mark {
            return invalid("the low mark is above the high mark");
        }
        Ok(ConnOptions {
            nodelay: self.no_delay_off == 0,
            half_open: self.half_open != 0,
            auto_pause: self.no_auto_pause == 0,
            high_mark,
            low_mark,
            send_cap: size(self.send_cap, default.send_cap),
            max_unread: size(self.max_unread, default.max_unread),
            idle_timeout: time(self.idle_timeout_us, default.idle_timeout),
            write_stall_timeout: time(self.write_stall_timeout_us, default.write_stall_timeout),
            close_timeout: time(self.close_timeout_us, Some(default.close_timeout))
                .unwrap_or(Duration::MAX),
            ..default
        })
    }
}

impl echoloop_listen_options {
    pub(crate) fn convert(&self) -> Result<ListenOptions, Error> {
        Ok(ListenOptions {
            backlog: match u32::try_from(self.backlog) {
                Ok(0) => ListenOptions::default().backlog,
                Ok(n) => n,
                Err(_) => i32::MAX as u32, // Negative: no limit but the system's.
            },
            reuse_address: self.no_reuse_address == 0,
            reuse_port: self.reuse_port != 0,
            ipv6_only: self.dual_stack == 0,
            conn: self.conn.convert("listen")?,
            ..ListenOptions::default()
        })
    }
}

impl Default for echoloop_connect_options {
    fn default() -> Self {
        Self {
            size: 0,
            timeout_us: 0,
            local: ptr::null(),
            conn: echoloop_conn_options::default(),
        }
    }
}

impl echoloop_connect_options {
    /// All but the local address, which is text.
    pub(crate) fn convert(&self) -> Result<ConnectOptions, Error> {
        let default = ConnectOptions::default();
        Ok(ConnectOptions {
            timeout: time(self.timeout_us, default.timeout),
            conn: self.conn.convert("connect")?,
            ..default
        })
    }
}

/// A size: 0 the default, negative no limit.
fn size(given: i64, default: usize) -> usize {
    match given {
        0 => default,
        n => usize::try_from(n).unwrap_or(usize::MAX),
    }
}

/// A time in microseconds: 0 the default, negative none.
pub(crate) fn time(given: i64, default: Option<Duration>) -> Option<Duration> {
    match given {
        0 => default,
        n => u64::try_from(n).ok().map(Duration::from_micros),
    }
}
