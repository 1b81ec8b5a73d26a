//! Limits finer than the number of connections, and the grace of a drain, with real clients.

mod util;

use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use echoloop_server::{Addr, CloseReason, Echo, Refusal, Server};
use util::{PATIENCE, Running, Told, echoes, was_reset};

#[test]
fn one_peer_has_its_maximum_and_others_have_theirs() {
    let server = Running::start(Server::builder().max_per_peer(2));
    let [mut first, _second] = [(); 2].map(|()| server.client_from("127.0.0.2"));
    let _other = server.client_from("127.0.0.3");
    for _ in 0..3 {
        assert_eq!(server.hear(), Told::Open);
    }
    let mut refused = server.client_from("127.0.0.2");
    let at = refused.local_addr().unwrap();
    assert_eq!(server.hear(), Told::Refused(at, Refusal::MaxPerPeer));
    was_reset(&mut refused);
    echoes(&mut first, b"served on");
    drop(first);
    assert_eq!(server.hear(), Told::Data);
    assert_eq!(server.hear(), Told::EndOfStream);
    assert_eq!(server.hear(), Told::Close(CloseReason::PeerFinished));
    let _third = server.client_from("127.0.0.2");
    assert_eq!(server.hear(), Told::Open);
    let (_, counters) = server.stop();
    assert_eq!((counters.refused, counters.refused_peer), (1, 1));
}

#[test]
fn who_comes_above_the_rate_is_refused_and_later_let_in() {
    let server = Running::start(Server::builder().accept_rate(2, 3));
    // The reset may come while connect is still under way.
    let clients: Vec<_> = (0..8).map(|_| TcpStream::connect(server.addr)).collect();
    let told: Vec<Told> = clients.iter().map(|_| server.hear()).collect();
    let refused = |t: &&Told| matches!(t, Told::Refused(_, Refusal::AcceptRate));
    let refusals = told.iter().filter(refused).count();
    // A token comes each half second, so on the slowest machine one or two more are let in.
    assert!((2..=5).contains(&refusals), "{told:?}");
    assert!(told[..3].iter().all(|t| *t == Told::Open), "{told:?}");
    let start = Instant::now();
    // With time who knocks is let in again.
    let mut knocking = Vec::new();
    loop {
        assert!(start.elapsed() < PATIENCE);
        knocking.push(TcpStream::connect(server.addr));
        if server.hear() == Told::Open {
            break;
        }
    }
    let (_, counters) = server.stop();
    assert_eq!(counters.refused, counters.refused_rate);
    assert!(counters.refused_rate >= refusals as u64);
}

#[test]
fn in_the_grace_of_a_drain_the_accepted_are_served_and_nobody_is_cut() {
    let builder = Server::builder().drain_grace(PATIENCE);
    let mut server = Running::start(builder);
    let mut silent = server.client();
    let mut busy = server.client();
    echoes(&mut busy, b"before");
    server.remote.stop().unwrap();
    // The listener is gone when a connect is refused.
    let start = Instant::now();
    while TcpStream::connect(server.addr).is_ok() {
        assert!(start.elapsed() < PATIENCE);
    }
    echoes(&mut silent, b"the first request, after the drain began");
    echoes(&mut busy, b"one more");
    for mut client in [silent, busy] {
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }
    // All have ended by themselves, so it ends long before the grace does.
    let (report, _) = server.thread.take().unwrap().join().unwrap();
    assert!(start.elapsed() < PATIENCE);
    assert_eq!((report.aborted, report.bytes_lost), (0, 0));
    assert!(report.closed_clean >= 2);
}

#[test]
fn at_the_end_of_the_grace_who_is_left_is_closed() {
    let grace = Duration::from_millis(200);
    let server = Running::start(Server::builder().drain_grace(grace));
    let mut client = server.client();
    echoes(&mut client, b"x");
    let start = Instant::now();
    server.remote.stop().unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    assert!(start.elapsed() >= grace);
    drop(client);
    let (report, _) = server.stop();
    assert_eq!((report.closed_clean, report.bytes_lost), (1, 0));
}

#[test]
fn a_hook_may_drain_with_a_grace_of_its_own() {
    let server = Running::start(Server::builder());
    let mut client = server.client();
    echoes(&mut client, b"before");
    server.remote.post(1).unwrap();
    while server.hear() != Told::Post(1) {}
    echoes(&mut client, b"served on, though the builder has no grace");
    // A stop ends the grace, in order.
    let (report, _) = server.stop();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    assert_eq!((report.closed_clean, report.bytes_lost), (1, 0));
}

#[test]
fn one_server_serves_tcp_unix_udp_and_an_inherited_listener() {
    let path = std::env::temp_dir().join(format!("echoloop-kinds-{}", std::process::id()));
    let inherited = TcpListener::bind("127.0.0.1:0").unwrap();
    let inherited_at = inherited.local_addr().unwrap();
    let inherited_udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut server = Server::builder()
        .listen("127.0.0.1:0")
        .listen("[::1]:0")
        .listen(&*format!("unix:{}", path.display()))
        .inherit(inherited)
        .bind_udp("127.0.0.1:0")
        .inherit(inherited_udp)
        .build()
        .unwrap();
    let addrs = server.local_addrs();
    let udps = server.udp_addrs();
    let remote = server.remote();
    let client = std::thread::spawn(move || {
        for at in [addrs[0].ip().unwrap(), addrs[1].ip().unwrap(), inherited_at] {
            let mut tcp = std::net::TcpStream::connect(at).unwrap();
            tcp.set_read_timeout(Some(PATIENCE)).unwrap();
            echoes(&mut tcp, b"tcp");
        }
        assert_eq!(addrs[3].ip(), Some(inherited_at));
        let mut unix = UnixStream::connect(path).unwrap();
        unix.set_read_timeout(Some(PATIENCE)).unwrap();
        echoes(&mut unix, b"unix");
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(udps.len(), 2);
        for udp in udps.iter().filter_map(Addr::ip) {
            for message in [&b"a datagram"[..], b"", &[7; 60_000]] {
                peer.send_to(message, udp).unwrap();
                let mut back = vec![0; 65_536];
                let (n, from) = peer.recv_from(&mut back).unwrap();
                assert_eq!((&back[..n], from), (message, udp));
            }
        }
        remote.stop().unwrap();
    });
    let report = server.run(&mut Echo).unwrap();
    client.join().unwrap();
    assert_eq!(report.bytes_lost, 0);
}
