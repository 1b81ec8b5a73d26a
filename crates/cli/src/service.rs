//! Running a server for an operator: signals, figures, the first screen and the last words.
//!
//! The rule: hooks of a loop only note and hand over what is to be told; a thread of its own prints
//! it. What a signal asks of a loop goes there as a posted word.

use std::collections::HashSet;
use std::sync::Arc;

use echoloop_server::{
    Addr, Error, ErrorKind, Hooks, Remote, Report, ServerBuilder, Spread, Target,
};
use rustix::io::Errno;
use serde_json::json;
use signal_hook::consts::{SIGUSR1, SIGUSR2};

use crate::board::Board;
use crate::console::Console;
use crate::exit::Failure;
use crate::figures::Figures;
use crate::loops::Loops;
use crate::restart::{Exchange, Heritage};
use crate::server_args::ServerArgs;
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

/// Runs a server until it is drained, on one thread or on several; each worker has hooks of its own.
/// Bytes that the drain lost are a failure.
pub(crate) fn run<H: Hooks>(
    builder: ServerBuilder,
    heritage: Heritage,
    args: &ServerArgs,
    words: Words,
    hooks: impl Fn(usize) -> H + Send + Sync + 'static,
) -> Result<(), Failure> {
    raise_descriptor_limit();
    let (console, printer) = Console::start().map_err(|e| Failure::io("start printer", &e))?;
    let workers = args.workers();
    let board = Arc::new(Board::new(workers, &args.figures, console, words));
    let exchange = Arc::new(Exchange::new(workers, args.drain.restart_grace));
    let mut start = Start {
        heritage,
        board: Arc::clone(&board),
        exchange: Arc::clone(&exchange),
    };
    let shared = Arc::clone(&board);
    let watched = move |worker| {
        let (board, exchange) = (Arc::clone(&shared), Arc::clone(&exchange));
        Watched::new(worker, board, exchange, hooks(worker))
    };
    let (totals, report) = match workers {
        1 => alone(builder, &mut start, watched)?,
        n => together(builder, n, args.spread(), &mut start, watched)?,
    };
    let last_words = board.last_words(&totals, &report);
    drop((start, board));
    printer.finish(last_words);
    match report.bytes_lost {
        0 => Ok(()),
        lost => Err(Failure::wrong_bytes(format!(
            "the drain cut {} connections and lost {lost} bytes; give slow readers longer with --drain-deadline",
            report.aborted
        ))),
    }
}

/// On this thread.
fn alone<H: Hooks>(
    builder: ServerBuilder,
    start: &mut Start,
    hooks: impl Fn(usize) -> H,
) -> Result<(Figures, Report), Failure> {
    let mut server = builder.build().map_err(|e| not_started(&e))?;
    let place = Where {
        streams: server.local_addrs(),
        udps: server.udp_addrs(),
    };
    start.serving(vec![server.remote()], &place)?;
    let report = server.run(&mut hooks(0)).map_err(failed)?;
    let totals = Figures {
        open: 0,
        loops: *server.event_loop().counters(),
        server: server.counters(),
    };
    Ok((totals, report))
}

/// On so many threads.
fn together<H: Hooks>(
    builder: ServerBuilder,
    n: usize,
    spread: Spread,
    start: &mut Start,
    hooks: impl Fn(usize) -> H + Send + Sync + 'static,
) -> Result<(Figures, Report), Failure> {
    let workers = builder.start_workers(n, spread, hooks);
    let workers = workers.map_err(|e| not_started(&e))?;
    let place = Where {
        streams: workers.local_addrs().to_vec(),
        udps: workers.udp_addrs().to_vec(),
    };
    let remotes = (0..n).filter_map(|worker| workers.remote(worker).cloned());
    start.serving(remotes.collect(), &place)?;
    let report = workers.join().map_err(failed)?;
    let totals = Figures {
        open: 0,
        loops: workers.loop_counters(),
        server: workers.counters(),
    };
    Ok((totals, report))
}

/// Whom to tell that a server has started.
struct Start {
    heritage: Heritage,
    board: Arc<Board>,
    exchange: Arc<Exchange>,
}

impl Start {
    fn serving(&mut self, loops: Vec<Remote>, place: &Where) -> Result<(), Failure> {
        let loops = Loops::new(loops, Arc::clone(&self.exchange));
        signals::take(loops, &[SIGUSR1, SIGUSR2])?;
        greet(place, &self.board);
        self.heritage.serving();
        Ok(())
    }
}

fn greet(place: &Where, board: &Board) {
    let streams = place.streams.iter().map(|addr| match addr {
        Addr::Ip(_) => ("tcp", addr),
        Addr::Unix(_) => ("unix", addr),
    });
    let mut told = HashSet::new();
    let mut lines = Vec::new();
    for each in streams.chain(place.udps.iter().map(|addr| ("udp", addr))) {
        // After a restart there is one of each worker's sockets.
        if !told.insert(each) {
            continue;
        }
        let (transport, addr) = each;
        log::debug!("starting up on {addr}");
        lines.push(match (board.json, transport) {
            (true, _) => {
                let address = addr.to_string();
                json!({"event": "listening", "transport": transport, "address": address})
                    .to_string()
            }
            (false, "udp") => format!("listening on udp {addr}"),
            (false, _) => format!("listening on {addr}"),
        });
    }
    if !board.json
        && let Some(hint) = (board.words.hint)(place)
    {
        lines.push(format!("try:  {hint}"));
        lines.push(
            "      Ctrl-C drains and prints the totals; RUST_LOG=debug tells what happens"
                .to_owned(),
        );
    }
    board.console.line(lines.join("\n"));
}

fn not_started(e: &Error) -> Failure {
    Failure::failed(format!("{e}{}", advice(e)))
}

fn failed(e: Error) -> Failure {
    Failure::failed(e.to_string())
}

/// What to do about an error of the start.
fn advice(e: &Error) -> &'static str {
    let ErrorKind::Os(errno) = e.kind() else {
        return "";
    };
    let unix = matches!(e.target(), Some(Target::Addr(Addr::Unix(_))));
    match Errno::from_raw_os_error(errno) {
        Errno::ADDRINUSE if unix => "; a server listens there, choose another path",
        Errno::ADDRINUSE => "; choose another port, or port 0 for any that is free",
        Errno::ACCESS if unix => "; choose a folder that you may write to",
        Errno::NOENT | Errno::NOTDIR if unix => "; its folder must be there",
        Errno::NOTSOCK if unix => "; something else than a socket is there, choose another path",
        Errno::NAMETOOLONG => "; choose a path of at most 107 bytes",
        Errno::ACCESS => "; ports below 1024 need privileges, choose a higher one",
        Errno::ADDRNOTAVAIL => "; this machine has no such address, choose one of its own",
        Errno::AFNOSUPPORT => "; this machine has no such protocol, choose an IPv4 address",
        _ => "",
    }
}

/// A process may start with a low soft limit (1,024 is common) for the sake of select(2), which
/// nobody here uses.
pub(crate) fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    // Not rustix's, which takes it that getrlimit(2) can't fail, and sets what lay on the stack.
    let nofile = Resource::RLIMIT_NOFILE;
    if let Err(e) = getrlimit(nofile).and_then(|(_, hard)| setrlimit(nofile, hard, hard)) {
        log::warn!("the limit of descriptors stays as it is: {e}");
    }
    grow_descriptor_table();
}

/// The kernel doubles a process's table of descriptors whenever it is full, and one with several
/// threads then waits until all processors have passed a quiet state: 10 ms and more, in which nobody
/// is served, five times in the first seconds of a rush. So it is made large before anybody comes, by
/// a descriptor with a high number.
fn grow_descriptor_table() {
    use nix::sys::resource::{Resource, getrlimit};
    const MOST: u64 = 1 << 16;
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft.min(MOST));
    if let Some(highest) = limit.checked_sub(1).and_then(|n| i32::try_from(n).ok()) {
        // Without it all goes on as before, with the pauses.
        let _ = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), highest);
    }
}
