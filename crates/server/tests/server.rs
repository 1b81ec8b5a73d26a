//! The policy of a server: limits, ticks and the drain, with real clients.

mod util;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use echoloop_server::{
    CloseReason, ConnId, ConnOptions, ConnectOptions, Context, Echo, Error, Hooks, ListenOptions,
    Refusal, Report, Server,
};
use util::{PATIENCE, Running, Told};

#[test]
fn hooks_are_told_in_order_from_open_to_close() {
    let server = Running::start(Server::builder());
    let mut client = server.client();
    client.write_all(b"hello").unwrap();
    let mut got = [0; 5];
    client.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"hello");
    drop(client);
    let told = [server.hear(), server.hear(), server.hear(), server.hear()];
    let end = Told::Close(CloseReason::PeerFinished);
    assert_eq!(told, [Told::Open, Told::Data, Told::EndOfStream, end]);
}

#[test]
fn one_connection_above_the_maximum_is_refused_and_counted() {
    let server = Running::start(Server::builder().max_connections(2));
    let mut first = server.client();
    let _second = server.client();
    assert_eq!([server.hear(), server.hear()], [Told::Open, Told::Open]);
    for _ in 0..3 {
        let mut refused = server.client();
        assert_eq!(
            server.hear(),
            Told::Refused(refused.local_addr().unwrap(), Refusal::MaxConnections)
        );
        util::was_reset(&mut refused);
    }
    // Those inside are served on, and a place that becomes free is given away.
    first.write_all(b"x").unwrap();
    first.read_exact(&mut [0]).unwrap();
    assert_eq!(server.hear(), Told::Data);
    drop(first);
    assert_eq!(server.hear(), Told::EndOfStream);
    assert_eq!(server.hear(), Told::Close(CloseReason::PeerFinished));
    let _third = server.client();
    assert_eq!(server.hear(), Told::Open);
    let (_, counters) = server.stop();
    assert_eq!((counters.refused, counters.most_open), (3, 2));
}

#[test]
fn a_tick_comes_once_in_the_interval() {
    let start = Instant::now();
    let server = Running::start(Server::builder().tick_interval(Duration::from_millis(50)));
    for n in 1..=4 {
        assert_eq!(server.hear(), Told::Tick);
        assert!(start.elapsed() >= n * Duration::from_millis(50));
    }
}

#[test]
fn a_drain_flushes_what_was_sent_and_reports_it_clean() {
    let mut server = Running::start(Server::builder());
    let mut clients: Vec<TcpStream> = (0..10).map(|_| server.client()).collect();
    let message = vec![7; 100_000];
    for client in &mut clients {
        client.write_all(&message).unwrap();
        // The first byte is back, so the server has begun with this one.
        client.read_exact(&mut [0]).unwrap();
    }
    // Every client reads all of its own but for the last byte: that one is on its way.
    for client in &mut clients {
        client.read_exact(&mut vec![0; message.len() - 2]).unwrap();
    }
    server.remote.stop().unwrap();
    for mut client in clients {
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, [7]);
    }
    let (report, counters) = server.thread.take().unwrap().join().unwrap();
    assert_eq!(
        report,
        Report {
            closed_clean: 10,
            aborted: 0,
            bytes_lost: 0
        }
    );
    assert_eq!(counters.bytes_lost, 0);
}

#[test]
fn a_drain_cuts_who_does_not_read_at_its_deadline_and_counts_the_loss() {
    let deadline = Duration::from_millis(300);
    let conn = ConnOptions {
        auto_pause: false,
        ..ConnOptions::default()
    };
    let listen = ListenOptions {
        conn,
        ..ListenOptions::default()
    };
    let server = Running::start(
        Server::builder()
            .drain_deadline(deadline)
            .listen_options(listen),
    );
    let never_reads = server.client();
    never_reads.set_nonblocking(true).unwrap();
    // Until the server holds bytes that nobody takes: our side can't write for a while.
    let bytes = vec![0; 1 << 20];
    let (start, mut stuck_since) = (Instant::now(), Instant::now());
    while stuck_since.elapsed() < Duration::from_millis(300) {
        assert!(start.elapsed() < PATIENCE);
        match (&never_reads).write(&bytes) {
            Ok(n) => {
                assert!(n > 0);
                stuck_since = Instant::now();
            }
            Err(e) => assert_eq!(e.kind(), ErrorKind::WouldBlock),
        }
    }
    let stopped = Instant::now();
    let (report, counters) = server.stop();
    assert!(stopped.elapsed() >= deadline);
    assert_eq!((report.closed_clean, report.aborted), (0, 1));
    assert!(report.bytes_lost > 0);
    assert_eq!(report.bytes_lost, counters.bytes_lost);
}

#[test]
fn a_second_stop_cuts_what_is_left() {
    let server = Running::start(Server::builder().drain_deadline(PATIENCE));
    let mut client = server.client();
    assert_eq!(server.hear(), Told::Open);
    server.remote.stop().unwrap();
    // The drain has begun when the client sees the end of stream.
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    let start = Instant::now();
    let (report, _) = server.stop();
    assert!(start.elapsed() < PATIENCE / 2);
    assert_eq!(report.closed_clean + report.aborted, 1);
}

#[test]
fn a_hook_can_begin_the_drain_and_nothing_is_accepted_after() {
    let mut server = Running::start(Server::builder());
    server.remote.post(3).unwrap();
    server.remote.post(0).unwrap();
    assert_eq!(
        [server.hear(), server.hear()],
        [Told::Post(3), Told::Post(0)]
    );
    let (report, _) = server.thread.take().unwrap().join().unwrap();
    assert_eq!(report, Report::default());
    assert_eq!(
        TcpStream::connect(server.addr).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
}

#[test]
fn several_addresses_of_both_families_are_served() {
    let mut builder = Server::builder().listen("127.0.0.1:0");
    // A machine without IPv6 is served on IPv4 twice.
    let second = match std::net::TcpListener::bind("[::1]:0") {
        Ok(_) => "[::1]:0",
        Err(_) => "127.0.0.1:0",
    };
    builder = builder.listen(second);
    let mut server = builder.build().unwrap();
    let addrs = server.local_addrs();
    assert_eq!(addrs.len(), 2);
    let remote = server.remote();
    let clients = thread::spawn(move || {
        for addr in addrs {
            let mut client = TcpStream::connect(addr.ip().unwrap()).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client.write_all(b"abc").unwrap();
            client.read_exact(&mut [0; 3]).unwrap();
        }
        remote.stop().unwrap();
    });
    server.run(&mut Echo).unwrap();
    clients.join().unwrap();
}

/// Connects again whenever a connection ends.
struct Reconnects {
    to: SocketAddr,
    refused: Option<Error>,
}

impl Reconnects {
    fn connect(&mut self, cx: &mut Context<'_>) {
        self.refused = cx.connect(self.to, &ConnectOptions::default()).err();
    }
}

impl Hooks for Reconnects {
    fn on_post(&mut self, cx: &mut Context<'_>, _: u64) {
        self.connect(cx);
    }
    fn on_close(&mut self, cx: &mut Context<'_>, _: ConnId, _: CloseReason, _: u64) {
        self.connect(cx);
    }
}

#[test]
fn a_drain_ends_although_a_hook_connects_again_and_again() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = nobody.local_addr().unwrap();
    drop(nobody);
    let mut server = Server::builder().build().unwrap();
    let remote = server.remote();
    remote.post(1).unwrap();
    remote.stop().unwrap();
    let mut hooks = Reconnects { to, refused: None };
    server.run(&mut hooks).unwrap();
    let why = hooks.refused.expect("a connect while draining is refused");
    assert_eq!(why.kind(), echoloop_server::ErrorKind::Closing);
}
