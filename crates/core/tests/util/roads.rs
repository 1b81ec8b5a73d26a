//! Connects by name on the simulated system: names and addresses planned, events collected.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use echoloop_core::sys::{Meets, Sim, SimOptions};
use echoloop_core::{Addr, ConnectOptions, Event, EventLoop, LoopOptions};
use nix::errno::Errno;

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const REFUSED: i32 = Errno::ECONNREFUSED as i32;
pub(crate) const EMFILE: i32 = Errno::EMFILE as i32;
pub(crate) const NO_PORT: i32 = Errno::EADDRNOTAVAIL as i32;

pub(crate) fn sim_loop(options: SimOptions) -> (Sim, EventLoop<Sim>) {
    let sim = Sim::new(options);
    let el = EventLoop::with_system(sim.clone(), LoopOptions::default()).unwrap();
    (sim, el)
}

pub(crate) fn ips(text: &str) -> Vec<IpAddr> {
    text.split(' ').map(|ip| ip.parse().unwrap()).collect()
}

pub(crate) fn at(ip: IpAddr) -> SocketAddr {
    SocketAddr::new(ip, 80)
}

pub(crate) fn within(timeout: Duration) -> ConnectOptions {
    ConnectOptions {
        timeout: Some(timeout),
        ..Default::default()
    }
}

/// Plans `host` to have these addresses, each with what it meets after so many milliseconds.
pub(crate) fn plan(sim: &Sim, host: &str, roads: &[(&str, Meets, u32)]) {
    let addrs = roads.iter().map(|(ip, ..)| ip.parse().unwrap()).collect();
    sim.name(host, Duration::ZERO, Ok(addrs));
    for (ip, meets, after) in roads {
        sim.road(at(ip.parse().unwrap()), *meets, MS * *after);
    }
}

/// Runs the loop until a connection is made or has ended, and returns all events.
pub(crate) fn run(el: &mut EventLoop<Sim>) -> Vec<Event> {
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
pub(crate) fn tries(sim: &Sim) -> Vec<(f64, String)> {
    let of = |(at, addr): &(Duration, Addr)| (at.as_nanos() as f64 / 1e6, addr.to_string());
    let connects = sim.connects();
    let start = connects.first().map_or(Duration::ZERO, |c| c.0);
    connects
        .iter()
        .map(|(at, addr)| of(&(*at - start, addr.clone())))
        .collect()
}

pub(crate) fn nothing_is_left(sim: &Sim, el: &mut EventLoop<Sim>) {
    assert_eq!(el.next_event(), None);
    assert_eq!((sim.open_sockets(), sim.lookups()), (0, 0));
    assert_eq!((el.live_handles(), el.connection_count()), (0, 0));
}
