//! Crowds against tiny servers made of threads: each kind comes to its end, and what a server does to
//! them is counted.

use std::io::{ErrorKind, Read as _, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use super::{Crowd, Kind, Party};
use crate::{Cause, Error, Plan};

const PATIENCE: Duration = Duration::from_secs(10);

/// Runs `handler` for every connection, in a thread of its own that ends with the connection.
fn serve(handler: fn(TcpStream)) -> SocketAddrV4 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let SocketAddr::V4(address) = listener.local_addr().unwrap() else {
        panic!("bound to an IPv4 address");
    };
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || handler(stream));
        }
    });
    address
}

fn echo(mut stream: TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..n]).is_err() {
            return;
        }
    }
}

fn party(target: SocketAddrV4, kind: Kind, total: u64) -> Party {
    Party {
        plan: Plan {
            sources: 4,
            ..Plan::new(target)
        },
        manners: kind.manners(),
        at_once: 50,
        per_second: 1_000.0,
        total,
        patience: PATIENCE,
        buffers: None,
    }
}

/// Drives the crowd until this holds.
fn drive(crowd: &mut Crowd, what: &str, holds: impl Fn(&Crowd) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds(crowd) {
        assert!(Instant::now() < deadline, "{what}: {crowd:?}");
        crowd.run(Duration::from_millis(5)).unwrap();
    }
}

#[test]
fn those_with_an_end_of_their_own_come_to_it() {
    let target = serve(echo);
    let mut crowd = Crowd::new().unwrap();
    let kinds = [
        Kind::Echo,
        Kind::HalfClose,
        Kind::Slow,
        Kind::Abandon,
        Kind::Knock,
        Kind::Reset,
        Kind::VanishIdle,
    ];
    for kind in kinds {
        crowd.invite(party(target, kind, 20));
    }
    drive(&mut crowd, "all have gone", |crowd| {
        (0..kinds.len()).all(|i| crowd.tally(i).opened == 20) && crowd.open() == 0
    });
    for (i, kind) in kinds.iter().enumerate() {
        let tally = crowd.tally(i);
        assert_eq!(tally.done, 20, "{}: {tally:?}", kind.name());
        assert_eq!(tally.all_cut(), 0, "{tally:?}");
    }
    let back = |i: usize| crowd.tally(i).received;
    assert_eq!([back(0), back(1), back(2)], [20_000, 2_000_000, 800]);
    assert_eq!(crowd.tally(2).latency.len(), 800, "each byte was timed");
}

#[test]
fn those_who_would_stay_are_counted_with_their_age_when_they_are_ended() {
    let target = serve(|stream| {
        let mut nothing = [0; 1];
        stream
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        let _ = (&stream).read(&mut nothing);
    });
    let mut crowd = Crowd::new().unwrap();
    crowd.invite(party(target, Kind::Silent, 10));
    drive(&mut crowd, "the server has ended them", |crowd| {
        crowd.tally(0).all_cut() == 10
    });
    let tally = crowd.tally(0);
    assert_eq!(tally.cut.get(&Cause::Closed), Some(&10));
    assert_eq!((tally.open, tally.done), (0, 0));
    assert!(tally.ages.min() >= 199, "{}", tally.ages.min());
}

#[test]
fn a_greedy_client_reads_nothing_and_sees_the_reset() {
    let target = serve(|stream| {
        // Closed with input unread: the kernel resets.
        let _ = stream.peek(&mut [0; 1]);
    });
    let mut crowd = Crowd::new().unwrap();
    crowd.invite(party(target, Kind::Greedy, 5));
    drive(&mut crowd, "the server has ended them", |crowd| {
        crowd.tally(0).all_cut() == 5
    });
    assert_eq!(crowd.tally(0).received, 0);
}

#[test]
fn one_who_vanishes_says_nothing_to_the_server() {
    let (sender, heard): (_, Receiver<ErrorKind>) = mpsc::channel();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let SocketAddr::V4(target) = listener.local_addr().unwrap() else {
        panic!("bound to an IPv4 address");
    };
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 64];
        stream.read_exact(&mut buffer).unwrap();
        stream.write_all(&buffer).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        let answer = stream.read(&mut buffer).map_err(|e| e.kind());
        sender
            .send(answer.expect_err("neither bytes nor an end"))
            .unwrap();
    });
    let mut crowd = Crowd::new().unwrap();
    crowd.invite(party(target, Kind::VanishIdle, 1));
    drive(&mut crowd, "it has vanished", |crowd| {
        crowd.tally(0).received == 64
    });
    drive(&mut crowd, "the server waited in vain", |_| {
        server.is_finished()
    });
    assert_eq!(heard.recv().unwrap(), ErrorKind::WouldBlock);
}

#[test]
fn a_wrong_byte_is_an_error_whoever_receives_it() {
    let target = serve(|mut stream| {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            buffer[..n].iter_mut().for_each(|b| *b ^= 1);
            let _ = stream.write_all(&buffer[..n]);
        }
    });
    for kind in [Kind::Echo, Kind::HalfClose, Kind::Sip, Kind::Trickle] {
        let mut crowd = Crowd::new().unwrap();
        crowd.invite(party(target, kind, 1));
        let deadline = Instant::now() + PATIENCE;
        let error = loop {
            assert!(Instant::now() < deadline, "{}", kind.name());
            if let Err(error) = crowd.run(Duration::from_millis(20)) {
                break error;
            }
        };
        assert!(matches!(error, Error::WrongByte { .. }), "{error}");
    }
}

#[test]
fn nobody_comes_after_the_dismissal_and_no_faster_than_asked_for() {
    let target = serve(echo);
    let mut crowd = Crowd::new().unwrap();
    let mut good = party(target, Kind::Good, u64::MAX);
    good.per_second = 100.0;
    crowd.invite(good);
    crowd.run(Duration::from_millis(200)).unwrap();
    // What may be made up for of a stall, and the 20 that were due.
    assert!((1..=31).contains(&crowd.tally(0).opened), "{crowd:?}");
    crowd.dismiss();
    let opened = crowd.tally(0).opened;
    drive(&mut crowd, "all have come to their end", |crowd| {
        crowd.open() == 0
    });
    assert_eq!(
        (crowd.tally(0).opened, crowd.tally(0).done),
        (opened, opened)
    );
}

#[test]
fn those_who_are_sent_home_are_gone() {
    let target = serve(echo);
    let mut crowd = Crowd::new().unwrap();
    crowd.invite(party(target, Kind::Trickle, 10));
    drive(&mut crowd, "all are there", |crowd| {
        crowd.tally(0).open == 10
    });
    crowd.send_home();
    assert_eq!((crowd.open(), crowd.tally(0).done), (0, 10));
}
