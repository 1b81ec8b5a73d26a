//! Restarts under load on the simulated system: a successor takes part in the listener, its
//! predecessor drains or hands over what it has. By seed, against a model of who has which client.

use std::collections::HashMap;
use std::time::Duration;

use echoloop_core::sys::{Peer, Random, Sim, SimOptions};
use echoloop_core::{CloseReason, ConnId, Event, LoopOptions};
use echoloop_server::{Server, ServerEvent};

const ADDR: &str = "10.0.0.9:7";
/// Bytes of a request, and of its answer, which is the same.
const REQUEST: usize = 8;
const RESTARTS: usize = 3;
const SERVED_OUT: Duration = Duration::from_secs(100_000);

struct Client {
    peer: Peer,
    requests: Vec<u8>,
    sent: usize,
    answers: Vec<u8>,
    /// It finishes without waiting for the answers.
    hasty: bool,
    place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Backlog,
    Server(usize, ConnId),
    Mail(usize),
    Ended,
}

struct Generation {
    server: Server<Sim>,
    /// Accepted, or handed over by the one before, and not handed on.
    served: u64,
    ended: u64,
}

struct World {
    sim: Sim,
    random: Random,
    generations: Vec<Generation>,
    clients: Vec<Client>,
    by_addr: HashMap<String, usize>,
    /// Who is replaced hands its connections over, instead of serving them to their end.
    hands_over: bool,
}

impl World {
    fn new(seed: u64, mut random: Random) -> Self {
        let sim = Sim::new(SimOptions::unkind(seed));
        let hands_over = random.one_in(2);
        let mut world = Self {
            sim,
            random,
            generations: Vec::new(),
            clients: Vec::new(),
            by_addr: HashMap::new(),
            hands_over,
        };
        world.start(Server::builder().listen(ADDR), true);
        world
    }

    fn start(&mut self, builder: echoloop_server::ServerBuilder, first: bool) {
        let sim = if first {
            self.sim.clone()
        } else {
            self.sim.neighbour()
        };
        let options = LoopOptions {
            post_capacity: if self.random.one_in(2) { 2 } else { 1000 },
            ..LoopOptions::default()
        };
        self.generations.push(Generation {
            server: builder.loop_options(options).build_on(sim).unwrap(),
            served: 0,
            ended: 0,
        });
    }

    /// A new server on the listener of the last one, which drains from now on.
    fn restart(&mut self) {
        let old = self.generations.last_mut().expect("the first one");
        let el = old.server.event_loop();
        let listener = el.listeners()[0];
        let shared = el.share_listener(listener).unwrap();
        self.start(Server::builder().inherit(shared), false);
        let n = self.generations.len() - 2;
        self.generations[n].server.drain_with_grace(SERVED_OUT);
    }

    fn client_comes(&mut self) {
        let n = self.clients.len();
        let requests = 1 + self.random.below(200) as usize;
        let request = |i: usize| ((n as u64) << 32 | i as u64).to_be_bytes();
        let peer = self.sim.connect_to(ADDR);
        self.by_addr.insert(peer.addr().to_string(), n);
        self.clients.push(Client {
            peer,
            requests: (0..requests).flat_map(request).collect(),
            sent: 0,
            answers: Vec::new(),
            hasty: self.random.one_in(2),
            place: Place::Backlog,
        });
    }

    fn play_clients(&mut self) {
        for client in &mut self.clients {
            if self.random.one_in(3) {
                continue; // It thinks.
            }
            let rest = &client.requests[client.sent..];
            let piece = (self.random.below(100) as usize).min(rest.len());
            client.sent += client.peer.send(&rest[..piece]);
            let most = self.random.below(200) as usize;
            client.answers.extend(client.peer.receive(most));
            // Some finish with their last request, some when they have all answers.
            let has_all = client.answers.len() == client.requests.len();
            if client.sent == client.requests.len() && (client.hasty || has_all) {
                client.peer.finish();
            }
        }
    }

    fn turn(&mut self, at: usize) {
        let generation = &mut self.generations[at];
        generation.server.poll(Some(Duration::ZERO)).unwrap();
        while let Some(event) = self.generations[at].server.next_event() {
            let ServerEvent::Loop(event) = event else {
                panic!("{event:?}");
            };
            self.told(at, event);
        }
        let last = self.generations.len() - 1;
        if self.hands_over && at < last {
            self.hand_over_all(at, last);
        }
    }

    fn told(&mut self, at: usize, event: Event) {
        match event {
            Event::Accepted { conn, .. } => {
                let last = at + 1 == self.generations.len();
                assert!(last, "accepted after its replacement");
                self.arrives(at, conn, Place::Backlog);
            }
            Event::Adopted { conn } => self.arrives(at, conn, Place::Mail(at)),
            Event::Data { conn } | Event::EndOfStream { conn } => self.answer(at, conn),
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
                let n = self.client_of(at, conn);
                self.clients[n].place = Place::Ended;
                self.generations[at].ended += 1;
            }
            other => panic!("{other:?}"),
        }
    }

    fn arrives(&mut self, at: usize, conn: ConnId, from: Place) {
        let el = self.generations[at].server.event_loop();
        let peer = el.conn(conn).unwrap().peer_addr().to_string();
        let client = &mut self.clients[self.by_addr[&peer]];
        assert_eq!(client.place, from, "a connection is in two places");
        client.place = Place::Server(at, conn);
        self.generations[at].served += 1;
    }

    fn client_of(&self, at: usize, conn: ConnId) -> usize {
        let here = |c: &Client| c.place == Place::Server(at, conn);
        let n = self.clients.iter().position(here);
        n.expect("an event of one that is there")
    }

    /// Answers whole requests; the beginning of the next one waits for its rest, wherever that is
    /// read.
    fn answer(&mut self, at: usize, conn: ConnId) {
        let _ = self.client_of(at, conn);
        let mut view = self.generations[at].server.event_loop().conn(conn).unwrap();
        while let Some(request) = view.received().first_chunk::<REQUEST>().copied() {
            view.send(&request).unwrap();
            view.consume(REQUEST);
        }
    }

    fn hand_over_all(&mut self, at: usize, to: usize) {
        let remote = self.generations[to].server.remote();
        for n in 0..self.clients.len() {
            let Place::Server(server, conn) = self.clients[n].place else {
                continue;
            };
            // In the middle of their requests, some sooner and some later.
            if server != at || !self.random.one_in(4) {
                continue;
            }
            let el = self.generations[at].server.event_loop();
            if el.hand_over(conn, &remote).is_ok() {
                self.clients[n].place = Place::Mail(to);
                self.generations[at].served -= 1;
            }
        }
    }
}

#[test]
fn a_restart_loses_doubles_and_swaps_no_request() {
    let mut handed = 0;
    Random::each_seed(150, |seed, random| {
        let mut world = World::new(seed, random.clone());
        let come = 5 + random.below(20) as usize;
        for turn in 0.. {
            assert!(turn < 20_000, "no end");
            if world.clients.len() < come && world.random.one_in(4) {
                world.client_comes();
            }
            if world.generations.len() <= RESTARTS && world.random.one_in(40) {
                world.restart();
            }
            world.play_clients();
            for at in 0..world.generations.len() {
                world.turn(at);
            }
            let ended = |c: &Client| c.place == Place::Ended && c.peer.sees_end();
            let all = world.generations.len() > RESTARTS && world.clients.len() == come;
            if all && world.clients.iter().all(ended) {
                break;
            }
        }
        for (n, client) in world.clients.iter().enumerate() {
            assert!(client.requests == client.answers, "client {n}");
            assert!(!client.peer.is_reset(), "client {n}");
        }
        let last = world.generations.len() - 1;
        world.generations[last].server.drain();
        for at in 0..=last {
            world.turn(at);
            let generation = &mut world.generations[at];
            let report = generation.server.report().expect("all have ended");
            assert_eq!((report.aborted, report.bytes_lost), (0, 0));
            assert_eq!(generation.served, generation.ended);
            let el = generation.server.event_loop();
            handed += el.counters().given_away;
            assert_eq!((el.connection_count(), el.buffered()), (0, 0));
        }
        assert_eq!(world.sim.open_sockets(), 0);
    });
    if std::env::var("ECHOLOOP_SEED").is_err() {
        assert!(handed > 300, "{handed} were handed over");
    }
}
