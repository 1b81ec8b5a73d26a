//! The side-by-side benchmark: builds every server there is, runs them interleaved with the floor,
//! each on a core of its own, and prints what a message costs.
//!
//! The rule: every figure is a ratio to the floor of the same minute, from the server's own CPU time;
//! wall time on a shared machine is noise. What can't be built or run is skipped with a word.
//!
//! Hidden subcommands are this program's own children: `exec` pins a process before it becomes
//! another program, `drive` is the load generator, `crowd` are clients of all manners, `serve-workers`
//! is a server of workers.

mod bad_clients;
mod child;
mod counts;
mod crowd;
mod drive;
mod idle;
mod output;
mod process;
mod progress;
mod resp;
mod rounds;
mod servers;
mod soak;
mod timers;
mod workers;
mod workload;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use output::Results;
use servers::{Kit, Program, Row};
use workload::Workload;

/// Measures echoloop beside a hand-written epoll loop, libuv and asyncio.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunOptions,
}

#[derive(Debug, clap::Args)]
struct RunOptions {
    /// Only these servers (the floor is always measured)
    #[arg(long, value_name = "NAME", num_args = 1..)]
    only: Vec<Row>,
    /// Only these workloads
    #[arg(long, value_name = "NAME", num_args = 1..)]
    workload: Vec<Workload>,
    /// Rounds of paired bursts; 0 measures no times
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Seconds of a burst
    #[arg(long, value_parser = seconds, default_value = "0.5")]
    seconds: f64,
    /// Three rounds of a quarter of a second
    #[arg(long)]
    quick: bool,
    /// User-space instructions per message, by valgrind --tool=callgrind
    #[arg(long)]
    instructions: bool,
    /// System calls per message, by strace -c -f
    #[arg(long)]
    syscalls: bool,
    /// How many idle connections to open
    #[arg(long, value_name = "N", default_value_t = 15_000)]
    idle: usize,
    /// Opens and closes the idle connections ten times, to see whether memory grows
    #[arg(long)]
    growth: bool,
    /// Prints JSON instead of tables
    #[arg(long)]
    json: bool,
    /// The checkout whose servers are built [default: the one this program was built from]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Measures arming, moving and cancelling timers, up to a million of them, beside a sorted map
    Timers(timers::TimersOptions),
    /// Measures a server of two workers beside one of one: CPU time a message, and the balance
    Workers(workers::WorkersOptions),
    /// Is a server of workers
    #[command(hide = true)]
    ServeWorkers(workers::ServeOptions),
    /// Measures 100 good clients beside 15,000 bad ones, and whether the bad ones are gone on schedule
    BadClients(bad_clients::BadOptions),
    /// Measures the RESP server of the C examples beside redis-server, by redis-benchmark
    Resp(resp::RespOptions),
    /// Serves mixed churn for a long time, and says whether memory and descriptors stay flat
    Soak(soak::SoakOptions),
    /// Pins itself and becomes another program
    #[command(hide = true)]
    Exec {
        #[arg(long)]
        core: Option<usize>,
        #[arg(long)]
        parent: i32,
        #[arg(last = true, required = true)]
        program: Vec<OsString>,
    },
    /// Is a crowd of clients
    #[command(hide = true)]
    Crowd,
    /// Is the load generator
    #[command(hide = true)]
    Drive(drive::DriveOptions),
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(s) if (0.01..=3600.0).contains(&s) => Ok(s),
        _ => Err("a number of seconds from 0.01 to 3600".into()),
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match options.command {
        Some(Command::Exec {
            core,
            parent,
            program,
        }) => child::become_program(core, parent, &program),
        Some(Command::Drive(options)) => drive::serve_commands(&options),
        Some(Command::Crowd) => crowd::serve_commands(),
        Some(Command::BadClients(options)) => bad_clients::measure(&options),
        Some(Command::Resp(options)) => resp::measure(&options),
        Some(Command::Soak(options)) => soak::run(&options),
        Some(Command::Timers(options)) => timers::measure(&options),
        Some(Command::Workers(options)) => workers::measure(&options),
        Some(Command::ServeWorkers(options)) => workers::serve(&options),
        None => benchmark(options.run),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echoloop-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn benchmark(mut options: RunOptions) -> anyhow::Result<()> {
    if options.quick {
        (options.rounds, options.seconds) = (3, 0.25);
    }
    let workloads: Vec<Workload> = Workload::ALL
        .into_iter()
        .filter(|w| options.workload.is_empty() || options.workload.contains(w))
        .collect();

    let only = options.only.clone();
    let takes_part = |row: Row, workload: Workload| {
        let named = only.contains(&row) || only.is_empty() && workload.takes(row);
        row == Row::Floor || named
    };
    let wanted = |row: &Row| workloads.iter().any(|w| takes_part(*row, *w));

    let cores = process::Cores::choose()?;
    let mut progress = progress::Progress::new();
    if cores.server.is_none() {
        progress.note("only one core: server and load share it, times mean little");
    }
    let kit = Kit::new(options.root.take())?;
    let mut results = Results::new(cores);
    let mut servers = Vec::new();
    for row in Row::ALL.into_iter().filter(wanted) {
        progress.show(&format!("building {}", row.name()));
        match kit.build(row) {
            Ok(program) => servers.push(program),
            Err(why) => {
                progress.note(&format!("{}: skipped, {why:#}", row.name()));
                results.skipped.push((row, format!("{why:#}")));
            }
        }
    }

    let taking_part = |workload: Workload| -> Vec<Program> {
        let part = servers.iter().filter(|p| takes_part(p.row, workload));
        part.cloned().collect()
    };
    if workloads.contains(&Workload::Idle) {
        let rounds = if options.growth { 10 } else { 1 };
        let servers = taking_part(Workload::Idle);
        results.idle = idle::measure(&servers, cores, options.idle, rounds, &mut progress);
    }
    for workload in workloads.into_iter().filter(|w| *w != Workload::Idle) {
        let servers = taking_part(workload);
        let mut lines = rounds::measure(&servers, cores, workload, &options, &mut progress)?;
        counts::measure(
            &mut lines,
            &servers,
            cores,
            workload,
            &options,
            &mut progress,
        );
        progress.clear();
        if !options.json {
            print!("{}", output::table(workload, &lines, &results));
        }
        results.workloads.push((workload, lines));
    }
    progress.clear();
    if options.json {
        println!("{}", output::json(&results));
    } else {
        print!("{}", output::idle_table(&results));
    }
    Ok(())
}
