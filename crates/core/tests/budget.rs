//! The memory budget of a loop: told when it is passed, nobody is accepted above it, and all goes on
//! by itself below. No spinning, no lost connection.

mod util;

use std::time::Duration;

use echoloop_core::sys::{Peer, Sim, SimOptions};
use echoloop_core::{ConnId, ConnOptions, Event, EventLoop, ListenOptions, LoopOptions};
use util::real::{PATIENCE, Real, read_some};
use util::{Random, seeds};

const ADDR: &str = "10.0.0.2:7";

fn with_budget(memory_budget: usize) -> LoopOptions {
    LoopOptions {
        memory_budget,
        ..LoopOptions::default()
    }
}

fn is_budget(event: Event) -> bool {
    matches!(event, Event::OverBudget | Event::UnderBudget)
}

#[test]
fn over_the_budget_nobody_is_accepted_and_below_it_all_are_without_a_new_knock() {
    let el = EventLoop::new(with_budget(1 << 20)).unwrap();
    let mut real = Real::with_loop(
        el,
        ConnOptions {
            send_cap: 64 << 20,
            ..ConnOptions::default()
        },
    );
    let (mut slow, conn) = real.pair();
    let bytes = Random::new(1).bytes(12 << 20); // Far more than the kernel takes (F8).
    real.el.send(conn, &bytes).unwrap();
    assert!(real.el.buffered() > 1 << 20);
    real.el.poll(None).unwrap(); // Does not block: there is something to tell.
    let told: Vec<Event> = std::iter::from_fn(|| real.el.next_event()).collect();
    assert_eq!(told.iter().filter(|e| is_budget(**e)).count(), 1);
    assert!(told.contains(&Event::OverBudget));

    let _waiting: Vec<_> = (0..5).map(|_| real.client()).collect();
    let turns = real.el.counters().turns;
    real.el.poll(Some(Duration::from_millis(100))).unwrap();
    real.el.poll(Some(Duration::from_millis(100))).unwrap();
    let events = real.run_until(|el| el.counters().turns >= turns + 20);
    assert!(events.is_empty(), "{events:?}");
    assert_eq!(
        (real.el.counters().accepted, real.el.counters().over_budget),
        (1, 1)
    );

    let mut got = Vec::new();
    let events = real.run_until(|el| {
        read_some(&mut slow, &mut got);
        el.connection_count() == 6
    });
    assert!(events.contains(&Event::UnderBudget));
    assert!(real.el.buffered() <= (1 << 20) / 8 * 7);
    real.run_until(|_| {
        read_some(&mut slow, &mut got);
        got.len() == bytes.len()
    });
    assert!(got == bytes);
}

#[test]
fn a_loop_over_its_budget_sleeps_while_others_knock() {
    let el = EventLoop::new(with_budget(1 << 20)).unwrap();
    let mut real = Real::with_loop(
        el,
        ConnOptions {
            send_cap: 64 << 20,
            ..ConnOptions::default()
        },
    );
    let (_slow, conn) = real.pair();
    real.el.send(conn, &[1; 12 << 20]).unwrap();
    real.run_until(|el| el.counters().over_budget == 1);
    let _waiting = [real.client(), real.client()];
    real.run_until(|el| el.counters().turns % 4 == 3); // The knocks are reported by now, or soon.
    let turns = real.el.counters().turns;
    let start = std::time::Instant::now();
    while start.elapsed() < Duration::from_millis(500) {
        real.el.poll(Some(Duration::from_millis(100))).unwrap();
        assert_eq!(real.el.next_event(), None);
    }
    assert!(start.elapsed() < PATIENCE);
    let turns = real.el.counters().turns - turns;
    assert!(turns < 20, "{turns} turns in half a second");
}

#[test]
fn what_is_told_of_the_budget_alternates_and_everybody_is_served_in_the_end() {
    let mut over = 0;
    for seed in seeds(60) {
        let mut random = Random::new(seed);
        let sim = Sim::new(SimOptions::unkind(seed));
        let mut el = EventLoop::with_system(sim.clone(), with_budget(30_000)).unwrap();
        let listen = ListenOptions {
            conn: ConnOptions {
                auto_pause: false,
                half_open: true,
                ..ConnOptions::default()
            },
            ..ListenOptions::default()
        };
        el.listen(ADDR, &listen).unwrap();
        let mut peers: Vec<(Peer, usize)> = Vec::new();
        let mut conns: Vec<ConnId> = Vec::new();
        let (mut told_over, mut sent, mut received) = (false, 0, 0);
        let mut turn = |el: &mut EventLoop<Sim>, conns: &mut Vec<ConnId>| {
            el.poll(Some(Duration::ZERO)).unwrap();
            while let Some(event) = el.next_event() {
                match event {
                    Event::OverBudget => {
                        assert!(!told_over, "seed {seed}: told twice");
                        told_over = true;
                    }
                    Event::UnderBudget => {
                        assert!(told_over, "seed {seed}: told twice");
                        assert!(el.buffered() <= 30_000, "seed {seed}");
                        told_over = false;
                    }
                    Event::Accepted { conn, .. } => {
                        assert!(!told_over, "seed {seed}: accepted over the budget");
                        conns.push(conn);
                    }
                    _ => {}
                }
            }
            told_over
        };
        for _ in 0..100 {
            if random.one_in(4) {
                peers.push((sim.connect_to(ADDR), 0));
            }
            turn(&mut el, &mut conns);
            for conn in &conns {
                let n = random.below(6000) as usize;
                if random.one_in(4) && el.send(*conn, &random.bytes(n)).is_ok() {
                    sent += n;
                }
            }
            for (peer, got) in &mut peers {
                *got += peer.receive(random.below(1000) as usize).len();
            }
        }
        // Now all read what they are owed: those in the backlog come in with no new knock.
        for _ in 0..2000 {
            for (peer, got) in &mut peers {
                *got += peer.receive(random.below(3000) as usize).len();
            }
            let still_over = turn(&mut el, &mut conns);
            if !still_over && el.buffered() == 0 && conns.len() == peers.len() {
                break;
            }
        }
        assert_eq!(
            conns.len(),
            peers.len(),
            "seed {seed}: not all are accepted"
        );
        assert_eq!(el.buffered(), 0, "seed {seed}");
        for (peer, got) in &peers {
            received += got + peer.receive(usize::MAX).len();
        }
        assert_eq!(sent, received, "seed {seed}");
        over += el.counters().over_budget;
    }
    assert!(
        over > 100 || std::env::var("ECHOLOOP_SEED").is_ok(),
        "{over}"
    );
}
