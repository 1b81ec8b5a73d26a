//! What a piped connection sent before it was reset still arrives at the other side: on real
//! sockets, and on a system that cuts and fails at random.

mod util;

use std::io::{ErrorKind as IoKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use echoloop_core::sys::{Sim, SimOptions};
use echoloop_core::{
    CloseReason, ConnId, ConnOptions, ConnectOptions, Event, EventLoop, ListenOptions, LoopOptions,
};
use util::real::{Real, read_some, reset, write_some};
use util::{Random, seeds};

/// A proxy between a client that never blocks and a server that does.
struct Proxy {
    real: Real,
    client: TcpStream,
    near: ConnId,
    far: ConnId,
    server: Option<TcpStream>,
}

impl Proxy {
    fn new() -> Self {
        let mut real = Real::new(ConnOptions::default());
        let (client, near) = real.pair();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let far = real.el.connect(to, &ConnectOptions::default()).unwrap();
        let server = listener.accept().unwrap().0;
        real.el.pipe(near, far).unwrap();
        real.run_until(|el| el.counters().connected == 1);
        Self {
            real,
            client,
            near,
            far,
            server: Some(server),
        }
    }

    /// Runs until both ends are gone, the client sending and reading as it can.
    fn ends(mut self) -> (CloseReason, CloseReason, Vec<u8>) {
        let (mut got, mut over) = (Vec::new(), false);
        let events = self.real.run_until(|el| {
            if !over {
                // A proxy that has closed in order still takes what comes.
                write_some(&mut self.client, &[1; 9000]);
                over = read_some(&mut self.client, &mut got);
                if over {
                    self.client.shutdown(Shutdown::Write).unwrap();
                }
            }
            el.connection_count() == 0
        });
        let reason = |id| {
            events.iter().find_map(|event| match event {
                Event::Closed { conn, reason, .. } if *conn == id => Some(*reason),
                _ => None,
            })
        };
        let (near, far) = (reason(self.near), reason(self.far));
        (near.unwrap(), far.unwrap(), got)
    }
}

#[test]
fn an_answer_before_a_reset_arrives_although_the_client_is_still_sending() {
    for by_linger in [false, true] {
        let mut proxy = Proxy::new();
        let sent = write_some(&mut proxy.client, &[1; 100_000]);
        proxy
            .real
            .run_until(|el| el.counters().bytes_sent >= sent as u64);
        let mut server = proxy.server.take().unwrap();
        let answer = vec![b'4'; 30_000];
        server.write_all(&answer).unwrap();
        if by_linger {
            server.read_exact(&mut vec![0; sent]).unwrap();
            reset(server);
        } else {
            drop(server); // With input that it has not read: a reset in itself.
        }
        let (near, far, got) = proxy.ends();
        assert_eq!(got, answer);
        assert_eq!((near, far), (CloseReason::ClosedHere, CloseReason::Reset));
    }
}

#[test]
fn a_reset_after_an_end_of_stream_closes_the_other_side_in_order() {
    let mut proxy = Proxy::new();
    let mut server = proxy.server.take().unwrap();
    server.write_all(b"all of it").unwrap();
    let (client, mut got) = (&mut proxy.client, Vec::new());
    proxy.real.run_until(|_| {
        read_some(client, &mut got);
        got == b"all of it"
    });
    server.shutdown(Shutdown::Write).unwrap();
    proxy.real.run_until(|_| read_some(client, &mut got));
    reset(server);
    let (near, far, _) = proxy.ends(); // The client's next read is an end, no error.
    assert_eq!((near, far), (CloseReason::ClosedHere, CloseReason::Reset));
}

#[test]
fn a_reset_with_nothing_left_to_read_resets_the_other_side() {
    let mut proxy = Proxy::new();
    let mut server = proxy.server.take().unwrap();
    server.write_all(b"a beginning").unwrap();
    let (client, mut got) = (&mut proxy.client, Vec::new());
    proxy.real.run_until(|_| {
        read_some(client, &mut got);
        got == b"a beginning"
    });
    reset(server);
    let near = proxy.near;
    let closed = proxy.real.until_closed(near);
    assert_eq!(util::real::reason_of(closed), CloseReason::AbortedHere);
    let e = proxy.client.read(&mut [0; 9]).unwrap_err();
    assert_eq!(e.kind(), IoKind::ConnectionReset);
}

const ADDR: &str = "10.0.0.2:7";

/// A proxy on the simulated system whose server hangs up after a random answer; the client goes
/// on sending until it sees the end.
fn hangs_up(seed: u64) -> (u64, u64) {
    let mut random = Random::new(seed);
    let sim = Sim::new(SimOptions::unkind(seed));
    let options = LoopOptions {
        memory_budget: [3000, 1 << 30][random.below(2) as usize],
        ..LoopOptions::default()
    };
    let conn = ConnOptions {
        high_mark: [0, 700, 256 << 10][random.below(3) as usize],
        low_mark: [0, 500][random.below(2) as usize],
        ..ConnOptions::default()
    };
    let mut el = EventLoop::with_system(sim.clone(), options).unwrap();
    let listen = ListenOptions {
        conn: conn.clone(),
        ..ListenOptions::default()
    };
    el.listen(ADDR, &listen).unwrap();
    let client = sim.connect_to(ADDR);
    let answer = random.bytes(random.clone().below(12_000) as usize);
    let (mut near, mut server, mut answered, mut up) = (None, None, 0, false);
    let (mut got, mut unread_then, mut reasons) = (Vec::new(), 0, Vec::new());
    let mut turns = 0;
    while reasons.len() < 2 {
        turns += 1;
        assert!(turns < 30_000, "seed {seed}: no end");
        got.extend(client.receive(random.below(1500) as usize));
        if client.sees_end() {
            client.finish();
        } else {
            client.send(&random.bytes(800));
        }
        if let Some(server) = server.as_ref().filter(|_| !up) {
            let server: &echoloop_core::sys::Peer = server;
            let piece = random.below(3000) as usize;
            let piece = &answer[answered..answer.len().min(answered + piece)];
            unread_then = server.send(piece);
            answered += unread_then;
            server.receive(random.below(1000) as usize);
            up = answered == answer.len() && random.one_in(3);
            if up {
                server.hang_up();
            }
        }
        el.poll(Some(Duration::ZERO)).unwrap();
        while let Some(event) = el.next_event() {
            match event {
                Event::Accepted { conn: id, .. } => {
                    let options = ConnectOptions {
                        conn: conn.clone(),
                        ..ConnectOptions::default()
                    };
                    let far = el.connect("10.0.0.9:9", &options).unwrap();
                    el.pipe(id, far).unwrap();
                    near = Some(id);
                }
                Event::Closed { conn, reason, .. } => reasons.push((Some(conn) == near, reason)),
                Event::Connected { .. } => server = sim.connected_peer(),
                Event::OverBudget | Event::UnderBudget => {}
                other => panic!("seed {seed}: {other:?} of a piped one"),
            }
        }
    }
    got.extend(client.receive(usize::MAX));
    assert!(
        got == answer,
        "seed {seed}: {} of {}",
        got.len(),
        answer.len()
    );
    reasons.sort_by_key(|r| r.0);
    let in_order = reasons[1].1 == CloseReason::ClosedHere;
    assert_eq!(reasons[0], (false, CloseReason::Reset), "seed {seed}");
    assert!(
        in_order || reasons[1].1 == CloseReason::AbortedHere,
        "seed {seed}: {reasons:?}"
    );
    assert!(
        in_order || unread_then == 0,
        "seed {seed}: reset over its last words"
    );
    assert_eq!(client.is_reset(), !in_order, "seed {seed}");
    let left = (el.buffered(), sim.open_sockets(), el.connection_count());
    assert_eq!(left, (0, 1, 0), "seed {seed}");
    (u64::from(in_order), u64::from(unread_then > 0))
}

#[test]
fn last_words_cross_a_pipe_whatever_finds_the_reset_and_however_it_is_cut() {
    let (mut in_order, mut last_words) = (0, 0);
    for seed in seeds(150) {
        let (ordered, words) = hangs_up(seed);
        in_order += ordered;
        last_words += words;
    }
    if std::env::var("ECHOLOOP_SEED").is_err() {
        assert!(last_words > 25 && in_order < 150, "{last_words} {in_order}");
    }
}
