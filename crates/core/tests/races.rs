//! Connects by name on the simulated system: what is tried when, to the nanosecond, and what is told
//! of it. `random_races` has what comes by chance, `pauses` what lacks descriptors or ports.

mod util;

use std::collections::HashMap;
use std::time::Duration;

use echoloop_core::sys::{Meets, Sim, SimOptions};
use echoloop_core::{
    CloseReason, ConnId, ConnectOptions, Deadline, ErrorKind, Event, EventLoop, ResolveError,
    Target,
};
use nix::errno::Errno;
use util::roads::*;

fn story(el: &mut EventLoop<Sim>, conn: ConnId) -> Vec<(String, Option<i32>)> {
    let view = el.conn(conn).unwrap();
    let attempts = view.attempts().iter();
    attempts.map(|a| (a.addr.to_string(), a.errno)).collect()
}

#[test]
fn silent_addresses_are_tried_a_quarter_of_a_second_apart_families_by_turns() {
    let (sim, mut el) = sim_loop(SimOptions::kind(1));
    let silent = Meets::Ignores;
    let roads = [
        ("::1", silent, 0),
        ("::2", silent, 0),
        ("1.1.1.1", silent, 0),
    ];
    plan(&sim, "host", &roads);
    sim.road("2.2.2.2:80".parse().unwrap(), Meets::Accepts, MS * 40);
    sim.name("host", MS * 30, Ok(ips("::1 ::2 1.1.1.1 2.2.2.2")));
    let conn = el.connect("host:80", &ConnectOptions::default()).unwrap();
    el.conn(conn).unwrap().send(b"early").unwrap();
    assert_eq!(el.conn(conn).unwrap().target(), "host:80".parse().unwrap());
    assert_eq!(run(&mut el), [Event::Connected { conn }]);
    let expected = [
        (0., "[::1]:80"),
        (250., "1.1.1.1:80"),
        (500., "[::2]:80"),
        (750., "2.2.2.2:80"),
    ];
    assert_eq!(
        tries(&sim),
        expected.map(|(at, addr)| (at, addr.to_owned()))
    );
    assert_eq!(
        el.now(),
        MS * (30 + 750 + 40),
        "the answer is taken when it comes"
    );
    let view = el.conn(conn).unwrap();
    assert_eq!(view.peer_addr().to_string(), "2.2.2.2:80");
    assert_eq!(view.attempts().len(), 4);
    assert_eq!(sim.open_sockets(), 1, "the losers are closed");
    let peers: Vec<_> = std::iter::from_fn(|| sim.connected_peer()).collect();
    el.poll(Some(Duration::ZERO)).unwrap();
    assert_eq!(peers[0].receive(99), b"early");
    let view = el.conn(conn).unwrap();
    assert_eq!(
        (view.attempts().len(), view.target()),
        (0, "2.2.2.2:80".parse().unwrap())
    );
}

#[test]
fn the_next_address_is_tried_at_once_when_one_fails() {
    let (sim, mut el) = sim_loop(SimOptions::kind(2));
    plan(
        &sim,
        "host",
        &[("::1", Meets::Refuses, 3), ("1.1.1.1", Meets::Accepts, 5)],
    );
    let conn = el.connect("host:80", &ConnectOptions::default()).unwrap();
    assert_eq!(run(&mut el), [Event::Connected { conn }]);
    assert_eq!(tries(&sim)[1], (3., "1.1.1.1:80".to_owned()));
    let told = [
        ("[::1]:80".to_owned(), Some(REFUSED)),
        ("1.1.1.1:80".to_owned(), None),
    ];
    assert_eq!(story(&mut el, conn), told);
}

#[test]
fn an_error_from_the_call_itself_costs_no_delay() {
    let (sim, mut el) = sim_loop(SimOptions::kind(3));
    let no_route = Meets::Fails(Errno::ENETUNREACH as i32);
    plan(
        &sim,
        "host",
        &[
            ("::1", no_route, 0),
            ("::2", no_route, 0),
            ("1.1.1.1", Meets::Accepts, 0),
        ],
    );
    let conn = el.connect("host:80", &ConnectOptions::default()).unwrap();
    assert_eq!(run(&mut el), [Event::Connected { conn }]);
    assert!(
        tries(&sim).iter().all(|(at, _)| *at == 0.),
        "{:?}",
        tries(&sim)
    );
}

#[test]
fn the_delay_between_tries_is_an_option_within_bounds() {
    for (asked, kept) in [(1, 10.), (100, 100.), (60_000, 2000.)] {
        let (sim, mut el) = sim_loop(SimOptions::kind(4));
        plan(
            &sim,
            "host",
            &[("::1", Meets::Ignores, 0), ("1.1.1.1", Meets::Accepts, 0)],
        );
        let options = ConnectOptions {
            attempt_delay: MS * asked,
            ..Default::default()
        };
        el.connect("host:80", &options).unwrap();
        run(&mut el);
        assert_eq!(tries(&sim)[1].0, kept);
    }
}

#[test]
fn a_late_answer_of_an_early_try_still_wins() {
    let (sim, mut el) = sim_loop(SimOptions::kind(5));
    plan(
        &sim,
        "host",
        &[("::1", Meets::Accepts, 300), ("1.1.1.1", Meets::Ignores, 0)],
    );
    let conn = el.connect("host:80", &ConnectOptions::default()).unwrap();
    run(&mut el);
    assert_eq!(el.now(), MS * 300);
    assert_eq!(el.conn(conn).unwrap().peer_addr().to_string(), "[::1]:80");
}

#[test]
fn when_all_fail_there_is_one_closed_with_the_most_telling_error_and_the_list() {
    let (sim, mut el) = sim_loop(SimOptions::kind(6));
    let no_route = Errno::ENETUNREACH as i32;
    plan(
        &sim,
        "host",
        &[
            ("1.1.1.1", Meets::Refuses, 1),
            ("::1", Meets::Fails(no_route), 0),
        ],
    );
    let conn = el.connect("host:80", &ConnectOptions::default()).unwrap();
    let closed = Event::Closed {
        conn,
        reason: CloseReason::ConnectFailed(REFUSED),
        unsent: 0,
    };
    assert_eq!(run(&mut el), [closed]);
    let told = [
        ("1.1.1.1:80".to_owned(), Some(REFUSED)),
        ("[::1]:80".to_owned(), Some(no_route)),
    ];
    assert_eq!(story(&mut el, conn), told);
    assert_eq!(
        el.conn(conn).unwrap().target(),
        "host:80".parse::<Target>().unwrap()
    );
    nothing_is_left(&sim, &mut el);
}

#[test]
fn one_deadline_covers_the_lookup_and_all_tries() {
    let (sim, mut el) = sim_loop(SimOptions::kind(7));
    let all = ips("::1 1.1.1.1 ::2");
    for ip in &all {
        sim.road(at(*ip), Meets::Ignores, Duration::ZERO);
    }
    sim.name("slow", MS * 60, Ok(all));
    sim.name("never", Duration::MAX, Ok(ips("::1")));
    for host in ["slow:80", "never:80"] {
        let start = el.now();
        let conn = el.connect(host, &within(MS * 400)).unwrap();
        let reason = CloseReason::TimedOut(Deadline::Connect);
        assert_eq!(
            run(&mut el),
            [Event::Closed {
                conn,
                reason,
                unsent: 0
            }]
        );
        assert_eq!(el.now() - start, MS * 400);
        nothing_is_left(&sim, &mut el);
    }
    assert_eq!(sim.connects().len(), 2, "the third was not due yet");
}

#[test]
fn a_name_that_cannot_be_resolved_is_the_reason_with_its_code() {
    let (sim, mut el) = sim_loop(SimOptions::kind(8));
    let again = ResolveError::new(libc::EAI_AGAIN, 0);
    sim.name("flaky", MS, Err(again));
    let conn = el.connect("flaky:80", &ConnectOptions::default()).unwrap();
    el.conn(conn).unwrap().send(b"1234").unwrap();
    let reason = CloseReason::ResolveFailed(again);
    assert_eq!(
        run(&mut el),
        [Event::Closed {
            conn,
            reason,
            unsent: 4
        }]
    );
    let text = "name resolution failed: Temporary failure in name resolution (EAI_AGAIN)";
    assert_eq!(reason.to_string(), text);
    nothing_is_left(&sim, &mut el);
}

#[test]
fn a_local_address_leaves_out_the_other_family() {
    let (sim, mut el) = sim_loop(SimOptions::kind(9));
    plan(
        &sim,
        "host",
        &[("::1", Meets::Accepts, 0), ("1.1.1.1", Meets::Refuses, 0)],
    );
    let local = |addr: &str| ConnectOptions {
        local: Some(addr.parse().unwrap()),
        ..Default::default()
    };
    let conn = el.connect("host:80", &local("10.0.0.2:0")).unwrap();
    let reason = CloseReason::ConnectFailed(REFUSED);
    assert_eq!(
        run(&mut el),
        [Event::Closed {
            conn,
            reason,
            unsent: 0
        }]
    );
    assert_eq!(tries(&sim).len(), 1);
    sim.name("six", MS, Ok(ips("::1")));
    el.connect("six:80", &local("10.0.0.2:0")).unwrap();
    let none_fits = CloseReason::ConnectFailed(Errno::EAFNOSUPPORT as i32);
    assert!(matches!(run(&mut el)[..], [Event::Closed { reason, .. }] if reason == none_fits));
}

#[test]
fn closing_while_it_resolves_or_races_leaves_nothing_behind() {
    for (seed, waits) in [0, 1, 5, 260, 600].into_iter().enumerate() {
        for abort in [false, true] {
            let (sim, mut el) = sim_loop(SimOptions::kind(seed as u64));
            sim.name("host", MS * 3, Ok(ips("::1 1.1.1.1 ::2 2.2.2.2")));
            for ip in ips("::1 1.1.1.1 ::2 2.2.2.2") {
                sim.road(at(ip), Meets::Ignores, Duration::ZERO);
            }
            let conn = el.connect("host:80", &ConnectOptions::default()).unwrap();
            let until = el.now() + MS * waits;
            while el.now() < until {
                el.poll(Some(until - el.now())).unwrap();
                assert_eq!(el.next_event(), None);
            }
            let mut view = el.conn(conn).unwrap();
            let reason = if abort {
                view.abort();
                CloseReason::AbortedHere
            } else {
                view.close();
                CloseReason::ClosedHere
            };
            assert_eq!(
                run(&mut el),
                [Event::Closed {
                    conn,
                    reason,
                    unsent: 0
                }]
            );
            nothing_is_left(&sim, &mut el);
            el.poll(Some(Duration::from_secs(3600))).unwrap();
            assert!(el.now() >= Duration::from_secs(3600), "a timer was left");
        }
    }
}

#[test]
fn a_lookup_has_one_answer_in_time_or_not_at_all() {
    let (sim, mut el) = sim_loop(SimOptions::kind(13));
    sim.name("good", MS * 5, Ok(ips("::1 1.1.1.1")));
    sim.name("never", Duration::MAX, Ok(ips("::1")));
    let good = el.resolve("good", None).unwrap();
    let never = el.resolve("never", Some(MS * 70)).unwrap();
    let literal = el.resolve("::1", None).unwrap();
    let unknown = el.resolve("unknown", None).unwrap();
    let cancelled = el.resolve("good", Some(MS)).unwrap();
    el.cancel_lookup(cancelled).unwrap();
    let early = el.resolved(good).unwrap_err().kind();
    assert!(matches!(early, ErrorKind::InvalidInput(_)));
    assert_eq!(el.live_handles(), 4);
    let mut told = HashMap::new();
    while told.len() < 4 {
        el.poll(None).unwrap();
        while let Some(event) = el.next_event() {
            let Event::Resolved { lookup } = event else {
                panic!("{event:?}")
            };
            let answer = (el.now(), el.resolved(lookup).map_err(|e| e.to_string()));
            assert!(told.insert(lookup, answer).is_none());
        }
    }
    let zero = Duration::ZERO;
    assert_eq!(told[&good], (MS * 5, Ok(ips("::1 1.1.1.1"))));
    assert_eq!(told[&literal], (zero, Ok(ips("::1"))));
    let text = "resolve never:0: Connection timed out (ETIMEDOUT)";
    assert_eq!(told[&never], (MS * 70, Err(text.to_owned())));
    let text = "resolve unknown:0: name resolution failed: Name or service not known (EAI_NONAME)";
    assert_eq!(told[&unknown], (zero, Err(text.to_owned())));
    for gone in [good, never, literal, unknown, cancelled] {
        assert_eq!(el.resolved(gone).unwrap_err().kind(), ErrorKind::BadHandle);
        assert_eq!(
            el.cancel_lookup(gone).unwrap_err().kind(),
            ErrorKind::BadHandle
        );
    }
    nothing_is_left(&sim, &mut el);
}
