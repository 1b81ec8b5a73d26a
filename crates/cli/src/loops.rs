//! The loops that serve, as signals reach them.
//!
//! The rule: nothing here waits for a loop. What a signal asks goes there as a stop or a posted word.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use echoloop_server::Remote;

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
    fn drain(&self) -> bool {
        self.exchange.stop(); // First: this process may end at once.
        let stopped: Vec<_> = self.remotes.iter().map(Remote::stop).collect();
        stopped.iter().any(Result::is_ok)
    }

    fn dump(&self) {
        for (worker, remote) in self.remotes.iter().enumerate() {
            if let Err(e) = remote.post(DUMP) {
                complain!("echoloop: worker {worker} can't be asked for its dump: {e}");
            }
        }
    }

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
