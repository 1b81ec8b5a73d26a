//! "Readable exactly when `poll` would do or tell something", in both directions, after random
//! operations between and within the turns; on the simulated system, with its accidents, and on
//! the real one.

mod util;

use std::cell::Cell;
use std::io::{IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::Duration;

use echoloop_core::sys::{Os, Peer, Ready, Sim, SimOptions, System, Waker};
use echoloop_core::{
    Addr, ConnId, ConnOptions, ConnectOptions, Event, EventLoop, ListenOptions, LoopOptions,
    TimerId, TimerSpec,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use util::real::reset;
use util::{Random, seeds};

/// What a turn has done with the system.
#[derive(Clone, Copy, Default, Debug)]
struct Activity {
    /// Reports of sockets.
    reports: usize,
    /// Calls on sockets.
    calls: usize,
    /// Events handed out, and those of timers among them.
    events: usize,
    timers: usize,
    interrupted: bool,
}

/// A system that is watched.
struct Watched<S> {
    inner: S,
    activity: Rc<Cell<Activity>>,
}

impl<S> Watched<S> {
    fn note(&self, change: impl FnOnce(&mut Activity)) {
        let mut activity = self.activity.get();
        change(&mut activity);
        self.activity.set(activity);
    }

    fn call(&mut self) -> &mut S {
        self.note(|a| a.calls += 1);
        &mut self.inner
    }
}

impl<S: AsFd> AsFd for Watched<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl<S: System> System for Watched<S> {
    type Socket = S::Socket;

    fn now(&self) -> u64 {
        self.inner.now()
    }
    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> Result<(), Errno> {
        let before = ready.len();
        let waited = self.inner.wait(timeout, ready);
        let reports = ready[before..].iter().filter(|r| r.token % 2 == 1).count();
        self.note(|a| {
            a.reports += reports;
            a.interrupted |= waited.is_err();
        });
        waited
    }
    fn waker(&self) -> Waker {
        self.inner.waker()
    }
    fn set_alarm(&mut self, at: Option<u64>) -> Result<(), Errno> {
        self.inner.set_alarm(at)
    }
    fn register(&mut self, socket: &S::Socket, token: u64) -> Result<(), Errno> {
        self.inner.register(socket, token)
    }
    fn listen(&mut self, addr: &Addr, options: &ListenOptions) -> Result<S::Socket, Errno> {
        self.call().listen(addr, options)
    }
    fn accept(&mut self, listener: &S::Socket) -> Result<(S::Socket, Addr), Errno> {
        self.call().accept(listener)
    }
    fn connect(&mut self, addr: &Addr, options: &ConnectOptions) -> Result<S::Socket, Errno> {
        self.call().connect(addr, options)
    }
    fn take_error(&mut self, socket: &S::Socket) -> Option<Errno> {
        self.call().take_error(socket)
    }
    fn local_addr(&self, socket: &S::Socket) -> Result<Addr, Errno> {
        self.inner.local_addr(socket)
    }
    fn recv(&mut self, socket: &S::Socket, buf: &mut [u8]) -> Result<usize, Errno> {
        self.call().recv(socket, buf)
    }
    fn send(&mut self, socket: &S::Socket, bufs: &[IoSlice<'_>]) -> Result<usize, Errno> {
        self.call().send(socket, bufs)
    }
    fn shutdown_write(&mut self, socket: &S::Socket) -> Result<(), Errno> {
        self.call().shutdown_write(socket)
    }
    fn close(&mut self, socket: S::Socket) {
        self.call().close(socket);
    }
    fn abort(&mut self, socket: S::Socket) {
        self.call().abort(socket);
    }
}

/// Turns that the descriptor asked for. A few come to nothing, since something was at hand and was
/// overtaken: a closing connection that was to be read again, and was.
#[derive(Clone, Copy, Default)]
struct Tally {
    checked: u64,
    futile: u64,
    last: u64,
}

impl Tally {
    fn check(self) {
        let Self {
            checked,
            futile,
            last,
        } = self;
        assert!(checked > 100, "{checked} is too few to tell");
        assert!(
            futile * 1_000 <= checked,
            "{futile} of {checked} turns woke for nothing, the last with seed {last}"
        );
    }
}

/// A nested loop, and a program that does anything with it.
struct Program<S: System> {
    el: EventLoop<Watched<S>>,
    activity: Rc<Cell<Activity>>,
    random: Random,
    tally: Tally,
    timers: Vec<TimerId>,
    /// Deadlines that move lazily are in use, and orderly closes: some turns only look after those.
    lazy: bool,
    /// Woken by hand or by a post, or given work that may be taken back or done before the turn: a pause after a
    /// resume, a flush after a send, a send on a queue that the kernel does not take.
    excused: bool,
}

impl<S: System> Program<S> {
    fn new(system: S, tally: Tally, seed: u64) -> Self {
        let activity = Rc::default();
        let watched = Watched {
            inner: system,
            activity: Rc::clone(&activity),
        };
        let mut random = Random::new(seed);
        let options = LoopOptions {
            memory_budget: if random.one_in(2) { 20_000 } else { 1 << 30 },
            ..LoopOptions::default()
        };
        let mut el = EventLoop::with_system(watched, options).unwrap();
        el.nest();
        Self {
            el,
            activity,
            tally,
            timers: Vec::new(),
            lazy: random.one_in(2),
            excused: false,
            random,
        }
    }

    fn conn_options(&mut self) -> ConnOptions {
        let ms = |n| self.lazy.then(|| Duration::from_millis(n));
        ConnOptions {
            idle_timeout: ms(5),
            write_stall_timeout: ms(7),
            high_mark: 6_000,
            low_mark: 1_000,
            half_open: !self.lazy || self.random.one_in(3),
            ..ConnOptions::default()
        }
    }

    /// Anything that a program may do, in a handler or between the turns.
    fn meddle(&mut self) {
        let conns = self.el.connections();
        let conn =
            (!conns.is_empty()).then(|| conns[self.random.below(conns.len() as u64) as usize]);
        let micros = Duration::from_micros(self.random.below(4_000));
        let what = self.random.below(16);
        self.excused |= (4..12).contains(&what) || what == 13;
        match (what, conn) {
            (0, _) => {
                let spec = TimerSpec::after(micros);
                let spec = if self.random.one_in(5) {
                    TimerSpec::every(micros + Duration::from_millis(1))
                } else {
                    spec
                };
                self.timers.push(self.el.add_timer(spec).unwrap());
            }
            (1 | 2, _) if !self.timers.is_empty() => {
                let place = self.random.below(self.timers.len() as u64) as usize;
                let _ = self.el.cancel_timer(self.timers.swap_remove(place));
            }
            (3, _) if !self.timers.is_empty() => {
                let place = self.random.below(self.timers.len() as u64) as usize;
                let _ = self.el.rearm_timer(self.timers[place], micros);
            }
            (4, _) => self.el.remote().post(1).unwrap(),
            (5, _) if self.random.one_in(4) => self.el.remote().wake().unwrap(),
            (6 | 7, Some(conn)) => {
                let len = self.random.below(200) as usize;
                let _ = self.el.send(conn, &vec![1; len]);
            }
            (8, Some(conn)) => {
                let len = 1 + self.random.below(40_000) as usize;
                let _ = self.el.conn(conn).unwrap().send(&vec![2; len]);
            }
            (9, Some(conn)) => self.el.conn(conn).unwrap().pause(),
            (10 | 11, Some(conn)) => self.el.conn(conn).unwrap().resume(),
            (12, Some(conn)) => self.end(conn),
            (13, Some(conn)) => self.take(conn),
            (14, Some(conn)) => {
                let mut view = self.el.conn(conn).unwrap();
                if !view.received().is_empty() {
                    let _ = view.put_back(b"back");
                }
            }
            (15, Some(conn)) if self.lazy => {
                self.el.conn(conn).unwrap().set_idle_timeout(Some(micros));
            }
            _ => {}
        }
    }

    fn end(&mut self, conn: ConnId) {
        let mut view = self.el.conn(conn).unwrap();
        match self.random.below(6) {
            0 if self.lazy => view.close(),
            1 => view.abort(),
            2 => drop(view.shutdown_write()),
            _ => {}
        }
    }

    fn take(&mut self, conn: ConnId) {
        let mut view = self.el.conn(conn).unwrap();
        match self.random.below(4) {
            0 => drop(view.send_received(usize::MAX)),
            1 => view.consume(usize::MAX),
            2 => view.consume(3),
            _ => drop(view.flush()),
        }
    }

    /// The next deadline and the descriptor agree, now and when that has come. Answers whether there
    /// was one to wait for.
    fn sleep_till_next(&mut self, sim: &Sim, seed: u64) -> bool {
        self.turn(false, seed);
        match self.el.next_deadline() {
            Some(Duration::ZERO) => assert!(sim.readable(), "seed {seed}: asleep with work"),
            Some(left) if !sim.readable() => {
                sim.advance(left - Duration::from_nanos(1));
                assert!(!sim.readable(), "seed {seed}: due before {left:?}");
                assert_eq!(self.el.next_deadline(), Some(Duration::from_nanos(1)));
                sim.advance(Duration::from_nanos(1));
                assert!(sim.readable(), "seed {seed}: not due after {left:?}");
                assert_eq!(self.el.next_deadline(), Some(Duration::ZERO));
                self.excused = true; // Of a retry, say, whose reason is gone by now.
                return true;
            }
            _ => {}
        }
        false
    }

    /// A turn, which should come to something if the descriptor `asked` for it.
    fn turn(&mut self, asked: bool, seed: u64) -> Activity {
        self.activity.set(Activity::default());
        let excused = std::mem::take(&mut self.excused);
        self.el.poll(Some(Duration::ZERO)).unwrap();
        let mut done = Activity::default();
        while let Some(event) = self.el.next_event() {
            done.events += 1;
            match event {
                Event::Data { conn } => self.take(conn),
                Event::Timer { timer } => {
                    done.timers += 1;
                    if self.random.one_in(2) {
                        let _ = self.el.cancel_timer(timer);
                    }
                }
                _ if self.random.one_in(3) => self.meddle(),
                _ => {}
            }
        }
        let Activity { events, timers, .. } = done;
        let done = Activity {
            events,
            timers,
            ..self.activity.get()
        };
        // A wait that was cut short leaves the waker's report to the next.
        self.excused |= done.interrupted;
        let excused = self.lazy || excused || done.interrupted;
        let something = done.events + done.calls + done.reports > 0;
        if asked && !excused {
            self.tally.checked += 1;
            self.tally.futile += u64::from(!something);
            self.tally.last = if something { self.tally.last } else { seed };
        }
        done
    }
}

#[test]
fn the_descriptor_is_readable_exactly_when_a_turn_has_something_to_do() {
    let mut tally = Tally::default();
    let mut slept = 0;
    for seed in seeds(1_500) {
        let mut options = match seed % 3 {
            0 => SimOptions::kind(seed),
            _ => SimOptions::unkind(seed),
        };
        options.reset = if seed % 5 == 0 { 50 } else { 0 };
        let sim = Sim::new(options);
        let mut program = Program::new(sim.clone(), tally, seed);
        let conn = program.conn_options();
        let listen = ListenOptions {
            conn: conn.clone(),
            ..ListenOptions::default()
        };
        let addr = "10.0.0.2:7";
        program.el.listen(addr, &listen).unwrap();
        let mut peers: Vec<Peer> = Vec::new();
        for _ in 0..120 {
            match program.random.below(13) {
                0 if peers.len() < 6 => peers.push(sim.connect_to(addr)),
                1 if peers.len() < 6 => {
                    let options = ConnectOptions {
                        timeout: program.lazy.then_some(Duration::from_millis(3)),
                        conn: conn.clone(),
                        ..ConnectOptions::default()
                    };
                    match program.random.below(4) {
                        0 => sim.refuse_next(),
                        1 => sim.ignore_next(),
                        _ => {}
                    }
                    program.el.connect("10.0.0.9:9", &options).unwrap();
                    peers.extend(sim.connected_peer());
                }
                2 => sim.advance(Duration::from_micros(program.random.below(3_000))),
                3 => sim.fail_accept(Errno::MFILE.raw_os_error()),
                4 | 5 if !peers.is_empty() => {
                    let place = program.random.below(peers.len() as u64) as usize;
                    match program.random.below(12) {
                        0 => peers.swap_remove(place).finish(),
                        1 => peers.swap_remove(place).reset(),
                        2..5 => drop(peers[place].receive(usize::MAX)),
                        _ => drop(peers[place].send(&[3; 700])),
                    }
                }
                6..9 => program.meddle(),
                9 => slept += u64::from(program.sleep_till_next(&sim, seed)),
                _ => {
                    let asked = sim.readable();
                    let done = program.turn(asked, seed);
                    let something = done.events + done.calls + done.reports > 0;
                    assert!(asked || !something, "seed {seed}: asleep, {done:?}");
                }
            }
        }
        tally = program.tally;
    }
    tally.check();
    assert!(slept > 100, "{slept} sleeps are too few to tell");
}

#[test]
fn the_real_descriptor_is_readable_exactly_when_a_turn_has_something_to_do() {
    let mut tally = Tally::default();
    for seed in seeds(40) {
        let mut program = Program::<Os>::new(Os::new(64).unwrap(), tally, seed);
        let listen = ListenOptions {
            conn: program.conn_options(),
            ..ListenOptions::default()
        };
        let listener = program.el.listen("127.0.0.1:0", &listen).unwrap();
        let addr = program.el.listener_addr(listener).unwrap().ip().unwrap();
        let mut clients: Vec<TcpStream> = Vec::new();
        for _ in 0..300 {
            match program.random.below(9) {
                0 if clients.len() < 6 => {
                    let client = TcpStream::connect(addr).unwrap();
                    client.set_nonblocking(true).unwrap();
                    clients.push(client);
                }
                1 | 2 if !clients.is_empty() => {
                    let place = program.random.below(clients.len() as u64) as usize;
                    match program.random.below(12) {
                        0 => drop(clients.swap_remove(place)),
                        1 => reset(clients.swap_remove(place)),
                        // The loop may have reset it.
                        2..5 => drop(clients[place].read(&mut [0; 9_000])),
                        _ => drop(clients[place].write(&[3; 700])),
                    }
                }
                3..6 => program.meddle(),
                _ => {
                    let asked = {
                        let descriptor = program.el.descriptor();
                        let mut fds = [PollFd::new(&descriptor, PollFlags::IN)];
                        poll(&mut fds, Some(&Timespec::default())).unwrap() > 0
                    };
                    let done = program.turn(asked, seed);
                    // Time has gone on since, and the kernel reports sockets when it likes to.
                    let due_since = program.lazy || done.timers == done.events;
                    let excused = due_since || done.reports > 0;
                    assert!(asked || excused, "seed {seed}: asleep, {done:?}");
                }
            }
        }
        tally = program.tally;
    }
    tally.check();
}
