//! UDP sockets on the real system, and peers beside them.

mod util;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use echoloop_core::{ErrorKind, EventLoop, Interface, LoopOptions, UdpOptions};
use rustix::io::Errno;
use util::datagrams::{Udps, echo_until, peer};

#[test]
fn an_echo_server_answers_a_peer_of_std() {
    for on in ["127.0.0.1:0", "0.0.0.0:0"] {
        let mut all = Udps::new();
        let (_, addr) = all.bind(on, &UdpOptions::default());
        let (peer, _) = peer();
        let addr = SocketAddr::from(([127, 0, 0, 1], addr.port()));
        for size in [0, 1, 1472, 9000, 65_507] {
            let sent: Vec<u8> = (0..size).map(|i| i as u8).collect();
            peer.send_to(&sent, addr).unwrap();
            echo_until(&mut all.el, 1);
            let mut buf = vec![0; 65_536];
            let (n, from) = peer.recv_from(&mut buf).unwrap();
            assert_eq!((&buf[..n], from), (&sent[..], addr), "{size} bytes, {on}");
        }
    }
}

#[test]
fn two_sockets_of_one_loop_talk_in_order() {
    let mut all = Udps::new();
    let (a, _) = all.plain();
    let (b, to) = all.plain();
    // Runs of one size, sizes that change, and empty ones.
    let sent: Vec<Vec<u8>> = (0..300_usize)
        .map(|i| vec![i as u8; [7, 7, 7, 3, 0, 40, 900, 900][i % 8]])
        .collect();
    for bytes in &sent {
        all.el.udp(a).unwrap().send_to(to, bytes).unwrap();
    }
    let got = all.take(sent.len());
    assert!(got.iter().all(|g| g.at == b && !g.truncated));
    let bytes: Vec<_> = got.into_iter().map(|g| g.bytes).collect();
    assert_eq!(bytes, sent);
    assert!(all.told.is_empty());
    assert_eq!(all.el.buffered(), 0);
    assert_eq!(all.el.counters().datagrams_sent, 300);
    assert_eq!(all.el.counters().datagrams_received, 300);
}

#[test]
fn what_is_too_long_for_the_socket_is_cut_and_marked() {
    for offload in [false, true] {
        let mut all = Udps::new();
        let options = UdpOptions {
            max_datagram: 10,
            offload,
            ..UdpOptions::default()
        };
        let (_, addr) = all.bind("127.0.0.1:0", &options);
        let (a, _) = all.plain();
        for size in [9, 10, 11, 60_000, 11, 11, 3, 0] {
            all.el
                .udp(a)
                .unwrap()
                .send_to(addr, &vec![1; size])
                .unwrap();
        }
        let got = all.take(8);
        let got: Vec<_> = got.iter().map(|g| (g.bytes.len(), g.truncated)).collect();
        let cut = (10, true);
        let whole = |n| (n, false);
        let expected = [whole(9), whole(10), cut, cut, cut, cut, whole(3), whole(0)];
        assert_eq!(got, expected, "offload: {offload}");
    }
}

#[test]
fn what_no_datagram_can_hold_is_an_error_of_the_call() {
    let mut all = Udps::new();
    let (a, _) = all.plain();
    let (_, to) = all.plain();
    let (six, to_six) = all.bind("[::1]:0", &UdpOptions::default());
    let big = vec![0; 65_528];
    let mut send = |from, to, size: usize| {
        let mut view = all.el.udp(from).unwrap();
        view.send_to(to, &big[..size]).map_err(|e| e.errno())
    };
    let too_long = Err(Some(Errno::MSGSIZE.raw_os_error()));
    assert_eq!(send(a, to, 65_507), Ok(()));
    assert_eq!(send(a, to, 65_508), too_long);
    assert_eq!(send(six, to_six, 65_527), Ok(()));
    assert_eq!(send(six, to_six, 65_528), too_long);
    let sizes: Vec<_> = all.take(2).iter().map(|g| g.bytes.len()).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 65_507 + 65_527);
}

#[test]
fn what_can_never_be_sent_is_an_error_of_the_call() {
    let mut all = Udps::new();
    let (a, to) = all.plain();
    let mut view = all.el.udp(a).unwrap();
    let invalid = |e: echoloop_core::Error| matches!(e.kind(), ErrorKind::InvalidInput(_));
    assert!(invalid(
        view.send_to("127.0.0.1:0".parse().unwrap(), b"x")
            .unwrap_err()
    ));
    assert!(invalid(
        view.send_to("[::1]:9".parse().unwrap(), b"x").unwrap_err()
    ));
    assert!(invalid(
        view.send_from(IpAddr::from(Ipv6Addr::LOCALHOST), to, b"x")
            .unwrap_err()
    ));
    assert!(invalid(view.send_segments(to, b"x", 0).unwrap_err()));
    let unconnected = view.send(b"x").unwrap_err();
    assert_eq!(unconnected.errno(), Some(Errno::DESTADDRREQ.raw_os_error()));
    assert_eq!(view.queued(), 0);
    let unix = all
        .el
        .bind_udp("unix:/tmp/x", &UdpOptions::default())
        .unwrap_err();
    assert_eq!(unix.errno(), Some(Errno::AFNOSUPPORT.raw_os_error()));
    let taken = all.el.bind_udp(to, &UdpOptions::default()).unwrap_err();
    assert_eq!(taken.errno(), Some(Errno::ADDRINUSE.raw_os_error()));
}

#[test]
fn ipv6_and_ipv4_share_a_socket_only_when_asked() {
    let mut all = Udps::new();
    let (peer, _) = peer();
    let dual = UdpOptions {
        ipv6_only: false,
        ..UdpOptions::default()
    };
    let (six, addr) = all.bind("[::]:0", &dual);
    let to = SocketAddr::from(([127, 0, 0, 1], addr.port()));
    peer.send_to(b"four", to).unwrap();
    echo_until(&mut all.el, 1);
    let mut buf = [0; 64];
    assert_eq!(
        peer.recv_from(&mut buf).unwrap(),
        (4, to),
        "from where it was asked"
    );
    all.el
        .udp(six)
        .unwrap()
        .send_to(peer.local_addr().unwrap(), b"plain")
        .unwrap();
    all.turn(Duration::ZERO);
    assert_eq!(
        peer.recv_from(&mut buf).unwrap(),
        (5, to),
        "an IPv4 address as it is"
    );

    // With only IPv6 the same port of IPv4 is free for another socket.
    let (_, addr) = all.bind("[::]:0", &UdpOptions::default());
    all.bind(&format!("0.0.0.0:{}", addr.port()), &UdpOptions::default());
}

#[test]
fn an_answer_leaves_from_the_address_that_was_asked() {
    let mut all = Udps::new();
    let (peer, _) = peer();
    let (_, addr) = all.bind("0.0.0.0:0", &UdpOptions::default());
    for last in [1, 2, 77] {
        let asked = SocketAddr::from(([127, 0, 0, last], addr.port()));
        peer.send_to(b"who is there", asked).unwrap();
        echo_until(&mut all.el, 1);
        assert_eq!(peer.recv_from(&mut [0; 64]).unwrap().1, asked);
    }
    // A socket with an address of its own need not say.
    let (_, addr) = all.plain();
    peer.send_to(b"x", addr).unwrap();
    assert_eq!(all.take(1)[0].to, None);
}

#[test]
fn multicast_reaches_members_over_loopback_and_nobody_else() {
    let group = Ipv4Addr::new(239, 7, 7, 7);
    let lo = Interface::Addr(Ipv4Addr::LOCALHOST);
    let mut all = Udps::new();
    let shared = UdpOptions {
        reuse_address: true,
        ..UdpOptions::default()
    };
    let (member, addr) = all.bind("0.0.0.0:0", &shared);
    let from = UdpOptions {
        multicast_interface: lo,
        multicast_ttl: Some(1),
        multicast_loop: Some(true),
        ..UdpOptions::default()
    };
    let (sender, _) = all.bind("127.0.0.1:0", &from);
    let to = SocketAddr::from((group, addr.port()));
    let direct = SocketAddr::from(([127, 0, 0, 1], addr.port()));
    let send = |all: &mut Udps, word: &[u8]| {
        let mut view = all.el.udp(sender).unwrap();
        view.send_to(to, word).unwrap();
        view.send_to(direct, b"end").unwrap();
    };
    send(&mut all, b"nobody joined");
    assert_eq!(all.take(1)[0].bytes, b"end");

    all.el
        .udp(member)
        .unwrap()
        .join_multicast(group.into(), lo)
        .unwrap();
    let again = all.el.udp(member).unwrap().join_multicast(group.into(), lo);
    assert_eq!(
        again.unwrap_err().errno(),
        Some(Errno::ADDRINUSE.raw_os_error())
    );
    send(&mut all, b"joined");
    let got = all.take(2);
    assert_eq!(
        (&got[0].bytes[..], got[0].to),
        (&b"joined"[..], Some(group.into()))
    );

    all.el
        .udp(member)
        .unwrap()
        .leave_multicast(group.into(), lo)
        .unwrap();
    send(&mut all, b"left");
    assert_eq!(all.take(1)[0].bytes, b"end");

    let source = Ipv4Addr::LOCALHOST.into();
    all.el
        .udp(member)
        .unwrap()
        .join_multicast_source(group.into(), source, lo)
        .unwrap();
    send(&mut all, b"from the source");
    assert_eq!(all.take(2)[0].bytes, b"from the source");
    all.el
        .udp(member)
        .unwrap()
        .leave_multicast_source(group.into(), source, lo)
        .unwrap();
    let no_group = all.el.udp(member).unwrap().join_multicast(source, lo);
    assert!(no_group.is_err());
}

#[test]
fn sockets_are_close_on_exec_and_have_the_options_asked_for() {
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let options = UdpOptions {
        reuse_port: true,
        reuse_address: true,
        broadcast: true,
        recv_buffer: Some(100_000),
        send_buffer: Some(50_000),
        ttl: Some(33),
        tos: Some(0x10),
        multicast_ttl: Some(5),
        multicast_loop: Some(false),
        ..UdpOptions::default()
    };
    let udp = el.bind_udp("127.0.0.1:0", &options).unwrap();
    let port = el.udp(udp).unwrap().local_addr().unwrap().port();
    let twin = el.bind_udp(SocketAddr::from(([127, 0, 0, 1], port)), &options);
    twin.expect("the port can be shared");
    let six = el.bind_udp("[::1]:0", &options);
    six.expect("IPv6 has all of them too");
    let mut sockets = 0;
    for entry in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let Ok(link) = std::fs::read_link(entry.path()) else {
            continue;
        };
        let Ok(info) = std::fs::read_to_string(format!("/proc/self/fdinfo/{name}")) else {
            continue;
        };
        if link.to_string_lossy().starts_with("socket:") {
            let flags = info.lines().find_map(|l| l.strip_prefix("flags:")).unwrap();
            let flags = u32::from_str_radix(flags.trim(), 8).unwrap();
            assert_ne!(flags & 0o2_000_000, 0, "O_CLOEXEC of {name}");
            sockets += 1;
        }
    }
    assert!(sockets >= 3);
}
