//! What there is in a run: two loops, the streams between them and the peers, and the dials.
//!
//! The rule: the world keeps beside each loop what a program would know of it, from its own calls
//! and from events, and nothing that only the loop could know.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use arbitrary::Unstructured;
use echoloop_core::sys::{Peer, Sim, SimOptions, System};
use echoloop_core::{
    ConnId, ConnOptions, ConnectOptions, EventLoop, ListenOptions, ListenerId, LoopOptions, Rate,
    TimerId,
};

use super::others::{Alarm, Socket};
use super::streams::Stream;

pub(super) const LOOPS: usize = 2;

/// A loop and what its program knows.
pub(super) struct Side {
    pub(super) el: EventLoop<Sim>,
    /// The clock when the loop was made, in nanoseconds.
    pub(super) start: u64,
    pub(super) listener: Option<ListenerId>,
    pub(super) listened: Vec<ListenerId>,
    pub(super) listens_at: String,
    pub(super) conns: BTreeMap<ConnId, usize>,
    /// Given away, and their `Closed` not told yet.
    pub(super) leaving: BTreeMap<ConnId, usize>,
    /// What other threads have left, in order.
    pub(super) mail: VecDeque<Mail>,
    /// Stops that were asked for and perhaps not told; several may be told as one.
    pub(super) stops: usize,
    pub(super) stop_is_due: bool,
    pub(super) timers: HashMap<TimerId, Alarm>,
    pub(super) sockets: Vec<Socket>,
    pub(super) told: Told,
    pub(super) over_budget: bool,
    /// The handle that is good until the next event.
    pub(super) dying: Option<Dying>,
}

#[derive(Clone, Copy)]
pub(super) enum Dying {
    Conn(ConnId),
    Timer(TimerId),
}

#[derive(PartialEq, Eq, Debug)]
pub(super) enum Mail {
    Word(u64),
    Handed(usize),
}

/// How many of each were told: what the counters must say too.
#[derive(Default, PartialEq, Eq, Debug)]
pub(super) struct Told {
    pub(super) accepted: u64,
    pub(super) connected: u64,
    pub(super) adopted: u64,
    pub(super) given_away: u64,
    pub(super) closed: u64,
    pub(super) posts: u64,
    pub(super) timers: u64,
}

/// What handlers do each time, without a byte being spent on it: loops that feed themselves.
#[derive(Default)]
pub(super) struct Habits {
    pub(super) rearm: bool,
    pub(super) reconnect: bool,
    pub(super) repost: bool,
    pub(super) chatter: bool,
    pub(super) echo: bool,
}

pub(super) struct World<'a> {
    pub(super) bytes: Unstructured<'a>,
    pub(super) sim: Sim,
    pub(super) sides: Vec<Side>,
    pub(super) streams: Vec<Stream>,
    /// Ends of connects that were not the first of their name.
    pub(super) strangers: Vec<Peer>,
    /// Who knocked and was not accepted yet, by the address of the peer, and where.
    pub(super) knocking: HashMap<String, (String, usize)>,
    pub(super) conn: ConnOptions,
    pub(super) loop_options: LoopOptions,
    pub(super) habits: Habits,
    pub(super) words: u64,
    pub(super) gone: HashSet<ConnId>,
    /// Bytes that loops have sent that live no more.
    pub(super) sent_by_dropped: Option<u64>,
    /// All ends while much is on its way.
    pub(super) abrupt: bool,
    /// In the end no peer takes anything more.
    pub(super) silent: bool,
    /// Handlers consume what comes, and do nothing else.
    pub(super) quiet: bool,
    pub(super) ending: bool,
}

impl<'a> World<'a> {
    pub(super) fn new(mut bytes: Unstructured<'a>) -> Self {
        let mut dial = |n: usize| usize::from(bytes.arbitrary::<u8>().unwrap_or(0)) % n;
        let seconds = |n: usize| (n > 0).then(|| Duration::from_secs(n as u64));
        let resets = [0, 0, 0, 200][dial(4)];
        let sim_options = SimOptions {
            seed: dial(256) as u64,
            buffer: [64 << 10, 4096, 100, 1][dial(4)],
            cut: [0, 2][dial(2)],
            again: [0, 5][dial(2)],
            interrupt: [0, 7][dial(2)],
            reset: resets,
        };
        let rate = Rate {
            bytes_per_second: 5000,
            burst: 3000,
        };
        let conn = ConnOptions {
            half_open: dial(2) == 1,
            auto_pause: dial(4) != 3,
            high_mark: [256 << 10, 2000, 0][dial(3)],
            low_mark: [64 << 10, 500, 0][dial(3)],
            send_cap: [4 << 20, 8000, 0][dial(3)],
            max_unread: [1 << 20, 6000, 10][dial(3)],
            idle_timeout: seconds(dial(3)),
            write_stall_timeout: seconds(dial(3)),
            close_timeout: Duration::from_secs([10, 1, 0][dial(3)]),
            linger: Duration::from_millis([1000, 0, 1][dial(3)]),
            first_byte_timeout: seconds(dial(2)),
            lifetime: seconds(3 * dial(2)),
            receive_rate: [None, Some(rate)][dial(2)],
            ..ConnOptions::default()
        };
        let loop_options = LoopOptions {
            memory_budget: [1 << 30, 20_000, 3000][dial(3)],
            post_capacity: [1 << 20, 2][dial(2)],
            slow_handler: [None, Some(Duration::MAX)][dial(2)],
            ..LoopOptions::default()
        };
        let dials = dial(256);
        let habits = Habits {
            rearm: dials & 1 != 0,
            reconnect: dials & 2 != 0,
            repost: dials & 4 != 0,
            chatter: dials & 8 != 0,
            echo: dials & 16 != 0,
        };
        let (abrupt, silent) = (dials & 32 != 0, dials & 64 != 0);
        let sim = Sim::new(sim_options);
        let mut world = Self {
            bytes,
            sides: Vec::new(),
            streams: Vec::new(),
            strangers: Vec::new(),
            knocking: HashMap::new(),
            conn,
            loop_options,
            habits,
            words: 0,
            gone: HashSet::new(),
            sent_by_dropped: Some(0),
            abrupt,
            silent,
            quiet: false,
            ending: false,
            sim,
        };
        for n in 0..LOOPS {
            let sim = if n == 0 {
                world.sim.clone()
            } else {
                world.sim.neighbour()
            };
            let side = world.new_side(sim);
            world.sides.push(side);
            world.listen(n);
        }
        world
    }

    pub(super) fn new_side(&self, sim: Sim) -> Side {
        let el = EventLoop::with_system(sim.clone(), self.loop_options.clone()).unwrap();
        Side {
            el,
            start: sim.now(),
            listener: None,
            listened: Vec::new(),
            listens_at: String::new(),
            conns: BTreeMap::new(),
            leaving: BTreeMap::new(),
            mail: VecDeque::new(),
            stops: 0,
            stop_is_due: false,
            timers: HashMap::new(),
            sockets: Vec::new(),
            told: Told::default(),
            over_budget: false,
            dying: None,
        }
    }

    /// Listens on this side's own address, or where the other one does, on the same backlog.
    pub(super) fn listen(&mut self, side: usize) {
        let options = ListenOptions {
            conn: self.conn.clone(),
            ..ListenOptions::default()
        };
        let other = (side + 1) % LOOPS;
        let shared = self
            .sides
            .get_mut(other)
            .filter(|_| !self.knocking.is_empty());
        let shared = shared.and_then(|other| {
            let fd = other.el.share_listener(other.listener?);
            Some((fd.expect("it listens"), other.listens_at.clone()))
        });
        let loose = &mut self.sides[side];
        let listener = match shared {
            Some((fd, addr)) => {
                loose.listens_at = addr;
                loose.el.adopt_listener(fd, &options)
            }
            None => {
                // One of its own each time: the last one may still be the other's.
                self.words += 1;
                loose.listens_at = format!("10.0.0.2:{}", self.words);
                loose.el.listen(loose.listens_at.as_str(), &options)
            }
        };
        let listener = listener.expect("nobody is in the way");
        loose.listener = Some(listener);
        loose.listened.push(listener);
    }

    pub(super) fn connect_options(&self) -> ConnectOptions {
        ConnectOptions {
            timeout: Some(Duration::from_secs(5)),
            conn: self.conn.clone(),
            ..ConnectOptions::default()
        }
    }

    /// A number below `n`, from the next byte; 0 when there is none.
    pub(super) fn below(&mut self, n: usize) -> usize {
        usize::from(self.bytes.arbitrary::<u8>().unwrap_or(0)) % n.max(1)
    }

    /// A number of bytes: small ones, and those around which something changes.
    pub(super) fn size(&mut self) -> usize {
        const SIZES: [usize; 16] = [
            1, 0, 2, 7, 50, 99, 100, 500, 1000, 2500, 4096, 8191, 8192, 12_000, 30_000, 70_000,
        ];
        SIZES[self.below(SIZES.len())]
    }

    pub(super) fn now(&self) -> u64 {
        self.sim.now()
    }
}
