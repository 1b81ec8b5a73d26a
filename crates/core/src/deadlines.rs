//! All that falls due, ordered by time: an indexed 4-ary heap.
//!
//! The rule: the earliest deadline is known exactly at any moment, so the loop wakes when it is due
//! and not before. Arming and moving cost O(log n) at worst and a few steps on average (most
//! entries are leaves), firing O(log n). A wheel of buckets would fire cheaper, but knows its next
//! deadline only to the width of a bucket and would wake the loop for nothing.
//!
//! The heap stores the keys beside the ids, so sifting touches no other memory than the heap and
//! the positions of what moves.

/// Names one deadline while it is armed or kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DeadlineId(u32);

impl DeadlineId {
    pub(crate) const NONE: Self = Self(u32::MAX);
}

/// Whom a deadline belongs to: the slot of a timer, a connection or a listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    Timer(u32),
    Conn(u32),
    Listener(u32),
}

#[derive(Default)]
pub(crate) struct Deadlines {
    heap: Vec<Node>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    sequence: u32,
}

#[derive(Clone, Copy)]
struct Node {
    at: u64,
    /// Deadlines of one moment fire in the order in which they were armed (until 2^32 armings lie
    /// between them).
    sequence: u32,
    id: u32,
}

struct Slot {
    position: u32,
    owner: Owner,
}

const ARITY: usize = 4;
const UNARMED: u32 = u32::MAX;

impl Deadlines {
    /// When the earliest falls due, in nanoseconds of the loop's clock.
    #[inline]
    pub(crate) fn earliest(&self) -> Option<u64> {
        self.heap.first().map(|node| node.at)
    }

    /// Makes room for a deadline of `owner`, not yet armed.
    pub(crate) fn add(&mut self, owner: Owner) -> DeadlineId {
        let slot = Slot {
            position: UNARMED,
            owner,
        };
        if let Some(id) = self.free.pop() {
            self.slots[id as usize] = slot;
            return DeadlineId(id);
        }
        self.slots.push(slot);
        DeadlineId(self.slots.len() as u32 - 1)
    }

    /// When `id` falls due; `None` while it is not armed.
    pub(crate) fn at(&self, id: DeadlineId) -> Option<u64> {
        let position = self.slots.get(id.0 as usize)?.position;
        self.heap.get(position as usize).map(|node| node.at)
    }

    /// Arms `id`, or moves it, to fall due at `at`.
    pub(crate) fn arm(&mut self, id: DeadlineId, at: u64) {
        self.sequence = self.sequence.wrapping_add(1);
        let node = Node {
            at,
            sequence: self.sequence,
            id: id.0,
        };
        let position = self.slots[id.0 as usize].position;
        if position == UNARMED {
            self.heap.push(node);
            self.sift_up(self.heap.len() - 1, node);
            return;
        }
        self.replace(position as usize, node);
    }

    /// Takes `id` off the heap; it can be armed again.
    pub(crate) fn disarm(&mut self, id: DeadlineId) {
        let position = self.slots[id.0 as usize].position;
        if position == UNARMED {
            return;
        }
        self.slots[id.0 as usize].position = UNARMED;
        let Some(last) = self.heap.pop() else { return };
        if (position as usize) < self.heap.len() {
            self.replace(position as usize, last);
        }
    }

    /// Disarms `id` and forgets it.
    pub(crate) fn remove(&mut self, id: DeadlineId) {
        if id == DeadlineId::NONE {
            return;
        }
        self.disarm(id);
        self.free.push(id.0);
    }

    /// Disarms the earliest deadline if it is due at `now`, and returns whose it was.
    pub(crate) fn pop_due(&mut self, now: u64) -> Option<Owner> {
        let first = *self.heap.first()?;
        if first.at > now {
            return None;
        }
        self.disarm(DeadlineId(first.id));
        Some(self.slots[first.id as usize].owner)
    }

    fn replace(&mut self, position: usize, node: Node) {
        let old = self.heap[position];
        if before(&node, &old) {
            self.sift_up(position, node);
        } else {
            self.sift_down(position, node);
        }
    }

    fn sift_up(&mut self, mut position: usize, node: Node) {
        while position > 0 {
            let parent = (position - 1) / ARITY;
            if !before(&node, &self.heap[parent]) {
                break;
            }
            self.place(position, self.heap[parent]);
            position = parent;
        }
        self.place(position, node);
    }

    fn sift_down(&mut self, mut position: usize, node: Node) {
        loop {
            let first = position * ARITY + 1;
            let last = (first + ARITY).min(self.heap.len());
            if first >= last {
                break;
            }
            let mut least = first;
            for child in first + 1..last {
                if before(&self.heap[child], &self.heap[least]) {
                    least = child;
                }
            }
            if !before(&self.heap[least], &node) {
                break;
            }
            self.place(position, self.heap[least]);
            position = least;
        }
        self.place(position, node);
    }

    fn place(&mut self, position: usize, node: Node) {
        self.heap[position] = node;
        self.slots[node.id as usize].position = position as u32;
    }
}

fn before(a: &Node, b: &Node) -> bool {
    a.at < b.at || (a.at == b.at && (a.sequence.wrapping_sub(b.sequence) as i32) < 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Random;
    use std::collections::BTreeMap;

    #[test]
    fn random_arming_moving_and_removing_agrees_with_a_sorted_map() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut heap = Deadlines::default();
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            let mut ids: Vec<(u32, DeadlineId)> = Vec::new();
            for step in 0..400u32 {
                match random.below(5) {
                    0 | 1 => {
                        let id = heap.add(Owner::Timer(step));
                        let at = random.below(1000);
                        heap.arm(id, at);
                        ids.push((step, id));
                        model.insert(step, at);
                    }
                    2 if !ids.is_empty() => {
                        let (name, id) = ids[random.below(ids.len() as u64) as usize];
                        let at = random.below(1000);
                        heap.arm(id, at);
                        model.insert(name, at);
                    }
                    3 if !ids.is_empty() => {
                        let (name, id) = ids.swap_remove(random.below(ids.len() as u64) as usize);
                        heap.remove(id);
                        model.remove(&name);
                    }
                    _ => {
                        let now = random.below(300);
                        while let Some(Owner::Timer(name)) = heap.pop_due(now) {
                            let at = model.remove(&name).expect("seed {seed}: fired twice");
                            assert!(at <= now, "seed {seed}: early");
                            let place = ids.iter().position(|(n, _)| *n == name).unwrap();
                            heap.remove(ids.swap_remove(place).1);
                        }
                        assert!(model.values().all(|at| *at > now), "seed {seed}: late");
                    }
                }
                assert_eq!(
                    heap.earliest(),
                    model.values().min().copied(),
                    "seed {seed}"
                );
            }
        }
    }

    #[test]
    fn deadlines_of_one_moment_fire_in_the_order_of_arming() {
        let mut heap = Deadlines::default();
        for n in 0..100 {
            let id = heap.add(Owner::Timer(n));
            heap.arm(id, 5);
        }
        for n in 0..100 {
            assert_eq!(heap.pop_due(5), Some(Owner::Timer(n)));
        }
    }
}
