//! What once broke, on the simulated system. Each test says what broke.

mod util;

use std::time::Duration;

use echoloop_core::sys::{Peer, Sim, SimOptions};
use echoloop_core::{
    ConnId, ConnOptions, ConnectOptions, ErrorKind, Event, EventLoop, ListenOptions, LoopOptions,
};

const ADDR: &str = "10.0.0.2:7";
const ZERO: Option<Duration> = Some(Duration::ZERO);

fn simulated(options: SimOptions, el: LoopOptions, conn: ConnOptions) -> (Sim, EventLoop<Sim>) {
    let sim = Sim::new(options);
    let mut el = EventLoop::with_system(sim.clone(), el).unwrap();
    let listen = ListenOptions {
        conn,
        ..Default::default()
    };
    el.listen(ADDR, &listen).unwrap();
    (sim, el)
}

/// One turn, and its events.
fn turn(el: &mut EventLoop<Sim>) -> Vec<Event> {
    el.poll(ZERO).unwrap();
    std::iter::from_fn(|| el.next_event()).collect()
}

/// A peer, and the connection it has become on our side.
fn open(sim: &Sim, el: &mut EventLoop<Sim>) -> (Peer, ConnId) {
    let peer = sim.connect_to(ADDR);
    for _ in 0..4 {
        for event in turn(el) {
            if let Event::Accepted { conn, .. } = event {
                turn(el);
                return (peer, conn);
            }
        }
    }
    panic!("nobody was accepted");
}

/// Whether the connection is still read from.
fn is_read(peer: &Peer, conn: ConnId, el: &mut EventLoop<Sim>) -> bool {
    peer.send(b"hello");
    let data = Event::Data { conn };
    (0..20).any(|_| turn(el).contains(&data))
}

/// A system whose kernel holds `buffer` bytes for each direction.
fn buffers(buffer: usize) -> SimOptions {
    SimOptions {
        buffer,
        ..SimOptions::kind(1)
    }
}

fn marks(high_mark: usize, low_mark: usize) -> ConnOptions {
    ConnOptions {
        high_mark,
        low_mark,
        ..Default::default()
    }
}

fn budget(memory_budget: usize) -> LoopOptions {
    LoopOptions {
        memory_budget,
        ..Default::default()
    }
}

/// The answer to a connect was noted by a poll before all events were taken, and never visited.
#[test]
fn connected_is_told_also_when_the_program_polls_between_events() {
    let (_sim, mut el) = simulated(
        buffers(9000),
        LoopOptions::default(),
        ConnOptions::default(),
    );
    for _ in 0..3 {
        el.connect(ADDR, &ConnectOptions::default()).unwrap();
    }
    let mut connected = 0;
    for _ in 0..50 {
        el.poll(ZERO).unwrap();
        connected += usize::from(matches!(el.next_event(), Some(Event::Connected { .. })));
    }
    assert_eq!(connected, 3);
}

/// The end of stream was kept beside the flags, and a `next_data` before it closed the connection.
#[test]
fn the_handler_of_end_of_stream_may_send_by_either_way_to_events() {
    let (sim, mut el) = simulated(
        buffers(9000),
        LoopOptions::default(),
        ConnOptions::default(),
    );
    let (peer, _) = open(&sim, &mut el);
    peer.send(b"tail");
    turn(&mut el);
    peer.finish();
    let mut seen = None;
    for _ in 0..5 {
        el.poll(ZERO).unwrap();
        loop {
            if el.next_data().is_some() {
                continue;
            }
            let Some(event) = el.next_event() else { break };
            if let Event::EndOfStream { conn } = event {
                let mut view = el.conn(conn).unwrap();
                seen = Some((view.received().to_vec(), view.send(b"bye")));
            }
        }
    }
    assert_eq!(seen, Some((b"tail".to_vec(), Ok(()))));
    assert_eq!(peer.receive(10), b"bye");
}

/// Without a read buffer nothing was discarded, so each poll returned at once and the peer's end
/// was not seen.
#[test]
fn closing_before_anything_was_read_sees_the_peer_finish() {
    let (sim, mut el) = simulated(
        buffers(9000),
        LoopOptions::default(),
        ConnOptions::default(),
    );
    let peer = sim.connect_to(ADDR);
    let mut closed = false;
    for n in 0..20 {
        for event in turn(&mut el) {
            if let Event::Accepted { conn, .. } = event {
                let mut view = el.conn(conn).unwrap();
                view.send(b"12:00").unwrap();
                view.close();
            }
            closed |= matches!(event, Event::Closed { .. });
        }
        if n == 3 {
            peer.finish();
        }
    }
    assert!(closed);
}

/// Back below the budget by a flush that took all, nobody looked at those held back.
#[test]
fn a_connection_held_back_by_the_budget_is_read_again_after_a_flush() {
    let (sim, mut el) = simulated(buffers(20_000), budget(1000), ConnOptions::default());
    let (peer, conn) = open(&sim, &mut el);
    el.conn(conn).unwrap().send(&[1; 22_000]).unwrap();
    turn(&mut el);
    assert_eq!(el.buffered(), 2000);
    assert_eq!(peer.receive(20_000).len(), 20_000);
    turn(&mut el);
    assert_eq!(el.buffered(), 0);
    assert!(is_read(&peer, conn, &mut el));
}

/// Likewise when what was unread is consumed.
#[test]
fn a_connection_held_back_by_the_budget_is_read_again_after_a_consume() {
    let (sim, mut el) = simulated(buffers(20_000), budget(1000), ConnOptions::default());
    let (sender, conn) = open(&sim, &mut el);
    let (other, reads_late) = open(&sim, &mut el);
    other.send(&[1; 400]);
    turn(&mut el);
    el.conn(conn).unwrap().send(&[1; 20_900]).unwrap();
    turn(&mut el);
    el.conn(reads_late).unwrap().consume(usize::MAX);
    turn(&mut el);
    assert!(is_read(&sender, conn, &mut el));
}

/// A large send took the queue along, and nobody looked at the marks after it.
#[test]
fn a_send_that_takes_the_queue_along_is_followed_by_drained() {
    for seed in 0..20 {
        let options = SimOptions {
            buffer: 300_000,
            ..SimOptions::kind(seed)
        };
        let conn = ConnOptions {
            auto_pause: false,
            ..marks(5000, 100)
        };
        let (sim, mut el) = simulated(options, LoopOptions::default(), conn);
        let (peer, congested) = open(&sim, &mut el);
        let (other, asks) = open(&sim, &mut el);
        el.conn(congested).unwrap().send(&[1; 306_000]).unwrap();
        assert_eq!(turn(&mut el), [Event::Congested { conn: congested }]);
        let mut drained = false;
        for n in 0..40 {
            if n < 3 {
                peer.send(&[5; 300_000]); // It always has more to read, so it stands in the line.
            }
            if n == 1 {
                other.send(b"x");
                peer.receive(usize::MAX);
            }
            el.poll(ZERO).unwrap();
            while let Some(event) = el.next_event() {
                drained |= matches!(event, Event::Drained { .. });
                let Event::Data { conn } = event else {
                    continue;
                };
                el.conn(conn).unwrap().consume(usize::MAX);
                if conn == asks {
                    el.conn(congested).unwrap().send(&[2; 9000]).unwrap();
                }
            }
            if n > 1 {
                peer.receive(usize::MAX);
            }
        }
        assert!(drained, "seed {seed}");
    }
}

/// Refused by the budget, below the high mark, an echo that waited for `Drained` waited for ever.
#[test]
fn queue_full_by_the_budget_is_followed_by_drained() {
    let (sim, mut el) = simulated(buffers(2000), budget(5000), ConnOptions::default());
    let (peer, conn) = open(&sim, &mut el);
    let (hog, other) = open(&sim, &mut el);
    el.conn(other).unwrap().send(&[1; 9000]).unwrap();
    turn(&mut el);
    let (mut refused, mut sent, mut got) = (0, 0, 0);
    for n in 0..400 {
        el.poll(ZERO).unwrap();
        while let Some(event) = el.next_event() {
            match event {
                Event::Data { conn: from } if from == conn => {
                    let mut view = el.conn(conn).unwrap();
                    for part in [view.received().len() * 3 / 4, usize::MAX] {
                        if let Err(e) = view.send_received(part) {
                            assert_eq!(e.kind(), ErrorKind::QueueFull);
                            refused += 1;
                            view.pause();
                        }
                    }
                    view.flush();
                }
                Event::Drained { conn } => el.conn(conn).unwrap().resume(),
                _ => {}
            }
        }
        if n >= 60 {
            hog.receive(9000);
            got += peer.receive(9000).len();
        } else if n % 2 == 0 {
            sent += peer.send(&[7; 2000]);
        } else if n % 3 == 0 {
            got += peer.receive(1500).len();
        }
    }
    assert!(refused > 0);
    assert_eq!(got, sent);
}

/// What was gathered counted as waiting although the kernel had not been asked.
#[test]
fn a_small_cap_refuses_only_what_the_kernel_does_not_take() {
    let conn = ConnOptions {
        send_cap: 8000,
        ..marks(6000, 1000)
    };
    let (sim, mut el) = simulated(buffers(1 << 20), LoopOptions::default(), conn);
    let (_peer, conn) = open(&sim, &mut el);
    for _ in 0..20 {
        el.conn(conn).unwrap().send(&[1; 7000]).unwrap();
    }
}

/// The close timeout cut what was given more time.
#[test]
fn the_deadline_of_a_shut_down_replaces_the_close_timeout() {
    let conn = ConnOptions {
        close_timeout: Duration::from_secs(1),
        ..Default::default()
    };
    let (sim, mut el) = simulated(buffers(2000), LoopOptions::default(), conn);
    let (_never_reads, conn) = open(&sim, &mut el);
    el.conn(conn).unwrap().send(&[1; 9000]).unwrap();
    turn(&mut el);
    let begun = el.now();
    el.shut_down(Duration::from_secs(60));
    let ended = (0..1000).find_map(|_| {
        sim.advance(Duration::from_millis(100));
        turn(&mut el)
            .iter()
            .any(|e| matches!(e, Event::Closed { .. }))
            .then(|| el.now())
    });
    assert!(ended.unwrap() - begun >= Duration::from_secs(60));
}

/// `Drained` was told of a connection that was congested again.
#[test]
fn drained_is_not_told_of_a_connection_that_is_congested_again() {
    let (sim, mut el) = simulated(buffers(20_000), LoopOptions::default(), marks(5000, 100));
    let (peer, conn) = open(&sim, &mut el);
    el.conn(conn).unwrap().send(&[1; 26_000]).unwrap();
    assert_eq!(turn(&mut el), [Event::Congested { conn }]);
    peer.receive(usize::MAX);
    el.poll(ZERO).unwrap();
    el.poll(ZERO).unwrap();
    el.conn(conn).unwrap().flush();
    el.conn(conn).unwrap().send(&[1; 26_000]).unwrap();
    assert_eq!(el.next_event(), None);
}

/// A proxy that passes the end of one stream on to the other lost the end of the other.
#[test]
fn the_end_of_a_stream_is_told_although_another_handler_shuts_it_down() {
    let half_open = ConnOptions {
        half_open: true,
        ..Default::default()
    };
    let (sim, mut el) = simulated(buffers(9000), LoopOptions::default(), half_open);
    let (left, a) = open(&sim, &mut el);
    let (right, b) = open(&sim, &mut el);
    left.send(b"tail of a");
    right.send(b"tail of b");
    turn(&mut el);
    left.finish();
    right.finish();
    let (mut tails, mut closed) = (Vec::new(), 0);
    for _ in 0..20 {
        el.poll(ZERO).unwrap();
        while let Some(event) = el.next_event() {
            closed += usize::from(matches!(event, Event::Closed { .. }));
            let Event::EndOfStream { conn } = event else {
                continue;
            };
            tails.push(el.conn(conn).unwrap().received().len());
            if let Ok(mut other) = el.conn(if conn == a { b } else { a }) {
                let _ = other.shutdown_write();
            }
        }
    }
    assert_eq!((&tails[..], closed), (&[9, 9][..], 2));
}

/// What a handler left was offered again only if an earlier one had left something too.
#[test]
fn resume_offers_again_what_this_very_handler_leaves() {
    let (sim, mut el) = simulated(
        buffers(9000),
        LoopOptions::default(),
        ConnOptions::default(),
    );
    let (peer, _) = open(&sim, &mut el);
    peer.send(b"left");
    let mut offers = 0;
    for _ in 0..10 {
        el.poll(ZERO).unwrap();
        while let Some(event) = el.next_event() {
            let Event::Data { conn } = event else {
                continue;
            };
            offers += 1;
            if offers == 1 {
                let mut view = el.conn(conn).unwrap();
                view.pause();
                view.resume();
            }
        }
    }
    assert_eq!(offers, 2);
}

/// accept(2) hands on errors of the connection that came; they paused the listener.
#[test]
fn an_accept_error_of_one_connection_is_not_a_pause() {
    let (sim, mut el) = simulated(
        buffers(9000),
        LoopOptions::default(),
        ConnOptions::default(),
    );
    sim.fail_accept(nix::errno::Errno::EHOSTUNREACH as i32);
    let _peer = sim.connect_to(ADDR);
    assert!(matches!(turn(&mut el)[..], [Event::Accepted { .. }]));
}

/// A reset that was reported while the connection was read went unnoticed after its handler paused.
#[test]
fn a_reset_is_noticed_after_a_pause() {
    let (sim, mut el) = simulated(
        buffers(9000),
        LoopOptions::default(),
        ConnOptions::default(),
    );
    let (peer, conn) = open(&sim, &mut el);
    peer.send(b"last words");
    peer.finish();
    el.poll(ZERO).unwrap();
    assert_eq!(el.next_event(), Some(Event::Data { conn }));
    el.conn(conn).unwrap().pause();
    peer.reset();
    let closed = (0..5).any(|_| {
        turn(&mut el)
            .iter()
            .any(|e| matches!(e, Event::Closed { .. }))
    });
    assert!(closed);
}
