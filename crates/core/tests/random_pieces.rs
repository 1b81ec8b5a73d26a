//! The buffers and connections of the loop against a model, on a system that cuts every read and
//! write into random pieces and fails at random, and on the real one.
//!
//! The seed of a failure is printed; run it alone with `ECHOLOOP_SEED=n`. `ECHOLOOP_SEEDS=n` runs
//! more of them.

mod util;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use echoloop_core::sys::{Peer, Sim, SimOptions, System};
use echoloop_core::{
    CloseReason, ConnId, ConnOptions, Event, EventLoop, ListenOptions, LoopOptions,
};
use util::{Random, seeds};

const ADDR: &str = "10.0.0.2:7";

fn sim_loop(options: SimOptions, conn: ConnOptions) -> (Sim, EventLoop<Sim>) {
    // Half of them time every handler, which takes every event the long way.
    let el_options = LoopOptions {
        slow_handler: options.seed.is_multiple_of(2).then_some(Duration::MAX),
        ..LoopOptions::default()
    };
    let sim = Sim::new(options);
    let mut el = EventLoop::with_system(sim.clone(), el_options).unwrap();
    let listen = ListenOptions {
        conn,
        ..ListenOptions::default()
    };
    el.listen(ADDR, &listen).unwrap();
    (sim, el)
}

/// What the events of one loop have told so far, checked for order as they come.
#[derive(Default)]
struct Story {
    /// Asked for by `connect`, not made yet.
    asked: HashSet<ConnId>,
    /// Open, and how many times the end of stream was told.
    open: HashMap<ConnId, usize>,
    closed: Vec<(ConnId, CloseReason, u64)>,
}

impl Story {
    fn follow(&mut self, event: Event, seed: u64) {
        match event {
            Event::Accepted { conn, .. } | Event::Connected { conn } => {
                self.asked.remove(&conn);
                assert!(
                    self.open.insert(conn, 0).is_none(),
                    "seed {seed}: opened twice"
                );
            }
            Event::Data { conn } | Event::Congested { conn } | Event::Drained { conn } => {
                assert!(
                    self.open.contains_key(&conn),
                    "seed {seed}: {event:?} out of order"
                );
            }
            Event::EndOfStream { conn } => {
                assert_eq!(
                    self.open.insert(conn, 1),
                    Some(0),
                    "seed {seed}: {event:?} out of order"
                );
            }
            Event::Closed {
                conn,
                reason,
                unsent,
            } => {
                let opened = self.open.remove(&conn).is_some();
                assert!(
                    opened || self.asked.remove(&conn),
                    "seed {seed}: {event:?} without an opening"
                );
                self.closed.push((conn, reason, unsent));
            }
            _ => {}
        }
    }
}

/// The next event, by either way to it.
fn next<S: System>(el: &mut EventLoop<S>, random: &mut Random) -> Option<Event> {
    if random.below(2) == 0
        && let Some(conn) = el.next_data()
    {
        return Some(Event::Data { conn });
    }
    el.next_event()
}

/// Echoes by one of several ways, which all must come to the same: whole, in parts, late.
fn echo<S: System>(el: &mut EventLoop<S>, conn: ConnId, random: &mut Random) {
    let mut view = el.conn(conn).unwrap();
    let n = view.received().len();
    match random.below(6) {
        0 => view.send_received(usize::MAX).unwrap(),
        1 => {
            let part = random.below(n as u64 + 1) as usize;
            view.send_received(part).unwrap();
            view.send_received(n - part).unwrap();
        }
        2 => {
            let copy = view.received().to_vec();
            for piece in copy.chunks(1 + random.below(n as u64) as usize) {
                view.send(piece).unwrap();
            }
            view.consume(n);
        }
        3 => {
            let copy = view.received().to_vec();
            let part = random.below(n as u64 + 1) as usize;
            view.send(&copy[..part]).unwrap();
            view.consume(part);
            let _ = view.flush();
        }
        4 => {
            let copy = view.received().to_vec();
            view.consume(n);
            view.put_back(&copy).unwrap();
        }
        _ => {} // Leaves all of it for the next event.
    }
}

#[test]
fn every_byte_comes_back_in_order_however_it_is_cut() {
    for seed in seeds(300) {
        let mut random = Random::new(seed);
        let (sim, mut el) = sim_loop(SimOptions::unkind(seed), ConnOptions::default());
        let mut peers: Vec<(Peer, Vec<u8>, usize, Vec<u8>)> = (0..1 + random.below(8))
            .map(|_| {
                let n = random.below(60_000) as usize;
                (sim.connect_to(ADDR), random.bytes(n), 0, Vec::new())
            })
            .collect();
        let mut story = Story::default();
        let mut turns = 0;
        while peers.iter().any(|(peer, ..)| !peer.sees_end()) {
            turns += 1;
            assert!(turns < 20_000, "seed {seed}: no end");
            for (peer, input, sent, output) in &mut peers {
                let want = 1 + random.below(5000) as usize;
                *sent += peer.send(&input[*sent..][..want.min(input.len() - *sent)]);
                if *sent == input.len() {
                    peer.finish();
                }
                output.extend(peer.receive(random.below(5000) as usize));
            }
            el.poll(Some(Duration::ZERO)).unwrap();
            while let Some(event) = next(&mut el, &mut random) {
                story.follow(event, seed);
                match event {
                    Event::Data { conn } => echo(&mut el, conn, &mut random),
                    Event::EndOfStream { conn } => {
                        el.conn(conn).unwrap().send_received(usize::MAX).unwrap();
                    }
                    _ => {}
                }
            }
        }
        for _ in 0..50 {
            el.poll(Some(Duration::ZERO)).unwrap();
            while let Some(event) = el.next_event() {
                story.follow(event, seed);
            }
        }
        for (_, input, _, output) in &peers {
            assert!(
                input == output,
                "seed {seed}: {} bytes in, {} out",
                input.len(),
                output.len()
            );
        }
        assert_eq!(story.closed.len(), peers.len(), "seed {seed}");
        for (_, reason, unsent) in &story.closed {
            assert_eq!(
                (*reason, *unsent),
                (CloseReason::PeerFinished, 0),
                "seed {seed}"
            );
        }
        assert_eq!(
            (el.connection_count(), el.buffered(), sim.open_sockets()),
            (0, 0, 1),
            "seed {seed}"
        );
    }
}

#[test]
fn every_connection_ends_with_one_closed_whatever_is_done_to_it() {
    for seed in seeds(500) {
        let mut random = Random::new(seed);
        let sim_options = SimOptions {
            reset: 200,
            ..SimOptions::unkind(seed)
        };
        let conn = ConnOptions {
            half_open: random.below(2) == 0,
            high_mark: 2000,
            low_mark: 500,
            send_cap: 8000,
            max_unread: 6000,
            idle_timeout: Some(Duration::from_secs(3)),
            write_stall_timeout: Some(Duration::from_secs(2)),
            ..ConnOptions::default()
        };
        let (sim, mut el) = sim_loop(sim_options, conn.clone());
        let connect = echoloop_core::ConnectOptions {
            conn,
            ..Default::default()
        };
        let mut story = Story::default();
        let mut peers: Vec<Peer> = Vec::new();
        let mut known: Vec<ConnId> = Vec::new();
        let mut begun = 0;
        for step in 0..200 {
            match random.below(8) {
                0 => {
                    peers.push(sim.connect_to(ADDR));
                    begun += 1;
                }
                1 => {
                    match random.below(4) {
                        0 => sim.refuse_next(),
                        1 => sim.ignore_next(),
                        _ => {}
                    }
                    let id = el.connect(ADDR, &connect).unwrap();
                    story.asked.insert(id);
                    known.push(id);
                    begun += 1;
                    peers.extend(sim.connected_peer());
                }
                2 => sim.advance(Duration::from_millis(random.below(1500))),
                _ if peers.is_empty() => {}
                _ => {
                    let peer = &peers[random.below(peers.len() as u64) as usize];
                    match random.below(8) {
                        0 => peer.finish(),
                        1 => peer.reset(),
                        2 | 3 => drop(peer.receive(3000)),
                        _ => drop(peer.send(&random.bytes(2500))),
                    }
                }
            }
            el.poll(Some(Duration::ZERO)).unwrap();
            while let Some(event) = next(&mut el, &mut random) {
                story.follow(event, seed);
                if let Event::Accepted { conn, .. } = event {
                    known.push(conn);
                }
                // Anything may be done with anybody, at any time, also with those long gone.
                for _ in 0..random.below(3) {
                    let Some(id) = known.get(random.below(known.len() as u64) as usize) else {
                        break;
                    };
                    let Ok(mut view) = el.conn(*id) else { continue };
                    let n = 1 + random.below(12_000) as usize;
                    let bytes = random.bytes(n);
                    match random.below(20) {
                        0 => view.close(),
                        1 => view.abort(),
                        2 => drop(view.shutdown_write()),
                        3 => view.pause(),
                        4 | 5 => view.resume(),
                        6 => view.set_auto_pause(random.below(2) == 0),
                        7 => view.set_idle_timeout(Some(Duration::from_millis(random.below(4000)))),
                        8 => drop(view.put_back(&bytes[..bytes.len().min(100)])),
                        9 => drop(view.flush()),
                        10..14 => drop(view.send_received(random.below(5000) as usize)),
                        14 | 15 => view.consume(random.below(8000) as usize),
                        _ => drop(view.send(&bytes)),
                    }
                }
                if step % 16 == 0 {
                    let (dump, all) = (el.dump(), el.connections());
                    let named = |conn: &ConnId| dump.contains(&format!("\n{conn:?} 10.0.0."));
                    assert!(all.iter().all(named), "seed {seed}: {all:?} in {dump}");
                }
            }
        }
        // All that is left ends by itself: idle, stalled, or cut by the connect timeout.
        el.shut_down(Duration::from_secs(5));
        for _ in 0..2000 {
            sim.advance(Duration::from_millis(100));
            el.poll(Some(Duration::ZERO)).unwrap();
            while let Some(event) = el.next_event() {
                story.follow(event, seed);
            }
        }
        assert_eq!(el.connection_count(), 0, "seed {seed}");
        assert!(
            story.open.is_empty() && story.asked.is_empty(),
            "seed {seed}: opened and never closed"
        );
        // Those still in the backlog when the listener closed never were the loop's.
        assert!(story.closed.len() <= begun, "seed {seed}");
        let mut ids: Vec<ConnId> = story.closed.iter().map(|(id, ..)| *id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), story.closed.len(), "seed {seed}: closed twice");
        assert_eq!(
            (el.buffered(), sim.open_sockets(), el.live_handles()),
            (0, 0, 0),
            "seed {seed}"
        );
    }
}

#[test]
fn a_kind_system_gives_the_same_result() {
    let (sim, mut el) = sim_loop(SimOptions::kind(1), ConnOptions::default());
    let peer = sim.connect_to(ADDR);
    assert_eq!(peer.send(b"hello"), 5);
    peer.finish();
    let mut events = Vec::new();
    for _ in 0..6 {
        el.poll(Some(Duration::ZERO)).unwrap();
        while let Some(event) = el.next_event() {
            events.push(event);
            if let Event::Data { conn } = event {
                el.conn(conn).unwrap().send_received(usize::MAX).unwrap();
            }
        }
    }
    assert_eq!(peer.receive(100), b"hello");
    assert!(matches!(
        events[..],
        [
            Event::Accepted { .. },
            Event::Data { .. },
            Event::EndOfStream { .. },
            Event::Closed {
                reason: CloseReason::PeerFinished,
                unsent: 0,
                ..
            }
        ]
    ));
}
