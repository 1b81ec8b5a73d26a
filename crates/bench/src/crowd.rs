//! A crowd of clients as a process of its own, and how a measurement talks to it.
//!
//! It drives its clients without a pause and does what its standard input says, a line each:
//! `invite KIND TARGET AT-ONCE PER-SECOND TOTAL SOURCES` adds a party, `tally` answers a line for each
//! party with what became of it since it was asked last and then `ok`, `dismiss` lets nobody come any
//! more, `home` closes those who only wait for the server. A wrong byte is answered by `error TEXT`. It
//! ends, and closes all connections, at the end of its input.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{self, TryRecvError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use echoloop_load::crowd::{Crowd, Kind, Party};
use echoloop_load::{Plan, Target};

use crate::child::Child;

/// How soon an order is obeyed.
const SLICE: Duration = Duration::from_millis(20);
/// How long a crowd may take to answer, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// The crowd's side: drives, and does what standard input says.
pub(crate) fn serve_commands() -> Result<()> {
    let (sender, orders) = mpsc::channel();
    thread::spawn(move || {
        let lines = io::stdin().lock().lines().map_while(io::Result::ok);
        lines.map(|line| sender.send(line)).all(|sent| sent.is_ok())
    });
    let mut crowd = Crowd::new()?;
    let mut kinds = Vec::new();
    loop {
        match orders.try_recv() {
            Ok(order) => obey(&order, &mut crowd, &mut kinds)?,
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
        if let Err(error) = crowd.run(SLICE) {
            say(&format!("error {error}"))?;
            return Ok(());
        }
    }
}

fn obey(order: &str, crowd: &mut Crowd, kinds: &mut Vec<Kind>) -> Result<()> {
    let words: Vec<&str> = order.split(' ').collect();
    match words[..] {
        ["invite", kind, target, at_once, per_second, total, sources] => {
            let kind = Kind::by_name(kind).context("no such kind")?;
            kinds.push(kind);
            crowd.invite(Party {
                plan: Plan {
                    sources: sources.parse()?,
                    ..Plan::new(parse_target(target)?)
                },
                manners: kind.manners(),
                at_once: at_once.parse()?,
                per_second: per_second.parse()?,
                total: total.parse()?,
                patience: PATIENCE,
                // Their own machine's memory is not in question: what waits, waits at the server.
                buffers: matches!(kind, Kind::Greedy | Kind::Sip).then_some(16 << 10),
            });
        }
        ["dismiss"] => crowd.dismiss(),
        ["home"] => crowd.send_home(),
        ["tally"] => {
            for (party, kind) in kinds.iter().enumerate() {
                let tally = crowd.take_tally(party);
                let quantile = |q| tally.latency.value_at_quantile(q);
                let mut line = kind.name().to_owned();
                let numbers = [
                    tally.opened,
                    tally.done,
                    tally.open,
                    tally.received,
                    tally.latency.len(),
                    quantile(0.5),
                    quantile(0.99),
                    tally.latency.max(),
                    tally.ages.min(),
                    tally.ages.value_at_quantile(0.5),
                    tally.ages.max(),
                ];
                for number in numbers {
                    write!(line, " {number}")?;
                }
                for (cause, count) in &tally.cut {
                    write!(line, " {}={count}", cause.name())?;
                }
                say(&line)?;
            }
            say("ok")?;
        }
        _ => bail!("no such order: {order}"),
    }
    Ok(())
}

fn say(line: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

fn parse_target(text: &str) -> Result<Target> {
    if let Some(path) = text.strip_prefix("unix:") {
        let addr = std::os::unix::net::SocketAddr::from_pathname(path)?;
        return Ok(addr.into());
    }
    let (udp, addr) = match text.strip_prefix("udp:") {
        Some(addr) => (true, addr),
        None => (false, text),
    };
    let addr: SocketAddr = addr.parse().with_context(|| format!("target {text}"))?;
    Ok(match udp {
        true => Target::Udp(addr),
        false => Target::Tcp(addr),
    })
}

/// A party to invite.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Invitation<'a> {
    pub(crate) kind: Kind,
    /// `ADDR:PORT`, `udp:ADDR:PORT` or `unix:PATH`.
    pub(crate) target: &'a str,
    pub(crate) at_once: u64,
    pub(crate) per_second: f64,
    pub(crate) total: u64,
    /// How many addresses they come from; 0 leaves it to the kernel.
    pub(crate) sources: u32,
}

/// What became of one party since it was asked last; latencies are in nanoseconds, ages of those that
/// the server ended in milliseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) opened: u64,
    pub(crate) done: u64,
    pub(crate) open: u64,
    pub(crate) received: u64,
    pub(crate) pieces: u64,
    pub(crate) latency: [u64; 3],
    pub(crate) ages: [u64; 3],
    /// Those that did not come to the end they wanted, by what they saw of it.
    pub(crate) cut: Vec<(String, u64)>,
}

impl Tally {
    pub(crate) fn all_cut(&self) -> u64 {
        self.cut.iter().map(|(_, count)| count).sum()
    }

    /// Adds what is counted; the latencies and ages become the worst of both.
    pub(crate) fn add(&mut self, other: &Tally) {
        self.opened += other.opened;
        self.done += other.done;
        self.open = other.open;
        self.received += other.received;
        self.pieces += other.pieces;
        if other.all_cut() > 0 {
            let first = self.all_cut() == 0;
            let [min, middle, max] = other.ages;
            self.ages = match first {
                true => other.ages,
                false => [
                    self.ages[0].min(min),
                    self.ages[1].max(middle),
                    self.ages[2].max(max),
                ],
            };
        }
        for (mine, others) in self.latency.iter_mut().zip(other.latency) {
            *mine = (*mine).max(others);
        }
        for (cause, count) in &other.cut {
            match self.cut.iter_mut().find(|(mine, _)| mine == cause) {
                Some((_, mine)) => *mine += count,
                None => self.cut.push((cause.clone(), *count)),
            }
        }
    }

    /// `3 CLOSED, 2 ECONNRESET`.
    pub(crate) fn causes(&self) -> String {
        let each = self.cut.iter().map(|(cause, n)| format!("{n} {cause}"));
        each.collect::<Vec<_>>().join(", ")
    }

    fn parse(line: &str) -> Option<Tally> {
        let mut words = line.split(' ').skip(1);
        let mut number = || words.next()?.parse::<u64>().ok();
        Some(Tally {
            opened: number()?,
            done: number()?,
            open: number()?,
            received: number()?,
            pieces: number()?,
            latency: [number()?, number()?, number()?],
            ages: [number()?, number()?, number()?],
            cut: words
                .map(|word| {
                    let (cause, count) = word.split_once('=')?;
                    Some((cause.to_owned(), count.parse().ok()?))
                })
                .collect::<Option<_>>()?,
        })
    }
}

/// The measurement's side: a crowd that drives itself.
#[derive(Debug)]
pub(crate) struct CrowdProcess {
    child: Child,
    parties: usize,
}

impl CrowdProcess {
    /// Starts one, under another command if there are words of it.
    pub(crate) fn start(
        name: &str,
        core: Option<usize>,
        under: &[OsString],
    ) -> Result<CrowdProcess> {
        let this = std::env::current_exe().context("where this program is")?;
        let mut argv = under.to_vec();
        argv.extend([this.into(), "crowd".into()]);
        Ok(CrowdProcess {
            child: Child::start(name, &argv, &[], core, None)?,
            parties: 0,
        })
    }

    /// Adds a party; its number, counted from 0.
    pub(crate) fn invite(&mut self, invitation: &Invitation<'_>) -> Result<usize> {
        let Invitation {
            kind,
            target,
            at_once,
            per_second,
            total,
            sources,
        } = invitation;
        self.child.say(&format!(
            "invite {} {target} {at_once} {per_second} {total} {sources}",
            kind.name()
        ))?;
        self.parties += 1;
        Ok(self.parties - 1)
    }

    /// Nobody comes any more, and nobody sends what was not due yet.
    pub(crate) fn dismiss(&mut self) -> Result<()> {
        self.child.say("dismiss")
    }

    /// What became of each party since the last time.
    pub(crate) fn tally(&mut self) -> Result<Vec<Tally>> {
        self.child.say("tally")?;
        let mut tallies = Vec::with_capacity(self.parties);
        loop {
            let line = self.child.line(PATIENCE)?;
            if line == "ok" {
                ensure!(tallies.len() == self.parties, "a party was not told of");
                return Ok(tallies);
            }
            if let Some(error) = line.strip_prefix("error ") {
                bail!("{error}");
            }
            let tally = Tally::parse(&line);
            tallies.push(tally.with_context(|| format!("the crowd said {line:?}"))?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn a_tally_is_read_as_it_was_said_and_added_up() {
        let line = "silent 10 1 2 64 5 100 200 300 7 8 9 CLOSED=3 ECONNRESET=4";
        let mut tally = Tally::parse(line).unwrap();
        assert_eq!((tally.opened, tally.done, tally.open), (10, 1, 2));
        assert_eq!((tally.latency, tally.ages), ([100, 200, 300], [7, 8, 9]));
        assert_eq!(tally.all_cut(), 7);
        let mut other = tally.clone();
        other.ages = [5, 9, 8];
        tally.add(&other);
        assert_eq!((tally.opened, tally.ages), (20, [5, 9, 9]));
        assert_eq!(tally.causes(), "6 CLOSED, 8 ECONNRESET");
        assert!(Tally::parse("silent 10 1").is_none());
        assert!(Tally::parse(&line.replace('=', "-")).is_none());
    }
}
