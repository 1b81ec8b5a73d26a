//! What a loop may tell, and when: one turn of a loop, its handlers, and the end of a connection.
//!
//! The rule: an event is checked against what came before it, then handled by whatever the next
//! bytes say; with none left, all that comes is consumed. A turn that does not end is a failure.

use std::time::Duration;

use echoloop_core::{CloseReason, ConnId, Deadline, Event, ListenerId};

use super::streams::{At, Stream};
use super::world::{Dying, Mail, Side, World};

/// Far more than a turn may hand out of so few connections, timers and posts.
const MOST_EVENTS: usize = 20_000;

impl Side {
    pub(super) fn is_dying(&self, id: ConnId) -> bool {
        matches!(self.dying, Some(Dying::Conn(dying)) if dying == id)
    }

    /// The handler is over: what died in it is gone now.
    fn bury(&mut self) {
        match self.dying.take() {
            Some(Dying::Conn(id)) => assert!(self.el.conn(id).is_err(), "{id:?} lives on"),
            Some(Dying::Timer(id)) => {
                self.timers.remove(&id);
                assert!(self.el.timer_user_data(id).is_err(), "{id:?} lives on");
            }
            None => {}
        }
    }
}

impl Dying {
    pub(super) fn is_timer(self, id: echoloop_core::TimerId) -> bool {
        matches!(self, Self::Timer(dying) if dying == id)
    }
}

impl World<'_> {
    /// One turn of a loop, to its last event.
    pub(super) fn turn(&mut self, side: usize) {
        let timeout = [0, 0, 1, 500][self.below(4)];
        let timeout = Duration::from_millis(timeout);
        self.sides[side].el.poll(Some(timeout)).expect("it polls");
        self.sides[side].bury();
        self.meet_peers();
        for n in 0.. {
            assert!(n < MOST_EVENTS, "a turn without an end");
            let way = self.below(4);
            if way == 3 {
                self.batch(side);
            }
            let short = way == 1;
            let loose = &mut self.sides[side];
            let data = if short { loose.el.next_data() } else { None };
            let event = match data {
                Some(conn) => Some(Event::Data { conn }),
                None => loose.el.next_event(),
            };
            loose.bury();
            self.meet_peers();
            let Some(event) = event else { break };
            self.told(side, event);
            if !self.quiet && !self.bytes.is_empty() {
                for _ in 0..self.below(4).saturating_sub(1) {
                    self.act_in_handler(side);
                }
            }
        }
        self.check_timers(side);
        self.audit(side);
    }

    fn told(&mut self, side: usize, event: Event) {
        match event {
            Event::Accepted { conn, listener } => {
                // One that was closed since may have accepted it.
                assert!(self.sides[side].listened.contains(&listener));
                self.accepted(side, conn, listener);
            }
            Event::Connected { conn } => self.connected(side, conn),
            Event::Adopted { conn } => self.adopted(side, conn),
            Event::ConnectPaused { conn, .. } => {
                let n = self.stream_of(side, conn, event);
                assert!(!self.streams[n].is_open, "{event:?} after its opening");
            }
            Event::Data { conn } => self.data(side, conn),
            Event::Congested { conn } | Event::Drained { conn } => {
                let n = self.open_stream(side, conn, event);
                if self.habits.chatter && !self.ending {
                    self.send(side, n, conn, 100);
                }
            }
            Event::EndOfStream { conn } => self.end_of_stream(side, conn),
            Event::Closed {
                conn,
                reason,
                unsent,
            } => self.closed(side, conn, reason, unsent),
            Event::Timer { timer } => self.timer_fires(side, timer),
            Event::Posted { word } => {
                let letter = self.sides[side].mail.pop_front();
                assert_eq!(letter, Some(Mail::Word(word)), "posts out of order");
                self.sides[side].told.posts += 1;
                if self.habits.repost {
                    self.post(side);
                }
            }
            Event::Stop => {
                let side = &mut self.sides[side];
                let asked = side.stops.checked_sub(1);
                side.stops = asked.expect("a stop was asked for");
                side.stop_is_due = false;
            }
            Event::OverBudget | Event::UnderBudget => {
                let over = event == Event::OverBudget;
                let was = std::mem::replace(&mut self.sides[side].over_budget, over);
                assert_ne!(was, over, "{event:?} twice");
            }
            Event::AcceptPaused { .. } | Event::AcceptResumed { .. } => {}
            Event::Datagrams { udp } => self.datagrams_come(side, udp),
            Event::UdpError { .. } | Event::UdpDrained { .. } => self.udp_event(side, event),
            other => panic!("nobody asked for {other:?}"),
        }
    }

    fn stream_of(&self, side: usize, conn: ConnId, event: Event) -> usize {
        let n = self.sides[side].conns.get(&conn);
        *n.unwrap_or_else(|| panic!("{event:?} of none that lives"))
    }

    /// The stream of a connection that was told to be open and that nobody pipes.
    fn open_stream(&self, side: usize, conn: ConnId, event: Event) -> usize {
        let n = self.stream_of(side, conn, event);
        assert!(self.streams[n].is_open, "{event:?} before its opening");
        assert!(self.streams[n].piped_with.is_none(), "{event:?} in a pipe");
        n
    }

    fn opens(&mut self, n: usize) {
        let was = std::mem::replace(&mut self.streams[n].is_open, true);
        assert!(!was, "stream {n}: opened twice");
    }

    fn accepted(&mut self, side: usize, conn: ConnId, listener: ListenerId) {
        let loose = &mut self.sides[side];
        loose.told.accepted += 1;
        let mut view = loose.el.conn(conn).expect("it was told just now");
        let peer = view.peer_addr().to_string();
        let n = self.knocking.remove(&peer);
        let (_, n) = n.unwrap_or_else(|| panic!("{peer} was accepted twice"));
        view.set_user_data(n as u64);
        assert!(!self.gone.contains(&conn), "a handle was used before");
        assert!(loose.conns.insert(conn, n).is_none());
        self.streams[n].asked.shut_down = loose.listener != Some(listener);
        self.streams[n].at = At::Loop(side, conn);
        self.opens(n);
        if self.ending {
            self.close(side, n, conn);
        }
    }

    fn connected(&mut self, side: usize, conn: ConnId) {
        let n = self.stream_of(side, conn, Event::Connected { conn });
        let loose = &mut self.sides[side];
        loose.told.connected += 1;
        let view = loose.el.conn(conn).expect("it was told just now");
        let peer = view.peer_addr().to_string();
        if self.streams[n].peer.is_none() {
            self.meet_winner(n, &peer);
        }
        self.opens(n);
    }

    fn adopted(&mut self, side: usize, conn: ConnId) {
        let loose = &mut self.sides[side];
        if loose.leaving.contains_key(&conn) {
            return; // It has left already; its opening is told, and then its end.
        }
        let n = match loose.conns.get(&conn) {
            Some(n) => *n,
            None => {
                loose.told.adopted += 1;
                let view = loose.el.conn(conn).expect("it was told just now");
                let n = view.user_data() as usize;
                let letter = loose.mail.pop_front();
                assert_eq!(letter, Some(Mail::Handed(n)), "out of order");
                assert!(!self.gone.contains(&conn), "a handle was used before");
                loose.conns.insert(conn, n);
                self.streams[n].at = At::Loop(side, conn);
                n
            }
        };
        self.opens(n);
        if self.ending {
            self.close(side, n, conn);
        }
    }

    pub(super) fn close(&mut self, side: usize, n: usize, conn: ConnId) {
        self.streams[n].asked.close = true;
        self.sides[side].el.conn(conn).expect("it lives").close();
    }

    fn data(&mut self, side: usize, conn: ConnId) {
        let n = self.open_stream(side, conn, Event::Data { conn });
        let view = self.sides[side].el.conn(conn).expect("it lives");
        let unread = view.received();
        assert!(!unread.is_empty(), "stream {n}: data without a byte");
        self.streams[n].check_unread(unread);
        let all = usize::MAX;
        if self.quiet {
            return self.consume(side, n, conn, all);
        }
        let half = unread.len() / 2;
        match self.below(8) {
            1 => self.consume(side, n, conn, half),
            2 => {}
            3 => self.send_received(side, n, conn, all),
            4 => self.send_received(side, n, conn, half),
            _ if self.habits.echo => self.send_received(side, n, conn, all),
            _ => self.consume(side, n, conn, all),
        }
    }

    /// What can be had of a batch; and it is sent on from where it is, or not.
    fn batch(&mut self, side: usize) {
        let mut pieces = Vec::new();
        if self.below(2) == 1 {
            self.sides[side].el.begin_batch();
        }
        for _ in 0..=self.below(4) {
            let loose = &mut self.sides[side];
            let Some((conn, _, data)) = loose.el.next_data_of_batch() else {
                break;
            };
            let (address, bytes) = (data.as_ptr().addr(), data.to_vec());
            loose.bury();
            let n = self.open_stream(side, conn, Event::Data { conn });
            let stream = &mut self.streams[n];
            stream.check_unread(&bytes);
            stream.used += bytes.len();
            pieces.push((n, conn, address, bytes));
        }
        while !pieces.is_empty() {
            let (n, conn, address, bytes) = pieces.remove(self.below(pieces.len()));
            let half = bytes.len() / 2;
            let parts = match self.below(4) {
                0 => [0..0, 0..0],
                1 => [0..half, half..bytes.len()],
                2 => [half..bytes.len(), 0..half],
                _ => [0..bytes.len(), 0..0],
            };
            for part in parts {
                let el = &mut self.sides[side].el;
                if el.send_of_batch(conn, address + part.start, part.len()) {
                    self.streams[n].was_taken(&bytes[part]);
                }
            }
            if !self.quiet && !self.bytes.is_empty() && self.below(4) == 3 {
                self.act_in_handler(side);
            }
        }
    }

    fn end_of_stream(&mut self, side: usize, conn: ConnId) {
        let n = self.open_stream(side, conn, Event::EndOfStream { conn });
        let view = self.sides[side].el.conn(conn).expect("it lives");
        let stream = &mut self.streams[n];
        stream.check_unread(view.received());
        assert!(
            stream.peer_finished && !std::mem::replace(&mut stream.end_told, true),
            "stream {n}: end of stream for nothing, or twice"
        );
        let got = stream.used + view.received().len();
        assert_eq!(got, stream.peer_sent, "stream {n}: lost before its end");
    }

    fn closed(&mut self, side: usize, conn: ConnId, reason: CloseReason, unsent: u64) {
        let loose = &mut self.sides[side];
        loose.told.closed += 1;
        loose.dying = Some(Dying::Conn(conn));
        self.gone.insert(conn);
        if loose.leaving.remove(&conn).is_some() {
            assert_eq!((reason, unsent), (CloseReason::GivenAway, 0), "{conn:?}");
            return;
        }
        let n = loose.conns.get(&conn).copied();
        let n = n.unwrap_or_else(|| panic!("{conn:?} is closed twice"));
        self.unlink(n);
        self.sides[side].conns.remove(&conn);
        let allowed = self.may_end_so(n, reason);
        assert!(allowed, "stream {n}: {reason:?} for no reason");
        let stream = &mut self.streams[n];
        stream.at = At::Gone;
        let owed = stream.owed.len() - stream.arrived();
        assert_eq!(unsent, owed as u64, "stream {n}: {reason:?} and unsent");
        stream.ends_in_order = in_order(reason) && stream.is_open;
        if stream.ends_in_order && !stream.is_reset() {
            assert_eq!(unsent, 0, "stream {n}: {reason:?} in order");
        }
        if self.habits.reconnect && !self.ending {
            self.connect(side);
        }
    }

    fn may_end_so(&self, n: usize, reason: CloseReason) -> bool {
        let stream: &Stream = &self.streams[n];
        let asked = &stream.asked;
        let options = &self.conn;
        match reason {
            CloseReason::PeerFinished => stream.peer_finished && stream.is_open,
            CloseReason::Reset => stream.is_reset() && stream.is_open,
            CloseReason::ConnectFailed(_) | CloseReason::TimedOut(Deadline::Connect) => {
                !stream.is_open
            }
            CloseReason::ClosedHere => asked.close || asked.pipe,
            CloseReason::AbortedHere => asked.abort || asked.pipe,
            CloseReason::ShutDown => asked.shut_down || asked.pipe,
            CloseReason::TimedOut(Deadline::Idle) => {
                options.idle_timeout.is_some() || asked.deadline
            }
            CloseReason::TimedOut(Deadline::WriteStall) => {
                options.write_stall_timeout.is_some() || asked.deadline
            }
            CloseReason::TimedOut(Deadline::FirstByte) => options.first_byte_timeout.is_some(),
            CloseReason::TimedOut(Deadline::Lifetime) => options.lifetime.is_some(),
            // After an end of stream, by whoever closes.
            CloseReason::TimedOut(Deadline::Close) => {
                unsent_may_wait(stream) || options.lifetime.is_some()
            }
            CloseReason::InputTooLarge => {
                options.max_unread < 1 << 20 || self.loop_options.memory_budget < 1 << 30
            }
            _ => false,
        }
    }
}

fn in_order(reason: CloseReason) -> bool {
    use CloseReason::{ClosedHere, PeerFinished, ShutDown};
    matches!(reason, PeerFinished | ClosedHere | ShutDown)
}

fn unsent_may_wait(stream: &Stream) -> bool {
    let asked = &stream.asked;
    !stream.owed.is_empty()
        && (asked.close || asked.shut_down || asked.pipe || stream.peer_finished)
}
