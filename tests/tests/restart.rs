//! `echoloop serve` is replaced by a new process while clients keep asking: no request is lost.
//!
//! Every request is a connection of its own, so all of them meet the restart at some point: in the backlog, just
//! accepted, half sent, half answered. Datagrams go one at a time, each waits for its answer.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use echoloop_tests::patience::{PATIENCE, until};
use echoloop_tests::{Client, Face, Process};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Requests between two restarts, of all clients together.
const BETWEEN: u64 = 300;

#[test]
fn three_restarts_by_signal_lose_no_request() {
    survive_restarts(&[]);
}

#[test]
fn three_restarts_of_two_workers_lose_no_request() {
    survive_restarts(&["--workers", "2", "--spread", "reuse-port"]);
    survive_restarts(&["--workers", "2", "--spread", "fewest"]);
}

fn survive_restarts(more: &[&str]) {
    let path = socket_path("restart");
    let mut serve = Face::Rust.program();
    serve.args([
        "serve",
        "--tcp",
        "127.0.0.1:0",
        "--udp",
        "127.0.0.1:0",
        "--unix",
    ]);
    serve.arg(&path).args(more);
    let mut first = Process::spawn(serve);
    let tcp: SocketAddr = address(&first.says("listening on 127", PATIENCE));
    let udp: SocketAddr = address(&first.says("listening on udp", PATIENCE));
    first.says("unix", PATIENCE);
    let stays = Client::connect(tcp);
    stays.echo(b"before the first restart");
    let load = Load::start(tcp, udp, &path);
    let mut last = Successor(first.pid());
    for generation in 1..=3 {
        load.advance();
        last.signal(Signal::SIGUSR2);
        let new = until("the successor serves", PATIENCE, || {
            let said = first.stderr();
            let mut said = said.iter().filter(|l| l.contains("serves now"));
            let line = said.nth(generation - 1)?;
            line.split_whitespace().find_map(|word| word.parse().ok())
        });
        last = Successor(new);
    }
    load.advance();
    stays.echo(b"served on by the first process");
    drop(stays);
    // Its output goes on, as the successors'.
    let status = until("the first process ends", PATIENCE, || first.ended());
    assert!(status.success(), "{status}");
    load.finish();
    last.signal(Signal::SIGTERM);
    last.gone();
    assert!(
        !first.stderr().iter().any(|l| l.contains("lost")),
        "{:?}",
        first.stderr()
    );
    let _ = fs::remove_file(&path);
}

#[test]
fn a_service_manager_restarts_it_and_hears_when_it_serves_and_stops() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (tcp, udp) = (
        listener.local_addr().unwrap(),
        datagrams.local_addr().unwrap(),
    );
    let manager = Manager::new("manager");
    let start = || manager.start(&listener, &datagrams);
    let mut old = start();
    manager.hears("READY=1");
    let load = Load::start(tcp, udp, Path::new(""));
    for _ in 0..3 {
        load.advance();
        let new = start();
        manager.hears("READY=1");
        old.signal(Signal::SIGTERM);
        manager.hears("STOPPING=1");
        let status = old.wait(PATIENCE);
        assert!(status.success(), "{status}");
        old = new;
    }
    load.advance();
    load.finish();
    old.signal(Signal::SIGTERM);
    assert!(old.wait(PATIENCE).success());
}

#[test]
fn a_successor_that_cannot_start_is_no_loss() {
    let folder = socket_path("broken");
    fs::create_dir(&folder).unwrap();
    let program = folder.join("echoloop");
    copy_to(&program);
    let mut serve = Command::new(&program);
    serve.args(["serve", "--tcp", "127.0.0.1:0"]);
    let mut server = Process::spawn(serve);
    let tcp = address(&server.says("listening on", PATIENCE));
    fs::remove_file(&program).unwrap();
    server.signal(Signal::SIGUSR2);
    server.says("goes on", PATIENCE);
    Client::connect(tcp).echo(b"served on");
    // Once it is there again, it is tried again.
    copy_to(&program);
    server.signal(Signal::SIGUSR2);
    let said = server.says("serves now", PATIENCE);
    let new = Successor(
        said.split_whitespace()
            .find_map(|w| w.parse().ok())
            .unwrap(),
    );
    let status = until("the first process ends", PATIENCE, || server.ended());
    assert!(status.success(), "{status}");
    Client::connect(tcp).echo(b"served anew");
    new.signal(Signal::SIGTERM);
    new.gone();
    fs::remove_dir_all(&folder).unwrap();
}

/// By another process: a file that is open for writing here may still be so in a child that another test forks just now,
/// and then it can't be run (ETXTBSY).
fn copy_to(program: &Path) {
    let mut cp = Command::new("cp");
    cp.arg(Face::Rust.program().get_program()).arg(program);
    assert!(Process::run(cp, PATIENCE).wait(PATIENCE).success());
}

/// A process that is not our child, ended at the latest with the test.
struct Successor(u32);

impl Successor {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0 as i32), signal).unwrap();
    }

    fn gone(&self) {
        until("the successor ends", PATIENCE, || {
            (!self.runs()).then_some(())
        });
    }

    /// It is there, and not just waiting to be reaped.
    fn runs(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0));
        stat.is_ok_and(|stat| !stat.contains(") Z ") && stat.contains("(echoloop)"))
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if thread::panicking() && self.runs() {
            let _ = kill(Pid::from_raw(self.0 as i32), Signal::SIGKILL);
        }
    }
}

/// Clients that ask all the time, each request a connection of its own.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Result<(), String>>>,
}

impl Load {
    fn start(tcp: SocketAddr, udp: SocketAddr, unix: &Path) -> Self {
        let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let client = |name: &'static str, ask: Box<dyn Fn(u64) -> Result<(), String> + Send>| {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            thread::spawn(move || {
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    ask(n).map_err(|e| format!("{name}, request {n}: {e}"))?;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        };
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(client("tcp", Box::new(move |n| ask_tcp(tcp, n))));
        }
        if !unix.as_os_str().is_empty() {
            let unix = unix.to_owned();
            clients.push(client("unix", Box::new(move |n| ask_unix(&unix, n))));
        }
        clients.push(client("udp", Box::new(move |n| ask_udp(udp, n))));
        Self {
            stop,
            done,
            clients,
        }
    }

    /// Waits until the clients have done some more.
    fn advance(&self) {
        let goal = self.done.load(Ordering::Relaxed) + BETWEEN;
        until("the clients are served", PATIENCE, || {
            let failed = self.clients.iter().any(JoinHandle::is_finished);
            (failed || self.done.load(Ordering::Relaxed) >= goal).then_some(())
        });
    }

    /// Every request had its whole answer.
    fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        let answers = self.clients.into_iter().map(|c| c.join().unwrap());
        let failures: Vec<String> = answers.filter_map(Result::err).collect();
        assert!(failures.is_empty(), "{failures:?}");
    }
}

/// A request of a length of its own, up to 96 KiB.
fn request(n: u64) -> Vec<u8> {
    let length = [10, 1_000, 30_000, 96 << 10][n as usize % 4] + n as usize % 7;
    (0..length).map(|i| (i as u64 * 31 + n) as u8).collect()
}

fn ask_tcp(at: SocketAddr, n: u64) -> Result<(), String> {
    let stream = TcpStream::connect(at).map_err(|e| format!("connect: {e}"))?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = request(n);
    (&stream)
        .write_all(&request)
        .map_err(|e| format!("write: {e}"))?;
    stream
        .shutdown(Shutdown::Write)
        .map_err(|e| format!("shutdown: {e}"))?;
    answered(&stream, &request)
}

fn ask_unix(at: &Path, n: u64) -> Result<(), String> {
    let stream = UnixStream::connect(at).map_err(|e| format!("connect: {e}"))?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = request(n);
    (&stream)
        .write_all(&request)
        .map_err(|e| format!("write: {e}"))?;
    stream
        .shutdown(Shutdown::Write)
        .map_err(|e| format!("shutdown: {e}"))?;
    answered(&stream, &request)
}

fn answered(mut stream: impl Read, request: &[u8]) -> Result<(), String> {
    let mut answer = Vec::new();
    stream
        .read_to_end(&mut answer)
        .map_err(|e| format!("read after {} bytes: {e}", answer.len()))?;
    match answer == request {
        true => Ok(()),
        false => Err(format!(
            "{} bytes came back of {}",
            answer.len(),
            request.len()
        )),
    }
}

fn ask_udp(at: SocketAddr, n: u64) -> Result<(), String> {
    let peer = UdpSocket::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.send_to(&n.to_be_bytes(), at)
        .map_err(|e| format!("send: {e}"))?;
    let mut answer = [0; 16];
    let (len, _) = peer
        .recv_from(&mut answer)
        .map_err(|e| format!("no answer: {e}"))?;
    match answer[..len] == n.to_be_bytes() {
        true => Ok(()),
        false => Err(format!("{:?} came back", &answer[..len])),
    }
}

/// What a service manager does: opens the sockets, passes them, listens to what it is told.
struct Manager {
    path: PathBuf,
    socket: UnixDatagram,
}

impl Manager {
    fn new(name: &str) -> Self {
        let path = socket_path(name);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { path, socket }
    }

    fn start(&self, tcp: &TcpListener, udp: &UdpSocket) -> Process {
        let script = "exec 3<&0 4>&2 0</dev/null 2>&1; export LISTEN_PID=$$; exec \"$@\"";
        let program = Face::Rust.program();
        let mut shell = Command::new("sh");
        shell.args(["-c", script, "sh"]);
        shell.arg(program.get_program());
        shell.args(["serve", "--drain-grace", "10"]);
        shell
            .env("LISTEN_FDS", "2")
            .env("NOTIFY_SOCKET", &self.path);
        shell.stdin(OwnedFd::from(tcp.try_clone().unwrap()));
        shell.stderr(OwnedFd::from(udp.try_clone().unwrap()));
        shell.stdout(Stdio::piped());
        Process::spawn_as_is(shell)
    }

    fn hears(&self, what: &str) {
        let mut message = [0; 1024];
        loop {
            let n = self
                .socket
                .recv(&mut message)
                .unwrap_or_else(|e| panic!("{what}: {e}"));
            if String::from_utf8_lossy(&message[..n])
                .lines()
                .any(|l| l == what)
            {
                return;
            }
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn socket_path(name: &str) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("echoloop-{name}-{}-{count}", std::process::id()))
}

/// The address at the end of a line.
fn address(line: &str) -> SocketAddr {
    let word = line.split_whitespace().last().expect("a line with words");
    word.parse().unwrap_or_else(|e| panic!("{line:?}: {e}"))
}
