//! What a loop tells of itself: counters, where its time goes, slow handlers. The clock of the
//! simulated system stands still but for what a test does, so its times are exact.

mod util;

use std::sync::mpsc;
use std::time::Duration;

use echoloop_core::sys::{Peer, Sim};
use echoloop_core::{
    ConnId, ConnOptions, ConnectOptions, ErrorKind, Event, EventLoop, LoopOptions, SlowHandler,
    TimerSpec,
};
use util::real::{Real, read_some, write_some};
use util::sim::{open, simulated, turn};

const ZERO: Option<Duration> = Some(Duration::ZERO);
const MS: Duration = Duration::from_millis(1);

fn plain() -> (Sim, EventLoop<Sim>) {
    simulated(64 << 10, LoopOptions::default(), ConnOptions::default())
}

/// Turns in which each of the peers says something and its handler takes `each`.
fn talk(
    sim: &Sim,
    el: &mut EventLoop<Sim>,
    peers: &[(Peer, ConnId)],
    turns: usize,
    each: Duration,
) {
    for _ in 0..turns {
        for (peer, _) in peers {
            assert_eq!(peer.send(b"hello"), 5);
        }
        let mut heard = 0;
        el.poll(ZERO).unwrap();
        while let Some(event) = el.next_event() {
            let Event::Data { conn } = event else {
                continue;
            };
            el.conn(conn).unwrap().consume(usize::MAX);
            sim.advance(each);
            heard += 1;
        }
        assert_eq!(heard, peers.len());
    }
}

#[test]
fn counters_tell_what_was_done_both_ways() {
    let mut real = Real::new(ConnOptions::default());
    let client = real
        .el
        .connect(real.addr, &ConnectOptions::default())
        .unwrap();
    real.el.conn(client).unwrap().send(b"ping").unwrap();
    real.el.add_timer(TimerSpec::after(MS)).unwrap();
    let remote = real.el.remote();
    remote.post(1).unwrap();
    remote.post(2).unwrap();
    let (mut answered, mut fired, mut posts, mut closed) = (false, 0, 0, 0);
    while closed < 2 {
        real.until(|el, event| {
            match event {
                Event::Data { conn } if conn == client => {
                    el.conn(conn).unwrap().close();
                    answered = true;
                }
                Event::Data { conn } => el.conn(conn).unwrap().send_received(4).unwrap(),
                Event::Timer { .. } => fired += 1,
                Event::Posted { .. } => posts += 1,
                Event::Closed { .. } => closed += 1,
                _ => {}
            }
            Some(())
        });
    }
    real.run_until(|el| el.counters().timers_fired == 1);
    let c = *real.el.counters();
    assert!(answered);
    assert_eq!((c.accepted, c.connected, c.closed), (1, 1, 2));
    assert_eq!((c.reads, c.bytes_received), (2, 8));
    assert_eq!((c.sends, c.bytes_sent), (2, 8));
    assert_eq!((c.posts, posts), (2, 2));
    assert!(fired <= 1 && c.turns > 0);
    assert_eq!((c.stale_events, c.slow_handlers), (0, 0));
}

#[test]
fn a_send_the_kernel_takes_in_two_pieces_is_two_sends() {
    let (sim, mut el) = simulated(1000, LoopOptions::default(), ConnOptions::default());
    let (peer, conn) = open(&sim, &mut el);
    el.conn(conn).unwrap().send(&[1; 1500]).unwrap();
    turn(&mut el);
    assert_eq!((el.counters().sends, el.counters().bytes_sent), (1, 1000));
    assert_eq!(peer.receive(usize::MAX).len(), 1000);
    turn(&mut el);
    assert_eq!((el.counters().sends, el.counters().bytes_sent), (2, 1500));
}

#[test]
fn refused_sends_and_pauses_are_counted_by_their_cause() {
    let options = LoopOptions {
        memory_budget: 3000,
        ..LoopOptions::default()
    };
    let conn = ConnOptions {
        high_mark: 1500,
        low_mark: 500,
        send_cap: 2500,
        ..ConnOptions::default()
    };
    let (sim, mut el) = simulated(1000, options, conn);
    let ((_slow, first), (_other, second)) = (open(&sim, &mut el), open(&sim, &mut el));
    el.conn(first).unwrap().send(&[1; 3000]).unwrap();
    turn(&mut el);
    assert_eq!(
        (el.counters().congested, el.counters().budget_pauses),
        (1, 0)
    );
    assert_eq!(el.counters().sends_refused, 0);
    el.conn(second).unwrap().send(&[1; 3000]).unwrap();
    turn(&mut el);
    assert_eq!(
        (el.counters().congested, el.counters().budget_pauses),
        (2, 1)
    );
    let refused = el.conn(second).unwrap().send(&[1]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::QueueFull);
    assert_eq!(el.counters().sends_refused, 1);
}

#[test]
fn turns_and_waiting_are_all_of_the_time() {
    let (sim, mut el) = plain();
    el.add_timer(TimerSpec::every(10 * MS)).unwrap();
    for _ in 0..5 {
        el.poll(None).unwrap(); // Until the timer is due.
        assert!(matches!(el.next_event(), Some(Event::Timer { .. })));
        sim.advance(3 * MS); // The handler takes its time.
        assert_eq!(el.next_event(), None);
        sim.advance(2 * MS); // The program does something else.
    }
    let m = el.metrics();
    assert_eq!(
        (m.turn.count(), m.turn.sum(), m.turn.max()),
        (5, 15 * MS, 3 * MS)
    );
    assert_eq!((m.waiting.count(), m.waiting.max()), (5, 10 * MS));
    assert_eq!(m.waiting.sum(), 10 * MS + 4 * 7 * MS);
    assert_eq!(m.turn.sum() + m.waiting.sum() + 2 * MS, 55 * MS);
}

#[test]
fn a_turn_that_is_not_seen_to_its_end_ends_with_the_next_poll() {
    let (sim, mut el) = plain();
    let (peer, _) = open(&sim, &mut el);
    let before = el.metrics().clone();
    peer.send(b"hello");
    el.poll(ZERO).unwrap();
    assert!(el.next_event().is_some());
    sim.advance(4 * MS);
    el.poll(ZERO).unwrap();
    let turn = el.metrics().turn.since(&before.turn);
    assert_eq!((turn.count(), turn.sum()), (1, 4 * MS));
}

#[test]
fn polls_that_bring_nothing_are_waiting() {
    let (sim, mut el) = plain();
    for _ in 0..1000 {
        assert_eq!(turn(&mut el), []);
        sim.advance(MS);
    }
    assert_eq!(el.counters().turns, 1000);
    assert_eq!(
        (el.metrics().turn.count(), el.metrics().waiting.count()),
        (0, 0)
    );
    let (_peer, _) = open(&sim, &mut el);
    assert_eq!(el.metrics().waiting.max(), 1000 * MS);
}

#[test]
fn the_lag_of_a_timer_counts_from_its_deadline_to_its_turn() {
    let (sim, mut el) = plain();
    el.add_timer(TimerSpec::after(10 * MS)).unwrap();
    el.add_timer(TimerSpec::after(12 * MS)).unwrap();
    sim.advance(15 * MS);
    assert_eq!(turn(&mut el).len(), 2);
    let lag = &el.metrics().timer_lag;
    assert_eq!((lag.count(), lag.sum(), lag.max()), (2, 8 * MS, 5 * MS));
    assert_eq!(el.counters().timers_fired, 2);
    el.add_timer(TimerSpec::after(10 * MS)).unwrap();
    el.poll(None).unwrap();
    assert!(matches!(el.next_event(), Some(Event::Timer { .. })));
    let lag = &el.metrics().timer_lag;
    assert_eq!(
        (lag.count(), lag.sum()),
        (3, 8 * MS),
        "woken when it is due"
    );
}

#[test]
fn of_a_quiet_loop_one_handler_in_16_is_timed_of_a_busy_one_in_1024() {
    let (sim, mut el) = plain();
    let peers: Vec<_> = (0..64).map(|_| open(&sim, &mut el)).collect();
    for (talking, turns, most) in [(&peers[..1], 320, 16), (&peers, 320, 1024)] {
        let before = el.metrics().handler.clone();
        talk(&sim, &mut el, talking, turns, 5 * MS);
        let timed = el.metrics().handler.since(&before);
        let handlers = (talking.len() * turns) as u64;
        // Those that come the long way for being timed weigh more than the others.
        assert!(
            (handlers / most..=handlers * 9 / 8 / most + 1).contains(&timed.count()),
            "{} of {handlers}",
            timed.count()
        );
        assert_eq!(timed.sum(), 5 * MS * timed.count() as u32);
    }
}

#[test]
fn what_a_handler_sends_is_part_of_its_time_and_timing_changes_no_byte() {
    let options = LoopOptions {
        slow_handler: Some(Duration::MAX),
        ..LoopOptions::default()
    };
    let mut real = Real::with_loop(EventLoop::new(options).unwrap(), ConnOptions::default());
    let (mut client, _) = real.pair();
    let (sent, mut got) = (vec![7; 300_000], Vec::new());
    let mut written = 0;
    while got.len() < sent.len() {
        written += write_some(&mut client, &sent[written..]);
        read_some(&mut client, &mut got);
        real.el.poll(Some(MS)).unwrap();
        while let Some(event) = real.el.next_event() {
            if let Event::Data { conn } = event {
                real.el
                    .conn(conn)
                    .unwrap()
                    .send_received(usize::MAX)
                    .unwrap();
            }
        }
    }
    assert!(got == sent);
    let (c, m) = (real.el.counters(), real.el.metrics());
    assert!(m.handler.count() > c.reads, "all of them, and the accept");
    assert_eq!(c.slow_handlers, 0);
}

#[test]
fn a_slow_handler_is_named_with_its_handle() {
    let (sim, mut el) = plain();
    let ((one, first), (other, second)) = (open(&sim, &mut el), open(&sim, &mut el));
    let (tell, told) = mpsc::channel::<SlowHandler>();
    el.on_slow_handler(50 * MS, move |slow| tell.send(*slow).unwrap());
    let timer = el.add_timer(TimerSpec::after(MS)).unwrap();
    el.remote().post(9).unwrap();
    one.send(b"hello");
    other.send(b"hello");
    sim.advance(MS);
    let events = turn_in_which(&sim, &mut el, |event| match event {
        Event::Data { conn } if conn == second => 50 * MS,
        Event::Data { .. } => 49 * MS,
        Event::Timer { .. } => 70 * MS,
        Event::Posted { .. } => 60 * MS,
        _ => Duration::ZERO,
    });
    assert!(events.contains(&Event::Data { conn: first }));
    let mut slow: Vec<_> = told.try_iter().map(|s| (s.took, s.event)).collect();
    slow.sort_by_key(|(took, _)| *took);
    assert_eq!(
        slow,
        [
            (50 * MS, Event::Data { conn: second }),
            (60 * MS, Event::Posted { word: 9 }),
            (70 * MS, Event::Timer { timer }),
        ]
    );
    assert_eq!(el.counters().slow_handlers, 3);
    one.finish();
    let events = turn_in_which(&sim, &mut el, |_| 80 * MS);
    let ended: Vec<_> = told.try_iter().map(|s| s.event).collect();
    assert_eq!(ended, events, "the end of a connection too");
    assert!(matches!(ended.last(), Some(Event::Closed { conn, .. }) if *conn == first));
    el.ignore_slow_handlers();
    other.send(b"hello");
    turn_in_which(&sim, &mut el, |_| 80 * MS);
    assert_eq!(told.try_iter().count(), 0);
}

/// Three turns, whose handlers take what `takes` says.
fn turn_in_which(
    sim: &Sim,
    el: &mut EventLoop<Sim>,
    takes: impl Fn(Event) -> Duration,
) -> Vec<Event> {
    let mut events = Vec::new();
    for _ in 0..3 {
        el.poll(ZERO).unwrap();
        while let Some(event) = el.next_event() {
            if let Event::Data { conn } = event {
                el.conn(conn).unwrap().consume(usize::MAX);
            }
            sim.advance(takes(event));
            events.push(event);
        }
    }
    events
}

#[test]
fn without_a_hook_a_slow_handler_is_a_warning_in_the_log() {
    struct Lines;
    static WARNED: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());
    impl log::Log for Lines {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            if record.level() == log::Level::Warn {
                WARNED.lock().unwrap().push(record.args().to_string());
            }
        }
        fn flush(&self) {}
    }
    log::set_logger(&Lines).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let options = LoopOptions {
        slow_handler: Some(20 * MS),
        ..LoopOptions::default()
    };
    let (sim, mut el) = simulated(1000, options, ConnOptions::default());
    let timer = el.add_timer(TimerSpec::after(MS)).unwrap();
    sim.advance(MS);
    turn_in_which(&sim, &mut el, |_| 21 * MS);
    assert_eq!(
        *WARNED.lock().unwrap(),
        [format!(
            "the handler of Timer {{ timer: {timer:?} }} took 21.0ms"
        )]
    );
}

#[test]
fn a_connection_handed_to_a_loop_that_cannot_take_it_is_counted_there() {
    let mut real = Real::new(ConnOptions::default());
    let (_client, conn) = real.pair();
    let (_sim, mut other) = plain(); // Which knows no socket of the real network.
    real.el.hand_over(conn, &other.remote()).unwrap();
    assert!(turn(&mut other).is_empty());
    assert_eq!(other.counters().arrivals_lost, 1);
    let mut sum = *real.el.counters();
    sum += *other.counters();
    assert_eq!((sum.given_away, sum.adopted, sum.arrivals_lost), (1, 0, 1));
    let both = [*real.el.counters(), *other.counters()];
    assert_eq!(both.into_iter().sum::<echoloop_core::Counters>(), sum);
}
