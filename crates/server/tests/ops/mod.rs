//! Bytes to operations on a server of the simulated network: who comes, from where and how fast, and
//! a drain; beside it a model that lets in, refuses and counts by the words of the docs.
//!
//! The rule: what the server tells of each connection is what the model says at that moment, and at
//! the end its counters and its report are the model's. Every byte of a connection that ended in
//! order came back.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use arbitrary::Unstructured;
use echoloop_core::sys::{Peer, Sim, SimOptions};
use echoloop_core::{CloseReason, ConnId, ConnOptions, Deadline, Event, ListenOptions};
use echoloop_server::{Refusal, Report, Server, ServerCounters, ServerEvent};

const ADDR: &str = "10.0.0.9:7";
const MS: Duration = Duration::from_millis(1);
const MOST_ACTS: usize = 400;
const MOST_TURNS: usize = 500;

/// Runs the operations that `bytes` say, and checks everything.
pub(crate) fn run(bytes: &[u8]) {
    let mut world = World::new(Unstructured::new(bytes));
    for _ in 0..MOST_ACTS {
        if world.bytes.is_empty() {
            break;
        }
        world.act();
    }
    world.end();
}

struct World<'a> {
    bytes: Unstructured<'a>,
    sim: Sim,
    server: Server<Sim>,
    model: Model,
    clients: Vec<Client>,
    conns: BTreeMap<ConnId, usize>,
    drain: Option<Drain>,
}

struct Client {
    peer: Peer,
    from: Ipv4Addr,
    sent: Vec<u8>,
    got: Vec<u8>,
    finished: bool,
    /// It was told of, by either event.
    told: bool,
    refused: bool,
    /// The last word about it.
    end: Option<CloseReason>,
    unsent: u64,
}

struct Drain {
    grace_until: Duration,
    report: Report,
}

/// The limits, as the docs have them.
struct Model {
    max: usize,
    max_per_peer: Option<u32>,
    rate: Option<(f64, f64)>,
    tokens: f64,
    filled_at: Duration,
    open: usize,
    per_peer: HashMap<Ipv4Addr, u32>,
    counters: ServerCounters,
}

impl Model {
    /// Whether one from there is let in now. A bucket that is within a hair of a token is not
    /// foretold: the server's clock is not that of the loop to the last microsecond.
    fn enter(&mut self, from: Ipv4Addr, now: Duration, was_refused: bool) -> Option<Refusal> {
        let refused = self.limits(from, now, was_refused);
        let n = match refused {
            None => {
                self.open += 1;
                *self.per_peer.entry(from).or_default() += 1;
                let most = self.counters.most_open.max(self.open as u64);
                self.counters.most_open = most;
                return None;
            }
            Some(Refusal::MaxConnections) => &mut self.counters.refused_full,
            Some(Refusal::MaxPerPeer) => &mut self.counters.refused_peer,
            Some(_) => &mut self.counters.refused_rate,
        };
        *n += 1;
        self.counters.refused += 1;
        refused
    }

    fn limits(&mut self, from: Ipv4Addr, now: Duration, was_refused: bool) -> Option<Refusal> {
        if self.open >= self.max {
            return Some(Refusal::MaxConnections);
        }
        let of_peer = self.per_peer.get(&from).copied().unwrap_or(0);
        if self.max_per_peer.is_some_and(|max| of_peer >= max) {
            return Some(Refusal::MaxPerPeer);
        }
        if let Some((per_second, burst)) = self.rate {
            let gained = (now - self.filled_at).as_secs_f64() * per_second;
            self.tokens = (self.tokens + gained).min(burst);
            self.filled_at = now;
            let close_call = (self.tokens - 1.0).abs() < 0.01;
            if self.tokens < 1.0 && !close_call || close_call && was_refused {
                return Some(Refusal::AcceptRate);
            }
            self.tokens -= 1.0;
        }
        None
    }

    fn leave(&mut self, from: Ipv4Addr) {
        self.open -= 1;
        *self.per_peer.get_mut(&from).expect("it came in") -= 1;
    }
}

impl<'a> World<'a> {
    fn new(mut bytes: Unstructured<'a>) -> Self {
        let mut dial = |n: usize| usize::from(bytes.arbitrary::<u8>().unwrap_or(0)) % n;
        let sim = Sim::new(SimOptions {
            seed: dial(256) as u64,
            buffer: [64 << 10, 1000, 50][dial(3)],
            cut: [0, 2][dial(2)],
            again: [0, 5][dial(2)],
            interrupt: [0, 7][dial(2)],
            reset: 0,
        });
        let conn = ConnOptions {
            idle_timeout: [None, Some(MS * 3000)][dial(2)],
            high_mark: [256 << 10, 800][dial(2)],
            low_mark: [64 << 10, 100][dial(2)],
            ..ConnOptions::default()
        };
        let max = [usize::MAX, 1, 4, 9][dial(4)];
        let max_per_peer = [None, Some(1), Some(3)][dial(3)];
        let rate = [None, Some((10, 2)), Some((1, 5))][dial(3)];
        let mut builder = Server::builder()
            .listen(ADDR)
            .max_connections(max)
            .drain_deadline(MS * 2000)
            .listen_options(ListenOptions {
                conn,
                ..ListenOptions::default()
            });
        if let Some(max) = max_per_peer {
            builder = builder.max_per_peer(max);
        }
        if let Some((per_second, burst)) = rate {
            builder = builder.accept_rate(per_second, burst);
        }
        let server = builder.build_on(sim.clone()).expect("it listens");
        let rate = rate.map(|(per_second, burst)| (f64::from(per_second), f64::from(burst)));
        Self {
            bytes,
            sim,
            server,
            model: Model {
                max,
                max_per_peer,
                rate,
                tokens: rate.map_or(0.0, |(_, burst)| burst),
                filled_at: Duration::ZERO,
                open: 0,
                per_peer: HashMap::new(),
                counters: ServerCounters::default(),
            },
            clients: Vec::new(),
            conns: BTreeMap::new(),
            drain: None,
        }
    }

    fn below(&mut self, n: usize) -> usize {
        usize::from(self.bytes.arbitrary::<u8>().unwrap_or(0)) % n.max(1)
    }

    fn act(&mut self) {
        match self.below(32) {
            0..6 => self.knock(),
            6..14 => self.turn(),
            14..16 => {
                let ms = [1, 20, 100, 700, 3000][self.below(5)];
                self.sim.advance(MS * ms);
            }
            16 if self.below(8) == 7 => {
                let grace = MS * [0, 500, 5000][self.below(3)];
                self.drain(grace);
            }
            what => self.act_of_client(what),
        }
    }

    fn knock(&mut self) {
        let from = Ipv4Addr::new(20, 0, 0, self.below(3) as u8);
        let port = 1000 + self.clients.len() as u16;
        if self.drain.is_some() || self.clients.len() > 100 {
            return;
        }
        let peer = self.sim.connect_from(SocketAddr::from((from, port)), ADDR);
        self.clients.push(Client {
            peer,
            from,
            sent: Vec::new(),
            got: Vec::new(),
            finished: false,
            told: false,
            refused: false,
            end: None,
            unsent: 0,
        });
    }

    fn act_of_client(&mut self, what: usize) {
        let (n, size) = (self.below(self.clients.len()), self.below(256) * 8);
        let Some(client) = self.clients.get_mut(n) else {
            return;
        };
        match what {
            17..24 if !client.finished && !client.peer.is_reset() => {
                let from = client.sent.len();
                let bytes: Vec<u8> = (from..from + size).map(|i| pattern(n, i)).collect();
                let taken = client.peer.send(&bytes);
                client.sent.extend(&bytes[..taken]);
            }
            24..28 => client.receive(size),
            28..30 => {
                client.finished = true;
                client.peer.finish();
            }
            30 => client.peer.reset(),
            _ => {}
        }
    }

    fn drain(&mut self, grace: Duration) {
        self.server.drain_with_grace(grace);
        // Only the first counts.
        let until = self.server.event_loop().now() + grace;
        self.drain.get_or_insert(Drain {
            grace_until: until,
            report: Report::default(),
        });
        assert!(self.server.is_draining() && self.server.local_addrs().is_empty());
        assert!(self.server.listen("10.0.0.9:8", None).is_err());
    }

    fn turn(&mut self) {
        self.server.poll(Some(MS * 10)).expect("it polls");
        for n in 0.. {
            assert!(n < 10_000, "a turn without an end");
            match self.server.next_event() {
                None => break,
                Some(ServerEvent::Refused { conn, why }) => self.came(conn, Some(why)),
                Some(ServerEvent::Loop(event)) => self.told(event),
                Some(ServerEvent::Tick) => panic!("nobody asked for ticks"),
            }
        }
        self.audit();
    }

    fn told(&mut self, event: Event) {
        match event {
            Event::Accepted { conn, .. } => self.came(conn, None),
            Event::Data { conn } | Event::EndOfStream { conn } => {
                let n = self.conns.get(&conn);
                assert!(n.is_some(), "{event:?} of none that was let in");
                let mut view = self.server.event_loop().conn(conn).expect("it lives");
                view.send_received(usize::MAX).expect("it is taken");
            }
            Event::Closed {
                conn,
                reason,
                unsent,
            } => self.closed(conn, reason, unsent),
            Event::Congested { .. } | Event::Drained { .. } => {}
            other => panic!("nobody asked for {other:?}"),
        }
    }

    /// One came, and was let in or refused: as the model has it.
    fn came(&mut self, conn: ConnId, refused: Option<Refusal>) {
        assert!(self.drain.is_none(), "accepted in a drain");
        let el = self.server.event_loop();
        let now = el.now();
        let peer = el.conn(conn).expect("it lives").peer_addr().clone();
        let port = peer.ip().expect("an IP address").port();
        let n = usize::from(port - 1000);
        let client = &mut self.clients[n];
        assert!(!std::mem::replace(&mut client.told, true), "{n} came twice");
        client.refused = refused.is_some();
        let foretold = self.model.enter(client.from, now, refused.is_some());
        assert_eq!(refused, foretold, "client {n} from {}", client.from);
        if refused.is_some() {
            assert!(
                client.peer.is_reset(),
                "client {n} is refused and not reset"
            );
        } else {
            self.conns.insert(conn, n);
        }
    }

    fn closed(&mut self, conn: ConnId, reason: CloseReason, unsent: u64) {
        let n = self.conns.remove(&conn);
        let n = n.unwrap_or_else(|| panic!("{conn:?} was not let in, or ended twice"));
        let client = &mut self.clients[n];
        (client.end, client.unsent) = (Some(reason), unsent);
        self.model.leave(client.from);
        let counters = &mut self.model.counters;
        counters.bytes_lost += unsent;
        counters.timed_out += u64::from(matches!(reason, CloseReason::TimedOut(_)));
        let now = self.server.event_loop().now();
        let allowed = match reason {
            CloseReason::PeerFinished => client.finished && unsent == 0,
            CloseReason::Reset => client.peer.is_reset(),
            CloseReason::TimedOut(Deadline::Idle) => true,
            // It has finished, and does not take what it is owed.
            CloseReason::TimedOut(Deadline::Close) if client.finished => true,
            CloseReason::ShutDown | CloseReason::TimedOut(Deadline::Close) => {
                self.drain.as_ref().is_some_and(|d| d.grace_until <= now)
                    && (unsent == 0 || reason != CloseReason::ShutDown)
            }
            _ => false,
        };
        assert!(
            allowed,
            "client {n}: {reason:?}, {unsent} unsent, at {now:?}"
        );
        if let Some(drain) = &mut self.drain {
            drain.report.bytes_lost += unsent;
            match unsent {
                0 => drain.report.closed_clean += 1,
                _ => drain.report.aborted += 1,
            }
        }
    }

    fn audit(&mut self) {
        assert_eq!(self.server.counters(), self.model.counters);
        assert_eq!(self.conns.len(), self.model.open);
        let mut ids = self.server.event_loop().connections();
        ids.sort();
        assert!(ids.iter().eq(self.conns.keys()), "connections");
        let over = self.drain.as_ref().filter(|_| ids.is_empty());
        assert_eq!(self.server.report(), over.map(|d| d.report));
    }

    /// Drains, and plays on until all have ended.
    fn end(&mut self) {
        let reads = self.below(2) == 0;
        self.drain(MS * 500);
        for turn in 0.. {
            assert!(turn < MOST_TURNS, "a drain without an end");
            if self.server.report().is_some() {
                break;
            }
            if reads {
                self.clients.iter_mut().for_each(|c| c.receive(usize::MAX));
            }
            self.turn();
            self.sim.advance(MS * 100);
        }
        for (n, client) in self.clients.iter_mut().enumerate() {
            client.receive(usize::MAX);
            let want = &client.sent[..client.got.len().min(client.sent.len())];
            assert!(client.got == want, "client {n} got what it did not send");
            if client.end == Some(CloseReason::PeerFinished) {
                assert_eq!(client.got.len(), client.sent.len(), "client {n}");
            }
            assert!(client.told || client.peer.is_reset(), "client {n} hangs");
            assert!(!client.refused || client.got.is_empty(), "client {n}");
        }
        // The timer of the grace, when all ended before it was over.
        let left = self.server.event_loop().live_handles();
        assert!(left <= 1 && self.sim.open_sockets() == 0, "{left} left");
    }
}

impl Client {
    fn receive(&mut self, most: usize) {
        self.got.extend(self.peer.receive(most));
    }
}

fn pattern(client: usize, place: usize) -> u8 {
    (place * 7 + (place >> 8) * 13 + client * 101) as u8
}
