//! A server program under test: started on port 0, asked by signals, measured through /proc.
//!
//! [`Server::stop`] is part of every scenario: whatever was done to a server, SIGTERM still ends it with exit code 0.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;

use crate::patience::{PATIENCE, until};
use crate::{Face, Process, probe};

/// The beginning of the line by which each server program says where it can be reached.
const ANNOUNCEMENT: &str = "listening on ";

/// The options of a server that is about to be started.
#[derive(Debug)]
pub struct ServerBuilder {
    face: Face,
    valgrind: bool,
    listen: Vec<&'static str>,
    idle: Option<Duration>,
    more: Vec<String>,
    env: Vec<(&'static str, &'static str)>,
}

impl ServerBuilder {
    pub(crate) fn new(face: Face, valgrind: bool) -> Self {
        Self {
            face,
            valgrind,
            listen: Vec::new(),
            idle: None,
            more: Vec::new(),
            env: Vec::new(),
        }
    }

    /// One more address to listen on; without any it is a free port of 127.0.0.1.
    pub fn listen(mut self, address: &'static str) -> Self {
        self.listen.push(address);
        self
    }

    /// Cut clients that are silent for this long.
    pub fn idle(mut self, limit: Duration) -> Self {
        self.idle = Some(limit);
        self
    }

    /// One more argument on the command line.
    pub fn arg(mut self, arg: impl ToString) -> Self {
        self.more.push(arg.to_string());
        self
    }

    /// A variable in the server's environment.
    pub fn env(mut self, name: &'static str, value: &'static str) -> Self {
        self.env.push((name, value));
        self
    }

    /// Starts the server and waits until it says on which addresses it listens.
    #[track_caller]
    pub fn start(mut self) -> Server {
        allow_many_descriptors();
        if self.listen.is_empty() {
            self.listen.push("127.0.0.1:0");
        }
        let mut command = self.face.command(&self.listen, self.idle);
        command.args(&self.more).envs(self.env);
        if self.valgrind {
            command = under_valgrind(&command);
        }
        let mut process = Process::spawn(command);
        let wanted = self.listen.len();
        let addresses = until("the server says where it listens", PATIENCE, || {
            let found = announced(&process.stdout());
            let ended = process.ended();
            assert!(ended.is_none(), "the server ended at once: {ended:?}");
            (found.len() >= wanted).then_some(found)
        });
        assert_eq!(addresses.len(), wanted, "one line for each address");
        Server { process, addresses }
    }
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct Server {
    process: Process,
    addresses: Vec<SocketAddr>,
}

impl Server {
    /// Where it can be reached (the first of its addresses).
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// All its addresses, in the order in which they were asked for.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The process: its output, its signals.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Bytes of anonymous memory it holds now.
    #[track_caller]
    pub fn memory(&self) -> u64 {
        probe::memory(self.process.pid())
    }

    /// Descriptors it has open now.
    #[track_caller]
    pub fn descriptors(&self) -> usize {
        probe::descriptors(self.process.pid())
    }

    /// Waits until it has at most this many descriptors open.
    #[track_caller]
    pub fn until_descriptors_are_back_to(&self, base: usize) {
        until("every descriptor is given back", PATIENCE, || {
            (self.descriptors() <= base).then_some(())
        });
    }

    /// Asks it to end, by SIGTERM.
    #[track_caller]
    pub fn terminate(&self) {
        self.process.signal(Signal::SIGTERM);
    }

    /// Waits for its end, which must be a success.
    #[track_caller]
    pub fn expect_success(mut self) -> Process {
        let status = self.process.wait(PATIENCE);
        assert!(status.success(), "the server ended with {status}");
        self.process
    }

    /// SIGTERM, drain, exit code 0.
    #[track_caller]
    pub fn stop(self) -> Process {
        self.terminate();
        self.expect_success()
    }
}

fn announced(stdout: &[String]) -> Vec<SocketAddr> {
    let lines = stdout.iter().filter_map(|l| l.strip_prefix(ANNOUNCEMENT));
    lines
        .map(|address| {
            address
                .parse()
                .unwrap_or_else(|e| panic!("\"{ANNOUNCEMENT}{address}\" is no address: {e}"))
        })
        .collect()
}

/// The same command, watched by valgrind: exit code 99 for an error or a leak.
fn under_valgrind(command: &Command) -> Command {
    let mut watched = Command::new("valgrind");
    watched
        .args(["--quiet", "--error-exitcode=99", "--leak-check=full"])
        .arg(command.get_program())
        .args(command.get_args());
    watched
}

/// Lifts this process's own limit as far as it may; a thousand clients need more than the usual 1,024.
fn allow_many_descriptors() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("getrlimit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
        .expect("a limit may be lifted to the hard limit");
}
