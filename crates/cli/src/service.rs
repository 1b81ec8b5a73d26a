//! Running a server for an operator: signals, figures, the first screen and the last words.
//!
//! The rule: hooks of a loop only note and hand over what is to be told; a thread of its own prints
//! it. What a signal asks of a loop goes there as a posted word.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use echoloop_server::{
    Addr, CloseReason, ConnId, Context, Counters, Error, ErrorKind, Event, Hooks, ListenerId,
    Refusal, Remote, Report, Seldom, ServerBuilder, TimerId, UdpId,
};
use rustix::io::Errno;
use serde_json::json;

use crate::console::{Console, complain, say};
use crate::exit::Failure;
use crate::figures::{Figures, drained};
use crate::server_args::FiguresArgs;
use crate::signals;

/// The word that asks a loop for its dump.
const DUMP: u64 = 1;

/// What a subcommand says in its own words.
pub(crate) struct Words<'a> {
    /// What is counted: "connections" or "clients".
    pub(crate) counted: &'a str,
    /// What to do at the start, for a person; told after the addresses.
    pub(crate) hint: fn(&Where) -> Option<String>,
}

/// Where a server can be reached.
pub(crate) struct Where {
    pub(crate) streams: Vec<Addr>,
    pub(crate) udps: Vec<Addr>,
}

/// Runs a server until it is drained. Bytes that the drain lost are a failure.
pub(crate) fn run<H: Hooks>(
    builder: ServerBuilder,
    args: &FiguresArgs,
    words: &Words<'_>,
    hooks: H,
) -> Result<(), Failure> {
    raise_descriptor_limit();
    let mut server = builder
        .build()
        .map_err(|e| Failure::failed(format!("{e}{}", advice(&e))))?;
    signals::take(Loops(vec![server.remote()]))?;
    let place = Where {
        streams: server.local_addrs(),
        udps: server.udp_addrs(),
    };
    greet(&place, args, words);
    let no_thread = |e| Failure::failed(format!("a thread to print can't be started: {e}"));
    let (console, printer) = Console::start().map_err(no_thread)?;
    let board = Arc::new(Board::new(1, args, console));
    let mut watched = Watched::new(0, Arc::clone(&board), hooks);
    let report = server
        .run(&mut watched)
        .map_err(|e| Failure::failed(e.to_string()))?;
    drop((watched, board));
    printer.finish();
    let totals = Figures {
        open: 0,
        loops: *server.event_loop().counters(),
        server: server.counters(),
    };
    print_totals(&totals, &report, args, words);
    match report.bytes_lost {
        0 => Ok(()),
        lost => Err(Failure::wrong_bytes(format!(
            "the drain cut {} connections and lost {lost} bytes; give slow readers longer with --drain-deadline",
            report.aborted
        ))),
    }
}

fn greet(place: &Where, args: &FiguresArgs, words: &Words<'_>) {
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

fn print_totals(totals: &Figures, report: &Report, args: &FiguresArgs, words: &Words<'_>) {
    if !args.json {
        say!("{}", totals.totals(words.counted, report));
        return;
    }
    let mut object = drained(report);
    object["most_open"] = json!(totals.server.most_open);
    totals.add_to(&mut object);
    say!("{object}");
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

/// The loops that serve, for signals.
struct Loops(Vec<Remote>);

impl signals::Target for Loops {
    fn drain(&self) -> bool {
        let stopped: Vec<_> = self.0.iter().map(Remote::stop).collect();
        stopped.iter().any(Result::is_ok)
    }

    fn dump(&self) {
        for (worker, remote) in self.0.iter().enumerate() {
            if let Err(e) = remote.post(DUMP) {
                complain!("echoloop: worker {worker} can't be asked for its dump: {e}");
            }
        }
    }
}

/// Where each worker writes down its figures, and one of them prints the sum.
struct Board {
    console: Console,
    json: bool,
    stats: bool,
    workers: Vec<Mutex<Figures>>,
}

impl Board {
    fn new(workers: usize, args: &FiguresArgs, console: Console) -> Self {
        Self {
            console,
            json: args.json,
            stats: args.stats.is_some(),
            workers: (0..workers).map(|_| Mutex::default()).collect(),
        }
    }

    fn note(&self, worker: usize, figures: Figures) {
        if let Some(place) = self.workers.get(worker) {
            *place.lock().unwrap_or_else(PoisonError::into_inner) = figures;
        }
    }

    fn sum(&self) -> Figures {
        let mut sum = Figures::default();
        for place in &self.workers {
            sum += *place.lock().unwrap_or_else(PoisonError::into_inner);
        }
        sum
    }
}

/// Any hooks, with figures. What they do is left to them.
struct Watched<H> {
    inner: H,
    worker: usize,
    board: Arc<Board>,
    own: Figures,
    last: Counters,
    last_at: Duration,
    errors_told: Seldom,
}

impl<H> Watched<H> {
    fn new(worker: usize, board: Arc<Board>, inner: H) -> Self {
        Self {
            inner,
            worker,
            board,
            own: Figures::default(),
            last: Counters::default(),
            last_at: Duration::ZERO,
            errors_told: Seldom::default(),
        }
    }

    fn print(&mut self, now: Duration) {
        let sum = self.board.sum();
        if self.board.json {
            let mut object = json!({
                "event": "stats",
                "seconds": now.as_secs_f64(),
                "open": sum.open,
            });
            sum.add_to(&mut object);
            self.board.console.line(object.to_string());
        } else {
            let line = sum.line(&self.last, now.saturating_sub(self.last_at));
            self.board.console.live(line);
        }
        self.last = sum.loops;
        self.last_at = now;
    }
}

impl<H: Hooks> Hooks for Watched<H> {
    fn on_open(&mut self, cx: &mut Context<'_>, conn: ConnId, listener: Option<ListenerId>) {
        self.inner.on_open(cx, conn, listener);
    }

    #[inline(always)]
    fn on_data(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        self.inner.on_data(cx, conn);
    }

    fn on_congested(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        self.inner.on_congested(cx, conn);
    }

    fn on_drained(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        self.inner.on_drained(cx, conn);
    }

    fn on_end_of_stream(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        self.inner.on_end_of_stream(cx, conn);
    }

    fn on_close(&mut self, cx: &mut Context<'_>, conn: ConnId, reason: CloseReason, unsent: u64) {
        self.own.server.bytes_lost += unsent;
        self.own.server.timed_out += u64::from(matches!(reason, CloseReason::TimedOut(_)));
        self.inner.on_close(cx, conn, reason, unsent);
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, timer: TimerId) {
        self.inner.on_timer(cx, timer);
    }

    fn on_post(&mut self, cx: &mut Context<'_>, word: u64) {
        match word {
            DUMP => self
                .board
                .console
                .aside(format!("worker {}:\n{}", self.worker, cx.dump())),
            word => self.inner.on_post(cx, word),
        }
    }

    fn on_tick(&mut self, cx: &mut Context<'_>) {
        self.inner.on_tick(cx);
        if !self.board.stats {
            return;
        }
        self.own.open = cx.connection_count() as u64;
        self.own.loops = *cx.counters();
        self.board.note(self.worker, self.own);
        if self.worker == 0 {
            self.print(cx.now());
        }
    }

    fn on_refused(&mut self, cx: &mut Context<'_>, conn: ConnId, why: Refusal) {
        self.own.refused(why);
        self.inner.on_refused(cx, conn, why);
    }

    fn on_datagrams(&mut self, cx: &mut Context<'_>, udp: UdpId) {
        self.inner.on_datagrams(cx, udp);
    }

    fn on_error(&mut self, cx: &mut Context<'_>, error: Error) {
        if self.errors_told.tell(cx.now()).is_some() {
            self.inner.on_error(cx, error);
        }
    }

    fn on_event(&mut self, cx: &mut Context<'_>, event: Event) {
        self.inner.on_event(cx, event);
    }
}
