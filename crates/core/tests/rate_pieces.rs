//! The receive rate against a model of the bucket, on a system that cuts and fails at random.

mod util;

use std::time::Duration;

use echoloop_core::sys::{Peer, Sim, SimOptions};
use echoloop_core::{
    ConnId, ConnOptions, ConnectOptions, Event, EventLoop, ListenOptions, LoopOptions, Rate,
};
use util::{Random, seeds};

const ADDR: &str = "10.0.0.2:7";
const BYTE: u128 = 1_000_000_000;

/// What a rate allows, in parts of a byte as a second has nanoseconds.
struct Model {
    rate: Option<Rate>,
    level: u128,
    at: u128,
}

impl Model {
    fn set(&mut self, rate: Option<Rate>, now: Duration) {
        self.pass(now);
        let full = rate.map_or(0, |r| u128::from(r.burst.max(1)) * BYTE);
        self.level = match self.rate {
            Some(_) => self.level.min(full),
            None => full,
        };
        self.rate = rate;
    }

    fn pass(&mut self, now: Duration) {
        let passed = now.as_nanos() - self.at;
        self.at = now.as_nanos();
        if let Some(rate) = self.rate {
            let full = u128::from(rate.burst.max(1)) * BYTE;
            let gained = passed * u128::from(rate.bytes_per_second.max(1));
            self.level = full.min(self.level + gained);
        }
    }

    /// So many bytes were read: it has them, and takes them.
    fn read(&mut self, bytes: u64, now: Duration, seed: u64) {
        self.pass(now);
        if self.rate.is_some() {
            let parts = u128::from(bytes) * BYTE;
            assert!(
                parts <= self.level,
                "seed {seed}: {bytes} of {}",
                self.level
            );
            self.level -= parts;
        }
    }
}

fn any_rate(random: &mut Random) -> Rate {
    Rate {
        bytes_per_second: [0, 7, 1000, 33_333, 5_000_000][random.below(5) as usize],
        burst: [0, 1, 100, 4097, 1 << 40][random.below(5) as usize],
    }
}

/// One connection with a rate that changes, perhaps piped to a peer without one.
struct Run {
    seed: u64,
    random: Random,
    sim: Sim,
    el: EventLoop<Sim>,
    model: Model,
    peer: Peer,
    conn: Option<ConnId>,
    /// Where the bytes of a pipe come out.
    out: Option<Peer>,
    piped: bool,
    got: Vec<u8>,
    seen: u64,
    over: bool,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let sim = Sim::new(SimOptions::unkind(seed));
        let first = random.one_in(4).then(|| any_rate(&mut random));
        let conn = ConnOptions {
            receive_rate: first,
            first_byte_timeout: random.one_in(2).then_some(Duration::from_secs(1 << 30)),
            high_mark: [1, 500, 256 << 10][random.below(3) as usize],
            low_mark: 0,
            half_open: random.one_in(2),
            ..ConnOptions::default()
        };
        let mut el = EventLoop::with_system(sim.clone(), LoopOptions::default()).unwrap();
        let listen = ListenOptions {
            conn,
            ..ListenOptions::default()
        };
        el.listen(ADDR, &listen).unwrap();
        let full = first.map_or(0, |r| u128::from(r.burst.max(1)) * BYTE);
        Self {
            seed,
            peer: sim.connect_to(ADDR),
            piped: random.one_in(2),
            random,
            sim,
            el,
            model: Model {
                rate: first,
                level: full,
                at: 0,
            },
            conn: None,
            out: None,
            got: Vec::new(),
            seen: 0,
            over: false,
        }
    }

    /// One turn; what it has read is within the model.
    fn turn(&mut self) {
        self.el.poll(Some(Duration::ZERO)).unwrap();
        while let Some(event) = self.el.next_event() {
            match event {
                Event::Accepted { conn, .. } => {
                    self.conn = Some(conn);
                    if self.piped {
                        let options = ConnectOptions::default();
                        let far = self.el.connect("10.0.0.9:9", &options).unwrap();
                        self.el.pipe(conn, far).unwrap();
                    }
                }
                Event::Connected { .. } => self.out = self.sim.connected_peer(),
                Event::Data { conn } => {
                    let mut view = self.el.conn(conn).unwrap();
                    self.got.extend_from_slice(view.received());
                    view.consume(usize::MAX);
                    if self.random.one_in(8) {
                        view.pause();
                    }
                }
                Event::EndOfStream { .. } => self.over = true,
                _ => {}
            }
        }
        if let Some(out) = &self.out {
            self.got
                .extend(out.receive(self.random.below(3000) as usize));
            self.over = out.sees_end();
        }
        let read = self.el.counters().bytes_received - self.seen;
        self.seen += read;
        self.model.read(read, self.el.now(), self.seed);
    }

    fn set(&mut self, rate: Option<Rate>) {
        let Some(Ok(mut view)) = self.conn.map(|conn| self.el.conn(conn)) else {
            return;
        };
        view.set_receive_rate(rate);
        // The turn has the time of the system: nothing has passed since it began.
        self.model.set(rate, self.el.now());
    }
}

#[test]
fn what_is_read_never_passes_what_the_bucket_allows_and_all_of_it_comes() {
    let mut throttled = 0;
    for seed in seeds(400) {
        let mut run = Run::new(seed);
        let n = run.random.below(9000) as usize;
        let input = run.random.bytes(n);
        let mut sent = 0;
        for _ in 0..300 {
            let piece = (run.random.below(1500) as usize).min(input.len() - sent);
            sent += run.peer.send(&input[sent..][..piece]);
            run.turn();
            match run.random.below(12) {
                0 => {
                    let rate = (!run.random.one_in(5)).then(|| any_rate(&mut run.random));
                    run.set(rate);
                }
                1 | 2 => {
                    if let Some(Ok(mut view)) = run.conn.map(|conn| run.el.conn(conn)) {
                        view.resume();
                    }
                }
                3..6 => {
                    let nanos = run.random.below(1 << run.random.clone().below(31));
                    run.sim.advance(Duration::from_nanos(nanos));
                }
                _ => {}
            }
        }
        // At a rate of its own the rest comes in its time, and then the end.
        let last = Rate {
            bytes_per_second: 2000,
            burst: 1 + run.random.below(300),
        };
        run.set(Some(last));
        let begun = run.el.now();
        while !run.over {
            sent += run.peer.send(&input[sent..]);
            if sent == input.len() {
                run.peer.finish();
            }
            run.turn();
            if let Some(Ok(mut view)) = run.conn.map(|conn| run.el.conn(conn)) {
                view.resume();
            }
            run.sim.advance(Duration::from_millis(2));
            let took = run.el.now() - begun;
            assert!(took < Duration::from_secs(120), "seed {seed}: no end");
        }
        assert!(run.got == input, "seed {seed}: {} of {n}", run.got.len());
        throttled += run.el.counters().throttled;
    }
    if std::env::var("ECHOLOOP_SEED").is_err() {
        assert!(throttled > 1000, "{throttled} waits");
    }
}
