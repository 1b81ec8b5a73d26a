//! A table of objects that belong to no loop's thread: remotes, selectors.
//!
//! The rule: the lock is held only to copy a reference out, or to put one in, so no call waits for
//! another. A handle is laid out as the core's, so none of another kind can equal it; one that was
//! freed is never met again, and a slot whose generation would wrap is retired.

use std::sync::{Mutex, MutexGuard};

use echoloop_core::{Kind, LoopId};

use crate::detail::Refused;
use crate::held::{Patience, try_lock};
use crate::{ECHOLOOP_ENOMEM, ECHOLOOP_ETOOMANY, reserve};

/// As the core has it: `LoopId::index_of` has to find the loop of `of`.
const LOOP_SHIFT: u32 = 5;
const SLOT_SHIFT: u32 = 16;
const GENERATION_SHIFT: u32 = 40;
const MAX_SLOTS: usize = 1 << (GENERATION_SHIFT - SLOT_SHIFT);
const MAX_GENERATION: u64 = (1 << (64 - GENERATION_SHIFT)) - 1;

/// Objects of one kind, of the whole process.
pub(crate) struct Table<T> {
    kind: Kind,
    slots: Mutex<Slots<T>>,
}

struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<usize>,
}

struct Slot<T> {
    /// The handle while the slot is taken; the last one when it is not.
    handle: u64,
    object: Option<T>,
}

impl<T: Clone> Table<T> {
    pub(crate) const fn new(kind: Kind) -> Self {
        Self {
            kind,
            slots: Mutex::new(Slots {
                slots: Vec::new(),
                free: Vec::new(),
            }),
        }
    }

    /// Puts an object in; its handle has the loop number of the handle `of`, or of 0.
    pub(crate) fn insert(
        &self,
        operation: &'static str,
        of: u64,
        object: T,
    ) -> Result<u64, Refused> {
        if reserve::is_short() {
            return Err(Refused::new(operation, ECHOLOOP_ENOMEM));
        }
        let mut table = self.lock();
        // All that there will be may be freed, which can't be refused.
        let more = table.slots.len() + 1 - table.free.len();
        if table.slots.try_reserve(1).is_err() || table.free.try_reserve(more).is_err() {
            return Err(Refused::new(operation, ECHOLOOP_ENOMEM));
        }
        let (slot, generation) = match table.free.pop() {
            Some(slot) => (slot, (table.slots[slot].handle >> GENERATION_SHIFT) + 1),
            None if table.slots.len() == MAX_SLOTS => {
                return Err(Refused::new(operation, ECHOLOOP_ETOOMANY));
            }
            None => (table.slots.len(), 1),
        };
        let handle = 1
            | (self.kind as u64) << 1
            | (LoopId::index_of(of) as u64) << LOOP_SHIFT
            | (slot as u64) << SLOT_SHIFT
            | generation << GENERATION_SHIFT;
        let taken = Slot {
            handle,
            object: Some(object),
        };
        match table.slots.get_mut(slot) {
            Some(free) => *free = taken,
            None => table.slots.push(taken),
        }
        Ok(handle)
    }

    /// A copy of the object, which is a reference; `None` for a handle that is not alive.
    pub(crate) fn get(&self, handle: u64) -> Option<T> {
        self.lock().find(handle)?.object.clone()
    }

    /// Takes an object out.
    pub(crate) fn remove(&self, handle: u64) -> Option<T> {
        let mut table = self.lock();
        let object = table.find(handle)?.object.take();
        if handle >> GENERATION_SHIFT < MAX_GENERATION {
            table.free.push(slot_of(handle));
        }
        object
    }

    /// How many there are.
    pub(crate) fn len(&self) -> i64 {
        let table = self.lock();
        let taken = table.slots.iter().filter(|slot| slot.object.is_some());
        taken.count() as i64
    }

    /// The lock, for a fork.
    pub(crate) fn hold(&'static self, patience: &Patience) -> Option<impl Sized + 'static> {
        patience.take(|| try_lock(&self.slots))
    }

    fn lock(&self) -> MutexGuard<'_, Slots<T>> {
        // Nothing under the lock can panic half way, so a poisoned one still holds a good value.
        self.slots
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl<T> Slots<T> {
    fn find(&mut self, handle: u64) -> Option<&mut Slot<T>> {
        let slot = self.slots.get_mut(slot_of(handle));
        slot.filter(|slot| slot.handle == handle && slot.object.is_some())
    }
}

fn slot_of(handle: u64) -> usize {
    (handle >> SLOT_SHIFT) as usize & (MAX_SLOTS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_handle_is_never_met_again() {
        let table = Table::new(Kind::Selector);
        let first = table.insert("test", 0, 'a').unwrap();
        let second = table.insert("test", 0, 'b').unwrap();
        assert_eq!(
            (table.get(first), table.get(second)),
            (Some('a'), Some('b'))
        );
        assert_eq!(table.remove(first), Some('a'));
        assert_eq!(table.remove(first), None);
        let third = table.insert("test", 0, 'c').unwrap();
        assert_eq!(slot_of(third), slot_of(first));
        assert_eq!((table.get(first), table.get(third)), (None, Some('c')));
        assert_eq!(table.len(), 2);
        for wrong in [0, 1, !0, second ^ 2, third + (1 << GENERATION_SHIFT)] {
            assert_eq!(table.get(wrong), None, "{wrong:#x}");
        }
    }

    #[test]
    fn a_slot_whose_generation_would_wrap_is_retired() {
        let table = Table::new(Kind::Selector);
        let first = table.insert("test", 0, ()).unwrap();
        let last = first | MAX_GENERATION << GENERATION_SHIFT;
        table.lock().slots[0].handle = last;
        assert_eq!(table.remove(last), Some(()));
        assert_eq!(slot_of(table.insert("test", 0, ()).unwrap()), 1);
    }
}
