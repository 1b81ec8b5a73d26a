//! Piped connections on a system that cuts every read and write into random pieces and fails at
//! random: every byte, every end, every bound.

mod util;

use std::collections::HashMap;
use std::time::Duration;

use echoloop_core::sys::{Peer, Sim, SimOptions};
use echoloop_core::{
    CloseReason, ConnId, ConnOptions, ConnectOptions, Deadline, Event, EventLoop, ListenOptions,
    LoopOptions, Rate,
};
use util::{Random, seeds};

const RATE: Rate = Rate {
    bytes_per_second: 2000,
    burst: 1500,
};

const ADDR: &str = "10.0.0.2:7";

fn sim_loop(options: SimOptions, conn: &ConnOptions, budget: usize) -> (Sim, EventLoop<Sim>) {
    let sim = Sim::new(options);
    let options = LoopOptions {
        memory_budget: budget,
        ..LoopOptions::default()
    };
    let mut el = EventLoop::with_system(sim.clone(), options).unwrap();
    let listen = ListenOptions {
        conn: conn.clone(),
        ..ListenOptions::default()
    };
    el.listen(ADDR, &listen).unwrap();
    (sim, el)
}

fn connect(el: &mut EventLoop<Sim>, conn: &ConnOptions) -> ConnId {
    let options = ConnectOptions {
        conn: conn.clone(),
        ..ConnectOptions::default()
    };
    el.connect("10.0.0.9:9", &options).unwrap()
}

/// One end of a proxied stream, played by the test: what it sends and what it got.
struct End {
    peer: Peer,
    input: Vec<u8>,
    sent: usize,
    output: Vec<u8>,
    finishes: bool,
}

impl End {
    fn new(peer: Peer, random: &mut Random) -> Self {
        let n = random.below(20_000) as usize;
        Self {
            peer,
            input: random.bytes(n),
            sent: 0,
            output: Vec::new(),
            finishes: true,
        }
    }

    fn play(&mut self, random: &mut Random) {
        let piece = (1 + random.below(4000) as usize).min(self.input.len() - self.sent);
        self.sent += self.peer.send(&self.input[self.sent..][..piece]);
        if self.sent == self.input.len() && self.finishes {
            self.peer.finish();
        }
        self.output
            .extend(self.peer.receive(random.below(4000) as usize));
    }
}

#[test]
fn every_byte_crosses_a_pipe_in_order_within_the_marks_and_both_ends_are_carried() {
    let (mut starved, mut held) = (0, 0);
    for seed in seeds(200) {
        let mut random = Random::new(seed);
        let marks = ConnOptions {
            high_mark: [0, 700, 3000, 256 << 10][random.below(4) as usize],
            low_mark: [0, 500, 900, 64 << 10][random.below(4) as usize],
            half_open: random.one_in(2),
            auto_pause: random.one_in(2),
            ..ConnOptions::default()
        };
        let budget = [4000, 1 << 30][random.below(2) as usize];
        let (sim, mut el) = sim_loop(SimOptions::unkind(seed), &marks, budget);
        let mut clients: Vec<End> = (0..1 + random.below(4))
            .map(|_| End::new(sim.connect_to(ADDR), &mut random))
            .collect();
        let mut servers: Vec<End> = Vec::new();
        let mut piped: Vec<ConnId> = Vec::new();
        let mut waiting: Vec<ConnId> = Vec::new();
        let mut closed = Vec::new();
        // Which client the n-th server is piped with: the first bytes of the client say it.
        for (n, client) in clients.iter_mut().enumerate() {
            client.input.splice(0..0, [n as u8]);
        }
        let mut turns = 0;
        while !(closed.len() == 2 * clients.len()
            && clients.iter().chain(&servers).all(|e| e.peer.sees_end()))
        {
            turns += 1;
            assert!(turns < 60_000, "seed {seed}: no end");
            for end in clients.iter_mut().chain(&mut servers) {
                end.play(&mut random);
            }
            el.poll(Some(Duration::ZERO)).unwrap();
            while let Some(event) = el.next_event() {
                match event {
                    Event::Accepted { conn, .. } if random.one_in(2) => waiting.push(conn),
                    Event::Accepted { conn, .. } => {
                        let far = connect(&mut el, &marks);
                        el.pipe(far, conn).unwrap();
                        piped.extend([conn, far]);
                        servers.push(End::new(sim.connected_peer().unwrap(), &mut random));
                    }
                    // Something is unread, and perhaps the end was told, before it is piped.
                    Event::Data { conn } | Event::EndOfStream { conn } => {
                        assert!(
                            waiting.contains(&conn),
                            "seed {seed}: {event:?} of a piped one"
                        );
                        let must = budget == 4000 || matches!(event, Event::EndOfStream { .. });
                        if must || random.one_in(2) {
                            let far = connect(&mut el, &marks);
                            el.pipe(conn, far).unwrap();
                            waiting.retain(|id| *id != conn);
                            piped.extend([conn, far]);
                            servers.push(End::new(sim.connected_peer().unwrap(), &mut random));
                        }
                    }
                    Event::Closed {
                        conn,
                        reason,
                        unsent,
                    } => {
                        assert!(piped.contains(&conn), "seed {seed}");
                        closed.push((reason, unsent));
                    }
                    Event::Connected { .. } | Event::OverBudget | Event::UnderBudget => {}
                    other => panic!("seed {seed}: {other:?} of a piped one"),
                }
            }
            for id in &piped {
                let queued = el.conn(*id).map_or(0, |c| c.queued());
                assert!(queued <= marks.high_mark.max(1), "seed {seed}: {queued}");
            }
        }
        assert!(
            closed
                .iter()
                .all(|end| *end == (CloseReason::PeerFinished, 0)),
            "seed {seed}: {closed:?}"
        );
        for end in clients.iter_mut().chain(&mut servers) {
            end.output.extend(end.peer.receive(usize::MAX));
        }
        for server in &servers {
            let client = &clients[usize::from(server.output[0])];
            assert!(client.input == server.output, "seed {seed}: to the server");
            assert!(server.input == client.output, "seed {seed}: to the client");
        }
        for _ in 0..3 {
            el.poll(Some(Duration::ZERO)).unwrap();
            assert_eq!(el.next_event(), None);
        }
        assert_eq!(
            (el.connection_count(), el.buffered(), sim.open_sockets()),
            (0, 0, 1),
            "seed {seed}"
        );
        starved += el.counters().budget_pauses;
        held += el.counters().congested;
    }
    if std::env::var("ECHOLOOP_SEED").is_err() {
        assert!(starved > 50 && held > 50, "{starved} starved, {held} held");
    }
}

#[test]
fn whatever_is_done_to_piped_connections_each_ends_with_one_closed() {
    for seed in seeds(200) {
        let mut random = Random::new(seed);
        let sim_options = SimOptions {
            reset: 300,
            ..SimOptions::unkind(seed)
        };
        let conn = ConnOptions {
            half_open: random.one_in(2),
            high_mark: 2000,
            low_mark: 500,
            send_cap: 8000,
            max_unread: 6000,
            idle_timeout: Some(Duration::from_secs(3)),
            write_stall_timeout: Some(Duration::from_secs(2)),
            first_byte_timeout: random.one_in(2).then_some(Duration::from_secs(1)),
            lifetime: random.one_in(2).then_some(Duration::from_secs(20)),
            receive_rate: random.one_in(2).then_some(RATE),
            ..ConnOptions::default()
        };
        let (sim, mut el) = sim_loop(sim_options, &conn, 20_000);
        let mut open: HashMap<ConnId, bool> = HashMap::new();
        let mut known: Vec<ConnId> = Vec::new();
        let mut peers: Vec<Peer> = Vec::new();
        let closed = |el: &EventLoop<Sim>, event, open: &mut HashMap<ConnId, bool>| {
            if let Event::Closed { conn, .. } = event {
                assert!(open.remove(&conn).is_some(), "seed {seed}: closed twice");
                assert!(el.buffered() < 1 << 20, "seed {seed}");
            }
        };
        for _ in 0..200 {
            match random.below(8) {
                0 => peers.push(sim.connect_to(ADDR)),
                1 => {
                    match random.below(4) {
                        0 => sim.refuse_next(),
                        1 => sim.ignore_next(),
                        _ => {}
                    }
                    let id = connect(&mut el, &conn);
                    open.insert(id, true);
                    known.push(id);
                    peers.extend(sim.connected_peer());
                }
                2 => sim.advance(Duration::from_millis(random.below(800))),
                _ if peers.is_empty() => {}
                _ => {
                    let peer = &peers[random.below(peers.len() as u64) as usize];
                    match random.below(10) {
                        0 => peer.finish(),
                        1 => peer.reset(),
                        2 if random.one_in(2) => peer.hang_up(),
                        2..5 => drop(peer.receive(3000)),
                        _ => drop(peer.send(&random.bytes(2500))),
                    }
                }
            }
            el.poll(Some(Duration::ZERO)).unwrap();
            while let Some(event) = el.next_event() {
                if let Event::Accepted { conn, .. } = event {
                    open.insert(conn, true);
                    known.push(conn);
                }
                closed(&el, event, &mut open);
                for _ in 0..random.below(3) {
                    if known.is_empty() {
                        break;
                    }
                    let any =
                        |random: &mut Random| known[random.below(known.len() as u64) as usize];
                    let id = any(&mut random);
                    match random.below(20) {
                        0..7 => drop(el.pipe(id, any(&mut random))),
                        7 => drop(el.unpipe(id)),
                        8 => drop(el.send(id, &random.bytes(1500))),
                        9 => drop(el.give_away(id)),
                        10..14 => {
                            let Ok(mut view) = el.conn(id) else { continue };
                            match random.below(13) {
                                0 => view.close(),
                                1 => view.abort(),
                                2 => drop(view.shutdown_write()),
                                3 => view.pause(),
                                4..7 => view.resume(),
                                7 => view.set_auto_pause(random.one_in(2)),
                                8 => drop(view.put_back(b"back")),
                                9 => drop(view.flush()),
                                12 => view.set_receive_rate(random.one_in(2).then_some(RATE)),
                                10 => view.consume(random.below(3000) as usize),
                                _ => drop(view.send_received(random.below(3000) as usize)),
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
        el.shut_down(Duration::from_secs(5));
        for _ in 0..2000 {
            sim.advance(Duration::from_millis(100));
            el.poll(Some(Duration::ZERO)).unwrap();
            while let Some(event) = el.next_event() {
                if let Event::Accepted { conn, .. } = event {
                    open.insert(conn, true);
                }
                closed(&el, event, &mut open);
            }
        }
        assert!(open.is_empty(), "seed {seed}: {open:?} never closed");
        assert_eq!(
            (el.buffered(), sim.open_sockets(), el.live_handles()),
            (0, 0, 0),
            "seed {seed}"
        );
    }
}

#[test]
fn a_side_held_back_is_not_idle_while_the_other_still_takes() {
    let marks = ConnOptions {
        high_mark: 20_000,
        low_mark: 1000,
        ..ConnOptions::default()
    };
    let (sim, mut el) = sim_loop(SimOptions::kind(1), &marks, 1 << 30);
    let client = sim.connect_to(ADDR);
    let mut near = None;
    let mut server = None;
    let mut ends = Vec::new();
    let second = Duration::from_secs(1);
    // The server takes a little each second, and holding the client takes far longer than its
    // idle timeout of five; then the server takes nothing more.
    for turn in 0..40 {
        el.poll(Some(Duration::ZERO)).unwrap();
        while let Some(event) = el.next_event() {
            match event {
                Event::Accepted { conn, .. } => {
                    el.conn(conn).unwrap().set_idle_timeout(Some(5 * second));
                    let other = connect(&mut el, &marks);
                    el.pipe(conn, other).unwrap();
                    near = Some(conn);
                    server = sim.connected_peer();
                }
                Event::Closed { conn, reason, .. } => ends.push((conn, reason, turn)),
                _ => {}
            }
        }
        client.send(&[1; 60_000]);
        if turn < 25 {
            server.as_ref().map(|s| s.receive(700));
        }
        sim.advance(second);
    }
    assert!(
        matches!(ends[0], (id, CloseReason::TimedOut(Deadline::Idle), 29..35) if Some(id) == near),
        "{ends:?}"
    );
}
