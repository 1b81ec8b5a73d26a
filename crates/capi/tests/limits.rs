//! What a server refuses, where it is reached, and how it ends, through the C functions.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "every call is one that C could make"
)]

use std::ffi::c_int;
use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::ptr;
use std::time::{Duration, Instant};

use ::echoloop::*;

/// A server that is driven by batches, and what it has told.
struct Polled {
    server: *mut echoloop_server,
    el: *mut echoloop,
    addr: String,
    told: Vec<(u32, c_int)>,
}

impl Polled {
    fn new(options: echoloop_server_options) -> Self {
        let options = echoloop_server_options {
            size: size_of::<echoloop_server_options>(),
            ..options
        };
        let server = unsafe { echoloop_server_new(&options) };
        assert!(!server.is_null());
        let any = c"127.0.0.1:0".as_ptr();
        let out = ptr::null_mut();
        assert_eq!(
            unsafe { echoloop_server_listen(server, any, ptr::null(), out) },
            0
        );
        Self {
            server,
            el: echoloop_server_loop(server),
            addr: addr(server, 0),
            told: Vec::new(),
        }
    }

    fn client(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.addr).unwrap();
        let patience = Some(Duration::from_secs(20));
        stream.set_read_timeout(patience).unwrap();
        stream
    }

    fn poll(&mut self, timeout_us: i64) {
        let mut events = [unsafe { std::mem::zeroed::<echoloop_event>() }; 8];
        let n = unsafe { echoloop_poll_batch(self.el, events.as_mut_ptr(), 8, timeout_us) };
        assert!(n >= 0, "{n}");
        let new = events[..n as usize].iter().map(|e| (e.r#type, e.status));
        self.told.extend(new);
    }

    fn count(&self, what: (u32, c_int)) -> usize {
        self.told.iter().filter(|told| **told == what).count()
    }

    /// Polls until that was told `n` times.
    fn until(&mut self, what: (u32, c_int), n: usize) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.count(what) < n {
            assert!(Instant::now() < deadline, "{:?}", self.told);
            self.poll(1_000_000);
        }
    }

    fn counters(&self) -> echoloop_server_counters {
        let mut counters = echoloop_server_counters {
            size: size_of::<echoloop_server_counters>(),
            ..Default::default()
        };
        let got = unsafe { echoloop_server_counters_get(self.server, &mut counters) };
        assert_eq!(got, 0);
        counters
    }

    fn is_drained(&self) -> bool {
        unsafe { echoloop_server_report(self.server, ptr::null_mut()) == 1 }
    }

    fn free(self) {
        assert_eq!(echoloop_server_free(self.server), 0);
    }
}

fn addr(server: *mut echoloop_server, i: usize) -> String {
    let mut text = [0u8; ECHOLOOP_ADDR_MAX];
    let len = unsafe { echoloop_server_addr(server, i, text.as_mut_ptr().cast(), text.len()) };
    assert!(len > 0, "{len}");
    String::from_utf8(text[..len as usize].to_vec()).unwrap()
}

const OPENED: (u32, c_int) = (ECHOLOOP_EVENT_OPENED, 0);

fn is_reset(mut client: TcpStream) -> bool {
    matches!(client.read(&mut [0; 1]), Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset)
}

#[test]
fn who_is_one_too_many_is_reset_told_and_counted() {
    for (options, why) in [
        (
            echoloop_server_options {
                max_connections: 2,
                ..Default::default()
            },
            ECHOLOOP_REFUSED_MAX_CONNECTIONS,
        ),
        (
            echoloop_server_options {
                max_per_peer: 2,
                ..Default::default()
            },
            ECHOLOOP_REFUSED_MAX_PER_PEER,
        ),
        (
            echoloop_server_options {
                accept_rate: 1,
                accept_burst: 2,
                ..Default::default()
            },
            ECHOLOOP_REFUSED_ACCEPT_RATE,
        ),
    ] {
        let mut server = Polled::new(options);
        let good = [server.client(), server.client()];
        server.until(OPENED, 2);
        let refused = server.client();
        server.until((ECHOLOOP_EVENT_REFUSED, why), 1);
        assert!(is_reset(refused));
        let c = server.counters();
        assert_eq!((c.refused, c.most_open), (1, 2));
        let by_reason = [c.refused_full, c.refused_peer, c.refused_rate];
        let mut expected = [0; 3];
        expected[why as usize - 1] = 1;
        assert_eq!(by_reason, expected);
        drop(good);
        server.free();
    }
}

#[test]
fn the_first_drain_call_begins_the_next_ends_the_grace_and_the_last_cuts() {
    let mut server = Polled::new(echoloop_server_options {
        drain_grace_us: 3_600_000_000,
        ..Default::default()
    });
    let mut client = server.client();
    server.until(OPENED, 1);
    assert_eq!(echoloop_server_drain(server.server), 0);
    server.poll(0);
    client.set_nonblocking(true).unwrap();
    let nothing = client.read(&mut [0; 1]).unwrap_err();
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock, "served on");
    client.set_nonblocking(false).unwrap();
    assert_eq!(echoloop_server_drain(server.server), 0);
    server.poll(0);
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0, "closed in order");
    assert!(!server.is_drained(), "the client has not finished");
    assert_eq!(echoloop_server_drain(server.server), 0);
    server.until((ECHOLOOP_EVENT_CLOSED, ECHOLOOP_CLOSE_ABORTED_HERE), 1);
    server.poll(0);
    assert!(server.is_drained());
    server.free();
}

#[test]
fn a_second_stop_of_a_run_ends_the_grace_too() {
    let server = Polled::new(echoloop_server_options {
        drain_grace_us: 3_600_000_000,
        ..Default::default()
    });
    let mut client = server.client();
    let mut remote = ptr::null_mut();
    assert_eq!(unsafe { echoloop_remote_new(server.el, &mut remote) }, 0);
    let remote_bits = remote.addr();
    let stopper = std::thread::spawn(move || {
        use std::io::Write;
        let remote = ptr::without_provenance_mut(remote_bits);
        let mut back = [0; 1];
        client.write_all(b"1").unwrap();
        assert_eq!(client.read(&mut back).unwrap(), 1);
        assert_eq!(echoloop_remote_stop(remote), 0);
        // Whoever is there is served on, so this comes back after the stop was seen, or before.
        client.write_all(b"2").unwrap();
        assert_eq!(client.read(&mut back).unwrap(), 1);
        let deadline = Instant::now() + Duration::from_secs(20);
        // Each refused connect shows that the listener is closed: the drain has begun.
        while TcpStream::connect(client.peer_addr().unwrap()).is_ok() {
            assert!(Instant::now() < deadline);
        }
        client.write_all(b"3").unwrap();
        assert_eq!(client.read(&mut back).unwrap(), 1, "not cut by the first");
        assert_eq!(echoloop_remote_stop(remote), 0);
        assert_eq!(client.read(&mut back).unwrap(), 0, "closed by the second");
    });
    let mut report = echoloop_report {
        size: size_of::<echoloop_report>(),
        ..Default::default()
    };
    unsafe extern "C-unwind" fn echo(
        _: *mut std::ffi::c_void,
        conn: *mut echoloop_conn,
        data: *const u8,
        len: usize,
    ) -> usize {
        assert_eq!(unsafe { echoloop_conn_send(conn, data.cast(), len) }, 0);
        len
    }
    let hooks = echoloop_hooks {
        size: size_of::<echoloop_hooks>(),
        on_data: Some(echo),
        ..Default::default()
    };
    let user = ptr::null_mut();
    assert_eq!(
        unsafe { echoloop_server_run(server.server, &hooks, user, &mut report) },
        0
    );
    stopper.join().unwrap();
    assert!(report.closed_clean >= 1);
    assert_eq!((report.aborted, report.bytes_lost), (0, 0));
    assert_eq!(echoloop_remote_free(remote), 0);
    server.free();
}

#[test]
fn a_drain_may_have_a_grace_of_its_own() {
    for grace in [0, -1] {
        let mut server = Polled::new(echoloop_server_options {
            drain_grace_us: 3_600_000_000,
            ..Default::default()
        });
        let mut client = server.client();
        server.until(OPENED, 1);
        assert_eq!(echoloop_server_drain_with_grace(server.server, grace), 0);
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0, "no grace: closed now");
        server.free();
    }
    let mut server = Polled::new(echoloop_server_options::default());
    let mut client = server.client();
    server.until(OPENED, 1);
    let begun = Instant::now();
    assert_eq!(echoloop_server_drain_with_grace(server.server, 50_000), 0);
    assert_eq!(
        echoloop_server_drain_with_grace(server.server, 0),
        0,
        "changes nothing"
    );
    server.until((ECHOLOOP_EVENT_CLOSED, ECHOLOOP_CLOSE_SHUT_DOWN), 1);
    assert!(begun.elapsed() >= Duration::from_millis(50));
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    server.free();
}

#[test]
fn an_inherited_socket_is_served_and_becomes_the_servers() {
    let mut server = Polled::new(echoloop_server_options::default());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let given = listener.local_addr().unwrap();
    let fd = listener.into_raw_fd();
    assert_eq!(unsafe { echoloop_server_inherit(server.server, fd) }, 0);
    assert_eq!(addr(server.server, 1), given.to_string());
    let client = TcpStream::connect(given).unwrap();
    server.until(OPENED, 1);
    drop(client);
    let (any, mut own) = (c"127.0.0.1:0".as_ptr(), ptr::null_mut());
    let (options, bind) = (ptr::null(), echoloop_server_bind_udp);
    assert_eq!(unsafe { bind(server.server, any, options, &mut own) }, 0);
    assert_eq!(echoloop_udp_close(own), 0);
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let bound = udp.local_addr().unwrap().to_string();
    assert_eq!(
        unsafe { echoloop_server_inherit(server.server, udp.into_raw_fd()) },
        0
    );
    let mut text = [0u8; ECHOLOOP_ADDR_MAX];
    let (buf, room) = (text.as_mut_ptr().cast(), text.len());
    let len = unsafe { echoloop_server_udp_addr(server.server, 0, buf, room) };
    assert_eq!(text[..len as usize], *bound.as_bytes());
    for beyond in [1, usize::MAX] {
        let got = unsafe { echoloop_server_udp_addr(server.server, beyond, buf, room) };
        assert_eq!(got, ECHOLOOP_EINVAL);
    }
    assert_eq!(echoloop_server_drain(server.server), 0);
    let late = unsafe { bind(server.server, any, options, ptr::null_mut()) };
    assert_eq!(late, ECHOLOOP_ECLOSING);
    server.free();
    // The last descriptor of it was the server's.
    assert!(TcpStream::connect(given).is_err());
}

#[test]
fn what_can_not_be_inherited_stays_the_programs() {
    let server = Polled::new(echoloop_server_options::default());
    const EBADF: c_int = 9; // Linux, errno(3)
    for none in [-1, c_int::MIN, 1 << 20] {
        let got = unsafe { echoloop_server_inherit(server.server, none) };
        assert_eq!(got, -EBADF, "{none}");
    }
    let (reader, _writer) = std::io::pipe().unwrap();
    let got = unsafe { echoloop_server_inherit(server.server, reader.as_raw_fd()) };
    assert!(got < 0);
    assert!(reader.try_clone().is_ok(), "still open");
    assert_eq!(echoloop_server_drain(server.server), 0);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let late = unsafe { echoloop_server_inherit(server.server, listener.as_raw_fd()) };
    assert_eq!(late, ECHOLOOP_ECLOSING);
    assert!(listener.try_clone().is_ok(), "still open");
    server.free();
}
