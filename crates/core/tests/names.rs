//! Connecting by name on the real system: its resolver, sockets of loopback, and resolvers that are
//! slow, wrong or never answer.

mod util;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use echoloop_core::{
    CloseReason, ConnId, ConnectOptions, Deadline, ErrorKind, Event, EventLoop, LoopOptions,
    ResolveError, Resolver, Target,
};
use nix::errno::Errno;
use util::real::PATIENCE;

/// A loop that resolves names by this function.
fn resolving(
    resolve: impl Fn(&str) -> Result<Vec<IpAddr>, ResolveError> + Send + Sync + 'static,
) -> EventLoop {
    let options = LoopOptions {
        resolver: Some(Resolver::new(resolve)),
        ..LoopOptions::default()
    };
    EventLoop::new(options).unwrap()
}

fn system() -> EventLoop {
    EventLoop::new(LoopOptions::default()).unwrap()
}

/// The next event that ends a connect or a lookup.
fn answer(el: &mut EventLoop) -> Event {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        el.poll(Some(Duration::from_millis(50))).unwrap();
        while let Some(event) = el.next_event() {
            if !matches!(event, Event::ConnectPaused { .. }) {
                return event;
            }
        }
    }
    panic!("no answer");
}

fn within(timeout: Duration) -> ConnectOptions {
    ConnectOptions {
        timeout: Some(timeout),
        ..Default::default()
    }
}

fn reason_of(event: Event, id: ConnId) -> CloseReason {
    match event {
        Event::Closed { conn, reason, .. } if conn == id => reason,
        other => panic!("{other:?} is not the end of {id:?}"),
    }
}

/// Names whose lookups are held up until this is dropped.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn pass(&self) {
        let (open, opened) = &*self.0;
        let wait = opened.wait_timeout_while(open.lock().unwrap(), PATIENCE, |open| !*open);
        drop(wait.unwrap());
    }

    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

/// A listener whose backlog is full, so that Linux drops what else comes; and what fills it.
fn black_hole(addr: SocketAddr) -> (socket2::Socket, Vec<socket2::Socket>) {
    let new = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let hole = new();
    hole.bind(&addr.into()).unwrap();
    hole.listen(0).unwrap();
    let mut fill = Vec::new();
    loop {
        let client = new();
        let full = client.connect_timeout(&addr.into(), Duration::from_millis(100));
        fill.push(client);
        if full.is_err() {
            return (hole, fill);
        }
    }
}

#[test]
fn a_name_of_the_hosts_file_connects() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut el = system();
    let target = format!("localhost:{port}");
    let conn = el.connect(&*target, &ConnectOptions::default()).unwrap();
    let mut view = el.conn(conn).unwrap();
    view.send(b"before it is made").unwrap();
    assert_eq!(view.target().to_string(), target);
    assert_eq!(view.peer_addr().to_string(), format!("0.0.0.0:{port}"));
    assert_eq!(answer(&mut el), Event::Connected { conn });
    let view = el.conn(conn).unwrap();
    assert_eq!(view.peer_addr(), &listener.local_addr().unwrap().into());
    let (mut peer, _) = listener.accept().unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut read = [0; 17];
    std::io::Read::read_exact(&mut peer, &mut read).unwrap();
    assert_eq!(&read, b"before it is made");
    // What comes is heard of under the connection's own handle.
    std::io::Write::write_all(&mut peer, b"after").unwrap();
    assert_eq!(answer(&mut el), Event::Data { conn });
}

#[test]
fn a_name_whose_first_address_refuses_connects_to_the_second() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let both = ["::1".parse().unwrap(), "127.0.0.1".parse().unwrap()];
    let mut el = resolving(move |_| Ok(both.to_vec()));
    let start = Instant::now();
    let to = Target::try_from(("dual", port)).unwrap();
    let conn = el.connect(to, &ConnectOptions::default()).unwrap();
    assert_eq!(answer(&mut el), Event::Connected { conn });
    let view = el.conn(conn).unwrap();
    let [first, second] = view.attempts() else {
        panic!("{:?}", view.attempts())
    };
    assert_eq!(first.addr.to_string(), format!("[::1]:{port}"));
    assert!(first.errno.is_some(), "it refused, or there is no IPv6");
    assert_eq!(second.addr.to_string(), format!("127.0.0.1:{port}"));
    assert_eq!(second.errno, None);
    assert!(start.elapsed() < PATIENCE / 2);
}

#[test]
fn an_address_that_swallows_what_is_sent_costs_only_the_delay() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let _hole = black_hole(SocketAddr::from(([127, 0, 0, 2], port)));
    let both = ["127.0.0.2".parse().unwrap(), "127.0.0.1".parse().unwrap()];
    let mut el = resolving(move |_| Ok(both.to_vec()));
    let options = ConnectOptions {
        attempt_delay: Duration::from_millis(60),
        ..Default::default()
    };
    let start = Instant::now();
    let conn = el.connect(("half-dead", port), &options).unwrap();
    assert_eq!(answer(&mut el), Event::Connected { conn });
    assert!(start.elapsed() >= Duration::from_millis(60));
    assert!(start.elapsed() < PATIENCE / 2);
    let view = el.conn(conn).unwrap();
    assert!(view.attempts().iter().all(|tried| tried.errno.is_none()));
    assert_eq!(view.attempts().len(), 2);
}

#[test]
fn the_error_of_the_resolver_is_the_reason_with_code_name_and_text() {
    let failed = ResolveError::new(libc::EAI_AGAIN, 0);
    let mut el = resolving(move |_| Err(failed));
    let conn = el.connect("x:1", &ConnectOptions::default()).unwrap();
    let reason = reason_of(answer(&mut el), conn);
    assert_eq!(reason, CloseReason::ResolveFailed(failed));
    assert!(el.conn(conn).unwrap().attempts().is_empty());

    let lookup = el.resolve("x", None).unwrap();
    assert_eq!(answer(&mut el), Event::Resolved { lookup });
    let e = el.resolved(lookup).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Resolve(failed));
    let text = "resolve x:0: name resolution failed: Temporary failure in name resolution \
                (EAI_AGAIN)";
    assert_eq!(e.to_string(), text);
}

#[test]
fn the_systems_resolver_says_no_without_a_network() {
    // A label of 64 bytes: RFC 1035, 2.3.4 allows 63, so no server need be asked.
    let mut el = system();
    let lookup = el.resolve(&"a".repeat(64), Some(PATIENCE)).unwrap();
    assert_eq!(answer(&mut el), Event::Resolved { lookup });
    let e = el.resolved(lookup).unwrap_err();
    let ErrorKind::Resolve(e) = e.kind() else {
        panic!("{e}")
    };
    assert!(e.code() != 0 && e.name().starts_with("EAI_"), "{e}");
    assert_ne!(e.name(), "EAI_UNKNOWN");
}

#[test]
fn what_no_resolver_should_be_asked_is_an_error_of_the_call() {
    let mut el = resolving(|host| panic!("asked for {host}"));
    let long = "a".repeat(255);
    for host in [
        "",
        " ",
        "a b",
        "fe80::1%lo",
        "[::1]",
        "a:1",
        "/etc",
        &long,
        "a\0",
    ] {
        let e = el.resolve(host, None).unwrap_err();
        assert!(
            matches!(e.kind(), ErrorKind::InvalidInput(_)),
            "{host}: {e}"
        );
    }
    assert_eq!(el.live_handles(), 0);
}

const BUG: &str = "a bug in the resolver";

#[test]
fn an_empty_answer_and_a_panic_are_errors_of_the_resolver() {
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref() != Some(&BUG) {
            loud(info);
        }
    }));
    let mut el = resolving(|host| match host {
        "nothing" => Ok(Vec::new()),
        _ => std::panic::panic_any(BUG),
    });
    for (host, code) in [("nothing", libc::EAI_NODATA), ("bug", libc::EAI_FAIL)] {
        for _ in 0..10 {
            let lookup = el.resolve(host, None).unwrap();
            assert_eq!(answer(&mut el), Event::Resolved { lookup });
            let kind = el.resolved(lookup).unwrap_err().kind();
            assert_eq!(kind, ErrorKind::Resolve(ResolveError::new(code, 0)));
        }
    }
}

#[test]
fn a_name_that_is_never_answered_ends_at_the_deadline() {
    let gate = Gate::default();
    let held = gate.clone();
    let mut el = resolving(move |_| {
        held.pass();
        Ok(vec!["127.0.0.1".parse().unwrap()])
    });
    let short = Duration::from_millis(80);
    let start = Instant::now();
    let conn = el.connect("never:1", &within(short)).unwrap();
    let reason = reason_of(answer(&mut el), conn);
    assert_eq!(reason, CloseReason::TimedOut(Deadline::Connect));
    let lookup = el.resolve("never", Some(short)).unwrap();
    assert_eq!(answer(&mut el), Event::Resolved { lookup });
    let e = el.resolved(lookup).unwrap_err();
    assert_eq!(e.errno(), Some(Errno::ETIMEDOUT as i32));
    assert!(start.elapsed() >= short * 2 && start.elapsed() < PATIENCE / 2);
    // The threads come back, and their late answers are nobody's.
    gate.open();
    let lookup = el.resolve("now", None).unwrap();
    assert_eq!(answer(&mut el), Event::Resolved { lookup });
    assert!(el.resolved(lookup).is_ok());
    assert_eq!(el.next_event(), None);
    assert_eq!(el.live_handles(), 0);
}

#[test]
fn too_many_lookups_are_refused_and_cancelled_ones_make_room() {
    let gate = Gate::default();
    let held = gate.clone();
    let mut el = resolving(move |_| {
        held.pass();
        Ok(vec!["127.0.0.1".parse().unwrap()])
    });
    let mut lookups: Vec<_> = (0..1024)
        .map(|_| el.resolve("slow", None).unwrap())
        .collect();
    let e = el.resolve("slow", None).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::TooMany);
    let e = el
        .connect("slow:1", &ConnectOptions::default())
        .unwrap_err();
    assert_eq!(e.kind(), ErrorKind::TooMany);
    assert_eq!(
        e.to_string(),
        "connect slow:1: too many objects of this kind"
    );
    assert_eq!(
        el.live_handles(),
        1024,
        "nothing is left of those that were refused"
    );
    for cancelled in lookups.drain(..1000) {
        el.cancel_lookup(cancelled).unwrap();
    }
    let conn = el.connect("slow:1", &ConnectOptions::default()).unwrap();
    el.conn(conn).unwrap().close();
    lookups.push(el.resolve("slow", None).unwrap());
    assert_eq!(reason_of(answer(&mut el), conn), CloseReason::ClosedHere);
    gate.open();
    while !lookups.is_empty() {
        let Event::Resolved { lookup } = answer(&mut el) else {
            panic!("only the lookups that are left are told")
        };
        let place = lookups.iter().position(|l| *l == lookup).expect("once");
        lookups.swap_remove(place);
    }
    assert_eq!(el.next_event(), None);
    assert_eq!(el.live_handles(), 0);
}

#[test]
fn a_connect_that_all_refuse_tells_all_that_was_tried() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = unused.local_addr().unwrap().port();
    drop(unused);
    let all: Vec<IpAddr> = (1..5).map(|n| IpAddr::from([127, 0, 0, n])).collect();
    let tried: Vec<_> = all
        .iter()
        .map(|ip| {
            (
                SocketAddr::new(*ip, port).to_string(),
                Some(Errno::ECONNREFUSED as i32),
            )
        })
        .collect();
    let mut el = resolving(move |_| Ok(all.clone()));
    let conn = el
        .connect(("nobody", port), &ConnectOptions::default())
        .unwrap();
    let refused = CloseReason::ConnectFailed(Errno::ECONNREFUSED as i32);
    assert_eq!(reason_of(answer(&mut el), conn), refused);
    let view = el.conn(conn).unwrap();
    let told = view
        .attempts()
        .iter()
        .map(|a| (a.addr.to_string(), a.errno));
    assert_eq!(told.collect::<Vec<_>>(), tried);
    assert_eq!(el.next_event(), None);
    assert_eq!(el.live_handles(), 0);
}
