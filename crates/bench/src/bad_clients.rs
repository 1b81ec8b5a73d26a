//! A hundred good clients beside thousands of bad ones: what the bad ones do to the good ones'
//! latencies, whether they are gone on schedule, and what of them is left behind.
//!
//! Server, good clients and bad ones are a process each. The good ones send 2,000 messages a second in
//! all, whatever else goes on, and a message is timed from when it was due; so what is measured is
//! waiting and not saturation. A round is a control window (the good alone) and then an attack, from
//! its first connect until the server has got rid of its last client. The ratio of an attack is the
//! median over its rounds of p99 under attack to p99 in the control window just before.
//!
//! The good ones reconnect every three seconds, so being let in is part of what is measured. The bad ones
//! yield to them on the core that they share, for on a network they would have machines of their own.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use echoloop_load::cpu_time;
use echoloop_load::crowd::Kind;

use crate::child::Child;
use crate::crowd::{CrowdProcess, Invitation, Tally};
use crate::output::{aligned, grouped};
use crate::process::{self, Cores};
use crate::progress::Progress;
use crate::servers::{Kit, Row};

const GOOD: u64 = 100;
const CONTROL: Duration = Duration::from_secs(4);
/// Bad clients that come in a second.
const RAMP: f64 = 5_000.0;
/// How much before its deadline an end may be seen: deadlines count from when the turn began in which
/// the connection was accepted.
const TURN: Duration = Duration::from_millis(100);
/// How much after its deadline, on a busy machine.
const SLACK: Duration = Duration::from_millis(1_500);
/// What of the server's memory may stay: its tables have grown to the most connections there were, and
/// 4 MiB are kept for the next buffers.
const MEMORY_KEPT: u64 = 16 << 20;
/// Descriptors beyond those of the good clients with which an attack counts as over: good ones that
/// come and go.
const CHANGE: usize = 20;

/// The server's deadlines, in seconds.
const FIRST_BYTE: u64 = 3;
const IDLE: u64 = 5;
const STALL: u64 = 4;
const LIFETIME: u64 = 8;
/// Bytes of the kernel's for each connection and direction, which it doubles.
const KERNEL_BUFFERS: u64 = 16_384;
/// Bytes that are read of a connection in a second.
const RECEIVE_RATE: u64 = 16_384;

/// Measures good clients beside bad ones.
#[derive(Debug, clap::Args)]
pub(crate) struct BadOptions {
    /// Bad clients of an attack
    #[arg(long, default_value_t = 15_000)]
    bad: u64,
    /// Rounds of each attack
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only these attacks, by kind; "all" is all kinds together
    #[arg(long, value_name = "NAME", num_args = 1..)]
    only: Vec<String>,
}

/// Clients of one kind in an attack.
#[derive(Debug, Clone, Copy)]
struct Band {
    kind: Kind,
    total: u64,
    per_second: f64,
}

#[derive(Debug)]
struct Attack {
    name: &'static str,
    bands: Vec<Band>,
}

/// Each kind alone, and all together.
fn attacks(bad: u64) -> Vec<Attack> {
    let stay = |kind, total| Band {
        kind,
        total,
        per_second: RAMP * total as f64 / bad as f64,
    };
    // Those that come and go do so while the others are there.
    let flood = |kind, share: u64| Band {
        kind,
        total: bad / share,
        per_second: bad as f64 / share as f64 / 8.0,
    };
    let part = |kind, thousandths| stay(kind, bad * thousandths / 1_000);
    let mut attacks: Vec<Attack> = [
        part(Kind::Silent, 1_000),
        part(Kind::Idle, 1_000),
        part(Kind::Trickle, 1_000),
        part(Kind::Greedy, 70),
        part(Kind::Sip, 70),
        part(Kind::VanishSilent, 1_000),
        part(Kind::VanishIdle, 1_000),
        flood(Kind::Knock, 1),
        flood(Kind::Reset, 1),
    ]
    .into_iter()
    .map(|band| Attack {
        name: band.kind.name(),
        bands: vec![band],
    })
    .collect();
    attacks.push(Attack {
        name: "all",
        bands: vec![
            part(Kind::Silent, 260),
            part(Kind::Idle, 170),
            part(Kind::Trickle, 230),
            part(Kind::Greedy, 70),
            part(Kind::Sip, 70),
            part(Kind::VanishSilent, 100),
            part(Kind::VanishIdle, 100),
            flood(Kind::Knock, 4),
            flood(Kind::Reset, 4),
        ],
    });
    attacks
}

/// Between which ages the server ends such a client; `None` for those who go by themselves.
fn schedule(kind: Kind) -> Option<(Duration, Duration)> {
    let (from, to) = match kind {
        Kind::Silent => (FIRST_BYTE, FIRST_BYTE),
        Kind::Idle => (IDLE, IDLE),
        Kind::Trickle => (LIFETIME, LIFETIME),
        // What the kernel takes at first counts as progress.
        Kind::Greedy | Kind::Sip => (STALL, LIFETIME),
        _ => return None,
    };
    Some((Duration::from_secs(from), Duration::from_secs(to)))
}

/// What one round of an attack has shown.
#[derive(Debug)]
struct Round {
    control: [u64; 3],
    attack: [u64; 3],
    bands: Vec<Tally>,
    /// From the last connect until the server had none of them any more.
    gone: Duration,
    peak_memory: u64,
}

struct Scene {
    server: Child,
    target: String,
    good: CrowdProcess,
    cores: Cores,
    good_total: Tally,
    base_descriptors: usize,
}

pub(crate) fn measure(options: &BadOptions) -> Result<()> {
    let cores = Cores::choose()?;
    let mut progress = Progress::new();
    progress.show("building the server");
    let mut program = Kit::new(None)?.build(Row::Rust)?;
    for (name, number) in [
        ("first-byte-timeout", FIRST_BYTE),
        ("idle-timeout", IDLE),
        ("write-stall-timeout", STALL),
        ("lifetime", LIFETIME),
        // Without these a peer that does not read costs megabytes of the kernel's memory, and a
        // thousand of them all that it has for TCP (tcp(7), tcp_mem).
        ("send-buffer", KERNEL_BUFFERS),
        ("receive-buffer", KERNEL_BUFFERS),
        // Nor is a greedy one served at the expense of the others.
        ("receive-rate", RECEIVE_RATE),
    ] {
        program.argv.push(format!("--{name}={number}").into());
    }
    let first = process::before_all();
    if first.is_empty() {
        progress.note("no real-time priority here: what else the machine does is measured, too");
    }
    let (server, address) = Child::serve(&program, cores.server, &first)?;
    let pid = server.pid();
    let base_descriptors = process::descriptors(pid)?;
    let mut scene = Scene {
        server,
        target: address.to_string(),
        good: CrowdProcess::start("the good clients", cores.load, &first)?,
        cores,
        good_total: Tally::default(),
        base_descriptors,
    };
    scene.good.invite(&Invitation {
        kind: Kind::Good,
        target: &scene.target,
        at_once: GOOD,
        per_second: 100.0,
        total: u64::MAX,
        sources: 0,
    })?;
    thread::sleep(Duration::from_secs(2));
    scene.good_window()?;
    let base_memory = process::resident(pid)?;

    let mut failures = Vec::new();
    let mut rows = vec![COLUMNS.map(str::to_owned).to_vec()];
    let mut ends = String::new();
    let chosen = |attack: &Attack| {
        options.only.is_empty() || options.only.iter().any(|name| name == attack.name)
    };
    for attack in attacks(options.bad).iter().filter(|a| chosen(a)) {
        let mut rounds = Vec::new();
        for round in 0..options.rounds {
            progress.show(&format!(
                "{}: round {} of {}",
                attack.name,
                round + 1,
                options.rounds
            ));
            let outcome = scene.round(attack);
            rounds.push(outcome.with_context(|| format!("attack {}", attack.name))?);
        }
        let ratio = median(
            rounds
                .iter()
                .map(|r| r.attack[1] as f64 / r.control[1] as f64),
        );
        if ratio > 2.0 {
            failures.push(format!(
                "{}: p99 is {ratio:.2} times the control's",
                attack.name
            ));
        }
        rows.push(row(attack, &rounds, ratio));
        for (i, band) in attack.bands.iter().enumerate() {
            let mut tally = Tally::default();
            rounds.iter().for_each(|round| tally.add(&round.bands[i]));
            failures.extend(off_schedule(attack, *band, &tally));
            ends += &told(attack, *band, &tally);
        }
    }
    progress.clear();
    print!("\n{}\n{ends}", aligned(rows));
    failures.extend(scene.aftermath(base_memory)?);
    ensure!(failures.is_empty(), "{}", failures.join("; "));
    Ok(())
}

impl Scene {
    /// Tells what became of the good clients since the last time: p50, p99 and the worst.
    fn good_window(&mut self) -> Result<[u64; 3]> {
        let tally = self.good.tally().context("the good clients")?.remove(0);
        self.good_total.add(&tally);
        Ok(tally.latency)
    }

    fn round(&mut self, attack: &Attack) -> Result<Round> {
        let pid = self.server.pid();
        self.good_window()?;
        thread::sleep(CONTROL);
        let control = self.good_window()?;

        let second = process::before_most();
        let mut bad = CrowdProcess::start("the bad clients", self.cores.load, &second)?;
        for band in &attack.bands {
            bad.invite(&Invitation {
                kind: band.kind,
                target: &self.target,
                at_once: u64::MAX,
                per_second: band.per_second,
                total: band.total,
                sources: 16,
            })?;
        }
        let mut bands = vec![Tally::default(); attack.bands.len()];
        let mut peak_memory = 0;
        let mut last_came = Instant::now();
        let longest = Duration::from_secs(LIFETIME) + SLACK * 2;
        loop {
            // To look at a process holds it up: its descriptors take a millisecond to count.
            thread::sleep(Duration::from_millis(500));
            for (sum, tally) in bands.iter_mut().zip(bad.tally()?) {
                if tally.opened > 0 {
                    last_came = Instant::now();
                }
                sum.add(&tally);
            }
            peak_memory = peak_memory.max(process::resident_about(pid)?);
            let all_came = bands
                .iter()
                .zip(&attack.bands)
                .all(|(t, b)| t.opened == b.total);
            let there = process::descriptors(pid)?.saturating_sub(self.base_descriptors);
            if all_came && there <= GOOD as usize + CHANGE {
                break;
            }
            let open: u64 = bands.iter().map(|tally| tally.open).sum();
            ensure!(
                last_came.elapsed() < longest,
                "{there} connections are there {longest:?} after the last came, {open} of bad clients",
            );
        }
        let gone = last_came.elapsed();
        let attack = self.good_window()?;
        // The last of those that were ended may not have looked yet.
        thread::sleep(Duration::from_millis(200));
        for (sum, tally) in bands.iter_mut().zip(bad.tally()?) {
            sum.add(&tally);
        }
        Ok(Round {
            control,
            attack,
            bands,
            gone,
            peak_memory,
        })
    }

    /// Sends the good ones away, and looks at what is left in the server.
    fn aftermath(mut self, base_memory: u64) -> Result<Vec<String>> {
        let pid = self.server.pid();
        self.good.dismiss()?;
        let deadline = Instant::now() + Duration::from_secs(15);
        while process::descriptors(pid)? != self.base_descriptors {
            ensure!(Instant::now() < deadline, "descriptors are left behind");
            thread::sleep(Duration::from_millis(20));
        }
        self.good_window()?;
        // A connection that was just closed is looked after for a second.
        thread::sleep(Duration::from_secs(2));
        let (memory, before) = (process::resident(pid)?, cpu_time(pid)?);
        let time = Duration::from_secs(3);
        thread::sleep(time);
        let idle = (cpu_time(pid)? - before).as_secs_f64() / time.as_secs_f64();
        let good = &self.good_total;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        println!(
            "good clients: {} messages verified on {} connections, {} cut",
            grouped(good.pieces as f64),
            grouped(good.opened as f64),
            good.all_cut(),
        );
        println!(
            "the server afterwards: {} descriptors as before, {:.1} MiB resident ({:.1} before), {:.1}% CPU idle",
            self.base_descriptors,
            mib(memory),
            mib(base_memory),
            idle * 100.0,
        );
        let mut failures = Vec::new();
        if good.all_cut() > 0 {
            failures.push(format!("good clients were cut off: {}", good.causes()));
        }
        if memory > base_memory + MEMORY_KEPT {
            failures.push("the server's memory is not back".into());
        }
        if idle > 0.02 {
            failures.push("the idle server takes CPU".into());
        }
        self.server.end(pid, Duration::from_secs(20))?;
        Ok(failures)
    }
}

const COLUMNS: [&str; 10] = [
    "attack",
    "clients",
    "alone p50 µs",
    "p99 µs",
    "attacked p50 µs",
    "p99 µs",
    "max ms",
    "p99 ratio",
    "gone after s",
    "peak MiB",
];

fn row(attack: &Attack, rounds: &[Round], ratio: f64) -> Vec<String> {
    let middle = |of: &dyn Fn(&Round) -> f64| median(rounds.iter().map(of));
    let micros = |of: &dyn Fn(&Round) -> u64| format!("{:.0}", middle(&|r| of(r) as f64 / 1e3));
    let clients: u64 = attack.bands.iter().map(|band| band.total).sum();
    vec![
        attack.name.to_owned(),
        grouped(clients as f64),
        micros(&|r| r.control[0]),
        micros(&|r| r.control[1]),
        micros(&|r| r.attack[0]),
        micros(&|r| r.attack[1]),
        format!("{:.1}", middle(&|r| r.attack[2] as f64 / 1e6)),
        format!("{ratio:.2}"),
        format!("{:.1}", middle(&|r| r.gone.as_secs_f64())),
        format!(
            "{:.1}",
            middle(&|r| r.peak_memory as f64 / f64::from(1 << 20))
        ),
    ]
}

/// How the clients of a band ended, in a line.
fn told(attack: &Attack, band: Band, tally: &Tally) -> String {
    let [min, middle, max] = tally.ages.map(|ms| ms as f64 / 1e3);
    let due = match schedule(band.kind) {
        Some((from, to)) if from == to => format!(", due at {} s", from.as_secs()),
        Some((from, to)) => format!(", due at {} to {} s", from.as_secs(), to.as_secs()),
        None => String::new(),
    };
    let ended = match tally.all_cut() {
        0 => String::new(),
        _ => format!(
            ", ended at {min:.1} s, {middle:.1} s, {max:.1} s ({}){due}",
            tally.causes()
        ),
    };
    format!(
        "  {} / {}: {} came, {} went by themselves{ended}\n",
        attack.name,
        band.kind.name(),
        grouped(tally.opened as f64),
        grouped(tally.done as f64),
    )
}

/// What of a band's ends was not on schedule.
fn off_schedule(attack: &Attack, band: Band, tally: &Tally) -> Option<String> {
    let place = format!("{} / {}", attack.name, band.kind.name());
    let Some((from, to)) = schedule(band.kind) else {
        return (tally.all_cut() > 0).then(|| format!("{place}: {} were cut", tally.all_cut()));
    };
    if tally.all_cut() != tally.opened {
        let left = tally.opened - tally.all_cut();
        return Some(format!("{place}: {left} were not ended by the server"));
    }
    let ages = (from - TURN).as_millis() as u64..=(to + SLACK).as_millis() as u64;
    let on_time = ages.contains(&tally.ages[0]) && ages.contains(&tally.ages[2]);
    (!on_time).then(|| format!("{place}: ended at {:?} ms, due at {ages:?}", tally.ages))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
