//! Any hooks, watched: what happens is counted for the operator, the rest is left to them.
//!
//! The rule: nothing is printed here, only left to the console; `on_data` goes straight through.

use std::sync::Arc;
use std::time::Duration;

use echoloop_server::{
    CloseReason, ConnId, Context, Counters, Error, Event, Hooks, ListenerId, Origin, Refusal,
    Seldom, TimerId, UdpId,
};

use crate::board::Board;
use crate::figures::Figures;
use crate::restart::Exchange;

/// The word that asks a loop for its dump.
pub(crate) const DUMP: u64 = 1;

/// Any hooks, with figures. What they do is left to them.
pub(crate) struct Watched<H> {
    inner: H,
    worker: usize,
    board: Arc<Board>,
    exchange: Arc<Exchange>,
    own: Figures,
    last: Counters,
    last_at: Duration,
    errors_told: Seldom,
}

impl<H> Watched<H> {
    pub(crate) fn new(worker: usize, board: Arc<Board>, exchange: Arc<Exchange>, inner: H) -> Self {
        Self {
            inner,
            worker,
            board,
            exchange,
            own: Figures::default(),
            last: Counters::default(),
            last_at: Duration::ZERO,
            errors_told: Seldom::default(),
        }
    }

    fn print(&mut self, now: Duration) {
        let sum = self.board.sum();
        let since = now.saturating_sub(self.last_at);
        let line = self.board.figures(&sum, now, &self.last, since);
        if self.board.json {
            self.board.console.line(line);
        } else {
            self.board.console.live(line);
        }
        self.last = sum.loops;
        self.last_at = now;
    }
}

impl<H: Hooks> Hooks for Watched<H> {
    fn on_open(&mut self, cx: &mut Context<'_>, conn: ConnId, listener: Option<ListenerId>) {
        self.own.open += u64::from(came_in(cx, conn));
        self.inner.on_open(cx, conn, listener);
    }

    #[inline(always)]
    fn on_data(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        self.inner.on_data(cx, conn);
    }

    fn on_congested(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        self.inner.on_congested(cx, conn);
    }

    fn on_drained(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        self.inner.on_drained(cx, conn);
    }

    fn on_end_of_stream(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        self.inner.on_end_of_stream(cx, conn);
    }

    fn on_close(&mut self, cx: &mut Context<'_>, conn: ConnId, reason: CloseReason, unsent: u64) {
        let left = u64::from(came_in(cx, conn));
        self.own.open = self.own.open.saturating_sub(left);
        self.own.server.bytes_lost += unsent;
        self.own.server.timed_out += u64::from(matches!(reason, CloseReason::TimedOut(_)));
        self.inner.on_close(cx, conn, reason, unsent);
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, timer: TimerId) {
        self.inner.on_timer(cx, timer);
    }

    fn on_post(&mut self, cx: &mut Context<'_>, word: u64) {
        match word {
            DUMP => self
                .board
                .console
                .aside(format!("worker {}:\n{}", self.worker, cx.dump())),
            word if self.exchange.take_word(self.worker, cx, word) => {}
            word => self.inner.on_post(cx, word),
        }
    }

    fn on_tick(&mut self, cx: &mut Context<'_>) {
        self.inner.on_tick(cx);
        if !self.board.stats {
            return;
        }
        self.own.loops = *cx.counters();
        self.board.note(self.worker, self.own);
        if self.worker == 0 {
            self.print(cx.now());
        }
    }

    fn on_refused(&mut self, cx: &mut Context<'_>, conn: ConnId, why: Refusal) {
        self.own.refused(why);
        self.inner.on_refused(cx, conn, why);
    }

    fn on_datagrams(&mut self, cx: &mut Context<'_>, udp: UdpId) {
        self.inner.on_datagrams(cx, udp);
    }

    fn on_error(&mut self, cx: &mut Context<'_>, error: Error) {
        if self.errors_told.tell(cx.now()).is_some() {
            self.inner.on_error(cx, error);
        }
    }

    fn on_event(&mut self, cx: &mut Context<'_>, event: Event) {
        self.inner.on_event(cx, event);
    }
}

/// Whether a connection is a client's, and not one to the target of a proxy.
fn came_in(cx: &mut Context<'_>, conn: ConnId) -> bool {
    cx.conn(conn)
        .is_ok_and(|view| view.origin() != Origin::Connected)
}
