//! What the workers of a server share: who has how many connections, how far a stop has come, and
//! the figures that each leaves when it is asked.
//!
//! The rule: the acceptor counts a connection for the worker that it chose before it hands it over,
//! and that worker counts it off when it ends. So a count is right when the next choice is made, and
//! one of zero after the acceptor's last hand-over says that nothing is on its way.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use echoloop_core::{Counters, Remote};

use crate::ServerCounters;

/// The worker that accepts what is spread by hand.
pub(crate) const ACCEPTOR: usize = 0;

/// How long figures are waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// How far the end of all workers has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Phase {
    Serving,
    Draining,
    /// The grace of the drain is over.
    Closing,
    Cutting,
}

impl Phase {
    fn of(number: u8) -> Self {
        match number {
            0 => Self::Serving,
            1 => Self::Draining,
            2 => Self::Closing,
            _ => Self::Cutting,
        }
    }
}

pub(crate) struct Team {
    places: Vec<Place>,
    pub(crate) remotes: Vec<Remote>,
    /// The user data of a connection on its way from the acceptor, which no program knows.
    pub(crate) mark: u64,
    phase: AtomicU8,
    /// The most stops that came to any one loop by its `Remote`.
    stops: AtomicUsize,
    /// Of a drain for which nobody says another.
    policy_grace: Duration,
    /// Of the drain, once one has begun.
    grace: OnceLock<Duration>,
    /// The acceptor hands nothing over any more.
    sealed: AtomicBool,
    /// How often the figures were asked for.
    asked: AtomicU64,
    told: Mutex<Vec<Told>>,
    all_told: Condvar,
    /// Workers that serve no more.
    ended: AtomicUsize,
}

/// One worker, as the others see it.
#[derive(Default)]
struct Place {
    /// Connections that it has or that are on their way to it.
    open: AtomicUsize,
    /// Those, and all that it had before.
    served: AtomicU64,
}

/// What a worker has told of itself.
#[derive(Clone, Copy, Default)]
pub(crate) struct Told {
    /// The question that this answers; of one that has ended, any.
    answers: u64,
    pub(crate) server: ServerCounters,
    pub(crate) event_loop: Counters,
}

impl Team {
    pub(crate) fn new(remotes: Vec<Remote>, mark: u64, policy_grace: Duration) -> Self {
        Self {
            places: remotes.iter().map(|_| Place::default()).collect(),
            told: Mutex::new(vec![Told::default(); remotes.len()]),
            remotes,
            mark,
            phase: AtomicU8::new(0),
            stops: AtomicUsize::new(0),
            policy_grace,
            grace: OnceLock::new(),
            sealed: AtomicBool::new(false),
            asked: AtomicU64::new(0),
            all_told: Condvar::new(),
            ended: AtomicUsize::new(0),
        }
    }

    /// A connection is this worker's.
    pub(crate) fn came(&self, worker: usize) {
        self.places[worker].open.fetch_add(1, Ordering::Relaxed);
        self.places[worker].served.fetch_add(1, Ordering::Relaxed);
    }

    /// It did not get there.
    pub(crate) fn never_came(&self, worker: usize) {
        self.left(worker, 1);
        self.places[worker].served.fetch_sub(1, Ordering::Relaxed);
    }

    /// So many have ended.
    pub(crate) fn left(&self, worker: usize, n: usize) {
        self.places[worker].open.fetch_sub(n, Ordering::Relaxed);
    }

    /// Connections that a worker has, or is about to have, and those that it ever had.
    pub(crate) fn load(&self, worker: usize) -> (usize, u64) {
        let place = &self.places[worker];
        let open = place.open.load(Ordering::Relaxed);
        (open, place.served.load(Ordering::Relaxed))
    }

    /// The worker with the fewest open connections; of several, the one that had the fewest so
    /// far, so that short connections go round.
    pub(crate) fn fewest(&self) -> usize {
        let workers = 0..self.places.len();
        workers.min_by_key(|w| self.load(*w)).unwrap_or(ACCEPTOR)
    }

    pub(crate) fn phase(&self) -> Phase {
        Phase::of(self.phase.load(Ordering::Relaxed))
    }

    /// All drain with this grace, unless another was agreed on before; answers which it is.
    pub(crate) fn agree_on_grace(&self, grace: Duration) -> Duration {
        *self.grace.get_or_init(|| grace)
    }

    pub(crate) fn grace(&self) -> Duration {
        self.grace.get().copied().unwrap_or(self.policy_grace)
    }

    /// Goes on to this phase, if it is not reached yet, and wakes all to see it.
    pub(crate) fn raise(&self, to: Phase) {
        if self.phase.fetch_max(to as u8, Ordering::Relaxed) < to as u8 {
            self.wake_all();
        }
    }

    /// One phase further: the first stop drains, the next ends the grace, the last cuts.
    pub(crate) fn stop(&self) {
        let next = |phase| Some(self.after(Phase::of(phase)) as u8);
        let was = self
            .phase
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        if was != Ok(Phase::Cutting as u8) {
            self.wake_all();
        }
    }

    /// The n-th stop of one loop: it counts unless another loop was stopped so often already.
    pub(crate) fn nth_stop(&self, n: usize) {
        if self.stops.fetch_max(n, Ordering::Relaxed) < n {
            self.stop();
        }
    }

    /// What a stop leads to. Without a grace there is none to end.
    fn after(&self, phase: Phase) -> Phase {
        match phase {
            Phase::Serving => Phase::Draining,
            Phase::Draining if !self.grace().is_zero() => Phase::Closing,
            _ => Phase::Cutting,
        }
    }

    /// The acceptor, when it has closed its listeners: what is on its way now is all there is.
    pub(crate) fn seal(&self) {
        // Release: whoever sees it sees all that was counted before.
        if !self.sealed.swap(true, Ordering::Release) {
            self.wake_all();
        }
    }

    /// Whether nothing can come to a worker any more, nor is anything there.
    pub(crate) fn is_over(&self, worker: usize) -> bool {
        self.sealed.load(Ordering::Acquire) && self.load(worker).0 == 0
    }

    /// A worker serves no more, and its server is gone.
    pub(crate) fn ended(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether all are at their end.
    pub(crate) fn all_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed) == self.places.len()
    }

    /// The number of the latest question for figures.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// A worker's answer to a question.
    pub(crate) fn tell(&self, me: usize, answers: u64, server: ServerCounters, el: &Counters) {
        self.told()[me] = Told {
            answers,
            server,
            event_loop: *el,
        };
        self.all_told.notify_all();
    }

    /// Asks all workers and waits for their answers, but not for long: one that is in a long
    /// handler stays as it was known last.
    pub(crate) fn figures(&self) -> Vec<Told> {
        let question = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        self.wake_all();
        let told = self.told();
        let open = |told: &mut Vec<Told>| told.iter().any(|one| one.answers < question);
        let waited = self.all_told.wait_timeout_while(told, PATIENCE, open);
        let (told, _) = waited.unwrap_or_else(PoisonError::into_inner);
        told.clone()
    }

    fn wake_all(&self) {
        for remote in &self.remotes {
            // One that is gone needs no waking.
            let _ = remote.wake();
        }
    }

    fn told(&self) -> MutexGuard<'_, Vec<Told>> {
        // Nothing panics while it is held.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
