//! What a loop says of all it holds: each object by its handle, in any state, in words.

mod util;

use std::time::Duration;

use echoloop_core::sys::{Sim, System};
use echoloop_core::{
    ConnId, ConnOptions, ConnectOptions, Event, EventLoop, ListenOptions, LoopOptions, TimerSpec,
};
use util::real::{PATIENCE, Real};
use util::sim::{ADDR, open, simulated, turn};

const MS: Duration = Duration::from_millis(1);

/// The one line of a dump that begins with the handle, without it.
fn line_of<S: System>(el: &EventLoop<S>, handle: impl std::fmt::Debug) -> String {
    let (dump, handle) = (el.dump(), format!("{handle:?}"));
    let mut lines = dump
        .lines()
        .filter_map(|line| line.strip_prefix(&handle)?.strip_prefix([' ', ':']));
    let line = lines.next().unwrap_or_else(|| panic!("{handle} in {dump}"));
    assert_eq!(lines.next(), None, "twice in {dump}");
    line.trim().into()
}

/// The state in such a line of a connection: what stands between the addresses and the buffers.
fn state_of(el: &EventLoop<Sim>, conn: ConnId) -> String {
    let line = line_of(el, conn);
    let state = line.split_once(": ").unwrap().1;
    state.split_once("; ").map_or(state, |(s, _)| s).into()
}

#[test]
fn a_connection_is_a_line_with_all_that_it_waits_for() {
    let conn = ConnOptions {
        idle_timeout: Some(Duration::from_secs(5)),
        ..ConnOptions::default()
    };
    let (sim, mut el) = simulated(1000, LoopOptions::default(), conn);
    let (peer, conn) = open(&sim, &mut el);
    el.conn(conn).unwrap().set_user_data(0xbeef);
    peer.send(b"hello");
    turn(&mut el); // Which leaves it unread.
    el.conn(conn).unwrap().send(&[1; 1500]).unwrap();
    sim.advance(1200 * MS);
    let line = line_of(&el, conn);
    // The generations of its handles depend on the loops before it.
    let (from, state) = line.split_once(": ").unwrap();
    assert!(from.starts_with("10.0.0.1:1, here 10.0.0.2:7, from ListenerId(0."));
    assert_eq!(
        state,
        "open; 1500 queued, 5 unread, last byte 1.2s ago, user data 0xbeef; \
         idle timeout due in 3.8s"
    );
    turn(&mut el);
    assert_eq!(state_of(&el, conn), "open, stalled by the peer");
}

#[test]
fn every_state_has_its_words() {
    let options = LoopOptions {
        memory_budget: 5000,
        ..LoopOptions::default()
    };
    let conn = ConnOptions {
        half_open: true,
        high_mark: 1500,
        low_mark: 500,
        ..ConnOptions::default()
    };
    let (sim, mut el) = simulated(1000, options, conn);
    let peers: Vec<_> = (0..6).map(|_| open(&sim, &mut el)).collect();
    let [paused, congested, half, closing, flushing, starved] = std::array::from_fn(|n| peers[n].1);
    sim.ignore_next();
    let connecting = el.connect(ADDR, &ConnectOptions::default()).unwrap();
    el.conn(paused).unwrap().pause();
    peers[0].0.send(b"hello");
    el.conn(congested).unwrap().send(&[1; 3000]).unwrap();
    peers[2].0.finish();
    el.conn(closing).unwrap().close();
    turn(&mut el);
    el.conn(flushing).unwrap().send(&[1; 1500]).unwrap();
    el.conn(flushing).unwrap().close();
    el.conn(half).unwrap().shutdown_write().unwrap();
    el.conn(starved).unwrap().set_auto_pause(false);
    el.conn(starved).unwrap().send(&[1; 5000]).unwrap();
    turn(&mut el);
    for (conn, state) in [
        (paused, "open, paused, input to be read"),
        (
            congested,
            "open, congested, not read until drained, stalled by the peer",
        ),
        (
            closing,
            "closing: closed here, half-closed here, waiting for the peer to finish",
        ),
        (
            flushing,
            "closing: closed here, starved by the budget, stalled by the peer",
        ),
        (
            starved,
            "open, congested, starved by the budget, stalled by the peer",
        ),
        (connecting, "connecting"),
    ] {
        assert_eq!(state_of(&el, conn), state);
    }
    assert!(line_of(&el, closing).ends_with("; end of lingering due in 1.0s"));
    assert!(line_of(&el, flushing).ends_with("; close timeout due in 10.0s"));
    assert!(line_of(&el, connecting).ends_with("; connect timeout due in 30.0s"));
    assert!(el.conn(half).is_err(), "it had finished both ways");
    let dump = el.dump();
    let first = dump.lines().next().unwrap();
    assert!(first.ends_with("6500 of 5000 bytes buffered, over the budget: nobody is accepted"));
}

#[test]
fn half_closed_ends_and_what_is_to_be_told_are_said() {
    let conn = ConnOptions {
        half_open: true,
        ..ConnOptions::default()
    };
    let (sim, mut el) = simulated(1000, LoopOptions::default(), conn);
    let ((one, half), (_other, dead)) = (open(&sim, &mut el), open(&sim, &mut el));
    one.finish();
    turn(&mut el);
    assert_eq!(state_of(&el, half), "open, half-closed by the peer");
    el.conn(dead).unwrap().abort();
    assert_eq!(state_of(&el, dead), "ended, to be told: aborted here");
    assert!(
        !line_of(&el, dead).contains("here 10."),
        "the socket is gone"
    );
    el.poll(Some(Duration::ZERO)).unwrap();
    assert!(
        el.dump()
            .contains("handling no event; still to look at: 0 reports, 1 in line")
    );
    assert!(matches!(el.next_event(), Some(Event::Closed { .. })));
    let handling = format!("handling the end of {dead:?}");
    assert!(el.dump().contains(&handling), "{}", el.dump());
}

#[test]
fn listeners_and_timers_are_said() {
    let (sim, mut el) = simulated(1000, LoopOptions::default(), ConnOptions::default());
    let other = el.listen("10.0.0.2:8", &ListenOptions::default()).unwrap();
    let once = el
        .add_timer(TimerSpec::after(300 * MS).user_data(7))
        .unwrap();
    let every = el.add_timer(TimerSpec::every(10 * MS)).unwrap();
    assert_eq!(line_of(&el, other), "10.0.0.2:8: listening");
    assert_eq!(line_of(&el, once), "due in 300.0ms, user data 0x7");
    assert_eq!(line_of(&el, every), "due in 10.0ms, every 10.0ms");
    sim.advance(15 * MS);
    assert_eq!(line_of(&el, every), "due since 5.0ms, every 10.0ms");
    sim.fail_accept(nix::errno::Errno::EMFILE as i32);
    let _peer = sim.connect_to(ADDR);
    el.poll(Some(Duration::ZERO)).unwrap();
    let paused = std::iter::from_fn(|| el.next_event()).find_map(|event| match event {
        Event::AcceptPaused { listener, .. } => Some(listener),
        _ => None,
    });
    let said = line_of(&el, paused.unwrap());
    assert_eq!(
        said,
        "10.0.0.2:7: listening, accepting is paused, the next try due in 100.0ms"
    );
}

#[test]
fn a_timer_that_was_armed_in_a_handler_and_a_signal_are_said() {
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let signal = el.watch_signal(nix::libc::SIGUSR1).unwrap();
    assert_eq!(line_of(&el, signal), "SIGUSR1 (10)");
    el.remote().post(0).unwrap();
    el.poll(Some(PATIENCE)).unwrap();
    assert_eq!(el.next_event(), Some(Event::Posted { word: 0 }));
    let delay = Duration::from_secs(5);
    let timer = el.add_timer(TimerSpec::after(delay)).unwrap();
    assert_eq!(line_of(&el, timer), "due 5.0s after this handler");
    assert_eq!(el.next_event(), None);
    assert!(line_of(&el, timer).starts_with("due in "));
    el.unwatch_signal(signal).unwrap();
    assert!(!el.dump().contains("SIGUSR1"));
}

#[test]
fn where_a_connection_comes_from_is_said() {
    let mut real = Real::new(ConnOptions::default());
    let (_client, accepted) = real.pair();
    let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let adopted = real.el.adopt(ours, &ConnOptions::default()).unwrap();
    let to = real.addr;
    let connected = real.el.connect(to, &ConnectOptions::default()).unwrap();
    assert!(line_of(&real.el, accepted).contains(", from ListenerId(0."));
    assert!(line_of(&real.el, adopted).contains(", adopted: open, its beginning to be told"));
    assert!(line_of(&real.el, connected).starts_with(&format!("{to}, here 127.0.0.1:")));
}

#[test]
fn the_rest_of_a_dump_has_totals_the_turn_counters_and_times() {
    let mut real = Real::new(ConnOptions::default());
    let (client, conn) = real.pair();
    let addr = client.local_addr().unwrap().to_string();
    assert!(line_of(&real.el, conn).starts_with(&addr));
    let dump = real.el.dump();
    let (first, rest) = dump.split_once('\n').unwrap();
    let totals = ": 1 listeners, 1 connections, 0 of 1073741824 bytes buffered";
    assert!(
        first.starts_with("loop ") && first.ends_with(totals),
        "{first}"
    );
    for word in [
        "Counters { accepted: 1,",
        "handlers (a sample):",
        "waiting: ",
        "turns: ",
    ] {
        assert!(rest.contains(word), "{word} in {dump}");
    }
    assert_eq!(dump.lines().count(), 1 + 2 + 2 + 4);
}
