//! Unix sockets carry bytes as TCP does: half-close, back-pressure, large transfers, dead peers.

mod util;

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use echoloop_core::sys::{Sim, SimOptions, System};
use echoloop_core::{
    Addr, CloseReason, ConnId, ConnOptions, ConnectOptions, Event, EventLoop, ListenOptions,
    LoopOptions, UnixAddr,
};
use rustix::io::Errno;
use util::real::PATIENCE;

/// An abstract name nobody else has.
fn name() -> UnixAddr {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    UnixAddr::abstract_name(format!("echoloop-stream-{}-{count}", std::process::id()))
}

/// A loop, a client that does not block, and the connection it has become.
fn start(conn: ConnOptions) -> (EventLoop, UnixStream, ConnId) {
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let options = ListenOptions {
        conn,
        ..ListenOptions::default()
    };
    let addr = name();
    el.listen(addr.clone(), &options).unwrap();
    let client = connect(&addr);
    client.set_nonblocking(true).unwrap();
    let id = next(&mut el, |_, event| match event {
        Event::Accepted { conn, .. } => Some(conn),
        _ => None,
    });
    (el, client, id)
}

fn connect(addr: &UnixAddr) -> UnixStream {
    use std::os::linux::net::SocketAddrExt;
    let name = addr.as_abstract_name().unwrap();
    let addr = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
    UnixStream::connect_addr(&addr).unwrap()
}

fn next<T, S: System>(
    el: &mut EventLoop<S>,
    mut look: impl FnMut(&mut EventLoop<S>, Event) -> Option<T>,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "waited in vain");
        while let Some(event) = el.next_event() {
            if let Some(found) = look(el, event) {
                return found;
            }
        }
        el.poll(Some(Duration::from_millis(50))).unwrap();
    }
}

fn echo<S: System>(el: &mut EventLoop<S>, event: Event) {
    if let Event::Data { conn } = event {
        el.conn(conn).unwrap().send_received(usize::MAX).unwrap();
    }
}

fn until_closed<S: System>(el: &mut EventLoop<S>, id: ConnId) -> (CloseReason, u64) {
    next(el, |el, event| match event {
        Event::Closed {
            conn,
            reason,
            unsent,
        } if conn == id => Some((reason, unsent)),
        other => {
            echo(el, other);
            None
        }
    })
}

#[test]
fn a_client_that_sends_finishes_and_then_reads_gets_it_all_back() {
    let (mut el, mut client, id) = start(ConnOptions::default());
    let bytes: Vec<u8> = (0..16 << 20).map(|i: u32| (i ^ i >> 9) as u8).collect();
    let expected = bytes.clone();
    client.set_nonblocking(false).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut writer = client.try_clone().unwrap();
    let client = std::thread::spawn(move || {
        let writing = std::thread::spawn(move || {
            writer.write_all(&bytes).unwrap();
            writer.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        writing.join().unwrap();
        got
    });
    assert_eq!(until_closed(&mut el, id), (CloseReason::PeerFinished, 0));
    assert!(client.join().unwrap() == expected);
}

#[test]
fn a_client_that_does_not_read_is_not_read_from_until_it_does() {
    let (mut el, mut client, id) = start(ConnOptions::default());
    let chunk = vec![7; 64 << 10];
    let (mut sent, mut congested) = (0, false);
    // Until neither the loop nor the kernel takes more.
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "waited in vain");
        let refused = match client.write(&chunk) {
            Ok(n) => {
                sent += n;
                false
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => true,
            Err(e) => panic!("{e}"),
        };
        el.poll(Some(Duration::ZERO)).unwrap();
        let mut read = false;
        while let Some(event) = el.next_event() {
            congested |= matches!(event, Event::Congested { .. });
            read |= matches!(event, Event::Data { .. });
            echo(&mut el, event);
        }
        if refused && congested && !read {
            break;
        }
    }
    let most = 2 * ConnOptions::default().high_mark;
    assert!(el.conn(id).unwrap().queued() <= most);
    // It reads, and everything comes, and reading goes on.
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let (mut got, mut drained, mut ended) = (0, false, None);
    let mut buf = vec![0; 64 << 10];
    while ended.is_none() {
        assert!(Instant::now() < deadline, "waited in vain");
        match client.read(&mut buf) {
            Ok(n) => got += n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => panic!("{e}"),
        }
        el.poll(Some(Duration::ZERO)).unwrap();
        while let Some(event) = el.next_event() {
            drained |= matches!(event, Event::Drained { .. });
            if let Event::Closed { reason, unsent, .. } = event {
                ended = Some((reason, unsent));
            }
            echo(&mut el, event);
        }
    }
    assert!(drained);
    assert_eq!(ended, Some((CloseReason::PeerFinished, 0)));
    client.set_nonblocking(false).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    got += client.read_to_end(&mut buf).unwrap();
    assert_eq!(got, sent);
}

#[test]
fn we_finish_sending_and_still_receive() {
    let options = ConnOptions {
        half_open: true,
        ..ConnOptions::default()
    };
    let (mut el, mut client, id) = start(options);
    let mut view = el.conn(id).unwrap();
    view.send(b"the last of it").unwrap();
    view.shutdown_write().unwrap();
    el.poll(Some(Duration::ZERO)).unwrap();
    client.set_nonblocking(false).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"the last of it");
    client.write_all(b"thanks").unwrap();
    drop(client);
    next(&mut el, |el, event| match event {
        Event::Data { conn } => {
            let mut view = el.conn(conn).unwrap();
            assert_eq!(view.received(), b"thanks");
            view.consume(6);
            None
        }
        Event::Closed { reason, .. } => {
            assert_eq!(reason, CloseReason::PeerFinished);
            Some(())
        }
        _ => None,
    });
}

#[test]
fn a_client_that_goes_away_with_answers_on_the_way_is_a_reset_and_no_signal() {
    // SAFETY: the default of the signal, as a C host has it; no other test here counts on another.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let (mut el, client, id) = start(ConnOptions::default());
    el.conn(id).unwrap().send(&vec![1; 4 << 20]).unwrap();
    drop(client);
    let (reason, unsent) = until_closed(&mut el, id);
    assert_eq!(reason, CloseReason::Reset);
    assert!(unsent > 0);
    // And one that is sent to after it has gone.
    let (mut el, client, id) = start(ConnOptions::default());
    drop(client);
    el.conn(id).unwrap().send(b"anybody there?").unwrap();
    assert_eq!(until_closed(&mut el, id).0, CloseReason::Reset);
}

#[test]
fn all_that_came_before_the_end_is_read() {
    let options = ConnOptions {
        max_unread: 1 << 20,
        ..ConnOptions::default()
    };
    let (mut el, mut client, _) = start(options);
    let mut sent = 0;
    while let Ok(n) = client.write(&[3; 8192]) {
        sent += n;
    }
    drop(client);
    let mut got = 0;
    let reason = next(&mut el, |el, event| match event {
        Event::Data { conn } => {
            let mut view = el.conn(conn).unwrap();
            got += view.received().len();
            view.consume(usize::MAX);
            None
        }
        Event::Closed { reason, .. } => Some(reason),
        _ => None,
    });
    assert_eq!((got, reason), (sent, CloseReason::PeerFinished));
}

#[test]
fn a_close_sees_the_peer_finish_and_an_abort_does_not_wait() {
    let (mut el, mut client, id) = start(ConnOptions::default());
    el.conn(id).unwrap().send(b"bye").unwrap();
    el.conn(id).unwrap().close();
    el.poll(Some(Duration::ZERO)).unwrap();
    client.set_nonblocking(false).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"bye");
    drop(client);
    assert_eq!(until_closed(&mut el, id), (CloseReason::ClosedHere, 0));

    let (mut el, mut client, id) = start(ConnOptions::default());
    el.conn(id).unwrap().abort();
    assert_eq!(until_closed(&mut el, id), (CloseReason::AbortedHere, 0));
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn a_connect_to_a_full_backlog_waits_for_room() {
    let path = std::env::temp_dir().join(format!("echoloop-backlog-{}", std::process::id()));
    let server = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    server
        .bind(&socket2::SockAddr::unix(&path).unwrap())
        .unwrap();
    server.listen(0).unwrap();
    let server = UnixListener::from(server);
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let addr = Addr::from(UnixAddr::path(&path));
    let first = el.connect(&addr, &ConnectOptions::default()).unwrap();
    next(&mut el, |_, e| {
        (e == Event::Connected { conn: first }).then_some(())
    });
    let second = el.connect(&addr, &ConnectOptions::default()).unwrap();
    el.conn(second).unwrap().send(b"patience").unwrap();
    let paused = Event::ConnectPaused {
        conn: second,
        errno: Errno::AGAIN.raw_os_error(),
    };
    next(&mut el, |_, e| (e == paused).then_some(()));
    server.accept().unwrap();
    next(&mut el, |_, e| {
        (e == Event::Connected { conn: second }).then_some(())
    });
    let (mut accepted, _) = server.accept().unwrap();
    accepted.set_read_timeout(Some(PATIENCE)).unwrap();
    el.poll(Some(Duration::ZERO)).unwrap();
    let mut buf = [0; 8];
    accepted.read_exact(&mut buf).unwrap();
    assert_eq!(&buf, b"patience");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn the_simulated_system_takes_unix_addresses_too() {
    let sim = Sim::new(SimOptions::unkind(7));
    let mut el = EventLoop::with_system(sim.clone(), LoopOptions::default()).unwrap();
    let listener = el.listen("unix:/sim", &ListenOptions::default()).unwrap();
    assert_eq!(el.listener_addr(listener).unwrap().to_string(), "unix:/sim");
    let peer = sim.connect_to("unix:/sim");
    assert_eq!(peer.send(b"hello"), 5);
    let mut got = Vec::new();
    while got.len() < 5 {
        el.poll(Some(Duration::from_millis(1))).unwrap();
        while let Some(event) = el.next_event() {
            echo(&mut el, event);
        }
        got.extend(peer.receive(100));
    }
    assert_eq!(got, b"hello");
}
