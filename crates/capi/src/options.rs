//! Options as C sees them, and their conversion to the core's.
//!
//! The rule: every struct begins with its size, so that it can grow; 0 is the default of a field, a
//! negative number means none or for ever. Times are in microseconds, sizes in bytes.

use std::ffi::{c_char, c_int, c_void};
use std::time::Duration;

use echoloop_core::{
    ConnOptions, ConnectOptions, Error, ErrorKind, Keepalive, ListenOptions, LoopOptions, Rate,
};

use crate::detail::Refused;
use crate::pointer::{address, read_sized, string};
use crate::resolver::{echoloop_resolve_fn, resolver};

/// Options of echoloop_new(). Start with ECHOLOOP_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct echoloop_options {
    /// sizeof(echoloop_options); ECHOLOOP_OPTIONS_INIT sets it.
    pub size: usize,
    /// Bytes that all connections together may hold queued and unread. 0: 1 GiB.
    pub memory_budget: i64,
    /// Connections whose readiness one turn takes from the kernel. 0: 1,024.
    pub events_per_turn: i64,
    /// Words that may wait after echoloop_remote_post(). 0: 1,048,576.
    pub post_capacity: i64,
    /// Warn in the log (echoloop_set_log()) of each callback that takes so long or longer. 0: never.
    pub slow_handler_us: i64,
    /// Resolves names in place of getaddrinfo(3), on threads of the loop. NULL: none.
    pub resolve: echoloop_resolve_fn,
    /// What resolve is called with; never followed here.
    pub resolve_user: *mut c_void,
}

/// Options of a connection, accepted or connected. Start with ECHOLOOP_CONN_OPTIONS_INIT. Those of
/// TCP and IP are not for Unix sockets, which go without them.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct echoloop_conn_options {
    /// sizeof(echoloop_conn_options); ECHOLOOP_CONN_OPTIONS_INIT sets it.
    pub size: usize,
    /// Not 0: leave Nagle's algorithm on, tcp(7). By default small sends leave at once; they are
    /// gathered by callback or batch here.
    pub no_delay_off: c_int,
    /// Not 0: stay open after the peer has finished sending, until closed here.
    pub half_open: c_int,
    /// Not 0: go on reading above the high mark. For two sides that both send a lot before they
    /// read, where both pausing would be a deadlock.
    pub no_auto_pause: c_int,
    /// IP_TOS, ip(7), and IPV6_TCLASS: the type of service of what is sent, 0 to 255. 0: the system's.
    pub tos: c_int,
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
    /// Close when the peer has sent nothing at all so long after the connection was made. 0: none.
    pub first_byte_timeout_us: i64,
    /// Close, in order, so long after the connection was made, however busy it is. 0: never.
    pub lifetime_us: i64,
    /// How long a closed and flushed connection waits for its peer to finish too. 0: 1 s; negative:
    /// not at all, and a peer that is still sending may then lose what it has not read.
    pub linger_us: i64,
    /// Read at most so many bytes a second; what is beyond stays in the kernel, so TCP slows the
    /// sender down. 0: no bound.
    pub receive_rate: i64,
    /// With receive_rate: so many bytes at once, after a silence. 0: what comes in a second.
    pub receive_burst: i64,
    /// SO_MAX_PACING_RATE, socket(7) (Linux), in bytes a second: the kernel sends no faster. 0: none.
    pub pacing_rate: i64,
    /// SO_KEEPALIVE and TCP_KEEPIDLE, tcp(7): ask a peer that was silent for so long whether it is
    /// there. Rounded up to seconds. 0: never.
    pub keepalive_us: i64,
    /// TCP_KEEPINTVL: time between two such questions. 0: 10 s.
    pub keepalive_interval_us: i64,
    /// TCP_KEEPCNT: questions without an answer after which the connection ends as -ETIMEDOUT. 0: 6.
    pub keepalive_count: i64,
    /// SO_SNDBUF, socket(7), in bytes: what the kernel holds to be sent. 0: the kernel tunes it, for
    /// TCP to megabytes with a peer that does not read.
    pub send_buffer: i64,
    /// SO_RCVBUF, socket(7), in bytes: what the kernel holds to be read. 0: the kernel tunes it.
    pub recv_buffer: i64,
    /// TCP_NOTSENT_LOWAT, tcp(7), in bytes: the kernel takes no more while so much was not sent yet, so
    /// what waits does so in the queue, where the marks see it. 0: all that fits its buffer.
    pub notsent_lowat: i64,
}

/// Options of echoloop_listen(). Start with ECHOLOOP_LISTEN_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct echoloop_listen_options {
    /// sizeof(echoloop_listen_options); ECHOLOOP_LISTEN_OPTIONS_INIT sets it.
    pub size: usize,
    /// Connections that may wait to be accepted, listen(2). 0: 4,096; negative: as many as the system
    /// allows.
    pub backlog: c_int,
    /// Not 0: no SO_REUSEADDR, socket(7).
    pub no_reuse_address: c_int,
    /// Not 0: SO_REUSEPORT, socket(7).
    pub reuse_port: c_int,
    /// Not 0: an IPv6 address takes IPv4 connections too, ipv6(7).
    pub dual_stack: c_int,
    /// The mode of a Unix socket's file, such as 0660, exactly: the umask does not count. 0: what the
    /// umask leaves.
    pub unix_mode: c_int,
    /// TCP_FASTOPEN, tcp(7) (Linux): how many may come with data in their SYN. 0: off.
    pub fast_open: c_int,
    /// TCP_DEFER_ACCEPT, tcp(7) (Linux): accept only those that have sent something, or about so long
    /// after they came; rounded up to seconds. 0: off.
    pub defer_accept_us: i64,
    /// SO_BINDTODEVICE, socket(7) (Linux): only what comes in on this interface, such as "eth0".
    /// NULL: all.
    pub device: *const c_char,
    /// Of the connections that are accepted; NULL: the defaults.
    pub conn: *const echoloop_conn_options,
}

/// Options of echoloop_connect(). Start with ECHOLOOP_CONNECT_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct echoloop_connect_options {
    /// sizeof(echoloop_connect_options); ECHOLOOP_CONNECT_OPTIONS_INIT sets it.
    pub size: usize,
    /// How long the connect may take, resolving the name and all tries together. 0: 30 s; negative:
    /// as long as the system tries.
    pub timeout_us: i64,
    /// Local address to bind first, or NULL; of a name's addresses, only those of its family are
    /// tried.
    pub local: *const c_char,
    /// SO_BINDTODEVICE, socket(7) (Linux): go out by this interface, such as "eth0". NULL: as routed.
    pub device: *const c_char,
    /// How long one address of a name may take before the next is tried beside it (RFC 8305, 5), from
    /// 10 ms to 2 s. 0: 250 ms.
    pub attempt_delay_us: i64,
    /// Of the connection; NULL: the defaults.
    pub conn: *const echoloop_conn_options,
}

impl echoloop_options {
    pub(crate) fn convert(&self) -> LoopOptions {
        let default = LoopOptions::default();
        LoopOptions {
            memory_is_short: Some(crate::reserve::is_short),
            memory_budget: size(self.memory_budget, default.memory_budget),
            events_per_turn: size(self.events_per_turn, default.events_per_turn),
            post_capacity: size(self.post_capacity, default.post_capacity),
            slow_handler: time(self.slow_handler_us, None),
            resolver: resolver(self.resolve, self.resolve_user),
        }
    }
}

impl echoloop_conn_options {
    pub(crate) fn convert(&self, operation: &'static str) -> Result<ConnOptions, Error> {
        let invalid = |what| Err(Error::new(operation, ErrorKind::InvalidInput(what)));
        let default = ConnOptions::default();
        let high_mark = size(self.high_mark, default.high_mark);
        let low_mark = size(self.low_mark, default.low_mark.min(high_mark / 4));
        if low_mark > high_mark {
            return invalid("the low mark is above the high mark");
        }
        let Ok(tos) = u8::try_from(self.tos) else {
            return invalid("the type of service is not from 0 to 255");
        };
        Ok(ConnOptions {
            nodelay: self.no_delay_off == 0,
            half_open: self.half_open != 0,
            auto_pause: self.no_auto_pause == 0,
            tos: (tos != 0).then_some(tos),
            high_mark,
            low_mark,
            send_cap: size(self.send_cap, default.send_cap),
            max_unread: size(self.max_unread, default.max_unread),
            idle_timeout: time(self.idle_timeout_us, None),
            write_stall_timeout: time(self.write_stall_timeout_us, None),
            close_timeout: time(self.close_timeout_us, Some(default.close_timeout))
                .unwrap_or(Duration::MAX),
            first_byte_timeout: time(self.first_byte_timeout_us, None),
            lifetime: time(self.lifetime_us, None),
            linger: time(self.linger_us, Some(default.linger)).unwrap_or_default(),
            receive_rate: rate(self.receive_rate, self.receive_burst),
            pacing_rate: given(self.pacing_rate),
            keepalive: keepalive(
                self.keepalive_us,
                self.keepalive_interval_us,
                self.keepalive_count,
            ),
            send_buffer: given(self.send_buffer),
            recv_buffer: given(self.recv_buffer),
            notsent_lowat: given(self.notsent_lowat),
        })
    }
}

impl echoloop_listen_options {
    /// # Safety
    ///
    /// The pointers among the options are NULL or good, header section "Pointers".
    pub(crate) unsafe fn convert(&self) -> Result<ListenOptions, Refused> {
        let invalid = |what| Err(Error::new("listen", ErrorKind::InvalidInput(what)).into());
        let Ok(unix_mode) = u32::try_from(self.unix_mode) else {
            return invalid("the mode of a socket's file is negative");
        };
        Ok(ListenOptions {
            backlog: match u32::try_from(self.backlog) {
                Ok(0) => ListenOptions::default().backlog,
                Ok(n) => n,
                Err(_) => i32::MAX as u32, // Negative: no limit but the system's.
            },
            reuse_address: self.no_reuse_address == 0,
            reuse_port: self.reuse_port != 0,
            ipv6_only: self.dual_stack == 0,
            // SAFETY: the caller's.
            device: unsafe { string("listen, device", self.device) }?,
            defer_accept: time(self.defer_accept_us, None),
            fast_open: given(self.fast_open.into()),
            unix_mode: (unix_mode != 0).then_some(unix_mode),
            // SAFETY: the caller's.
            conn: unsafe { conn_options("listen", self.conn) }?,
        })
    }
}

impl echoloop_connect_options {
    /// # Safety
    ///
    /// The pointers among the options are NULL or good, header section "Pointers".
    pub(crate) unsafe fn convert(&self) -> Result<ConnectOptions, Refused> {
        let default = ConnectOptions::default();
        let local = match self.local.is_null() {
            true => None,
            // SAFETY: the caller's.
            false => Some(unsafe { address("connect, local address", self.local) }?),
        };
        Ok(ConnectOptions {
            timeout: time(self.timeout_us, default.timeout),
            local,
            // SAFETY: the caller's.
            device: unsafe { string("connect, device", self.device) }?,
            attempt_delay: time(self.attempt_delay_us, Some(default.attempt_delay))
                .unwrap_or(Duration::MAX),
            // SAFETY: the caller's.
            conn: unsafe { conn_options("connect", self.conn) }?,
        })
    }
}

/// The options of a connection; NULL: the defaults.
///
/// # Safety
///
/// `given` is NULL or readable for the size in its first member.
pub(crate) unsafe fn conn_options(
    operation: &'static str,
    given: *const echoloop_conn_options,
) -> Result<ConnOptions, Refused> {
    // SAFETY: the caller's.
    let options = unsafe { read_sized(operation, given) }?.unwrap_or_default();
    Ok(options.convert(operation)?)
}

/// A size: 0 the default, negative no limit.
pub(crate) fn size(given: i64, default: usize) -> usize {
    match given {
        0 => default,
        n => usize::try_from(n).unwrap_or(usize::MAX),
    }
}

/// A number that is none where it is 0 or negative; one that is too large is the largest.
pub(crate) fn given<T: TryFrom<i64> + Bounded>(given: i64) -> Option<T> {
    (given > 0).then(|| T::try_from(given).unwrap_or(T::LARGEST))
}

/// What [`given`] takes one too large for.
pub(crate) trait Bounded {
    const LARGEST: Self;
}

impl Bounded for u32 {
    const LARGEST: Self = Self::MAX;
}

impl Bounded for u64 {
    const LARGEST: Self = Self::MAX;
}

impl Bounded for usize {
    const LARGEST: Self = Self::MAX;
}

/// A rate of bytes; none where it is 0 or negative.
pub(crate) fn rate(per_second: i64, burst: i64) -> Option<Rate> {
    let per_second = given(per_second)?;
    Some(Rate {
        bytes_per_second: per_second,
        burst: given(burst).unwrap_or(per_second),
    })
}

/// When to ask a silent peer; never where the first time is 0 or negative.
pub(crate) fn keepalive(idle_us: i64, interval_us: i64, count: i64) -> Option<Keepalive> {
    let default = Keepalive::default();
    Some(Keepalive {
        idle: Duration::from_micros(given(idle_us)?),
        interval: given(interval_us).map_or(default.interval, Duration::from_micros),
        count: given(count).unwrap_or(default.count),
    })
}

/// A time in microseconds: 0 the default, negative none.
pub(crate) fn time(given: i64, default: Option<Duration>) -> Option<Duration> {
    match given {
        0 => default,
        n => u64::try_from(n).ok().map(Duration::from_micros),
    }
}

/// How long to wait: 0 not at all, negative for ever.
pub(crate) fn timeout(us: i64) -> Option<Duration> {
    u64::try_from(us).ok().map(Duration::from_micros)
}
