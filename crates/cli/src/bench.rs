//! `echoloop bench`: drives an echo server and tells what it did.

use std::net::SocketAddrV4;
use std::time::Duration;

use clap::Args as ClapArgs;
use echoloop_load::{Error, Load, Plan, Until};

use crate::exit::{self, Failure};

/// Drives an echo server with many connections and measures how it answers.
#[derive(ClapArgs)]
#[command(after_help = exit::CODES)]
pub(crate) struct Args {
    /// The echo server, IP:PORT.
    target: SocketAddrV4,
    /// How many connections are open at a time.
    #[arg(long, value_name = "N", default_value_t = 100)]
    connections: u32,
    /// Compare every byte that comes back with the one that was sent.
    #[arg(long)]
    verify: bool,
    /// For how long messages are sent.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    duration: u64,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let plan = Plan {
        connections: args.connections.max(1) as usize,
        verify: args.verify,
        ..Plan::new(args.target)
    };
    let until = Until::Elapsed(Duration::from_secs(args.duration));
    let report = Load::connect(plan)
        .and_then(|mut load| load.run(until))
        .map_err(|e| match e {
            Error::WrongByte { .. } | Error::TooMany { .. } => Failure::wrong_bytes(e.to_string()),
            e => Failure::failed(e.to_string()),
        })?;
    println!("{} messages in {:?}", report.messages, report.elapsed);
    Ok(())
}
