//! The server under the injector: `echoloop serve` run by `faults/inject.c`, and what the injector noted.
//!
//! The rule: the server is found without its help, for any line it prints may be the one that fails. It gets an address
//! of 127.0.0.0/8 that no other has, and its process number is in the injector's log.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

use super::Injection;
use super::table::Row;
use super::workload::unix_path;
use crate::patience::{PATIENCE, until};
use crate::{Face, Process, artifacts};

/// The server's options beside the address. Figures are printed often, so that a timer and writes belong to it.
const SERVE: &[&str] = &["--stats", "0.1"];
/// The first system call of `main` (is standard error a terminal?): those before are the loader's.
const MAIN_BEGINS: &str = "ioctl";
/// No client of these tests gets it, and nobody else uses their addresses.
const PORT: u16 = 7007;

/// A server of which one system call fails.
#[derive(Debug)]
pub struct Injected {
    process: Process,
    log: PathBuf,
    /// Where it is to be reached.
    pub address: SocketAddr,
    /// Its process number, not the injector's.
    pub pid: u32,
}

/// A call that was made to fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// What the call was about: `tcp`, `udp`, `unix`, `pair`, `other`.
    pub kind: String,
    /// The port of the client whose connection it was about, or 0.
    pub port: u16,
}

/// What the injector noted.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// The calls that were made to fail.
    pub hits: Vec<Hit>,
    /// How often the call was made; known at the end.
    pub seen: Option<u64>,
    /// The server has reached its `main`; known at the end.
    pub started: Option<bool>,
}

impl Injected {
    /// Starts the server of a row of the table. Whether it serves is still to be seen.
    #[track_caller]
    pub fn start(injection: Injection, row: &Row) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let n = STARTED.fetch_add(1, Ordering::Relaxed);
        let log = artifacts::scratch().join(format!("faults-{}-{n}.log", std::process::id()));
        let address = SocketAddr::from((own_address(n), PORT));
        let Injection {
            call,
            what,
            nth,
            times,
        } = injection;
        let mut command = Command::new(injector());
        command.args(["-s", MAIN_BEGINS]);
        if let Some((least, most)) = row.descriptors {
            command.args(["-f", &format!("{least}-{most}")]);
        }
        if let Some(kind) = row.kind {
            command.args(["-k", kind]);
        }
        command.args([call, what, &format!("{nth}+{times}")]);
        let program = Face::Rust.program();
        command.arg(&log).arg("--").arg(program.get_program());
        let ip = address.to_string();
        command.args(["serve", "--tcp", &ip, "--udp", &ip, "--unix"]);
        command.arg(unix_path(address));
        command.args(SERVE).args(row.options);
        let process = Process::spawn(command);
        let pid = until("the injector says the process number", PATIENCE, || {
            let text = fs::read_to_string(&log).ok()?;
            text.split_once('\n')?.0.strip_prefix("pid ")?.parse().ok()
        });
        Self {
            process,
            log,
            address,
            pid,
        }
    }

    /// What was injected so far.
    pub fn log(&self) -> Log {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let mut log = Log::default();
        for line in text.lines() {
            if line.starts_with("hit ") {
                log.hits.extend(hit(line));
            }
            let words: Vec<_> = line.split(' ').collect();
            if let ["seen", seen, "hits", _, "started", started, "end", _] = words[..] {
                log.seen = seen.parse().ok();
                log.started = Some(started == "1");
            }
        }
        log
    }

    /// The exit status, when the server has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }

    /// Waits for the end, which may not come: then the process is killed when this is dropped.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        crate::patience::within(limit, || self.process.ended())?;
        Some(self.process.wait(limit))
    }

    /// Asks the server to end.
    pub fn terminate(&self) {
        let _ = kill(Pid::from_raw(self.pid as i32), Signal::SIGTERM);
    }

    /// Lines it has printed.
    pub fn stdout(&self) -> Vec<String> {
        self.process.stdout()
    }

    /// Lines it has complained by.
    pub fn stderr(&self) -> Vec<String> {
        self.process.stderr()
    }

    /// Descriptors it has open; `None` when it has ended.
    pub fn descriptors(&self) -> Option<usize> {
        let open = fs::read_dir(format!("/proc/{}/fd", self.pid)).ok()?;
        Some(open.count())
    }

    /// The CPU time it has used; `None` when it has ended.
    pub fn cpu_time(&self) -> Option<Duration> {
        let clock = clock_getcpuclockid(Pid::from_raw(self.pid as i32)).ok()?;
        clock.now().ok().map(Duration::from)
    }
}

impl Drop for Injected {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.log);
        let _ = fs::remove_file(unix_path(self.address)); // It may have been killed.
    }
}

/// The end of a line `hit CALL WHAT fd=N kind=KIND peer=PORT`.
fn hit(line: &str) -> Option<Hit> {
    let (kind, port) = line.split_once("kind=")?.1.split_once(" peer=")?;
    Some(Hit {
        kind: kind.to_owned(),
        port: port.parse().ok()?,
    })
}

/// An address of the loopback that no other test has: of this process, and of the last 250 servers.
fn own_address(n: u32) -> Ipv4Addr {
    let [_, _, a, b] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 | a & 63, b, (n % 250) as u8 + 2)
}

fn injector() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| artifacts::c_tool("inject", "tests/faults/inject.c"))
        .clone()
}
