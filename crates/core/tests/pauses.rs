//! Connects that lack a descriptor or a port, on the simulated system: they wait their turn, go on
//! at once when they can, and hold up nobody.

mod util;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use echoloop_core::sys::{Meets, SimOptions};
use echoloop_core::{CloseReason, ConnId, ConnectOptions, Event, ListenOptions};
use util::roads::*;

#[test]
fn without_a_descriptor_a_connect_pauses_and_goes_on_when_one_is_closed() {
    let (sim, mut el) = sim_loop(SimOptions::kind(10));
    let first = el
        .connect("1.1.1.1:80", &ConnectOptions::default())
        .unwrap();
    assert_eq!(run(&mut el), [Event::Connected { conn: first }]);
    sim.limit_sockets(Some(1));
    let second = el
        .connect("2.2.2.2:80", &ConnectOptions::default())
        .unwrap();
    let third = el
        .connect("3.3.3.3:80", &ConnectOptions::default())
        .unwrap();
    el.conn(second).unwrap().send(b"kept").unwrap();
    let paused = |conn| Event::ConnectPaused {
        conn,
        errno: EMFILE,
    };
    assert_eq!(el.next_event(), Some(paused(second)));
    assert_eq!(el.next_event(), Some(paused(third)));
    assert_eq!(el.next_event(), None);
    assert_eq!(el.counters().connect_pauses, 2);
    let before = el.now();
    el.conn(first).unwrap().abort();
    let events = [run(&mut el), run(&mut el)].concat();
    let closed = Event::Closed {
        conn: first,
        reason: CloseReason::AbortedHere,
        unsent: 0,
    };
    assert_eq!(events, [closed, Event::Connected { conn: second }]);
    assert_eq!(el.now(), before, "nobody waited for a timer");
    el.poll(Some(Duration::ZERO)).unwrap();
    let peers: Vec<_> = std::iter::from_fn(|| sim.connected_peer()).collect();
    assert_eq!(peers[1].receive(99), b"kept");
    sim.limit_sockets(None); // Freed by somebody else: the timer finds out.
    assert_eq!(run(&mut el), [Event::Connected { conn: third }]);
    assert!(el.now() - before <= MS * 100);
}

#[test]
fn a_pause_that_outlasts_the_deadline_is_told_as_the_error() {
    let (sim, mut el) = sim_loop(SimOptions::kind(11));
    sim.limit_sockets(Some(0));
    sim.name("host", MS, Ok(ips("::1 1.1.1.1")));
    for to in ["1.1.1.1:80", "host:80"] {
        let start = el.now();
        let conn = el.connect(to, &within(MS * 350)).unwrap();
        let reason = CloseReason::ConnectFailed(EMFILE);
        let told = [
            Event::ConnectPaused {
                conn,
                errno: EMFILE,
            },
            Event::Closed {
                conn,
                reason,
                unsent: 0,
            },
        ];
        assert_eq!(run(&mut el), told);
        assert_eq!(el.now() - start, MS * 350);
        nothing_is_left(&sim, &mut el);
    }
}

#[test]
fn one_destination_without_ports_holds_up_no_other() {
    let (sim, mut el) = sim_loop(SimOptions::kind(12));
    let busy: SocketAddr = "1.1.1.1:80".parse().unwrap();
    sim.road(busy, Meets::Fails(NO_PORT), Duration::ZERO);
    let stuck: Vec<ConnId> = (0..600)
        .map(|_| el.connect(busy, &within(MS * 950)).unwrap())
        .collect();
    sim.fail_connect(EMFILE);
    let other = el
        .connect("2.2.2.2:80", &ConnectOptions::default())
        .unwrap();
    let mut told = HashMap::new();
    let mut turns = 0;
    while told.len() < 601 {
        el.poll(None).unwrap();
        turns += 1;
        while let Some(event) = el.next_event() {
            match event {
                Event::ConnectPaused { .. } => {}
                Event::Connected { conn } => {
                    assert!(el.now() <= MS * 200, "{:?}", el.now());
                    assert!(conn == other && told.insert(conn, true).is_none());
                }
                Event::Closed { conn, reason, .. } => {
                    assert_eq!(reason, CloseReason::ConnectFailed(NO_PORT));
                    assert!(stuck.contains(&conn) && told.insert(conn, false).is_none());
                }
                other => panic!("{other:?}"),
            }
        }
    }
    // Of those whose time is over, 8 are ended in a turn.
    assert!(turns < 100 + 600 / 8, "it spins: {turns} turns");
    assert_eq!(el.counters().connect_pauses, 601);
}

#[test]
fn an_address_without_ports_holds_up_no_other_address_of_its_name() {
    let (sim, mut el) = sim_loop(SimOptions::kind(14));
    let no_port = Meets::Fails(NO_PORT);
    plan(
        &sim,
        "host",
        &[("::1", no_port, 0), ("1.1.1.1", Meets::Accepts, 7)],
    );
    let conn = el.connect("host:80", &ConnectOptions::default()).unwrap();
    assert_eq!(run(&mut el), [Event::Connected { conn }]);
    assert_eq!(el.now(), MS * 7);
}

#[test]
fn a_pipe_into_a_connect_by_name_that_has_to_wait_carries_all_bytes() {
    let (sim, mut el) = sim_loop(SimOptions::kind(15));
    let here = "10.0.0.2:7";
    el.listen(here, &ListenOptions::default()).unwrap();
    let client = sim.connect_to(here);
    el.poll(None).unwrap();
    let Some(Event::Accepted { conn: near, .. }) = el.next_event() else {
        panic!("nobody came")
    };
    plan(
        &sim,
        "host",
        &[("::1", Meets::Refuses, 3), ("1.1.1.1", Meets::Accepts, 5)],
    );
    sim.limit_sockets(Some(2));
    let far = el.connect("host:80", &ConnectOptions::default()).unwrap();
    el.pipe(near, far).unwrap();
    client.send(b"through the pipe");
    let mut events = Vec::new();
    let mut arrived = Vec::new();
    let mut server = None;
    for turn in 0..1000 {
        el.poll(None).unwrap();
        events.extend(std::iter::from_fn(|| el.next_event()));
        if turn == 10 {
            sim.limit_sockets(None);
        }
        while let Some(peer) = sim.connected_peer() {
            server = Some(peer);
        }
        arrived.extend(server.iter().flat_map(|peer| peer.receive(99)));
    }
    assert_eq!(arrived, b"through the pipe");
    let closed = |e: &&Event| matches!(e, Event::Closed { .. });
    assert_eq!(events.iter().find(closed), None);
    assert_eq!(
        el.conn(far).unwrap().attempts().len(),
        0,
        "the race is forgotten"
    );
}
