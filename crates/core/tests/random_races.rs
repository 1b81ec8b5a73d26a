//! Connects by name at random on the simulated system: every race has one end, within its deadline,
//! agrees with what was planned for each address, and leaves nothing behind.

mod util;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use echoloop_core::sys::{Meets, Sim, SimOptions};
use echoloop_core::{ConnId, Event, EventLoop, ResolveError};
use nix::errno::Errno;
use util::roads::*;
use util::{Random, seeds};

/// A race by chance, as the planner of the test sees it.
struct Plan {
    meets: Vec<(SocketAddr, Meets, Duration)>,
    ends_by: Duration,
}

#[test]
fn every_race_has_one_end_in_time_and_leaves_nothing() {
    for seed in seeds(30_000) {
        let mut random = Random::new(seed);
        let mut options = SimOptions::kind(seed);
        options.interrupt = random.below(2) * 7;
        let (sim, mut el) = sim_loop(options);
        if random.below(3) == 0 {
            sim.limit_sockets(Some(1 + random.below(4) as usize));
        }
        let mut open: HashMap<ConnId, Plan> = HashMap::new();
        for n in 0..1 + random.below(5) {
            let (conn, plan) = start(&sim, &mut el, &mut random, n);
            open.insert(conn, plan);
        }
        let mut made = Vec::new();
        for _ in 0..10_000 {
            if open.is_empty() && made.is_empty() {
                break;
            }
            el.poll(None).unwrap();
            while let Some(event) = el.next_event() {
                match event {
                    Event::ConnectPaused { conn, .. } => assert!(open.contains_key(&conn)),
                    Event::Connected { conn } => {
                        let plan = open.remove(&conn).expect("one answer");
                        check(&mut el, conn, &plan, true, seed);
                        made.push(conn);
                    }
                    Event::Closed { conn, .. } => {
                        if let Some(plan) = open.remove(&conn) {
                            check(&mut el, conn, &plan, false, seed);
                        } else {
                            made.retain(|id| *id != conn);
                        }
                    }
                    _ => {}
                }
                // Descriptors come free by and by, and some lose patience.
                if random.below(4) == 0 {
                    let all = made.iter().chain(open.keys()).copied();
                    if let Some(id) = all.min_by_key(|_| random.below(100)) {
                        el.conn(id).unwrap().abort();
                    }
                }
            }
            if let Some(conn) = made.first() {
                el.conn(*conn).unwrap().abort();
            }
        }
        assert!(open.is_empty() && made.is_empty(), "seed {seed}: no answer");
        nothing_is_left(&sim, &mut el);
    }
}

fn start(sim: &Sim, el: &mut EventLoop<Sim>, random: &mut Random, n: u64) -> (ConnId, Plan) {
    let mut meets = Vec::new();
    for place in 0..random.below(6) as u8 {
        let v4 = SocketAddr::from(([10, 0, n as u8, place], 80));
        let v6 = SocketAddr::new(format!("fd00::{n}:{place}").parse().unwrap(), 80);
        let addr = if random.below(2) == 0 { v4 } else { v6 };
        let what = match random.below(6) {
            0 => Meets::Accepts,
            1 | 2 => Meets::Refuses,
            3 => Meets::Fails(Errno::ENETUNREACH as i32),
            4 => Meets::Fails(NO_PORT),
            _ => Meets::Ignores,
        };
        let after = MS * random.below(700) as u32;
        sim.road(addr, what, after);
        meets.push((addr, what, after));
    }
    let host = format!("host{n}");
    let addrs = meets.iter().map(|(addr, ..)| addr.ip()).collect::<Vec<_>>();
    let answer = if addrs.is_empty() {
        Err(ResolveError::new(libc::EAI_NODATA, 0))
    } else {
        Ok(addrs)
    };
    sim.name(&host, MS * random.below(300) as u32, answer);
    let timeout = MS * (1 + random.below(2000) as u32);
    let ends_by = el.now() + timeout;
    let conn = el.connect((&*host, 80), &within(timeout)).unwrap();
    el.conn(conn).unwrap().send(b"hello").unwrap();
    (conn, Plan { meets, ends_by })
}

/// What a handler of the end of a race sees agrees with what was planned.
fn check(el: &mut EventLoop<Sim>, conn: ConnId, plan: &Plan, made: bool, seed: u64) {
    assert!(el.now() <= plan.ends_by, "seed {seed}: too late");
    let view = el.conn(conn).unwrap();
    let story = view.attempts();
    for attempted in story {
        let found = plan
            .meets
            .iter()
            .find(|(addr, ..)| attempted.addr == (*addr).into());
        let (_, meets, _) = found.expect("an address of this name");
        let told = match meets {
            Meets::Refuses => attempted.errno.is_none_or(|e| e == REFUSED),
            Meets::Fails(e) => attempted.errno == Some(*e),
            Meets::Accepts | Meets::Ignores => attempted.errno.is_none(),
        };
        assert!(told, "seed {seed}: {attempted:?} met {meets:?}");
    }
    let once: std::collections::HashSet<_> = story.iter().map(|a| &a.addr).collect();
    assert_eq!(once.len(), story.len(), "seed {seed}: tried twice");
    if made {
        let won = story.iter().find(|a| a.addr == *view.peer_addr());
        assert!(won.is_some_and(|a| a.errno.is_none()), "seed {seed}");
    }
}
