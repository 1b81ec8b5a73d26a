//! What a message costs a server of two workers, and of one, and how evenly the two share.
//!
//! The servers are this program, as a hidden subcommand, each a process of its own. They take turns:
//! a round is a burst of each, and the ratio is to the one worker of the same round.
//!
//! The rule: all threads of a server are on one core by default, so that the figures are of the work
//! and not of caches and cores that go idle. `--spread-out` lets them run anywhere.

use std::io::{self, BufRead, Write};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use echoloop_load::{Mode, Plan, Until, cpu_time};
use echoloop_server::{Echo, Server, Spread};

use crate::child::Child;
use crate::drive::Driver;
use crate::process::Cores;
use crate::rounds::quantile;

#[derive(Debug, clap::Args)]
pub(crate) struct WorkersOptions {
    /// Workers of the servers that are compared with one
    #[arg(long, value_name = "N", default_value_t = 2)]
    workers: usize,
    /// Rounds of bursts
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Seconds of a burst
    #[arg(long, value_parser = crate::seconds, default_value = "0.5")]
    seconds: f64,
    /// Lets servers and load run on any core
    #[arg(long)]
    spread_out: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ServeOptions {
    #[arg(long)]
    workers: usize,
    #[arg(long)]
    by: By,
}

/// How connections are spread.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum By {
    Fewest,
    ReusePort,
}

/// A server with its load, connected and silent.
struct Station {
    name: String,
    server: Child,
    driver: Driver,
    cpu_ns: Vec<f64>,
    per_second: Vec<f64>,
    ratios: Vec<f64>,
}

/// Prints a table for each load.
pub(crate) fn measure(options: &WorkersOptions) -> Result<()> {
    let mut cores = Cores::choose()?;
    if options.spread_out {
        (cores.server, cores.load) = (None, None);
    }
    let steady = |connections| (Mode::Steady, connections, 0);
    for (name, (mode, connections, sources)) in [
        ("100 x 64 B", steady(100)),
        ("1,000 x 64 B", steady(1000)),
        ("connect, echo 64 B, close", (Mode::Churn, 50, 250)),
    ] {
        let mut stations = Vec::new();
        for (workers, by) in [
            (1, By::Fewest),
            (options.workers, By::Fewest),
            (options.workers, By::ReusePort),
        ] {
            let plan = |target| Plan {
                mode,
                connections,
                sources,
                ..Plan::new(target)
            };
            stations.push(Station::start(workers, by, cores, plan)?);
        }
        let time = Duration::from_secs_f64(options.seconds);
        for _ in 0..options.rounds {
            let one = stations[0].burst(time)?;
            stations[0].ratios.push(1.0);
            for station in &mut stations[1..] {
                let ratio = station.burst(time)? / one;
                station.ratios.push(ratio);
            }
        }
        println!("{name}");
        println!(
            "  {:<24}{:>12}{:>8}{:>14}   connections of each worker",
            "server", "CPU ns/msg", "ratio", "messages/s"
        );
        for station in &mut stations {
            let [cpu, ratio, rate] = [&station.cpu_ns, &station.ratios, &station.per_second]
                .map(|values| quantile(values, 0.5));
            let (name, share) = (station.name.clone(), station.share()?);
            println!("  {name:<24}{cpu:>12.0}{ratio:>8.2}{rate:>14.0}   {share}");
        }
    }
    Ok(())
}

/// The server's side: serves until the end of its input; a line asks for the share of each worker.
pub(crate) fn serve(options: &ServeOptions) -> Result<()> {
    let spread = match options.by {
        By::Fewest => Spread::Fewest,
        By::ReusePort => Spread::ReusePort,
    };
    let builder = Server::builder().listen("127.0.0.1:0");
    let workers = builder.start_workers(options.workers, spread, |_| Echo)?;
    let mut out = io::stdout().lock();
    writeln!(out, "listening on {}", workers.local_addrs()[0])?;
    out.flush()?;
    for line in io::stdin().lock().lines() {
        line?;
        let loads = workers.per_worker();
        // Those that end at once are counted when they have ended, the others while they are open.
        let open: usize = loads.iter().map(|load| load.open).sum();
        let share: Vec<String> = loads
            .iter()
            .map(|load| match open {
                0 => load.accepted.to_string(),
                _ => load.open.to_string(),
            })
            .collect();
        writeln!(out, "share {}", share.join(" : "))?;
        out.flush()?;
    }
    workers.stop();
    workers.join()?;
    Ok(())
}

impl Station {
    fn start(
        workers: usize,
        by: By,
        cores: Cores,
        plan: impl FnOnce(std::net::SocketAddr) -> Plan,
    ) -> Result<Station> {
        let by = by.to_possible_value().context("every way has a name")?;
        let name = match workers {
            1 => "1 worker".to_owned(),
            n => format!("{n} workers, {}", by.get_name()),
        };
        let argv = [
            std::env::current_exe()?.into(),
            "serve-workers".into(),
            format!("--workers={workers}").into(),
            format!("--by={}", by.get_name()).into(),
        ];
        let server = Child::start(&name, &argv, &[], cores.server, None)?;
        let line = server.line(Duration::from_secs(10))?;
        let addr = line
            .strip_prefix("listening on ")
            .context("not a server")?
            .parse()?;
        let driver = Driver::start(&plan(addr), 1, cores.load)?;
        let mut station = Station {
            name,
            server,
            driver,
            cpu_ns: Vec::new(),
            per_second: Vec::new(),
            ratios: Vec::new(),
        };
        station.driver.run(Until::Messages(10_000))?; // Warms up.
        Ok(station)
    }

    /// CPU time a message, in nanoseconds.
    fn burst(&mut self, time: Duration) -> Result<f64> {
        let before = cpu_time(self.server.pid())?;
        let burst = self.driver.run(Until::Elapsed(time))?;
        let used = cpu_time(self.server.pid())? - before;
        let cpu_ns = used.as_nanos() as f64 / burst.messages as f64;
        self.cpu_ns.push(cpu_ns);
        self.per_second
            .push(burst.messages as f64 / burst.elapsed.as_secs_f64());
        Ok(cpu_ns)
    }

    fn share(&mut self) -> Result<String> {
        self.server.say("share")?;
        let line = self.server.line(Duration::from_secs(10))?;
        Ok(line.strip_prefix("share ").unwrap_or(&line).to_owned())
    }
}
