//! The proxy hooks, with real clients on one side and real servers on the other.

mod util;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use echoloop_core::{Interest, PollFd};
use echoloop_server::{
    ConnectOptions, LoopOptions, Proxy, ProxyCounters, Remote, Report, ResolveError, Resolver,
    Server, ServerBuilder, ServerCounters,
};
use util::{PATIENCE, echoes, was_reset};

/// EAI_NONAME of glibc.
const NO_NAME: ResolveError = ResolveError::new(-2, 0);

/// A proxy on a thread of its own; dropping it stops it.
struct Running {
    addr: SocketAddr,
    proxy: Proxy,
    remote: Remote,
    thread: Option<JoinHandle<(Report, ServerCounters)>>,
}

impl Running {
    fn start(builder: ServerBuilder, proxy: Proxy) -> Self {
        let (ready, made) = channel();
        let mut hooks = proxy.clone();
        let thread = thread::spawn(move || {
            let mut server = builder.listen("127.0.0.1:0").build().unwrap();
            let addr = server.local_addrs().last().unwrap().ip().unwrap();
            ready.send((addr, server.remote())).unwrap();
            let report = server.run(&mut hooks).unwrap();
            (report, server.counters())
        });
        let (addr, remote) = made.recv_timeout(PATIENCE).unwrap();
        let thread = Some(thread);
        Self {
            addr,
            proxy,
            remote,
            thread,
        }
    }

    fn to(target: SocketAddr) -> Self {
        Self::start(Server::builder(), Proxy::new(target).unwrap())
    }

    fn client(&self) -> TcpStream {
        patient(TcpStream::connect(self.addr).unwrap())
    }

    /// A client that comes now is reset, perhaps while its connect is still under way.
    fn resets_a_client(&self) {
        match TcpStream::connect(self.addr) {
            Ok(client) => was_reset(&mut patient(client)),
            Err(e) => assert_eq!(e.kind(), ErrorKind::ConnectionReset),
        }
    }

    fn until_counted(&self, holds: impl Fn(ProxyCounters) -> bool) {
        let start = Instant::now();
        while !holds(self.proxy.counters()) {
            assert!(start.elapsed() < PATIENCE, "{:?}", self.proxy.counters());
            thread::yield_now();
        }
    }

    fn stop(mut self) -> (Report, ServerCounters) {
        self.remote.stop().unwrap();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = self.remote.stop();
            let _ = self.remote.stop();
            let _ = thread.join();
        }
    }
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn target() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

fn accepted(listener: &TcpListener) -> TcpStream {
    patient(listener.accept().unwrap().0)
}

/// A port on which nobody listens.
fn nobody() -> SocketAddr {
    target().1
}

#[test]
fn bytes_and_ends_of_streams_go_both_ways() {
    let (listener, addr) = target();
    let proxy = Running::to(addr);
    let mut client = proxy.client();
    let mut server = accepted(&listener);
    client.write_all(b"question").unwrap();
    let mut question = [0; 8];
    server.read_exact(&mut question).unwrap();
    assert_eq!(&question, b"question");
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(
        server.read(&mut [0]).unwrap(),
        0,
        "the end of the client's stream"
    );
    // It may still be answered.
    server.write_all(b"answer").unwrap();
    drop(server);
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer");
    let counted = proxy.proxy.counters();
    assert_eq!(
        (counted.connected, counted.failed, counted.gave_up),
        (1, 0, 0)
    );
    let (report, counters) = proxy.stop();
    assert_eq!((report.bytes_lost, counters.most_open), (0, 1));
}

#[test]
fn unix_sockets_may_be_on_both_sides() {
    let [front, back] = ["front", "back"].map(|name| {
        std::env::temp_dir().join(format!("echoloop-proxy-{name}-{}", std::process::id()))
    });
    let _ = std::fs::remove_file(&back);
    let listener = UnixListener::bind(&back).unwrap();
    let builder = Server::builder().listen(&*format!("unix:{}", front.display()));
    let proxy = Proxy::new(&*format!("unix:{}", back.display())).unwrap();
    let proxy = Running::start(builder, proxy);
    let mut client = UnixStream::connect(&front).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let echo = thread::spawn(move || {
        let (mut server, _) = listener.accept().unwrap();
        let mut message = [0; 5];
        server.read_exact(&mut message).unwrap();
        server.write_all(&message).unwrap();
    });
    echoes(&mut client, b"hello");
    echo.join().unwrap();
    proxy.stop();
    std::fs::remove_file(back).unwrap();
}

/// A resolver whose answers the test gives, so that a connect takes as long as the test wants.
fn slow_names() -> (LoopOptions, Sender<Result<Ipv4Addr, ResolveError>>) {
    let (answer, answers) = channel::<Result<Ipv4Addr, ResolveError>>();
    let answers: Mutex<Receiver<_>> = Mutex::new(answers);
    let resolver = Resolver::new(move |_| {
        let answer = answers.lock().unwrap().recv_timeout(PATIENCE);
        answer.unwrap_or(Err(NO_NAME)).map(|ip| vec![ip.into()])
    });
    let options = LoopOptions {
        resolver: Some(resolver),
        ..LoopOptions::default()
    };
    (options, answer)
}

/// Waits until the kernel takes no more of what somebody else sends on this connection.
fn until_full(client: &TcpStream) {
    let start = Instant::now();
    loop {
        let mut ready = [PollFd::new(client, Interest::WRITABLE)];
        let n = echoloop_core::poll(&mut ready, Some(Duration::from_millis(200))).unwrap();
        if n == 0 {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "somebody stores without bound");
        thread::yield_now();
    }
}

fn by_name(port: u16) -> Proxy {
    Proxy::new(&*format!("somewhere.test:{port}")).unwrap()
}

#[test]
fn what_a_client_sends_before_its_connection_is_made_is_kept() {
    let (listener, addr) = target();
    let (options, answer) = slow_names();
    let builder = Server::builder().loop_options(options);
    let proxy = Running::start(builder, by_name(addr.port()));
    let mut client = proxy.client();
    // More than the kernel takes, and than may be unread.
    let sent: Vec<u8> = (0..8_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut sender = client.try_clone().unwrap();
    let copy = sent.clone();
    let sending = thread::spawn(move || {
        sender.write_all(&copy).unwrap();
        sender.shutdown(Shutdown::Write).unwrap();
    });
    until_full(&client);
    answer.send(Ok(Ipv4Addr::LOCALHOST)).unwrap();
    let mut server = accepted(&listener);
    let mut received = Vec::new();
    server.read_to_end(&mut received).unwrap();
    sending.join().unwrap();
    assert!(
        received == sent,
        "{} of {} bytes",
        received.len(),
        sent.len()
    );
    server.write_all(b"all of it").unwrap();
    drop(server);
    let mut said = String::new();
    client.read_to_string(&mut said).unwrap();
    assert_eq!(said, "all of it");
}

#[test]
fn a_client_that_goes_before_its_connection_is_made_ends_the_connect() {
    let (listener, addr) = target();
    let (options, answer) = slow_names();
    let builder = Server::builder().loop_options(options);
    let proxy = Running::start(builder, by_name(addr.port()));
    let client = socket2::Socket::from(proxy.client());
    client.set_linger(Some(Duration::ZERO)).unwrap();
    drop(client); // By a reset: a client that has only finished sending may still want the answer.
    proxy.until_counted(|c| c.gave_up == 1);

    let mut second = proxy.client();
    second.write_all(b"second").unwrap();
    for _ in 0..2 {
        answer.send(Ok(Ipv4Addr::LOCALHOST)).unwrap();
    }
    let mut said = [0; 6];
    accepted(&listener).read_exact(&mut said).unwrap();
    assert_eq!(&said, b"second", "nobody was connected for the first");
}

#[test]
fn a_client_that_cannot_be_connected_is_reset_and_counted() {
    let refused = Running::to(nobody());
    for n in 1..=3 {
        refused.resets_a_client();
        refused.until_counted(|c| c.failed == n);
    }
    assert_eq!(refused.proxy.counters().connected, 0);

    let (options, answer) = slow_names();
    let builder = Server::builder().loop_options(options);
    let unknown = Running::start(builder, by_name(9));
    let mut client = unknown.client();
    client.write_all(b"a request").unwrap();
    answer.send(Err(NO_NAME)).unwrap();
    was_reset(&mut client);
    unknown.until_counted(|c| c.failed == 1);

    // A name that is never answered.
    let (options, _answer) = slow_names();
    let timeout = Some(Duration::from_millis(50));
    let proxy = by_name(9).connect_options(ConnectOptions {
        timeout,
        ..ConnectOptions::default()
    });
    let silent = Running::start(Server::builder().loop_options(options), proxy);
    silent.resets_a_client();
    silent.until_counted(|c| c.failed == 1);
}

#[test]
fn the_maximum_counts_clients_and_a_place_is_free_again_after_a_failed_connect() {
    let (listener, addr) = target();
    let proxy = Running::start(
        Server::builder().max_connections(2),
        Proxy::new(addr).unwrap(),
    );
    let mut pairs = Vec::new();
    for _ in 0..2 {
        let client = proxy.client();
        pairs.push((client, accepted(&listener)));
    }
    proxy.resets_a_client();
    for (client, server) in &mut pairs {
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap();
    }
    drop(pairs);
    let start = Instant::now();
    listener.set_nonblocking(true).unwrap();
    loop {
        let _client = proxy.client();
        if listener.accept().is_ok() {
            break;
        }
        assert!(start.elapsed() < PATIENCE);
    }

    let proxy = Running::start(
        Server::builder().max_connections(1),
        Proxy::new(nobody()).unwrap(),
    );
    for n in 1..=20 {
        // Refused by the target, not for want of a place: each is counted as failed.
        proxy.resets_a_client();
        proxy.until_counted(|c| c.failed == n);
    }
}

#[test]
fn a_drain_lets_pairs_finish_and_counts_clients() {
    let (listener, addr) = target();
    let builder = Server::builder().drain_grace(PATIENCE);
    let mut proxy = Running::start(builder, Proxy::new(addr).unwrap());
    let mut client = proxy.client();
    let mut server = accepted(&listener);
    client.write_all(b"question").unwrap();
    server.read_exact(&mut [0; 8]).unwrap();
    proxy.remote.stop().unwrap();
    let start = Instant::now();
    while TcpStream::connect(proxy.addr).is_ok() {
        assert!(start.elapsed() < PATIENCE);
    }
    server.write_all(b"answer").unwrap();
    let mut answer = [0; 6];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"answer");
    drop(client);
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
    drop(server);
    let (report, _) = proxy.thread.take().unwrap().join().unwrap();
    assert!(start.elapsed() < PATIENCE, "it ends with the last pair");
    assert_eq!(
        (report.closed_clean, report.aborted, report.bytes_lost),
        (1, 0, 0)
    );
}

#[test]
fn a_drain_ends_a_client_that_still_waits_for_its_connection() {
    let (ask, asked) = channel();
    let (_answer, answered) = channel::<()>();
    let inside = Mutex::new((ask, answered));
    let resolver = Resolver::new(move |_| {
        let (ask, answered) = &*inside.lock().unwrap();
        ask.send(()).unwrap();
        let _ = answered.recv_timeout(PATIENCE);
        Err(NO_NAME)
    });
    let options = LoopOptions {
        resolver: Some(resolver),
        ..LoopOptions::default()
    };
    let proxy = Running::start(Server::builder().loop_options(options), by_name(9));
    let mut client = proxy.client();
    client.write_all(b"a request").unwrap();
    asked.recv_timeout(PATIENCE).unwrap(); // So it is no longer in the backlog.
    let (start, counted) = (Instant::now(), proxy.proxy.clone());
    proxy.stop();
    assert!(start.elapsed() < Duration::from_secs(10));
    let counters = counted.counters();
    let sum = counters.connected + counters.failed + counters.gave_up;
    assert_eq!(sum, 1, "each client is counted once: {counters:?}");
    match client.read(&mut [0]) {
        Ok(n) => assert_eq!(n, 0),
        Err(e) => assert_eq!(e.kind(), ErrorKind::ConnectionReset),
    }
}
