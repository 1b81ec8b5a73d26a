//! Connections through the C functions: names, half-open, deadlines, rates, setters, pipes, the end.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "every call is one that C could make"
)]

mod util;

use std::ffi::{c_int, c_void};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::FromRawFd;
use std::ptr;
use std::time::{Duration, Instant};

use ::echoloop::*;
use util::faces::{
    BOTH, By, Face, PATIENCE, addr_of, conn_options, connect_options, last_error, listen_options,
    send,
};

const EINVAL: c_int = 22; // Linux, errno(3)
const EOPNOTSUPP: c_int = 95;
const ECONNREFUSED: c_int = 111;

/// A loop that listens with these options for its connections.
fn listening(by: By, conn: &echoloop_conn_options) -> (Face, *mut echoloop_listener, String) {
    let face = Face::new(by);
    let options = echoloop_listen_options {
        conn,
        ..listen_options()
    };
    let listener = face.listen(b"127.0.0.1:0", &options);
    let addr = addr_of(echoloop_listener_addr, listener);
    (face, listener, String::from_utf8(addr).unwrap())
}

/// A client of std, and the connection it has become.
fn accepted(face: &Face, addr: &str) -> (TcpStream, *mut echoloop_conn) {
    let client = TcpStream::connect(addr).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let opened = face.sees_any(|e| e.what == ECHOLOOP_EVENT_OPENED);
    (client, opened.conn)
}

#[test]
fn a_connect_by_name_tells_what_it_tried() {
    for by in BOTH {
        let (face, _, addr) = listening(by, &conn_options());
        let port = addr.rsplit_once(':').unwrap().1;
        let name = format!("localhost:{port}");
        let conn = face.connect(name.as_bytes(), &connect_options());
        assert_eq!(addr_of(echoloop_conn_target, conn), name.as_bytes());
        assert_eq!(echoloop_conn_attempts(conn), 0);
        let mut won = 0;
        face.until(|e| {
            if (e.what, e.conn) != (ECHOLOOP_EVENT_CONNECTED, conn) {
                return false;
            }
            assert_eq!(addr_of(echoloop_conn_target, conn), name.as_bytes());
            let tried = echoloop_conn_attempts(conn) as usize;
            for i in 0..tried {
                let (mut text, mut status) = ([0_u8; ECHOLOOP_ADDR_MAX], 1);
                let buf = text.as_mut_ptr().cast();
                let len = unsafe { echoloop_conn_attempt(conn, i, buf, text.len(), &mut status) };
                if text[..len as usize] == *addr.as_bytes() {
                    assert_eq!(status, 0);
                    won += 1;
                } else {
                    assert_eq!(
                        status, -ECONNREFUSED,
                        "the IPv6 address, where there is one"
                    );
                }
            }
            let mut text = [0_u8; ECHOLOOP_ADDR_MAX];
            let buf = text.as_mut_ptr().cast();
            let beyond =
                unsafe { echoloop_conn_attempt(conn, tried, buf, text.len(), ptr::null_mut()) };
            assert_eq!((beyond, text), (ECHOLOOP_EINVAL, [0; ECHOLOOP_ADDR_MAX]));
            true
        });
        assert_eq!(won, 1);
        assert_eq!(addr_of(echoloop_conn_peer_addr, conn), addr.as_bytes());
        face.turn();
        assert_eq!(
            echoloop_conn_attempts(conn),
            0,
            "the list is gone with its event"
        );
        assert_eq!(addr_of(echoloop_conn_target, conn), addr.as_bytes());
    }
}

#[test]
fn a_name_that_is_none_is_a_reason_of_the_resolver() {
    for by in BOTH {
        let face = Face::new(by);
        // A label has at most 63 bytes, so no server is asked.
        let name = format!("{}:80", "a".repeat(64));
        let conn = face.connect(name.as_bytes(), &connect_options());
        let closed = face.sees(ECHOLOOP_EVENT_CLOSED, conn);
        let resolver = ECHOLOOP_RESOLVER_BASE - 999..ECHOLOOP_RESOLVER_BASE;
        assert!(resolver.contains(&closed.status), "{}", closed.status);
        let name = unsafe { std::ffi::CStr::from_ptr(echoloop_errname(closed.status)) };
        assert!(name.to_str().unwrap().starts_with("EAI_"), "{name:?}");
    }
}

#[test]
fn a_half_open_connection_still_sends_after_the_end_of_stream() {
    for (by, half_open) in BOTH.into_iter().flat_map(|by| [(by, 0), (by, 1)]) {
        let options = echoloop_conn_options {
            half_open,
            ..conn_options()
        };
        let (face, _, addr) = listening(by, &options);
        let (mut client, conn) = accepted(&face, &addr);
        client.shutdown(Shutdown::Write).unwrap();
        face.sees(ECHOLOOP_EVENT_END_OF_STREAM, conn);
        if half_open == 0 {
            let closed = face.sees(ECHOLOOP_EVENT_CLOSED, conn);
            assert_eq!(closed.status, ECHOLOOP_CLOSE_PEER_FINISHED);
            continue;
        }
        (0..3).for_each(|_| face.turn());
        assert_eq!(echoloop_conn_may_send(conn), 1);
        assert_eq!(send(conn, b"later"), 0);
        assert_eq!(echoloop_conn_close(conn), 0);
        assert_eq!(echoloop_conn_may_send(conn), 0);
        let closed = face.sees(ECHOLOOP_EVENT_CLOSED, conn);
        assert_eq!(closed.status, ECHOLOOP_CLOSE_CLOSED_HERE);
        let mut got = String::new();
        client.read_to_string(&mut got).unwrap();
        assert_eq!(got, "later");
    }
}

#[test]
fn who_sends_nothing_is_closed_by_the_first_byte_timeout() {
    for by in BOTH {
        let options = echoloop_conn_options {
            first_byte_timeout_us: 100_000,
            ..conn_options()
        };
        let (face, _, addr) = listening(by, &options);
        let (mut speaks, speaker) = accepted(&face, &addr);
        speaks.write_all(b"x").unwrap();
        face.sees(ECHOLOOP_EVENT_DATA, speaker);
        let (_silent, conn) = accepted(&face, &addr);
        let closed = face.sees(ECHOLOOP_EVENT_CLOSED, conn);
        assert_eq!(closed.status, ECHOLOOP_CLOSE_TIMED_OUT_FIRST_BYTE);
        assert_eq!(echoloop_conn_may_send(speaker), 1, "it has spoken");
    }
}

#[test]
fn a_lifetime_ends_a_connection_by_option_and_by_setter() {
    for by in BOTH {
        let options = echoloop_conn_options {
            lifetime_us: 50_000,
            linger_us: -1,
            ..conn_options()
        };
        let (face, _, addr) = listening(by, &options);
        let begun = Instant::now();
        let (_one, by_option) = accepted(&face, &addr);
        let closed = face.sees(ECHOLOOP_EVENT_CLOSED, by_option);
        assert_eq!(closed.status, ECHOLOOP_CLOSE_TIMED_OUT_LIFETIME);
        assert!(begun.elapsed() >= Duration::from_millis(50));
        let (_two, conn) = accepted(&face, &addr);
        assert_eq!(echoloop_conn_set_lifetime(conn, 0), 0);
        let (_three, ends) = accepted(&face, &addr);
        face.sees(ECHOLOOP_EVENT_CLOSED, ends);
        assert_eq!(echoloop_conn_may_send(conn), 1, "it lives for ever");
        assert_eq!(echoloop_conn_set_lifetime(conn, 1), 0);
        let closed = face.sees(ECHOLOOP_EVENT_CLOSED, conn);
        assert_eq!(closed.status, ECHOLOOP_CLOSE_TIMED_OUT_LIFETIME);
    }
}

#[test]
fn a_receive_rate_holds_reads_back_and_loses_nothing() {
    const PER_SECOND: u64 = 200_000;
    const BURST: usize = 10_000;
    const SENT: usize = 60_000;
    for by in BOTH {
        let (face, _, addr) = listening(by, &conn_options());
        let (mut client, conn) = accepted(&face, &addr);
        let set = echoloop_conn_set_receive_rate(conn, PER_SECOND as i64, BURST as i64);
        assert_eq!(set, 0);
        let begun = Instant::now();
        client.write_all(&[7; SENT]).unwrap();
        let mut got = 0;
        face.until(|e| {
            got += e.data.len();
            let allowed =
                BURST as u64 + PER_SECOND * begun.elapsed().as_micros() as u64 / 1_000_000;
            assert!(got as u64 <= allowed, "{got} of {allowed}");
            got == SENT
        });
        // Without the bound it is there at once.
        assert_eq!(echoloop_conn_set_receive_rate(conn, 1, 1), 0);
        client.write_all(&[7; SENT]).unwrap();
        assert_eq!(echoloop_conn_set_receive_rate(conn, 0, 0), 0);
        let mut got = 0;
        face.until(|e| {
            got += e.data.len();
            got == SENT
        });
    }
}

#[test]
fn options_of_the_socket_can_be_set_while_it_lives() {
    let (face, _, addr) = listening(By::Batches, &conn_options());
    let (_client, conn) = accepted(&face, &addr);
    let seconds = |n: i64| n * 1_000_000;
    assert_eq!(echoloop_conn_set_no_delay(conn, 0), 0);
    assert_eq!(echoloop_conn_set_keepalive(conn, -1, 0, 0), 0);
    assert_eq!(
        echoloop_conn_set_keepalive(conn, seconds(60), seconds(7), 3),
        0
    );
    let refused = echoloop_conn_set_keepalive(conn, seconds(60), 0, 1000);
    assert_eq!(refused, -EINVAL);
    assert!(last_error().contains("TCP_KEEPCNT") || last_error().contains("SO_KEEPALIVE"));
    assert_eq!(echoloop_conn_set_notsent_lowat(conn, 16 << 10), 0);
    let mut given = echoloop_given {
        size: size_of::<echoloop_given>(),
        ..Default::default()
    };
    assert_eq!(unsafe { echoloop_give_away(conn, &mut given) }, 0);
    let socket = unsafe { socket2::Socket::from_raw_fd(given.fd) };
    assert!(!socket.tcp_nodelay().unwrap());
    assert!(socket.keepalive().unwrap());
    let times = [socket.tcp_keepalive_time(), socket.tcp_keepalive_interval()];
    assert_eq!(times.map(|time| time.unwrap().as_secs()), [60, 7]);
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
    assert_eq!(socket.tcp_notsent_lowat().unwrap(), 16 << 10);
    let name = format!("unix:@echoloop-options-{}", std::process::id());
    face.listen(name.as_bytes(), &listen_options());
    let conn = face.connect(name.as_bytes(), &connect_options());
    face.sees(ECHOLOOP_EVENT_CONNECTED, conn);
    assert_eq!(echoloop_conn_set_no_delay(conn, 1), -EOPNOTSUPP);
}

#[test]
fn a_shut_down_closes_all_listeners_and_connections_in_order() {
    for by in BOTH {
        let (face, listener, addr) = listening(by, &conn_options());
        let mut clients: Vec<_> = (0..3).map(|_| accepted(&face, &addr)).collect();
        for (_, conn) in &clients {
            assert_eq!(send(*conn, b"bye"), 0);
        }
        assert_eq!(echoloop_shut_down(face.el, 5_000_000), 0);
        assert_eq!(echoloop_listener_close(listener), ECHOLOOP_EBADHANDLE);
        for (client, _) in &mut clients {
            let mut got = String::new();
            // The close waits for the peer's, so this one reads while the loop still turns.
            client.set_nonblocking(true).unwrap();
            face_reads(&face, client, &mut got);
            assert_eq!(got, "bye");
        }
        let mut streams: Vec<_> = clients
            .into_iter()
            .map(|(client, conn)| {
                drop(client);
                conn
            })
            .collect();
        face.until(|e| {
            if e.what == ECHOLOOP_EVENT_CLOSED {
                assert_eq!(e.status, ECHOLOOP_CLOSE_SHUT_DOWN);
                streams.retain(|conn| *conn != e.conn);
            }
            streams.is_empty()
        });
    }
}

/// Turns the loop until a client that does not block has read to its end of stream.
fn face_reads(face: &Face, client: &mut TcpStream, got: &mut String) {
    let begun = Instant::now();
    loop {
        face.turn();
        match client.read_to_string(got) {
            Ok(_) => return,
            Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::WouldBlock),
        }
        assert!(begun.elapsed() < PATIENCE);
    }
}

#[test]
fn a_pipe_carries_bytes_and_ends_both_ways() {
    for by in BOTH {
        let (face, _, addr) = listening(by, &conn_options());
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = server.local_addr().unwrap().to_string();
        let (mut client, near) = accepted(&face, &addr);
        let far = face.connect(to.as_bytes(), &connect_options());
        assert_eq!(echoloop_pipe(near, far), 0);
        assert_eq!(echoloop_pipe(near, far), ECHOLOOP_EINVAL);
        assert_eq!(send(near, b"x"), ECHOLOOP_EINVAL);
        let serving = std::thread::spawn(move || {
            let mut asked = Vec::new();
            let mut stream = server.accept().unwrap().0;
            stream.read_to_end(&mut asked).unwrap();
            stream.write_all(&asked).unwrap();
        });
        let sent = vec![7; 1 << 20];
        let asking = std::thread::spawn(move || {
            client.write_all(&sent).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut got = Vec::new();
            client.read_to_end(&mut got).unwrap();
            assert!(got == sent);
        });
        let mut ended = Vec::new();
        face.until(|e| {
            match e.what {
                ECHOLOOP_EVENT_CONNECTED => {}
                ECHOLOOP_EVENT_CLOSED => ended.push(e.status),
                other => panic!("event {other} is told of a piped connection"),
            }
            ended.len() == 2
        });
        assert_eq!(ended, [ECHOLOOP_CLOSE_PEER_FINISHED; 2]);
        serving.join().unwrap();
        asking.join().unwrap();
    }
}

#[test]
fn an_unpiped_connection_is_the_programs_again() {
    for by in BOTH {
        let (face, _, addr) = listening(by, &conn_options());
        let ((mut one, a), (two, b)) = (accepted(&face, &addr), accepted(&face, &addr));
        assert_eq!(echoloop_unpipe(a), ECHOLOOP_EINVAL);
        assert_eq!(echoloop_pipe(a, a), ECHOLOOP_EINVAL);
        assert_eq!(echoloop_pipe(a, b), 0);
        one.write_all(b"through").unwrap();
        two.set_nonblocking(true).unwrap();
        let (mut got, begun) = ([0; 7], Instant::now());
        while two.peek(&mut got).unwrap_or(0) < 7 {
            face.turn();
            assert!(begun.elapsed() < PATIENCE);
        }
        assert_eq!(echoloop_unpipe(b), 0);
        one.write_all(b"mine").unwrap();
        assert_eq!(face.sees(ECHOLOOP_EVENT_DATA, a).data, b"mine");
        assert_eq!(send(b, b"yours"), 0);
    }
}

#[test]
fn connections_of_two_loops_are_not_piped() {
    let (face, _, addr) = listening(By::Batches, &conn_options());
    let (other, _, other_addr) = listening(By::Batches, &conn_options());
    let (_one, a) = accepted(&face, &addr);
    let (_two, b) = accepted(&other, &other_addr);
    assert_eq!(echoloop_pipe(a, b), ECHOLOOP_EBADHANDLE);
    assert_eq!(echoloop_pipe(a, ptr::null_mut()), ECHOLOOP_EBADHANDLE);
    let (a, b) = (a.addr(), b.addr());
    let elsewhere = std::thread::spawn(move || {
        let conn = ptr::without_provenance_mut;
        let (_other, _, addr) = listening(By::Batches, &conn_options());
        let (_three, c) = accepted(&_other, &addr);
        assert_eq!(echoloop_pipe(conn(a), conn(b)), ECHOLOOP_EWRONGTHREAD);
        assert_eq!(echoloop_pipe(c, conn(a)), ECHOLOOP_EWRONGTHREAD);
    });
    elsewhere.join().unwrap();
}

/// What the callback below pipes to, and how it keeps the rest.
struct Sniffer {
    far: *mut echoloop_conn,
    puts_back: bool,
    piped: bool,
}

/// Reads one line, and leaves the rest to the pipe.
unsafe extern "C-unwind" fn sniff(
    user: *mut c_void,
    conn: *mut echoloop_conn,
    data: *const u8,
    len: usize,
) -> usize {
    let sniffer = unsafe { &mut *user.cast::<Sniffer>() };
    let bytes = unsafe { std::slice::from_raw_parts(data, len) };
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        return 0;
    };
    let rest = &bytes[end + 1..];
    if sniffer.puts_back {
        let status = unsafe { echoloop_conn_unread(conn, rest.as_ptr().cast(), rest.len()) };
        assert_eq!(status, 0);
    }
    assert_eq!(echoloop_pipe(conn, sniffer.far), 0);
    sniffer.piped = true;
    if sniffer.puts_back { len } else { end + 1 }
}

#[test]
fn what_on_data_leaves_goes_through_the_pipe_that_it_makes() {
    for puts_back in [false, true] {
        let (face, _, addr) = listening(By::Callbacks, &conn_options());
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = server.local_addr().unwrap().to_string();
        let far = face.connect(to.as_bytes(), &connect_options());
        let stream = server.accept().unwrap().0;
        stream.set_nonblocking(true).unwrap();
        let mut client = TcpStream::connect(&addr).unwrap();
        client.write_all(b"to the server\nbody").unwrap();
        let hooks = echoloop_hooks {
            size: size_of::<echoloop_hooks>(),
            on_data: Some(sniff),
            ..Default::default()
        };
        let mut sniffer = Sniffer {
            far,
            puts_back,
            piped: false,
        };
        let (mut got, begun) = ([0; 16], Instant::now());
        loop {
            let user = ptr::from_mut(&mut sniffer).cast();
            let n = unsafe { echoloop_run_once(face.el, &hooks, user, 1000) };
            assert!(n >= 0, "{}", last_error());
            if sniffer.piped && stream.peek(&mut got).is_ok_and(|n| n >= 4) {
                break;
            }
            assert!(begun.elapsed() < PATIENCE);
        }
        assert_eq!(&got[..4], b"body");
        client.write_all(b" and more").unwrap();
        while stream.peek(&mut got).unwrap_or(0) < 13 {
            let user = ptr::from_mut(&mut sniffer).cast();
            unsafe { echoloop_run_once(face.el, &hooks, user, 1000) };
            assert!(begun.elapsed() < PATIENCE);
        }
        assert_eq!(&got[..13], b"body and more");
    }
}
