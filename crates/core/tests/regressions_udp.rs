//! What once broke in UDP sockets, on the real system. Each test says what broke.

mod util;

use std::cell::RefCell;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::mpsc;
use std::time::Duration;

use echoloop_core::sys::{Os, System};
use echoloop_core::{Addr, Event, EventLoop, LoopOptions, UdpId, UdpOptions};
use rustix::net::sockopt;
use util::datagrams::{Udps, peer};
use util::real::PATIENCE;

/// A handler that answered an error by sending again was told of the next error in the same turn,
/// over and over: the turn did not end.
#[test]
fn a_send_in_the_handler_of_an_error_fails_in_the_next_turn() {
    let mut all = Udps::new();
    let (udp, _) = all.plain();
    let el = &mut all.el;
    // Refused each time: this socket may not broadcast.
    let everybody = SocketAddr::from(([255; 4], 9));
    el.udp(udp).unwrap().send_to(everybody, b"hello").unwrap();
    let mut told = 0;
    for turn in 1..10 {
        el.poll(Some(PATIENCE)).unwrap();
        while let Some(event) = el.next_event() {
            assert!(matches!(event, Event::UdpError { .. }), "{event:?}");
            told += 1;
            assert!(told <= turn, "the turn does not end");
            el.udp(udp).unwrap().send_to(everybody, b"hello").unwrap();
        }
    }
    assert!(told > 1);
}

/// Bytes of this process that are in memory: VmRSS of proc_pid_status(5).
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib: usize = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib << 10
}

/// The buffer for batches was filled with zeros when it was made: 2 MiB in memory for each loop
/// with a UDP socket.
#[test]
fn a_udp_socket_that_hears_little_needs_little_memory() {
    let before = resident();
    let loops: Vec<EventLoop> = (0..32)
        .map(|_| {
            let mut el = EventLoop::new(LoopOptions::default()).unwrap();
            el.bind_udp("127.0.0.1:0", &UdpOptions::default()).unwrap();
            el.poll(Some(Duration::ZERO)).unwrap();
            el
        })
        .collect();
    let each = (resident() - before) / loops.len();
    assert!(each < 512 << 10, "{each} bytes for each");
}

/// A size above what an `int` holds was cut to its lowest bits: 4 GiB became the smallest buffer.
#[test]
fn the_largest_buffer_is_not_the_smallest() {
    let mut all = Udps::new();
    let (_, addr) = all.bind(
        "127.0.0.1:0",
        &UdpOptions {
            recv_buffer: Some(1 << 32),
            ..UdpOptions::default()
        },
    );
    let (peer, _) = peer();
    for _ in 0..50 {
        peer.send_to(&[0; 1000], addr).unwrap();
    }
    all.take(50);
}

/// The error of an option did not say which one it was.
#[test]
fn an_option_that_is_refused_is_named() {
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let device = UdpOptions {
        device: Some("no-such-device".to_owned()),
        ..UdpOptions::default()
    };
    let hops = UdpOptions {
        ttl: Some(1000),
        ..UdpOptions::default()
    };
    for (options, on, operation) in [
        (&device, "127.0.0.1:0", "set SO_BINDTODEVICE"),
        (&hops, "127.0.0.1:0", "set IP_TTL"),
        (&hops, "[::1]:0", "set IPV6_UNICAST_HOPS"),
    ] {
        let e = el.bind_udp(on, options).unwrap_err();
        assert_eq!(e.operation(), operation);
    }
    let e = el.bind_udp("192.0.2.1:1", &UdpOptions::default());
    assert_eq!(e.unwrap_err().operation(), "bind udp");
    assert_eq!(el.live_handles(), 0);
}

/// What an IPv6 socket sent to IPv4-mapped addresses went without the type of service.
#[test]
#[cfg(target_os = "linux")]
fn the_type_of_service_counts_for_ipv4_from_an_ipv6_socket_too() {
    let mut os = Os::new(16).unwrap();
    let options = UdpOptions {
        tos: Some(0x48),
        ..UdpOptions::default()
    };
    let addr = Addr::Ip(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)));
    let (socket, _) = os.udp_bind(&addr, &options).unwrap();
    assert_eq!(sockopt::ip_tos(&socket).unwrap(), 0x48);
    assert_eq!(sockopt::ipv6_tclass(&socket).unwrap(), 0x48);
}

/// What a thread keeps for receiving and sending is gone when destructors run at its end: a loop that one
/// of them still used panicked.
#[test]
fn a_loop_can_be_used_in_a_destructor_at_the_end_of_its_thread() {
    struct AtTheEnd(Option<(Udps, UdpId, SocketAddr)>, mpsc::Sender<usize>);
    impl Drop for AtTheEnd {
        fn drop(&mut self) {
            let (all, udp, addr) = self.0.as_mut().unwrap();
            let _ = self.1.send(talk(&mut all.el, *udp, *addr));
        }
    }
    fn talk(el: &mut EventLoop, udp: UdpId, addr: SocketAddr) -> usize {
        for size in 1..=5 {
            el.udp(udp).unwrap().send_to(addr, &[7; 5][..size]).unwrap();
        }
        let mut came = 0;
        while came < 5 {
            el.poll(Some(PATIENCE)).unwrap();
            while let Some(event) = el.next_event() {
                assert_eq!(event, Event::Datagrams { udp });
                came += el.udp(udp).unwrap().datagrams().count();
            }
        }
        came
    }
    thread_local! {
        static LAST: RefCell<Option<AtTheEnd>> = const { RefCell::new(None) };
    }
    let (tell, told) = mpsc::channel();
    let ending = std::thread::spawn(move || {
        // Before anything else that has a destructor, so that it is the last.
        LAST.set(Some(AtTheEnd(None, tell)));
        let mut all = Udps::new();
        let options = UdpOptions {
            offload: false,
            ..UdpOptions::default()
        };
        let (udp, addr) = all.bind("127.0.0.1:0", &options);
        talk(&mut all.el, udp, addr);
        LAST.with_borrow_mut(|last| last.as_mut().unwrap().0 = Some((all, udp, addr)));
    });
    assert_eq!(told.recv_timeout(PATIENCE), Ok(5));
    ending.join().unwrap();
}
