//! A loop on the simulated system, and peers that a test plays.

use std::time::Duration;

use echoloop_core::sys::{Peer, Sim, SimOptions};
use echoloop_core::{ConnId, ConnOptions, Event, EventLoop, ListenOptions, LoopOptions};

/// Where [`simulated`] loops listen.
pub(crate) const ADDR: &str = "10.0.0.2:7";

/// A loop on a kind system whose kernel holds `buffer` bytes for each direction.
pub(crate) fn simulated(
    buffer: usize,
    options: LoopOptions,
    conn: ConnOptions,
) -> (Sim, EventLoop<Sim>) {
    let sim = Sim::new(SimOptions {
        buffer,
        ..SimOptions::kind(3)
    });
    let mut el = EventLoop::with_system(sim.clone(), options).unwrap();
    let listen = ListenOptions {
        conn,
        ..Default::default()
    };
    el.listen(ADDR, &listen).unwrap();
    (sim, el)
}

/// One turn, and its events.
pub(crate) fn turn(el: &mut EventLoop<Sim>) -> Vec<Event> {
    el.poll(Some(Duration::ZERO)).unwrap();
    std::iter::from_fn(|| el.next_event()).collect()
}

/// A peer, and the connection it has become on our side.
pub(crate) fn open(sim: &Sim, el: &mut EventLoop<Sim>) -> (Peer, ConnId) {
    let peer = sim.connect_to(ADDR);
    for _ in 0..4 {
        for event in turn(el) {
            if let Event::Accepted { conn, .. } = event {
                turn(el);
                return (peer, conn);
            }
        }
    }
    panic!("nobody was accepted");
}
