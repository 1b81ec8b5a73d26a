//! The echo service (RFC 862): what a peer sends comes back to it.
//!
//! It tells its story through `log` at debug level, in the words of the classic select tutorial.

use echoloop_core::{Addr, CloseReason, ConnId, Error, ErrorKind, ListenerId, UdpId, UnixAddr};

use crate::{Context, Hooks};

/// Sends every peer its own bytes back, over TCP, Unix sockets and UDP.
///
/// ```no_run
/// use echoloop_server::{Echo, Server};
///
/// let mut server = Server::builder().listen("127.0.0.1:7007").build()?;
/// server.run(&mut Echo)?;
/// # Ok::<(), echoloop_server::Error>(())
/// ```
#[derive(Clone, Copy, Default, Debug)]
pub struct Echo;

impl Hooks for Echo {
    fn on_open(&mut self, cx: &mut Context<'_>, conn: ConnId, _: Option<ListenerId>) {
        log::debug!("new connection from {}", peer(cx, conn));
    }

    #[inline(always)]
    fn on_data(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        let Ok(mut view) = cx.conn(conn) else { return };
        if log::log_enabled!(log::Level::Debug) {
            tell_data(view.received().len(), view.peer_addr());
        }
        match view.send_received(usize::MAX) {
            Ok(()) => {}
            // What was not taken stays unread, and is offered again when the peer has read.
            Err(e) if e.kind() == ErrorKind::QueueFull => view.pause(),
            // The connection is closing: nobody is left to answer.
            Err(_) => view.consume(usize::MAX),
        }
    }

    fn on_congested(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        log::debug!(
            "output queue for {} is long, reading is paused",
            peer(cx, conn)
        );
    }

    fn on_drained(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        log::debug!("output queue for {} is empty", peer(cx, conn));
        if let Ok(mut view) = cx.conn(conn) {
            view.resume();
        }
    }

    fn on_end_of_stream(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        log::debug!("closing {} after reading no data", peer(cx, conn));
    }

    fn on_close(&mut self, cx: &mut Context<'_>, conn: ConnId, reason: CloseReason, unsent: u64) {
        log::debug!("closed {}: {reason}, {unsent} bytes unsent", peer(cx, conn));
    }

    fn on_datagrams(&mut self, cx: &mut Context<'_>, udp: UdpId) {
        let Ok(view) = cx.udp(udp) else { return };
        let (datagrams, mut sender) = view.split();
        for d in datagrams {
            log::debug!("{} bytes of a datagram from {}", d.bytes.len(), d.from);
            // A datagram that finds the queue full is dropped and counted, as on any network.
            let _ = sender.send_from(d.to, d.from, d.bytes);
        }
    }

    fn on_tick(&mut self, _: &mut Context<'_>) {
        log::debug!("timed out, do some other work here");
    }

    fn on_error(&mut self, _: &mut Context<'_>, error: Error) {
        log::warn!("{error}");
    }
}

fn peer(cx: &mut Context<'_>, conn: ConnId) -> Addr {
    let unknown = |_| UnixAddr::default().into();
    cx.conn(conn)
        .map_or_else(unknown, |view| view.peer_addr().clone())
}

#[cold]
fn tell_data(n: usize, peer: &Addr) {
    log::debug!("received {n} bytes from {peer}");
    log::debug!("sending {n} bytes to {peer}");
}
