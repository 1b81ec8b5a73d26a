//! Connects by name on the simulated system: what is tried when, to the nanosecond, and that every
//! race has one end and leaves nothing behind.

mod util;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use echoloop_core::sys::{Meets, Sim, SimOptions};
use echoloop_core::{
    Addr, CloseReason, ConnId, ConnectOptions, Deadline, ErrorKind, Event, EventLoop,
    ListenOptions, LoopOptions, ResolveError, Target,
};
use nix::errno::Errno;
use util::{Random, seeds};

const MS: Duration = Duration::from_millis(1);
const REFUSED: i32 = Errno::ECONNREFUSED as i32;
const EMFILE: i32 = Errno::EMFILE as i32;
const NO_PORT: i32 = Errno::EADDRNOTAVAIL as i32;

fn sim_loop(options: SimOptions) -> (Sim, EventLoop<Sim>) {
    let sim = Sim::new(options);
    let el = EventLoop::with_system(sim.clone(), LoopOptions::default()).unwrap();
    (sim, el)
}

fn ips(text: &str) -> Vec<IpAddr> {
    text.split(' ').map(|ip| ip.parse().unwrap()).collect()
}

fn at(ip: IpAddr) -> SocketAddr {
    SocketAddr::new(ip, 80)
}

fn within(timeout: Duration) -> ConnectOptions {
    ConnectOptions {
        timeout: Some(timeout),
        ..Default::default()
    }
}

/// Plans `host` to have these addresses, each with what it meets after so many milliseconds.
fn plan(sim: &Sim, host: &str, roads: &[(&str, Meets, u32)]) {
    let addrs = roads.iter().map(|(ip, ..)| ip.parse().unwrap()).collect();
    sim.name(host, Duration::ZERO, Ok(addrs));
    for (ip, meets, after) in roads {
        sim.road(at(ip.parse().unwrap()), *meets, MS * *after);
    }
}

/// Runs the loop until a connection is made or has ended, and returns all events.
fn run(el: &mut EventLoop<Sim>) -> Vec<Event> {
    let mut events = Vec::new();
    for _ in 0..100_000 {
        el.poll(None).unwrap();
        while let Some(event) = el.next_event() {
            events.push(event);
            if matches!(event, Event::Connected { .. } | Event::Closed { .. }) {
                return events;
            }
        }
    }
    panic!("the connect has no answer: {events:?}");
}

/// When, in milliseconds, which address was tried.
fn tries(sim: &Sim) -> Vec<(f64, String)> {
    let of = |(at, addr): &(Duration, Addr)| (at.as_nanos() as f64 / 1e6, addr.to_string());
    let connects = sim.connects();
    let start = connects.first().map_or(Duration::ZERO, |c| c.0);
    connects
        .iter()
        .map(|(at, addr)| of(&(*at - start, addr.clone())))
        .collect()
}

fn story(el: &mut EventLoop<Sim>, conn: ConnId) -> Vec<(String, Option<i32>)> {
    let view = el.conn(conn).unwrap();
    let attempts = view.attempts().iter();
    attempts.map(|a| (a.addr.to_string(), a.errno)).collect()
}

fn nothing_is_left(sim: &Sim, el: &mut EventLoop<Sim>) {
    assert_eq!(el.next_event(), None);
    assert_eq!((sim.open_sockets(), sim.lookups()), (0, 0));
    assert_eq!((el.live_handles(), el.connection_count()), (0, 0));
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
    assert!(turns < 100, "it spins: {turns} turns");
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

/// A race by chance, as the planner of the test sees it.
struct Plan {
    meets: Vec<(SocketAddr, Meets, Duration)>,
    ends_by: Duration,
}

#[test]
fn every_race_has_one_end_in_time_and_leaves_nothing() {
    for seed in seeds(30_000) {
        let mut random = Random::new(seed);
        let mut options = SimOptions::kind(seed);
        options.interrupt = random.below(2) * 7;
        let (sim, mut el) = sim_loop(options);
        if random.below(3) == 0 {
            sim.limit_sockets(Some(1 + random.below(4) as usize));
        }
        let mut open: HashMap<ConnId, Plan> = HashMap::new();
        for n in 0..1 + random.below(5) {
            let (conn, plan) = start(&sim, &mut el, &mut random, n);
            open.insert(conn, plan);
        }
        let mut made = Vec::new();
        for _ in 0..10_000 {
            if open.is_empty() && made.is_empty() {
                break;
            }
            el.poll(None).unwrap();
            while let Some(event) = el.next_event() {
                match event {
                    Event::ConnectPaused { conn, .. } => assert!(open.contains_key(&conn)),
                    Event::Connected { conn } => {
                        let plan = open.remove(&conn).expect("one answer");
                        check(&mut el, conn, &plan, true, seed);
                        made.push(conn);
                    }
                    Event::Closed { conn, .. } => {
                        if let Some(plan) = open.remove(&conn) {
                            check(&mut el, conn, &plan, false, seed);
                        } else {
                            made.retain(|id| *id != conn);
                        }
                    }
                    _ => {}
                }
                // Descriptors come free by and by, and some lose patience.
                if random.below(4) == 0 {
                    let all = made.iter().chain(open.keys()).copied();
                    if let Some(id) = all.min_by_key(|_| random.below(100)) {
                        el.conn(id).unwrap().abort();
                    }
                }
            }
            if let Some(conn) = made.first() {
                el.conn(*conn).unwrap().abort();
            }
        }
        assert!(open.is_empty() && made.is_empty(), "seed {seed}: no answer");
        nothing_is_left(&sim, &mut el);
    }
}

fn start(sim: &Sim, el: &mut EventLoop<Sim>, random: &mut Random, n: u64) -> (ConnId, Plan) {
    let mut meets = Vec::new();
    for place in 0..random.below(6) as u8 {
        let v4 = SocketAddr::from(([10, 0, n as u8, place], 80));
        let v6 = SocketAddr::new(format!("fd00::{n}:{place}").parse().unwrap(), 80);
        let addr = if random.below(2) == 0 { v4 } else { v6 };
        let what = match random.below(6) {
            0 => Meets::Accepts,
            1 | 2 => Meets::Refuses,
            3 => Meets::Fails(Errno::ENETUNREACH as i32),
            4 => Meets::Fails(NO_PORT),
            _ => Meets::Ignores,
        };
        let after = MS * random.below(700) as u32;
        sim.road(addr, what, after);
        meets.push((addr, what, after));
    }
    let host = format!("host{n}");
    let addrs = meets.iter().map(|(addr, ..)| addr.ip()).collect::<Vec<_>>();
    let answer = if addrs.is_empty() {
        Err(ResolveError::new(libc::EAI_NODATA, 0))
    } else {
        Ok(addrs)
    };
    sim.name(&host, MS * random.below(300) as u32, answer);
    let timeout = MS * (1 + random.below(2000) as u32);
    let ends_by = el.now() + timeout;
    let conn = el.connect((&*host, 80), &within(timeout)).unwrap();
    el.conn(conn).unwrap().send(b"hello").unwrap();
    (conn, Plan { meets, ends_by })
}

/// What a handler of the end of a race sees agrees with what was planned.
fn check(el: &mut EventLoop<Sim>, conn: ConnId, plan: &Plan, made: bool, seed: u64) {
    assert!(el.now() <= plan.ends_by, "seed {seed}: too late");
    let view = el.conn(conn).unwrap();
    let story = view.attempts();
    for attempted in story {
        let found = plan
            .meets
            .iter()
            .find(|(addr, ..)| attempted.addr == (*addr).into());
        let (_, meets, _) = found.expect("an address of this name");
        let told = match meets {
            Meets::Refuses => attempted.errno.is_none_or(|e| e == REFUSED),
            Meets::Fails(e) => attempted.errno == Some(*e),
            Meets::Accepts | Meets::Ignores => attempted.errno.is_none(),
        };
        assert!(told, "seed {seed}: {attempted:?} met {meets:?}");
    }
    let once: std::collections::HashSet<_> = story.iter().map(|a| &a.addr).collect();
    assert_eq!(once.len(), story.len(), "seed {seed}: tried twice");
    if made {
        let won = story.iter().find(|a| a.addr == *view.peer_addr());
        assert!(won.is_some_and(|a| a.errno.is_none()), "seed {seed}");
    }
}
