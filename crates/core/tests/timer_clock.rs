//! Timers on the real clock: never early, no drift, and finer than a millisecond.
//!
//! The rule: only what a busy machine can't break is asserted of each timer; how late they are is
//! asserted of the best of many.

mod util;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use echoloop_core::{Event, EventLoop, LoopOptions, TimerId, TimerSpec};
use util::Random;
use util::real::PATIENCE;

fn new_loop() -> EventLoop {
    EventLoop::new(LoopOptions::default()).unwrap()
}

/// Runs the loop until `done`; `look` sees every timer that fires.
fn run(el: &mut EventLoop, mut look: impl FnMut(&mut EventLoop, TimerId) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "waited in vain");
        el.poll(Some(PATIENCE)).unwrap();
        while let Some(event) = el.next_event() {
            let Event::Timer { timer } = event else {
                panic!("{event:?}");
            };
            if look(el, timer) {
                return;
            }
        }
    }
}

#[test]
fn no_timer_is_early_whether_it_was_added_or_moved() {
    let mut el = new_loop();
    let mut random = Random::new(31);
    let mut due: HashMap<TimerId, Instant> = HashMap::new();
    let mut left = 6000;
    for _ in 0..1000 {
        let delay = Duration::from_nanos(random.below(50_000_000));
        let at = Instant::now() + delay;
        due.insert(el.add_timer(TimerSpec::after(delay)).unwrap(), at);
    }
    run(&mut el, |el, timer| {
        let now = Instant::now();
        let at = due.remove(&timer).expect("it fires once");
        assert!(now >= at, "{:?} early", at - now);
        if left > 0 {
            left -= 1;
            let delay = Duration::from_nanos(random.below(20_000_000));
            // Our clock is read before the loop's, so our moment is the earlier one.
            let at = Instant::now() + delay;
            let again = if random.one_in(2) {
                el.add_timer(TimerSpec::after(delay)).unwrap()
            } else {
                el.rearm_timer(timer, delay).unwrap();
                timer
            };
            due.insert(again, at);
        }
        due.is_empty()
    });
    assert_eq!(left, 0);
}

#[test]
fn the_loop_never_tells_a_timer_before_its_own_clock_shows_the_time() {
    let mut el = new_loop();
    let mut random = Random::new(32);
    let mut due = HashMap::new();
    for n in 0..2000 {
        let mut time = el.now() + Duration::from_nanos(random.below(50_000_000));
        let timer = el.add_timer(TimerSpec::at(time)).unwrap();
        if n % 2 == 0 {
            time = el.now() + Duration::from_nanos(random.below(50_000_000));
            el.rearm_timer_at(timer, time).unwrap();
        }
        due.insert(timer, time);
    }
    run(&mut el, |el, timer| {
        let time = due.remove(&timer).expect("it fires once");
        assert!(el.now() >= time, "{:?} early", time - el.now());
        due.is_empty()
    });
}

#[test]
fn a_period_keeps_its_grid_however_late_a_turn_is() {
    let period = Duration::from_millis(3);
    let mut el = new_loop();
    let timer = el.add_timer(TimerSpec::every(period)).unwrap();
    let start = el.now() + period;
    el.rearm_timer_at(timer, start).unwrap();
    let mut random = Random::new(33);
    let (mut told, mut last, mut last_line) = (0, None, None);
    let mut shortest = Duration::MAX;
    run(&mut el, |el, fired| {
        assert_eq!(fired, timer);
        told += 1;
        let since = el.now().checked_sub(start).expect("the first is not early");
        let line = Some(since.as_nanos() / period.as_nanos());
        assert!(line > last_line, "twice for one line of the grid");
        if let Some(last) = last {
            shortest = shortest.min(since - last);
        }
        (last, last_line) = (Some(since), line);
        if random.one_in(4) {
            let (busy, time) = (Instant::now(), Duration::from_micros(random.below(8000)));
            while busy.elapsed() < time {}
        }
        told == 150
    });
    // After a late one comes the next line of the grid, sooner than a whole period.
    let most = period - Duration::from_micros(200);
    assert!(shortest < most, "at least {shortest:?} lay between two");
}

#[test]
fn a_timer_below_a_millisecond_does_not_wait_for_the_next_one() {
    let delay = Duration::from_micros(150);
    let mut el = new_loop();
    let mut best = Duration::MAX;
    let mut added = Instant::now();
    let timer = el.add_timer(TimerSpec::after(delay)).unwrap();
    let mut rounds = 0;
    run(&mut el, |el, fired| {
        assert_eq!(fired, timer);
        let took = added.elapsed();
        assert!(took >= delay, "early");
        best = best.min(took);
        rounds += 1;
        added = Instant::now();
        el.rearm_timer(timer, delay).unwrap();
        rounds == 300
    });
    println!("a timer of {delay:?} fired after {best:?} at best");
    assert!(best < Duration::from_micros(900), "{best:?} at best");
}
