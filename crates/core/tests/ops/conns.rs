//! What a program does with a connection: bytes, ends, pipes, and where it goes.
//!
//! The rule: a call that is taken moves bytes in the world too, and one that is refused moves none;
//! why it was refused must be true.

use std::time::Duration;

use echoloop_core::{ConnId, ErrorKind};

use super::streams::{At, Stream};
use super::world::{LOOPS, Mail, World};

impl World<'_> {
    pub(super) fn act_on_conn(&mut self, side: usize, n: usize, id: ConnId, what: usize) {
        let mut view = self.sides[side].el.conn(id).expect("it lives");
        match what {
            86..92 => {
                let size = self.size();
                self.send(side, n, id, size);
            }
            92..97 => {
                let size = self.size();
                self.send_received(side, n, id, size);
            }
            97..100 => {
                let size = self.size();
                self.consume(side, n, id, size);
            }
            100..102 => self.put_back(side, n, id),
            102 => view.pause(),
            103..105 => view.resume(),
            105 => view.set_auto_pause(self.bytes.arbitrary().unwrap_or(true)),
            106..108 => drop(view.flush()),
            108 => {
                let finished = view.shutdown_write();
                self.streams[n].asked.deadline |= finished.is_err();
            }
            109 => {
                view.close();
                self.streams[n].asked.close = true;
            }
            110 => {
                view.abort();
                self.streams[n].asked.abort = true;
            }
            111 => {
                let timeout = Duration::from_millis(self.below(4) as u64 * 700);
                let mut view = self.sides[side].el.conn(id).expect("it lives");
                view.set_idle_timeout(Some(timeout));
                self.streams[n].asked.deadline = true;
            }
            112 => {
                view.set_write_stall_timeout(Some(Duration::from_secs(1)));
                view.set_receive_rate(self.conn.receive_rate);
                self.streams[n].asked.deadline = true;
            }
            113..118 => self.pipe(side, n, id),
            118 => self.unpipe(side, n, id),
            119..123 => self.hand_over(side, n, id),
            123 => self.give_away(side, n, id),
            _ => self.send(side, n, id, 1),
        }
    }

    pub(super) fn send(&mut self, side: usize, n: usize, id: ConnId, size: usize) {
        let bytes = self.streams[n].output(size);
        let el = &mut self.sides[side].el;
        let has_budget = self.loop_options.memory_budget < 1 << 30;
        let Ok(view) = el.conn(id) else { return };
        let (queued, may_send) = (view.queued(), view.may_send());
        match el.send(id, &bytes) {
            Ok(()) => {
                assert!(may_send, "stream {n}: a send was taken after the end");
                assert!(
                    self.streams[n].piped_with.is_none(),
                    "stream {n}: a send was taken by a pipe"
                );
                self.streams[n].was_taken(&bytes);
            }
            Err(e) => match e.kind() {
                ErrorKind::QueueFull => assert!(
                    queued > self.conn.send_cap || queued > 0 && has_budget,
                    "stream {n}: refused with {queued} queued"
                ),
                ErrorKind::Closing => {
                    let view = el.conn(id).expect("it lives");
                    assert!(!view.may_send(), "stream {n}: refused for nothing");
                }
                ErrorKind::InvalidInput(_) => {
                    assert!(self.streams[n].asked.pipe, "stream {n}: was never piped");
                }
                _ => panic!("stream {n}: {e}"),
            },
        }
    }

    pub(super) fn send_received(&mut self, side: usize, n: usize, id: ConnId, most: usize) {
        if self.streams[n].piped_with.is_some() {
            return;
        }
        let Ok(mut view) = self.sides[side].el.conn(id) else {
            return;
        };
        let unread = view.received();
        let bytes = unread[..most.min(unread.len())].to_vec();
        let taken = view.send_received(most).is_ok();
        let left = view.received().len();
        let stream = &mut self.streams[n];
        if taken {
            stream.used += bytes.len();
            stream.was_taken(&bytes);
        }
        let (before, after) = (stream.used, left);
        assert!(before + after <= stream.peer_sent, "stream {n}");
    }

    pub(super) fn consume(&mut self, side: usize, n: usize, id: ConnId, most: usize) {
        if self.streams[n].piped_with.is_some() {
            return;
        }
        let Ok(mut view) = self.sides[side].el.conn(id) else {
            return;
        };
        let unread = view.received().len();
        view.consume(most);
        assert_eq!(view.received().len(), unread - most.min(unread));
        self.streams[n].used += most.min(unread);
    }

    fn put_back(&mut self, side: usize, n: usize, id: ConnId) {
        let len = [1, 9, 4000][self.below(3)].min(self.streams[n].used);
        let stream = &self.streams[n];
        let bytes = stream.input(stream.used - len, len);
        let mut view = self.sides[side].el.conn(id).expect("it lives");
        // Of a piped one in the handler that piped it alone: nothing of it has moved yet.
        if view.put_back(&bytes).is_ok() {
            self.streams[n].used -= len;
        }
    }

    fn pipe(&mut self, side: usize, n: usize, id: ConnId) {
        let Some((other, with)) = self.any_conn(side) else {
            return;
        };
        let el = &mut self.sides[side].el;
        let mut lives = |id| el.conn(id).is_ok_and(|view| view.may_send());
        let both = lives(id) && lives(with);
        match el.pipe(id, with) {
            Err(e) if id == with => assert!(matches!(e.kind(), ErrorKind::InvalidInput(_)), "{e}"),
            Ok(()) => {
                for (one, two) in [(n, other), (other, n)] {
                    let stream = &mut self.streams[one];
                    stream.asked.pipe = true;
                    if both {
                        let before = stream.piped_with.replace(two);
                        assert!(before.is_none(), "stream {one}: piped twice");
                    }
                }
            }
            Err(_) => {}
        }
    }

    fn unpipe(&mut self, side: usize, n: usize, id: ConnId) {
        self.carry(n);
        if let Some(other) = self.streams[n].piped_with {
            self.carry(other);
        }
        match self.sides[side].el.unpipe(id) {
            Ok(()) => {
                let other = self.streams[n].piped_with.take();
                let other = other.unwrap_or_else(|| panic!("stream {n}: was not piped"));
                self.streams[other].piped_with = None;
            }
            Err(e) => assert!(matches!(e.kind(), ErrorKind::InvalidInput(_)), "{e}"),
        }
    }

    fn hand_over(&mut self, side: usize, n: usize, id: ConnId) {
        let to = (side + self.below(4).min(1)) % LOOPS;
        let remote = self.sides[to].el.remote();
        match self.sides[side].el.hand_over(id, &remote) {
            Ok(()) => {
                self.left(side, n, id);
                self.streams[n].at = At::Mail;
                self.sides[to].mail.push_back(Mail::Handed(n));
            }
            Err(e) => assert!(
                matches!(
                    e.kind(),
                    ErrorKind::Closing | ErrorKind::InvalidInput(_) | ErrorKind::QueueFull
                ),
                "{e}"
            ),
        }
    }

    fn give_away(&mut self, side: usize, n: usize, id: ConnId) {
        let Ok(given) = self.sides[side].el.give_away(id) else {
            return;
        };
        self.left(side, n, id);
        let stream = &mut self.streams[n];
        stream.check_unread(&given.unread);
        let unsent = given.unsent.len();
        let owed = stream.owed.len() - stream.arrived();
        assert_eq!(unsent, owed, "stream {n}: what was given away unsent");
        assert_eq!(given.user_data, n as u64);
        stream.at = At::Hand(Box::new(given));
    }

    /// The connection is this side's no more, save for its `Closed`.
    fn left(&mut self, side: usize, n: usize, id: ConnId) {
        let loose = &mut self.sides[side];
        loose.told.given_away += 1;
        loose.conns.remove(&id);
        loose.leaving.insert(id, n);
        let stream = &mut self.streams[n];
        assert!(stream.piped_with.is_none(), "stream {n}: left its pipe");
        (stream.is_open, stream.end_told) = (false, false);
    }

    /// A loop takes a socket that was given away, or its owner loses it.
    pub(super) fn adopt(&mut self, side: usize) {
        let in_hand = |s: &Stream| matches!(s.at, At::Hand(_));
        let Some(n) = self.streams.iter().position(in_hand) else {
            return;
        };
        let drops = self.below(4) == 3;
        let stream = &mut self.streams[n];
        let At::Hand(given) = std::mem::replace(&mut stream.at, At::Gone) else {
            return;
        };
        if drops {
            return;
        }
        let side_ = &mut self.sides[side];
        let id = match side_.el.adopt(given.socket, &self.conn) {
            Ok(id) => id,
            Err(e) => panic!("stream {n}: {e}"),
        };
        side_.told.adopted += 1;
        side_.conns.insert(id, n);
        stream.at = At::Loop(side, id);
        let mut view = side_.el.conn(id).expect("it was adopted just now");
        view.set_user_data(n as u64);
        assert_eq!(*view.peer_addr(), given.peer);
        if view.put_back(&given.unread).is_err() {
            stream.used += given.unread.len();
        }
        if view.send(&given.unsent).is_err() {
            // It is dead already, so nobody gets the rest.
            let rest = stream.owed.len() - given.unsent.len();
            stream.owed.truncate(rest);
            stream.taken -= given.unsent.len();
            stream.asked.deadline |= view.may_send();
        }
        if given.finishing {
            let _ = view.shutdown_write();
        }
    }
}
