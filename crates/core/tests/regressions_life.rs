//! What once broke at the beginning and the end of loops and connections, and in their mailboxes.
//! Each test says what broke.

mod util;

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use echoloop_core::sys::{Peer, Sim, SimOptions};
use echoloop_core::{
    ConnId, ConnOptions, Event, EventLoop, Interest, Keepalive, ListenOptions, LoopOptions,
    WatchMode,
};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::Errno;
use util::real::PATIENCE;

const ADDR: &str = "10.0.0.2:7";
const ZERO: Option<Duration> = Some(Duration::ZERO);

/// A loop whose kernel holds 1,000 bytes for each direction, a peer, and its connection.
fn connected() -> (EventLoop<Sim>, Peer, ConnId) {
    let sim = Sim::new(SimOptions {
        buffer: 1000,
        ..SimOptions::kind(1)
    });
    let mut el = EventLoop::with_system(sim.clone(), LoopOptions::default()).unwrap();
    el.listen(ADDR, &ListenOptions::default()).unwrap();
    let peer = sim.connect_to(ADDR);
    for _ in 0..4 {
        el.poll(ZERO).unwrap();
        while let Some(event) = el.next_event() {
            if let Event::Accepted { conn, .. } = event {
                el.poll(ZERO).unwrap();
                return (el, peer, conn);
            }
        }
    }
    panic!("nobody was accepted");
}

/// Words that a poll had taken did not count: a program that took one event after each poll could
/// be sent words without bound.
#[test]
fn words_that_were_taken_and_not_handed_out_count_as_waiting() {
    let options = LoopOptions {
        post_capacity: 4,
        ..LoopOptions::default()
    };
    let mut el = EventLoop::new(options).unwrap();
    let remote = el.remote();
    let mut taken = 0;
    for _ in 0..10 {
        taken += (0..10).filter(|word| remote.post(*word).is_ok()).count();
        el.poll(ZERO).unwrap();
        assert!(el.next_event().is_some());
    }
    assert_eq!(taken, 4 + 9);
    el.poll(ZERO).unwrap();
    assert_eq!(std::iter::from_fn(|| el.next_event()).count(), 3);
    remote.post(1).unwrap();
}

/// At the end of the loop only what the last handler had sent was flushed, not what the kernel had
/// refused before and would take by now.
#[test]
fn a_loop_that_is_dropped_offers_the_kernel_all_that_waits() {
    let (mut el, peer, conn) = connected();
    el.send(conn, &[7; 1500]).unwrap();
    el.poll(ZERO).unwrap();
    assert_eq!(peer.receive(9000).len(), 1000);
    drop(el);
    assert_eq!(peer.receive(9000).len(), 500);
}

/// A socket that was refused for an option had become non-blocking for its owner.
#[test]
fn a_socket_that_is_not_adopted_for_an_option_blocks_as_before() {
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let options = ConnOptions {
        keepalive: Some(Keepalive {
            count: 1000,
            ..Keepalive::default()
        }),
        ..ConnOptions::default()
    };
    let refused = el.adopt(tcp, &options).unwrap_err();
    let flags = fcntl_getfl(&refused.socket).unwrap();
    assert!(!flags.contains(OFlags::NONBLOCK));
    el.adopt(ours, &options).unwrap(); // It has no keepalive.
}

/// A socket that the loop watched was taken, and then closed at once with `EEXIST`, and its watch
/// was dead.
#[test]
fn a_socket_that_is_watched_is_not_adopted_and_comes_back_unharmed() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let watch = el
        .watch(&ours, Interest::READABLE, WatchMode::OneShot)
        .unwrap();
    let refused = el.adopt(ours, &ConnOptions::default()).unwrap_err();
    assert_eq!(refused.error.errno(), Some(Errno::EXIST.raw_os_error()));
    let flags = fcntl_getfl(&refused.socket).unwrap();
    assert!(!flags.contains(OFlags::NONBLOCK));
    assert_eq!(el.connection_count(), 0);
    theirs.write_all(b"x").unwrap();
    el.poll(Some(PATIENCE)).unwrap();
    let told = el.next_event();
    assert!(matches!(told, Some(Event::Watch { watch: w, .. }) if w == watch));
    el.unwatch(watch).unwrap();
    let conn = el.adopt(refused.socket, &ConnOptions::default()).unwrap();
    assert_eq!(el.next_event(), Some(Event::Adopted { conn }));
    el.poll(Some(PATIENCE)).unwrap();
    assert_eq!(el.next_event(), Some(Event::Data { conn }));
}
