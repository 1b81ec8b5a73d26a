//! UDP from C: what is lent and for how long, what is sent and from where, by callbacks and batches.
//!
//! The functions are called from Rust, through the rlib, as C would call them. What datagrams do on the
//! wire is tested in the core.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "every call is one that C could make"
)]

#[path = "util/told.rs"]
mod told;

use std::collections::BTreeSet;
use std::ffi::{c_int, c_void};
use std::net::{Ipv6Addr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};
use std::ptr;
use std::time::Duration;

use ::echoloop::*;
use told::{FACES, Face, Loop, PATIENCE, Told, c, errname, ip, last_error, text};

fn options() -> echoloop_udp_options {
    echoloop_udp_options {
        size: size_of::<echoloop_udp_options>(),
        ..echoloop_udp_options::default()
    }
}

fn bind_with(
    el: &Loop,
    addr: &str,
    options: &echoloop_udp_options,
) -> Result<*mut echoloop_udp, c_int> {
    let (addr, mut udp) = (c(addr), ptr::null_mut());
    match unsafe { echoloop_udp_bind(el.0, addr.as_ptr(), options, &mut udp) } {
        0 => Ok(udp),
        status => Err(status),
    }
}

/// A socket on a port that the system chose, and its address.
fn bind(el: &Loop, addr: &str) -> (*mut echoloop_udp, String) {
    let udp = bind_with(el, addr, &options()).unwrap_or_else(|_| panic!("{}", last_error()));
    (udp, local(udp))
}

fn local(udp: *mut echoloop_udp) -> String {
    text(|buf, n| unsafe { echoloop_udp_local_addr(udp, buf, n) }).unwrap()
}

fn peer() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buf = [0; 2048];
    let n = socket.recv(&mut buf).expect("an answer in time");
    buf[..n].to_vec()
}

fn array<'a>(first: *const echoloop_datagram, n: usize) -> &'a [echoloop_datagram] {
    unsafe { std::slice::from_raw_parts(first, n) }
}

fn bytes(datagram: &echoloop_datagram) -> &[u8] {
    unsafe { std::slice::from_raw_parts(datagram.data, datagram.len) }
}

/// How many datagrams are lent, and where.
fn received(udp: *mut echoloop_udp) -> (c_int, *const echoloop_datagram) {
    let mut first = ptr::dangling();
    let n = unsafe { echoloop_udp_received(udp, &mut first) };
    (n, first)
}

fn send_to(udp: *mut echoloop_udp, to: &echoloop_ip, word: &[u8]) -> c_int {
    unsafe { echoloop_udp_send_to(udp, to, word.as_ptr().cast(), word.len()) }
}

/// Turns until `n` datagrams have come; their words.
fn words(el: &Loop, face: Face, n: usize) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    el.until(face, |told| {
        if let Told::Datagrams { first, n, .. } = told {
            words.extend(array(first, n).iter().map(|d| bytes(d).to_vec()));
        }
        words.len() >= n
    });
    words
}

#[test]
fn an_echo_sends_what_it_was_lent_from_where_it_lies() {
    for face in FACES {
        let el = Loop::new();
        let (udp, addr) = bind(&el, "127.0.0.1:0");
        let peer = peer();
        peer.connect(&addr).unwrap();
        for word in [&b"one"[..], b"", &[7; 1400]] {
            peer.send(word).unwrap();
        }
        let (mut echoed, from) = (0, peer.local_addr().unwrap().to_string());
        el.until(face, |told| {
            let Told::Datagrams {
                udp: which,
                first,
                n,
            } = told
            else {
                panic!("{told:?}");
            };
            assert_eq!((which, received(udp)), (udp, (n as c_int, first)));
            for d in array(first, n) {
                let sender = text(|buf, n| unsafe { echoloop_ip_text(&d.from, buf, n) });
                assert_eq!(
                    (sender, d.to.version, d.truncated),
                    (Ok(from.clone()), 0, 0)
                );
                assert_eq!(send_to(udp, &d.from, bytes(d)), 0);
            }
            assert_eq!(received(udp), (n as c_int, first), "sends change nothing");
            echoed += n;
            echoed >= 3
        });
        el.turn(face, Duration::ZERO, |told| panic!("{told:?}"));
        assert_eq!(received(udp), (0, ptr::null()), "{face:?}");
        let answers = [0; 3].map(|_| receive(&peer));
        assert_eq!(answers, [b"one".to_vec(), vec![], vec![7; 1400]]);
    }
}

#[test]
fn datagrams_are_lent_by_their_own_socket_until_the_next_event() {
    for face in FACES {
        let el = Loop::new();
        let sockets = [bind(&el, "127.0.0.1:0"), bind(&el, "127.0.0.1:0")];
        let peer = peer();
        for (_, addr) in &sockets {
            peer.send_to(b"hello", addr).unwrap();
        }
        let mut told_of = BTreeSet::new();
        el.until(face, |told| {
            let Told::Datagrams { udp, n, .. } = told else {
                panic!("{told:?}");
            };
            for (socket, _) in &sockets {
                let lent = if *socket == udp { n as c_int } else { 0 };
                assert_eq!(received(*socket).0, lent, "{face:?}");
            }
            told_of.insert(udp.addr());
            told_of.len() == 2
        });
    }
}

#[test]
fn what_a_callback_was_lent_outlives_the_close_of_its_socket() {
    for face in FACES {
        let el = Loop::new();
        let (udp, addr) = bind(&el, "127.0.0.1:0");
        peer().send_to(b"last words", &addr).unwrap();
        el.until(face, |told| {
            let Told::Datagrams { first, n, .. } = told else {
                panic!("{told:?}");
            };
            assert_eq!(echoloop_udp_close(udp), 0);
            assert_eq!(echoloop_udp_close(udp), ECHOLOOP_EBADHANDLE);
            let (next, _) = bind(&el, "127.0.0.1:0");
            assert_eq!(received(udp).0, ECHOLOOP_EBADHANDLE);
            assert_eq!(received(next), (0, ptr::null()));
            assert_eq!(bytes(&array(first, n)[0]), b"last words");
            true
        });
    }
}

#[test]
fn an_answer_leaves_from_the_address_that_was_asked() {
    for face in FACES {
        let el = Loop::new();
        let (udp, addr) = bind(&el, "0.0.0.0:0");
        let (peer, port) = (peer(), addr.rsplit(':').next().unwrap());
        peer.connect(format!("127.0.0.2:{port}")).unwrap();
        peer.send(b"who?").unwrap();
        el.until(face, |told| {
            let Told::Datagrams { first, n, .. } = told else {
                panic!("{told:?}");
            };
            let d = &array(first, n)[0];
            let to = text(|buf, n| unsafe { echoloop_ip_text(&d.to, buf, n) });
            assert_eq!(to, Ok("127.0.0.2".into()));
            let none = echoloop_ip::default();
            for from in [&d.to, &none] {
                let word = c"I".as_ptr().cast();
                let sent = unsafe { echoloop_udp_send_from(udp, from, &d.from, word, 1) };
                assert_eq!(sent, 0, "{}", last_error());
            }
            true
        });
        el.turn(face, Duration::ZERO, |_| ());
        assert_eq!(receive(&peer), b"I");
        peer.set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let other = peer.recv(&mut [0; 9]);
        assert!(other.is_err(), "that of no address is not from 127.0.0.2");
    }
}

#[test]
fn a_connected_socket_hears_of_its_peer_alone_and_of_its_errors() {
    for face in FACES {
        let el = Loop::new();
        let (udp, addr) = bind(&el, "127.0.0.1:0");
        let word = c"hi".as_ptr().cast::<c_void>();
        let send = || unsafe { echoloop_udp_send(udp, word, 2) };
        let peer_addr = || text(|buf, n| unsafe { echoloop_udp_peer_addr(udp, buf, n) });
        assert_eq!(errname(send()), "EDESTADDRREQ");
        assert_eq!(peer_addr(), Err(-libc::ENOTCONN));

        let (friend, stranger) = (peer(), peer());
        let friends = friend.local_addr().unwrap().to_string();
        assert_eq!(unsafe { echoloop_udp_connect(udp, &ip(&friends)) }, 0);
        assert_eq!(peer_addr(), Ok(friends));
        assert_eq!(send(), 0);
        el.turn(face, Duration::ZERO, |_| ());
        assert_eq!(receive(&friend), b"hi");
        stranger.send_to(b"psst", &addr).unwrap();
        friend.send_to(b"yes?", &addr).unwrap();
        assert_eq!(words(&el, face, 1), [b"yes?"]);

        drop(friend);
        assert_eq!(send(), 0);
        let (mut error, mut event) = (0, 0);
        el.until(face, |told| {
            match told {
                Told::Error { status } => error = status,
                Told::Other(ECHOLOOP_EVENT_UDP_ERROR, status) => event = status,
                other => panic!("{other:?}"),
            }
            event != 0
        });
        let refused = -libc::ECONNREFUSED;
        let by_hook = if face == Face::Callbacks { refused } else { 0 };
        assert_eq!((error, event), (by_hook, refused));

        assert_eq!(echoloop_udp_disconnect(udp), 0);
        assert_eq!(errname(send()), "EDESTADDRREQ");
        stranger.send_to(b"now", &addr).unwrap();
        assert_eq!(words(&el, face, 1), [b"now"]);
    }
}

#[test]
fn segments_arrive_as_datagrams() {
    let el = Loop::new();
    let (udp, _) = bind(&el, "127.0.0.1:0");
    let peer = peer();
    let to = ip(&peer.local_addr().unwrap().to_string());
    let send = |len, segment| unsafe {
        echoloop_udp_send_segments(udp, &to, c"aabbc".as_ptr().cast(), len, segment)
    };
    assert_eq!((send(5, 2), send(0, 2)), (0, 0));
    assert_eq!(send(5, 0), ECHOLOOP_EINVAL);
    assert_eq!(echoloop_udp_queued(udp), 3);
    el.turn(Face::Batches, Duration::ZERO, |_| ());
    assert_eq!([0; 3].map(|_| receive(&peer)), [&b"aa"[..], b"bb", b"c"]);
    assert_eq!(
        (echoloop_udp_queued(udp), echoloop_udp_dropped(udp)),
        (0, 0)
    );
}

#[test]
fn what_can_not_be_sent_says_why() {
    let el = Loop::new();
    let (udp, addr) = bind(&el, "127.0.0.1:0");
    let (to, big) = (ip(&addr), vec![0u8; 65_536]);
    let word = c"x".as_ptr().cast::<c_void>();
    assert_eq!(errname(send_to(udp, &to, &big)), "EMSGSIZE");
    assert_eq!(send_to(udp, &ip("127.0.0.1"), b"x"), ECHOLOOP_EINVAL); // Port 0.
    assert_eq!(send_to(udp, &ip("[::1]:7"), b"x"), ECHOLOOP_EINVAL);
    let odd = echoloop_ip { version: 5, ..to };
    assert_eq!(send_to(udp, &odd, b"x"), ECHOLOOP_EINVAL);
    assert!(last_error().contains("neither 4 nor 6"), "{}", last_error());
    unsafe {
        assert_eq!(
            echoloop_udp_send_from(udp, &odd, &to, word, 1),
            ECHOLOOP_EINVAL
        );
        assert_eq!(
            echoloop_udp_send_to(udp, &to, ptr::null(), 1),
            ECHOLOOP_ENULL
        );
        assert_eq!(echoloop_udp_send_to(udp, &to, ptr::null(), 0), 0);
        assert_eq!(
            echoloop_udp_send_to(udp, &to, word, usize::MAX),
            ECHOLOOP_EINVAL
        );
    }
    assert_eq!(words(&el, Face::Batches, 1), [b""]);
}

#[test]
fn options_that_make_no_sense_are_refused_and_the_others_count() {
    let el = Loop::new();
    let refused = |options: echoloop_udp_options| bind_with(&el, "127.0.0.1:0", &options).err();
    let (no_port, no_such) = (c("127.0.0.1"), c("no such"));
    let of = options;
    assert_eq!(
        refused(echoloop_udp_options { size: 0, ..of() }),
        Some(ECHOLOOP_EINVAL)
    );
    assert_eq!(
        refused(echoloop_udp_options { tos: 256, ..of() }),
        Some(ECHOLOOP_EINVAL)
    );
    assert_eq!(
        refused(echoloop_udp_options { ttl: -1, ..of() }),
        Some(ECHOLOOP_EINVAL)
    );
    assert_eq!(
        refused(echoloop_udp_options { ttl: 256, ..of() }),
        Some(-libc::EINVAL)
    );
    assert!(last_error().contains("IP_TTL"), "{}", last_error());
    let connect = no_port.as_ptr();
    assert_eq!(
        refused(echoloop_udp_options { connect, ..of() }),
        Some(ECHOLOOP_EINVAL)
    );
    let multicast_interface = no_such.as_ptr();
    let with = echoloop_udp_options {
        multicast_interface,
        ..of()
    };
    assert_eq!(refused(with), Some(-libc::ENODEV));
    assert!(last_error().contains("\"no such\""), "{}", last_error());
    for addr in ["", "localhost:7", "unix:/x", "127.0.0.1"] {
        assert_eq!(
            bind_with(&el, addr, &of()).err(),
            Some(ECHOLOOP_EINVAL),
            "{addr}"
        );
    }

    let short = echoloop_udp_options {
        max_datagram: 4,
        no_offload: 1,
        ..of()
    };
    let udp = bind_with(&el, "127.0.0.1:0", &short).unwrap();
    peer().send_to(b"too long", local(udp)).unwrap();
    el.until(Face::Batches, |told| {
        let Told::Datagrams { first, n, .. } = told else {
            panic!("{told:?}");
        };
        let d = &array(first, n)[0];
        assert_eq!((bytes(d), d.truncated), (&b"too "[..], 1));
        true
    });

    let (peer, ready) = (peer(), c(&local(udp)));
    let connected = echoloop_udp_options {
        connect: ready.as_ptr(),
        reuse_address: 1,
        tos: 8,
        ttl: 3,
        recv_buffer: 4096,
        ..of()
    };
    let udp = bind_with(&el, "127.0.0.1:0", &connected).unwrap();
    peer.send_to(b"a stranger's", local(udp)).unwrap();
    assert_eq!(
        unsafe { echoloop_udp_send(udp, c"known".as_ptr().cast(), 5) },
        0
    );
    assert_eq!(words(&el, Face::Batches, 1), [b"know"]);
}

/// What the kernel has of a socket.
fn settings(udp: *mut echoloop_udp, is_set: impl FnOnce(&socket2::SockRef<'_>)) {
    let fd = echoloop_udp_share(udp);
    assert!(fd >= 0, "{}", last_error());
    let socket = unsafe { UdpSocket::from_raw_fd(fd) };
    is_set(&socket2::SockRef::from(&socket));
}

#[test]
fn every_option_reaches_the_socket() {
    let el = Loop::new();
    let lo = c("lo");
    let given = echoloop_udp_options {
        device: lo.as_ptr(),
        multicast_interface: lo.as_ptr(),
        recv_buffer: 9000,
        send_buffer: 8000,
        reuse_address: 1,
        reuse_port: 1,
        broadcast: 1,
        no_multicast_loop: 1,
        multicast_ttl: -1,
        ttl: 9,
        tos: 16,
        ..options()
    };
    let udp = bind_with(&el, "127.0.0.1:0", &given).unwrap_or_else(|_| panic!("{}", last_error()));
    settings(udp, |socket| {
        assert_eq!(socket.device().unwrap().as_deref(), Some(&b"lo"[..]));
        assert_eq!(
            socket.recv_buffer_size().unwrap(),
            18_000,
            "Linux doubles it"
        );
        assert_eq!(
            socket.send_buffer_size().unwrap(),
            16_000,
            "Linux doubles it"
        );
        assert!(socket.reuse_address().unwrap() && socket.reuse_port().unwrap());
        assert!(socket.broadcast().unwrap() && !socket.multicast_loop_v4().unwrap());
        assert_eq!(socket.multicast_ttl_v4().unwrap(), 0);
        assert_eq!(
            (socket.ttl_v4().unwrap(), socket.tos_v4().unwrap()),
            (9, 16)
        );
    });
    let both = echoloop_udp_options {
        dual_stack: 1,
        multicast_ttl: 5,
        ..options()
    };
    for (given, only_v6, hops) in [(options(), true, 1), (both, false, 5)] {
        let udp = bind_with(&el, "[::]:0", &given).unwrap();
        settings(udp, |socket| {
            assert_eq!(socket.only_v6().unwrap(), only_v6);
            assert_eq!(socket.multicast_hops_v6().unwrap(), hops);
        });
    }
}

#[test]
fn a_paused_socket_is_silent_until_it_is_resumed() {
    for face in FACES {
        let el = Loop::new();
        let (udp, addr) = bind(&el, "127.0.0.1:0");
        let (other, other_addr) = bind(&el, "127.0.0.1:0");
        assert_eq!(echoloop_udp_pause(udp), 0);
        peer().send_to(b"early", &addr).unwrap();
        peer().send_to(b"in between", other_addr).unwrap();
        assert_eq!(words(&el, face, 1), [b"in between"]);
        assert_eq!(echoloop_udp_resume(udp), 0);
        assert_eq!(words(&el, face, 1), [b"early"]);
        assert_eq!(echoloop_udp_close(other), 0);
    }
}

#[test]
fn the_user_pointer_comes_with_the_events() {
    let el = Loop::new();
    let (udp, addr) = bind(&el, "127.0.0.1:0");
    let (mut word, mut user) = (7, ptr::dangling_mut());
    let mine: *mut c_void = ptr::from_mut(&mut word).cast();
    assert_eq!(unsafe { echoloop_udp_user(udp, &mut user) }, 0);
    assert_eq!(user, ptr::null_mut());
    assert_eq!(echoloop_udp_set_user(udp, mine), 0);
    assert_eq!(unsafe { echoloop_udp_user(udp, &mut user) }, 0);
    assert_eq!(user, mine);
    peer().send_to(b"x", addr).unwrap();
    let mut event = unsafe { std::mem::zeroed::<echoloop_event>() };
    let us = PATIENCE.as_micros() as i64;
    while event.r#type == 0 {
        assert!(unsafe { echoloop_poll_batch(el.0, &mut event, 1, us) } >= 0);
    }
    assert_eq!((event.r#type, event.user), (ECHOLOOP_EVENT_DATAGRAMS, mine));
}

#[test]
fn a_group_is_heard_while_it_is_joined() {
    for face in FACES {
        let el = Loop::new();
        let by_addr = c("127.0.0.1");
        let from = echoloop_udp_options {
            multicast_interface: by_addr.as_ptr(),
            multicast_ttl: -1,
            ..options()
        };
        let sender = bind_with(&el, "127.0.0.1:0", &from).unwrap();
        let (member, addr) = bind(&el, "0.0.0.0:0");
        let port = addr.rsplit(':').next().unwrap();
        let (to, direct) = (
            ip(&format!("239.7.7.8:{port}")),
            ip(&format!("127.0.0.1:{port}")),
        );
        let heard = |n| {
            assert_eq!(
                (
                    send_to(sender, &to, b"all"),
                    send_to(sender, &direct, b"you")
                ),
                (0, 0)
            );
            words(&el, face, n)
        };
        let (group, source, lo) = (c("239.7.7.8"), c("127.0.0.1"), c("lo"));
        let join = || unsafe { echoloop_udp_join(member, group.as_ptr(), lo.as_ptr()) };
        let leave = || unsafe { echoloop_udp_leave(member, group.as_ptr(), lo.as_ptr()) };
        assert_eq!(heard(1), [b"you"]);
        assert_eq!(join(), 0, "{}", last_error());
        assert_eq!(errname(join()), "EADDRINUSE");
        assert_eq!(heard(2), [b"all", b"you"]);
        assert_eq!(leave(), 0);
        assert_eq!(errname(leave()), "EADDRNOTAVAIL");
        assert_eq!(heard(1), [b"you"]);

        let (group, source, on) = (group.as_ptr(), source.as_ptr(), by_addr.as_ptr());
        assert_eq!(
            unsafe { echoloop_udp_join_source(member, group, source, on) },
            0
        );
        assert_eq!(heard(2), [b"all", b"you"]);
        assert_eq!(
            unsafe { echoloop_udp_leave_source(member, group, source, on) },
            0
        );
        assert_eq!(heard(1), [b"you"]);

        let odd = [
            ("239.7.7.8", "no such", -libc::ENODEV),
            ("127.0.0.1", "lo", -libc::EINVAL),
        ];
        for (group, on, status) in odd {
            let (group, on) = (c(group), c(on));
            let joined = unsafe { echoloop_udp_join(member, group.as_ptr(), on.as_ptr()) };
            assert_eq!(joined, status, "{}", last_error());
        }
        let none = unsafe { echoloop_udp_join(member, ptr::null(), ptr::null()) };
        assert_eq!(none, ECHOLOOP_ENULL);
    }
}

#[test]
fn the_scope_of_a_group_is_the_interface_it_is_heard_on() {
    let el = Loop::new();
    let (udp, _) = bind(&el, "[::]:0");
    let (scoped, group, lo) = (c("ff02::77:1%lo"), c("ff02::77:1"), c("lo"));
    unsafe {
        assert_eq!(echoloop_udp_join(udp, scoped.as_ptr(), ptr::null()), 0);
        assert_eq!(echoloop_udp_leave(udp, group.as_ptr(), lo.as_ptr()), 0);
    }
}

#[test]
fn a_socket_changes_hands_only_when_it_is_taken() {
    let el = Loop::new();
    let adopt = |fd| {
        let mut udp = ptr::null_mut();
        let status = unsafe { echoloop_udp_adopt(el.0, fd, ptr::null(), &mut udp) };
        (status, udp)
    };
    let (mine, tcp) = (peer(), TcpListener::bind("127.0.0.1:0").unwrap());
    let addr = mine.local_addr().unwrap();
    for fd in [-1, 1_000_000] {
        assert_eq!(adopt(fd), (-libc::EBADF, ptr::null_mut()));
    }
    assert_eq!(adopt(tcp.as_raw_fd()), (ECHOLOOP_EINVAL, ptr::null_mut()));
    assert_eq!(
        tcp.local_addr().unwrap().ip(),
        addr.ip(),
        "it is still mine"
    );

    peer().send_to(b"before", addr).unwrap();
    let held = descriptors_of(&mine);
    let (status, udp) = adopt(mine.into_raw_fd());
    assert_eq!(
        (status, local(udp)),
        (0, addr.to_string()),
        "{}",
        last_error()
    );
    assert_eq!(words(&el, Face::Batches, 1), [b"before"]);

    let shared = echoloop_udp_share(udp);
    assert!(shared >= 0, "{}", last_error());
    let mine = unsafe { UdpSocket::from_raw_fd(shared) };
    assert_eq!((held, descriptors_of(&mine)), (1, 2), "its own, and this");
    assert_eq!(echoloop_udp_close(udp), 0);
    mine.set_nonblocking(false).unwrap();
    mine.set_read_timeout(Some(PATIENCE)).unwrap();
    peer().send_to(b"after", addr).unwrap();
    assert_eq!(receive(&mine), b"after");
}

/// How many descriptors of this process lead to a socket, proc(5).
fn descriptors_of(socket: &UdpSocket) -> usize {
    let to = |name: &str| std::fs::read_link(format!("/proc/self/fd/{name}")).ok();
    let this = to(&socket.as_raw_fd().to_string());
    let all = std::fs::read_dir("/proc/self/fd").unwrap();
    let names = all.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| to(name) == this).count()
}

#[test]
fn addresses_come_out_of_their_text_as_they_went_in() {
    let back = |text_of: &str| {
        let ip = ip(text_of);
        text(|buf, n| unsafe { echoloop_ip_text(&ip, buf, n) }).unwrap()
    };
    let forms = "127.0.0.1:7007 [::1]:7 [fe80::1%9]:7 127.0.0.1 ::1 fe80::1%9 ::ffff:1.2.3.4";
    for form in forms.split(' ') {
        assert_eq!(back(form), form);
    }
    assert_eq!(back("127.0.0.1:0"), "127.0.0.1");
    assert_eq!(back("fe80::1%lo"), "fe80::1%1"); // lo is the first on every Linux.
    assert_eq!(back("[fe80::1%lo]:80"), "[fe80::1%1]:80");
    let mut out = echoloop_ip::default();
    for odd in [
        "",
        "localhost:7",
        "unix:/x",
        "1.2.3:4",
        "[::1%nosuch]:7",
        "::1%",
        "[::1]:65536",
    ] {
        let odd = c(odd);
        let status = unsafe { echoloop_ip_parse(odd.as_ptr(), &mut out) };
        assert_eq!(status, ECHOLOOP_EINVAL, "{odd:?}");
    }
    assert_eq!(out, echoloop_ip::default());
    let mut small = [0; 4];
    let loopback = ip("::1");
    unsafe {
        assert_eq!(echoloop_ip_text(&loopback, small.as_mut_ptr(), 4), 3);
        assert_eq!(
            echoloop_ip_text(&loopback, small.as_mut_ptr(), 3),
            ECHOLOOP_EINVAL
        );
        assert_eq!(
            echoloop_ip_text(&loopback, ptr::null_mut(), 4),
            ECHOLOOP_ENULL
        );
        assert_eq!(
            echoloop_ip_text(ptr::null(), small.as_mut_ptr(), 4),
            ECHOLOOP_ENULL
        );
        assert_eq!(
            echoloop_ip_text(&out, small.as_mut_ptr(), 4),
            ECHOLOOP_EINVAL
        );
        assert_eq!(
            echoloop_ip_parse(c"::1".as_ptr(), ptr::null_mut()),
            ECHOLOOP_ENULL
        );
        assert_eq!(echoloop_ip_parse(ptr::null(), &mut out), ECHOLOOP_ENULL);
    }
}

#[test]
fn a_link_local_answer_finds_its_way_by_the_scope_it_came_with() {
    let Some((addr, name)) = link_local() else {
        eprintln!("no interface has a link-local address: skipped");
        return;
    };
    let el = Loop::new();
    let (server, any) = bind(&el, "[::]:0");
    let (client, _) = bind(&el, &format!("[{addr}%{name}]:0"));
    let port = any.rsplit(':').next().unwrap();
    let to = ip(&format!("[{addr}%{name}]:{port}"));
    assert_eq!(send_to(client, &to, b"?"), 0);
    let mut answered = false;
    el.until(Face::Batches, |told| {
        let Told::Datagrams { udp, first, n } = told else {
            panic!("{told:?}");
        };
        let d = &array(first, n)[0];
        assert_eq!(d.from.scope, to.scope);
        if udp == server {
            assert_eq!((d.to.scope, d.to.bytes), (to.scope, to.bytes));
            let word = c"!".as_ptr().cast();
            let sent = unsafe { echoloop_udp_send_from(udp, &d.to, &d.from, word, 1) };
            assert_eq!(sent, 0);
        }
        answered |= udp == client;
        answered
    });
}

/// A link-local address of this machine and its interface, from proc(5).
fn link_local() -> Option<(Ipv6Addr, String)> {
    let table = std::fs::read_to_string("/proc/net/if_inet6").ok()?;
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let addr = Ipv6Addr::from(u128::from_str_radix(fields.first()?, 16).ok()?);
        addr.is_unicast_link_local()
            .then(|| (addr, fields[5].to_owned()))
    })
}
