//! One operation: what a program does to a loop, what a peer does, what befalls. What is done with a
//! connection is in `conns`, timers and the like in `others`.
//!
//! The rule: every answer of the loop is compared with what the docs say of the call, and the world
//! is told at once. Which operation, on whom and how much is said by the next bytes.

use std::net::SocketAddr;
use std::time::Duration;

use echoloop_core::sys::Meets;
use echoloop_core::{ConnId, ErrorKind};

use super::streams::{At, Stream};
use super::world::{LOOPS, World};

/// More connections make runs slow and find nothing.
const MOST_STREAMS: usize = 40;

impl World<'_> {
    /// One operation between two turns, or a turn.
    pub(super) fn act(&mut self) {
        let what = self.below(256);
        let side = what % LOOPS;
        match what / LOOPS {
            0..48 => self.turn(side),
            48 => self.drop_loop(side),
            what => self.act_on(side, what),
        }
    }

    /// One operation that a handler may do as well.
    pub(super) fn act_in_handler(&mut self, side: usize) {
        let what = 49 + self.below(79);
        self.act_on(side, what);
    }

    fn act_on(&mut self, side: usize, what: usize) {
        match what {
            49..53 => self.knock(side),
            53..56 => drop(self.connect(side)),
            56 => self.connect_by_name(side),
            57..63 => {
                let (n, size) = (self.any_stream(), self.size());
                self.peer_sends(n, size);
            }
            63..68 => {
                let (n, size) = (self.any_stream(), self.size());
                self.peer_receives(n, size);
            }
            68..70 => self.peer_finishes(),
            70 => self.peer_resets(),
            71 => self.time_passes(),
            72 => self.mishap(),
            73 => self.post(side),
            74..77 => self.timer(side),
            77 => self.change_listener(side),
            78 => self.shut_down(side),
            79..82 => self.made_up_handle(side),
            82..85 => self.datagram(side),
            85 => self.adopt(side),
            what => {
                if let Some((n, id)) = self.any_conn(side) {
                    self.act_on_conn(side, n, id, what);
                }
            }
        }
    }

    pub(super) fn any_stream(&mut self) -> usize {
        let n = self.streams.len();
        if n == 0 {
            self.streams.push(Stream::new(0, None, At::Gone));
        }
        self.below(n)
    }

    fn knock(&mut self, side: usize) {
        if self.sides[side].listener.is_none() || self.streams.len() >= MOST_STREAMS {
            return;
        }
        let at = self.sides[side].listens_at.clone();
        let peer = self.sim.connect_to(at.as_str());
        let n = self.streams.len();
        self.knocking.insert(peer.addr().to_string(), (at, n));
        self.streams.push(Stream::new(n, Some(peer), At::Backlog));
    }

    /// Connects to an address of its own, where something is planned.
    pub(super) fn connect(&mut self, side: usize) -> Option<ConnId> {
        let n = self.streams.len();
        if n >= MOST_STREAMS {
            return None;
        }
        let addr = self.plan_road(n, 0);
        let options = self.connect_options();
        let id = self.sides[side].el.connect(addr, &options).ok()?;
        self.note_connect(side, n, id);
        Some(id)
    }

    fn connect_by_name(&mut self, side: usize) {
        let n = self.streams.len();
        if n >= MOST_STREAMS {
            return;
        }
        let addrs = (1..=1 + self.below(3) as u8).map(|k| self.plan_road(n, k).ip());
        let addrs = addrs.collect();
        let host = format!("host-{n}");
        let delay = Duration::from_millis(self.below(3) as u64 * 300);
        self.sim.name(&host, delay, Ok(addrs));
        let options = self.connect_options();
        let target = format!("{host}:80");
        let id = self.sides[side].el.connect(target.as_str(), &options);
        self.note_connect(side, n, id.expect("a lookup starts"));
    }

    fn note_connect(&mut self, side: usize, n: usize, id: ConnId) {
        let mut view = self.sides[side].el.conn(id).expect("it was made just now");
        view.set_user_data(n as u64);
        assert!(!self.gone.contains(&id), "a handle was used before");
        self.sides[side].conns.insert(id, n);
        self.streams.push(Stream::new(n, None, At::Loop(side, id)));
        self.meet_peers();
    }

    /// Finds the stream of each peer that a connect has reached.
    pub(super) fn meet_peers(&mut self) {
        while let Some(peer) = self.sim.connected_peer() {
            let addr = peer.addr().ip().expect("an IP address");
            let [_, attempt, high, low] = ip_bytes(addr);
            let n = usize::from(high) << 8 | usize::from(low);
            match self.streams.get_mut(n) {
                Some(stream) if attempt == 0 => stream.peer = Some(peer),
                _ => self.strangers.push(peer),
            }
        }
    }

    /// The winner of a connect by name is known.
    pub(super) fn meet_winner(&mut self, n: usize, addr: &str) {
        self.meet_peers();
        let mut strangers = self.strangers.iter();
        let winner = strangers.position(|p| p.addr().to_string() == addr);
        let winner = winner.unwrap_or_else(|| panic!("stream {n}: nobody is at {addr}"));
        self.streams[n].peer = Some(self.strangers.swap_remove(winner));
    }

    fn plan_road(&mut self, n: usize, attempt: u8) -> SocketAddr {
        let addr = SocketAddr::from(([20, attempt, (n >> 8) as u8, n as u8], 80));
        let dice = self.below(256);
        let meets = match dice % 8 {
            0 => Meets::Refuses,
            1 => Meets::Ignores,
            2 => Meets::Fails(nix::errno::Errno::EHOSTUNREACH as i32),
            _ => Meets::Accepts,
        };
        let delay = [0, 0, 100, 400][dice / 64];
        self.sim.road(addr, meets, Duration::from_millis(delay));
        addr
    }

    fn peer_finishes(&mut self) {
        let n = self.any_stream();
        let stream = &mut self.streams[n];
        if let Some(peer) = &stream.peer {
            stream.peer_finished = true;
            peer.finish();
        }
    }

    fn peer_resets(&mut self) {
        let n = self.any_stream();
        let hangs_up = self.below(2) == 1;
        let stream = &mut self.streams[n];
        match &stream.peer {
            Some(peer) if hangs_up => {
                stream.hung_up = true;
                peer.hang_up();
            }
            Some(peer) => peer.reset(),
            None => {}
        }
    }

    fn time_passes(&mut self) {
        let ms = [0, 1, 50, 300, 999, 1000, 3000, 20_000][self.below(8)];
        self.sim.advance(Duration::from_millis(ms));
    }

    fn mishap(&mut self) {
        use nix::errno::Errno::{EADDRNOTAVAIL, ECONNABORTED, EMFILE, ENOMEM};
        match self.below(6) {
            0 => self.sim.fail_accept(EMFILE as i32),
            1 => self.sim.fail_accept(ECONNABORTED as i32),
            2 => self.sim.fail_connect(ENOMEM as i32),
            3 => self.sim.fail_connect(EADDRNOTAVAIL as i32),
            4 => self.sim.limit_sockets(Some(self.sim.open_sockets())),
            _ => self.sim.limit_sockets(None),
        }
    }

    fn change_listener(&mut self, side: usize) {
        let loose = &mut self.sides[side];
        if let Some(id) = loose.listener.take() {
            loose.el.close_listener(id).expect("it listens");
            let stale = loose.el.close_listener(id).unwrap_err();
            assert_eq!(stale.kind(), ErrorKind::BadHandle);
        } else {
            self.listen(side);
        }
    }

    fn shut_down(&mut self, side: usize) {
        let within = Duration::from_millis(self.below(3) as u64 * 1000);
        self.sides[side].el.shut_down(within);
        self.note_shut_down(side);
    }

    pub(super) fn note_shut_down(&mut self, side: usize) {
        let side = &mut self.sides[side];
        side.listener = None;
        for n in side.conns.values() {
            self.streams[*n].asked.shut_down = true;
        }
    }
}

fn ip_bytes(addr: SocketAddr) -> [u8; 4] {
    match addr {
        SocketAddr::V4(addr) => addr.ip().octets(),
        SocketAddr::V6(_) => [0; 4],
    }
}
