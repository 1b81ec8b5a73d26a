//! The callbacks of a server.
//!
//! The rule: every method has a default that does nothing and loses nothing, save `on_data`, whose
//! default drops what came, so that a program writes down only what it cares about.

use echoloop_core::{CloseReason, ConnId, Error, Event, ListenerId, TimerId, UdpId};

use crate::{Context, Refusal};

/// What a program does when something happens. All methods have defaults.
///
/// A hook may do anything with any connection through its [`Context`], also close the very one it
/// is called for. It must not block: the whole loop waits for it.
pub trait Hooks {
    /// A connection is open: accepted by `listener`, or, where that is `None`, made by
    /// [`Context::connect`], adopted, or accepted by another worker. The view's
    /// [`origin`](echoloop_core::Connection::origin) says which, and its local address says where
    /// the peer came in.
    fn on_open(&mut self, cx: &mut Context<'_>, conn: ConnId, listener: Option<ListenerId>) {
        let _ = (cx, conn, listener);
    }

    /// Bytes came. What is not consumed is offered again with what comes next. The default
    /// consumes and drops them.
    fn on_data(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        if let Ok(mut conn) = cx.conn(conn) {
            conn.consume(usize::MAX);
        }
    }

    /// More than the high mark waits to be sent to a slow peer; reading from it is paused unless
    /// that was switched off. A program that sends unasked should stop until `on_drained`.
    fn on_congested(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        let _ = (cx, conn);
    }

    /// After `on_congested`: no more than the low mark waits.
    fn on_drained(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        let _ = (cx, conn);
    }

    /// The peer has finished sending. This is the last chance to send it something before the
    /// connection closes (unless it is half-open).
    fn on_end_of_stream(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        let _ = (cx, conn);
    }

    /// The connection has ended; called exactly once for each that was opened, or asked for.
    /// `unsent` bytes were sent and never left.
    fn on_close(&mut self, cx: &mut Context<'_>, conn: ConnId, reason: CloseReason, unsent: u64) {
        let _ = (cx, conn, reason, unsent);
    }

    /// A timer of the program is due.
    fn on_timer(&mut self, cx: &mut Context<'_>, timer: TimerId) {
        let _ = (cx, timer);
    }

    /// Another thread posted a word.
    fn on_post(&mut self, cx: &mut Context<'_>, word: u64) {
        let _ = (cx, word);
    }

    /// The tick interval has passed: do some other work here.
    fn on_tick(&mut self, cx: &mut Context<'_>) {
        let _ = cx;
    }

    /// This connection was refused (reset), for this reason. It has no other hooks; its view still
    /// tells the peer's address.
    fn on_refused(&mut self, cx: &mut Context<'_>, conn: ConnId, why: Refusal) {
        let _ = (cx, conn, why);
    }

    /// Datagrams came to a UDP socket. Those that are not read from its view in this hook are
    /// dropped when it ends.
    fn on_datagrams(&mut self, cx: &mut Context<'_>, udp: UdpId) {
        let _ = (cx, udp);
    }

    /// Something went wrong that is no single connection's: accepting is paused, or a connect, for
    /// want of descriptors; a peer of a UDP socket refused a datagram. The server goes on.
    fn on_error(&mut self, cx: &mut Context<'_>, error: Error) {
        let _ = (cx, error);
    }

    /// Any other event of the loop: watches, signals, lookups, a UDP socket that has room again,
    /// the memory budget, accepting that has resumed.
    fn on_event(&mut self, cx: &mut Context<'_>, event: Event) {
        let _ = (cx, event);
    }
}
