//! What the clients do while a system call of the server fails, and what became of each of them.
//!
//! The rule: nobody panics. A client answers how it ended, with how many right bytes before, and only [`End::Whole`] is
//! a success; whether another end is excused is for the judge to say, who knows which connections were hit. The bytes
//! are patterns by seed, so a wrong, doubled or foreign one shows at once.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use super::datagrams;
use crate::Pattern;
use crate::patience::within;

/// How long a client waits for anything before it says that the server hangs.
pub(super) const PATIENCE: Duration = Duration::from_secs(8);
/// What the slow reader sends before it reads: more than the kernel and the server's high mark (256 KiB) take.
const SLOW: u64 = 640 << 10;
/// A writer that gets on no more for this long has filled everything on the way.
const STUCK: Duration = Duration::from_millis(40);

/// How a client ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It got all it was to get.
    Whole,
    /// Right bytes, but the connection ended before the last.
    Early(String),
    /// A byte that was not to come.
    Wrong(String),
    /// Nothing more came in time.
    Hung(String),
}

/// One client, when it is over.
#[derive(Clone, Debug)]
pub struct Told {
    /// What it was to do.
    pub name: &'static str,
    /// `tcp`, `unix` or `udp`.
    pub kind: &'static str,
    /// The port of its end; over TCP alone it says which connection.
    pub port: u16,
    /// How it ended.
    pub end: End,
}

type Script = fn(&mut Talk) -> Result<(), End>;

/// The clients that run at the same time.
const SCRIPTS: &[(&str, Script)] = &[
    ("small messages", small_messages),
    ("a stream", |talk| talk.exchange(96 << 10)),
    ("half-close", half_close),
    ("a slow reader", slow_reader),
    ("a reset", reset),
    ("a reset of one that reads slowly", slow_reset),
];

/// Connections that follow each other.
const IN_TURN: usize = 4;

/// Where the server at this address of TCP and UDP has its Unix socket.
pub fn unix_path(of: SocketAddr) -> PathBuf {
    std::env::temp_dir().join(format!("echoloop-faults-{}.sock", of.ip()))
}

/// Runs all clients against the server at `to`, and tells of each.
pub fn run(to: SocketAddr) -> Vec<Told> {
    let (last, done) = mpsc::channel();
    let told: Vec<Vec<Told>> = thread::scope(|scope| {
        let idle = scope.spawn(move || vec![client(to, "an idle one", 1, |talk| talk.idle(&done))]);
        let mut busy: Vec<_> = (2..)
            .zip(SCRIPTS)
            .map(|(seed, (name, script))| scope.spawn(move || vec![client(to, name, seed, script)]))
            .collect();
        busy.push(scope.spawn(move || {
            let one_more = |n| client(to, "one after another", 100 + n as u64, |t| t.exchange(100));
            (0..IN_TURN).map(one_more).collect()
        }));
        busy.push(scope.spawn(move || vec![over_unix(to)]));
        busy.push(scope.spawn(move || vec![datagrams::all_at_once(to)]));
        let mut told: Vec<_> = busy.into_iter().map(joined).collect();
        drop(last);
        told.push(joined(idle));
        told
    });
    told.into_iter().flatten().collect()
}

/// One short client.
pub fn one(to: SocketAddr, seed: u64) -> Told {
    client(to, "a new one", seed, |talk| talk.exchange(100))
}

/// A client that is connected when `end` makes the server end, and is to see that in order.
pub fn through(to: SocketAddr, end: impl FnOnce()) -> Told {
    client(to, "one at the end", 8, |talk| {
        let begun = talk.exchange(100);
        end();
        begun?;
        talk.receive_to_the_end(0)
    })
}

/// A client that waits for the server to end it, having said nothing.
pub fn until_cut(to: SocketAddr) -> Told {
    client(to, "one that is idle too long", 9, |talk| {
        talk.receive_to_the_end(0)
    })
}

fn joined(thread: thread::ScopedJoinHandle<'_, Vec<Told>>) -> Vec<Told> {
    thread.join().expect("a client answers and never panics")
}

fn client(
    to: SocketAddr,
    name: &'static str,
    seed: u64,
    script: impl FnOnce(&mut Talk) -> Result<(), End>,
) -> Told {
    told(
        name,
        "tcp",
        Talk::begin(to, seed, name.contains("slow")),
        script,
    )
}

fn told(
    name: &'static str,
    kind: &'static str,
    begun: Result<Talk, End>,
    script: impl FnOnce(&mut Talk) -> Result<(), End>,
) -> Told {
    let (port, outcome) = match begun {
        Err(end) => (0, Err(end)),
        Ok(mut talk) => (talk.port, script(&mut talk)),
    };
    Told {
        name,
        kind,
        port,
        end: outcome.err().unwrap_or(End::Whole),
    }
}

/// Connections over the Unix socket, that follow each other, the last with half-close.
fn over_unix(to: SocketAddr) -> Told {
    let one = |seed, script: Script| {
        let begun = SockAddr::unix(unix_path(to)).and_then(|addr| {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            socket.connect(&addr)?;
            Ok(socket)
        });
        let talk = begun.map_err(early).map(|socket| Talk::over(socket, seed));
        told("one over a Unix socket", "unix", talk, script)
    };
    let first = one(201, |talk| talk.exchange(40_000));
    if first.end != End::Whole {
        return first;
    }
    one(202, half_close)
}

fn early(e: io::Error) -> End {
    End::Early(format!("connect: {e}"))
}

fn small_messages(talk: &mut Talk) -> Result<(), End> {
    (1..16).try_for_each(|n| talk.exchange(n * 13))
}

fn half_close(talk: &mut Talk) -> Result<(), End> {
    talk.send(10_000)?;
    let shut = talk.stream.shutdown(Shutdown::Write);
    shut.map_err(|e| End::Early(format!("shutdown: {e}")))?;
    talk.receive_to_the_end(10_000)
}

fn slow_reader(talk: &mut Talk) -> Result<(), End> {
    let sent = AtomicU64::new(0);
    thread::scope(|scope| {
        let (mut writer, sent) = (talk.again(), &sent);
        let writing = scope.spawn(move || {
            (0..SLOW / 16_384).try_for_each(|_| {
                writer.send(16_384)?;
                sent.store(writer.sending.position(), Ordering::Relaxed);
                Ok(())
            })
        });
        let (mut last, mut since) = (0, Instant::now());
        within(PATIENCE, || {
            let now = sent.load(Ordering::Relaxed);
            if now != last {
                (last, since) = (now, Instant::now());
            }
            (writing.is_finished() || since.elapsed() > STUCK).then_some(())
        });
        let _ = talk.stream.set_recv_buffer_size(1 << 20);
        let read = talk.receive(SLOW);
        if read.is_err() {
            let _ = talk.stream.shutdown(Shutdown::Both); // The writer need not wait.
        }
        let written = writing.join().expect("a client never panics");
        read.and(written)
    })
}

fn reset(talk: &mut Talk) -> Result<(), End> {
    talk.exchange(1000)?;
    talk.send(5000)?;
    reset_now(talk)
}

/// Fills what lies between and vanishes, so that the server finds out while it does not read.
fn slow_reset(talk: &mut Talk) -> Result<(), End> {
    let _ = talk.stream.set_write_timeout(Some(STUCK));
    match talk.send(SLOW) {
        Ok(()) | Err(End::Hung(_)) => reset_now(talk),
        Err(other) => Err(other),
    }
}

fn reset_now(talk: &Talk) -> Result<(), End> {
    let _ = talk.stream.set_linger(Some(Duration::ZERO));
    Ok(())
}

/// A connection to the server, and where in its stream each direction is.
struct Talk {
    stream: Socket,
    port: u16,
    sending: Pattern,
    receiving: Pattern,
}

impl Talk {
    fn begin(to: SocketAddr, seed: u64, narrow: bool) -> Result<Self, End> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).map_err(early)?;
        if narrow {
            // So that a few hundred KiB fill what lies between: the kernel's buffers grow by segments.
            let _ = socket.set_recv_buffer_size(4096);
            let _ = socket.set_tcp_mss(1000);
        }
        socket
            .connect_timeout(&to.into(), PATIENCE)
            .map_err(early)?;
        let _ = socket.set_tcp_nodelay(true);
        Ok(Self::over(socket, seed))
    }

    fn over(stream: Socket, seed: u64) -> Self {
        let _ = stream.set_read_timeout(Some(PATIENCE));
        let _ = stream.set_write_timeout(Some(PATIENCE));
        let local = stream.local_addr().ok().and_then(|addr| addr.as_socket());
        let (sending, receiving) = (Pattern::new(seed), Pattern::new(seed));
        Self {
            stream,
            port: local.map_or(0, |addr| addr.port()),
            sending,
            receiving,
        }
    }

    /// The same connection for another thread, which sends.
    fn again(&self) -> Self {
        Self {
            stream: self.stream.try_clone().expect("a descriptor is free"),
            port: self.port,
            sending: self.sending.clone(),
            receiving: self.receiving.clone(),
        }
    }

    fn exchange(&mut self, n: u64) -> Result<(), End> {
        self.send(n)?;
        self.receive(n)
    }

    fn send(&mut self, n: u64) -> Result<(), End> {
        let bytes = self.sending.take(n as usize);
        let sent = (&self.stream).write_all(&bytes);
        sent.map_err(|e| self.ended("sending", &e))
    }

    fn receive(&mut self, n: u64) -> Result<(), End> {
        let mut room = vec![0; 64 << 10];
        let end = self.receiving.position() + n;
        while self.receiving.position() < end {
            let most = room.len().min((end - self.receiving.position()) as usize);
            match (&self.stream).read(&mut room[..most]) {
                Ok(0) => return Err(End::Early(format!("end of stream, {}", self.had()))),
                Ok(got) => self.check(&room[..got])?,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(self.ended("receiving", &e)),
            }
        }
        Ok(())
    }

    fn receive_to_the_end(&mut self, n: u64) -> Result<(), End> {
        self.receive(n)?;
        match (&self.stream).read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(End::Wrong(format!("more than was sent, {}", self.had()))),
            Err(e) => Err(self.ended("waiting for the end", &e)),
        }
    }

    /// Says nothing until the others are done, then one word.
    fn idle(&mut self, done: &Receiver<()>) -> Result<(), End> {
        let _ = done.recv(); // Nothing is sent, but the sender goes.
        self.exchange(5)
    }

    fn check(&mut self, got: &[u8]) -> Result<(), End> {
        let at = self.receiving.position();
        if self.receiving.take(got.len()) == got {
            return Ok(());
        }
        Err(End::Wrong(format!(
            "{} bytes from {at} on are not those sent",
            got.len()
        )))
    }

    fn ended(&self, doing: &str, e: &std::io::Error) -> End {
        let text = format!("{doing}, {}: {e}", self.had());
        match e.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => End::Hung(text),
            _ => End::Early(text),
        }
    }

    fn had(&self) -> String {
        format!("after {} right bytes", self.receiving.position())
    }
}
