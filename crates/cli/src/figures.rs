//! What a server did, in numbers: summed over its workers, for people and for scripts.
//!
//! The rule: a number has one name, the same in the text of `--json` as in the documentation of the
//! library, and only grows, save `open`.

use std::ops::AddAssign;
use std::time::Duration;

use echoloop_server::{Counters, Refusal, Report, ServerCounters};
use serde_json::{Map, Value, json};

use crate::units::bytes;

/// The figures of one worker, or of all.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Figures {
    /// Connections that are open.
    pub(crate) open: u64,
    pub(crate) loops: Counters,
    pub(crate) server: ServerCounters,
}

impl Figures {
    /// Counts a refusal.
    pub(crate) fn refused(&mut self, why: Refusal) {
        self.server.refused += 1;
        match why {
            Refusal::MaxConnections => self.server.refused_full += 1,
            Refusal::MaxPerPeer => self.server.refused_peer += 1,
            Refusal::AcceptRate => self.server.refused_rate += 1,
            _ => {}
        }
    }

    /// Connections that were let in.
    pub(crate) fn served(&self) -> u64 {
        self.loops.accepted.saturating_sub(self.server.refused)
    }

    /// The line of figures since `before`, which was so long ago.
    pub(crate) fn line(&self, before: &Counters, since: Duration) -> String {
        let seconds = since.as_secs_f64().max(1e-9);
        let now = &self.loops;
        let rate = |now: u64, before: u64| (now - before) as f64 / seconds;
        let mut line = format!(
            "{} open, {} accepted, {} refused, {:.0} reads/s, {}/s in, {}/s out",
            self.open,
            now.accepted,
            self.server.refused,
            rate(now.reads, before.reads),
            bytes(rate(now.bytes_received, before.bytes_received)),
            bytes(rate(now.bytes_sent, before.bytes_sent)),
        );
        if now.datagrams_received > 0 {
            let datagrams = rate(now.datagrams_received, before.datagrams_received);
            line += &format!(", {datagrams:.0} datagrams/s");
        }
        line
    }

    /// The last words for people.
    pub(crate) fn totals(&self, what: &str, report: &Report) -> String {
        let (own, loops) = (&self.server, &self.loops);
        let mut text = format!(
            "served {} {what}, {} refused, {} timed out, at most {} at a time\n\
             received {} in {} reads, sent {}\n",
            self.served(),
            own.refused,
            own.timed_out,
            own.most_open,
            bytes(loops.bytes_received as f64),
            loops.reads,
            bytes(loops.bytes_sent as f64),
        );
        if loops.datagrams_received > 0 {
            text += &format!(
                "received {} datagrams, sent {}, dropped {}\n",
                loops.datagrams_received, loops.datagrams_sent, loops.datagrams_dropped
            );
        }
        text += &format!(
            "drained: {} closed clean, {} aborted, {} bytes lost",
            report.closed_clean, report.aborted, report.bytes_lost
        );
        text
    }

    /// Adds all figures to an object of `--json`.
    pub(crate) fn add_to(&self, object: &mut Value) {
        object["served"] = json!(self.served());
        object["refused"] = json!({
            "max_connections": self.server.refused_full,
            "max_per_peer": self.server.refused_peer,
            "accept_rate": self.server.refused_rate,
        });
        object["timed_out"] = json!(self.server.timed_out);
        object["unsent_bytes"] = json!(self.server.bytes_lost);
        object["counters"] = counters(&self.loops);
    }
}

/// The end of a drain as an object of `--json`.
pub(crate) fn drained(report: &Report) -> Value {
    json!({
        "event": "drained",
        "closed_clean": report.closed_clean,
        "aborted": report.aborted,
        "bytes_lost": report.bytes_lost,
    })
}

/// All counters of a loop, by name.
fn counters(of: &Counters) -> Value {
    let mut object = Map::new();
    macro_rules! insert {
        ($($name:ident)+) => { $(object.insert(stringify!($name).to_owned(), of.$name.into());)+ };
    }
    insert!(
        accepted connected adopted given_away closed bytes_received bytes_sent reads sends
        sends_refused datagrams_received datagrams_sent datagrams_dropped congested
        budget_pauses throttled over_budget accept_pauses timers_fired posts stale_events
        slow_handlers connect_pauses turns arrivals_lost
    );
    object.into()
}

impl AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        self.open += other.open;
        self.server += other.server;
        self.loops += other.loops;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_counter_is_left_out() {
        let Value::Object(told) = counters(&Counters::default()) else {
            unreachable!("it is made as an object");
        };
        let all = format!("{:?}", Counters::default());
        assert_eq!(told.len(), all.matches(": 0").count(), "{all}");
    }
}
