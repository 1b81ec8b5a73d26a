//! Deadlines of a connection's life: its first byte, and its end. To the nanosecond on the
//! simulated system, and on real sockets.

mod util;

use std::io::{ErrorKind as IoKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use echoloop_core::sys::{Peer, Sim};
use echoloop_core::{
    CloseReason, ConnId, ConnOptions, ConnectOptions, Deadline, Event, EventLoop, LoopOptions,
};
use util::real::{Real, reason_of};
use util::sim::{ADDR, simulated};

const SECOND: Duration = Duration::from_secs(1);
const FIRST: CloseReason = CloseReason::TimedOut(Deadline::FirstByte);

fn first_byte(timeout: Duration) -> ConnOptions {
    ConnOptions {
        first_byte_timeout: Some(timeout),
        ..ConnOptions::default()
    }
}

fn sim_loop(conn: ConnOptions) -> (Sim, EventLoop<Sim>) {
    simulated(64 << 10, LoopOptions::default(), conn)
}

/// Polls until the first event that `look` likes, and tells when that was.
fn when<T>(
    el: &mut EventLoop<Sim>,
    mut look: impl FnMut(&mut EventLoop<Sim>, Event) -> Option<T>,
) -> (T, Duration) {
    for _ in 0..10_000 {
        el.poll(None).unwrap();
        while let Some(event) = el.next_event() {
            if let Some(found) = look(el, event) {
                return (found, el.now());
            }
        }
    }
    panic!("waited in vain");
}

fn accepted(sim: &Sim, el: &mut EventLoop<Sim>) -> (Peer, ConnId, Duration) {
    let peer = sim.connect_to(ADDR);
    let (conn, at) = when(el, |_, event| match event {
        Event::Accepted { conn, .. } => Some(conn),
        _ => None,
    });
    (peer, conn, at)
}

/// When a connection is told to have ended, and why; all that comes is consumed.
fn ends(el: &mut EventLoop<Sim>, id: ConnId) -> (CloseReason, Duration) {
    when(el, |el, event| match event {
        Event::Data { conn } => {
            el.conn(conn).unwrap().consume(usize::MAX);
            None
        }
        Event::Closed { conn, reason, .. } => (conn == id).then_some(reason),
        _ => None,
    })
}

#[test]
fn a_peer_that_sends_nothing_is_gone_when_its_first_byte_is_due_whatever_it_gets() {
    let (sim, mut el) = sim_loop(first_byte(SECOND));
    let (peer, conn, opened) = accepted(&sim, &mut el);
    for _ in 0..3 {
        sim.advance(SECOND / 4);
        el.send(conn, b"220 ready").unwrap();
        el.poll(Some(Duration::ZERO)).unwrap();
        assert_eq!(el.next_event(), None);
    }
    assert_eq!(ends(&mut el, conn), (FIRST, opened + SECOND));
    assert_eq!(peer.receive(99).len(), 27);
}

#[test]
fn one_byte_is_enough_and_from_then_on_only_idleness_counts() {
    let mut options = first_byte(SECOND);
    options.idle_timeout = Some(5 * SECOND);
    let (sim, mut el) = sim_loop(options);
    let (peer, conn, _) = accepted(&sim, &mut el);
    sim.advance(SECOND * 9 / 10);
    peer.send(b"h");
    let (_, heard) = when(&mut el, |el, event| match event {
        Event::Data { conn } => {
            el.conn(conn).unwrap().consume(1);
            Some(())
        }
        _ => None,
    });
    let idle = CloseReason::TimedOut(Deadline::Idle);
    assert_eq!(ends(&mut el, conn), (idle, heard + 5 * SECOND));
}

#[test]
fn of_idle_and_first_byte_the_earlier_counts() {
    for idle in [SECOND / 2, 2 * SECOND] {
        let mut options = first_byte(SECOND);
        options.idle_timeout = Some(idle);
        let (sim, mut el) = sim_loop(options);
        let (_peer, conn, opened) = accepted(&sim, &mut el);
        let expected = match idle < SECOND {
            true => CloseReason::TimedOut(Deadline::Idle),
            false => FIRST,
        };
        assert_eq!(ends(&mut el, conn), (expected, opened + idle.min(SECOND)));
    }
}

#[test]
fn the_wait_for_a_first_byte_begins_when_a_connect_is_made() {
    let (sim, mut el) = sim_loop(ConnOptions::default());
    let options = ConnectOptions {
        conn: first_byte(SECOND),
        ..ConnectOptions::default()
    };
    let conn = el.connect("10.0.0.9:9", &options).unwrap();
    sim.advance(10 * SECOND); // It is answered by then, and not looked at yet.
    let made = when(&mut el, |_, e| {
        (e == Event::Connected { conn }).then_some(())
    })
    .1;
    assert!(made >= 10 * SECOND);
    assert_eq!(ends(&mut el, conn), (FIRST, made + SECOND));
}

#[test]
fn an_end_of_stream_and_bytes_that_nobody_reads_yet_count_as_a_first_byte() {
    let mut options = first_byte(SECOND);
    options.half_open = true;
    let (sim, mut el) = sim_loop(options);
    let (peer, _, _) = accepted(&sim, &mut el);
    peer.finish();
    let (paused_peer, paused, _) = accepted(&sim, &mut el);
    el.conn(paused).unwrap().pause();
    paused_peer.send(b"early");
    for _ in 0..20 {
        sim.advance(SECOND);
        el.poll(Some(Duration::ZERO)).unwrap();
        while let Some(event) = el.next_event() {
            assert!(matches!(event, Event::EndOfStream { .. }), "{event:?}");
        }
    }
    assert_eq!(el.connection_count(), 2);
}

#[test]
fn a_piped_connection_has_its_first_byte_too() {
    for speaks in [false, true] {
        let (sim, mut el) = sim_loop(first_byte(SECOND));
        let (peer, near, opened) = accepted(&sim, &mut el);
        let far = el
            .connect("10.0.0.9:9", &ConnectOptions::default())
            .unwrap();
        el.pipe(near, far).unwrap();
        if speaks {
            peer.send(b"hello");
        }
        let timer = echoloop_core::TimerSpec::after(3 * SECOND);
        let timer = el.add_timer(timer).unwrap();
        let (reason, at) = when(&mut el, |_, event| match event {
            Event::Closed { conn, reason, .. } => (conn == near).then_some(Some(reason)),
            Event::Timer { timer: t } => (t == timer).then_some(None),
            _ => None,
        });
        assert_eq!(reason, (!speaks).then_some(FIRST));
        assert!(speaks || at == opened + SECOND);
    }
}

#[test]
fn the_age_and_the_first_byte_of_a_connection_travel_with_it() {
    let mut options = first_byte(Duration::from_millis(150));
    options.half_open = true;
    let mut real = Real::new(options.clone());
    let mut other = Real::new(ConnOptions::default());
    let (_silent, one) = real.pair();
    let begun = Instant::now();
    let (mut speaks, two) = real.pair();
    speaks.write_all(b"x").unwrap();
    real.until(|el, e| match e {
        Event::Data { conn } => {
            el.conn(conn).unwrap().consume(1);
            Some(())
        }
        _ => None,
    });
    for conn in [one, two] {
        real.el.hand_over(conn, &other.el.remote()).unwrap();
    }
    real.run_until(|el| el.connection_count() == 0);
    let closed = other.until(|_, e| matches!(e, Event::Closed { .. }).then_some(e));
    assert_eq!(reason_of(closed), FIRST);
    assert!(begun.elapsed() < Duration::from_secs(5));
    let begun = Instant::now();
    other.run_until(|_| begun.elapsed() > Duration::from_millis(200));
    assert_eq!(other.el.connection_count(), 1);
}

#[test]
fn a_silent_client_on_a_real_socket_is_closed() {
    let mut real = Real::new(first_byte(Duration::from_millis(80)));
    let begun = Instant::now();
    let (mut client, conn) = real.pair();
    let closed = real.until_closed(conn);
    assert_eq!(reason_of(closed), FIRST);
    assert!(begun.elapsed() >= Duration::from_millis(80));
    assert_eq!(client.read(&mut [0; 9]).unwrap(), 0);
}

/// A client of a real loop that trickles until it sees an end; what it got.
fn trickle(real: &mut Real, client: &mut TcpStream) -> Vec<u8> {
    let (mut got, mut buf) = (Vec::new(), [0; 4096]);
    real.run_until(|_| {
        let _ = client.write(b"x");
        match client.read(&mut buf) {
            Ok(0) => return true,
            Ok(n) => got.extend_from_slice(&buf[..n]),
            Err(e) => assert_eq!(e.kind(), IoKind::WouldBlock),
        }
        false
    });
    got
}

const OVER: CloseReason = CloseReason::TimedOut(Deadline::Lifetime);

fn lifetime(lifetime: Duration) -> ConnOptions {
    ConnOptions {
        lifetime: Some(lifetime),
        ..ConnOptions::default()
    }
}

#[test]
fn a_busy_connection_is_closed_in_order_when_its_lifetime_is_over() {
    let mut options = lifetime(10 * SECOND);
    options.idle_timeout = Some(3 * SECOND);
    let (sim, mut el) = sim_loop(options);
    let (peer, conn, opened) = accepted(&sim, &mut el);
    // Slow and steady: no idle timeout finds it.
    for _ in 0..9 {
        sim.advance(SECOND);
        peer.send(b"x");
        el.poll(Some(Duration::ZERO)).unwrap();
        while let Some(event) = el.next_event() {
            assert_eq!(event, Event::Data { conn });
            el.conn(conn).unwrap().send_received(9).unwrap();
        }
    }
    el.send(conn, b"and this").unwrap();
    let linger = ConnOptions::default().linger; // The peer never finishes.
    assert_eq!(ends(&mut el, conn), (OVER, opened + 10 * SECOND + linger));
    assert_eq!(peer.receive(99), b"xxxxxxxxxand this");
    assert!(peer.sees_end() && !peer.is_reset());
}

#[test]
fn a_lifetime_ends_to_the_nanosecond_and_waits_for_its_peer_to_finish() {
    let (sim, mut el) = sim_loop(lifetime(SECOND));
    let (peer, conn, opened) = accepted(&sim, &mut el);
    while !peer.sees_end() {
        assert!(el.counters().turns < 1000, "it never ends");
        el.poll(None).unwrap();
        assert_eq!(el.next_event(), None);
    }
    assert_eq!(el.now(), opened + SECOND);
    assert!(!el.conn(conn).unwrap().may_send());
    peer.finish();
    assert_eq!(ends(&mut el, conn), (OVER, opened + SECOND));
}

#[test]
fn what_a_lifetime_leaves_unsent_has_the_close_timeout_and_no_more() {
    for finished in [false, true] {
        let mut options = lifetime(SECOND);
        options.close_timeout = 2 * SECOND;
        options.auto_pause = false;
        let (sim, mut el) = simulated(1000, LoopOptions::default(), options);
        let (peer, conn, opened) = accepted(&sim, &mut el);
        el.send(conn, &[7; 500_000]).unwrap();
        if finished {
            peer.finish(); // It is owed its bytes, however slowly it reads; but not for ever.
        }
        let mut ended = None;
        for _ in 0..400 {
            sim.advance(SECOND / 100);
            peer.receive(10);
            el.poll(Some(Duration::ZERO)).unwrap();
            while let Some(event) = el.next_event() {
                if let Event::Closed { reason, unsent, .. } = event {
                    ended = Some((reason, unsent > 0, el.now()));
                }
            }
        }
        let (reason, unsent, at) = ended.expect("it has ended");
        assert_eq!(
            (reason, unsent),
            (CloseReason::TimedOut(Deadline::Close), true)
        );
        let late = at.saturating_sub(opened + 3 * SECOND);
        assert!(at >= opened + 3 * SECOND && late < SECOND / 20, "{at:?}");
    }
}

#[test]
fn a_lifetime_may_be_set_and_taken_back_while_it_runs() {
    let (sim, mut el) = sim_loop(lifetime(SECOND));
    let [(_one, keeps, _), (_two, over, opened)] =
        [accepted(&sim, &mut el), accepted(&sim, &mut el)];
    el.conn(keeps).unwrap().set_lifetime(None);
    el.conn(over).unwrap().set_lifetime(Some(SECOND / 4));
    let (reason, at) = ends(&mut el, over);
    assert_eq!(reason, OVER);
    assert!(
        at >= opened + SECOND / 4 && at < opened + 2 * SECOND,
        "{at:?}"
    );
    sim.advance(10 * SECOND);
    el.poll(Some(Duration::ZERO)).unwrap();
    assert_eq!(el.next_event(), None);
    el.conn(keeps).unwrap().set_lifetime(Some(5 * SECOND)); // Over already.
    let (reason, _) = ends(&mut el, keeps);
    assert_eq!(reason, OVER);
}

#[test]
fn a_lifetime_that_is_over_ends_both_sides_of_a_pipe_in_order() {
    let (sim, mut el) = sim_loop(lifetime(SECOND));
    let (client, near, _) = accepted(&sim, &mut el);
    let far = el
        .connect("10.0.0.9:9", &ConnectOptions::default())
        .unwrap();
    el.pipe(near, far).unwrap();
    client.send(b"to the server");
    let (reason, _) = ends(&mut el, near);
    assert_eq!(reason, OVER);
    let server = sim.connected_peer().unwrap();
    assert_eq!(server.receive(99), b"to the server");
    assert!(server.sees_end() && !server.is_reset() && !client.is_reset());
}

#[test]
fn a_client_that_trickles_on_a_real_socket_is_closed_with_an_end_of_stream() {
    let mut real = Real::new(lifetime(Duration::from_millis(100)));
    let begun = Instant::now();
    let (mut client, conn) = real.pair();
    real.el.send(conn, b"hello").unwrap();
    assert_eq!(trickle(&mut real, &mut client), b"hello");
    assert!(begun.elapsed() >= Duration::from_millis(100));
    drop(client);
    let closed = real.run_until(|el| el.connection_count() == 0);
    let reasons: Vec<_> = closed
        .iter()
        .filter(|e| matches!(e, Event::Closed { .. }))
        .collect();
    assert_eq!(reason_of(*reasons[0]), OVER);
}

/// All that were due were closed in one turn, and whoever sent meanwhile waited for it.
#[test]
fn many_that_are_due_together_are_ended_over_several_turns() {
    let (sim, mut el) = sim_loop(first_byte(SECOND));
    let silent: Vec<Peer> = (0..1_000).map(|_| sim.connect_to(ADDR)).collect();
    let mut came = 0;
    when(&mut el, |_, event| {
        came += usize::from(matches!(event, Event::Accepted { .. }));
        (came == silent.len()).then_some(())
    });
    sim.advance(SECOND);
    let mut turns = 0;
    while el.connection_count() > 0 {
        el.poll(Some(Duration::ZERO)).unwrap();
        let ends = std::iter::from_fn(|| el.next_event()).count();
        assert!(ends <= 16, "{ends} ends in a turn");
        turns += 1;
    }
    assert!(turns > 60, "{turns} turns");
    assert!(silent.iter().all(Peer::sees_end));
}
