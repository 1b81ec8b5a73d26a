//! Connecting has one answer, and it comes in time: made, refused, or not made by the deadline.
//!
//! On the Rust core, because its answer is the one that every face hands on. Only loopback is used: an address where
//! nobody answers is a listener whose backlog is full, for then the kernel drops what asks to connect.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use echoloop_core::{
    CloseReason, ConnectOptions, Deadline, Event, EventLoop, LoopOptions, errno_name,
};
use echoloop_tests::patience::{PATIENCE, until};
use socket2::{Domain, Socket, Type};

const DEADLINE: Duration = Duration::from_millis(300);

#[test]
fn a_refused_port_is_one_answer_with_its_name() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let nobody = free.local_addr().expect("a bound socket");
    drop(free);
    let [
        Event::Closed {
            reason: CloseReason::ConnectFailed(errno),
            ..
        },
    ] = answers(nobody)[..]
    else {
        panic!("one answer, that it failed");
    };
    assert_eq!(errno_name(errno), "ECONNREFUSED");
}

#[test]
fn where_nobody_answers_the_deadline_is_kept() {
    let full = FullBacklog::new();
    let start = Instant::now();
    let [Event::Closed { reason, .. }] = answers(full.address())[..] else {
        panic!("one answer, that it failed");
    };
    let took = start.elapsed();
    assert_eq!(reason, CloseReason::TimedOut(Deadline::Connect));
    assert!(took >= DEADLINE, "after {took:?}");
    assert!(took < DEADLINE + Duration::from_secs(1), "after {took:?}");
}

#[test]
fn a_backlog_that_gets_room_again_lets_the_connect_through() {
    let full = FullBacklog::new();
    let mut el = EventLoop::new(LoopOptions::default()).expect("a loop");
    let options = ConnectOptions {
        timeout: Some(PATIENCE),
        ..ConnectOptions::default()
    };
    let asked = el
        .connect(full.address(), &options)
        .expect("no fault of this machine");
    el.poll(Some(DEADLINE)).expect("poll");
    assert_eq!(el.next_event(), None, "nothing yet: the backlog is full");

    full.accept_all();

    // The kernel asks again after a second.
    let answer = until("the connect is answered", PATIENCE, || {
        el.poll(Some(DEADLINE)).expect("poll");
        el.next_event()
    });
    assert_eq!(answer, Event::Connected { conn: asked });
}

/// All events of one connect with the deadline, up to its last.
#[track_caller]
fn answers(to: SocketAddr) -> Vec<Event> {
    let mut el = EventLoop::new(LoopOptions::default()).expect("a loop");
    let options = ConnectOptions {
        timeout: Some(DEADLINE),
        ..ConnectOptions::default()
    };
    el.connect(to, &options).expect("no fault of this machine");
    let mut events = Vec::new();
    until("the connect is answered", PATIENCE, || {
        el.poll(Some(DEADLINE)).expect("poll");
        events.extend(std::iter::from_fn(|| el.next_event()));
        matches!(events.last(), Some(Event::Closed { .. })).then_some(())
    });
    assert_eq!(el.connection_count(), 0, "nothing is left of it");
    events
}

/// A listener that accepts nobody, with as many waiting as the kernel lets in.
struct FullBacklog {
    listener: TcpListener,
    waiting: Vec<TcpStream>,
}

impl FullBacklog {
    fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        socket.bind(&any.into()).expect("a free port");
        socket.listen(1).expect("listen");
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().expect("a bound socket");
        let mut waiting = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, DEADLINE) {
            waiting.push(stream);
            assert!(waiting.len() < 100, "a backlog of 1 is full some day");
        }
        Self { listener, waiting }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("a bound socket")
    }

    fn accept_all(&self) {
        for _ in &self.waiting {
            self.listener.accept().expect("somebody waits");
        }
    }
}
