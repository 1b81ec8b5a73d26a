//! Where the workers of a server leave their figures, and in which words the sum is told.
//!
//! The rule: a worker writes its own place, once a tick, and whoever tells reads them all; the
//! locks are never held while something is printed.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use echoloop_server::{Counters, Report};
use serde_json::{Value, json};

use crate::console::Console;
use crate::figures::{Figures, drained};
use crate::server_args::FiguresArgs;
use crate::service::Words;

/// Where each worker writes down its figures, and one of them prints the sum.
pub(crate) struct Board {
    pub(crate) console: Console,
    pub(crate) json: bool,
    pub(crate) stats: bool,
    pub(crate) words: Words,
    workers: Vec<Mutex<Figures>>,
}

impl Board {
    pub(crate) fn new(workers: usize, args: &FiguresArgs, console: Console, words: Words) -> Self {
        Self {
            console,
            json: args.json,
            stats: args.stats.is_some(),
            words,
            workers: (0..workers).map(|_| Mutex::default()).collect(),
        }
    }

    pub(crate) fn note(&self, worker: usize, figures: Figures) {
        if let Some(place) = self.workers.get(worker) {
            *lock(place) = figures;
        }
    }

    fn open_by_worker(&self) -> Vec<u64> {
        let open = |place: &Mutex<Figures>| lock(place).open;
        self.workers.iter().map(open).collect()
    }

    /// What all have left.
    pub(crate) fn sum(&self) -> Figures {
        let mut sum = Figures::default();
        for place in &self.workers {
            sum += *lock(place);
        }
        sum
    }

    /// A line of figures: since `before`, which was so long ago.
    pub(crate) fn figures(
        &self,
        sum: &Figures,
        now: Duration,
        before: &Counters,
        since: Duration,
    ) -> String {
        if self.json {
            let mut object = json!({"event": "stats", "seconds": now.as_secs_f64()});
            object["open"] = json!(sum.open);
            object["open_by_worker"] = json!(self.open_by_worker());
            return self.filled(object, sum);
        }
        let mut line = sum.line(before, since);
        for (name, n) in (self.words.more)() {
            line += &format!(", {n} {}", name.replace('_', " "));
        }
        line
    }

    pub(crate) fn last_words(&self, totals: &Figures, report: &Report) -> String {
        if self.json {
            let mut object = drained(report);
            object["most_open"] = json!(totals.server.most_open);
            return self.filled(object, totals);
        }
        let more = (self.words.more)();
        let more = more
            .iter()
            .map(|(name, n)| format!("{n} {}", name.replace('_', " ")));
        let more: Vec<String> = more.collect();
        let mut text = totals.totals(self.words.counted, report);
        if !more.is_empty() {
            text = format!("{}\n{text}", more.join(", "));
        }
        text
    }

    fn filled(&self, mut object: Value, figures: &Figures) -> String {
        figures.add_to(&mut object);
        for (name, n) in (self.words.more)() {
            object[name] = json!(n);
        }
        object.to_string()
    }
}

/// Nothing panics while one of these locks is held.
fn lock(place: &Mutex<Figures>) -> MutexGuard<'_, Figures> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}
