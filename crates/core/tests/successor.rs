//! Sockets that are passed to a successor: nobody who waits in them is lost.

mod util;

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use echoloop_core::{
    ErrorKind, Event, EventLoop, Interest, ListenOptions, LoopOptions, UdpOptions, WatchMode,
};
use rustix::io::Errno;
use util::real::PATIENCE;

fn new_loop() -> EventLoop {
    EventLoop::new(LoopOptions::default()).unwrap()
}

/// The next event, within the patience of a test.
fn next(el: &mut EventLoop) -> Event {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(event) = el.next_event() {
            return event;
        }
        assert!(Instant::now() < deadline, "waited in vain");
        el.poll(Some(Duration::from_millis(100))).unwrap();
    }
}

#[test]
fn who_waits_in_the_backlog_is_accepted_by_the_successor() {
    let (mut old, mut new) = (new_loop(), new_loop());
    let options = ListenOptions::default();
    let listener = old.listen("127.0.0.1:0", &options).unwrap();
    let addr = old.listener_addr(listener).unwrap();
    let shared = old.share_listener(listener).unwrap();
    let waiting: Vec<_> = (0..20)
        .map(|_| TcpStream::connect(addr.ip().unwrap()).unwrap())
        .collect();
    old.close_listener(listener).unwrap();
    let adopted = new.adopt_listener(shared, &options).unwrap();
    assert_eq!(new.listener_addr(adopted).unwrap(), addr);
    for _ in &waiting {
        assert!(matches!(next(&mut new), Event::Accepted { listener, .. } if listener == adopted));
    }
    let gone = old.share_listener(listener).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::BadHandle);
}

#[test]
fn the_file_of_a_unix_socket_stays_for_the_successor() {
    let (mut old, mut new) = (new_loop(), new_loop());
    let path = std::env::temp_dir().join(format!("echoloop-successor-{}", std::process::id()));
    let options = ListenOptions::default();
    let on = format!("unix:{}", path.display());
    let listener = old.listen(&*on, &options).unwrap();
    let shared = old.share_listener(listener).unwrap();
    new.adopt_listener(shared, &options).unwrap();
    drop(old);
    let _client = UnixStream::connect(&path).unwrap();
    assert!(matches!(next(&mut new), Event::Accepted { .. }));
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn the_file_of_a_unix_socket_goes_when_the_successor_has_failed() {
    let mut old = new_loop();
    let path = std::env::temp_dir().join(format!("echoloop-failed-{}", std::process::id()));
    let options = ListenOptions::default();
    let on = format!("unix:{}", path.display());
    for fails in [true, false] {
        let listener = old.listen(&*on, &options).unwrap();
        let shared = old.share_listener(listener).unwrap();
        let shared = (!fails).then_some(shared);
        old.close_listener(listener).unwrap();
        assert_eq!(path.exists(), !fails);
        drop(shared);
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn datagrams_that_wait_are_received_by_the_successor() {
    let (mut old, mut new) = (new_loop(), new_loop());
    let options = UdpOptions::default();
    let udp = old.bind_udp("127.0.0.1:0", &options).unwrap();
    let addr = old.udp(udp).unwrap().local_addr().unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let shared = old.share_udp(udp).unwrap();
    peer.send_to(b"waits", addr).unwrap();
    old.close_udp(udp).unwrap();
    let adopted = new.adopt_udp(shared, &options).unwrap();
    assert_eq!(next(&mut new), Event::Datagrams { udp: adopted });
    let (datagrams, mut sender) = new.udp(adopted).unwrap().split();
    for d in datagrams {
        assert_eq!(d.bytes, b"waits");
        sender.send_to(d.from, b"answered").unwrap();
    }
    new.poll(Some(Duration::ZERO)).unwrap();
    let mut back = [0; 8];
    assert_eq!(peer.recv_from(&mut back).unwrap(), (8, addr));
    assert_eq!(old.share_udp(udp).unwrap_err().kind(), ErrorKind::BadHandle);
}

#[test]
fn only_udp_sockets_are_adopted_as_such() {
    let mut el = new_loop();
    let tcp = OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
    let (unix, _peer) = std::os::unix::net::UnixDatagram::pair().unwrap();
    let (pipe, _end) = std::io::pipe().unwrap();
    for (fd, what) in [(tcp, "stream"), (unix.into(), "unix")] {
        let refused = el.adopt_udp(fd, &UdpOptions::default()).unwrap_err();
        assert!(
            matches!(refused.kind(), ErrorKind::InvalidInput(_)),
            "{what}"
        );
    }
    let refused = el.adopt_udp(OwnedFd::from(pipe), &UdpOptions::default());
    assert_eq!(
        refused.unwrap_err().errno(),
        Some(Errno::NOTSOCK.raw_os_error())
    );
}

/// What could not be adopted was said to be not bound, or not listened on.
#[test]
fn a_socket_that_is_watched_already_is_refused_by_the_name_of_the_call() {
    let mut el = new_loop();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let (interest, mode) = (Interest::READABLE, WatchMode::Level);
    el.watch(&udp, interest, mode).unwrap();
    el.watch(&tcp, interest, mode).unwrap();
    let udp = el.adopt_udp(udp, &UdpOptions::default()).unwrap_err();
    let tcp = el.adopt_listener(tcp.into(), &ListenOptions::default());
    let tcp = tcp.unwrap_err();
    let exists = Some(Errno::EXIST.raw_os_error());
    assert_eq!((udp.errno(), tcp.errno()), (exists, exists));
    assert_eq!(udp.operation(), "adopt udp");
    assert_eq!(tcp.operation(), "adopt listener");
}
