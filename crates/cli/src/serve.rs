//! `echoloop serve`: the echo server, on a sensible default.
//!
//! The rule: what an address is, is said by its option, and every one that was asked for is told on
//! the first screen. How it is run for an operator is in `service`.

use std::net::SocketAddr;

use clap::Args as ClapArgs;
use echoloop_server::{Addr, Echo, Error, Server, ServerBuilder, UnixAddr};

use crate::exit::{self, Failure};
use crate::restart::Heritage;
use crate::server_args::ServerArgs;
use crate::service::{self, Where, Words};

const DEFAULT: &str = "127.0.0.1:7007";

const EXAMPLES: &str = "\
Examples:
  echoloop serve
  echoloop serve --tcp 0.0.0.0:7 --udp 0.0.0.0:7 --max-connections 10000 --idle-timeout 60
  echoloop serve --unix /run/echo.sock --unix-mode 660 --workers 2 --stats 10 --json

Signals:
SIGINT, SIGTERM and SIGHUP drain: nobody new is let in, those who are there get all their bytes.
A second one ends at once. SIGUSR1 writes all that is open to standard error.
SIGUSR2 starts this program anew, with the same arguments, on the same sockets: when the new process
serves, this one drains. If it can't, this one goes on. Sockets of a service manager (LISTEN_FDS) are
served in place of the addresses; it is told READY and STOPPING (NOTIFY_SOCKET).";

/// Runs an echo server (RFC 862): what a client sends comes back to it.
#[derive(ClapArgs)]
#[command(after_help = exit::long_help(EXAMPLES, "the drain cut somebody who was owed bytes"))]
pub(crate) struct Args {
    /// Listen on TCP, such as 127.0.0.1:7007 or [::1]:7007; port 0 takes any free port. May be
    /// given several times. [default, where no address is given: 127.0.0.1:7007]
    #[arg(long, value_name = "ADDR", value_parser = ip, visible_alias = "listen")]
    tcp: Vec<SocketAddr>,
    /// Answer datagrams on UDP, likewise.
    #[arg(long, value_name = "ADDR", value_parser = ip)]
    udp: Vec<SocketAddr>,
    /// Listen on a Unix socket: a path, or @NAME for an abstract one (unix(7)), likewise.
    #[arg(long, value_name = "PATH", value_parser = unix)]
    unix: Vec<Addr>,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut heritage = Heritage::take()?;
    let builder = match heritage.is_empty() {
        true => addresses(args),
        false => heritage.serve(),
    };
    let builder = args.server.apply(builder);
    let words = Words {
        counted: "connections",
        hint,
        more: Box::new(Vec::new),
    };
    service::run(builder, heritage, &args.server, words, |_| Echo)
}

fn addresses(args: &Args) -> ServerBuilder {
    let mut builder = Server::builder();
    for addr in &args.tcp {
        builder = builder.listen(*addr);
    }
    for addr in &args.unix {
        builder = builder.listen(addr);
    }
    for addr in &args.udp {
        builder = builder.bind_udp(*addr);
    }
    if args.tcp.is_empty() && args.unix.is_empty() && args.udp.is_empty() {
        builder = builder.listen(DEFAULT);
    }
    builder
}

fn ip(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| match text.strip_prefix("unix:") {
        Some(path) => format!("write --unix {path}"),
        None => format!("write IP:PORT, such as {DEFAULT} or [::1]:7007"),
    })
}

fn unix(path: &str) -> Result<Addr, String> {
    let path = path.strip_prefix("unix:").unwrap_or(path);
    let addr = format!("unix:{path}").parse();
    addr.map_err(|e: Error| e.kind().to_string())
}

/// A command that talks to the server.
fn hint(place: &Where) -> Option<String> {
    let unix = place.streams.iter().find_map(Addr::unix);
    if let Some(addr) = place.streams.iter().find_map(Addr::ip) {
        Some(format!(
            "printf hello | nc -N {} {}",
            addr.ip(),
            addr.port()
        ))
    } else if let Some(path) = unix.and_then(UnixAddr::as_path) {
        Some(format!("printf hello | nc -N -U {}", path.display()))
    } else if let Some(addr) = place.udps.iter().find_map(Addr::ip) {
        let (ip, port) = (addr.ip(), addr.port());
        Some(format!("printf hello | nc -u -w 1 {ip} {port}"))
    } else {
        unix.map(|addr| {
            format!(
                "printf hello | socat - ABSTRACT-CONNECT:{}",
                abstract_name(addr)
            )
        })
    }
}

fn abstract_name(addr: &UnixAddr) -> String {
    let name = addr.as_abstract_name().unwrap_or_default();
    name.escape_ascii().to_string()
}
