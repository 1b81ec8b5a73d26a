//! What a handler leaves unread because the queue was full, on the simulated system: it is offered again once there
//! is room, whether or not the peer sends any more.

use std::time::Duration;

use echoloop_core::sys::{Peer, Sim, SimOptions};
use echoloop_core::{
    CloseReason, ConnOptions, ErrorKind, Event, EventLoop, ListenOptions, LoopOptions,
};

const ADDR: &str = "10.0.0.2:7";
const REQUESTS: usize = 40;
const ANSWER: [u8; 3000] = [7; 3000];

/// A loop whose kernel holds little, and a peer of it.
fn simulated(seed: u64) -> (EventLoop<Sim>, Peer) {
    let sim = Sim::new(SimOptions {
        buffer: 2000,
        ..SimOptions::kind(seed)
    });
    let mut el = EventLoop::with_system(sim.clone(), LoopOptions::default()).unwrap();
    let conn = ConnOptions {
        high_mark: 5000,
        low_mark: 1000,
        send_cap: 10_000,
        ..Default::default()
    };
    let listen = ListenOptions {
        conn,
        ..Default::default()
    };
    el.listen(ADDR, &listen).unwrap();
    let peer = sim.connect_to(ADDR);
    (el, peer)
}

/// Each byte is a request with a long answer; what finds no room is left, and nothing else is done about it.
fn answer(el: &mut EventLoop<Sim>, event: &Event, refused: &mut usize) {
    let Event::Data { conn } = *event else { return };
    let mut view = el.conn(conn).unwrap();
    while !view.received().is_empty() {
        match view.send(&ANSWER) {
            Ok(()) => view.consume(1),
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::QueueFull);
                *refused += 1;
                return;
            }
        }
    }
}

#[test]
fn a_peer_that_sends_no_more_gets_all_its_answers() {
    for seed in 0..20 {
        for finishes in [false, true] {
            let (mut el, peer) = simulated(seed);
            assert_eq!(peer.send(&[1; REQUESTS]), REQUESTS);
            if finishes {
                peer.finish();
            }
            let (mut refused, mut got, mut closed) = (0, 0, None);
            for _ in 0..4000 {
                el.poll(Some(Duration::ZERO)).unwrap();
                while let Some(event) = el.next_event() {
                    answer(&mut el, &event, &mut refused);
                    if let Event::Closed { reason, unsent, .. } = event {
                        closed = Some((reason, unsent));
                    }
                }
                got += peer.receive(1500).len();
            }
            assert!(refused > 3, "seed {seed}: the queue was full");
            assert_eq!(got, REQUESTS * ANSWER.len(), "seed {seed}, {finishes}");
            let finished = Some((CloseReason::PeerFinished, 0));
            assert_eq!(closed, finished.filter(|_| finishes), "seed {seed}");
        }
    }
}

#[test]
fn one_that_is_paused_is_offered_nothing_until_it_is_resumed() {
    let (mut el, peer) = simulated(1);
    peer.send(&[1; REQUESTS]);
    let (mut refused, mut drained, mut got) = (0, None, 0);
    for _ in 0..200 {
        el.poll(Some(Duration::ZERO)).unwrap();
        while let Some(event) = el.next_event() {
            assert!(
                drained.is_none() || !matches!(event, Event::Data { .. }),
                "told of data while paused"
            );
            answer(&mut el, &event, &mut refused);
            match event {
                Event::Data { conn } => el.conn(conn).unwrap().pause(),
                Event::Drained { conn } => drained = Some(conn),
                _ => {}
            }
        }
        got += peer.receive(1500).len();
    }
    assert!(got < REQUESTS * ANSWER.len());
    el.conn(drained.unwrap()).unwrap().resume();
    el.poll(Some(Duration::ZERO)).unwrap();
    assert!(std::iter::from_fn(|| el.next_event()).any(|e| matches!(e, Event::Data { .. })));
}
