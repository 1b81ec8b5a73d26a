//! Promises 9 to 12 of the design, each by tests of its name, on the real system: shortages, dead
//! peers, watches, connects.
//!
//! More on each: `limits` and `shortage`; the C library's tests for the SIGPIPE of promise 10, since
//! a Rust program ignores that signal; `watch*`; `names` and `races`.

mod util;

use std::fs::File;
use std::io::{Write, pipe};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use echoloop_core::{
    CloseReason, ConnId, ConnOptions, ConnectOptions, Deadline, Event, EventLoop, Interest,
    LoopOptions, Readiness, ResolveError, Resolver, WatchMode,
};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use util::real::{PATIENCE, Real, reason_of, reset};
use util::watching::{high_pipe, turn};

/// Set for the process of [`out_of_descriptors`].
const OUT_OF_DESCRIPTORS: &str = "ECHOLOOP_OUT_OF_DESCRIPTORS";

/// Not a test: a process that has run out of descriptors, when a test starts it as one.
#[test]
fn out_of_descriptors() {
    if std::env::var_os(OUT_OF_DESCRIPTORS).is_none() {
        return;
    }
    let mut real = Real::new(ConnOptions::default());
    real.el.poll(Some(Duration::ZERO)).unwrap();
    let _clients = [real.client(), real.client(), real.client()];
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 64, hard).unwrap();
    let held: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    let listener = real.until(|_, e| match e {
        Event::AcceptPaused { listener, errno } => {
            assert_eq!(errno, Errno::EMFILE as i32);
            Some(listener)
        }
        other => panic!("{other:?} without a descriptor"),
    });
    drop(held);
    let since = Instant::now();
    let events = real.run_until(|el| el.connection_count() == 3);
    assert!(
        since.elapsed() < Duration::from_secs(1),
        "all within a second"
    );
    assert_eq!(events[0], Event::AcceptResumed { listener });
}

#[test]
fn promise_09_without_descriptors_accepting_pauses_and_resumes_by_itself() {
    // The limit is one of a whole process, so this is one of its own.
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "out_of_descriptors"])
        .env(OUT_OF_DESCRIPTORS, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

#[test]
fn promise_10_a_dead_peer_is_an_event() {
    let mut real = Real::new(ConnOptions::default());
    let (client, conn) = real.pair();
    reset(client);
    let mut view = real.el.conn(conn).unwrap();
    // Whether the send notices or not, nothing is raised and the end is one event.
    let _ = view.send(&vec![0; 1 << 20]);
    assert_eq!(reason_of(real.until_closed(conn)), CloseReason::Reset);
}

#[test]
fn promise_11_watches_are_level_triggered_files_always_ready_and_the_dead_named() {
    let (reader, mut writer) = pipe().unwrap();
    let file = File::open("/dev/null").unwrap();
    let (doomed, _other_end) = high_pipe(10_000);
    let number = doomed.as_raw_fd();
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let mut watch = |fd: BorrowedFd| el.watch(&fd, Interest::READABLE, WatchMode::Level).unwrap();
    let (of_reader, of_file) = (watch(reader.as_fd()), watch(file.as_fd()));
    let of_doomed = watch(doomed.as_fd());
    writer.write_all(b"x").unwrap();
    let told = |watch| Event::Watch {
        watch,
        readiness: Readiness::READABLE,
    };
    // Nobody reads, so both are told every turn.
    for _ in 0..3 {
        let events = turn(&mut el);
        assert_eq!(events.len(), 2, "{events:?}");
        assert!(events.contains(&told(of_reader)));
        assert!(matches!(events.iter().find(|e| **e != told(of_reader)),
            Some(Event::Watch { watch, readiness }) if *watch == of_file && readiness.is_readable()));
    }
    el.unwatch(of_file).unwrap();
    drop(doomed);
    let dead = Event::WatchDead {
        watch: of_doomed,
        fd: number,
    };
    let deadline = Instant::now() + PATIENCE;
    while !turn(&mut el).contains(&dead) {
        assert!(Instant::now() < deadline, "the dead one is never told");
    }
    assert_eq!(turn(&mut el), [told(of_reader)], "the loop goes on");
}

#[test]
fn promise_12_a_connect_by_name_tries_all_addresses_off_the_thread_and_has_one_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let ours = thread::current().id();
    let resolver = Resolver::new(move |_| {
        assert_ne!(thread::current().id(), ours);
        Ok(["127.0.0.9", "127.0.0.1"]
            .map(|ip| ip.parse().unwrap())
            .into())
    });
    let options = LoopOptions {
        resolver: Some(resolver),
        ..LoopOptions::default()
    };
    let connect = |attempts: [Option<Errno>; 2]| {
        let mut el = EventLoop::new(options.clone()).unwrap();
        let to = ("two.test", port);
        let conn = el.connect(to, &ConnectOptions::default()).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let answer = loop {
            assert!(Instant::now() < deadline, "no answer");
            el.poll(Some(PATIENCE)).unwrap();
            if let Some(event) = el.next_event() {
                break event;
            }
        };
        let tried = el.conn(conn).unwrap().attempts().to_vec();
        let errors: Vec<_> = tried.iter().map(|a| a.errno).collect();
        assert_eq!(errors, attempts.map(|e| e.map(|e| e as i32)));
        assert_eq!(el.next_event(), None, "one answer");
        answer
    };
    let answer = connect([Some(Errno::ECONNREFUSED), None]);
    assert!(matches!(answer, Event::Connected { .. }), "{answer:?}");
    drop(listener);
    let answer = connect([Some(Errno::ECONNREFUSED); 2]);
    let refused = CloseReason::ConnectFailed(Errno::ECONNREFUSED as i32);
    assert_eq!(reason_of(answer), refused);
}

#[test]
fn promise_12_a_name_that_cannot_be_resolved_has_a_code_a_name_and_a_text() {
    // Not the system's: no test asks a name server.
    let resolver = Resolver::new(|_| Err(ResolveError::new(libc::EAI_NONAME, 0)));
    let options = LoopOptions {
        resolver: Some(resolver),
        ..LoopOptions::default()
    };
    let mut el = EventLoop::new(options).unwrap();
    el.connect("nobody.invalid:80", &ConnectOptions::default())
        .unwrap();
    let CloseReason::ResolveFailed(e) = reason_of(turn(&mut el)[0]) else {
        panic!("another reason");
    };
    assert_eq!((e.code(), e.name()), (libc::EAI_NONAME, "EAI_NONAME"));
    assert!(!e.text().is_empty());
}

#[test]
fn promise_12_a_connect_that_nobody_answers_ends_at_its_deadline() {
    // A backlog of one that is full: Linux drops further SYNs, so the connect hangs.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket
        .bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into())
        .unwrap();
    socket.listen(0).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let options = ConnectOptions {
        timeout: Some(Duration::from_millis(300)),
        ..Default::default()
    };
    let start = Instant::now();
    let mut waiting: Vec<ConnId> = (0..8)
        .map(|_| el.connect(addr, &options).unwrap())
        .collect();
    let mut timed_out = 0;
    while timed_out == 0 {
        assert!(start.elapsed() < PATIENCE);
        el.poll(Some(Duration::from_millis(50))).unwrap();
        while let Some(event) = el.next_event() {
            match event {
                Event::Connected { conn } => waiting.retain(|id| *id != conn),
                Event::Closed { conn, reason, .. } => {
                    assert!(waiting.contains(&conn));
                    assert_eq!(reason, CloseReason::TimedOut(Deadline::Connect));
                    assert!(start.elapsed() >= Duration::from_millis(300));
                    timed_out += 1;
                }
                _ => {}
            }
        }
    }
}
