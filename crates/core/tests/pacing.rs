//! SO_MAX_PACING_RATE: how fast the kernel sends, measured on loopback.
#![cfg(target_os = "linux")]

mod util;

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use echoloop_core::{ConnId, ConnOptions, ConnectOptions, Event, LoopOptions};
use util::real::{PATIENCE, Real};

const BYTES: usize = 2 << 20;

/// Sends to a peer that reads all at once; how long that took.
fn send_all(real: &mut Real, conn: ConnId, mut peer: TcpStream) -> Duration {
    peer.set_nonblocking(false).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let begun = Instant::now();
    let reader = thread::spawn(move || {
        let mut got = vec![0; BYTES];
        peer.read_exact(&mut got).unwrap();
        assert!(got.iter().all(|b| *b == 7));
        begun.elapsed()
    });
    real.el.send(conn, &vec![7; BYTES]).unwrap();
    real.run_until(|_| reader.is_finished());
    reader.join().unwrap()
}

#[test]
fn the_kernel_sends_no_faster_than_the_pacing_rate_accepted_connected_or_adopted() {
    let paced = ConnOptions {
        pacing_rate: Some(4 << 20),
        ..ConnOptions::default()
    };
    // Half a second in all; the kernel lets a first burst pass.
    let least = Duration::from_millis(250);
    let mut real = Real::new(paced.clone());
    let (client, conn) = real.pair();
    let accepted = send_all(&mut real, conn, client);
    assert!(accepted >= least, "{accepted:?}");

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let options = ConnectOptions {
        conn: paced.clone(),
        ..ConnectOptions::default()
    };
    let conn = real.el.connect(to, &options).unwrap();
    let connected = send_all(&mut real, conn, listener.accept().unwrap().0);
    assert!(connected >= least, "{connected:?}");

    let ours = TcpStream::connect(to).unwrap();
    let conn = real.el.adopt(ours, &paced).unwrap();
    let adopted = send_all(&mut real, conn, listener.accept().unwrap().0);
    assert!(adopted >= least, "{adopted:?}");
}

#[test]
fn a_unix_socket_has_no_pacing_rate_and_is_made_all_the_same() {
    let paced = ConnOptions {
        pacing_rate: Some(1),
        ..ConnOptions::default()
    };
    let mut el = echoloop_core::EventLoop::new(LoopOptions::default()).unwrap();
    let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let conn = el.adopt(ours, &paced).unwrap();
    assert_eq!(el.next_event(), Some(Event::Adopted { conn }));
}
