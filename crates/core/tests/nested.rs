//! The loop's own descriptor (promise 14): nested in a plain poll(2) program, and in another
//! selector; and how fine its alarm is.

mod util;

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use echoloop_core::{
    ConnId, ConnOptions, Event, EventLoop, Interest, ListenOptions, LoopOptions, TimerSpec,
    WatchMode, sys::Os,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use util::real::{PATIENCE, Real, ip, read_some};

/// The host: a program with a poll(2) of its own. Answers whether the loop asks for a turn.
fn asks(el: &mut EventLoop<Os>, within: Duration) -> bool {
    let timeout = Timespec::try_from(within).unwrap();
    poll(
        &mut [PollFd::new(&el.descriptor(), PollFlags::IN)],
        Some(&timeout),
    )
    .unwrap()
        > 0
}

/// One turn, as a host does it.
fn turn(el: &mut EventLoop<Os>) -> Vec<Event> {
    el.poll(Some(Duration::ZERO)).unwrap();
    std::iter::from_fn(|| el.next_event()).collect()
}

/// Takes turns as often as the loop asks for one, until `done`.
fn host<T>(
    el: &mut EventLoop<Os>,
    mut done: impl FnMut(&mut EventLoop<Os>, Event) -> Option<T>,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(asks(el, left), "the loop sleeps on what it has to do");
        el.poll(Some(Duration::ZERO)).unwrap();
        while let Some(event) = el.next_event() {
            if let Some(found) = done(el, event) {
                return found;
            }
        }
    }
}

/// Takes turns until the loop asks for no more.
fn rest(el: &mut EventLoop<Os>) {
    let deadline = Instant::now() + PATIENCE;
    while asks(el, Duration::from_millis(20)) {
        assert!(Instant::now() < deadline, "never at rest");
        turn(el);
    }
}

/// A nested loop at rest, with a connection and its client.
fn at_rest() -> (EventLoop<Os>, ConnId, TcpStream) {
    let mut real = Real::new(ConnOptions::default());
    let (client, conn) = real.pair();
    rest(&mut real.el);
    (real.el, conn, client)
}

#[test]
fn input_timers_and_posts_make_the_descriptor_readable() {
    let (mut el, conn, mut client) = at_rest();
    client.write_all(b"hello").unwrap();
    host(&mut el, |_, e| (e == Event::Data { conn }).then_some(()));
    rest(&mut el);

    let before = Instant::now();
    let timer = el
        .add_timer(TimerSpec::after(Duration::from_millis(30)))
        .unwrap();
    host(&mut el, |_, e| (e == Event::Timer { timer }).then_some(()));
    assert!(before.elapsed() >= Duration::from_millis(30));
    rest(&mut el);

    let remote = el.remote();
    let poster = std::thread::spawn(move || remote.post(7).unwrap());
    host(&mut el, |_, e| {
        (e == Event::Posted { word: 7 }).then_some(())
    });
    poster.join().unwrap();
    rest(&mut el);
}

#[test]
fn a_descriptor_that_is_readable_stays_so_until_the_turn_is_taken() {
    let (mut el, conn, mut client) = at_rest();
    client.write_all(b"hello").unwrap();
    for _ in 0..3 {
        assert!(asks(&mut el, PATIENCE));
    }
    assert_eq!(turn(&mut el), [Event::Data { conn }]);
    // What the handler has left unread is offered with what comes next, not before.
    assert!(!asks(&mut el, Duration::from_millis(20)));
}

#[test]
fn what_is_sent_between_turns_leaves_in_a_turn_that_the_descriptor_asks_for() {
    let (mut el, conn, mut client) = at_rest();
    let mut got = Vec::new();
    let send = |el: &mut EventLoop<Os>, bytes: &[u8]| el.conn(conn).unwrap().send(bytes).unwrap();
    for _ in 0..3 {
        send(&mut el, b"small");
        send(&mut el, b" and more");
        assert!(asks(&mut el, Duration::ZERO));
        turn(&mut el);
        read_some(&mut client, &mut got);
        assert_eq!(std::mem::take(&mut got), b"small and more");
        assert!(!asks(&mut el, Duration::ZERO));
    }
    send(&mut el, &[7; 20_000]); // Goes to the kernel at once: nothing is left to be done.
    assert!(!asks(&mut el, Duration::ZERO));
    read_some(&mut client, &mut got);
    assert_eq!(got.len(), 20_000);

    // Asked for events instead of polled, it does the same.
    send(&mut el, b"again");
    assert_eq!(el.next_event(), None);
    assert!(!asks(&mut el, Duration::ZERO) || turn(&mut el).is_empty());
    send(&mut el, b"and again");
    assert!(asks(&mut el, Duration::ZERO));
}

#[test]
fn a_close_between_turns_is_told_in_one_that_the_descriptor_asks_for() {
    let (mut el, conn, client) = at_rest();
    el.conn(conn).unwrap().abort();
    assert!(asks(&mut el, Duration::ZERO));
    assert!(matches!(turn(&mut el)[..], [Event::Closed { conn: c, .. }] if c == conn));
    assert!(!asks(&mut el, Duration::from_millis(20)));
    drop(client);

    let (mut el, conn, client) = at_rest();
    el.conn(conn).unwrap().close();
    // The peer does not finish: the end of the linger second is a deadline like any other.
    host(&mut el, |_, e| {
        matches!(e, Event::Closed { .. }).then_some(())
    });
    drop(client);
}

#[test]
fn paused_input_asks_for_a_turn_when_it_is_resumed() {
    let (mut el, conn, mut client) = at_rest();
    el.conn(conn).unwrap().pause();
    client.write_all(b"hello").unwrap();
    while asks(&mut el, Duration::from_millis(20)) {
        assert_eq!(turn(&mut el), []);
    }
    el.conn(conn).unwrap().resume();
    assert!(asks(&mut el, Duration::ZERO));
    assert_eq!(turn(&mut el), [Event::Data { conn }]);
}

#[test]
fn work_beyond_one_turn_keeps_the_descriptor_readable() {
    let options = LoopOptions {
        events_per_turn: 1,
        ..LoopOptions::default()
    };
    let mut el = EventLoop::new(options).unwrap();
    let mut addrs = Vec::new();
    for _ in 0..2 {
        let listener = el.listen("127.0.0.1:0", &ListenOptions::default()).unwrap();
        addrs.push(ip(&el.listener_addr(listener).unwrap()));
    }
    rest(&mut el);
    // More than one turn accepts, and the kernel reports each listener once.
    let clients: Vec<TcpStream> = (0..300)
        .map(|n| TcpStream::connect(addrs[n % 2]).unwrap())
        .collect();
    let mut accepted = 0;
    host(&mut el, |_, e| {
        accepted += usize::from(matches!(e, Event::Accepted { .. }));
        (accepted == clients.len()).then_some(())
    });
    rest(&mut el);

    // More than one read brings.
    let (mut el, conn, mut client) = at_rest();
    let sent = vec![5; 1 << 20];
    client.set_nonblocking(false).unwrap();
    let writer = std::thread::spawn(move || client.write_all(&sent));
    let mut got = 0;
    host(&mut el, |el, e| {
        if let Event::Data { conn } = e {
            let mut view = el.conn(conn).unwrap();
            got += view.received().len();
            view.consume(usize::MAX);
        }
        (got == 1 << 20).then_some(())
    });
    writer.join().unwrap().unwrap();
    assert!(el.conn(conn).is_ok());
}

#[test]
fn a_program_that_leaves_events_for_later_asks_for_the_descriptor_again() {
    let (mut el, _, _client) = at_rest();
    el.remote().post(1).unwrap();
    el.remote().post(2).unwrap();
    assert!(asks(&mut el, Duration::ZERO));
    el.poll(Some(Duration::ZERO)).unwrap();
    assert_eq!(el.next_event(), Some(Event::Posted { word: 1 }));
    assert!(asks(&mut el, Duration::ZERO));
    assert_eq!(turn(&mut el), [Event::Posted { word: 2 }]);
    assert!(!asks(&mut el, Duration::from_millis(20)));
}

#[test]
fn a_timer_that_is_added_in_a_turn_that_is_left_early_is_not_slept_on() {
    let (mut el, _conn, _client) = at_rest();
    el.poll(Some(Duration::ZERO)).unwrap();
    let timer = el
        .add_timer(TimerSpec::after(Duration::from_millis(5)))
        .unwrap();
    // Back to the host, although `next_event` has not answered `None`.
    let told = host(&mut el, |_, event| Some(event));
    assert_eq!(told, Event::Timer { timer });
}

#[test]
fn an_idle_nested_loop_wakes_nobody() {
    let (mut el, conn, _client) = at_rest();
    let more: Vec<TcpStream> = {
        let listener = el.listen("127.0.0.1:0", &ListenOptions::default()).unwrap();
        let addr = ip(&el.listener_addr(listener).unwrap());
        (0..10).map(|_| TcpStream::connect(addr).unwrap()).collect()
    };
    rest(&mut el);
    assert_eq!(el.connection_count(), 1 + more.len());

    let after = |ms| TimerSpec::after(Duration::from_millis(ms));
    el.add_timer(after(60_000)).unwrap();
    let cancelled = el.add_timer(after(200)).unwrap();
    let moved = el.add_timer(after(300)).unwrap();
    el.conn(conn)
        .unwrap()
        .set_idle_timeout(Some(Duration::from_secs(60)));
    el.cancel_timer(cancelled).unwrap();
    el.rearm_timer(moved, Duration::from_secs(50)).unwrap();
    assert!(!asks(&mut el, Duration::from_secs(1)), "woke for nothing");

    // A turn that nobody asked for changes nothing about it.
    assert_eq!(turn(&mut el), []);
    assert!(!asks(&mut el, Duration::from_millis(100)));
}

#[test]
fn the_next_deadline_is_that_of_the_first_timer() {
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    assert_eq!(el.next_deadline(), None);
    let second = Duration::from_secs(1);
    let later = el.add_timer(TimerSpec::after(60 * second)).unwrap();
    let sooner = el.add_timer(TimerSpec::after(30 * second)).unwrap();
    let is_within = |el: &mut EventLoop<Os>, least: u32, most: u32| {
        let left = el.next_deadline().expect("a timer is planned");
        (least * second..=most * second).contains(&left)
    };
    assert!(is_within(&mut el, 20, 30));
    el.cancel_timer(sooner).unwrap();
    assert!(is_within(&mut el, 50, 60));
    el.rearm_timer(later, 10 * second).unwrap();
    assert!(is_within(&mut el, 5, 10));
    el.cancel_timer(later).unwrap();
    assert_eq!(el.next_deadline(), None);

    // Armed in a handler, which puts off the reading of the clock.
    el.remote().post(1).unwrap();
    el.poll(Some(PATIENCE)).unwrap();
    assert_eq!(el.next_event(), Some(Event::Posted { word: 1 }));
    el.add_timer(TimerSpec::after(10 * second)).unwrap();
    assert_eq!(el.next_event(), None);
    assert!(is_within(&mut el, 5, 10));
    // Before the turn is over nobody knows what else there is, and it still holds.
    el.poll(Some(Duration::ZERO)).unwrap();
    el.add_timer(TimerSpec::after(second)).unwrap();
    assert!(is_within(&mut el, 0, 1));
}

#[test]
fn the_next_deadline_is_now_while_work_waits() {
    let mut real = Real::new(ConnOptions::default());
    let (mut client, conn) = real.pair();
    let mut el = real.el;
    while el.next_event().is_some() {}
    let now = Some(Duration::ZERO);
    assert_ne!(el.next_deadline(), now);

    // Not nested, so that nobody but the program can tell.
    el.conn(conn).unwrap().send(b"small").unwrap();
    assert_eq!(el.next_deadline(), now);
    assert_eq!(turn(&mut el), []);
    assert_ne!(el.next_deadline(), now);
    let mut got = Vec::new();
    read_some(&mut client, &mut got);
    assert_eq!(got, b"small");

    let timer = el.add_timer(TimerSpec::after(Duration::ZERO)).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while el.next_deadline() != now {
        assert!(Instant::now() < deadline, "the timer is never due");
    }
    assert_eq!(turn(&mut el), [Event::Timer { timer }]);

    el.conn(conn).unwrap().abort();
    assert_eq!(el.next_deadline(), now);
    el.poll(now).unwrap();
    assert_eq!(el.next_deadline(), now);
    assert!(matches!(el.next_event(), Some(Event::Closed { .. })));
    assert_eq!(el.next_event(), None);
    assert_eq!(el.next_deadline(), None);
}

#[test]
fn a_loop_nests_in_a_second_loop() {
    let (mut el, conn, mut client) = at_rest();
    let mut outer = EventLoop::new(LoopOptions::default()).unwrap();
    let watch = outer
        .watch(&el.descriptor(), Interest::READABLE, WatchMode::Level)
        .unwrap();
    let mut wakes = |within: Duration| {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            outer.poll(Some(left)).unwrap();
            let told = outer.next_event();
            if let Some(event) = told {
                assert!(matches!(event, Event::Watch { watch: w, .. } if w == watch));
                assert_eq!(outer.next_event(), None);
            }
            if told.is_some() || left.is_zero() {
                return told.is_some();
            }
        }
    };
    assert!(!wakes(Duration::from_millis(20)));
    client.write_all(b"hello").unwrap();
    assert!(wakes(PATIENCE));
    assert!(wakes(PATIENCE), "told again as long as no turn is taken");
    assert_eq!(turn(&mut el), [Event::Data { conn }]);

    let timer = el
        .add_timer(TimerSpec::after(Duration::from_millis(10)))
        .unwrap();
    assert!(wakes(PATIENCE));
    assert_eq!(turn(&mut el), [Event::Timer { timer }]);

    el.remote().post(1).unwrap();
    assert!(wakes(PATIENCE));
    assert_eq!(turn(&mut el), [Event::Posted { word: 1 }]);
    assert!(!wakes(Duration::from_millis(100)));
}

#[test]
fn what_is_always_ready_keeps_the_descriptor_readable() {
    let (mut el, _, _client) = at_rest();
    let file = std::fs::File::open("/dev/null").unwrap();
    let watch = el
        .watch(&file, Interest::READABLE, WatchMode::Level)
        .unwrap();
    for _ in 0..3 {
        assert!(asks(&mut el, Duration::ZERO));
        assert!(matches!(turn(&mut el)[..], [Event::Watch { .. }]));
    }
    el.modify_watch(watch, Interest::NONE).unwrap();
    rest(&mut el);
    el.modify_watch(watch, Interest::READABLE).unwrap();
    assert!(asks(&mut el, Duration::ZERO));
    el.unwatch(watch).unwrap();
    rest(&mut el);
}

#[test]
fn timers_are_finer_than_a_millisecond() {
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let least = Duration::from_micros(100);
    let mut lags: Vec<Duration> = (0..51)
        .map(|_| {
            let before = Instant::now();
            let timer = el.add_timer(TimerSpec::after(least)).unwrap();
            loop {
                el.poll(Some(PATIENCE)).unwrap();
                if let Some(event) = el.next_event() {
                    assert_eq!(event, Event::Timer { timer });
                    break;
                }
            }
            assert_eq!(el.next_event(), None);
            before.elapsed().checked_sub(least).expect("never early")
        })
        .collect();
    lags.sort();
    // Timeouts of the selector alone would all be 900 microseconds late. On a busy machine some are.
    assert!(lags[0] < Duration::from_micros(700), "{lags:?}");
}

#[test]
fn a_timeout_below_a_millisecond_is_kept() {
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let timeout = Duration::from_micros(200);
    let mut took: Vec<Duration> = (0..51)
        .map(|_| {
            let before = Instant::now();
            el.poll(Some(timeout)).unwrap();
            assert_eq!(el.next_event(), None);
            before.elapsed()
        })
        .collect();
    took.sort();
    assert!(
        (timeout..Duration::from_micros(900)).contains(&took[0]),
        "{took:?}"
    );
}
