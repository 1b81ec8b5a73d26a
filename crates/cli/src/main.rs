//! The command line of echoloop.
//!
//! The rule: what went wrong is one line on standard error that says what and what to do; exit
//! code 1, or 2 when the command itself was not understood.

mod serve;
mod stats;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// One non-blocking network event loop, and an echo server to see it at work.
///
/// Set RUST_LOG=debug to be told what the loop does, step by step.
#[derive(Parser)]
#[command(name = "echoloop", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Args),
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let Command::Serve(args) = Cli::parse().command;
    match serve::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("echoloop: {problem}");
            ExitCode::FAILURE
        }
    }
}
