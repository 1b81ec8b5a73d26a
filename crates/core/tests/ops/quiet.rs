//! That nothing gets stuck: when nobody does anything more and all peers take what they are owed,
//! everything on its way arrives.
//!
//! The rule: what is awaited here needs no further call of the program: answers of connects, what
//! waits to be accepted, sent, received, handed over, and ends of stream.

use std::time::Duration;

use super::world::World;

/// Turns of a tenth of a second of the simulated clock each.
const MOST_TURNS: usize = 600;
/// In so many something must have moved: more than any timeout there is.
const STUCK: usize = 120;

impl World<'_> {
    /// Waits until all that is on its way has arrived.
    pub(super) fn fall_quiet(&mut self) {
        self.quiet = true;
        self.habits = Default::default();
        self.sim.limit_sockets(None);
        for side in &mut self.sides {
            for id in side.conns.keys() {
                side.el.conn(*id).expect("it lives").resume();
            }
            for socket in &side.sockets {
                socket.resume(&mut side.el);
            }
        }
        let (mut before, mut since) = (0, 0);
        // With the smallest of buffers a long queue takes longer than anybody waits here.
        for turn in 0..MOST_TURNS {
            for n in 0..self.streams.len() {
                self.peer_receives(n, usize::MAX);
            }
            for side in 0..self.sides.len() {
                self.turn(side);
            }
            let Some(stuck) = self.what_is_stuck() else {
                break;
            };
            let moved = self.moved();
            if moved != before {
                (before, since) = (moved, turn);
            }
            if turn - since > STUCK {
                let now: String = self.sides.iter().map(|s| s.el.dump()).collect();
                panic!("stuck: {stuck}\n{now}");
            }
            self.sim.advance(Duration::from_millis(100));
        }
    }

    /// Grows with each byte and each connection that gets on.
    fn moved(&self) -> u64 {
        let counters = self.sides.iter().map(|s| s.el.counters());
        let moved = counters.map(|c| {
            let bytes = c.bytes_sent + c.bytes_received;
            bytes + c.accepted + c.connected + c.adopted + c.closed + c.posts
        });
        moved.sum()
    }

    fn what_is_stuck(&mut self) -> Option<String> {
        for (addr, n) in self.knocking.values() {
            let listens = |s: &super::world::Side| s.listener.is_some() && s.listens_at == *addr;
            if self.sides.iter().any(listens) {
                return Some(format!("stream {n} waits to be accepted"));
            }
        }
        for side in &mut self.sides {
            if !side.mail.is_empty() || !side.leaving.is_empty() {
                return Some("mail".to_owned());
            }
            for (id, n) in &side.conns {
                let stream = &self.streams[*n];
                let view = side.el.conn(*id).expect("it lives");
                if !stream.is_open {
                    return Some(format!("stream {n} has no answer"));
                }
                let piped = stream.piped_with.is_some();
                // What a handler has left is offered with what comes next, if something comes.
                let unread = if piped { view.received().len() } else { 0 };
                let to_read = stream.peer.as_ref().map_or(0, |peer| peer.unread());
                let reads = view.may_send();
                if view.queued() > 0 || unread > 0 || reads && to_read > 0 {
                    let queued = view.queued();
                    return Some(format!(
                        "stream {n}: {queued} queued, {unread} unread, {to_read} to read"
                    ));
                }
                if reads && stream.peer_finished && !stream.end_told && !piped {
                    return Some(format!("stream {n}: its end is not told"));
                }
            }
        }
        None
    }
}
