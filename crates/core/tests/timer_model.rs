//! Timers against a plain list, on the simulated clock: 100,000 random sequences of adding, moving
//! and cancelling, in and outside of handlers, with turns that are left before their end.
//!
//! The rule of the list: what is due in a turn is told in the order of time and arming, unless it
//! was moved or cancelled since; nothing is early and no period drifts. A delay that is given in a
//! handler counts from its end. The seed of a failure is
//! printed; run it alone with `ECHOLOOP_SEED=n`.

mod util;

use std::collections::VecDeque;
use std::time::Duration;

use echoloop_core::sys::{Sim, SimOptions};
use echoloop_core::{ErrorKind, Event, EventLoop, LoopOptions, TimerId, TimerSpec};
use util::Random;

struct Modelled {
    id: TimerId,
    /// When it is due; `None` from then on, until it is re-armed.
    at: Option<Duration>,
    /// Counts armings, of all timers together.
    arming: u64,
    period: Option<Duration>,
    word: u64,
}

struct World {
    sim: Sim,
    el: EventLoop<Sim>,
    /// Signals may end a wait early.
    interrupts: bool,
    clock: Duration,
    timers: Vec<Modelled>,
    gone: Vec<TimerId>,
    armings: u64,
    /// Due and not told: which, by what arming, and for when.
    due: VecDeque<(TimerId, u64, Duration)>,
    /// From the return of a poll until there are no more events.
    in_turn: bool,
    /// Armed by a delay in a turn, by what arming: the delay counts when the handler is over.
    delayed: Vec<(TimerId, u64, Duration)>,
    /// The one-shot timer whose handler runs.
    handled: Option<TimerId>,
    fired: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let sim = Sim::new(SimOptions {
            interrupt: if seed.is_multiple_of(2) { 5 } else { 0 },
            ..SimOptions::kind(seed)
        });
        let el = EventLoop::with_system(sim.clone(), LoopOptions::default()).unwrap();
        Self {
            sim,
            el,
            interrupts: seed.is_multiple_of(2),
            clock: Duration::ZERO,
            timers: Vec::new(),
            gone: Vec::new(),
            armings: 0,
            due: VecDeque::new(),
            in_turn: false,
            delayed: Vec::new(),
            handled: None,
            fired: 0,
        }
    }

    /// One thing that a program may do at any time.
    fn act(&mut self, random: &mut Random) {
        let delay = some_time(random);
        let place = random.below(self.timers.len() as u64) as usize;
        match random.below(10) {
            0..=2 if self.timers.len() < 8 => self.add(random, delay),
            3 | 4 if !self.timers.is_empty() => {
                let id = self.timers[place].id;
                if random.one_in(2) {
                    self.el.rearm_timer(id, delay).unwrap();
                    self.arm_after(place, delay);
                } else {
                    let at = self.clock + delay;
                    self.el.rearm_timer_at(id, at).unwrap();
                    self.arm(place, at);
                }
            }
            5 if !self.timers.is_empty() => {
                let timer = self.timers.swap_remove(place);
                assert_eq!(self.el.timer_user_data(timer.id).unwrap(), timer.word);
                self.el.cancel_timer(timer.id).unwrap();
                self.gone.push(timer.id);
            }
            6 if !self.gone.is_empty() => {
                let id = self.gone[random.below(self.gone.len() as u64) as usize];
                let kinds = [
                    self.el.rearm_timer(id, delay).unwrap_err().kind(),
                    self.el.rearm_timer_at(id, delay).unwrap_err().kind(),
                    self.el.timer_user_data(id).unwrap_err().kind(),
                    self.el.cancel_timer(id).unwrap_err().kind(),
                ];
                assert_eq!(kinds, [ErrorKind::BadHandle; 4]);
            }
            7 => {
                self.sim.advance(delay);
                self.clock += delay;
            }
            _ => {}
        }
    }

    fn add(&mut self, random: &mut Random, delay: Duration) {
        let word = random.next();
        let (spec, at, period) = match random.below(4) {
            0 => (TimerSpec::after(delay), None, None),
            1 => {
                // Also times that have passed.
                let at = (self.clock + delay).saturating_sub(some_time(random));
                (TimerSpec::at(at), Some(at), None)
            }
            2 => (TimerSpec::every(delay), None, Some(delay)),
            _ => {
                let period = some_time(random);
                let spec = TimerSpec::every(period).first_after(delay);
                (spec, None, Some(period))
            }
        };
        let id = self.el.add_timer(spec.user_data(word)).unwrap();
        self.timers.push(Modelled {
            id,
            at: None,
            arming: 0,
            period: period.map(|period| period.max(NS)),
            word,
        });
        match at {
            Some(at) => self.arm(self.timers.len() - 1, at),
            None => self.arm_after(self.timers.len() - 1, delay),
        }
    }

    fn arm_after(&mut self, place: usize, delay: Duration) {
        if !self.in_turn {
            return self.arm(place, self.clock + delay);
        }
        self.armings += 1;
        let timer = &mut self.timers[place];
        (timer.arming, timer.at) = (self.armings, Some(Duration::MAX));
        self.delayed.push((timer.id, timer.arming, delay));
    }

    /// The handler is over: delays that were given in it count from now, unless a later arming of
    /// the same timer stands.
    fn count_delays(&mut self) {
        for (id, arming, delay) in std::mem::take(&mut self.delayed) {
            let is_it = |t: &&mut Modelled| t.id == id && t.arming == arming;
            if let Some(timer) = self.timers.iter_mut().find(is_it) {
                timer.at = Some((self.clock + delay).max(self.el.now() + NS));
            }
        }
    }

    fn arm(&mut self, place: usize, at: Duration) {
        self.count_delays();
        self.armings += 1;
        let timer = &mut self.timers[place];
        timer.arming = self.armings;
        // In a later turn, whatever was asked for.
        timer.at = Some(at.max(self.el.now() + NS));
    }

    fn turn(&mut self, random: &mut Random) {
        let timeout =
            [None, Some(Duration::ZERO), Some(some_time(random))][random.below(3) as usize];
        self.end_handler();
        self.count_delays();
        let idle = self.due.is_empty();
        let earliest = self.timers.iter().filter_map(|t| t.at).min();
        let before = self.clock;
        self.el.poll(timeout).unwrap();
        self.clock = self.el.now();
        self.in_turn = true;
        // Never past the first that is due, and to it exactly when nothing else ends the wait.
        if idle && self.clock > before {
            assert!(
                earliest.is_none_or(|at| self.clock <= at.max(before)),
                "slept too long"
            );
            let slept = self.clock - before;
            let awaited = timeout
                .into_iter()
                .chain(earliest.map(|at| at - before))
                .min();
            assert!(
                self.interrupts || awaited.is_none_or(|awaited| slept == awaited),
                "woke for nothing"
            );
        }
        while !random.one_in(12) {
            self.end_handler();
            let told = self.el.next_event();
            assert_eq!(told, self.expected().map(|timer| Event::Timer { timer }));
            if told.is_none() {
                self.in_turn = false;
                break;
            }
            self.fired += 1;
            for _ in 0..random.below(3) {
                self.act(random);
            }
        }
    }

    /// A one-shot timer is gone after its handler, unless it was re-armed there.
    fn end_handler(&mut self) {
        let handled = self.handled.take();
        let over = |t: &Modelled| Some(t.id) == handled && t.at.is_none();
        if let Some(place) = self.timers.iter().position(over) {
            self.gone.push(self.timers.swap_remove(place).id);
        }
    }

    fn expected(&mut self) -> Option<TimerId> {
        self.count_delays();
        let now = self.el.now();
        let mut due: Vec<&mut Modelled> = (self.timers.iter_mut())
            .filter(|t| t.at.is_some_and(|at| at <= now))
            .collect();
        due.sort_by_key(|t| (t.at, t.arming));
        for timer in due {
            let at = timer.at.take().expect("is due");
            self.due.push_back((timer.id, timer.arming, at));
        }
        while let Some((id, arming, at)) = self.due.pop_front() {
            let is_it = |t: &Modelled| t.id == id && t.arming == arming && t.at.is_none();
            let Some(place) = self.timers.iter().position(is_it) else {
                continue;
            };
            let period = self.timers[place].period;
            self.handled = Some(id);
            if let Some(period) = period {
                // The first of its own moments that is still to come.
                let missed = (now - at).as_nanos() / period.as_nanos();
                self.armings += 1;
                self.timers[place].arming = self.armings;
                self.timers[place].at = Some(at + period * (missed as u32 + 1));
            }
            return Some(id);
        }
        None
    }
}

const NS: Duration = Duration::from_nanos(1);

/// Often short, often the same, sometimes nothing.
fn some_time(random: &mut Random) -> Duration {
    Duration::from_nanos(match random.below(4) {
        0 => random.below(3),
        1 => 10,
        _ => random.below(100),
    })
}

#[test]
fn timers_agree_with_a_plain_list() {
    let mut fired = 0;
    Random::each_seed(100_000, |seed, random| {
        let mut world = World::new(seed);
        for _ in 0..4 + random.below(8) {
            for _ in 0..random.below(4) {
                world.act(random);
            }
            world.turn(random);
        }
        world.end_handler();
        while let Some(timer) = world.timers.pop() {
            world.el.cancel_timer(timer.id).unwrap();
        }
        fired += world.fired;
        assert_eq!(world.el.next_event(), None, "seed {seed}");
        assert_eq!(world.el.live_handles(), 0, "seed {seed}");
    });
    assert!(fired > 0);
}
