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
mod pages;
mod proxy;
mod restart;
mod serve;
mod server_args;
mod service;
mod signals;
mod stderr;
mod units;
mod values;
mod watched;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::console::complain;
use crate::stderr::Stderr;

const EXAMPLES: &str = "\
Examples:
  echoloop serve --tcp 127.0.0.1:7007
  echoloop connect localhost:7007
  echoloop bench localhost:7007 --duration 3
  echoloop help serve";

/// One non-blocking network event loop, and an echo server to see it at work.
///
/// Set RUST_LOG=debug to be told what the loop does, step by step.
#[derive(Parser)]
#[command(name = "echoloop", version, after_help = exit::long_help(EXAMPLES, "bytes came back wrong, or were lost"))]
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
    Completions(pages::Completions),
    Man(pages::Pages),
}

fn main() -> ExitCode {
    let mut log =
        env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn"));
    if !std::io::stderr().is_terminal() {
        // A terminal gets colours, for which env_logger has to write to it itself.
        log.target(env_logger::Target::Pipe(Box::new(Stderr)));
    }
    log.init();
    let outcome = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Proxy(args) => proxy::run(&args),
        Command::Connect(args) => connect::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Completions(args) => pages::completions(&args, Cli::command()),
        Command::Man(args) => pages::man(&args, Cli::command()),
    };
    let Err(failure) = outcome else {
        return ExitCode::SUCCESS;
    };
    complain!("echoloop: {failure}");
    failure.code()
}
