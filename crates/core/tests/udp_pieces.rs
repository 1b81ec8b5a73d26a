//! Datagrams on the simulated system, which takes and gives at random, by seed.
//!
//! A model knows what each socket has sent to each other one and was not refused: that arrives, all
//! of it, once and in order. What a socket that is closed has not sent is the end of its sends.

mod util;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use echoloop_core::sys::{Sim, SimOptions};
use echoloop_core::{ErrorKind, Event, EventLoop, LoopOptions, UdpId, UdpOptions};
use util::{Random, seeds};

const SOCKETS: usize = 4;
const STEPS: usize = 150;

struct Bound {
    id: UdpId,
    addr: SocketAddr,
    peer: Option<SocketAddr>,
    dropped: u64,
}

struct World {
    el: EventLoop<Sim>,
    random: Random,
    sockets: Vec<Bound>,
    /// What is on its way from one address to another.
    expected: BTreeMap<(SocketAddr, SocketAddr), VecDeque<Vec<u8>>>,
    ports: u16,
    sent: u64,
    drained: usize,
    refused: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let sim = Sim::new(SimOptions {
            buffer: 1 << 10,
            reset: random.below(3) * 4,
            ..SimOptions::unkind(seed)
        });
        let el = EventLoop::with_system(sim, LoopOptions::default()).unwrap();
        let mut world = Self {
            el,
            random,
            sockets: Vec::new(),
            expected: BTreeMap::new(),
            ports: 0,
            sent: 0,
            drained: 0,
            refused: 0,
        };
        for _ in 0..SOCKETS {
            let bound = world.bind();
            world.sockets.push(bound);
        }
        world
    }

    /// A socket on an address that none had before.
    fn bind(&mut self) -> Bound {
        self.ports += 1;
        let addr = SocketAddr::from(([10, 0, 0, 1], self.ports));
        let options = UdpOptions {
            offload: self.random.one_in(2),
            send_queue: 2000,
            ..UdpOptions::default()
        };
        let id = self.el.bind_udp(addr, &options).unwrap();
        Bound {
            id,
            addr,
            peer: None,
            dropped: 0,
        }
    }

    fn step(&mut self) {
        let place = self.random.below(SOCKETS as u64) as usize;
        let id = self.sockets[place].id;
        match self.random.below(20) {
            0 => self.el.udp(id).unwrap().pause(),
            1 | 2 => self.el.udp(id).unwrap().resume(),
            3 => self.replace(place),
            4 => {
                let peer = self.random_addr();
                // From now on others are not heard, and what is on its way may be lost.
                if self
                    .expected
                    .iter()
                    .all(|((_, to), d)| *to != self.sockets[place].addr || d.is_empty())
                {
                    self.el.udp(id).unwrap().connect(peer).unwrap();
                    self.sockets[place].peer = Some(peer);
                }
            }
            5 => {
                self.el.udp(id).unwrap().disconnect().unwrap();
                self.sockets[place].peer = None;
            }
            6..=8 => self.turn(),
            _ => self.send(place),
        }
    }

    fn random_addr(&mut self) -> SocketAddr {
        let place = self.random.below(SOCKETS as u64) as usize;
        self.sockets[place].addr
    }

    fn send(&mut self, place: usize) {
        let to = self.random_addr();
        let Bound { id, addr, peer, .. } = self.sockets[place];
        let len = [0, 1, 9, 9, 9, 40, 300][self.random.below(7) as usize];
        let bytes: Vec<u8> = (0..len).map(|i| (self.sent + i) as u8).collect();
        let segment = 1 + self.random.below(len.max(1)) as usize;
        let way = self.random.below(3);
        let to = if way == 0 { peer.unwrap_or(to) } else { to };
        let hearer = self.sockets.iter().find(|s| s.addr == to);
        if hearer.is_some_and(|s| s.peer.is_some_and(|p| p != addr)) {
            return; // Whether it hears when this arrives, nobody knows.
        }
        let there = hearer.is_some();
        let mut view = self.el.udp(id).unwrap();
        let (sent, datagrams) = match (way, peer) {
            (0, Some(_)) => (view.send(&bytes), vec![bytes]),
            (1, _) => {
                let cut = bytes.chunks(segment).map(<[u8]>::to_vec).collect();
                (view.send_segments(to, &bytes, segment), cut)
            }
            _ => (view.send_to(to, &bytes), vec![bytes]),
        };
        self.sent += 1;
        match sent {
            Ok(()) if there => {
                let way = self.expected.entry((addr, to)).or_default();
                way.extend(datagrams);
            }
            Ok(()) => {}
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::QueueFull);
                self.sockets[place].dropped += datagrams.len() as u64;
                self.refused += 1;
            }
        }
    }

    /// Closes a socket; what it had not sent, and what it had not read, is lost.
    fn replace(&mut self, place: usize) {
        let Bound { id, addr, .. } = self.sockets[place];
        self.el.close_udp(id).unwrap();
        self.sockets[place] = self.bind();
        self.expected.retain(|(_, to), _| *to != addr);
    }

    fn turn(&mut self) {
        self.el.poll(Some(Duration::from_millis(1))).unwrap();
        while let Some(event) = self.el.next_event() {
            match event {
                Event::Datagrams { udp } => self.arrived(udp),
                Event::UdpDrained { udp } => {
                    assert_eq!(self.el.udp(udp).unwrap().queued(), 0);
                    self.drained += 1;
                }
                Event::UdpError { .. } => {}
                other => panic!("{other:?}"),
            }
            if self.random.one_in(4) {
                let place = self.random.below(SOCKETS as u64) as usize;
                self.send(place); // From a handler.
            }
        }
    }

    fn arrived(&mut self, udp: UdpId) {
        let to = self.sockets.iter().find(|s| s.id == udp).unwrap().addr;
        let view = self.el.udp(udp).unwrap();
        for datagram in view.datagrams() {
            let expected = self.expected.get_mut(&(datagram.from, to));
            let next = expected.and_then(VecDeque::pop_front);
            assert_eq!(
                next.as_deref(),
                Some(datagram.bytes),
                "{} to {to}",
                datagram.from
            );
            assert!(!datagram.truncated);
        }
    }

    /// Lets all arrive that can, and sees that nothing is left.
    fn finish(mut self) -> (u64, usize, usize) {
        for place in 0..SOCKETS {
            self.el.udp(self.sockets[place].id).unwrap().resume();
        }
        for _ in 0..2000 {
            let on_its_way = |d: &VecDeque<Vec<u8>>| !d.is_empty();
            if self.el.buffered() == 0 && !self.expected.values().any(on_its_way) {
                break;
            }
            self.el.poll(Some(Duration::from_millis(1))).unwrap();
            while let Some(event) = self.el.next_event() {
                if let Event::Datagrams { udp } = event {
                    self.arrived(udp);
                }
            }
        }
        for socket in &self.sockets {
            let view = self.el.udp(socket.id).unwrap();
            assert_eq!((view.queued(), view.dropped()), (0, socket.dropped));
        }
        assert_eq!(self.el.buffered(), 0);
        let living = |addr: &SocketAddr| self.sockets.iter().any(|s| s.addr == *addr);
        for ((from, to), left) in &self.expected {
            assert!(
                left.is_empty() || !living(from),
                "{left:?} from {from} to {to}"
            );
        }
        (self.sent, self.refused, self.drained)
    }
}

#[test]
fn datagrams_arrive_once_and_in_order_whatever_the_system_does() {
    let (mut sent, mut refused, mut drained) = (0, 0, 0);
    for seed in seeds(300) {
        println!("seed {seed}");
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        let (s, r, d) = world.finish();
        (sent, refused, drained) = (sent + s, refused + r, drained + d);
    }
    println!("{sent} sends, {refused} refused, {drained} drained");
    if std::env::var_os("ECHOLOOP_SEED").is_none() {
        assert!(
            sent > 10_000 && refused > 100 && drained > 10,
            "{sent}, {refused}, {drained}"
        );
    }
}
