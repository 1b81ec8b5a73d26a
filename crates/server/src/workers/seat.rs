//! A worker's own place in the team: what a server does differently for being one of several.
//!
//! The rule: a connection that is passed on stays counted by the limits all the way, and nobody is
//! told of it but the worker that serves it. It is passed on before anything was read or sent, so
//! only the socket travels.

use std::sync::Arc;
use std::time::Duration;

use echoloop_core::sys::System;
use echoloop_core::{ConnId, Connection, Counters, EventLoop, ListenerId};

use super::team::{ACCEPTOR, Phase, Team};
use crate::ServerCounters;

pub(crate) struct Seat {
    team: Arc<Team>,
    me: usize,
    /// The listeners whose connections are spread over all workers.
    spread: Vec<ListenerId>,
    /// How many stops came to this loop by its `Remote`.
    stops: usize,
    /// The last question for figures that was answered.
    answered: u64,
    /// Connections lost on arrival that are taken off the count.
    lost: u64,
}

impl Seat {
    pub(crate) fn new(team: Arc<Team>, me: usize, spread: Vec<ListenerId>) -> Self {
        Self {
            team,
            me,
            spread,
            stops: 0,
            answered: 0,
            lost: 0,
        }
    }

    /// A connection is served here.
    pub(crate) fn came(&self) {
        self.team.came(self.me);
    }

    /// One that was served here has ended.
    pub(crate) fn left(&self) {
        self.team.left(self.me, 1);
    }

    /// Passes a connection that was just accepted to the worker with the fewest; false when that
    /// is this one, or the other can't take it.
    pub(crate) fn pass_on<S: System>(
        &self,
        el: &mut EventLoop<S>,
        conn: ConnId,
        listener: ListenerId,
    ) -> bool {
        if !self.spread.contains(&listener) {
            return false;
        }
        let to = self.team.fewest();
        if to == self.me {
            return false;
        }
        self.team.came(to);
        mark(el, conn, self.team.mark);
        match el.hand_over(conn, &self.team.remotes[to]) {
            Ok(()) => true,
            Err(e) => {
                log::debug!("worker {to} can't take a connection, it stays here: {e}");
                mark(el, conn, 0);
                self.team.never_came(to);
                false
            }
        }
    }

    /// Takes a connection that came from elsewhere; true when the acceptor passed it on, so that
    /// it is counted already.
    pub(crate) fn takes<S: System>(&self, conn: &mut Connection<'_, S>) -> bool {
        let passed_on = conn.user_data() == self.team.mark;
        if passed_on {
            conn.set_user_data(0);
        } else {
            self.came();
        }
        passed_on
    }

    /// How many connections were lost on arrival since the last call; they are off the count now.
    pub(crate) fn lost(&mut self, counters: &Counters) -> usize {
        let lost = (counters.arrivals_lost - self.lost) as usize;
        if lost > 0 {
            self.lost = counters.arrivals_lost;
            self.team.left(self.me, lost);
        }
        lost
    }

    /// This loop was stopped by its own `Remote`. A program that stops each of the loops stops the
    /// workers once, so only stops of one loop add up.
    pub(crate) fn stop(&mut self) {
        self.stops += 1;
        self.team.nth_stop(self.stops);
    }

    /// This worker drains, and its listeners are closed: so do all. Answers the grace of the first
    /// that did, or takes this one for all.
    pub(crate) fn drains(&self, grace: Duration) -> Duration {
        let grace = self.team.agree_on_grace(grace);
        if self.me == ACCEPTOR {
            self.team.seal();
        }
        self.team.raise(Phase::Draining);
        grace
    }

    /// Whether a drain leaves nothing to wait for: no connection is here or on its way.
    pub(crate) fn is_over(&self) -> bool {
        self.team.is_over(self.me)
    }

    /// The grace of this worker's drain is over: so it is for all.
    pub(crate) fn closes(&self) {
        self.team.raise(Phase::Closing);
    }

    /// That of the worker that was the first to drain, else that of the builder.
    pub(crate) fn grace(&self) -> Duration {
        self.team.grace()
    }

    pub(crate) fn phase(&self) -> Phase {
        self.team.phase()
    }

    /// Answers whoever asked for figures.
    pub(crate) fn tell(&mut self, server: ServerCounters, el: &Counters) {
        let asked = self.team.asked();
        if asked != self.answered {
            self.answered = asked;
            self.team.tell(self.me, asked, server, el);
        }
    }

    /// Answers all questions to come, when this server ends.
    pub(crate) fn tell_last(&self, server: ServerCounters, el: &Counters) {
        self.team.tell(self.me, u64::MAX, server, el);
    }
}

fn mark<S: System>(el: &mut EventLoop<S>, conn: ConnId, word: u64) {
    if let Ok(mut conn) = el.conn(conn) {
        conn.set_user_data(word);
    }
}
