//! How workers come to be, and what each does on its thread.
//!
//! The rule: all sockets are open and all threads there before any of them serves, so a start that
//! fails leaves nothing behind: nobody listens, no thread is left, no hooks were made.

use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;

use echoloop_core::{Addr, Error, ErrorKind, EventLoop, ListenerId, UdpOptions};

use super::seat::Seat;
use super::team::{ACCEPTOR, Phase, Team};
use super::{Ending, Spread, Workers};
use crate::builder::{Opened, Opening};
use crate::{Hooks, Report, Server, ServerBuilder};

impl ServerBuilder {
    /// Makes so many servers, each with a loop on a thread of its own, that are one in every other
    /// way: [`Workers`] has them.
    ///
    /// Each worker has hooks of its own, which `hooks` makes on the worker's thread from its number,
    /// 0 to `n - 1`; they need not be `Send`. Each has its own ticks. The limits are those of the
    /// whole. Refusals are told to the worker that accepted.
    ///
    /// TCP connections are spread as `spread` says. UDP sockets are always opened by each worker,
    /// with SO_REUSEPORT: the kernel gives all datagrams of one peer to one worker. (One that was
    /// inherited is worker 0's alone.) An address that
    /// another program listens on, even with SO_REUSEPORT, is `EADDRINUSE`, unless
    /// [`reuse_port`](crate::ListenOptions::reuse_port) was asked for in the options.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build); `EAGAIN` when a thread can't be had;
    /// [`ErrorKind::InvalidInput`] for no worker at all. Then nothing is left of the others.
    pub fn start_workers<H: Hooks>(
        self,
        n: usize,
        spread: Spread,
        hooks: impl Fn(usize) -> H + Send + Sync + 'static,
    ) -> Result<Workers, Error> {
        self.start_workers_with(n, spread, move |worker, mut server| {
            let outcome = catch_unwind(AssertUnwindSafe(|| server.run(&mut hooks(worker))));
            drop(server); // Not while a panic unwinds.
            outcome.unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// The same for a program with a loop of its own over [`Server::next_event`]: `work` is called on
    /// each worker's thread, with its number and its server, to serve until the server has a
    /// [`report`](Server::report), and returns that. It hands each [`Event::Stop`](crate::Event::Stop)
    /// to [`Server::stop`], and drops the server before it returns.
    ///
    /// # Errors
    ///
    /// As [`start_workers`](Self::start_workers).
    ///
    /// # Examples
    ///
    /// ```
    /// use echoloop_server::{Event, Server, ServerEvent, Spread};
    ///
    /// let builder = Server::builder().listen("127.0.0.1:0");
    /// let workers = builder.start_workers_with(2, Spread::Fewest, |_worker, mut server| {
    ///     loop {
    ///         if let Some(report) = server.report() {
    ///             return Ok(report);
    ///         }
    ///         server.poll(None)?;
    ///         while let Some(event) = server.next_event() {
    ///             match event {
    ///                 ServerEvent::Loop(Event::Stop) => server.stop(),
    ///                 event => println!("{event:?}"),
    ///             }
    ///         }
    ///     }
    /// })?;
    /// workers.stop();
    /// assert_eq!(workers.join()?.bytes_lost, 0);
    /// # Ok::<(), echoloop_server::Error>(())
    /// ```
    pub fn start_workers_with(
        self,
        n: usize,
        spread: Spread,
        work: impl Fn(usize, Server) -> Result<Report, Error> + Send + Sync + 'static,
    ) -> Result<Workers, Error> {
        let (mut servers, team) = self.make_servers(n, spread)?;
        let local_addrs = servers[ACCEPTOR].local_addrs();
        let udp_addrs = servers[ACCEPTOR].udp_addrs();
        let loops = servers.iter().map(|server| server.el.id()).collect();
        let work = Arc::new(work);
        let mut threads = Vec::with_capacity(n);
        let mut gates = Vec::with_capacity(n);
        for (worker, server) in servers.drain(..).enumerate() {
            let (gate, opened) = mpsc::channel();
            let (team, work) = (Arc::clone(&team), Arc::clone(&work));
            let life = move || serve(server, worker, &team, &opened, &*work);
            let name = format!("echoloop-{worker}");
            match thread::Builder::new().name(name).spawn(life) {
                Ok(thread) => threads.push(thread),
                Err(e) => {
                    drop(gates);
                    for thread in threads {
                        let _ = thread.join();
                    }
                    let errno = e.raw_os_error().unwrap_or_default();
                    return Err(Error::new("start worker", ErrorKind::Os(errno)));
                }
            }
            gates.push(gate);
        }
        for gate in gates {
            // Each waits for it.
            let _ = gate.send(());
        }
        Ok(Workers {
            team,
            ending: Mutex::new(Ending {
                threads,
                outcome: Ok(Report::default()),
            }),
            loops,
            local_addrs,
            udp_addrs,
        })
    }

    /// The servers, with all that they listen on, and what they share.
    fn make_servers(mut self, n: usize, spread: Spread) -> Result<(Vec<Server>, Arc<Team>), Error> {
        if n == 0 {
            let none = ErrorKind::InvalidInput("a server has at least one worker");
            return Err(Error::new("start workers", none));
        }
        let limits = Arc::new(self.limits());
        let openings = std::mem::take(&mut self.openings);
        if n > 1 {
            self.share_ports(&openings, spread)?;
        }
        let mut servers = Vec::with_capacity(n);
        for _ in 0..n {
            let el = EventLoop::new(self.event_loop.clone())?;
            servers.push(Server::start(el, self.clone(), Arc::clone(&limits))?);
        }
        let mut by_hand = Vec::new();
        for opening in &openings {
            let opened = servers[ACCEPTOR].open(opening)?;
            match is_shared(opening, spread).then(|| again(opened, &mut servers[ACCEPTOR])) {
                Some(same) => {
                    let same = same?;
                    for server in &mut servers[ACCEPTOR + 1..] {
                        server.open(&same)?;
                    }
                }
                None => match opened {
                    Opened::Listener(id) => by_hand.push(id),
                    Opened::Udp(_) => {} // One that was inherited is the acceptor's alone.
                },
            }
        }
        let remotes = servers.iter().map(Server::remote).collect();
        // No word that a program thinks of is this one.
        let team = Arc::new(Team::new(
            remotes,
            RandomState::new().hash_one("mark") | 1,
            self.drain_grace,
        ));
        for (worker, server) in servers.iter_mut().enumerate() {
            let spread: Vec<ListenerId> = match worker {
                ACCEPTOR => std::mem::take(&mut by_hand),
                _ => Vec::new(),
            };
            server.seat = Some(Seat::new(Arc::clone(&team), worker, spread));
        }
        Ok((servers, team))
    }

    /// Turns SO_REUSEPORT on where each worker has a socket of its own, after a look whether the
    /// port is another program's: the kernel would not say so any more.
    fn share_ports(&mut self, openings: &[Opening], spread: Spread) -> Result<(), Error> {
        let mut probe = EventLoop::new(self.event_loop.clone())?;
        let taken = |addr: &&Addr| addr.ip().is_some_and(|ip| ip.port() != 0);
        for opening in openings.iter().filter(|o| is_shared(o, spread)) {
            match opening {
                Opening::Listen(Ok(addr)) if !self.listen.reuse_port => {
                    if let Some(addr) = Some(addr).filter(taken) {
                        let id = probe.listen(addr, &self.listen)?;
                        probe.close_listener(id)?;
                    }
                }
                Opening::Udp(Ok(addr)) if !self.udp.reuse_port && !self.udp.reuse_address => {
                    if let Some(addr) = Some(addr).filter(taken) {
                        let id = probe.bind_udp(addr, &self.udp)?;
                        probe.close_udp(id)?;
                    }
                }
                _ => {}
            }
        }
        self.listen.reuse_port |= spread == Spread::ReusePort;
        self.udp = UdpOptions {
            reuse_port: true,
            ..self.udp.clone()
        };
        Ok(())
    }
}

/// Whether each worker opens this by itself.
fn is_shared(opening: &Opening, spread: Spread) -> bool {
    match opening {
        Opening::Listen(Ok(addr)) => spread == Spread::ReusePort && addr.ip().is_some(),
        Opening::Udp(_) => true,
        _ => false,
    }
}

/// What the other workers open: the same address, with the port that the first one got.
fn again(opened: Opened, first: &mut Server) -> Result<Opening, Error> {
    Ok(match opened {
        Opened::Listener(id) => Opening::Listen(Ok(first.event_loop().listener_addr(id)?)),
        Opened::Udp(id) => {
            let addr = first.event_loop().udp(id)?.local_addr()?;
            Opening::Udp(Ok(addr.into()))
        }
    })
}

/// The life of one worker on its thread.
fn serve(
    server: Server,
    me: usize,
    team: &Team,
    gate: &Receiver<()>,
    work: impl Fn(usize, Server) -> Result<Report, Error>,
) -> Result<Report, Error> {
    if gate.recv().is_err() {
        return Ok(Report::default()); // The start has failed.
    }
    // Its listeners are closed before the others are told.
    let outcome = catch_unwind(AssertUnwindSafe(|| work(me, server)));
    if !matches!(outcome, Ok(Ok(_))) {
        log::error!("worker {me} has failed, the others drain");
    }
    if me == ACCEPTOR {
        team.seal();
    }
    team.raise(Phase::Draining);
    team.ended();
    outcome.unwrap_or_else(|panic| resume_unwind(panic))
}
