//! What once broke of connects, races, pipes and idle times. Each test says what broke.

mod util;

use std::os::unix::net::UnixStream;
use std::time::Duration;

use echoloop_core::sys::{Meets, SimOptions};
use echoloop_core::{
    CloseReason, ConnOptions, ConnectOptions, Event, EventLoop, LoopOptions, TimerSpec,
};
use util::roads::*;

/// One that waited was connected otherwise, another failed: more tries were counted than there
/// were connects to try, and the count went below zero.
#[test]
fn connects_that_wait_are_tried_no_more_often_than_there_are() {
    let (sim, mut el) = sim_loop(SimOptions::kind(30));
    let no_port = Meets::Fails(NO_PORT);
    let [failing, stuck] = ["1.1.1.1:80", "2.2.2.2:80"];
    for busy in [failing, stuck] {
        sim.road(busy.parse().unwrap(), no_port, Duration::ZERO);
        el.connect(busy, &within(MS * 5000)).unwrap();
    }
    plan(
        &sim,
        "host",
        &[("::1", Meets::Accepts, 101), ("3.3.3.3", no_port, 0)],
    );
    let options = ConnectOptions {
        attempt_delay: MS * 50,
        ..within(MS * 5000)
    };
    let winner = el.connect("host:80", &options).unwrap();
    let timer = el.add_timer(TimerSpec::after(MS * 100)).unwrap();
    // The timer comes between the count of those that wait and their tries.
    while el.next_event() != Some(Event::Timer { timer }) {
        el.poll(None).unwrap();
    }
    assert_eq!(el.counters().connect_pauses, 3);
    sim.road(failing.parse().unwrap(), Meets::Fails(REFUSED), MS);
    sim.advance(MS);
    let mut told = Vec::new();
    for _ in 0..3 {
        el.poll(Some(Duration::ZERO)).unwrap();
        told.extend(std::iter::from_fn(|| el.next_event()));
    }
    assert!(
        told.contains(&Event::Connected { conn: winner }),
        "{told:?}"
    );
    let refused = |e: &Event| matches!(e, Event::Closed { reason, .. } if *reason == CloseReason::ConnectFailed(REFUSED));
    assert!(told.iter().any(refused), "{told:?}");
}

/// One that had ended by itself, which was not told yet, left the other open and unpiped.
#[test]
fn a_pipe_to_one_that_has_finished_both_ways_closes_the_other() {
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let options = ConnOptions {
        half_open: true,
        ..ConnOptions::default()
    };
    let one = el.adopt(ours, &options).unwrap();
    let (ours, _other_end) = UnixStream::pair().unwrap();
    let two = el.adopt(ours, &ConnOptions::default()).unwrap();
    theirs.shutdown(std::net::Shutdown::Write).unwrap();
    let mut closed = Vec::new();
    for _ in 0..100 {
        el.poll(Some(Duration::from_millis(10))).unwrap();
        while let Some(event) = el.next_event() {
            if event == (Event::EndOfStream { conn: one }) {
                el.conn(one).unwrap().shutdown_write().unwrap();
                el.pipe(one, two).unwrap();
                assert!(!el.conn(two).unwrap().may_send());
            }
            if let Event::Closed { conn, reason, .. } = event {
                closed.push((conn, reason));
            }
        }
        if closed.len() == 1 {
            break;
        }
    }
    assert_eq!(closed, [(one, CloseReason::PeerFinished)]);
}

/// A send of which the kernel took a part did not count as a byte that moved.
#[test]
fn a_part_of_a_small_send_keeps_a_connection_from_being_idle() {
    let (sim, mut el) = sim_loop(SimOptions {
        buffer: 1000,
        ..SimOptions::kind(31)
    });
    let options = ConnectOptions {
        conn: ConnOptions {
            idle_timeout: Some(MS * 100),
            ..ConnOptions::default()
        },
        ..ConnectOptions::default()
    };
    let conn = el.connect("1.1.1.1:80", &options).unwrap();
    assert_eq!(run(&mut el), [Event::Connected { conn }]);
    let mut turn_after = |time: Duration, bytes: &[u8]| {
        sim.advance(time);
        el.poll(Some(Duration::ZERO)).unwrap();
        assert_eq!(el.next_event(), None);
        if !bytes.is_empty() {
            el.send(conn, bytes).unwrap();
            assert_eq!(el.next_event(), None);
        }
    };
    turn_after(MS * 90, &[1; 3000]);
    turn_after(MS * 90, b"");
    turn_after(Duration::ZERO, b"");
}

/// A large send between the answer of a connect by name and its `Connected` went to the kernel, and
/// when that took a part of it, `Connected` waited until the peer read; or until the deadline,
/// which ended a connection that was made.
#[test]
fn a_connect_that_is_made_is_told_whatever_was_sent_before() {
    for seed in util::seeds(40) {
        let (sim, mut el) = sim_loop(SimOptions {
            buffer: 1,
            ..SimOptions::kind(seed)
        });
        plan(&sim, "host", &[("::1", Meets::Accepts, 1)]);
        let by_name = el.connect("host:80", &within(MS * 1000)).unwrap();
        let others: Vec<_> = (0..5)
            .map(|n| {
                let addr = format!("2.2.2.{n}:80");
                sim.road(addr.parse().unwrap(), Meets::Accepts, MS);
                el.connect(addr.as_str(), &within(MS * 1000)).unwrap()
            })
            .collect();
        let mut told = Vec::new();
        for _ in 0..20 {
            el.poll(Some(MS)).unwrap();
            while let Some(event) = el.next_event() {
                told.push(event);
                el.send(by_name, &[7; 20_000]).unwrap();
                el.conn(by_name).unwrap().flush();
            }
        }
        for conn in others.into_iter().chain([by_name]) {
            assert!(
                told.contains(&Event::Connected { conn }),
                "seed {seed}: {told:?}"
            );
        }
    }
}

/// An end of stream that was told was told once more after a pipe.
#[test]
fn an_end_of_stream_is_told_once_also_when_it_is_piped_and_unpiped() {
    for half_open in [true, false] {
        let conn = ConnOptions {
            half_open,
            ..ConnOptions::default()
        };
        let (sim, mut el) = util::sim::simulated(1 << 16, LoopOptions::default(), conn);
        let (peer, one) = util::sim::open(&sim, &mut el);
        let (_other_peer, other) = util::sim::open(&sim, &mut el);
        peer.finish();
        el.poll(Some(Duration::ZERO)).unwrap();
        assert_eq!(el.next_event(), Some(Event::EndOfStream { conn: one }));
        el.pipe(one, other).unwrap(); // So it does not close after this.
        assert_eq!(util::sim::turn(&mut el), []);
        el.unpipe(one).unwrap();
        let told: Vec<_> = (0..3).flat_map(|_| util::sim::turn(&mut el)).collect();
        let finished = Event::Closed {
            conn: one,
            reason: CloseReason::PeerFinished,
            unsent: 0,
        };
        if half_open {
            assert_eq!(told, []);
            el.send(one, b"answer").unwrap();
            el.conn(one).unwrap().shutdown_write().unwrap();
            assert_eq!(util::sim::turn(&mut el), [finished]);
            assert_eq!(peer.receive(10), b"answer");
        } else {
            assert_eq!(told, [finished]);
        }
    }
}

/// What a pipe was sending when it found the other side gone was counted nowhere, not even as
/// unsent, and after `unpipe` it was missing in the input.
#[test]
fn what_a_pipe_has_read_for_one_that_is_gone_is_counted_as_unsent() {
    let mut lost = 0;
    for seed in util::seeds(40) {
        let (sim, mut el) = sim_loop(SimOptions::kind(seed));
        el.listen(util::sim::ADDR, &Default::default()).unwrap();
        let (peer, one) = util::sim::open(&sim, &mut el);
        let (gone, other) = util::sim::open(&sim, &mut el);
        el.pipe(one, other).unwrap();
        peer.send(&[7; 100]);
        gone.reset();
        let told: Vec<_> = (0..4).flat_map(|_| util::sim::turn(&mut el)).collect();
        let read = el.counters().bytes_received;
        let closed = Event::Closed {
            conn: other,
            reason: CloseReason::Reset,
            unsent: read,
        };
        assert!(told.contains(&closed), "seed {seed}: {told:?}");
        assert_eq!(el.buffered(), 0);
        lost += read;
    }
    if std::env::var("ECHOLOOP_SEED").is_err() {
        assert!(lost > 0, "the write never found it");
    }
}
