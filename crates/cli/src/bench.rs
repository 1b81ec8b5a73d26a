//! `echoloop bench`: drives an echo server and tells what it did.
//!
//! The rule: what was measured is told however the run ended, by Ctrl-C and by failures too, and the
//! run always ends: who does not answer is given up. The load itself is `echoloop_load`.

mod advice;
mod histogram;
mod progress;
mod tell;
mod whom;

use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args as ClapArgs;
use echoloop_load::{Failed, Load, Mode, Plan, Report, Until, cpu_time, own_cpu_time};
use echoloop_server::Target;

use crate::exit::{self, Failure};
use crate::service::raise_descriptor_limit;
use crate::signals;
use crate::values::{seconds, size};

use progress::Bar;

const EXAMPLES: &str = "\
Examples:
  echoloop bench 127.0.0.1:7007
  echoloop bench localhost:7007 --connections 50 --size 1024 --depth 16 --verify
  echoloop bench unix:/run/echo.sock --churn --duration 5 --json";

/// Drives an echo server with many connections and measures how it answers.
///
/// Ctrl-C ends early and prints what was measured.
#[derive(ClapArgs)]
#[command(after_help = exit::long_help(EXAMPLES, "bytes came back wrong, or datagrams were lost"))]
pub(crate) struct Args {
    /// The echo server: HOST:PORT, or unix:PATH, or unix:@NAME.
    #[arg(value_name = "TARGET")]
    target: Target,
    /// Send datagrams; one that is not back within a second is lost.
    #[arg(long, conflicts_with = "churn")]
    udp: bool,
    /// How many connections are open at a time.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
    /// How long a message is, at most 1G. Units: k, M, G.
    #[arg(long, value_name = "BYTES", default_value = "64", value_parser = size)]
    size: u32,
    /// How many messages are in flight on each connection.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    depth: u32,
    /// For how long messages are sent.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds, conflicts_with = "messages")]
    duration: Duration,
    /// How many messages are sent, instead of for how long.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    messages: Option<u64>,
    /// Send for so long before anything is measured.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    warmup: Option<Duration>,
    /// Open a connection for each message, and close it.
    #[arg(long, conflicts_with = "depth")]
    churn: bool,
    /// Compare every byte that comes back with the one that was sent.
    #[arg(long)]
    verify: bool,
    /// Go on with the other connections when some fail; the exit code still tells.
    #[arg(long)]
    keep_going: bool,
    /// Connect from so many addresses, 127.0.0.2 and up, each with its own 28,000 ports.
    #[arg(long, value_name = "N", default_value_t = 0)]
    sources: u32,
    /// Give up connections when nothing comes back for so long.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    patience: Duration,
    /// The server's process, on this machine: tell its CPU time for a message too.
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Print one JSON object: latencies in nanoseconds, the rows of the histogram, failures.
    #[arg(long)]
    json: bool,
}

/// What there is to tell.
struct Measured<'a> {
    args: &'a Args,
    plan: &'a Plan,
    report: Report,
    own_cpu: Duration,
    server_cpu: Option<Duration>,
    /// Ended by Ctrl-C.
    early: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    raise_descriptor_limit();
    let plan = plan(args)?;
    let stop = Arc::<AtomicBool>::default();
    signals::take(Stop(Arc::clone(&stop)), &[])?;
    let server_cpu = || args.pid.map(cpu_time).transpose();
    server_cpu().map_err(|e| {
        let pid = args.pid.unwrap_or_default();
        Failure::failed(format!("process {pid} can't be watched: {e}; see --pid"))
    })?;

    let outcome = warmed_up(args, &plan, &stop);
    let before = (own_cpu_time(), server_cpu());
    let outcome = outcome.and_then(|mut load| {
        let until = match args.messages {
            Some(messages) => Until::Messages(messages),
            None => Until::Elapsed(args.duration),
        };
        if stop.load(Ordering::Relaxed) {
            return Ok(Report::default()); // A load whose warm-up was ended is of no further use.
        }
        drive(&mut load, "", until, &stop)
    });
    let own_cpu = own_cpu_time() - before.0;
    let server_cpu = match (before.1, server_cpu()) {
        (Ok(Some(before)), Ok(Some(after))) => after.checked_sub(before),
        _ => None,
    };

    let (report, error) = match outcome {
        Ok(report) => (report, None),
        Err(failed) => (*failed.report, Some(failed.error)),
    };
    let failure = advice::failure(&plan, &report, error.as_ref());
    let measured = Measured {
        args,
        plan: &plan,
        report,
        own_cpu,
        server_cpu,
        early: stop.load(Ordering::Relaxed),
    };
    let told = if args.json {
        tell::json(&measured, failure.as_ref())
    } else if measured.report.messages > 0 || failure.is_none() {
        tell::text(&measured)
    } else {
        String::new()
    };
    let mut out = std::io::stdout();
    let printed = out.write_all(told.as_bytes()).and_then(|()| out.flush());
    failure.map_or_else(|| exit::printed(printed), Err)
}

fn plan(args: &Args) -> Result<Plan, Failure> {
    let plan = Plan {
        mode: if args.churn {
            Mode::Churn
        } else {
            Mode::Steady
        },
        connections: args.connections as usize,
        size: args.size as usize,
        depth: args.depth as usize,
        verify: args.verify,
        sources: args.sources,
        patience: args.patience,
        keep_going: args.keep_going,
        ..Plan::new(whom::find(&args.target, args.udp)?)
    };
    plan.check()
        .map_err(|e| Failure::not_understood(format!("{e}; see --help")))?;
    Ok(plan)
}

/// Connects, and sends what is not measured.
fn warmed_up(args: &Args, plan: &Plan, stop: &AtomicBool) -> Result<Load, Failed> {
    let mut load = Load::connect(plan.clone()).map_err(|error| Failed {
        error,
        report: Box::default(),
    })?;
    if let Some(time) = args.warmup {
        drive(&mut load, "warming up: ", Until::Elapsed(time), stop)?;
    }
    Ok(load)
}

fn drive(load: &mut Load, what: &str, until: Until, stop: &AtomicBool) -> Result<Report, Failed> {
    let bar = Bar::new(what, until);
    let report = load.run_watched(until, |progress| {
        bar.show(progress);
        if stop.load(Ordering::Relaxed) {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    bar.clear();
    report
}

/// The first signal ends the run early.
struct Stop(Arc<AtomicBool>);

impl signals::Target for Stop {
    fn end(&self) -> bool {
        self.0.store(true, Ordering::Relaxed);
        true
    }
}
