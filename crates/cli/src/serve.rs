//! `echoloop serve`: the echo server, on a sensible default.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args as ClapArgs;
use echoloop_server::{
    Addr, CloseReason, ConnId, Context, Echo, Error, ErrorKind, Hooks, ListenerId, Refusal, Report,
    Seldom, Server,
};

use crate::stats::{Stats, bytes};

/// Runs an echo server (RFC 862): what a client sends comes back to it.
#[derive(ClapArgs)]
#[command(after_help = crate::exit::CODES)]
pub(crate) struct Args {
    /// Where to listen, such as 127.0.0.1:7007 or [::1]:7007; port 0 takes any free port.
    /// May be given several times.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7007")]
    listen: Vec<String>,
    /// Close a connection on which nothing moved for so many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    idle_timeout: Option<Duration>,
    /// Refuse further connections while so many are open.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_connections: Option<u64>,
    /// Print figures every so many seconds: a live line on a terminal, plain lines otherwise.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    stats: Option<Duration>,
}

/// Prints to standard output; a closed one is not our concern, the clients are.
macro_rules! say {
    ($($text:tt)*) => {{
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

/// Prints to standard error, likewise.
macro_rules! complain {
    ($($text:tt)*) => {{
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

/// Where the loop has nothing to print, it still says now and then that it waited.
const QUIET_TICK: Duration = Duration::from_secs(10);

pub(crate) fn run(args: &Args) -> Result<(), String> {
    raise_descriptor_limit();
    let mut server = build(args)?;
    end_by_signal(&server)?;
    greet(&server);
    let mut hooks = Service {
        stats: args.stats.map(|_| Stats::new()),
        refused: 0,
        errors_told: Seldom::default(),
    };
    let report = server.run(&mut hooks).map_err(|e| e.to_string())?;
    if let Some(stats) = &hooks.stats {
        stats.finish();
    }
    print_totals(&mut server, report);
    Ok(())
}

fn build(args: &Args) -> Result<Server, String> {
    let mut builder = Server::builder().tick_interval(args.stats.unwrap_or(QUIET_TICK));
    for addr in &args.listen {
        let parsed: SocketAddr = addr.parse().map_err(|_| {
            format!(
                "'{addr}' is not an address; write IP:PORT, such as 127.0.0.1:7007 or [::1]:7007"
            )
        })?;
        builder = builder.listen(parsed);
    }
    if let Some(timeout) = args.idle_timeout {
        builder = builder.idle_timeout(timeout);
    }
    if let Some(max) = args.max_connections {
        builder = builder.max_connections(usize::try_from(max).unwrap_or(usize::MAX));
    }
    builder.build().map_err(|e| format!("{e}{}", advice(&e)))
}

/// What to do about an error of the start.
fn advice(e: &Error) -> &'static str {
    use rustix::io::Errno;
    let ErrorKind::Os(errno) = e.kind() else {
        return "";
    };
    match Errno::from_raw_os_error(errno) {
        Errno::ADDRINUSE => "; choose another port with --listen, or port 0 for any that is free",
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

fn greet(server: &Server) {
    let addrs = server.local_addrs();
    for addr in &addrs {
        log::debug!("starting up on {addr}");
        say!("listening on {addr}");
    }
    if let Some(addr) = addrs.first().and_then(Addr::ip) {
        say!("try:  printf hello | nc -N {} {}", addr.ip(), addr.port());
        say!("      Ctrl-C drains and prints the totals; RUST_LOG=debug tells what happens");
    }
}

/// The first SIGINT, SIGTERM or SIGHUP drains, the second ends at once.
fn end_by_signal(server: &Server) -> Result<(), String> {
    let remote = server.remote();
    let asked = AtomicBool::new(false);
    ctrlc::set_handler(move || {
        if asked.swap(true, Ordering::Relaxed) || remote.stop().is_err() {
            complain!("echoloop: ended at once");
            std::process::exit(130); // 128 + SIGINT, as a shell has it.
        }
        complain!("echoloop: draining; once more to end at once");
    })
    .map_err(|e| format!("signals can't be handled: {e}"))
}

fn print_totals(server: &mut Server, report: Report) {
    let (own, counters) = (server.counters(), *server.event_loop().counters());
    say!(
        "served {} connections, {} refused, {} timed out, at most {} at a time",
        counters.accepted - own.refused,
        own.refused,
        own.timed_out,
        own.most_open
    );
    say!(
        "received {} in {} reads, sent {}",
        bytes(counters.bytes_received as f64),
        counters.reads,
        bytes(counters.bytes_sent as f64)
    );
    say!(
        "drained: {} closed clean, {} aborted, {} bytes lost",
        report.closed_clean,
        report.aborted,
        report.bytes_lost
    );
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

pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let bad = || "write a number of seconds above 0, such as 30 or 0.5".to_owned();
    let seconds: f64 = text.parse().map_err(|_| bad())?;
    if seconds <= 0.0 {
        return Err(bad());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| bad())
}

/// The echo service, with figures.
struct Service {
    stats: Option<Stats>,
    refused: u64,
    errors_told: Seldom,
}

impl Hooks for Service {
    fn on_open(&mut self, cx: &mut Context<'_>, conn: ConnId, listener: Option<ListenerId>) {
        Echo.on_open(cx, conn, listener);
    }

    #[inline(always)]
    fn on_data(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        Echo.on_data(cx, conn);
    }

    fn on_congested(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        Echo.on_congested(cx, conn);
    }

    fn on_drained(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        Echo.on_drained(cx, conn);
    }

    fn on_end_of_stream(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        Echo.on_end_of_stream(cx, conn);
    }

    fn on_close(&mut self, cx: &mut Context<'_>, conn: ConnId, reason: CloseReason, unsent: u64) {
        Echo.on_close(cx, conn, reason, unsent);
    }

    fn on_tick(&mut self, cx: &mut Context<'_>) {
        Echo.on_tick(cx);
        if let Some(stats) = &mut self.stats {
            stats.print(cx.now(), cx.counters(), cx.connection_count(), self.refused);
        }
    }

    fn on_refused(&mut self, _: &mut Context<'_>, _: ConnId, _: Refusal) {
        self.refused += 1;
    }

    fn on_error(&mut self, cx: &mut Context<'_>, error: Error) {
        if self.errors_told.tell(cx.now()).is_some() {
            Echo.on_error(cx, error);
        }
    }
}
