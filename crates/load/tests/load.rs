//! The load generator against tiny servers made of threads: it counts right, ends, and finds faults.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use echoloop_load::{Cause, Error, Load, Mode, Plan, Target, Until};

/// What a test server does with each piece it received, before it goes back; false ends the connection.
type Meddle = fn(bytes: &mut Vec<u8>, before: u64) -> bool;

/// An echo server with a thread for each connection, and the bytes it has received. Its threads end
/// with their connections; the accepting one ends with the test process.
struct EchoServer {
    address: SocketAddrV4,
    received: Arc<AtomicU64>,
    accepted: Arc<AtomicU64>,
}

fn serve(meddle: Meddle) -> EchoServer {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let SocketAddr::V4(address) = listener.local_addr().unwrap() else {
        panic!("bound to an IPv4 address");
    };
    let received = Arc::new(AtomicU64::new(0));
    let accepted = Arc::new(AtomicU64::new(0));
    let server = EchoServer {
        address,
        received: received.clone(),
        accepted: accepted.clone(),
    };
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            accepted.fetch_add(1, Ordering::SeqCst);
            let received = received.clone();
            thread::spawn(move || echo(stream, meddle, &received));
        }
    });
    server
}

fn echo(mut stream: TcpStream, meddle: Meddle, received: &AtomicU64) {
    let mut buffer = vec![0; 64 * 1024];
    let mut before = 0;
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        received.fetch_add(n as u64, Ordering::SeqCst);
        let mut bytes = buffer[..n].to_vec();
        if !meddle(&mut bytes, before) || stream.write_all(&bytes).is_err() {
            return;
        }
        before += n as u64;
    }
}

fn honest(_: &mut Vec<u8>, _: u64) -> bool {
    true
}

fn plan(server: &EchoServer, connections: usize, size: usize, depth: usize) -> Plan {
    Plan {
        connections,
        size,
        depth,
        verify: true,
        patience: Duration::from_secs(10),
        ..Plan::new(server.address)
    }
}

#[test]
fn exactly_the_messages_asked_for_are_sent_and_counted() {
    for verify in [true, false] {
        let server = serve(honest);
        let mut plan = plan(&server, 5, 100, 3);
        plan.verify = verify;
        let mut load = Load::connect(plan).unwrap();
        for (asked, total) in [(1, 1), (1000, 1001), (14, 1015), (0, 1015)] {
            let report = load.run(Until::Messages(asked)).unwrap();
            assert_eq!(report.messages, asked);
            assert_eq!(report.latency.len(), asked);
            assert_eq!(server.received.load(Ordering::SeqCst), total * 100);
        }
    }
}

#[test]
fn a_run_for_a_time_ends_and_counts_what_the_server_received() {
    let server = serve(honest);
    let mut load = Load::connect(plan(&server, 4, 64, 1)).unwrap();
    let report = load
        .run(Until::Elapsed(Duration::from_millis(100)))
        .unwrap();
    assert!(report.messages >= 4, "{report:?}");
    assert_eq!(server.received.load(Ordering::SeqCst), report.messages * 64);
    assert!(report.elapsed < Duration::from_secs(5));
}

#[test]
fn messages_larger_than_every_buffer_come_back_verified() {
    let server = serve(honest);
    let mut load = Load::connect(plan(&server, 2, 5_000_001, 1)).unwrap();
    assert_eq!(load.run(Until::Messages(4)).unwrap().messages, 4);
    assert_eq!(server.received.load(Ordering::SeqCst), 20_000_004);
}

#[test]
fn churn_opens_one_connection_for_each_message() {
    let server = serve(honest);
    let mut plan = plan(&server, 8, 64, 1);
    plan.mode = Mode::Churn;
    plan.sources = 16;
    let mut load = Load::connect(plan).unwrap();
    assert_eq!(load.run(Until::Messages(200)).unwrap().messages, 200);
    assert_eq!(server.accepted.load(Ordering::SeqCst), 200);
    assert_eq!(server.received.load(Ordering::SeqCst), 200 * 64);
}

#[test]
fn a_planted_wrong_byte_is_found_and_its_place_told() {
    let server = serve(|bytes, before| {
        let planted = 12_345_u64;
        if (before..before + bytes.len() as u64).contains(&planted) {
            bytes[(planted - before) as usize] ^= 1;
        }
        true
    });
    let mut load = Load::connect(plan(&server, 1, 1000, 2)).unwrap();
    match load.run(Until::Messages(100)).unwrap_err().error {
        Error::WrongByte {
            connection: 0,
            offset: 12_345,
            sent,
            found,
        } => assert_eq!(sent ^ found, 1),
        other => panic!("{other}"),
    }
}

#[test]
fn two_bytes_that_changed_places_are_found() {
    let server = serve(|bytes, before| {
        if before >= 500 {
            bytes.reverse();
        }
        true
    });
    let mut load = Load::connect(plan(&server, 3, 100, 1)).unwrap();
    let error = load.run(Until::Messages(100)).unwrap_err().error;
    assert!(matches!(error, Error::WrongByte { .. }), "{error}");
}

#[test]
fn bytes_that_were_never_sent_are_found() {
    let modes = [Mode::Steady, Mode::Churn];
    for (mode, verify) in modes.into_iter().flat_map(|m| [(m, true), (m, false)]) {
        let server = serve(|bytes, _| {
            bytes.push(0);
            true
        });
        let mut plan = plan(&server, 1, 100, 1);
        (plan.mode, plan.verify) = (mode, verify);
        let mut load = Load::connect(plan).unwrap();
        let error = load.run(Until::Messages(10)).unwrap_err().error;
        assert!(matches!(error, Error::TooMany { connection: 0 }), "{error}");
    }
}

#[test]
fn a_server_that_hangs_up_is_an_error_and_not_a_wait() {
    for mode in [Mode::Steady, Mode::Churn] {
        let server = serve(|_, _| false);
        let mut plan = plan(&server, 2, 100, 1);
        plan.mode = mode;
        let error = Load::connect(plan)
            .unwrap()
            .run(Until::Messages(10))
            .unwrap_err()
            .error;
        let closed = matches!(error, Error::Connection { cause, .. } if cause != Cause::Silent);
        assert!(closed, "{error}");
    }
}

#[test]
fn a_server_that_swallows_bytes_is_given_up_after_the_patience() {
    let server = serve(|bytes, _| {
        bytes.pop();
        true
    });
    let mut plan = plan(&server, 1, 100, 1);
    plan.patience = Duration::from_millis(50);
    let error = Load::connect(plan)
        .unwrap()
        .run(Until::Messages(10))
        .unwrap_err()
        .error;
    let silent = matches!(error, Error::Connection { cause, .. } if cause == Cause::Silent);
    assert!(silent, "{error}");
}

#[test]
fn who_watches_is_told_of_progress_and_may_end_the_run_at_once() {
    let server = serve(honest);
    let mut load = Load::connect(plan(&server, 2, 64, 1)).unwrap();
    let mut told = 0;
    let report = load
        .run_watched(Until::Elapsed(Duration::from_secs(600)), |progress| {
            assert!(progress.messages >= told);
            told = progress.messages;
            ControlFlow::Break(())
        })
        .unwrap();
    assert!(told > 0 && report.messages >= told, "{told} {report:?}");
}

#[test]
fn the_others_go_on_when_some_connections_fail_if_the_plan_says_so() {
    for (mode, failed) in [(Mode::Steady, 1), (Mode::Churn, 1)] {
        // Whoever begins with the stream of connection 1 is cut.
        let server = serve(|bytes, before| before > 0 || bytes[0] != first_byte_of(1));
        let mut plan = plan(&server, 3, 100, 1);
        plan.mode = mode;
        plan.keep_going = true;
        let report = Load::connect(plan)
            .unwrap()
            .run(Until::Messages(20))
            .unwrap();
        assert_eq!((report.failed(), report.unanswered), (failed, failed));
        assert_eq!(report.messages, 20 - failed);
    }
}

#[test]
fn what_can_not_be_planned_is_refused() {
    let any: SocketAddrV4 = "127.0.0.1:9".parse().unwrap();
    let wrong: [fn(&mut Plan); 5] = [
        |plan| plan.depth = 0,
        |plan| plan.connections = usize::MAX,
        |plan| plan.target = Target::Udp("127.0.0.1:9".parse().unwrap()),
        |plan| plan.target = Target::Tcp("[::1]:9".parse().unwrap()),
        |plan| plan.sources = u32::MAX,
    ];
    for spoil in wrong {
        let mut plan = Plan::new(any);
        (plan.mode, plan.sources) = (Mode::Churn, 1);
        plan.check().unwrap();
        spoil(&mut plan);
        let error = Load::connect(plan).unwrap_err();
        assert!(matches!(error, Error::Plan(_)), "{error}");
    }
}

/// What a verified connection of this number sends first.
fn first_byte_of(connection: usize) -> u8 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let SocketAddr::V4(address) = listener.local_addr().unwrap() else {
        panic!("bound to an IPv4 address");
    };
    let mut plan = Plan::new(address);
    (plan.connections, plan.size, plan.verify) = (connection + 1, 1, true);
    plan.patience = Duration::from_millis(10);
    // Nobody answers; what was sent is there all the same, in the order of the connections.
    let _ = Load::connect(plan)
        .unwrap()
        .run(Until::Elapsed(Duration::ZERO));
    let mut first = [0];
    for _ in 0..=connection {
        listener.accept().unwrap().0.read_exact(&mut first).unwrap();
    }
    first[0]
}
