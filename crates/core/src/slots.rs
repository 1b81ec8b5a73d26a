//! A table of objects by generational handle.
//!
//! The rule: a key that was given out once is never given out again, so a stale handle can't reach
//! the object that took its slot. The crate `slotmap` keeps the same rule, but its keys spend all
//! 64 bits on slot and generation; ours also carry kind and loop (see `handle`).

use crate::handle::{Kind, LoopId, MAX_GENERATION, MAX_SLOTS, generation_of, pack, slot_of};
use crate::{Error, ErrorKind};

const NO_SLOT: u32 = u32::MAX;

pub(crate) struct Slots<T> {
    entries: Vec<Entry<T>>,
    free: u32,
    len: usize,
    kind: Kind,
    loop_id: LoopId,
    last_generation: u32,
}

struct Entry<T> {
    /// The whole handle while the slot is taken; while it is free, that of its next tenant with
    /// the odd bit off, which no caller's handle can equal by way of this crate.
    key: u64,
    state: State<T>,
}

enum State<T> {
    Taken(T),
    Free { next: u32 },
}

impl<T> Slots<T> {
    pub(crate) fn new(kind: Kind, loop_id: LoopId) -> Self {
        Self {
            entries: Vec::new(),
            free: NO_SLOT,
            len: 0,
            kind,
            loop_id,
            last_generation: loop_id.first_generation,
        }
    }

    /// All slots, taken or free, are below this one.
    pub(crate) fn end(&self) -> u32 {
        self.entries.len() as u32
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The highest generation of any handle given out, for the next loop of this number.
    pub(crate) fn last_generation(&self) -> u32 {
        self.last_generation
    }

    /// Makes sure that the next [`insert`](Self::insert) succeeds, or says why it can't.
    pub(crate) fn make_room(&mut self) -> Result<(), Error> {
        let refused = |kind| Err(Error::new("create handle", kind));
        if self.free != NO_SLOT {
            return Ok(());
        }
        if self.entries.len() == MAX_SLOTS {
            return refused(ErrorKind::TooMany);
        }
        if self.entries.try_reserve(1).is_err() {
            return refused(ErrorKind::OutOfMemory);
        }
        Ok(())
    }

    /// Puts `value` into a free slot and returns its key.
    pub(crate) fn insert(&mut self, value: T) -> Result<u64, Error> {
        if self.free != NO_SLOT {
            let slot = self.free;
            let entry = &mut self.entries[slot as usize];
            let State::Free { next } = entry.state else {
                unreachable!("the free list holds free slots")
            };
            self.free = next;
            entry.key |= 1;
            entry.state = State::Taken(value);
            self.len += 1;
            return Ok(entry.key);
        }
        self.make_room()?;
        let key = pack(
            self.kind,
            self.loop_id.index,
            self.entries.len() as u32,
            self.loop_id.first_generation,
        );
        self.entries.push(Entry {
            key,
            state: State::Taken(value),
        });
        self.len += 1;
        Ok(key)
    }

    /// The slot behind a caller's key, if the key is that of a living object.
    #[inline]
    pub(crate) fn find(&self, key: u64) -> Option<u32> {
        let slot = slot_of(key);
        let entry = self.entries.get(slot as usize)?;
        // A free slot's key is even; an even key asked for must not match it.
        (entry.key == key && key & 1 == 1).then_some(slot)
    }

    /// The slot and the object behind a key, if it is that of a living object.
    #[inline]
    pub(crate) fn find_mut(&mut self, key: u64) -> Option<(u32, &mut T)> {
        let slot = slot_of(key);
        let entry = self.entries.get_mut(slot as usize)?;
        match &mut entry.state {
            State::Taken(value) if entry.key == key => Some((slot, value)),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn get(&self, slot: u32) -> Option<&T> {
        match &self.entries.get(slot as usize)?.state {
            State::Taken(value) => Some(value),
            State::Free { .. } => None,
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        match &mut self.entries.get_mut(slot as usize)?.state {
            State::Taken(value) => Some(value),
            State::Free { .. } => None,
        }
    }

    #[inline]
    pub(crate) fn key(&self, slot: u32) -> u64 {
        self.entries[slot as usize].key
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<T> {
        let entry = self.entries.get_mut(slot as usize)?;
        if matches!(entry.state, State::Free { .. }) {
            return None;
        }
        let generation = generation_of(entry.key);
        let retired = generation == MAX_GENERATION;
        let next = if retired { NO_SLOT } else { self.free };
        let State::Taken(value) = std::mem::replace(&mut entry.state, State::Free { next }) else {
            unreachable!("checked above");
        };
        self.len -= 1;
        if retired {
            entry.key = 0;
            return Some(value);
        }
        entry.key = pack(self.kind, self.loop_id.index, slot, generation + 1) & !1;
        self.last_generation = self.last_generation.max(generation + 1);
        self.free = slot;
        Some(value)
    }

    /// The keys of all living objects, in no particular order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = u64> + '_ {
        self.entries
            .iter()
            .filter(|e| matches!(e.state, State::Taken(_)))
            .map(|e| e.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle::MAX_LOOPS;
    use crate::sys::Random;

    /// Many keys, living and dead, against a plain list; some sequences begin near the end of the
    /// generations, where slots are retired.
    #[test]
    fn every_key_finds_its_own_object_while_that_lives_and_never_another() {
        Random::each_seed(100_000, |_, random| {
            let first_generation = match random.below(3) {
                0 => MAX_GENERATION - random.below(4) as u32,
                _ => 1,
            };
            let index = random.below(MAX_LOOPS as u64) as u16;
            let id = LoopId {
                index,
                first_generation,
            };
            let mut slots = Slots::new(Kind::Conn, id);
            let mut living: Vec<(u64, u64)> = Vec::new();
            let mut given: Vec<u64> = Vec::new();
            for step in 0..10 + random.below(40) {
                let place = random.below(living.len() as u64) as usize;
                if living.is_empty() || (living.len() < 6 && random.one_in(2)) {
                    let key = slots.insert(step).unwrap();
                    assert!(!given.contains(&key), "a key was given twice");
                    assert_eq!((key & 1, LoopId::index_of(key)), (1, usize::from(index)));
                    given.push(key);
                    living.push((key, step));
                } else if random.one_in(2) {
                    let (key, value) = living.swap_remove(place);
                    assert_eq!(slots.remove(slot_of(key)), Some(value));
                    assert_eq!(slots.remove(slot_of(key)), None, "removed twice");
                } else {
                    let key = given[random.below(given.len() as u64) as usize];
                    let key = match random.below(3) {
                        0 => key,
                        1 => key ^ 1 << random.below(64),
                        _ => random.next(),
                    };
                    let value = living.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
                    assert_eq!(
                        slots.find(key).and_then(|slot| slots.get(slot).copied()),
                        value
                    );
                    let found = slots.find_mut(key).map(|(slot, value)| (slot, *value));
                    assert_eq!(found, value.map(|value| (slot_of(key), value)));
                }
                assert_eq!(slots.len(), living.len());
                let highest = given.iter().map(|key| generation_of(*key)).max();
                assert!(slots.last_generation() >= highest.unwrap_or(0));
            }
            let (mut keys, mut expected): (Vec<_>, Vec<_>) = (
                slots.keys().collect(),
                living.iter().map(|(key, _)| *key).collect(),
            );
            keys.sort_unstable();
            expected.sort_unstable();
            assert_eq!(keys, expected);
        });
    }

    fn slots() -> Slots<u32> {
        Slots::new(
            Kind::Timer,
            LoopId {
                index: 7,
                first_generation: 1,
            },
        )
    }

    #[test]
    fn a_removed_key_never_finds_the_next_tenant() {
        let mut s = slots();
        let first = s.insert(1).unwrap();
        let slot = s.find(first).unwrap();
        assert_eq!(s.remove(slot), Some(1));
        let second = s.insert(2).unwrap();
        assert_eq!(slot_of(first), slot_of(second));
        assert_eq!(s.find(first), None);
        assert_eq!(s.find(second), Some(slot));
    }

    #[test]
    fn zero_even_foreign_and_random_keys_are_refused() {
        let mut s = slots();
        let key = s.insert(1).unwrap();
        let freed = s.insert(2).unwrap();
        s.remove(s.find(freed).unwrap());
        for bit in 0..64 {
            assert_eq!(s.find(key ^ 1 << bit), None, "bit {bit}");
            let flipped = freed ^ 1 << bit;
            assert!(flipped == key || s.find(flipped).is_none(), "bit {bit}");
        }
        assert_eq!(s.find(0), None);
        assert_eq!(s.find(u64::MAX), None);
        let next = pack(Kind::Timer, 7, slot_of(freed), generation_of(freed) + 1);
        assert_eq!(
            s.find(next & !1),
            None,
            "the key of a free slot is not a handle"
        );
        assert_eq!(s.find(next), None, "nor is the handle of its next tenant");
    }

    #[test]
    fn a_slot_whose_generation_would_wrap_is_retired() {
        let mut s: Slots<u32> = Slots::new(
            Kind::Timer,
            LoopId {
                index: 7,
                first_generation: MAX_GENERATION,
            },
        );
        let last = s.insert(1).unwrap();
        s.remove(s.find(last).unwrap());
        let other = s.insert(2).unwrap();
        assert_ne!(slot_of(last), slot_of(other));
        assert_eq!(s.find(last), None);
    }
}
