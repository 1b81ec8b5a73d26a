//! Promises 13 to 16 of the design, each by tests of its name, on the real system: timers, nesting,
//! other threads, errors.
//!
//! More on each: `timer_model` and `timer_clock`; `nested`; `remote_model`.

mod util;

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use echoloop_core::{
    CloseReason, ConnOptions, Deadline, ErrorKind, Event, EventLoop, ListenOptions, LoopOptions,
    TimerSpec,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use util::Random;
use util::real::{PATIENCE, Real, reason_of};

#[test]
fn promise_13_timers_are_never_early_and_fire_in_order() {
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let mut random = Random::new(13);
    let mut due = std::collections::HashMap::new();
    for _ in 0..2000 {
        let delay = Duration::from_micros(random.below(200_000));
        let before = Instant::now();
        due.insert(
            el.add_timer(TimerSpec::after(delay)).unwrap(),
            before + delay,
        );
    }
    let mut last = None;
    let deadline = Instant::now() + PATIENCE;
    while !due.is_empty() {
        assert!(Instant::now() < deadline);
        el.poll(None).unwrap();
        let mut turn = Vec::new();
        while let Some(Event::Timer { timer }) = el.next_event() {
            let at = due.remove(&timer).expect("fires once");
            assert!(Instant::now() >= at, "early");
            turn.push(at);
        }
        // Within the error of reading the clock beside the loop's reading it.
        assert!(turn.is_sorted_by(|a, b| *a <= *b + Duration::from_millis(1)));
        last = turn.last().copied().or(last);
    }
    assert_eq!(
        el.live_handles(),
        0,
        "one-shot timers are gone after their event"
    );
}

#[test]
fn promise_13_periods_do_not_drift_and_missed_ones_are_skipped() {
    use echoloop_core::sys::{Sim, SimOptions};
    let sim = Sim::new(SimOptions::kind(13));
    let mut el = EventLoop::with_system(sim.clone(), LoopOptions::default()).unwrap();
    let period = Duration::from_millis(10);
    let timer = el.add_timer(TimerSpec::every(period).user_data(5)).unwrap();
    assert_eq!(el.timer_user_data(timer).unwrap(), 5);
    let mut times = Vec::new();
    while times.len() < 5 {
        el.poll(None).unwrap();
        while el.next_event().is_some() {
            times.push(el.now());
            sim.advance(Duration::from_millis(3)); // The handler takes its time.
        }
    }
    assert_eq!(times, [1, 2, 3, 4, 5].map(|n| n * period));
    sim.advance(Duration::from_millis(34)); // Three periods are missed.
    el.poll(None).unwrap();
    assert_eq!(el.next_event(), Some(Event::Timer { timer }));
    assert_eq!(el.next_event(), None, "missed periods are not made up for");
    el.poll(None).unwrap();
    assert_eq!(el.next_event(), Some(Event::Timer { timer }));
    assert_eq!(el.now(), 9 * period);
    el.cancel_timer(timer).unwrap();
    assert_eq!(el.live_handles(), 0);
}

#[test]
fn promise_13_timers_can_be_cancelled_and_re_armed_even_when_due() {
    use echoloop_core::sys::{Sim, SimOptions};
    let sim = Sim::new(SimOptions::kind(13));
    let mut el = EventLoop::with_system(sim.clone(), LoopOptions::default()).unwrap();
    let ms = Duration::from_millis;
    let [a, b, c] = [1, 2, 3].map(|n| el.add_timer(TimerSpec::after(ms(n))).unwrap());
    sim.advance(ms(5));
    el.poll(None).unwrap();
    assert_eq!(el.next_event(), Some(Event::Timer { timer: a }));
    el.cancel_timer(b).unwrap();
    el.rearm_timer(c, ms(10)).unwrap();
    el.rearm_timer(a, ms(20)).unwrap(); // A one-shot timer lives on if its handler says so.
    assert_eq!(el.next_event(), None);
    el.poll(None).unwrap();
    assert_eq!(
        (el.next_event(), el.now()),
        (Some(Event::Timer { timer: c }), ms(15))
    );
    el.poll(None).unwrap();
    assert_eq!(
        (el.next_event(), el.now()),
        (Some(Event::Timer { timer: a }), ms(25))
    );
    assert_eq!(el.next_event(), None);
    assert_eq!(
        el.rearm_timer(a, ms(1)).unwrap_err().kind(),
        ErrorKind::BadHandle
    );
}

#[test]
fn promise_13_an_idle_deadline_moves_with_the_traffic() {
    let idle = Duration::from_millis(200);
    let mut real = Real::new(ConnOptions {
        idle_timeout: Some(idle),
        ..ConnOptions::default()
    });
    let (mut client, conn) = real.pair();
    let start = Instant::now();
    let mut last = start;
    while start.elapsed() < 3 * idle {
        last = Instant::now();
        client.write_all(b"x").unwrap();
        real.until(|el, e| match e {
            Event::Data { conn } => {
                el.conn(conn).unwrap().consume(1);
                Some(())
            }
            other => panic!("{other:?} although it talks"),
        });
    }
    assert_eq!(
        reason_of(real.until_closed(conn)),
        CloseReason::TimedOut(Deadline::Idle)
    );
    assert!(last.elapsed() >= idle);
}

#[test]
fn promise_14_the_descriptor_is_readable_exactly_when_a_turn_would_tell_something() {
    // The host around is a poll(2); `turn` answers what the loop tells when it asks for a turn.
    fn asks(el: &mut EventLoop, wait: Duration) -> bool {
        let timeout = Timespec::try_from(wait).unwrap();
        let descriptor = el.descriptor();
        poll(
            &mut [PollFd::new(&descriptor, PollFlags::IN)],
            Some(&timeout),
        )
        .unwrap()
            > 0
    }
    fn turn(el: &mut EventLoop) -> Vec<Event> {
        assert!(asks(el, PATIENCE), "the loop sleeps on what it has to tell");
        el.poll(Some(Duration::ZERO)).unwrap();
        std::iter::from_fn(|| el.next_event()).collect()
    }
    let mut real = Real::new(ConnOptions::default());
    let (mut client, conn) = real.pair();
    let mut el = real.el;
    let soon = Duration::from_millis(30);
    el.poll(Some(Duration::ZERO)).unwrap();
    assert_eq!(el.next_event(), None, "the turn of the accept is over");
    assert!(!asks(&mut el, soon), "nothing happens");

    client.write_all(b"input").unwrap();
    assert_eq!(turn(&mut el), [Event::Data { conn }]);
    assert!(!asks(&mut el, soon));

    let armed = Instant::now();
    let timer = el.add_timer(TimerSpec::after(soon)).unwrap();
    assert_eq!(turn(&mut el), [Event::Timer { timer }]);
    assert!(armed.elapsed() >= soon);
    assert!(!asks(&mut el, soon));

    el.remote().post(7).unwrap();
    assert_eq!(turn(&mut el), [Event::Posted { word: 7 }]);
    assert!(!asks(&mut el, soon));
}

#[test]
fn promise_15_posts_arrive_exactly_once_and_in_order() {
    const POSTS: u64 = 10_000;
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let posters: Vec<_> = (0..4)
        .map(|poster| {
            let remote = el.remote();
            thread::spawn(move || {
                for n in 0..POSTS {
                    remote.post(poster << 32 | n).unwrap();
                }
            })
        })
        .collect();
    let mut next = [0; 4];
    let deadline = Instant::now() + PATIENCE;
    while next != [POSTS; 4] {
        assert!(Instant::now() < deadline, "{next:?}");
        el.poll(Some(PATIENCE)).unwrap();
        while let Some(Event::Posted { word }) = el.next_event() {
            let poster = (word >> 32) as usize;
            assert_eq!(word & 0xffff_ffff, next[poster]);
            next[poster] += 1;
        }
    }
    posters.into_iter().for_each(|p| p.join().unwrap());
    let remote = el.remote();
    remote.wake().unwrap();
    el.poll(None).unwrap(); // Would block for ever.
    assert_eq!(el.next_event(), None);
    drop(el);
    for result in [remote.post(1), remote.stop(), remote.wake()] {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Closed);
    }
}

#[test]
fn promise_15_stop_is_remembered_before_the_loop_runs() {
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let remote = el.remote();
    thread::spawn(move || remote.stop().and(remote.stop()))
        .join()
        .unwrap()
        .unwrap();
    el.poll(None).unwrap();
    assert_eq!(el.next_event(), Some(Event::Stop));
    assert_eq!(el.next_event(), None);
}

#[test]
fn promise_15_posts_are_bounded() {
    let options = LoopOptions {
        post_capacity: 3,
        ..LoopOptions::default()
    };
    let mut el = EventLoop::new(options).unwrap();
    let remote = el.remote();
    (0..3).for_each(|n| remote.post(n).unwrap());
    assert_eq!(remote.post(3).unwrap_err().kind(), ErrorKind::QueueFull);
    el.poll(None).unwrap();
    assert_eq!(el.next_event(), Some(Event::Posted { word: 0 }));
    remote.post(4).unwrap();
}

#[test]
fn promise_16_errors_carry_operation_address_name_number_and_text() {
    let real = Real::new(ConnOptions::default());
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let error = el.listen(real.addr, &ListenOptions::default()).unwrap_err();
    assert_eq!(error.operation(), "listen");
    assert_eq!(error.target(), Some(&real.addr.into()));
    assert_eq!(error.errno(), Some(nix::errno::Errno::EADDRINUSE as i32));
    let text = format!("listen {}: Address already in use (EADDRINUSE)", real.addr);
    assert_eq!(error.to_string(), text);
}
