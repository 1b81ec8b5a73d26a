//! Options of servers and workers as C sees them, and their conversion to a builder's.
//!
//! The rule: that of `options`: 0 is the default of a field.

use std::time::Duration;

use ::echoloop_server::{Server, ServerBuilder};

use crate::detail::Refused;
use crate::options::{given, time};
use crate::pointer::read_sized;
use crate::{echoloop_listen_options, echoloop_options, echoloop_udp_options};

/// Options of echoloop_server_new() and echoloop_workers_new(). Start with ECHOLOOP_SERVER_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct echoloop_server_options {
    /// sizeof(echoloop_server_options); ECHOLOOP_SERVER_OPTIONS_INIT sets it.
    pub size: usize,
    /// Of its loop; NULL: the defaults.
    pub r#loop: *const echoloop_options,
    /// Of the listeners that are given none; NULL: the defaults.
    pub listen: *const echoloop_listen_options,
    /// Connections at a time; the next one is refused: reset at once and told as REFUSED. 0 or
    /// negative: no limit but the system's.
    pub max_connections: i64,
    /// Connections at a time from one IPv4 address, or from one /64 of IPv6; the next one is refused.
    /// Unix peers are not counted. 0 or negative: no limit.
    pub max_per_peer: i64,
    /// Connections a second; those that come faster are refused. 0 or negative: no limit.
    pub accept_rate: i64,
    /// With accept_rate: so many at once, after a quiet time. 0: those of a second.
    pub accept_burst: i64,
    /// Time from one TICK to the next, until a drain begins. 0: no ticks.
    pub tick_us: i64,
    /// How long connections are served on after a drain has begun, before they are closed. 0: not at
    /// all.
    pub drain_grace_us: i64,
    /// How long closing them, at the end of a drain, may take. 0: 5 s; negative: for ever.
    pub drain_deadline_us: i64,
    /// Of the UDP sockets that are given none; NULL: the defaults.
    pub udp: *const echoloop_udp_options,
}

impl echoloop_server_options {
    /// # Safety
    ///
    /// The pointers among the options are NULL or good, header section "Pointers".
    pub(crate) unsafe fn convert(&self) -> Result<ServerBuilder, Refused> {
        // SAFETY: the caller's.
        let event_loop = unsafe { read_sized("create server", self.r#loop) }?;
        // SAFETY: the caller's.
        let listen = unsafe { read_sized("create server", self.listen) }?.unwrap_or_default();
        let mut builder = Server::builder()
            .loop_options(event_loop.unwrap_or_default().convert())
            // SAFETY: the caller's.
            .listen_options(unsafe { listen.convert() }?);
        // SAFETY: the caller's.
        if let Some(udp) = unsafe { read_sized("create server", self.udp) }? {
            // SAFETY: the caller's.
            builder = builder.udp_options(unsafe { udp.convert("create server") }?);
        }
        if let Some(max) = given(self.max_connections) {
            builder = builder.max_connections(max);
        }
        if let Some(max) = given(self.max_per_peer) {
            builder = builder.max_per_peer(max);
        }
        if let Some(rate) = given(self.accept_rate) {
            builder = builder.accept_rate(rate, given(self.accept_burst).unwrap_or(rate));
        }
        if let Some(tick) = time(self.tick_us, None) {
            builder = builder.tick_interval(tick);
        }
        if let Some(grace) = time(self.drain_grace_us, None) {
            builder = builder.drain_grace(grace);
        }
        if self.drain_deadline_us != 0 {
            let deadline = time(self.drain_deadline_us, None);
            builder = builder.drain_deadline(deadline.unwrap_or(Duration::MAX));
        }
        Ok(builder)
    }
}
