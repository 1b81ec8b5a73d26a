//! The send queue against a model, on a system that cuts and refuses at random: 100,000 random
//! sequences of sends of all sizes on two connections, with peers that read as they like.
//!
//! The rule of the model: what `send` took arrives, byte for byte and in order, and of what it
//! refused nothing; it refuses only above the cap or the budget; `Congested` and `Drained` take
//! turns. The seed of a failure is printed; run it alone with `ECHOLOOP_SEED=n`.

mod util;

use std::sync::LazyLock;
use std::time::Duration;

use echoloop_core::sys::{Peer, Sim, SimOptions};
use echoloop_core::{ConnId, ConnOptions, ErrorKind, Event, EventLoop, ListenOptions, LoopOptions};
use util::Random;

const ADDR: &str = "10.0.0.2:7";

/// One connection and what is known of it.
struct Line {
    peer: Peer,
    conn: ConnId,
    /// Bytes that `send` took, and those that arrived.
    sent: usize,
    arrived: usize,
    congested: bool,
    /// A send was refused since the last `Drained`.
    refused: bool,
}

struct World {
    sim: Sim,
    el: EventLoop<Sim>,
    marks: ConnOptions,
    /// Sizes are small in most sequences; in some they pass all the limits of the loop's own.
    large: bool,
    budget: usize,
    over: bool,
    lines: Vec<Line>,
    refusals: u64,
    congestions: u64,
}

impl World {
    fn new(seed: u64, random: &mut Random) -> Self {
        let large = random.one_in(50);
        let scale = if large { 100 } else { 1 };
        let sim = Sim::new(SimOptions {
            buffer: (scale * (10 + random.below(100))) as usize,
            ..SimOptions::unkind(seed)
        });
        let any = |random: &mut Random| [0, 5, 50, 200][random.below(4) as usize] * scale;
        let high_mark = any(random) as usize;
        let marks = ConnOptions {
            high_mark,
            low_mark: random.below(high_mark as u64 + 1) as usize,
            send_cap: any(random) as usize,
            auto_pause: random.one_in(2),
            ..ConnOptions::default()
        };
        let budget = if random.one_in(4) {
            50 * scale as usize
        } else {
            usize::MAX
        };
        let options = LoopOptions {
            memory_budget: budget,
            ..LoopOptions::default()
        };
        let mut el = EventLoop::with_system(sim.clone(), options).unwrap();
        let listen = ListenOptions {
            conn: marks.clone(),
            ..ListenOptions::default()
        };
        el.listen(ADDR, &listen).unwrap();
        let mut world = Self {
            sim,
            el,
            marks,
            large,
            budget,
            over: false,
            lines: Vec::new(),
            refusals: 0,
            congestions: 0,
        };
        (0..2).for_each(|_| world.open());
        world
    }

    fn open(&mut self) {
        let peer = self.sim.connect_to(ADDR);
        loop {
            self.el.poll(Some(Duration::ZERO)).unwrap();
            if let Some(Event::Accepted { conn, .. }) = self.el.next_event() {
                self.lines.push(Line {
                    peer,
                    conn,
                    sent: 0,
                    arrived: 0,
                    congested: false,
                    refused: false,
                });
                return;
            }
        }
    }

    /// Sends on any connection, and looks at the answer.
    fn send(&mut self, random: &mut Random) {
        let line = &mut self.lines[random.below(2) as usize];
        let n = match random.below(12) {
            0 => 0,
            1..=4 => random.below(10),
            _ if !self.large => random.below(200),
            5..=8 => random.below(3000),
            9 | 10 => 8000 + random.below(400),
            _ => random.below(70_000),
        } as usize;
        let bytes = &STREAM[line.sent..line.sent + n];
        let mut view = self.el.conn(line.conn).unwrap();
        let before = view.queued();
        match view.send(bytes) {
            Ok(()) => line.sent += n,
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::QueueFull);
                let queued = view.queued();
                assert!(queued <= before, "something of a refused send was queued");
                let full = queued > self.marks.send_cap;
                // Once over the budget, the loop is so until an eighth of it is free.
                let room = self.budget - self.budget / 8;
                let over_budget = queued > 0 && self.el.buffered() > room;
                assert!(full || over_budget, "refused although only {queued} wait");
                line.refused = true;
                self.refusals += 1;
            }
        }
        if random.one_in(6) {
            let waits = self.el.conn(line.conn).unwrap().flush();
            assert_eq!(waits, self.el.conn(line.conn).unwrap().queued());
        }
    }

    fn turn(&mut self, random: &mut Random, sends: u64) {
        self.el.poll(Some(Duration::ZERO)).unwrap();
        while let Some(event) = self.el.next_event() {
            match event {
                Event::Congested { conn } => {
                    let line = self.line(conn);
                    assert!(!line.congested, "congested twice");
                    line.congested = true;
                    self.congestions += 1;
                }
                Event::Drained { conn } => {
                    let line = self.line(conn);
                    assert!(line.congested, "drained and was not congested");
                    (line.congested, line.refused) = (false, false);
                    let queued = self.el.conn(conn).unwrap().queued();
                    // It was below the low mark; another handler may have sent since.
                    assert!(queued <= self.marks.high_mark, "drained, and {queued} wait");
                }
                Event::OverBudget => assert!(!std::mem::replace(&mut self.over, true)),
                Event::UnderBudget => assert!(std::mem::replace(&mut self.over, false)),
                other => panic!("{other:?}"),
            }
            for _ in 0..random.below(sends) {
                self.send(random);
            }
        }
    }

    fn line(&mut self, conn: ConnId) -> &mut Line {
        let line = self.lines.iter_mut().find(|line| line.conn == conn);
        line.expect("one of ours")
    }

    /// A peer takes what it likes, which is what was sent.
    fn receive(&mut self, which: usize, most: usize) {
        let line = &mut self.lines[which];
        let bytes = line.peer.receive(most);
        let expected = &STREAM[line.arrived..line.arrived + bytes.len()];
        assert!(bytes == expected, "from byte {} on", line.arrived);
        line.arrived += bytes.len();
        assert!(line.arrived <= line.sent, "more than was sent");
    }

    /// Everybody reads until all has arrived.
    fn finish(&mut self, random: &mut Random) {
        for turns in 0.. {
            assert!(turns < 10_000, "no end");
            (0..2).for_each(|which| self.receive(which, usize::MAX));
            self.turn(random, 1);
            let over = |l: &Line| l.arrived == l.sent && !l.congested && !l.refused;
            if self.lines.iter().all(over) {
                break;
            }
        }
        for line in &self.lines {
            assert_eq!(self.el.conn(line.conn).unwrap().queued(), 0);
        }
        assert_eq!((self.el.buffered(), self.over), (0, false));
    }
}

/// What is sent on every connection, from its beginning on: two pages of it are never the same.
static STREAM: LazyLock<Vec<u8>> = LazyLock::new(|| Random::new(1).bytes(4 << 20));

#[test]
fn sends_agree_with_a_plain_count_of_bytes() {
    let (mut refusals, mut congestions) = (0, 0);
    Random::each_seed(100_000, |seed, random| {
        let mut world = World::new(seed, random);
        for _ in 0..3 + random.below(8) {
            for _ in 0..random.below(4) {
                world.send(random);
            }
            world.turn(random, 3);
            let most = random.below(if world.large { 9000 } else { 100 }) as usize;
            world.receive(random.below(2) as usize, most);
        }
        world.finish(random);
        refusals += world.refusals;
        congestions += world.congestions;
    });
    // A single seed may have neither.
    assert!(Random::seeds(2).end == 1 || (refusals > 0 && congestions > 0));
}
