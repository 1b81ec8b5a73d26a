//! Two connections piped, on the real system: a client, the loop in the middle, a server.

mod util;

use std::io::{ErrorKind as IoKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use echoloop_core::{
    CloseReason, ConnId, ConnOptions, ConnectOptions, Deadline, ErrorKind, Event, EventLoop,
};
use util::real::{PATIENCE, Real, read_some, reset};

/// A client, the connection it has become here, the one it is piped to, and the server.
struct Proxy {
    real: Real,
    client: TcpStream,
    near: ConnId,
    far: ConnId,
    server: TcpStream,
}

impl Proxy {
    fn new(conn: &ConnOptions) -> Self {
        let mut real = Real::new(conn.clone());
        let (client, near) = real.pair();
        let (far, server) = connect(&mut real.el, conn);
        real.el.pipe(near, far).unwrap();
        Self {
            real,
            client,
            near,
            far,
            server,
        }
    }

    /// Runs until both connections are gone; their reasons, and no other event of them.
    fn ends(&mut self) -> (CloseReason, CloseReason) {
        let (mut near, mut far) = (None, None);
        let (n, f) = (self.near, self.far);
        self.real.until(|_, event| {
            match event {
                Event::Closed { conn, reason, .. } if conn == n => near = Some(reason),
                Event::Closed { conn, reason, .. } if conn == f => far = Some(reason),
                Event::Connected { conn } => assert_eq!(conn, f),
                other => panic!("{other:?} is told of a piped connection"),
            }
            near.zip(far)
        })
    }

    /// Runs until `expected` has arrived at one side.
    fn arrives(&mut self, at_server: bool, expected: &[u8]) {
        let side = if at_server {
            &mut self.server
        } else {
            &mut self.client
        };
        let mut got = Vec::new();
        self.real.run_until(|_| {
            read_some(side, &mut got);
            got.len() >= expected.len()
        });
        assert_eq!(got, expected);
    }
}

/// A connection to a server of its own; it is still connecting.
fn connect(el: &mut EventLoop, conn: &ConnOptions) -> (ConnId, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let options = ConnectOptions {
        conn: conn.clone(),
        ..ConnectOptions::default()
    };
    let far = el
        .connect(listener.local_addr().unwrap(), &options)
        .unwrap();
    let server = listener.accept().unwrap().0;
    server.set_nonblocking(true).unwrap();
    (far, server)
}

fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

const CHUNK: usize = 64 << 10;

/// The n-th piece of a stream that repeats nowhere.
fn chunk(stream: u64, n: u64) -> Vec<u8> {
    let first = n * (CHUNK as u64 / 8);
    let words = first..first + CHUNK as u64 / 8;
    words
        .flat_map(|w| {
            (w ^ stream << 56)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .to_le_bytes()
        })
        .collect()
}

#[test]
fn sixty_four_megabytes_go_each_way_past_readers_that_sleep_and_no_queue_passes_its_mark() {
    const CHUNKS: u64 = (64 << 20) / CHUNK as u64;
    let marks = ConnOptions::default();
    let mut proxy = Proxy::new(&marks);
    let awake = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    for (socket, sends, gets) in [(&proxy.client, 1, 2), (&proxy.server, 2, 1)] {
        socket.set_nonblocking(false).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut writer = socket.try_clone().unwrap();
        threads.push(thread::spawn(move || {
            for n in 0..CHUNKS {
                writer.write_all(&chunk(sends, n)).unwrap();
            }
            writer.shutdown(Shutdown::Write).unwrap();
        }));
        let (mut reader, awake) = (socket.try_clone().unwrap(), Arc::clone(&awake));
        threads.push(thread::spawn(move || {
            while !awake.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            let mut got = vec![0; CHUNK];
            for n in 0..CHUNKS {
                reader.read_exact(&mut got).unwrap();
                assert!(got == chunk(gets, n), "chunk {n} of stream {gets}");
            }
            assert_eq!(reader.read(&mut got).unwrap(), 0);
        }));
    }
    let (near, far) = (proxy.near, proxy.far);
    let mut reasons = Vec::new();
    let mut most = 0;
    proxy.real.until(|el, event| {
        match event {
            Event::Connected { .. } => {
                el.add_timer(echoloop_core::TimerSpec::every(Duration::from_millis(1)))
                    .unwrap();
            }
            // Looks how the queues are, and wakes the readers once both are full.
            Event::Timer { .. } => {
                let queued = [near, far].map(|id| el.conn(id).map_or(0, |c| c.queued()));
                most = most.max(queued[0].max(queued[1]));
                if queued == [marks.high_mark; 2] {
                    awake.store(true, Ordering::Relaxed);
                }
            }
            Event::Closed { reason, unsent, .. } => reasons.push((reason, unsent)),
            other => panic!("{other:?} is told of a piped connection"),
        }
        (reasons.len() == 2).then_some(())
    });
    assert_eq!(reasons, [(CloseReason::PeerFinished, 0); 2]);
    assert_eq!(most, marks.high_mark);
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(proxy.real.el.buffered(), 0);
}

#[test]
fn a_half_close_is_carried_on_and_the_answer_still_comes_back() {
    for from_client in [true, false] {
        let mut proxy = Proxy::new(&ConnOptions::default());
        let (asks, answers) = if from_client {
            (&mut proxy.client, &mut proxy.server)
        } else {
            (&mut proxy.server, &mut proxy.client)
        };
        asks.write_all(b"question").unwrap();
        asks.shutdown(Shutdown::Write).unwrap();
        let mut got = Vec::new();
        proxy.real.run_until(|_| read_some(answers, &mut got));
        assert_eq!(got, b"question");
        answers.write_all(b"answer").unwrap();
        answers.shutdown(Shutdown::Write).unwrap();
        let (asks, real) = (asks.try_clone().unwrap(), &mut proxy.real);
        let (mut asks, mut got) = (asks, Vec::new());
        let mut ends = Vec::new();
        let mut over = false;
        let events = real.run_until(|el| {
            over = over || read_some(&mut asks, &mut got);
            over && el.connection_count() == 0
        });
        for event in events {
            if let Event::Closed { reason, .. } = event {
                ends.push(reason);
            }
        }
        assert_eq!(got, b"answer");
        assert_eq!(ends, [CloseReason::PeerFinished; 2]);
    }
}

#[test]
fn a_reset_is_carried_on_as_a_reset_from_either_side() {
    for from_client in [true, false] {
        let Proxy {
            mut real,
            client,
            near,
            far,
            server,
        } = Proxy::new(&ConnOptions::default());
        let (resets, mut other) = if from_client {
            (client, server)
        } else {
            (server, client)
        };
        real.run_until(|el| el.counters().connected == 1);
        reset(resets);
        let mut proxy_ends = Vec::new();
        real.until(|_, event| {
            if let Event::Closed { conn, reason, .. } = event {
                proxy_ends.push((conn, reason));
            }
            (proxy_ends.len() == 2).then_some(())
        });
        let (its, others) = if from_client {
            (near, far)
        } else {
            (far, near)
        };
        assert_eq!(
            proxy_ends,
            [
                (its, CloseReason::Reset),
                (others, CloseReason::AbortedHere)
            ]
        );
        let e = other.read(&mut [0; 9]).unwrap_err();
        assert_eq!(e.kind(), IoKind::ConnectionReset);
    }
}

#[test]
fn a_close_and_a_missed_deadline_are_carried_on_as_a_close() {
    let mut proxy = Proxy::new(&ConnOptions::default());
    proxy.client.write_all(b"before").unwrap();
    proxy.arrives(true, b"before");
    proxy.real.el.conn(proxy.near).unwrap().close();
    proxy.client.shutdown(Shutdown::Write).unwrap();
    proxy.server.shutdown(Shutdown::Write).unwrap();
    let closed = CloseReason::ClosedHere;
    assert_eq!(proxy.ends(), (closed, closed));
    assert!(
        read_some(&mut proxy.server, &mut Vec::new()),
        "an end of stream, no reset"
    );

    let mut proxy = Proxy::new(&ConnOptions::default());
    let mut far = proxy.real.el.conn(proxy.far).unwrap();
    far.set_idle_timeout(Some(Duration::from_millis(50)));
    proxy.client.shutdown(Shutdown::Write).unwrap();
    let idle = CloseReason::TimedOut(Deadline::Idle);
    assert_eq!(proxy.ends(), (closed, idle));
    assert!(read_some(&mut proxy.client, &mut Vec::new()));

    let mut proxy = Proxy::new(&ConnOptions::default());
    proxy.real.el.shut_down(Duration::from_millis(50));
    let down = CloseReason::ShutDown;
    assert_eq!(proxy.ends(), (down, down));
}

#[test]
fn a_connection_that_died_before_the_pipe_ends_the_other() {
    let mut real = Real::new(ConnOptions::default());
    let [(_one, dead), (mut other, near)] = [real.pair(), real.pair()];
    real.el.conn(dead).unwrap().abort();
    real.el.pipe(near, dead).unwrap();
    let closed = real.until_closed(near);
    assert!(matches!(
        closed,
        Event::Closed {
            reason: CloseReason::AbortedHere,
            ..
        }
    ));
    let e = other.read(&mut [0; 9]).unwrap_err();
    assert_eq!(e.kind(), IoKind::ConnectionReset);
}

#[test]
fn a_server_that_can_not_be_reached_closes_the_client() {
    let mut real = Real::new(ConnOptions::default());
    let (mut client, near) = real.pair();
    client.write_all(b"for nobody").unwrap();
    let far = real
        .el
        .connect(nobody(), &ConnectOptions::default())
        .unwrap();
    real.el.pipe(near, far).unwrap();
    let events = real.run_until(|_| read_some(&mut client, &mut Vec::new()));
    drop(client);
    let rest = real.run_until(|el| el.connection_count() == 0);
    let mut ends = Vec::new();
    for event in events.into_iter().chain(rest) {
        if let Event::Closed { conn, reason, .. } = event {
            ends.push((conn, reason));
        }
    }
    assert!(matches!(ends[0], (id, CloseReason::ConnectFailed(_)) if id == far));
    assert_eq!(ends[1..], [(near, CloseReason::ClosedHere)]);
}

#[test]
fn what_was_received_and_sent_before_goes_first() {
    let mut real = Real::new(ConnOptions::default());
    let (mut client, _) = real.pair();
    client.write_all(b"header|body ").unwrap();
    let (near, far, server) = real.until(|el, event| {
        let Event::Data { conn } = event else {
            return None;
        };
        el.conn(conn).unwrap().consume(7);
        let (far, server) = connect(el, &ConnOptions::default());
        el.send(far, b"hello from the proxy, ").unwrap();
        el.pipe(conn, far).unwrap();
        assert!(matches!(
            el.send(far, b"too late").unwrap_err().kind(),
            ErrorKind::InvalidInput(_)
        ));
        Some((conn, far, server))
    });
    let mut proxy = Proxy {
        real,
        client,
        near,
        far,
        server,
    };
    proxy.client.write_all(b"and more").unwrap();
    proxy.arrives(true, b"hello from the proxy, body and more");
}

#[test]
fn an_end_of_stream_told_before_the_pipe_is_carried_after_what_is_unread() {
    let mut real = Real::new(ConnOptions::default());
    let (mut client, near) = real.pair();
    let (far, mut server) = connect(&mut real.el, &ConnOptions::default());
    client.write_all(b"all of it").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    real.until(|el, event| {
        let Event::EndOfStream { conn } = event else {
            return None;
        };
        el.pipe(conn, far).unwrap();
        Some(())
    });
    let mut got = Vec::new();
    real.run_until(|_| read_some(&mut server, &mut got));
    assert_eq!(got, b"all of it");
    server.write_all(b"answer").unwrap();
    let mut proxy = Proxy {
        real,
        client,
        near,
        far,
        server,
    };
    proxy.arrives(false, b"answer");
}

#[test]
fn what_the_handler_that_pipes_puts_back_goes_through_the_pipe_first() {
    let mut real = Real::new(ConnOptions::default());
    let (mut client, _) = real.pair();
    let (far, mut server) = connect(&mut real.el, &ConnOptions::default());
    client.write_all(b"line\nbody").unwrap();
    let mut seen = Vec::new();
    real.until(|el, event| {
        let Event::Data { conn } = event else {
            return None;
        };
        // As the C ABI has it: all is taken, then what is not used comes back.
        seen = el.take_data().unwrap_or_default().to_vec();
        el.pipe(conn, far).unwrap();
        let rest = &seen[b"line\n".len()..];
        el.conn(conn).unwrap().put_back(rest).unwrap();
        Some(())
    });
    assert!(seen.starts_with(b"line\n"));
    let mut got = Vec::new();
    real.run_until(|_| {
        read_some(&mut server, &mut got);
        got.len() >= b"body".len()
    });
    assert_eq!(got, b"body");
}

#[test]
fn unpiped_connections_tell_their_events_again() {
    let mut proxy = Proxy::new(&ConnOptions {
        half_open: true,
        ..ConnOptions::default()
    });
    proxy.client.write_all(b"piped").unwrap();
    proxy.client.shutdown(Shutdown::Write).unwrap();
    let (mut got, server) = (Vec::new(), &mut proxy.server);
    proxy.real.run_until(|_| read_some(server, &mut got));
    assert_eq!(got, b"piped");
    let el = &mut proxy.real.el;
    el.unpipe(proxy.far).unwrap();
    assert!(matches!(
        el.unpipe(proxy.near).unwrap_err().kind(),
        ErrorKind::InvalidInput(_)
    ));
    let near = proxy.near;
    // The end was carried on, and is told to the program that has the connection now.
    proxy
        .real
        .until(|_, e| (e == Event::EndOfStream { conn: near }).then_some(()));
    proxy.server.write_all(b"not piped").unwrap();
    let far = proxy.far;
    proxy
        .real
        .until(|_, e| (e == Event::Data { conn: far }).then_some(()));
    assert_eq!(proxy.real.el.conn(far).unwrap().received(), b"not piped");
    proxy.real.el.send(proxy.near, b"sent by hand").unwrap();
    proxy.arrives(false, b"sent by hand");
}

#[test]
fn a_wrong_pipe_is_refused_and_changes_nothing() {
    let mut proxy = Proxy::new(&ConnOptions::default());
    let (third, _server) = connect(&mut proxy.real.el, &ConnOptions::default());
    let (_gone, fourth) = proxy.real.pair();
    let (near, far, el) = (proxy.near, proxy.far, &mut proxy.real.el);
    el.conn(fourth).unwrap().close();
    let invalid = |e: ErrorKind| matches!(e, ErrorKind::InvalidInput(_));
    let mut pipe = |a, b| el.pipe(a, b).unwrap_err().kind();
    assert!(invalid(pipe(third, third)));
    assert!(invalid(pipe(near, far)) && invalid(pipe(third, far)) && invalid(pipe(near, third)));
    assert_eq!(pipe(third, fourth), ErrorKind::Closing);
    assert_eq!(pipe(third, ConnId::from_raw(5)), ErrorKind::BadHandle);
    assert!(invalid(el.unpipe(third).unwrap_err().kind()));
    assert!(invalid(el.give_away(near).unwrap_err().kind()));
    assert!(invalid(
        el.conn(near).unwrap().shutdown_write().unwrap_err().kind()
    ));
    assert!(invalid(
        el.conn(near).unwrap().put_back(b"x").unwrap_err().kind()
    ));
    proxy.client.write_all(b"still piped").unwrap();
    proxy.arrives(true, b"still piped");
}

#[test]
fn a_server_that_takes_nothing_more_misses_the_deadline_and_ends_both() {
    let mut proxy = Proxy::new(&ConnOptions::default());
    let mut far = proxy.real.el.conn(proxy.far).unwrap();
    far.set_write_stall_timeout(Some(Duration::from_millis(50)));
    proxy.client.set_nonblocking(false).unwrap();
    let mut client = proxy.client.try_clone().unwrap();
    let writer = thread::spawn(move || {
        // Ends with an error, when the proxy closes.
        while client.write_all(&[7; 1 << 20]).is_ok() {}
    });
    let stalled = CloseReason::TimedOut(Deadline::WriteStall);
    assert_eq!(proxy.ends(), (CloseReason::ClosedHere, stalled));
    writer.join().unwrap();
}
