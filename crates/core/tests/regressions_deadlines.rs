//! What once broke in deadlines, rates and pipes where they meet.
//!
//! Each test says what it found. All on the simulated system, to the nanosecond.

mod util;

use std::time::Duration;

use echoloop_core::sys::Sim;
use echoloop_core::{
    CloseReason, ConnOptions, ConnectOptions, Deadline, Event, EventLoop, LoopOptions, Rate,
};
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
