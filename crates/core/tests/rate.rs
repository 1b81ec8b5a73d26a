//! The receive rate of a connection: exact in total, asleep in between, and at home with all else
//! that keeps a connection from being read.

mod util;

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use echoloop_core::sys::Sim;
use echoloop_core::{
    CloseReason, ConnOptions, ConnectOptions, Deadline, Event, EventLoop, LoopOptions, Rate,
};
use util::real::{PATIENCE, Real, reason_of, reset, write_some};
use util::sim::{open, simulated, turn};

const SECOND: Duration = Duration::from_secs(1);

fn rate(bytes_per_second: u64, burst: u64) -> ConnOptions {
    let rate = Rate {
        bytes_per_second,
        burst,
    };
    ConnOptions {
        receive_rate: Some(rate),
        ..ConnOptions::default()
    }
}

fn sim_loop(conn: ConnOptions) -> (Sim, EventLoop<Sim>) {
    simulated(64 << 10, LoopOptions::default(), conn)
}

/// Takes what a `Data` brought; 0 for other events.
fn eat(el: &mut EventLoop<Sim>, event: Event) -> usize {
    let Event::Data { conn } = event else {
        return 0;
    };
    let mut view = el.conn(conn).unwrap();
    let n = view.received().len();
    view.consume(n);
    n
}

/// One turn, of which no test here needs many.
fn sleep(el: &mut EventLoop<Sim>, most: Option<Duration>) {
    assert!(el.counters().turns < 20_000, "it turns for nothing");
    el.poll(most).unwrap();
}

/// Lets time pass in one sleep after the other until it is `until`; how many bytes came.
fn sleep_until(el: &mut EventLoop<Sim>, until: Duration) -> usize {
    let mut bytes = 0;
    let mut more = 3; // What is due just then takes a turn or two.
    while more > 0 {
        more -= u32::from(el.now() >= until);
        sleep(el, Some(until.saturating_sub(el.now())));
        while let Some(event) = el.next_event() {
            bytes += eat(el, event);
        }
    }
    bytes
}

#[test]
fn a_sleeping_loop_wakes_exactly_when_a_read_is_worth_it() {
    let (sim, mut el) = sim_loop(rate(10_000, 3000));
    let (peer, conn) = open(&sim, &mut el);
    peer.send(&[1; 4900]);
    let mut came = Vec::new();
    while came.iter().map(|(n, _)| n).sum::<usize>() < 4900 {
        sleep(&mut el, None);
        while let Some(event) = el.next_event() {
            assert_eq!(event, Event::Data { conn });
            came.push((eat(&mut el, event), el.now()));
        }
    }
    // The burst at once, then a twentieth of a second's worth each twentieth of a second.
    let pause = SECOND / 20;
    let start = came[0].1;
    let pieces = [3000, 500, 500, 500, 400].into_iter().zip(0..);
    let expected = pieces.map(|(bytes, n)| (bytes, start + pause * n));
    assert_eq!(came, expected.collect::<Vec<_>>());
    assert_eq!(el.counters().throttled, 4);
    let before = el.counters().turns;
    sleep_until(&mut el, start + 100 * SECOND);
    assert!(el.counters().turns < before + 5, "nothing more to wake for");
}

#[test]
fn nothing_that_the_rate_allows_is_lost_and_no_turn_is_for_nothing() {
    // Neither number divides a second.
    let (sim, mut el) = sim_loop(rate(300_007, 7001));
    let (peer, _) = open(&sim, &mut el);
    let (start, turns) = (el.now(), el.counters().turns);
    let mut bytes = 0;
    while el.now() < start + 10 * SECOND {
        peer.send(&[0; 60_000]);
        sleep(&mut el, None);
        while let Some(event) = el.next_event() {
            bytes += eat(&mut el, event) as u64;
        }
    }
    let passed = (el.now() - start).as_nanos();
    let most = 7001 + (passed * 300_007 / 1_000_000_000) as u64;
    assert!(bytes <= most && bytes >= most - 7001, "{bytes} of {most}");
    // One that finds the tokens, one that reads and finds that it has to wait for more.
    let (turns, waits) = (el.counters().turns - turns, el.counters().throttled);
    assert!(turns <= 2 * waits + 3, "{turns} turns for {waits} waits");
}

#[test]
fn small_messages_within_the_rate_pass_without_a_wait() {
    let (sim, mut el) = sim_loop(rate(1000, 100));
    let (peer, _) = open(&sim, &mut el);
    for _ in 0..100 {
        peer.send(&[1; 10]);
        let events = turn(&mut el);
        let got: usize = events.into_iter().map(|e| eat(&mut el, e)).sum();
        assert_eq!(got, 10);
        sim.advance(SECOND / 100);
    }
    assert_eq!(el.counters().throttled, 0);
}

#[test]
fn an_end_of_stream_comes_after_the_last_byte_at_its_rate() {
    let (sim, mut el) = sim_loop(rate(1000, 100));
    let (peer, conn) = open(&sim, &mut el);
    peer.send(&[1; 1100]);
    peer.finish();
    let (mut bytes, start) = (0, el.now());
    let ended = loop {
        sleep(&mut el, None);
        let mut ended = None;
        while let Some(event) = el.next_event() {
            bytes += eat(&mut el, event);
            if event == (Event::EndOfStream { conn }) {
                ended = Some(el.now() - start);
            }
        }
        if let Some(at) = ended {
            break at;
        }
    };
    assert_eq!(bytes, 1100);
    assert!(ended >= SECOND && ended < SECOND * 12 / 10, "{ended:?}");
}

#[test]
fn a_connection_that_waits_for_its_rate_is_not_idle_and_one_without_bytes_is() {
    let mut options = rate(20, 20);
    options.idle_timeout = Some(SECOND / 100);
    let (sim, mut el) = sim_loop(options);
    let (peer, conn) = open(&sim, &mut el);
    peer.send(&[1; 100]);
    let (mut bytes, mut end) = (0, None);
    while end.is_none() {
        sleep(&mut el, None);
        while let Some(event) = el.next_event() {
            bytes += eat(&mut el, event);
            if let Event::Closed { reason, .. } = event {
                end = Some(reason);
            }
        }
    }
    assert_eq!(bytes, 100);
    assert_eq!(end, Some(CloseReason::TimedOut(Deadline::Idle)));
    assert!(el.conn(conn).is_err());
}

#[test]
fn a_pause_and_a_rate_each_hold_a_connection_until_both_let_go() {
    let (sim, mut el) = sim_loop(rate(1000, 100));
    let (peer, conn) = open(&sim, &mut el);
    peer.send(&[1; 1000]);
    let start = el.now();
    assert_eq!(sleep_until(&mut el, start + SECOND / 10), 200);
    el.conn(conn).unwrap().pause();
    assert_eq!(sleep_until(&mut el, start + SECOND), 0);
    el.conn(conn).unwrap().resume();
    // What was saved meanwhile is the burst and no more.
    assert_eq!(sleep_until(&mut el, start + SECOND + SECOND / 1000), 100);
    el.conn(conn).unwrap().pause();
    el.conn(conn).unwrap().resume();
    assert_eq!(sleep_until(&mut el, start + SECOND + SECOND / 50), 0);
    assert_eq!(sleep_until(&mut el, start + SECOND * 11 / 10), 100);
}

#[test]
fn a_rate_may_be_set_changed_and_removed_while_bytes_wait() {
    let (sim, mut el) = sim_loop(ConnOptions::default());
    let (peer, conn) = open(&sim, &mut el);
    let set = |el: &mut EventLoop<Sim>, to: Option<(u64, u64)>| {
        let rate = to.map(|(bytes_per_second, burst)| Rate {
            bytes_per_second,
            burst,
        });
        el.conn(conn).unwrap().set_receive_rate(rate);
    };
    let start = el.now();
    set(&mut el, Some((1000, 50)));
    peer.send(&[1; 10_000]);
    assert_eq!(sleep_until(&mut el, start + SECOND), 50 + 1000);
    // A larger bucket holds what the small one had, and gains faster.
    set(&mut el, Some((2000, 4000)));
    assert_eq!(sleep_until(&mut el, start + 2 * SECOND), 2000);
    set(&mut el, Some((0, 0))); // Each counts as 1.
    assert_eq!(sleep_until(&mut el, start + 5 * SECOND), 3);
    set(&mut el, None);
    assert_eq!(
        sleep_until(&mut el, start + 5 * SECOND + SECOND / 1000),
        6947
    );
    assert_eq!(el.counters().congested, 0);
}

#[test]
fn a_pipe_keeps_the_rate_of_each_side() {
    let (sim, mut el) = sim_loop(rate(1000, 100));
    let (client, near) = open(&sim, &mut el);
    let free = ConnectOptions::default();
    let far = el.connect("10.0.0.9:9", &free).unwrap();
    el.pipe(near, far).unwrap();
    turn(&mut el);
    let server = sim.connected_peer().unwrap();
    client.send(&[1; 5000]);
    server.send(&[2; 5000]);
    let start = el.now();
    assert_eq!(sleep_until(&mut el, start + SECOND), 0);
    assert_eq!(server.receive(9999).len(), 1100);
    assert_eq!(client.receive(9999).len(), 5000);
    // Its last words have their rate too, and cross all the same.
    client.hang_up();
    assert_eq!(sleep_until(&mut el, start + 3 * SECOND), 0);
    assert_eq!(server.receive(9999).len(), 2000);
    sleep_until(&mut el, start + 7 * SECOND);
    assert_eq!(server.receive(9999).len(), 1900);
    assert!(server.sees_end() && !server.is_reset());
}

#[test]
fn a_close_discards_without_a_rate() {
    let (sim, mut el) = sim_loop(rate(1, 1));
    let (peer, conn) = open(&sim, &mut el);
    peer.send(&[1; 5000]);
    turn(&mut el);
    turn(&mut el);
    assert_eq!(el.counters().throttled, 1);
    el.conn(conn).unwrap().close();
    peer.finish();
    for _ in 0..5 {
        turn(&mut el);
    }
    assert!(el.conn(conn).is_err() && !peer.is_reset());
}

#[test]
fn a_reset_is_told_after_what_came_before_it_at_its_rate() {
    for by_a_write in [false, true] {
        let (sim, mut el) = sim_loop(rate(1000, 100));
        let (peer, conn) = open(&sim, &mut el);
        peer.send(&[1; 600]);
        let first = turn(&mut el);
        let mut bytes: usize = first.into_iter().map(|e| eat(&mut el, e)).sum();
        assert_eq!(bytes, 100);
        peer.hang_up();
        if by_a_write {
            el.send(conn, b"found before it is reported").unwrap();
        }
        let mut end = None;
        while end.is_none() {
            sleep(&mut el, None);
            while let Some(event) = el.next_event() {
                bytes += eat(&mut el, event);
                if let Event::Closed { reason, .. } = event {
                    end = Some(reason);
                }
            }
        }
        assert_eq!((bytes, end), (600, Some(CloseReason::Reset)));
        assert!(el.conn(conn).is_err());
    }
}

#[test]
fn a_nested_loop_is_readable_when_the_tokens_have_come_and_not_before() {
    let (sim, mut el) = sim_loop(rate(1000, 100));
    let (peer, _) = open(&sim, &mut el);
    el.nest();
    peer.send(&[1; 500]);
    let mut got = 0;
    for _ in 0..3 {
        for event in turn(&mut el) {
            got += eat(&mut el, event);
        }
    }
    assert_eq!(got, 100);
    assert!(!sim.readable(), "it waits for tokens");
    sim.advance(SECOND / 20 - Duration::from_nanos(1));
    assert!(!sim.readable());
    sim.advance(Duration::from_nanos(1));
    assert!(sim.readable());
    for _ in 0..3 {
        for event in turn(&mut el) {
            got += eat(&mut el, event);
        }
    }
    assert_eq!(got, 150);
}

#[test]
fn a_real_sender_is_slowed_down_and_loses_nothing() {
    const BYTES: usize = 3 << 20;
    let mut real = Real::new(rate(6 << 20, 64 << 10));
    let (client, _) = real.pair();
    client.set_nonblocking(false).unwrap();
    client.set_write_timeout(Some(PATIENCE)).unwrap();
    let sent: Vec<u8> = (0..BYTES).map(|n| (n / 251) as u8).collect();
    let writer = thread::spawn({
        let (sent, mut client) = (sent.clone(), client.try_clone().unwrap());
        move || client.write_all(&sent).unwrap()
    });
    let (begun, mut got) = (Instant::now(), Vec::new());
    real.until(|el, event| {
        if let Event::Data { conn } = event {
            let mut view = el.conn(conn).unwrap();
            got.extend_from_slice(view.received());
            view.consume(usize::MAX);
        }
        (got.len() == BYTES).then_some(())
    });
    let least = (BYTES - (64 << 10)) as f64 / f64::from(6 << 20);
    assert!(
        begun.elapsed().as_secs_f64() >= least,
        "{:?}",
        begun.elapsed()
    );
    assert!(got == sent);
    writer.join().unwrap();
    let counters = real.el.counters();
    assert!(counters.throttled > 5);
    assert!(
        counters.turns < 4 * counters.throttled + counters.reads + 20,
        "{counters:?}"
    );
}

#[test]
fn a_rate_travels_with_a_connection_as_far_as_it_is_used_up() {
    let mut real = Real::new(rate(1000, 500));
    let mut other = Real::new(ConnOptions::default());
    let (mut client, conn) = real.pair();
    let begun = Instant::now();
    write_some(&mut client, &[1; 800]);
    let mut got = 0;
    let mut count = |el: &mut EventLoop, event| {
        if let Event::Data { conn } = event {
            let mut view = el.conn(conn).unwrap();
            got += view.received().len();
            view.consume(usize::MAX);
        }
        got
    };
    real.until(|el, e| (count(el, e) >= 500).then_some(()));
    real.el.hand_over(conn, &other.el.remote()).unwrap();
    other.until(|el, e| (count(el, e) == 800).then_some(()));
    assert!(begun.elapsed() >= Duration::from_millis(300));
    reset(client);
    let closed = other.until(|_, e| matches!(e, Event::Closed { .. }).then_some(e));
    assert_eq!(reason_of(closed), CloseReason::Reset);
}
