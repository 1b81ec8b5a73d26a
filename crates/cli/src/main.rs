//! The command line of echoloop: one subcommand a file.
//!
//! The rule: what went wrong is one line on standard error that says what and what to do, and the
//! exit code is one of those in `exit`.

mod bench;
mod board;
mod connect;
mod console;
mod exit;
mod figures;
mod loops;
mod proxy;
mod restart;
mod serve;
mod server_args;
mod service;
mod signals;
mod units;
mod values;
mod watched;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// One non-blocking network event loop, and an echo server to see it at work.
///
/// Set RUST_LOG=debug to be told what the loop does, step by step.
#[derive(Parser)]
#[command(name = "echoloop", version, after_help = exit::CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Args),
    Proxy(proxy::Args),
    Connect(connect::Args),
    Bench(bench::Args),
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let outcome = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Proxy(args) => proxy::run(&args),
        Command::Connect(args) => connect::run(&args),
        Command::Bench(args) => bench::run(&args),
    };
    let Err(failure) = outcome else {
        return ExitCode::SUCCESS;
    };
    // A closed standard error is no reason to end in another way.
    let _ = writeln!(std::io::stderr(), "echoloop: {failure}");
    failure.code()
}
