//! The schedule against a sorted map: short sequences for every order of few calls, long ones for
//! the waste and its sweeps.

use super::*;
use crate::sys::Random;
use std::collections::BTreeMap;

/// What is armed, by number: when, and the how manieth arming it was.
#[derive(Default)]
struct Model(BTreeMap<u32, (u64, u64)>);

impl Model {
    fn earliest(&self) -> Option<(u64, u64, u32)> {
        self.0.iter().map(|(id, (at, n))| (*at, *n, *id)).min()
    }
}

/// Does `steps` random things with `ids` numbers to a schedule and to the model.
fn compare(random: &mut Random, steps: u64, ids: u64) {
    let mut schedule = Schedule::default();
    (0..ids as u32).for_each(|id| schedule.give(id, id));
    let (mut model, mut most) = (Model::default(), 0);
    for step in 0..steps {
        let id = random.below(ids) as u32;
        match random.below(8) {
            0 => {
                schedule.disarm(id);
                model.0.remove(&id);
            }
            1 => {
                // Few of those armed are due, so that they pile up.
                let now = model.earliest().map_or(0, |(at, ..)| at + random.below(3));
                while let Some(Due { whose, at, .. }) = schedule.pop_due(now) {
                    let (due, _, first) = model.earliest().expect("nothing is armed");
                    assert_eq!((whose, at), (first, due), "in the order of time and arming");
                    assert!(due <= now, "early");
                    model.0.remove(&first);
                }
                assert!(model.earliest().is_none_or(|(at, ..)| at > now), "late");
            }
            _ => {
                let at = match model.0.get(&id) {
                    Some((at, _)) if random.one_in(2) => at + random.below(10),
                    Some((at, _)) => at.saturating_sub(random.below(10)),
                    None => 50 + random.below(50),
                };
                schedule.arm(id, at);
                model.0.insert(id, (at, step));
            }
        }
        assert_eq!(schedule.at(id), model.0.get(&id).map(|(at, _)| *at));
        assert_eq!(schedule.armed, model.0.len());
        if random.one_in(3) {
            assert_eq!(schedule.earliest(), model.earliest().map(|(at, ..)| at));
        }
        most = most.max(schedule.heap.len());
    }
    // What may wait for a sweep, and what the sweeps keep below.
    let bound = 2 * ids as usize + 4 * SWEEP;
    assert!(most <= bound, "{most} nodes for {ids} numbers");
}

#[test]
fn short_sequences_agree_with_a_sorted_map() {
    Random::each_seed(100_000, |_, random| {
        let (steps, ids) = (10 + random.below(40), 1 + random.below(12));
        compare(random, steps, ids);
    });
}

#[test]
fn long_sequences_agree_with_a_sorted_map_and_leave_little_waste() {
    Random::each_seed(60, |_, random| {
        let ids = 1 + random.below(500);
        compare(random, 10_000, ids);
    });
}

#[test]
fn what_is_always_moved_earlier_or_disarmed_leaves_little_waste() {
    let mut schedule = Schedule::default();
    (0..1000).for_each(|id| schedule.give(id, id));
    for round in 0..1000 {
        for id in 0..1000 {
            schedule.arm(id, 2_000_000 - 1000 * round - u64::from(id));
        }
        assert!(schedule.heap.len() <= 2000 + 2 * SWEEP);
    }
    (0..1000).for_each(|id| schedule.disarm(id));
    assert_eq!(schedule.earliest(), None);
    assert_eq!(schedule.heap.len(), 0);
}

#[test]
fn the_end_of_time_can_be_armed() {
    let mut schedule = Schedule::default();
    schedule.give(0, ());
    schedule.arm(0, u64::MAX);
    assert_eq!(schedule.at(0), Some(u64::MAX - 1));
    assert_eq!(schedule.pop_due(u64::MAX - 2), None);
    schedule.take_back(0);
    schedule.arm(0, 1);
    assert_eq!(schedule.earliest(), None, "nobody has it");
}
