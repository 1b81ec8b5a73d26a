//! What is in a loop beside connections: timers, the mailbox, datagrams; and handles that are none.
//!
//! The rule: a timer is never early, and never later than the first turn that begins after its
//! time; a post arrives once and in order; a datagram at most once, whole and in order. A handle
//! that does not name a living object of its kind in its loop is `BadHandle` everywhere.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use echoloop_core::sys::Sim;
use echoloop_core::{
    ConnId, ErrorKind, Event, EventLoop, ListenerId, TimerId, TimerSpec, UdpId, UdpOptions,
};

use super::world::{LOOPS, Mail, World};

pub(super) struct Alarm {
    /// Not before this time, in nanoseconds of the network's clock.
    pub(super) earliest: u64,
    /// A turn that begins then must tell it; not known before the turn is over in which it was
    /// armed.
    pub(super) latest: Option<u64>,
    pub(super) delay: u64,
    pub(super) period: u64,
}

pub(super) struct Socket {
    id: UdpId,
    sent: u32,
    /// The last number that came from each.
    last: HashMap<SocketAddr, u32>,
}

impl Socket {
    pub(super) fn resume(&self, el: &mut EventLoop<Sim>) {
        el.udp(self.id).expect("it lives").resume();
    }

    pub(super) fn queued(&self, el: &mut EventLoop<Sim>) -> usize {
        el.udp(self.id).map_or(0, |view| view.queued())
    }

    pub(super) fn close(self, el: &mut EventLoop<Sim>) {
        el.close_udp(self.id).expect("it lives");
    }
}

/// All datagrams are as large, so that the counters of bytes can be told apart.
pub(super) const DATAGRAM: usize = 300;
const MOST_TIMERS: usize = 30;

impl World<'_> {
    pub(super) fn post(&mut self, side: usize) {
        self.words += 1;
        let word = self.words;
        let loose = &mut self.sides[side];
        let remote = loose.el.remote();
        match self.bytes.arbitrary::<u8>().unwrap_or(0) % 4 {
            0 => {
                remote.stop().expect("the loop lives");
                (loose.stops, loose.stop_is_due) = (loose.stops + 1, true);
            }
            1 => remote.wake().expect("the loop lives"),
            _ => match remote.post(word) {
                Ok(()) => loose.mail.push_back(Mail::Word(word)),
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::QueueFull);
                    assert!(loose.mail.len() >= self.loop_options.post_capacity);
                }
            },
        }
    }

    pub(super) fn timer(&mut self, side: usize) {
        let delay = [0, 1, 1_000_000, 400_000_000, 1_500_000_000][self.below(5)];
        let (what, which, now) = (self.below(8), self.below(256), self.now());
        let side = &mut self.sides[side];
        let mut ids: Vec<TimerId> = side.timers.keys().copied().collect();
        ids.sort();
        let after = Duration::from_nanos(delay);
        let some = ids.get(which % ids.len().max(1)).copied();
        let mut alarm = Alarm {
            earliest: now + delay,
            latest: None,
            delay,
            period: 0,
        };
        match (what, some) {
            (0..4, _) | (_, None) if ids.len() < MOST_TIMERS => {
                let spec = match what {
                    0 => {
                        alarm.period = (delay).max(1);
                        TimerSpec::every(after)
                    }
                    1 => TimerSpec::at(Duration::from_nanos(now - side.start) + after),
                    _ => TimerSpec::after(after),
                };
                let id = side.el.add_timer(spec).expect("there are few");
                assert!(side.timers.insert(id, alarm).is_none());
            }
            (4..6, Some(id)) => {
                side.el.rearm_timer(id, after).expect("it lives");
                alarm.period = side.timers[&id].period;
                side.timers.insert(id, alarm);
                side.dying = side.dying.filter(|d| !d.is_timer(id));
            }
            (_, Some(id)) => {
                side.el.cancel_timer(id).expect("it lives");
                side.timers.remove(&id);
                side.dying = side.dying.filter(|d| !d.is_timer(id));
                let stale = side.el.rearm_timer(id, after).unwrap_err();
                assert_eq!(stale.kind(), ErrorKind::BadHandle);
            }
            _ => {}
        }
    }

    pub(super) fn timer_fires(&mut self, side: usize, id: TimerId) {
        let rearms = self.habits.rearm;
        let side = &mut self.sides[side];
        let now = side.start + side.el.now().as_nanos() as u64;
        let alarm = side.timers.get_mut(&id);
        let alarm = alarm.unwrap_or_else(|| panic!("{id:?} fires after its end"));
        assert!(alarm.earliest <= now, "{id:?} is early");
        side.told.timers += 1;
        if alarm.period > 0 {
            (alarm.earliest, alarm.latest) = (now + 1, Some(now + alarm.period));
        } else if rearms {
            side.el.rearm_timer(id, Duration::ZERO).expect("it lives");
            (alarm.earliest, alarm.latest, alarm.delay) = (now + 1, None, 0);
        } else {
            side.dying = Some(super::world::Dying::Timer(id));
        }
    }

    /// A turn is over: no timer may be left that was due when it began.
    pub(super) fn check_timers(&mut self, side: usize) {
        let clock = self.now();
        let side = &mut self.sides[side];
        let began = side.start + side.el.now().as_nanos() as u64;
        for (id, alarm) in &mut side.timers {
            match alarm.latest {
                Some(latest) => assert!(latest > began, "{id:?} is late"),
                None => alarm.latest = Some((clock + alarm.delay).max(began + 1)),
            }
        }
    }

    pub(super) fn datagram(&mut self, side: usize) {
        let what = self.below(8);
        let which = self.below(2);
        let bound = self.sides[side].sockets.len();
        if bound < 2 && what > 5 {
            let port = 5000 + self.words as u16;
            self.words += 1;
            let addr = SocketAddr::from(([10, 0, 0, 2 + side as u8], port));
            let bound = self.sides[side].el.bind_udp(addr, &UdpOptions::default());
            self.sides[side].sockets.push(Socket {
                id: bound.expect("the port is free"),
                sent: 0,
                last: HashMap::new(),
            });
            return;
        }
        if which >= bound {
            return;
        }
        if what == 0 {
            let socket = self.sides[side].sockets.swap_remove(which);
            self.sides[side].el.close_udp(socket.id).expect("it lives");
            assert!(self.sides[side].el.udp(socket.id).is_err());
            return;
        }
        let to_side = self.below(LOOPS);
        let to = self.sides[to_side].sockets.first().map(|s| s.id);
        let to = to.map(|id| {
            self.sides[to_side]
                .el
                .udp(id)
                .unwrap()
                .local_addr()
                .unwrap()
        });
        let side = &mut self.sides[side];
        let socket = &mut side.sockets[which];
        let mut view = side.el.udp(socket.id).expect("it lives");
        match what {
            1 => view.pause(),
            2 => view.resume(),
            _ => {
                socket.sent += 1;
                let mut bytes = socket.sent.to_le_bytes().to_vec();
                bytes.resize(DATAGRAM, socket.sent as u8);
                if let Some(to) = to {
                    let _ = view.send_to(to, &bytes);
                }
            }
        }
    }

    pub(super) fn datagrams_come(&mut self, side: usize, id: UdpId) {
        let side = &mut self.sides[side];
        let socket = side.sockets.iter_mut().find(|s| s.id == id);
        let socket = socket.unwrap_or_else(|| panic!("{id:?} tells after its end"));
        let view = side.el.udp(id).expect("it lives");
        for datagram in view.datagrams() {
            let (number, filler) = datagram.bytes.split_at(4);
            let number = u32::from_le_bytes(number.try_into().expect("four bytes"));
            let last = socket.last.insert(datagram.from, number).unwrap_or(0);
            assert!(last < number, "{id:?}: datagram {number} after {last}");
            assert_eq!(datagram.bytes.len(), DATAGRAM);
            assert!(filler.iter().all(|b| *b == number as u8), "{id:?}: torn");
        }
    }

    pub(super) fn udp_event(&self, side: usize, event: Event) {
        let (Event::UdpError { udp, .. } | Event::UdpDrained { udp }) = event else {
            return;
        };
        let known = self.sides[side].sockets.iter().any(|s| s.id == udp);
        assert!(known, "{event:?} after its end");
    }

    /// Tries what is no living handle of this loop: stale, of the other loop, made up.
    pub(super) fn made_up_handle(&mut self, side: usize) {
        let bits: u64 = self.bytes.arbitrary().unwrap_or(0);
        let dice = self.below(4);
        let other = &self.sides[(side + 1) % LOOPS];
        let some = |n: usize| usize::try_from(bits).unwrap_or(usize::MAX) % n.max(1);
        let raw = match dice {
            0 => bits,
            1 => other
                .conns
                .keys()
                .nth(some(other.conns.len()))
                .map_or(1, |id| id.to_raw()),
            2 => {
                let mut gone: Vec<&ConnId> = self.gone.iter().collect();
                gone.sort();
                gone.get(some(gone.len())).map_or(3, |id| id.to_raw())
            }
            // A living one with a bit turned.
            _ => {
                let conns = &self.sides[side].conns;
                let raw = conns.keys().next().map_or(5, |id| id.to_raw());
                raw ^ 1 << (bits % 64)
            }
        };
        let side = &mut self.sides[side];
        let bad = |e: echoloop_core::Error| assert_eq!(e.kind(), ErrorKind::BadHandle, "{raw:#x}");
        let conn = ConnId::from_raw(raw);
        let leaves = side.leaving.contains_key(&conn) || side.is_dying(conn);
        if !side.conns.contains_key(&conn) && !leaves {
            bad(side.el.conn(conn).err().expect("no living one"));
            bad(side.el.send(conn, b"x").unwrap_err());
            bad(side.el.unpipe(conn).unwrap_err());
            bad(side.el.give_away(conn).unwrap_err());
            if let Some(living) = side.conns.keys().next() {
                bad(side.el.pipe(*living, conn).unwrap_err());
            }
        }
        let timer = TimerId::from_raw(raw);
        if !side.timers.contains_key(&timer) {
            bad(side.el.rearm_timer(timer, Duration::ZERO).unwrap_err());
            bad(side.el.cancel_timer(timer).unwrap_err());
        }
        if side.listener != Some(ListenerId::from_raw(raw)) {
            bad(side
                .el
                .close_listener(ListenerId::from_raw(raw))
                .unwrap_err());
        }
        if side.sockets.iter().all(|s| s.id.to_raw() != raw) {
            bad(side.el.close_udp(UdpId::from_raw(raw)).unwrap_err());
        }
    }
}
