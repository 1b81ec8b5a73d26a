//! `echoloop proxy`: each client gets a connection of its own to one target.
//!
//! The rule: whatever an operator sets for `serve` is set here with the same options; limits and
//! figures count clients. The work is done by `echoloop_server::Proxy`.

use std::time::Duration;

use clap::Args as ClapArgs;
use echoloop_server::{Addr, ConnectOptions, Proxy, Server, Target};

use crate::exit::{self, Failure};
use crate::restart::Heritage;
use crate::server_args::ServerArgs;
use crate::service::{self, Where, Words};
use crate::values::seconds;

const EXAMPLES: &str = "\
Examples:
  echoloop proxy 127.0.0.1:8080 localhost:80
  echoloop proxy 0.0.0.0:7007 unix:/run/echo.sock --max-connections 1000 --idle-timeout 600
  echoloop proxy unix:/run/front.sock db.example:5432 --unix-mode 660 --json

Signals and ends:
A client that can't be connected is reset; on a Unix socket one that has sent nothing sees an end.
SIGINT, SIGTERM and SIGHUP drain: nobody new is let in, and with --drain-grace those who are there
go on for so long. A second one ends at once. SIGUSR1 writes all that is open to standard error.
SIGUSR2 starts this program anew, with the same arguments, on the same sockets: when the new process
serves, this one drains. If it can't, this one goes on. A socket of a service manager (LISTEN_FDS) is
served in place of LISTEN; it is told READY and STOPPING (NOTIFY_SOCKET).";

/// Carries bytes between clients and a server, over TCP and Unix sockets in any combination.
#[derive(ClapArgs)]
#[command(after_help = exit::long_help(EXAMPLES, "the drain cut somebody who was owed bytes"))]
pub(crate) struct Args {
    /// Where clients come: IP:PORT, unix:PATH or unix:@NAME; port 0 takes any free port.
    #[arg(value_name = "LISTEN")]
    listen: Addr,
    /// Where they are connected to: HOST:PORT, unix:PATH or unix:@NAME. A name is resolved anew for
    /// each client.
    #[arg(value_name = "TARGET")]
    target: Target,
    /// Reset a client whose connection is not made within so many seconds, all addresses together.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "10")]
    connect_timeout: Duration,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let options = ConnectOptions {
        timeout: Some(args.connect_timeout),
        conn: args.server.upstream_options(),
        ..ConnectOptions::default()
    };
    let proxy = Proxy::new(args.target.clone())
        .map_err(|e| Failure::failed(e.to_string()))?
        .connect_options(options);
    let counted = proxy.clone();
    let words = Words {
        counted: "clients",
        hint: |_: &Where| None,
        more: Box::new(move || {
            let counters = counted.counters();
            vec![
                ("connected", counters.connected),
                ("failed", counters.failed),
                ("gave_up", counters.gave_up),
            ]
        }),
    };
    let mut heritage = Heritage::take()?;
    let builder = match heritage.is_empty() {
        true => Server::builder().listen(&args.listen),
        false => heritage.serve(),
    };
    let builder = args.server.apply(builder);
    service::run(builder, heritage, &args.server, words, move |_| {
        proxy.clone()
    })
}
