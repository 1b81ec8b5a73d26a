//! The loops that serve, as signals reach them.
//!
//! The rule: nothing here waits for a loop. What a signal asks goes there as a stop or a posted word.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use echoloop_server::Remote;
use signal_hook::consts::SIGUSR1;

use crate::console::complain;
use crate::restart::Exchange;
use crate::signals;
use crate::watched::DUMP;

pub(crate) struct Loops {
    remotes: Arc<[Remote]>,
    exchange: Arc<Exchange>,
    restarting: Arc<AtomicBool>,
}

impl Loops {
    pub(crate) fn new(remotes: impl Into<Arc<[Remote]>>, exchange: Arc<Exchange>) -> Self {
        Self {
            remotes: remotes.into(),
            exchange,
            restarting: Arc::default(),
        }
    }
}

impl signals::Target for Loops {
    fn end(&self) -> bool {
        self.exchange.stop(); // First: this process may end at once.
        let stopped: Vec<_> = self.remotes.iter().map(Remote::stop).collect();
        stopped.iter().any(Result::is_ok)
    }

    fn ending(&self) {
        complain!("echoloop: draining; once more to end at once");
    }

    fn other(&self, signal: i32) {
        match signal {
            SIGUSR1 => self.dump(),
            _ => self.restart(),
        }
    }
}

impl Loops {
    /// Writes all that is open to standard error.
    fn dump(&self) {
        for (worker, remote) in self.remotes.iter().enumerate() {
            if let Err(e) = remote.post(DUMP) {
                complain!("echoloop: worker {worker} can't be asked for its dump: {e}");
            }
        }
    }

    /// Starts a successor, and drains when that serves; does not wait for it.
    fn restart(&self) {
        if self.restarting.swap(true, Ordering::Relaxed) {
            complain!("echoloop: a restart is under way already");
            return;
        }
        let (remotes, exchange) = (Arc::clone(&self.remotes), Arc::clone(&self.exchange));
        let restarting = Arc::clone(&self.restarting);
        let replace = move || {
            if let Err(e) = exchange.replace(&remotes) {
                complain!("echoloop: not restarted: {e}; this process goes on");
                restarting.store(false, Ordering::Relaxed);
            }
        };
        let thread = thread::Builder::new().name("restart".to_owned());
        if let Err(e) = thread.spawn(replace) {
            complain!("echoloop: not restarted: no thread: {e}; this process goes on");
            self.restarting.store(false, Ordering::Relaxed);
        }
    }
}
