//! Out of descriptors (promise 9): a server under a lowered RLIMIT_NOFILE sleeps at the limit,
//! serves those it has, and accepts all who wait as soon as descriptors are free, with no new client
//! knocking (FACTS F2).
//!
//! The limit is one of a whole process, so the server is this very program, started again with
//! [`CHILD`] in its environment; the test plays the clients. Bytes that a client sends come back,
//! save for the [`Command`]s.

mod util;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command as Program, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use echoloop_core::sys::{Sim, SimOptions};
use echoloop_core::{Event, EventLoop, ListenOptions, LoopOptions};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_gettime};
use util::real::PATIENCE;

const CHILD: &str = "ECHOLOOP_LIMITED";
const DESCRIPTORS: u64 = 80;
/// Files that the server holds beside its sockets.
const HELD: usize = 30;
/// More than it can take beside them, and fewer than it can take without.
const CLIENTS: usize = 65;

/// What the test may ask of the server, as a byte on any connection.
mod command {
    /// Say how much CPU time was used, in microseconds.
    pub(super) const CPU: u8 = b'c';
    /// Close the files, which the loop knows nothing of.
    pub(super) const FREE: u8 = b'f';
    /// Say how often accepting was paused, and end.
    pub(super) const QUIT: u8 = b'q';
}

/// Not a test: the server, when it is started by one.
#[test]
fn limited_server() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS, hard).unwrap();
    let mut held: Vec<File> = (0..HELD)
        .map(|_| File::open("/dev/null").unwrap())
        .collect();
    let mut el = EventLoop::new(LoopOptions::default()).unwrap();
    let listener = el.listen("127.0.0.1:0", &ListenOptions::default()).unwrap();
    println!("\n@listening {}", el.listener_addr(listener).unwrap());
    let end = Instant::now() + 3 * PATIENCE;
    while Instant::now() < end {
        el.poll(Some(PATIENCE)).unwrap();
        while let Some(event) = el.next_event() {
            match event {
                Event::AcceptPaused { errno, .. } => println!("@paused {errno}"),
                Event::AcceptResumed { .. } => println!("@resumed"),
                Event::Data { conn } => match el.conn(conn).unwrap().received()[0] {
                    command::CPU => {
                        el.conn(conn).unwrap().consume(1);
                        let used = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).unwrap();
                        println!("@cpu {}", Duration::from(used).as_micros());
                    }
                    command::FREE => {
                        el.conn(conn).unwrap().consume(1);
                        held.clear();
                    }
                    command::QUIT => {
                        println!("@pauses {}", el.counters().accept_pauses);
                        return;
                    }
                    _ => el.conn(conn).unwrap().send_received(usize::MAX).unwrap(),
                },
                _ => {}
            }
        }
    }
}

/// The server in a process of its own.
struct Server {
    process: Child,
    says: Receiver<String>,
    addr: String,
}

impl Server {
    fn start() -> Self {
        let mut process = Program::new(std::env::current_exe().unwrap())
            .args(["--exact", "limited_server", "--nocapture"])
            .env(CHILD, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (tell, says) = channel();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        let mut server = Self {
            process,
            says,
            addr: String::new(),
        };
        server.addr = server.says("@listening ");
        server
    }

    /// The rest of the next line that begins so.
    fn says(&self, what: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.says.recv_timeout(left).expect(what);
            if let Some(rest) = line.strip_prefix(what) {
                return rest.to_owned();
            }
        }
    }

    fn client(&self) -> TcpStream {
        let client = TcpStream::connect(&self.addr).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.set_nodelay(true).unwrap();
        client
    }

    /// More clients than the server can take, all of which have asked something: those that were
    /// served, and those that wait.
    fn fill(&self) -> (Vec<TcpStream>, Vec<TcpStream>) {
        let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| self.client()).collect();
        for client in &mut clients {
            client.write_all(b"?").unwrap();
        }
        assert_eq!(self.says("@paused "), (Errno::EMFILE as i32).to_string());
        // The backlog is a queue: those that came first are in.
        let waiting = clients
            .iter()
            .position(|client| !answers(client, 300))
            .unwrap();
        let waiting = clients.split_off(waiting);
        assert!((5..=HELD).contains(&waiting.len()), "{}", waiting.len());
        (clients, waiting)
    }

    /// CPU time of the server so far.
    fn cpu(&self, by: &mut TcpStream) -> Duration {
        by.write_all(&[command::CPU]).unwrap();
        Duration::from_micros(self.says("@cpu ").parse().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether an answer comes within so many milliseconds.
fn answers(mut client: &TcpStream, within: u64) -> bool {
    client
        .set_read_timeout(Some(Duration::from_millis(within)))
        .unwrap();
    client.read(&mut [0]).is_ok_and(|n| n == 1)
}

/// All are answered, with no new client knocking, within a second of `since`.
fn all_are_served(waiting: &[TcpStream], since: Instant) {
    for client in waiting {
        assert!(answers(client, 2000), "somebody waits for ever");
    }
    let took = since.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn at_the_limit_the_server_sleeps_serves_and_then_accepts_all_who_wait() {
    let server = Server::start();
    let (mut served, waiting) = server.fill();
    let mut talks = served.pop().unwrap();

    let window = Instant::now();
    let before = server.cpu(&mut talks);
    // Nobody answers those who wait: this is the window in which the CPU time is taken.
    assert!(!answers(&waiting[0], 2000));
    let used = server.cpu(&mut talks) - before;
    let share = used.as_secs_f64() / window.elapsed().as_secs_f64();
    assert!(share < 0.01, "{:.2}% of a core while idle", share * 100.0);
    talks.write_all(b"!").unwrap();
    assert!(answers(&talks, 2000), "those connected are served on");

    let since = Instant::now();
    drop(served);
    all_are_served(&waiting, since);
    server.says("@resumed");
}

#[test]
fn descriptors_that_the_program_frees_itself_are_noticed_too() {
    let server = Server::start();
    let (mut served, waiting) = server.fill();
    let talks = served.last_mut().unwrap();
    let since = Instant::now();
    talks.write_all(&[command::FREE]).unwrap();
    all_are_served(&waiting, since);
    server.says("@resumed");
    talks.write_all(&[command::QUIT]).unwrap();
    assert_eq!(server.says("@pauses "), "1");
}

#[test]
fn every_shortage_pauses_accepting_once_and_all_who_wait_come_in_by_themselves() {
    for errno in [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM] {
        let errno = errno as i32;
        let sim = Sim::new(SimOptions::kind(1));
        let mut el = EventLoop::with_system(sim.clone(), LoopOptions::default()).unwrap();
        let listener = el.listen("10.0.0.2:7", &ListenOptions::default()).unwrap();
        for _ in 0..3 {
            sim.fail_accept(errno); // The first try, and two more by the timer.
        }
        let _peers: Vec<_> = (0..5).map(|_| sim.connect_to("10.0.0.2:7")).collect();
        let mut events = Vec::new();
        // The simulated clock goes forward by what the loop sleeps: spinning would not get there.
        for _ in 0..12 {
            el.poll(None).unwrap();
            events.extend(std::iter::from_fn(|| el.next_event()));
        }
        assert_eq!(events[0], Event::AcceptPaused { listener, errno });
        assert_eq!(events[1], Event::AcceptResumed { listener });
        assert!(
            events[2..]
                .iter()
                .all(|e| matches!(e, Event::Accepted { .. }))
        );
        assert_eq!((events.len(), el.counters().accept_pauses), (7, 1));
        let slept = el.now().as_millis();
        assert!((300..320).contains(&slept), "{slept} ms: three tries");
    }
}
