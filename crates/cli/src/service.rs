//! Running a server for an operator: signals, figures, the first screen and the last words.
//!
//! The rule: hooks of a loop only note and hand over what is to be told; a thread of its own prints
//! it. What a signal asks of a loop goes there as a posted word.

use std::sync::Arc;

use echoloop_server::{Addr, Error, ErrorKind, Hooks, ServerBuilder};
use rustix::io::Errno;
use serde_json::json;

use crate::board::Board;
use crate::console::{Console, say};
use crate::exit::Failure;
use crate::figures::Figures;
use crate::loops::Loops;
use crate::restart::{Exchange, Heritage};
use crate::server_args::{FiguresArgs, ServerArgs};
use crate::signals;
use crate::watched::Watched;

/// What a subcommand says in its own words.
pub(crate) struct Words {
    /// What is counted: "connections" or "clients".
    pub(crate) counted: &'static str,
    /// What to do at the start, for a person; told after the addresses.
    pub(crate) hint: fn(&Where) -> Option<String>,
    /// What is counted beside the figures of every server.
    pub(crate) more: More,
}

/// Names and numbers.
pub(crate) type More = Box<dyn Fn() -> Vec<(&'static str, u64)> + Send + Sync>;

/// Where a server can be reached.
pub(crate) struct Where {
    pub(crate) streams: Vec<Addr>,
    pub(crate) udps: Vec<Addr>,
}

/// Runs a server until it is drained. Bytes that the drain lost are a failure.
pub(crate) fn run<H: Hooks>(
    builder: ServerBuilder,
    mut heritage: Heritage,
    args: &ServerArgs,
    words: Words,
    hooks: H,
) -> Result<(), Failure> {
    raise_descriptor_limit();
    let mut server = builder
        .build()
        .map_err(|e| Failure::failed(format!("{e}{}", advice(&e))))?;
    let exchange = Arc::new(Exchange::new(args.drain.restart_grace));
    signals::take(Loops::new([server.remote()], Arc::clone(&exchange)))?;
    let place = Where {
        streams: server.local_addrs(),
        udps: server.udp_addrs(),
    };
    greet(&place, &args.figures, &words);
    heritage.serving();
    let no_thread = |e| Failure::failed(format!("a thread to print can't be started: {e}"));
    let (console, printer) = Console::start().map_err(no_thread)?;
    let board = Arc::new(Board::new(1, &args.figures, console, words));
    let mut watched = Watched::new(0, Arc::clone(&board), exchange, hooks);
    let report = server
        .run(&mut watched)
        .map_err(|e| Failure::failed(e.to_string()))?;
    let totals = Figures {
        open: 0,
        loops: *server.event_loop().counters(),
        server: server.counters(),
    };
    let last_words = board.last_words(&totals, &report);
    drop((watched, board));
    printer.finish();
    say!("{last_words}");
    match report.bytes_lost {
        0 => Ok(()),
        lost => Err(Failure::wrong_bytes(format!(
            "the drain cut {} connections and lost {lost} bytes; give slow readers longer with --drain-deadline",
            report.aborted
        ))),
    }
}

fn greet(place: &Where, args: &FiguresArgs, words: &Words) {
    let streams = place.streams.iter().map(|addr| match addr {
        Addr::Ip(_) => ("tcp", addr),
        Addr::Unix(_) => ("unix", addr),
    });
    for (transport, addr) in streams.chain(place.udps.iter().map(|addr| ("udp", addr))) {
        log::debug!("starting up on {addr}");
        match (args.json, transport) {
            (true, _) => {
                let address = addr.to_string();
                say!(
                    "{}",
                    json!({"event": "listening", "transport": transport, "address": address})
                );
            }
            (false, "udp") => say!("listening on udp {addr}"),
            (false, _) => say!("listening on {addr}"),
        }
    }
    if args.json {
        return;
    }
    if let Some(hint) = (words.hint)(place) {
        say!("try:  {hint}");
        say!("      Ctrl-C drains and prints the totals; RUST_LOG=debug tells what happens");
    }
}

/// What to do about an error of the start.
fn advice(e: &Error) -> &'static str {
    let ErrorKind::Os(errno) = e.kind() else {
        return "";
    };
    let unix = e
        .target()
        .is_some_and(|t| t.to_string().starts_with("unix:"));
    match Errno::from_raw_os_error(errno) {
        Errno::ADDRINUSE if unix => "; a server listens there, choose another path",
        Errno::ADDRINUSE => "; choose another port with --listen, or port 0 for any that is free",
        Errno::ACCESS if unix => "; choose a folder that you may write to",
        Errno::ACCESS => "; ports below 1024 need privileges, choose a higher one with --listen",
        Errno::ADDRNOTAVAIL => {
            "; this machine has no such address, choose one of its own with --listen"
        }
        Errno::AFNOSUPPORT => {
            "; this machine has no such protocol, choose an IPv4 address with --listen"
        }
        _ => "",
    }
}

/// A process may start with a low soft limit (1,024 is common) for the sake of select(2), which
/// nobody here uses.
pub(crate) fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(e) = setrlimit(Resource::Nofile, limit) {
        log::warn!("the limit of descriptors stays as it is: {e}");
    }
}
