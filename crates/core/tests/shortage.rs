//! Connects without descriptors or ports, on the real system. Limits hold for a whole process, so
//! each test runs itself once more in a process of its own; that for ports in a network of its own,
//! which takes the rights to make one.

mod util;

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use echoloop_core::{
    CloseReason, ConnId, ConnectOptions, Event, EventLoop, Interest, ListenOptions, LoopOptions,
    Resolver, WatchMode,
};
use nix::errno::Errno;
use nix::sys::resource::{Resource, UsageWho, getrusage, setrlimit};
use util::real::PATIENCE;

const CHILD: &str = "ECHOLOOP_TEST_CHILD";
const EMFILE: i32 = Errno::EMFILE as i32;
const NO_ADDR: i32 = Errno::EADDRNOTAVAIL as i32;

/// Whether this is the process that the test `name` is to run in; if not, runs it there by
/// `wrapper`, a shell script with "$@" in it, and answers false.
fn in_child(name: &str, wrapper: &str) -> bool {
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let mut shell = Command::new("sh");
    shell.args(["-c", wrapper, "sh"]);
    shell.arg(std::env::current_exe().unwrap());
    shell.args(["--exact", name, "--nocapture", "--test-threads=1"]);
    let Output {
        status,
        stdout,
        stderr,
    } = shell.env(CHILD, "1").output().unwrap();
    let text = [stdout, stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(status.success() && text.contains("1 passed"), "{text}");
    false
}

fn next(el: &mut EventLoop) -> Event {
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "no event came");
        el.poll(Some(Duration::from_millis(500))).unwrap();
        if let Some(event) = el.next_event() {
            return event;
        }
    }
}

fn connect(el: &mut EventLoop, to: SocketAddr) -> ConnId {
    el.connect(to, &ConnectOptions::default()).unwrap()
}

/// Connects until one has to wait; returns those that are made and the one that waits.
fn until_paused(el: &mut EventLoop, to: SocketAddr, errno: i32) -> (Vec<ConnId>, ConnId) {
    let mut made = Vec::new();
    loop {
        let conn = connect(el, to);
        match next(el) {
            Event::Connected { conn: id } if id == conn => made.push(conn),
            event => {
                assert_eq!(event, Event::ConnectPaused { conn, errno });
                return (made, conn);
            }
        }
        assert!(made.len() < 1000, "the limit does not hold");
    }
}

fn abort(el: &mut EventLoop, conn: ConnId) {
    el.conn(conn).unwrap().abort();
    let reason = CloseReason::AbortedHere;
    assert_eq!(
        next(el),
        Event::Closed {
            conn,
            reason,
            unsent: 0
        }
    );
}

#[test]
fn a_connect_without_a_descriptor_waits_for_one_and_goes_on() {
    if !in_child(
        "a_connect_without_a_descriptor_waits_for_one_and_goes_on",
        r#"exec "$@""#,
    ) {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let spare = File::open("/dev/null").unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 40, 40).unwrap();
    let (mut made, paused) = until_paused(&mut el, addr, EMFILE);
    el.conn(paused)
        .unwrap()
        .send(b"taken while it waits")
        .unwrap();

    // At the limit the loop is at rest: it looks ten times a second.
    let cpu = || {
        let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
        let times = [usage.user_time(), usage.system_time()];
        times
            .map(|t| t.tv_sec() * 1_000_000 + t.tv_usec())
            .iter()
            .sum::<i64>()
    };
    let (start, before) = (Instant::now(), cpu());
    while start.elapsed() < Duration::from_secs(1) {
        el.poll(Some(Duration::from_secs(1) - start.elapsed()))
            .unwrap();
        assert_eq!(el.next_event(), None, "a pause is told once");
    }
    assert!(
        cpu() - before < 10_000,
        "{} µs of CPU in a second",
        cpu() - before
    );

    // One of the loop's own: at once.
    let start = Instant::now();
    abort(&mut el, made.pop().unwrap());
    assert_eq!(next(&mut el), Event::Connected { conn: paused });
    assert!(
        start.elapsed() < Duration::from_millis(90),
        "{:?}",
        start.elapsed()
    );

    // One of the program's: soon.
    let paused = connect(&mut el, addr);
    assert_eq!(
        next(&mut el),
        Event::ConnectPaused {
            conn: paused,
            errno: EMFILE
        }
    );
    drop(spare);
    assert_eq!(next(&mut el), Event::Connected { conn: paused });

    // None at all: the deadline tells why.
    let options = ConnectOptions {
        timeout: Some(Duration::from_millis(250)),
        ..Default::default()
    };
    let conn = el.connect(addr, &options).unwrap();
    assert_eq!(
        next(&mut el),
        Event::ConnectPaused {
            conn,
            errno: EMFILE
        }
    );
    let reason = CloseReason::ConnectFailed(EMFILE);
    assert_eq!(
        next(&mut el),
        Event::Closed {
            conn,
            reason,
            unsent: 0
        }
    );
    assert_eq!(el.counters().connect_pauses, 3);
}

/// Runs "$@" in a network with nothing but four ports and no IPv6, or says why not.
const FOUR_PORTS: &str = r#"
unshare -n true 2>/dev/null || { echo "1 passed, no: may not make a network"; exit 0; }
exec unshare -n sh -c '
    echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6
    ip link set lo up || exit 1
    echo 40000 40003 > /proc/sys/net/ipv4/ip_local_port_range || exit 1
    exec "$@"' sh "$@"
"#;

#[test]
fn a_connect_without_a_port_waits_for_one_and_goes_on() {
    if !in_child(
        "a_connect_without_a_port_waits_for_one_and_goes_on",
        FOUR_PORTS,
    ) {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:7007").unwrap();
    let addr = listener.local_addr().unwrap();
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let (mut made, paused) = until_paused(&mut el, addr, NO_ADDR);
    assert_eq!(made.len(), 4);
    abort(&mut el, made.pop().unwrap()); // A reset leaves no TIME_WAIT.
    assert_eq!(next(&mut el), Event::Connected { conn: paused });

    // A port of one local address is wanted: the same.
    let options = ConnectOptions {
        local: Some("127.0.0.1:0".parse().unwrap()),
        ..Default::default()
    };
    let conn = el.connect(addr, &options).unwrap();
    let Event::ConnectPaused { conn: paused, .. } = next(&mut el) else {
        panic!("it does not wait")
    };
    assert_eq!(paused, conn);
    abort(&mut el, made.pop().unwrap());
    assert_eq!(next(&mut el), Event::Connected { conn });
}

#[test]
fn an_address_that_this_machine_cannot_reach_is_not_waited_for() {
    if !in_child(
        "an_address_that_this_machine_cannot_reach_is_not_waited_for",
        FOUR_PORTS,
    ) {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:7007").unwrap();
    let both = ["::1".parse().unwrap(), "127.0.0.1".parse().unwrap()];
    let resolver = Resolver::new(move |_| Ok(both.to_vec()));
    let mut el = EventLoop::new(LoopOptions {
        resolver: Some(resolver),
        ..LoopOptions::default()
    })
    .unwrap();
    let conn = el.connect("both:7007", &ConnectOptions::default()).unwrap();
    assert_eq!(next(&mut el), Event::Connected { conn });
    let view = el.conn(conn).unwrap();
    assert_eq!(view.attempts()[0].errno, Some(NO_ADDR), "no IPv6 here");
    assert_eq!(view.attempts().len(), 2);
    let e = el
        .connect("[::1]:7007", &ConnectOptions::default())
        .unwrap_err();
    assert_eq!(e.errno(), Some(NO_ADDR));
    let local = ConnectOptions {
        local: Some("192.0.2.1:0".parse().unwrap()),
        ..Default::default()
    };
    let e = el
        .connect(listener.local_addr().unwrap(), &local)
        .unwrap_err();
    assert_eq!(e.errno(), Some(NO_ADDR), "not an address of this machine");
    assert_eq!(el.counters().connect_pauses, 0);
}

#[test]
fn a_full_backlog_of_a_unix_socket_is_waited_for() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};
    let name = format!("echoloop-shortage-{}", std::process::id());
    let addr = SocketAddr::from_abstract_name(&name);
    let listener = UnixListener::bind_addr(&addr.unwrap()).unwrap();
    let shallow = socket2::SockRef::from(&listener);
    shallow.listen(0).unwrap();
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let to = format!("unix:@{name}");
    let mut made = 0;
    let paused = loop {
        let conn = el.connect(&*to, &ConnectOptions::default()).unwrap();
        match next(&mut el) {
            Event::Connected { .. } => made += 1,
            Event::ConnectPaused { conn: id, errno } => {
                assert_eq!((id, errno), (conn, Errno::EAGAIN as i32));
                break conn;
            }
            other => panic!("{other:?}"),
        }
        assert!(made < 100);
    };
    drop(listener.accept().unwrap());
    loop {
        match next(&mut el) {
            Event::Connected { conn } => {
                assert_eq!(conn, paused);
                break;
            }
            // That of the connection whose peer was dropped.
            Event::EndOfStream { .. } | Event::Closed { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The listener waited for its retry, up to 100 ms.
#[test]
fn a_descriptor_that_comes_back_from_its_watch_frees_a_listener() {
    if !in_child(
        "a_descriptor_that_comes_back_from_its_watch_frees_a_listener",
        r#"exec "$@""#,
    ) {
        return;
    }
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let listener = el.listen("127.0.0.1:0", &ListenOptions::default()).unwrap();
    let addr = el.listener_addr(listener).unwrap().ip().unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    let (interest, mode) = (Interest::READABLE, WatchMode::Level);
    let watch = el.watch_owned(reader.into(), interest, mode).unwrap();
    let _client = TcpStream::connect(addr).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 40, 40).unwrap();
    let _held: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    let errno = EMFILE;
    assert_eq!(next(&mut el), Event::AcceptPaused { listener, errno });
    assert_eq!(el.next_event(), None);
    drop(el.unwatch_owned(watch).unwrap());
    el.poll(Some(Duration::ZERO)).unwrap();
    assert_eq!(el.next_event(), Some(Event::AcceptResumed { listener }));
}
