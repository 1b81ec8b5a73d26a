//! What once broke in deadlines, rates and pipes where they meet.
//!
//! Each test says what it found. Most on the simulated system.

mod util;

use std::time::Duration;

use echoloop_core::sys::Sim;
use echoloop_core::{
    CloseReason, ConnOptions, ConnectOptions, Deadline, Event, EventLoop, LoopOptions, Rate,
};
use util::real::{PATIENCE, Real, write_some};
use util::sim::{open, simulated, turn};

const SECOND: Duration = Duration::from_secs(1);

fn sim_loop(conn: ConnOptions) -> (Sim, EventLoop<Sim>) {
    simulated(64 << 10, LoopOptions::default(), conn)
}

/// The lifetime of a connection whose close has no end was over again and again: 256 times a turn,
/// and no turn slept.
#[test]
fn a_lifetime_ends_a_close_without_an_end_only_once() {
    let options = ConnOptions {
        lifetime: Some(SECOND),
        close_timeout: Duration::MAX,
        ..ConnOptions::default()
    };
    let (sim, mut el) = simulated(1000, LoopOptions::default(), options);
    let (peer, conn) = open(&sim, &mut el);
    el.send(conn, &[7; 5000]).unwrap();
    turn(&mut el);
    sim.advance(SECOND);
    for _ in 0..10 {
        assert_eq!(turn(&mut el), []);
    }
    el.nest();
    assert!(!sim.readable(), "there is nothing to wake for");
    while peer.arrived() > 0 {
        peer.receive(9999);
        turn(&mut el);
    }
    peer.finish();
    let ended = turn(&mut el);
    let reason = CloseReason::TimedOut(Deadline::Lifetime);
    assert!(
        matches!(ended[..], [Event::Closed { reason: r, unsent: 0, .. }] if r == reason),
        "{ended:?}"
    );
}

/// The loop around was woken for tokens that nobody waited for any more.
#[test]
fn a_rate_that_is_removed_wakes_nobody() {
    let options = ConnOptions {
        receive_rate: Some(Rate {
            bytes_per_second: 1000,
            burst: 100,
        }),
        ..ConnOptions::default()
    };
    let (sim, mut el) = sim_loop(options);
    let (peer, conn) = open(&sim, &mut el);
    el.nest();
    peer.send(&[1; 500]);
    for _ in 0..3 {
        for event in turn(&mut el) {
            if let Event::Data { conn } = event {
                el.conn(conn).unwrap().consume(usize::MAX);
            }
        }
    }
    let mut view = el.conn(conn).unwrap();
    view.pause();
    view.set_receive_rate(None);
    sim.advance(SECOND);
    assert!(!sim.readable(), "it is paused and has no rate");
}

/// A side that was held back by the budget, for the sake of the other, was closed as idle while its
/// bytes waited.
#[test]
fn a_piped_side_that_the_budget_holds_back_is_no_idler_than_the_other() {
    let budget = LoopOptions {
        memory_budget: 20_000,
        ..LoopOptions::default()
    };
    let idle = ConnOptions {
        idle_timeout: Some(SECOND),
        ..ConnOptions::default()
    };
    let (sim, mut el) = simulated(10_000, budget, idle);
    let (client, near) = open(&sim, &mut el);
    let (_other, hog) = open(&sim, &mut el);
    el.conn(hog).unwrap().set_idle_timeout(None);
    let free = ConnectOptions::default();
    let far = el.connect("10.0.0.9:9", &free).unwrap();
    turn(&mut el);
    let server = sim.connected_peer().unwrap();
    el.pipe(near, far).unwrap();
    el.send(hog, &[0; 29_000]).unwrap(); // Never read: from now on all is near the budget.
    for _ in 0..4 {
        client.send(&[1; 10_000]);
        turn(&mut el);
    }
    assert!(el.counters().budget_pauses > 0);
    assert!(client.unread() > 0);
    for _ in 0..8 {
        sim.advance(SECOND / 2);
        assert!(!server.receive(100).is_empty());
        for event in turn(&mut el) {
            assert!(!matches!(event, Event::Closed { .. }), "{event:?}");
        }
        assert!(client.unread() > 0, "it is held back all the time");
    }
}

/// An end of stream that was read for nobody did not count as a first byte, and last words on their
/// way to who had sent it were lost.
#[test]
fn an_end_of_stream_beside_last_words_is_heard() {
    let first = ConnOptions {
        first_byte_timeout: Some(SECOND),
        ..ConnOptions::default()
    };
    let slow = ConnectOptions {
        conn: ConnOptions {
            receive_rate: Some(Rate {
                bytes_per_second: 1000,
                burst: 100,
            }),
            ..ConnOptions::default()
        },
        ..ConnectOptions::default()
    };
    let (sim, mut el) = sim_loop(first);
    let (client, near) = open(&sim, &mut el);
    let far = el.connect("10.0.0.9:9", &slow).unwrap();
    turn(&mut el);
    let server = sim.connected_peer().unwrap();
    server.send(&[2; 5000]);
    server.hang_up();
    el.send(far, b"found by a write").unwrap();
    el.pipe(near, far).unwrap();
    client.finish();
    let mut got = 0;
    for _ in 0..1000 {
        el.poll(Some(SECOND / 50)).unwrap();
        while el.next_event().is_some() {}
        got += client.receive(9999).len();
    }
    assert_eq!(got, 5000);
}

/// A loop that was late took the reports of some, and closed the others as idle although their bytes
/// had come in time.
#[test]
fn nobody_is_idle_whose_bytes_a_full_wait_has_left_behind() {
    let options = LoopOptions {
        events_per_turn: 1,
        ..LoopOptions::default()
    };
    let mut real = Real::with_loop(EventLoop::new(options).unwrap(), ConnOptions::default());
    let mut pairs: Vec<_> = (0..5).map(|_| real.pair()).collect();
    while real.el.poll(Some(Duration::ZERO)).is_ok() && real.el.next_event().is_some() {}
    let settled = real.el.now() + Duration::from_millis(5);
    real.run_until(|el| el.now() >= settled);
    for (client, _) in &mut pairs {
        assert_eq!(write_some(client, b"x"), 1);
    }
    for (_, conn) in &pairs {
        let mut view = real.el.conn(*conn).unwrap();
        view.set_idle_timeout(Some(Duration::from_millis(1)));
    }
    let mut heard = Vec::new();
    while real.el.connection_count() > 0 {
        real.el.poll(Some(PATIENCE)).unwrap();
        while let Some(event) = real.el.next_event() {
            match event {
                Event::Data { conn } => heard.push(conn),
                Event::Closed { conn, .. } => assert!(heard.contains(&conn), "it was never read"),
                _ => {}
            }
        }
    }
    assert_eq!(heard.len(), 5);
}
