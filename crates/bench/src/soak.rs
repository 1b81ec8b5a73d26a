//! A server under mixed churn for a long time: whether its memory and descriptors stay flat, and whether
//! every byte comes back right.
//!
//! Clients of all manners come at an even rate, most to TCP, some to UDP and a Unix socket: those that
//! echo, half-close, trickle, reset, knock, abandon what they asked for, say nothing, read nothing and
//! vanish. Each minute is a line. At the end nobody comes any more, and the idle server is looked at.
//!
//! The verdict: no wrong byte; nobody cut who should not be; descriptors exactly as at the start; memory
//! of the last quarter no higher than of the first, but for a little; the idle server takes no CPU.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use echoloop_load::cpu_time;
use echoloop_load::crowd::Kind;

use crate::child::Child;
use crate::crowd::{CrowdProcess, Invitation, Tally};
use crate::output::grouped;
use crate::process::{self, Cores};
use crate::progress::Progress;
use crate::servers::{Kit, Row};

/// How much more the last quarter's memory may be than the first's, in bytes.
const GROWTH: u64 = 4 << 20;
/// How long the last may take to go: longer than every deadline of the server.
const LAST: Duration = Duration::from_secs(30);

/// The server's deadlines, in seconds, and other options.
const SERVER: [&str; 6] = [
    "--first-byte-timeout=2",
    "--idle-timeout=3",
    "--write-stall-timeout=2",
    "--lifetime=10",
    "--send-buffer=65536",
    "--receive-buffer=65536",
];

/// Serves mixed churn for a long time.
#[derive(Debug, clap::Args)]
pub(crate) struct SoakOptions {
    /// How long
    #[arg(long, default_value = "20", value_parser = minutes)]
    minutes: f64,
    /// Connections a second, of all kinds together
    #[arg(long, default_value_t = 1_000.0)]
    rate: f64,
    /// Threads of the server
    #[arg(long, default_value_t = 2)]
    workers: u32,
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(m) if (0.1..=10_000.0).contains(&m) => Ok(m),
        _ => Err("a number of minutes from 0.1 to 10000".into()),
    }
}

/// Where a kind of client goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Tcp,
    Udp,
    Unix,
}

/// Who comes, and how many of a thousand.
const MIX: [(Kind, Way, u32); 13] = [
    (Kind::Echo, Way::Tcp, 370),
    (Kind::Echo, Way::Udp, 80),
    (Kind::Echo, Way::Unix, 80),
    (Kind::HalfClose, Way::Tcp, 60),
    (Kind::HalfClose, Way::Unix, 20),
    (Kind::Slow, Way::Tcp, 60),
    (Kind::Abandon, Way::Tcp, 80),
    (Kind::Reset, Way::Tcp, 120),
    (Kind::Knock, Way::Tcp, 88),
    (Kind::Silent, Way::Tcp, 20),
    (Kind::VanishIdle, Way::Tcp, 10),
    (Kind::VanishSilent, Way::Tcp, 10),
    (Kind::Greedy, Way::Tcp, 2),
];

fn name(kind: Kind, way: Way) -> String {
    match way {
        Way::Tcp => kind.name().to_owned(),
        Way::Udp => format!("udp {}", kind.name()),
        Way::Unix => format!("unix {}", kind.name()),
    }
}

/// Whether the server is to let it come to its end.
fn is_served(kind: Kind) -> bool {
    !matches!(kind, Kind::Silent | Kind::Greedy)
}

/// What is seen of the server from outside.
#[derive(Debug, Clone, Copy)]
struct Look {
    memory: u64,
    descriptors: usize,
    cpu: Duration,
}

impl Look {
    fn at(pid: u32) -> Result<Look> {
        Ok(Look {
            memory: process::resident_about(pid)?,
            descriptors: process::descriptors(pid)?,
            cpu: cpu_time(pid)?,
        })
    }
}

pub(crate) fn run(options: &SoakOptions) -> Result<()> {
    let cores = Cores::choose()?;
    let mut progress = Progress::new();
    progress.show("building the server");
    let kit = Kit::new(None)?;
    let mut program = kit.build(Row::Rust)?;
    let path = kit.out.join(format!("soak-{}.sock", std::process::id()));
    program.argv.extend(SERVER.map(Into::into));
    program.argv.push("--udp=127.0.0.1:0".into());
    program
        .argv
        .push(format!("--unix={}", path.display()).into());
    if options.workers > 1 {
        program
            .argv
            .push(format!("--workers={}", options.workers).into());
    }
    let core = cores.server.filter(|_| options.workers == 1);
    let (server, tcp) = Child::serve(&program, core, &[])?;
    let udp = loop {
        let line = server
            .line(Duration::from_secs(10))
            .context("no UDP address")?;
        if let Some(addr) = line.strip_prefix("listening on udp ") {
            break format!("udp:{addr}");
        }
    };
    let (tcp, unix) = (tcp.to_string(), format!("unix:{}", path.display()));
    let pid = server.pid();
    let at_start = Look::at(pid)?;

    let mut crowd = CrowdProcess::start("the clients", None, &[])?;
    for (kind, way, share) in MIX {
        let target = match way {
            Way::Tcp => &tcp,
            Way::Udp => &udp,
            Way::Unix => &unix,
        };
        crowd.invite(&Invitation {
            kind,
            target,
            at_once: 10_000,
            per_second: options.rate * f64::from(share) / 1_000.0,
            total: u64::MAX,
            // Ports of a closed connection rest for a minute.
            sources: if way == Way::Tcp { 250 } else { 0 },
        })?;
    }
    let mut soak = Soak {
        sums: vec![Tally::default(); MIX.len()],
        looks: Vec::new(),
        started: Instant::now(),
    };
    let outcome = soak.endure(
        &mut crowd,
        pid,
        Duration::from_secs_f64(options.minutes * 60.0),
    );
    progress.clear();
    soak.tell();
    outcome?;
    let failures = soak.verdict(&mut crowd, pid, at_start)?;
    server.end(pid, Duration::from_secs(20))?;
    ensure!(failures.is_empty(), "{}", failures.join("; "));
    println!("every byte was right, memory and descriptors are flat");
    Ok(())
}

struct Soak {
    /// What became of each party of the mix.
    sums: Vec<Tally>,
    /// Every second.
    looks: Vec<Look>,
    started: Instant,
}

impl Soak {
    fn endure(&mut self, crowd: &mut CrowdProcess, pid: u32, time: Duration) -> Result<()> {
        println!(
            "{:>7} {:>12} {:>9} {:>12} {:>5} {:>7} {:>9} {:>6} {:>6}",
            "minute", "connections", "open", "MiB verified", "cut", "wrong", "MiB", "fds", "CPU %"
        );
        let mut last = (Instant::now(), Look::at(pid)?.cpu);
        let mut minute = 0.0;
        while self.started.elapsed() < time {
            thread::sleep(Duration::from_secs(1));
            self.tally(crowd)?;
            let look = Look::at(pid)?;
            self.looks.push(look);
            let elapsed = self.started.elapsed();
            if elapsed.as_secs_f64() < (minute + 1.0) * 60.0 && elapsed < time {
                continue;
            }
            minute += 1.0;
            let busy = (look.cpu - last.1).as_secs_f64() / last.0.elapsed().as_secs_f64();
            last = (Instant::now(), look.cpu);
            let sum = |of: fn(&Tally) -> u64| self.sums.iter().map(of).sum::<u64>() as f64;
            println!(
                "{:>7.1} {:>12} {:>9} {:>12} {:>5} {:>7} {:>9.1} {:>6} {:>6.1}",
                elapsed.as_secs_f64() / 60.0,
                grouped(sum(|t| t.opened)),
                grouped(sum(|t| t.open)),
                grouped(sum(|t| t.received) / f64::from(1 << 20)),
                self.wrongly_cut(),
                0, // A wrong byte ends the run.
                mib(look.memory),
                look.descriptors,
                busy * 100.0,
            );
        }
        Ok(())
    }

    fn tally(&mut self, crowd: &mut CrowdProcess) -> Result<()> {
        for (sum, tally) in self.sums.iter_mut().zip(crowd.tally()?) {
            sum.add(&tally);
        }
        Ok(())
    }

    fn wrongly_cut(&self) -> u64 {
        let served = MIX
            .iter()
            .zip(&self.sums)
            .filter(|((kind, ..), _)| is_served(*kind));
        served.map(|(_, tally)| tally.all_cut()).sum()
    }

    /// A line for each kind.
    fn tell(&self) {
        for ((kind, way, _), tally) in MIX.iter().zip(&self.sums) {
            let cut = match tally.all_cut() {
                0 => String::new(),
                _ => format!(", ended by the server: {}", tally.causes()),
            };
            println!(
                "  {}: {} came, {} came to their end{cut}",
                name(*kind, *way),
                grouped(tally.opened as f64),
                grouped(tally.done as f64),
            );
        }
    }

    fn verdict(
        &mut self,
        crowd: &mut CrowdProcess,
        pid: u32,
        at_start: Look,
    ) -> Result<Vec<String>> {
        crowd.dismiss()?;
        let deadline = Instant::now() + LAST;
        let mut left = 1;
        while left > 0 || process::descriptors(pid)? != at_start.descriptors {
            if Instant::now() > deadline {
                break;
            }
            thread::sleep(Duration::from_millis(100));
            self.tally(crowd)?;
            left = self.sums.iter().map(|tally| tally.open).sum();
        }
        // A connection that was just closed is looked after for a second.
        thread::sleep(Duration::from_secs(2));
        let before = Look::at(pid)?;
        let time = Duration::from_secs(3);
        thread::sleep(time);
        let after = Look::at(pid)?;
        let idle = (after.cpu - before.cpu).as_secs_f64() / time.as_secs_f64();

        let quarter = self.looks.len().div_ceil(4);
        let most = |looks: &[Look]| looks.iter().map(|look| look.memory).max().unwrap_or(0);
        let first = most(&self.looks[..quarter]);
        let last = most(&self.looks[self.looks.len() - quarter..]);
        println!(
            "memory: {:.1} MiB at the start, at most {:.1} in the first quarter, {:.1} in the last, {:.1} afterwards",
            mib(at_start.memory),
            mib(first),
            mib(last),
            mib(after.memory),
        );
        println!(
            "descriptors: {} at the start, {} afterwards; CPU of the idle server: {:.1}%",
            at_start.descriptors,
            after.descriptors,
            idle * 100.0,
        );
        let served = MIX
            .iter()
            .zip(&self.sums)
            .filter(|((kind, ..), t)| is_served(*kind) && t.all_cut() > 0);
        let mut failures: Vec<String> = served
            .map(|((kind, way, _), t)| {
                format!("{} were cut off: {}", name(*kind, *way), t.causes())
            })
            .collect();
        if left > 0 {
            failures.push(format!("{left} clients are there after {LAST:?}"));
        }
        if after.descriptors != at_start.descriptors {
            failures.push("descriptors are left behind".into());
        }
        if last > first + GROWTH {
            failures.push("memory grows".into());
        }
        if idle > 0.02 {
            failures.push("the idle server takes CPU".into());
        }
        Ok(failures)
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
