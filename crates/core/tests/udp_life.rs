//! The life of a UDP socket: connected, refused, paused, closed; on the real system.

mod util;

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use echoloop_core::{
    ErrorKind, Event, EventLoop, LoopOptions, TimerId, TimerSpec, UdpId, UdpOptions,
};
use rustix::io::Errno;
use util::datagrams::{Udps, nobody, peer};
use util::real::PATIENCE;

#[test]
fn a_connected_socket_hears_its_peer_only_until_it_is_disconnected() {
    let mut all = Udps::new();
    let (peer, peer_addr) = peer();
    let (other, _) = util::datagrams::peer();
    let (udp, addr) = all.plain();
    other.send_to(b"before", addr).unwrap(); // In the kernel's queue when it is connected.
    all.el.udp(udp).unwrap().connect(peer_addr).unwrap();
    other.send_to(b"stranger", addr).unwrap();
    peer.send_to(b"peer", addr).unwrap();
    assert_eq!(all.take(1)[0].bytes, b"peer");

    all.el.udp(udp).unwrap().send(b"to the peer").unwrap();
    all.el.udp(udp).unwrap().disconnect().unwrap();
    let mut buf = [0; 64];
    assert_eq!(
        peer.recv(&mut buf).unwrap(),
        11,
        "what was sent before goes to the peer"
    );
    assert_eq!(all.el.udp(udp).unwrap().peer_addr(), None);
    assert!(all.el.udp(udp).unwrap().send(b"to whom").is_err());
    // The port that the system chose is still the same.
    assert_eq!(all.el.udp(udp).unwrap().local_addr().unwrap(), addr);
    other.send_to(b"stranger", addr).unwrap();
    assert_eq!(all.take(1)[0].bytes, b"stranger");
}

#[test]
fn a_peer_that_is_not_there_is_told_and_survived() {
    let mut all = Udps::new();
    let dead = nobody();
    let (udp, addr) = all.connected(dead);
    let refused = Errno::CONNREFUSED.raw_os_error();
    for bytes in [&b"one"[..], b"other size", b"a third size"] {
        all.el.udp(udp).unwrap().send(bytes).unwrap();
    }
    all.run_until(|all| !all.errors(udp).is_empty());
    assert_eq!(all.errors(udp), [refused]);

    // It goes on: the peer comes up, and gets all that is sent.
    let peer = UdpSocket::bind(dead).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    for round in 0..3_u8 {
        all.el.udp(udp).unwrap().send(&[round]).unwrap();
        all.turn(Duration::ZERO);
        let mut buf = [0; 64];
        let (n, from) = peer.recv_from(&mut buf).unwrap();
        assert_eq!((&buf[..n], from), (&[round][..], addr));
    }
    peer.send_to(b"welcome", addr).unwrap();
    assert_eq!(all.take(1)[0].bytes, b"welcome");
    assert_eq!(all.el.udp(udp).unwrap().dropped(), 0);
}

#[test]
fn an_error_while_paused_is_told_too() {
    let mut all = Udps::new();
    let (udp, _) = all.connected(nobody());
    all.el.udp(udp).unwrap().pause();
    all.el.udp(udp).unwrap().send(b"x").unwrap();
    all.run_until(|all| !all.errors(udp).is_empty());
}

#[test]
fn what_the_kernel_never_takes_is_told_and_counted() {
    let mut all = Udps::new();
    let (udp, to) = all.plain();
    // Broadcast was not allowed: EACCES.
    let all_hosts = SocketAddr::from(([255; 4], 9));
    all.el
        .udp(udp)
        .unwrap()
        .send_to(all_hosts, b"lost")
        .unwrap();
    all.el.udp(udp).unwrap().send_to(to, b"kept").unwrap();
    assert_eq!(all.take(1)[0].bytes, b"kept");
    all.run_until(|all| !all.errors(udp).is_empty());
    assert_eq!(all.errors(udp), [Errno::ACCESS.raw_os_error()]);
    assert_eq!(all.el.udp(udp).unwrap().dropped(), 1);
    assert_eq!(all.el.counters().datagrams_dropped, 1);
}

#[test]
fn a_paused_socket_is_not_read_from_until_it_resumes() {
    let mut all = Udps::new();
    let (udp, addr) = all.plain();
    let (other, other_addr) = all.plain();
    all.el.udp(udp).unwrap().pause();
    all.el.udp(other).unwrap().send_to(addr, b"waits").unwrap();
    all.el
        .udp(other)
        .unwrap()
        .send_to(other_addr, b"does not")
        .unwrap();
    assert_eq!(all.take(1)[0].at, other);
    all.turn(Duration::ZERO);
    assert!(all.got.is_empty());
    all.el.udp(udp).unwrap().resume();
    assert_eq!(all.take(1)[0].bytes, b"waits");
}

#[test]
fn a_closed_socket_is_gone_even_in_its_own_handler() {
    let mut all = Udps::new();
    let (udp, addr) = all.plain();
    let (peer, peer_addr) = peer();
    all.el.udp(udp).unwrap().set_user_data(7);
    assert_eq!(all.el.udp(udp).unwrap().user_data(), 7);
    let live = all.el.live_handles();
    for _ in 0..100 {
        peer.send_to(b"x", addr).unwrap();
    }
    let mut seen = 0;
    while seen == 0 {
        all.el.poll(Some(PATIENCE)).unwrap();
        while let Some(event) = all.el.next_event() {
            assert_eq!(
                event,
                Event::Datagrams { udp },
                "and no event after the close"
            );
            seen += 1;
            all.el
                .udp(udp)
                .unwrap()
                .send_to(peer_addr, b"last words")
                .unwrap();
            all.el.close_udp(udp).unwrap();
            assert!(all.el.udp(udp).is_err());
        }
    }
    assert_eq!((seen, all.el.live_handles()), (1, live - 1));
    assert_eq!(
        peer.recv(&mut [0; 64]).unwrap(),
        10,
        "what was sent before has left"
    );
    let bad = all.el.close_udp(udp).unwrap_err().kind();
    assert_eq!(bad, ErrorKind::BadHandle);
    let (next, _) = all.plain(); // In the same slot.
    assert_ne!(next, udp);
    for raw in [0, udp.to_raw(), next.to_raw() ^ 1, u64::MAX] {
        assert!(all.el.udp(UdpId::from_raw(raw)).is_err());
    }
    let timer = TimerId::from_raw(next.to_raw());
    assert!(all.el.cancel_timer(timer).is_err());
}

#[test]
fn datagrams_are_good_for_their_own_handler_only() {
    let mut all = Udps::new();
    let (a, to_a) = all.plain();
    let (b, to_b) = all.plain();
    all.el.udp(a).unwrap().send_to(to_b, b"to b").unwrap();
    all.el.udp(b).unwrap().send_to(to_a, b"to a").unwrap();
    let mut seen = Vec::new();
    let deadline = std::time::Instant::now() + PATIENCE;
    while seen.len() < 2 && std::time::Instant::now() < deadline {
        all.el.poll(Some(Duration::from_millis(50))).unwrap();
        while let Some(Event::Datagrams { udp }) = all.el.next_event() {
            let count = |el: &mut EventLoop, id| el.udp(id).unwrap().datagrams().count();
            let other = if udp == a { b } else { a };
            seen.push((
                count(&mut all.el, udp),
                count(&mut all.el, udp),
                count(&mut all.el, other),
            ));
        }
        assert_eq!(all.el.udp(a).unwrap().datagrams().count(), 0);
    }
    assert_eq!(seen, [(1, 1, 0), (1, 1, 0)]);
}

#[test]
fn a_timer_can_send_too() {
    let mut all = Udps::new();
    let (udp, _) = all.plain();
    let (peer, peer_addr) = peer();
    all.el
        .add_timer(TimerSpec::after(Duration::from_millis(1)))
        .unwrap();
    let mut fired = false;
    while !fired {
        all.el.poll(Some(PATIENCE)).unwrap();
        while let Some(event) = all.el.next_event() {
            if matches!(event, Event::Timer { .. }) {
                fired = true;
                all.el
                    .udp(udp)
                    .unwrap()
                    .send_to(peer_addr, b"tick")
                    .unwrap();
                assert_eq!(all.el.udp(udp).unwrap().queued(), 1, "gathered");
            }
        }
    }
    assert_eq!(peer.recv(&mut [0; 64]).unwrap(), 4, "without another poll");
}

#[test]
fn what_was_sent_last_leaves_when_the_loop_is_dropped() {
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let udp = el.bind_udp("127.0.0.1:0", &UdpOptions::default()).unwrap();
    let (peer, peer_addr) = peer();
    el.udp(udp)
        .unwrap()
        .send_to(peer_addr, b"farewell")
        .unwrap();
    drop(el);
    assert_eq!(peer.recv(&mut [0; 64]).unwrap(), 8);
}

#[test]
fn a_dump_has_a_line_for_each_socket() {
    let mut all = Udps::new();
    let (_, to) = peer();
    let (udp, addr) = all.connected(to);
    all.el.udp(udp).unwrap().pause();
    all.el.udp(udp).unwrap().send(b"x").unwrap();
    let line = format!("{udp:?} {addr} to {to}: 1 datagrams queued, 0 dropped, paused\n");
    let dump = all.el.dump();
    assert!(dump.contains(&line), "{line} in {dump}");
}

/// Whether a nested loop asks for a turn, as poll(2) of its host sees it.
fn asks(el: &mut EventLoop) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let soon = Timespec::try_from(Duration::from_millis(20)).unwrap();
    let descriptor = el.descriptor();
    let mut fds = [PollFd::new(&descriptor, PollFlags::IN)];
    poll(&mut fds, Some(&soon)).unwrap() > 0
}

/// Takes turns until the loop asks for no more; answers how many batches that were.
fn rest(all: &mut Udps) -> usize {
    let (deadline, before) = (std::time::Instant::now() + PATIENCE, all.batches);
    while asks(&mut all.el) {
        assert!(std::time::Instant::now() < deadline, "never at rest");
        all.turn(Duration::ZERO);
    }
    all.batches - before
}

#[test]
fn a_nested_loop_asks_for_a_turn_for_all_that_datagrams_want() {
    let mut all = Udps::new();
    let (udp, addr) = all.plain();
    let (peer, peer_addr) = peer();
    rest(&mut all);
    let mut view = all.el.udp(udp).unwrap();
    view.send_to(peer_addr, b"between turns").unwrap();
    rest(&mut all);
    assert_eq!(peer.recv(&mut [0; 64]).unwrap(), 13);

    let (_, mut sender) = all.el.udp(udp).unwrap().split();
    sender.send_to(peer_addr, b"by half").unwrap();
    rest(&mut all);
    assert_eq!(peer.recv(&mut [0; 64]).unwrap(), 7);

    for _ in 0..100 {
        peer.send_to(b"more than one turn", addr).unwrap();
    }
    assert!(rest(&mut all) > 1);
    assert_eq!(all.got.len(), 100);

    all.el.udp(udp).unwrap().pause();
    peer.send_to(b"waits", addr).unwrap();
    assert_eq!(rest(&mut all), 0);
    all.el.udp(udp).unwrap().resume();
    assert_eq!(rest(&mut all), 1);
}
