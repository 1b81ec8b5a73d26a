//! The load generator as a process of its own, and how the benchmark talks to it.
//!
//! It connects, says `ready`, and then does what its standard input says, a line each: `time SECONDS`
//! and `count MESSAGES` run the load and answer `done MESSAGES NANOSECONDS P50 P99 P99.9` (the
//! latencies, in nanoseconds, are those of all runs since the last `reset`), or `error TEXT`. It ends,
//! and closes its connections, at the end of its input.

use std::io::{self, BufRead, Write};
use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use echoloop_load::{Load, Mode, Plan, Report, Until};

use crate::child::Child;

/// The plan, as words on a command line.
#[derive(Debug, clap::Args)]
pub(crate) struct DriveOptions {
    #[arg(long)]
    target: SocketAddrV4,
    #[arg(long)]
    churn: bool,
    #[arg(long)]
    connections: usize,
    #[arg(long)]
    size: usize,
    #[arg(long)]
    depth: usize,
    #[arg(long)]
    sources: u32,
    #[arg(long)]
    verify: bool,
    #[arg(long)]
    patience: u64,
    /// Connects this many times all connections, each after those before have echoed a message.
    #[arg(long, default_value_t = 1)]
    waves: usize,
}

/// The load generator's side: does what standard input says.
pub(crate) fn serve_commands(options: &DriveOptions) -> Result<()> {
    let plan = Plan {
        target: options.target.into(),
        mode: if options.churn {
            Mode::Churn
        } else {
            Mode::Steady
        },
        connections: options.connections,
        size: options.size,
        depth: options.depth,
        verify: options.verify,
        sources: options.sources,
        patience: Duration::from_secs(options.patience),
        keep_going: false,
    };
    let mut loads = Vec::new();
    match connect(plan, options.waves, &mut loads) {
        Ok(()) => say("ready")?,
        Err(error) => return say(&format!("error {error:#}")),
    }
    let mut all: Option<Report> = None;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let until = match line.split_once(' ') {
            Some(("time", seconds)) => Until::Elapsed(Duration::from_secs_f64(seconds.parse()?)),
            Some(("count", messages)) => Until::Messages(messages.parse()?),
            _ if line == "reset" => {
                all = None;
                continue;
            }
            _ => bail!("no such command: {line}"),
        };
        match loads[0].run(until) {
            Ok(report) => {
                let (messages, elapsed) = (report.messages, report.elapsed.as_nanos());
                let all = match &mut all {
                    Some(all) => {
                        all.latency.add(&report.latency)?;
                        all
                    }
                    None => all.insert(report),
                };
                let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|q| all.latency.value_at_quantile(q));
                say(&format!("done {messages} {elapsed} {p50} {p99} {p999}"))?;
            }
            Err(error) => return say(&format!("error {error}")),
        }
    }
    Ok(())
}

fn connect(plan: Plan, waves: usize, loads: &mut Vec<Load>) -> Result<()> {
    for _ in 0..waves {
        let mut load = Load::connect(plan.clone())?;
        if waves > 1 {
            load.run(Until::Messages(plan.connections as u64))?;
        }
        loads.push(load);
    }
    Ok(())
}

fn say(line: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// The benchmark's side: a load generator that is connected and waits for orders.
#[derive(Debug)]
pub(crate) struct Driver {
    child: Child,
    patience: Duration,
}

/// What one run has done, and the latencies since the last reset, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Burst {
    pub(crate) messages: u64,
    pub(crate) elapsed: Duration,
    pub(crate) latency: [u64; 3],
}

impl Driver {
    /// Starts a load generator on a core and waits until it is connected, `waves` times over.
    pub(crate) fn start(plan: &Plan, waves: usize, core: Option<usize>) -> Result<Driver> {
        let mut argv = vec![
            std::env::current_exe().context("where this program is")?,
            "drive".into(),
            format!("--target={}", plan.target).into(),
            format!("--connections={}", plan.connections).into(),
            format!("--size={}", plan.size).into(),
            format!("--depth={}", plan.depth).into(),
            format!("--sources={}", plan.sources).into(),
            format!("--patience={}", plan.patience.as_secs()).into(),
            format!("--waves={waves}").into(),
        ];
        argv.extend((plan.mode == Mode::Churn).then(|| "--churn".into()));
        argv.extend(plan.verify.then(|| "--verify".into()));
        let argv: Vec<_> = argv.into_iter().map(Into::into).collect();
        let child = Child::start("the load generator", &argv, &[], core, None)?;
        let driver = Driver {
            child,
            patience: plan.patience * 3,
        };
        driver.answer("ready")?;
        Ok(driver)
    }

    /// Runs the load.
    pub(crate) fn run(&mut self, until: Until) -> Result<Burst> {
        let (order, time) = match until {
            Until::Elapsed(time) => (format!("time {}", time.as_secs_f64()), time),
            Until::Messages(count) => (format!("count {count}"), Duration::ZERO),
        };
        self.child.say(&order)?;
        let line = self.answer_within("done ", self.patience + time)?;
        let numbers: Vec<u64> = line
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()
            .with_context(|| format!("the load generator said {line:?}"))?;
        let [messages, elapsed, p50, p99, p999] = numbers[..] else {
            bail!("the load generator said {line:?}");
        };
        Ok(Burst {
            messages,
            elapsed: Duration::from_nanos(elapsed),
            latency: [p50, p99, p999],
        })
    }

    /// Forgets the latencies so far.
    pub(crate) fn reset(&mut self) -> Result<()> {
        self.child.say("reset")
    }

    fn answer(&self, expected: &str) -> Result<String> {
        self.answer_within(expected, self.patience)
    }

    fn answer_within(&self, expected: &str, patience: Duration) -> Result<String> {
        let line = self.child.line(patience)?;
        if let Some(error) = line.strip_prefix("error ") {
            bail!("{error}");
        }
        match line.strip_prefix(expected) {
            Some(rest) => Ok(rest.to_owned()),
            None => bail!("the load generator said {line:?}"),
        }
    }
}
