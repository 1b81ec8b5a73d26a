//! Options of sockets, read back from the kernel or seen at work.

mod util;

use std::io::Write;
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use echoloop_core::sys::{Sim, SimOptions, System};
use echoloop_core::{
    ConnId, ConnOptions, ConnectOptions, Error, Event, EventLoop, Keepalive, ListenOptions,
    LoopOptions, Target,
};
use nix::sys::socket::GetSockOpt;
use rustix::io::Errno;
use rustix::net::sockopt;
use socket2::SockRef;
use util::real::PATIENCE;
use util::spy::spying;

/// Listens and connects; returns both ends once they are made: connected, accepted.
fn both_ends<S: System>(
    el: &mut EventLoop<S>,
    on: &str,
    listen: &ListenOptions,
    connect: &ConnectOptions,
) -> (ConnId, ConnId) {
    let listener = el.listen(on, listen).unwrap();
    let addr = el.listener_addr(listener).unwrap();
    let connected = el.connect(addr, connect).unwrap();
    let (mut accepted, mut made) = (None, false);
    let deadline = Instant::now() + PATIENCE;
    while accepted.is_none() || !made {
        assert!(Instant::now() < deadline, "waited in vain");
        el.poll(Some(PATIENCE)).unwrap();
        while let Some(event) = el.next_event() {
            match event {
                Event::Accepted { conn, .. } => accepted = Some(conn),
                Event::Connected { conn } => made = conn == connected,
                other => panic!("{other:?}"),
            }
        }
    }
    (connected, accepted.unwrap())
}

/// Everything that is not as by default.
fn strange() -> ConnOptions {
    ConnOptions {
        nodelay: false,
        keepalive: Some(Keepalive {
            idle: Duration::from_millis(110_500),
            interval: Duration::from_secs(7),
            count: 5,
        }),
        send_buffer: Some(50_000),
        recv_buffer: Some(60_000),
        notsent_lowat: Some(12_345),
        tos: Some(0x48),
        ..ConnOptions::default()
    }
}

fn assert_strange(socket: &OwnedFd, v6: bool) {
    let s = SockRef::from(socket);
    assert!(!s.tcp_nodelay().unwrap());
    assert!(s.keepalive().unwrap());
    assert_eq!(s.tcp_keepalive_time().unwrap(), Duration::from_secs(111));
    assert_eq!(s.tcp_keepalive_interval().unwrap(), Duration::from_secs(7));
    assert_eq!(s.tcp_keepalive_retries().unwrap(), 5);
    assert_eq!(s.send_buffer_size().unwrap(), 100_000);
    assert_eq!(s.recv_buffer_size().unwrap(), 120_000);
    assert_eq!(s.tcp_notsent_lowat().unwrap(), 12_345);
    assert_eq!(sockopt::ip_tos(socket).unwrap(), 0x48);
    if v6 {
        assert_eq!(sockopt::ipv6_tclass(socket).unwrap(), 0x48);
    }
}

#[test]
fn every_option_reaches_the_accepted_and_the_connected_socket() {
    for (on, v6) in [("127.0.0.1:0", false), ("[::1]:0", true)] {
        let (mut el, seen) = spying();
        let listen = ListenOptions {
            conn: strange(),
            ..ListenOptions::default()
        };
        let connect = ConnectOptions {
            conn: strange(),
            ..ConnectOptions::default()
        };
        both_ends(&mut el, on, &listen, &connect);
        let seen = seen.borrow();
        assert_strange(&seen.connected[0], v6);
        assert_strange(&seen.accepted[0], v6);
        assert_eq!(seen.tuned, 0, "no call of its own for what is inherited");
    }
}

#[test]
fn without_options_all_is_as_the_kernel_has_it_save_for_nodelay() {
    let (mut el, seen) = spying();
    both_ends(
        &mut el,
        "127.0.0.1:0",
        &ListenOptions::default(),
        &ConnectOptions::default(),
    );
    let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let plain = TcpStream::connect(plain.local_addr().unwrap()).unwrap();
    let plain = SockRef::from(&plain);
    let seen = seen.borrow();
    for socket in [&seen.connected[0], &seen.accepted[0]] {
        let s = SockRef::from(socket);
        assert!(s.tcp_nodelay().unwrap());
        assert_eq!(s.keepalive().unwrap(), plain.keepalive().unwrap());
        let lowat = plain.tcp_notsent_lowat().unwrap();
        assert_eq!(s.tcp_notsent_lowat().unwrap(), lowat);
        assert_eq!(s.tos_v4().unwrap(), plain.tos_v4().unwrap());
    }
}

#[test]
fn buffers_of_unix_sockets_are_set_and_options_of_tcp_left_out() {
    let (mut el, seen) = spying();
    let name = format!("unix:@echoloop-options-{}", std::process::id());
    let listen = ListenOptions {
        conn: strange(),
        defer_accept: Some(Duration::from_secs(1)),
        fast_open: Some(1),
        ..ListenOptions::default()
    };
    let connect = ConnectOptions {
        conn: strange(),
        ..ConnectOptions::default()
    };
    both_ends(&mut el, &name, &listen, &connect);
    let seen = seen.borrow();
    for socket in [&seen.connected[0], &seen.accepted[0]] {
        let s = SockRef::from(socket);
        assert_eq!(s.send_buffer_size().unwrap(), 100_000);
        assert_eq!(s.recv_buffer_size().unwrap(), 120_000);
        assert!(!s.keepalive().unwrap());
    }
}

#[test]
fn an_option_the_kernel_refuses_is_named() {
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let long = Keepalive {
        idle: Duration::from_secs(1 << 20),
        ..Keepalive::default()
    };
    let conn = ConnOptions {
        keepalive: Some(long),
        ..ConnOptions::default()
    };
    let listen = ListenOptions {
        conn: conn.clone(),
        ..ListenOptions::default()
    };
    let connect = ConnectOptions {
        conn,
        ..ConnectOptions::default()
    };
    let check = |e: Error, option: &str, errno: Errno| {
        assert_eq!(e.operation(), option);
        assert_eq!(e.errno(), Some(errno.raw_os_error()));
        assert!(matches!(e.target(), Some(Target::Addr(_))), "{e}");
    };
    let e = el.listen("127.0.0.1:0", &listen).unwrap_err();
    check(e, "set TCP_KEEPIDLE", Errno::INVAL);
    let e = el.connect("127.0.0.1:9", &connect).unwrap_err();
    check(e, "set TCP_KEEPIDLE", Errno::INVAL);

    let device = Some("no-such-thing".to_owned());
    let listen = ListenOptions {
        device: device.clone(),
        ..ListenOptions::default()
    };
    let connect = ConnectOptions {
        device,
        ..ConnectOptions::default()
    };
    let e = el.listen("127.0.0.1:0", &listen).unwrap_err();
    check(e, "set SO_BINDTODEVICE", Errno::NODEV);
    let e = el.connect("127.0.0.1:9", &connect).unwrap_err();
    check(e, "set SO_BINDTODEVICE", Errno::NODEV);

    // The name does not stick to what fails next.
    let e = el.listen("192.0.2.1:0", &ListenOptions::default());
    assert_eq!(e.unwrap_err().operation(), "listen");
    assert_eq!((el.live_handles(), el.connection_count()), (0, 0));
}

#[test]
fn a_device_is_bound_to_on_both_ends() {
    let (mut el, seen) = spying();
    let device = Some("lo".to_owned());
    let listen = ListenOptions {
        device: device.clone(),
        ..ListenOptions::default()
    };
    let connect = ConnectOptions {
        device,
        ..ConnectOptions::default()
    };
    both_ends(&mut el, "127.0.0.1:0", &listen, &connect);
    let seen = seen.borrow();
    for socket in [&seen.listeners[0], &seen.connected[0], &seen.accepted[0]] {
        let bound = SockRef::from(socket).device().unwrap();
        assert_eq!(bound.as_deref(), Some(&b"lo"[..]));
    }
}

#[test]
fn setters_change_what_a_living_connection_has() {
    let (mut el, seen) = spying();
    let (connected, accepted) = both_ends(
        &mut el,
        "127.0.0.1:0",
        &ListenOptions::default(),
        &ConnectOptions::default(),
    );
    let seen = std::mem::take(&mut *seen.borrow_mut());
    for (id, socket) in [
        (connected, &seen.connected[0]),
        (accepted, &seen.accepted[0]),
    ] {
        let s = SockRef::from(socket);
        let mut view = el.conn(id).unwrap();
        view.set_nodelay(false).unwrap();
        assert!(!s.tcp_nodelay().unwrap());
        view.set_keepalive(Some(Keepalive::default())).unwrap();
        assert!(s.keepalive().unwrap());
        assert_eq!(s.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
        view.set_keepalive(None).unwrap();
        assert!(!s.keepalive().unwrap());
        view.set_notsent_lowat(Some(4096)).unwrap();
        assert_eq!(s.tcp_notsent_lowat().unwrap(), 4096);
        view.set_notsent_lowat(None).unwrap();
        assert_eq!(s.tcp_notsent_lowat().unwrap(), 0);
        let none = Keepalive {
            count: 0,
            ..Keepalive::default()
        };
        let e = view.set_keepalive(Some(none)).unwrap_err();
        assert_eq!(e.operation(), "set TCP_KEEPCNT");
    }
}

#[test]
fn setters_of_tcp_options_are_errors_on_a_unix_socket() {
    let (mut el, _) = spying();
    let name = format!("unix:@echoloop-setters-{}", std::process::id());
    let (connected, _) = both_ends(
        &mut el,
        &name,
        &ListenOptions::default(),
        &ConnectOptions::default(),
    );
    let e = el.conn(connected).unwrap().set_nodelay(true).unwrap_err();
    assert_eq!(e.operation(), "set TCP_NODELAY");
    assert_eq!(e.errno(), Some(Errno::OPNOTSUPP.raw_os_error()));
}

#[test]
fn a_deferred_accept_waits_for_the_first_bytes() {
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let options = ListenOptions {
        defer_accept: Some(Duration::from_secs(60)),
        ..ListenOptions::default()
    };
    let listener = el.listen("127.0.0.1:0", &options).unwrap();
    let addr = el.listener_addr(listener).unwrap().ip().unwrap();
    let mut silent = TcpStream::connect(addr).unwrap();
    let mut talker = TcpStream::connect(addr).unwrap();
    for client in [&mut talker, &mut silent] {
        client.write_all(b"hello").unwrap();
        let local = client.local_addr().unwrap();
        // The one that has not sent anything yet is not accepted, although it came first.
        let accepted = next(&mut el, |event| match event {
            Event::Accepted { conn, .. } => Some(conn),
            _ => None,
        });
        let peer = el.conn(accepted).unwrap().peer_addr().ip().unwrap();
        assert_eq!(peer, local);
    }
}

#[test]
fn fast_open_is_set_on_the_listener() {
    let (mut el, seen) = spying();
    let options = ListenOptions {
        fast_open: Some(17),
        ..ListenOptions::default()
    };
    el.listen("127.0.0.1:0", &options).unwrap();
    let seen = seen.borrow();
    assert_eq!(FastOpen.get(&seen.listeners[0].as_fd()).unwrap(), 17);
}

#[test]
fn a_port_is_shared_only_when_both_ask_for_it() {
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let share = ListenOptions {
        reuse_port: true,
        ..ListenOptions::default()
    };
    let first = el.listen("127.0.0.1:0", &share).unwrap();
    let addr = el.listener_addr(first).unwrap();
    el.listen(&addr, &share).unwrap();
    let e = el.listen(&addr, &ListenOptions::default()).unwrap_err();
    assert_eq!(e.errno(), Some(Errno::ADDRINUSE.raw_os_error()));
    assert_eq!(e.target(), Some(&Target::Addr(addr)));
}

#[test]
fn an_ipv6_listener_leaves_ipv4_alone_unless_asked() {
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let six = el.listen("[::]:0", &ListenOptions::default()).unwrap();
    let port = el.listener_addr(six).unwrap().ip().unwrap().port();
    let four = format!("0.0.0.0:{port}");
    el.listen(four.as_str(), &ListenOptions::default()).unwrap();

    let dual = ListenOptions {
        ipv6_only: false,
        ..ListenOptions::default()
    };
    let both = el.listen("[::]:0", &dual).unwrap();
    let port = el.listener_addr(both).unwrap().ip().unwrap().port();
    let _client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let listener = next(&mut el, |event| match event {
        Event::Accepted { listener, .. } => Some(listener),
        _ => None,
    });
    assert_eq!(listener, both);
}

#[test]
fn a_closed_connection_lingers_as_long_as_its_option_says() {
    for millis in [0, 250, 3_000] {
        let linger = Duration::from_millis(millis);
        let sim = Sim::new(SimOptions::kind(1));
        let mut el = EventLoop::with_system(sim.clone(), LoopOptions::default()).unwrap();
        let options = ConnectOptions {
            conn: ConnOptions {
                linger,
                ..ConnOptions::default()
            },
            ..ConnectOptions::default()
        };
        let conn = el.connect("10.0.0.1:1", &options).unwrap();
        let peer = sim.connected_peer().unwrap();
        next(&mut el, |e| {
            matches!(e, Event::Connected { .. }).then_some(())
        });
        el.conn(conn).unwrap().send(b"last words").unwrap();
        let from = el.now();
        el.conn(conn).unwrap().close();
        next(&mut el, |e| matches!(e, Event::Closed { .. }).then_some(()));
        assert_eq!(el.now() - from, linger);
        assert_eq!(peer.receive(100), b"last words");
    }
}

/// Runs the loop until `look` finds what it wants.
fn next<T, S: System>(el: &mut EventLoop<S>, mut look: impl FnMut(Event) -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "waited in vain");
        while let Some(event) = el.next_event() {
            if let Some(found) = look(event) {
                return found;
            }
        }
        el.poll(Some(PATIENCE)).unwrap();
    }
}

mod fast_open {
    use nix::{getsockopt_impl, sockopt_impl};

    sockopt_impl!(
        FastOpen,
        GetOnly,
        libc::IPPROTO_TCP,
        libc::TCP_FASTOPEN,
        i32
    );
}
use fast_open::FastOpen;
