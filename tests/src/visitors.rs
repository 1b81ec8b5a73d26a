//! Crowds of clients of the load generator, good ones and bad ones, driven with a deadline.
//!
//! What they do is said by their [`Kind`]; what has to become of them is said in the tests.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use echoloop_load::Plan;
use echoloop_load::crowd::{Crowd, Kind, Party};

use crate::patience::{PATIENCE, throughout};
use crate::probe;

/// So many clients of a kind, who come within `time`.
pub fn party(
    kind: Kind,
    target: impl Into<echoloop_load::Target>,
    total: u64,
    time: Duration,
) -> Party {
    let target = target.into();
    let tcp = matches!(target, echoloop_load::Target::Tcp(SocketAddr::V4(_)));
    Party {
        plan: Plan {
            sources: if tcp { 16 } else { 0 },
            ..Plan::new(target)
        },
        manners: kind.manners(),
        at_once: usize::MAX,
        per_second: total as f64 / time.as_secs_f64(),
        total,
        patience: PATIENCE,
        // Of those that do not read, what waits is to wait at the server.
        buffers: matches!(kind, Kind::Greedy | Kind::Sip).then_some(16 << 10),
    }
}

/// Drives all of them until this holds.
///
/// # Panics
/// When it does not within `limit`, and when anybody receives a wrong byte.
#[track_caller]
pub fn drive(
    crowd: &mut Crowd,
    what: &str,
    limit: Duration,
    mut holds: impl FnMut(&Crowd) -> bool,
) {
    let deadline = Instant::now() + limit;
    while !holds(crowd) {
        assert!(
            Instant::now() < deadline,
            "waited {limit:?} in vain for this: {what}"
        );
        let driven = crowd.run(Duration::from_millis(20));
        driven.unwrap_or_else(|e| panic!("{what}: {e}"));
    }
}

/// The share of a core that a process takes for the next second.
#[track_caller]
pub fn share_of_a_core(pid: u32) -> f64 {
    let time = || echoloop_load::cpu_time(pid).expect("the process is alive");
    let (before, start) = (time(), Instant::now());
    throughout("time passes", Duration::from_secs(1), || true);
    (time() - before).as_secs_f64() / start.elapsed().as_secs_f64()
}

/// What a server had before anybody came, to compare with when all have gone.
#[derive(Clone, Copy, Debug)]
pub struct AtRest {
    pid: u32,
    memory: u64,
    descriptors: usize,
}

impl AtRest {
    /// What this process has now.
    #[track_caller]
    pub fn of(pid: u32) -> Self {
        Self {
            pid,
            memory: probe::memory(pid),
            descriptors: probe::descriptors(pid),
        }
    }

    /// Whether it has as many descriptors as then.
    pub fn descriptors_are_back(&self) -> bool {
        probe::descriptors(self.pid) == self.descriptors
    }

    /// Checks that memory is back but for `kept` bytes, and that it does nothing.
    #[track_caller]
    pub fn expect_again(&self, kept: u64) {
        let memory = probe::memory(self.pid);
        let limit = self.memory + kept;
        assert!(
            memory <= limit,
            "{memory} bytes of memory, {} before",
            self.memory
        );
        let share = share_of_a_core(self.pid);
        assert!(
            share < 0.02,
            "the idle server takes {:.1}% CPU",
            share * 100.0
        );
        assert!(self.descriptors_are_back(), "{self:?}");
    }
}
