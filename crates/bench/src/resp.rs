//! The RESP server of the C examples beside a real redis-server, both driven by redis-benchmark.
//!
//! The rule: they take turns, round by round, on the same core, and what counts is the ratio. A server
//! that answers with an error, or is not asked as often as it should be, ends the measurement.

use std::ffi::OsString;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use echoloop_load::cpu_time;

use crate::child::{Child, exec_prefix};
use crate::process::Cores;
use crate::rounds::quantile;
use crate::servers::{Kit, Row};

#[derive(Debug, clap::Args)]
pub(crate) struct RespOptions {
    /// Rounds of each server
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Requests of each kind in a round
    #[arg(long, default_value_t = 200_000)]
    requests: u32,
}

/// What redis-benchmark calls the kinds of requests of `-t ping,set,get`.
const KINDS: [&str; 4] = ["PING_INLINE", "PING_MBULK", "SET", "GET"];
const CONNECTIONS: u32 = 50;
const PIPELINE: u32 = 16;

/// A running server, and what it did in each round.
struct Server {
    name: &'static str,
    child: Child,
    port: u16,
    per_second: [Vec<f64>; KINDS.len()],
    cpu_ns: Vec<f64>,
}

/// Prints requests a second and the CPU time of one.
pub(crate) fn measure(options: &RespOptions) -> Result<()> {
    let cores = Cores::choose()?;
    let mut servers = [ours(&Kit::new(None)?, cores)?, redis(cores)?];
    for _ in 0..options.rounds {
        for server in &mut servers {
            server.round(options.requests, cores)?;
        }
    }
    println!(
        "redis-benchmark -t ping,set,get -P {PIPELINE} -c {CONNECTIONS} -n {}, medians of {} rounds",
        options.requests, options.rounds
    );
    let [ours, redis] = &servers;
    println!(
        "{:<28}{:>14}{:>14}{:>8}",
        "", ours.name, redis.name, "ratio"
    );
    for (kind, name) in KINDS.iter().enumerate() {
        line(name, &ours.per_second[kind], &redis.per_second[kind]);
    }
    line("server's CPU, ns a request", &ours.cpu_ns, &redis.cpu_ns);
    Ok(())
}

fn line(name: &str, ours: &[f64], redis: &[f64]) {
    let (a, b) = (quantile(ours, 0.5), quantile(redis, 0.5));
    println!("{name:<28}{a:>14.0}{b:>14.0}{:>8.2}", a / b);
}

fn ours(kit: &Kit, cores: Cores) -> Result<Server> {
    let program = kit.example(Row::CHooks, "resp_server")?;
    let argv = [program.argv, vec!["127.0.0.1:0".into()]].concat();
    let environment = program.environment;
    let child = Child::start("resp_server", &argv, &environment, cores.server, None)?;
    let line = child.line(Duration::from_secs(10))?;
    let port = line.rsplit(':').next().and_then(|port| port.parse().ok());
    let port = port.with_context(|| format!("resp_server said {line:?}"))?;
    Ok(Server::new("resp_server", child, port))
}

fn redis(cores: Cores) -> Result<Server> {
    // Free a moment ago; if another takes it first, redis ends and says so.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let words = format!("redis-server --bind 127.0.0.1 --port {port} --appendonly no --save");
    let mut argv: Vec<OsString> = words.split(' ').map(Into::into).collect();
    argv.push("".into());
    let child = Child::start("redis-server", &argv, &[], cores.server, None)?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        ensure!(Instant::now() < deadline, "redis-server does not listen");
        thread::sleep(Duration::from_millis(10));
    }
    Ok(Server::new("redis-server", child, port))
}

impl Server {
    fn new(name: &'static str, child: Child, port: u16) -> Self {
        Self {
            name,
            child,
            port,
            per_second: Default::default(),
            cpu_ns: Vec::new(),
        }
    }

    fn round(&mut self, requests: u32, cores: Cores) -> Result<()> {
        let words = format!(
            "redis-benchmark -h 127.0.0.1 -p {} -t ping,set,get -P {PIPELINE} -c {CONNECTIONS} -n {requests} --csv",
            self.port
        );
        let prefix = exec_prefix(cores.load, std::process::id())?;
        let before = cpu_time(self.child.pid())?;
        let output = Command::new(&prefix[0])
            .args(&prefix[1..])
            .args(words.split(' '))
            .stdin(Stdio::null())
            .output()
            .context("no redis-benchmark (Debian's redis-tools)")?;
        let used = cpu_time(self.child.pid())? - before;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "redis-benchmark failed: {said}");
        for (kind, name) in KINDS.iter().enumerate() {
            let figure = said.lines().find_map(|line| {
                let mut columns = line.split(',').map(|column| column.trim_matches('"'));
                (columns.next()? == *name).then(|| columns.next()?.parse().ok())?
            });
            let Some(figure) = figure else {
                bail!("{} was not asked {name}: {said}", self.name);
            };
            self.per_second[kind].push(figure);
        }
        let all = f64::from(requests) * KINDS.len() as f64;
        self.cpu_ns.push(used.as_nanos() as f64 / all);
        Ok(())
    }
}
