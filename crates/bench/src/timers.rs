//! What a timer costs: arming, moving and cancelling one of 1,000 to 1,000,000 that are alive.
//!
//! Timers are taken at random among all, and their delays are spread over an hour, so the caches
//! help as little as they can. Batches of 64 calls are timed, which keeps our own clock out of the
//! figures. Each batch is made in a handler, as programs do, and the end of its turn is timed too:
//! given delays, the loop reads its clock there, and given times it does not.
//! The peer is a sorted map from the standard library that reads the clock as often.
//!
//! The rule: peer and loop take turns, and each call does the same to both.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use echoloop_core::sys::Random;
use echoloop_core::{EventLoop, LoopOptions, TimerId, TimerSpec};

use crate::process::{self, Cores};

const BATCH: usize = 64;
/// Delays are spread over this, after [`LEAST`]: none passes while we measure.
const HORIZON: u64 = 3_600_000_000_000;
const LEAST: Duration = Duration::from_secs(3600);

#[derive(Debug, clap::Args)]
pub(crate) struct TimersOptions {
    /// The most timers that are alive at a time
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1000..))]
    most: u64,
    /// Batches of 64 calls of each kind
    #[arg(long, value_name = "N", default_value_t = 4000)]
    batches: usize,
}

/// Prints a line for every size and kind of call.
pub(crate) fn measure(options: &TimersOptions) -> Result<()> {
    if let Some(core) = Cores::choose()?.server {
        process::pin(core).context("can't choose a core")?;
    }
    println!("nanoseconds per call, batches of {BATCH}: median and 99th percentile of the batches");
    println!(
        "{:>10}  {:<14}{:>14}{:>14}{:>14}",
        "timers", "call", "by delay", "by time", "sorted map"
    );
    let mut alive = 1000;
    while alive <= options.most {
        let mut ours = Bench::<ByDelay>::new(alive)?;
        let mut timed = Bench::<ByTime>::new(alive)?;
        let mut peer = Bench::<Map>::new(alive)?;
        for _ in 0..options.batches {
            ours.round()?;
            timed.round()?;
            peer.round()?;
        }
        let all = [ours.times, timed.times, peer.times].map(|times| times.map(spread));
        for (n, call) in CALLS.iter().enumerate() {
            let [ours, timed, peer] = [0, 1, 2].map(|who: usize| &all[who][n]);
            println!("{alive:>10}  {call:<14}{ours:>14}{timed:>14}{peer:>14}");
        }
        alive *= 10;
    }
    Ok(())
}

const CALLS: [&str; 5] = [
    "cancel",
    "arm",
    "move earlier",
    "move later",
    "move anywhere",
];

/// Something that keeps timers.
trait Timers: Sized {
    type Id: Copy;
    fn new() -> Result<Self>;
    fn arm(&mut self, delay: Duration) -> Result<Self::Id>;
    fn rearm(&mut self, id: Self::Id, delay: Duration) -> Result<()>;
    fn cancel(&mut self, id: Self::Id) -> Result<()>;

    /// A handler begins.
    fn begin(&mut self) -> Result<()> {
        Ok(())
    }

    /// It ends, and with it the turn.
    fn end(&mut self) {}
}

/// A population of timers, and what the batches took.
struct Bench<T: Timers> {
    timers: T,
    alive: Vec<(T::Id, u64)>,
    random: Random,
    times: [Vec<f64>; CALLS.len()],
}

impl<T: Timers> Bench<T> {
    fn new(alive: u64) -> Result<Self> {
        let (mut timers, mut random) = (T::new()?, Random::new(alive));
        let alive = (0..alive)
            .map(|_| {
                let delay = random.below(HORIZON);
                Ok((timers.arm(Duration::from_nanos(delay))?, delay))
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            timers,
            alive,
            random,
            times: std::array::from_fn(|_| Vec::new()),
        })
    }

    /// One batch of each kind of call.
    fn round(&mut self) -> Result<()> {
        let (mut places, mut ids) = self.pick();
        while has_twins(places) {
            (places, ids) = self.pick();
        }
        let timers = &mut self.timers;
        self.times[0].push(per_call(timers, |timers, n| timers.cancel(ids[n]))?);

        let delays = places.map(|_| self.random.below(HORIZON));
        self.times[1].push(per_call(timers, |timers, n| {
            ids[n] = timers.arm(Duration::from_nanos(delays[n]))?;
            Ok(())
        })?);
        for n in 0..BATCH {
            self.alive[places[n]] = (ids[n], delays[n]);
        }

        self.moves(2, |random, delay| random.below(delay))?;
        self.moves(3, |random, delay| delay + random.below(HORIZON - delay))?;
        self.moves(4, |random, _| random.below(HORIZON))
    }

    fn moves(&mut self, call: usize, to: impl Fn(&mut Random, u64) -> u64) -> Result<()> {
        let (places, ids) = self.pick();
        let delays = places.map(|place| to(&mut self.random, self.alive[place].1));
        let timers = &mut self.timers;
        let time = per_call(timers, |timers, n| {
            timers.rearm(ids[n], Duration::from_nanos(delays[n]))
        })?;
        self.times[call].push(time);
        for n in 0..BATCH {
            self.alive[places[n]].1 = delays[n];
        }
        Ok(())
    }

    fn pick(&mut self) -> ([usize; BATCH], [T::Id; BATCH]) {
        let count = self.alive.len() as u64;
        let places = std::array::from_fn(|_| self.random.below(count) as usize);
        (places, places.map(|place: usize| self.alive[place].0))
    }
}

/// One place is there twice: its timer would be cancelled twice.
fn has_twins(mut places: [usize; BATCH]) -> bool {
    places.sort_unstable();
    places.windows(2).any(|two| two[0] == two[1])
}

/// Nanoseconds of each of [`BATCH`] calls.
fn per_call<T: Timers>(
    timers: &mut T,
    mut call: impl FnMut(&mut T, usize) -> Result<()>,
) -> Result<f64> {
    timers.begin()?;
    let start = Instant::now();
    for n in 0..BATCH {
        call(timers, black_box(n))?;
    }
    timers.end();
    Ok(start.elapsed().as_nanos() as f64 / BATCH as f64)
}

fn spread(mut times: Vec<f64>) -> String {
    times.sort_by(f64::total_cmp);
    let at = |q: f64| times[(q * (times.len() - 1) as f64) as usize];
    format!("{:.0} / {:.0}", at(0.5), at(0.99))
}

struct ByDelay(EventLoop);

impl Timers for ByDelay {
    type Id = TimerId;

    fn new() -> Result<Self> {
        Ok(Self(EventLoop::new(LoopOptions::default())?))
    }

    fn arm(&mut self, delay: Duration) -> Result<TimerId> {
        Ok(self.0.add_timer(TimerSpec::after(LEAST + delay))?)
    }

    fn rearm(&mut self, id: TimerId, delay: Duration) -> Result<()> {
        Ok(self.0.rearm_timer(id, LEAST + delay)?)
    }

    fn cancel(&mut self, id: TimerId) -> Result<()> {
        Ok(self.0.cancel_timer(id)?)
    }

    fn begin(&mut self) -> Result<()> {
        begin_handler(&mut self.0)
    }

    fn end(&mut self) {
        end_turn(&mut self.0);
    }
}

struct ByTime(EventLoop);

impl Timers for ByTime {
    type Id = TimerId;

    fn new() -> Result<Self> {
        Ok(Self(EventLoop::new(LoopOptions::default())?))
    }

    fn arm(&mut self, delay: Duration) -> Result<TimerId> {
        Ok(self
            .0
            .add_timer(TimerSpec::at(self.0.now() + LEAST + delay))?)
    }

    fn rearm(&mut self, id: TimerId, delay: Duration) -> Result<()> {
        Ok(self.0.rearm_timer_at(id, self.0.now() + LEAST + delay)?)
    }

    fn cancel(&mut self, id: TimerId) -> Result<()> {
        Ok(self.0.cancel_timer(id)?)
    }

    fn begin(&mut self) -> Result<()> {
        begin_handler(&mut self.0)
    }

    fn end(&mut self) {
        end_turn(&mut self.0);
    }
}

fn begin_handler(el: &mut EventLoop) -> Result<()> {
    el.remote().post(0)?;
    while el.next_event().is_none() {
        el.poll(None)?;
    }
    Ok(())
}

fn end_turn(el: &mut EventLoop) {
    while el.next_event().is_some() {}
}

/// A table of timers and a map sorted by time, as one writes it in an afternoon.
struct Map {
    start: Instant,
    due: BTreeMap<(u64, u64), usize>,
    timers: Vec<(u64, u64)>,
    free: Vec<usize>,
    armings: u64,
}

impl Map {
    fn key(&mut self, delay: Duration) -> (u64, u64) {
        self.armings += 1;
        (
            (self.start.elapsed() + delay).as_nanos() as u64,
            self.armings,
        )
    }
}

impl Timers for Map {
    type Id = usize;

    fn new() -> Result<Self> {
        Ok(Self {
            start: Instant::now(),
            due: BTreeMap::new(),
            timers: Vec::new(),
            free: Vec::new(),
            armings: 0,
        })
    }

    fn arm(&mut self, delay: Duration) -> Result<usize> {
        let key = self.key(delay);
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                self.timers.push(key);
                self.timers.len() - 1
            }
        };
        self.timers[id] = key;
        self.due.insert(key, id);
        Ok(id)
    }

    fn rearm(&mut self, id: usize, delay: Duration) -> Result<()> {
        self.due.remove(&self.timers[id]);
        let key = self.key(delay);
        self.timers[id] = key;
        self.due.insert(key, id);
        Ok(())
    }

    fn cancel(&mut self, id: usize) -> Result<()> {
        self.due.remove(&self.timers[id]);
        self.free.push(id);
        Ok(())
    }
}
