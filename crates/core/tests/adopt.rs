//! Sockets that change hands: adopted, given away, handed to another loop. Nothing is lost on the
//! way, and the peer notices nothing.

mod util;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use echoloop_core::{
    CloseReason, ConnId, ConnOptions, ConnectOptions, ErrorKind, Event, EventLoop, LoopOptions,
    Remote,
};
use util::Random;
use util::real::{PATIENCE, Real, read_some, write_some};

fn new_loop() -> EventLoop {
    EventLoop::new(LoopOptions::default()).unwrap()
}

fn given_away(event: Event, id: ConnId) -> bool {
    event
        == Event::Closed {
            conn: id,
            reason: CloseReason::GivenAway,
            unsent: 0,
        }
}

/// Reads to the end of stream, with a deadline.
fn read_to_end(mut client: TcpStream) -> Vec<u8> {
    client.set_nonblocking(false).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut all = Vec::new();
    client.read_to_end(&mut all).unwrap();
    all
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

#[test]
fn an_adopted_socket_is_a_connection_as_any_other() {
    let (unix, unix_peer) = UnixStream::pair().unwrap();
    let (tcp, tcp_peer) = tcp_pair();
    let peers: [(OwnedFd, OwnedFd); 2] = [
        (unix.into(), unix_peer.into()),
        (tcp.into(), tcp_peer.into()),
    ];
    for (ours, theirs) in peers {
        let mut real = Real::new(ConnOptions::default());
        let mut peer = TcpStream::from(theirs);
        peer.write_all(b"sent before").unwrap(); // And so before the kernel was asked to report.
        let conn = real.el.adopt(ours, &ConnOptions::default()).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        let mut events = Vec::new();
        real.until(|el, e| {
            events.push(e);
            if let Event::Data { conn } = e {
                el.conn(conn).unwrap().send_received(usize::MAX).unwrap();
            }
            matches!(e, Event::Closed { .. }).then_some(())
        });
        assert_eq!(
            events,
            [
                Event::Adopted { conn },
                Event::Data { conn },
                Event::EndOfStream { conn },
                Event::Closed {
                    conn,
                    reason: CloseReason::PeerFinished,
                    unsent: 0
                }
            ]
        );
        assert_eq!(read_to_end(peer), b"sent before");
        assert_eq!(real.el.counters().adopted, 1);
    }
}

#[test]
fn an_adopted_socket_does_not_block_and_is_closed_on_exec() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    rustix::io::fcntl_setfd(&ours, rustix::io::FdFlags::empty()).unwrap();
    let mut real = Real::new(ConnOptions::default());
    let conn = real.el.adopt(ours, &ConnOptions::default()).unwrap();
    let given = real.el.give_away(conn).unwrap();
    let fd = given.socket.as_fd();
    let flags = rustix::io::fcntl_getfd(fd).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    assert!(socket2::SockRef::from(&fd).nonblocking().unwrap());
}

#[test]
fn a_socket_that_can_not_be_adopted_comes_back_unharmed() {
    let mut el = new_loop();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let bare = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    let refused: [(OwnedFd, &str); 4] = [
        (
            listener.into(),
            "adopt: it listens: only a connected socket can be adopted",
        ),
        (udp.into(), "adopt: it is no stream socket"),
        (
            bare.into(),
            "adopt: Transport endpoint is not connected (ENOTCONN)",
        ),
        (
            file.into(),
            "adopt: Socket operation on non-socket (ENOTSOCK)",
        ),
    ];
    for (fd, text) in refused {
        let number = format!("{fd:?}");
        let blocks = |fd: &OwnedFd| !socket2::SockRef::from(fd).nonblocking().unwrap();
        assert!(blocks(&fd));
        let e = el.adopt(fd, &ConnOptions::default()).unwrap_err();
        assert_eq!(e.to_string(), text);
        assert_eq!(format!("{:?}", e.socket), number);
        assert!(blocks(&e.socket), "{text}");
    }
    assert_eq!(el.live_handles(), 0);
}

#[test]
fn giving_away_in_the_data_handler_loses_no_byte_of_either_direction() {
    let mut real = Real::new(ConnOptions {
        send_cap: 64 << 20,
        ..ConnOptions::default()
    });
    let (mut client, conn) = real.pair();
    let mut expected = b"first, small".to_vec();
    expected.extend(Random::new(7).bytes(12 << 20)); // More than the kernel takes (F8).
    client.write_all(b"used, unread").unwrap();
    let bulk = expected[12..].to_vec();
    let given = real.until(|el, e| {
        let Event::Data { conn } = e else { return None };
        let mut view = el.conn(conn).unwrap();
        view.set_user_data(77);
        view.consume(6);
        view.send(b"first, small").unwrap(); // Only gathered.
        view.send(&bulk).unwrap();
        view.send(b"last").unwrap();
        let given = el.give_away(conn).unwrap();
        assert!(el.conn(conn).unwrap().received().is_empty());
        Some(given)
    });
    expected.extend(b"last");
    assert!(given_away(real.until_closed(conn), conn));
    assert_eq!(real.el.buffered(), 0);

    assert_eq!(given.unread, b"unread");
    assert_eq!((given.user_data, given.finishing), (77, false));
    assert_eq!(
        given.peer.ip(),
        Some(client.local_addr().unwrap()),
        "the peer is known"
    );
    assert!(!given.unsent.is_empty() && expected.ends_with(&given.unsent));
    let reader = thread::spawn(move || read_to_end(client));
    let mut socket = TcpStream::from(given.socket);
    socket.set_nonblocking(false).unwrap();
    socket.write_all(&given.unsent).unwrap();
    drop(socket);
    assert!(reader.join().unwrap() == expected);
}

#[test]
fn a_parked_broadcast_goes_along_with_the_connection() {
    let mut real = Real::new(ConnOptions::default());
    let (client, a) = real.pair();
    let (_other, b) = real.pair();
    real.el.send(a, b"one ").unwrap();
    real.el.send(b, b"for somebody else").unwrap();
    real.el.send(a, b"two").unwrap();
    let given = real.el.give_away(a).unwrap();
    assert!(given.unsent.is_empty(), "the kernel had room");
    drop(given);
    assert_eq!(read_to_end(client), b"one two");
}

#[test]
fn what_is_on_its_way_in_or_out_is_not_given_away() {
    let mut real = Real::new(ConnOptions::default());
    let connecting = real
        .el
        .connect(real.addr, &ConnectOptions::default())
        .unwrap();
    let kind = real.el.give_away(connecting).unwrap_err().kind();
    assert!(matches!(kind, ErrorKind::InvalidInput(_)));
    let (_client, conn) = real.pair();
    real.el.conn(conn).unwrap().close();
    let kind = real.el.give_away(conn).unwrap_err().kind();
    assert_eq!(kind, ErrorKind::Closing);
    real.until_closed(conn);
    real.run_until(|el| el.conn(conn).is_err());
    let remote = real.el.remote();
    for e in [
        real.el.give_away(conn).unwrap_err(),
        real.el.hand_over(conn, &remote).unwrap_err(),
    ] {
        assert_eq!(e.kind(), ErrorKind::BadHandle);
    }
}

#[test]
fn a_connection_handed_over_goes_on_in_order_with_the_posts() {
    let mut real = Real::new(ConnOptions::default());
    let (mut client, conn) = real.pair();
    let mut other = new_loop();
    client.write_all(b"question").unwrap();
    real.until(|el, e| {
        let Event::Data { conn } = e else { return None };
        let mut view = el.conn(conn).unwrap();
        view.set_user_data(5);
        view.consume(4);
        view.send(b"answer ").unwrap();
        other.remote().post(1).unwrap();
        el.hand_over(conn, &other.remote()).unwrap();
        other.remote().post(2).unwrap();
        Some(())
    });
    assert!(given_away(real.until_closed(conn), conn));
    let mut events = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while !matches!(events.last(), Some(Event::Data { .. })) {
        assert!(Instant::now() < deadline, "{events:?}");
        other.poll(Some(Duration::from_millis(50))).unwrap();
        while let Some(event) = other.next_event() {
            if let Event::Data { conn } = event {
                let mut view = other.conn(conn).unwrap();
                assert_eq!((view.received(), view.user_data()), (&b"tion"[..], 5));
                view.send_received(usize::MAX).unwrap();
                view.close();
            }
            events.push(event);
        }
    }
    assert!(matches!(
        events[..],
        [
            Event::Posted { word: 1 },
            Event::Adopted { .. },
            Event::Posted { word: 2 },
            Event::Data { .. }
        ]
    ));
    assert_eq!(read_to_end(client), b"answer tion");
    assert_eq!(
        (real.el.counters().given_away, other.counters().adopted),
        (1, 1)
    );
}

#[test]
fn a_half_close_that_waits_for_its_flush_is_finished_by_the_other_loop() {
    let mut real = Real::new(ConnOptions {
        send_cap: 64 << 20,
        half_open: true,
        ..ConnOptions::default()
    });
    let (client, conn) = real.pair();
    let bytes = Random::new(3).bytes(12 << 20);
    let mut view = real.el.conn(conn).unwrap();
    view.send(&bytes).unwrap();
    view.shutdown_write().unwrap();
    assert!(view.queued() > 0);
    let mut other = new_loop();
    real.el.hand_over(conn, &other.remote()).unwrap();
    let reader = thread::spawn(move || read_to_end(client) == bytes);
    let deadline = Instant::now() + PATIENCE;
    let mut closed = false;
    while !closed {
        assert!(Instant::now() < deadline, "waited in vain");
        other.poll(Some(Duration::from_millis(50))).unwrap();
        while let Some(event) = other.next_event() {
            closed |= matches!(
                event,
                Event::Closed {
                    reason: CloseReason::PeerFinished,
                    ..
                }
            );
        }
    }
    assert!(reader.join().unwrap());
}

#[test]
fn a_connection_whose_new_loop_is_gone_or_full_stays_intact() {
    let mut real = Real::new(ConnOptions::default());
    let (mut client, conn) = real.pair();
    let gone = new_loop().remote();
    let full = EventLoop::new(LoopOptions {
        post_capacity: 1,
        ..LoopOptions::default()
    })
    .unwrap();
    full.remote().post(1).unwrap();
    client.write_all(b"still here").unwrap();
    real.until(|el, e| {
        let Event::Data { conn } = e else { return None };
        let kind = |el: &mut EventLoop, to: &Remote| el.hand_over(conn, to).unwrap_err().kind();
        assert_eq!(kind(el, &gone), ErrorKind::Closed);
        assert_eq!(kind(el, &full.remote()), ErrorKind::QueueFull);
        el.conn(conn).unwrap().send_received(usize::MAX).unwrap();
        el.conn(conn).unwrap().close();
        Some(())
    });
    let client = thread::spawn(move || read_to_end(client));
    real.until_closed(conn);
    assert_eq!(client.join().unwrap(), b"still here");
}

#[test]
fn a_connection_on_its_way_to_a_loop_that_ends_is_closed() {
    let mut real = Real::new(ConnOptions::default());
    let (client, conn) = real.pair();
    let other = new_loop();
    real.el.hand_over(conn, &other.remote()).unwrap();
    drop(other);
    assert!(read_to_end(client).is_empty());
}

/// Echoes, and now and then hands the connection to the other loop, in the middle of anything.
fn juggle(mut el: EventLoop, to: &Remote, seed: u64) -> EventLoop {
    let mut random = Random::new(seed);
    let deadline = Instant::now() + 2 * PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "waited in vain");
        el.poll(Some(Duration::from_millis(50))).unwrap();
        while let Some(event) = el.next_event() {
            match event {
                Event::Data { conn } => {
                    let mut view = el.conn(conn).unwrap();
                    let part = random.below(view.received().len() as u64 + 1) as usize;
                    view.send_received(part).unwrap();
                    if random.one_in(3) {
                        el.hand_over(conn, to).unwrap();
                    } else {
                        el.conn(conn).unwrap().send_received(usize::MAX).unwrap();
                    }
                }
                Event::Stop => return el,
                _ => {}
            }
        }
    }
}

#[test]
fn connections_juggled_between_two_threads_lose_no_byte_and_keep_order() {
    let real = Real::new(ConnOptions::default());
    let inputs: Vec<Vec<u8>> = (0..12).map(|n| Random::new(n).bytes(300_000)).collect();
    let mut clients: Vec<_> = inputs
        .iter()
        .map(|input| (real.client(), &input[..], Vec::new(), false))
        .collect();
    let (here, there) = (real.el, new_loop());
    let (to_here, to_there) = (here.remote(), there.remote());
    let threads = [(here, to_there.clone(), 1), (there, to_here.clone(), 2)]
        .map(|(el, to, seed)| thread::spawn(move || juggle(el, &to, seed)));
    let deadline = Instant::now() + PATIENCE;
    let mut random = Random::new(9);
    while clients.iter().any(|(.., ended)| !ended) {
        assert!(Instant::now() < deadline, "waited in vain");
        for (client, unsent, output, ended) in &mut clients {
            if !unsent.is_empty() {
                let piece = unsent.len().min(1 + random.below(40_000) as usize);
                *unsent = &unsent[write_some(client, &unsent[..piece])..];
                if unsent.is_empty() {
                    client.shutdown(Shutdown::Write).unwrap();
                }
            }
            *ended |= read_some(client, output);
        }
    }
    to_here.stop().unwrap();
    to_there.stop().unwrap();
    let [here, there] = threads.map(|t| t.join().unwrap());
    for (n, (input, (_, _, output, _))) in inputs.iter().zip(&clients).enumerate() {
        assert!(input == output, "client {n}");
    }
    let handed = here.counters().given_away + there.counters().given_away;
    assert!(handed > 10, "{handed}");
    assert_eq!(handed, here.counters().adopted + there.counters().adopted);
    assert_eq!(here.buffered() + there.buffered(), 0);
}
