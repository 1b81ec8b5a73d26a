//! A server on several threads: one loop each, with hooks of its own.
//!
//! The rule: all of them are one server. Limits are those of the whole, one stop drains all, and
//! whatever ends one of them, an error or a panic, drains the others. What they share is in `team`,
//! what it makes of each server in `seat`, how they come to be in `start`.

pub(crate) mod seat;
mod start;
pub(crate) mod team;

use std::fmt;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use echoloop_core::{Addr, Counters, Error, LoopId, Remote};

use self::team::{Phase, Team};
use crate::{Report, ServerCounters};

/// How connections are spread over [`Workers`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub enum Spread {
    /// One worker accepts all, and hands each to the worker that has the fewest open ones; of
    /// several, to the one that had the fewest so far. Even to within one connection, also where
    /// they stay long, for some microseconds each.
    #[default]
    Fewest,
    /// Each worker listens by itself, with SO_REUSEPORT (socket(7)), and the kernel gives each
    /// connection to one of them by a hash of its addresses. Accepting uses all cores. The parts
    /// are as even as chance has it: of `n` connections each of two workers is off by about
    /// `sqrt(n) / 2`. When a worker's listener is closed, those in its backlog are reset, although
    /// the others listen on; so a restart that loses nobody wants inherited listeners.
    ///
    /// What only one can listen on, a Unix socket or an inherited listener, is spread as by
    /// `Fewest`.
    ReusePort,
}

/// What one of the workers has to do; see [`Workers::per_worker`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct WorkerLoad {
    /// Connections that it has, or that are on their way to it.
    pub open: usize,
    /// Those, and all that it had before; whoever accepted them.
    pub accepted: u64,
}

/// A server on several threads, made by
/// [`ServerBuilder::start_workers`](crate::ServerBuilder::start_workers).
///
/// Dropping it stops the workers, cuts what is open, and waits for their threads. It waits for a
/// hook that does not return, too.
///
/// # Examples
///
/// ```
/// use echoloop_server::{Echo, Server, Spread};
///
/// let builder = Server::builder().listen("127.0.0.1:0");
/// let workers = builder.start_workers(2, Spread::Fewest, |_worker| Echo)?;
/// println!("listening on {}", workers.local_addrs()[0]);
/// workers.stop(); // Or from another thread, by a `stopper`.
/// let report = workers.join()?;
/// assert_eq!(report.bytes_lost, 0);
/// # Ok::<(), echoloop_server::Error>(())
/// ```
pub struct Workers {
    team: Arc<Team>,
    ending: Mutex<Ending>,
    loops: Vec<LoopId>,
    local_addrs: Vec<Addr>,
    udp_addrs: Vec<Addr>,
}

/// How far their end was waited for.
struct Ending {
    threads: Vec<JoinHandle<Result<Report, Error>>>,
    outcome: Result<Report, Error>,
}

/// Stops [`Workers`] from any thread, also while another one waits in [`Workers::join`].
#[derive(Clone)]
pub struct Stopper(Arc<Team>);

impl Workers {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.team.remotes.len()
    }

    /// The addresses that are listened on, each once, in the order in which they were added, with
    /// the ports that the system chose. They are those at the start, also after the end.
    #[must_use]
    pub fn local_addrs(&self) -> &[Addr] {
        &self.local_addrs
    }

    /// The addresses of the UDP sockets, likewise.
    #[must_use]
    pub fn udp_addrs(&self) -> &[Addr] {
        &self.udp_addrs
    }

    /// What each worker has to do, by its number: for a look at the balance.
    #[must_use]
    pub fn per_worker(&self) -> Vec<WorkerLoad> {
        let load = |worker| {
            let (open, accepted) = self.team.load(worker);
            WorkerLoad { open, accepted }
        };
        (0..self.count()).map(load).collect()
    }

    /// What all the workers count, summed; `most_open` is that of the whole.
    ///
    /// The workers are asked, and answer at the end of their turn. One that does not within a
    /// second, because it is in a long hook, counts as it was known last. So a hook must not ask.
    #[must_use]
    pub fn counters(&self) -> ServerCounters {
        let mut sum = ServerCounters::default();
        let mut most_open = 0;
        for told in self.team.figures() {
            sum += told.server;
            // Each has seen the count of the whole when it let somebody in.
            most_open = most_open.max(told.server.most_open);
        }
        ServerCounters { most_open, ..sum }
    }

    /// What the loops of all workers count, summed and asked for likewise. A connection that was
    /// handed over counts as `accepted` and `given_away` in one loop and as `adopted` in the other,
    /// and as `closed` in both.
    #[must_use]
    pub fn loop_counters(&self) -> Counters {
        let all = self.team.figures();
        all.iter().map(|told| told.event_loop).sum()
    }

    /// A handle to one worker's loop, to post it a word, or hand it a connection. Its `stop` is as
    /// [`Workers::stop`], for all of them, save that only stops to the same worker add up.
    #[must_use]
    pub fn remote(&self, worker: usize) -> Option<&Remote> {
        self.team.remotes.get(worker)
    }

    /// The number of one worker's loop.
    #[must_use]
    pub fn loop_id(&self, worker: usize) -> Option<LoopId> {
        self.loops.get(worker).copied()
    }

    /// The first stop drains all workers, the second cuts what is left; in the drain's grace it ends
    /// that, and the third cuts. Does not wait.
    pub fn stop(&self) {
        self.team.stop();
    }

    /// Cuts all that is open, and ends: what dropping them does, without the waiting.
    pub fn abort_all(&self) {
        self.team.raise(Phase::Cutting);
    }

    /// Stops them from elsewhere: a thread that waits for signals, say.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.team))
    }

    /// Whether all have ended, so that [`join`](Self::join) does not wait.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.team.all_ended()
    }

    /// Waits until all workers have been stopped and have ended, and sums up how their drains went.
    /// Does not stop them. Called once more, it has the same answer, and so have all threads that call
    /// it.
    ///
    /// # Errors
    ///
    /// Those of [`EventLoop::poll`](crate::EventLoop::poll), of the first worker that had one; none
    /// in practice. The others were drained.
    ///
    /// # Panics
    ///
    /// When the hooks of a worker panicked: with its panic, once, after the others were drained. The
    /// connections of that worker were cut.
    pub fn join(&self) -> Result<Report, Error> {
        let mut ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        let Ending { threads, outcome } = &mut *ending;
        let mut panic = None;
        for thread in threads.drain(..) {
            match (thread.join(), &mut *outcome) {
                (Ok(Ok(report)), Ok(sum)) => *sum += report,
                (Ok(Err(error)), Ok(_)) => *outcome = Err(error),
                (Ok(_), Err(_)) => {}
                (Err(payload), _) => drop(panic.get_or_insert(payload)),
            }
        }
        match panic {
            Some(payload) => resume_unwind(payload),
            None => outcome.clone(),
        }
    }
}

impl Stopper {
    /// As [`Workers::stop`]. Without effect once they have ended.
    pub fn stop(&self) {
        self.0.stop();
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.abort_all();
        let ending = self.ending.get_mut();
        let ending = ending.unwrap_or_else(PoisonError::into_inner);
        for thread in ending.threads.drain(..) {
            // Its panic has been told by the hook of panics.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers")
            .field("local_addrs", &self.local_addrs)
            .field("udp_addrs", &self.udp_addrs)
            .field("per_worker", &self.per_worker())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Stopper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stopper")
    }
}
