//! Connections handed from loop to loop in the middle of everything, on a system that cuts every
//! read and write into random pieces: by seed, against a model of where each one is.

mod util;

use std::collections::HashMap;
use std::time::Duration;

use echoloop_core::sys::{Peer, Sim, SimOptions};
use echoloop_core::{
    CloseReason, ConnId, ConnOptions, Event, EventLoop, ListenOptions, LoopOptions,
};
use util::Random;

const ADDR: &str = "10.0.0.2:7";
const LOOPS: usize = 3;

/// A client, which must get back what it sent, wherever its connection is.
struct Client {
    peer: Peer,
    input: Vec<u8>,
    sent: usize,
    output: Vec<u8>,
    at: Place,
    hops: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Backlog,
    Loop(usize, ConnId),
    Mail(usize),
    Ended,
}

struct World {
    loops: Vec<EventLoop<Sim>>,
    clients: Vec<Client>,
    /// By the address of its peer.
    by_addr: HashMap<String, usize>,
    /// Loops that hand over all they have and take nothing more.
    drained: usize,
    random: Random,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let sim = Sim::new(SimOptions::unkind(seed));
        let options = ListenOptions {
            conn: ConnOptions {
                half_open: random.one_in(2),
                high_mark: 3000,
                low_mark: 1000,
                ..ConnOptions::default()
            },
            ..ListenOptions::default()
        };
        let mut loops: Vec<EventLoop<Sim>> = Vec::new();
        for n in 0..LOOPS {
            let sim = if n == 0 { sim.clone() } else { sim.neighbour() };
            let mut el = EventLoop::with_system(sim, LoopOptions::default()).unwrap();
            match loops.first_mut() {
                None => drop(el.listen(ADDR, &options).unwrap()),
                Some(first) => {
                    let listener = first.listeners()[0];
                    let shared = first.share_listener(listener).unwrap();
                    el.adopt_listener(shared, &options).unwrap();
                }
            }
            loops.push(el);
        }
        let clients: Vec<Client> = (0..1 + random.below(8))
            .map(|_| {
                let n = random.below(20_000) as usize;
                Client {
                    peer: sim.connect_to(ADDR),
                    input: random.bytes(n),
                    sent: 0,
                    output: Vec::new(),
                    at: Place::Backlog,
                    hops: 0,
                }
            })
            .collect();
        let addrs = clients.iter().map(|c| c.peer.addr().to_string());
        Self {
            by_addr: addrs.zip(0..).collect(),
            loops,
            clients,
            drained: 0,
            random,
        }
    }

    fn play_peers(&mut self) {
        let random = &mut self.random;
        for client in &mut self.clients {
            let piece = (random.below(3000) as usize).min(client.input.len() - client.sent);
            client.sent += client.peer.send(&client.input[client.sent..][..piece]);
            if client.sent == client.input.len() {
                client.peer.finish();
            }
            let most = random.below(3000) as usize;
            client.output.extend(client.peer.receive(most));
        }
    }

    fn turn(&mut self, at: usize) {
        self.loops[at].poll(Some(Duration::ZERO)).unwrap();
        while let Some(event) = self.loops[at].next_event() {
            self.told(at, event);
            if self.random.one_in(6) {
                self.hand_some_over(at);
            }
        }
        if at < self.drained {
            for conn in self.loops[at].connections() {
                self.hand_over(at, conn, self.drained);
            }
        }
    }

    fn told(&mut self, at: usize, event: Event) {
        match event {
            Event::Accepted { conn, .. } => {
                assert!(at >= self.drained, "accepted after its end");
                self.arrives(at, conn, Place::Backlog);
            }
            Event::Adopted { conn } => self.arrives(at, conn, Place::Mail(at)),
            Event::Data { conn } => self.echo(at, conn, event),
            Event::EndOfStream { conn } => {
                self.client_at(at, conn, event);
                let mut view = self.loops[at].conn(conn).unwrap();
                // It is told again by each loop that gets the connection after it.
                if view.may_send() {
                    view.send_received(usize::MAX).unwrap();
                    view.shutdown_write().unwrap();
                }
            }
            Event::Closed {
                reason: CloseReason::GivenAway,
                ..
            } => {}
            Event::Closed {
                conn,
                reason,
                unsent,
            } => {
                assert_eq!((reason, unsent), (CloseReason::PeerFinished, 0));
                let n = self.client_at(at, conn, event);
                self.clients[n].at = Place::Ended;
            }
            Event::Congested { .. } | Event::Drained { .. } => {}
            other => panic!("{other:?}"),
        }
    }

    fn arrives(&mut self, at: usize, conn: ConnId, from: Place) {
        let view = self.loops[at].conn(conn).unwrap();
        let n = self.by_addr[&view.peer_addr().to_string()];
        assert_eq!(self.clients[n].at, from, "client {n} is in two places");
        self.clients[n].at = Place::Loop(at, conn);
    }

    fn client_at(&self, at: usize, conn: ConnId, event: Event) -> usize {
        let here = |c: &Client| c.at == Place::Loop(at, conn);
        let n = self.clients.iter().position(here);
        n.unwrap_or_else(|| panic!("loop {at}: {event:?} of one that is not there"))
    }

    /// Sends back all, a part or nothing; what is left must go along.
    fn echo(&mut self, at: usize, conn: ConnId, event: Event) {
        self.client_at(at, conn, event);
        let mut view = self.loops[at].conn(conn).unwrap();
        let n = view.received().len();
        match self.random.below(4) {
            0 => {}
            1 => view.send_received(n / 2).unwrap(),
            _ => view.send_received(n).unwrap(),
        }
    }

    fn hand_some_over(&mut self, at: usize) {
        let conns = self.loops[at].connections();
        let to = self.random.below(LOOPS as u64) as usize;
        if conns.is_empty() || to < self.drained {
            return;
        }
        let conn = conns[self.random.below(conns.len() as u64) as usize];
        self.hand_over(at, conn, to);
    }

    fn hand_over(&mut self, at: usize, conn: ConnId, to: usize) {
        let here = |c: &Client| c.at == Place::Loop(at, conn);
        let Some(n) = self.clients.iter().position(here) else {
            return; // It has left already.
        };
        let remote = self.loops[to].remote();
        // One that has ended stays, to tell it.
        if self.loops[at].hand_over(conn, &remote).is_ok() {
            self.clients[n].at = Place::Mail(to);
            self.clients[n].hops += 1;
        }
    }
}

#[test]
fn every_byte_comes_back_in_order_from_whichever_loop_has_the_connection() {
    let mut hops = 0;
    Random::each_seed(200, |seed, _| {
        let mut world = World::new(seed);
        let mut turns = 0;
        while world
            .clients
            .iter()
            .any(|c| c.at != Place::Ended || !c.peer.sees_end())
        {
            turns += 1;
            assert!(turns < 20_000, "seed {seed}: no end");
            world.play_peers();
            // The first loops leave one by one, the last one serves on.
            if world.drained + 1 < LOOPS && world.random.one_in(60) {
                let listener = world.loops[world.drained].listeners()[0];
                world.loops[world.drained].close_listener(listener).unwrap();
                world.drained += 1;
            }
            for at in 0..LOOPS {
                world.turn(at);
            }
        }
        for (n, client) in world.clients.iter().enumerate() {
            assert!(client.input == client.output, "seed {seed}: client {n}");
            hops += client.hops;
        }
        for at in 0..LOOPS {
            world.turn(at);
            let el = &world.loops[at];
            assert_eq!(
                (el.connection_count(), el.buffered()),
                (0, 0),
                "seed {seed}"
            );
        }
    });
    if std::env::var("ECHOLOOP_SEED").is_err() {
        assert!(hops > 1000, "{hops}");
    }
}
