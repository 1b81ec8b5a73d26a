//! The memory of buffers: small pieces from the allocator, large ones straight from the system.
//!
//! The rule: what a peer can make large goes back to the system at once when it is freed. An
//! allocator keeps it: after a crowd of peers that did not read, hundreds of megabytes stayed
//! resident because a few small pieces lay between them. The [`Pool`] keeps a bounded amount of both
//! for the next buffers, so that steady traffic maps nothing.

use std::collections::VecDeque;

use memmap2::MmapMut;

/// Smallest piece of memory.
const SMALLEST: usize = 4 << 10;
/// Above so much it is mapped, in whole pages. What is not is the allocator's to keep, and 2,000
/// peers that read slowly have as many pieces.
const ALLOCATED_MAX: usize = SMALLEST;
/// Memory that the pool keeps.
pub(crate) const POOL_KEEPS: usize = 4 << 20;
/// The pool takes no larger piece: one for each of many buffers is of more use.
const POOLED_MAX: usize = 1 << 20;
/// How many pieces are looked at for one that is large enough.
const LOOKS: usize = 16;

/// A piece of memory; none at all by default.
pub(crate) enum Memory {
    /// Its length is that of the bytes that were written so far.
    Allocated(Vec<u8>),
    Mapped(MmapMut),
}

impl Default for Memory {
    fn default() -> Self {
        Self::Allocated(Vec::new())
    }
}

impl Memory {
    /// At least `size` bytes; `None` when the system has none.
    fn new(size: usize) -> Option<Self> {
        // A process may map only so many pieces (vm.max_map_count): then the allocator has to do.
        if size > ALLOCATED_MAX
            && let Ok(map) = MmapMut::map_anon(size.checked_next_multiple_of(SMALLEST)?)
        {
            return Some(Self::Mapped(map));
        }
        let mut vec = Vec::new();
        vec.try_reserve_exact(size.max(SMALLEST)).ok()?;
        Some(Self::Allocated(vec))
    }

    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        match self {
            Self::Allocated(vec) => vec.capacity(),
            Self::Mapped(map) => map.len(),
        }
    }

    /// The `len` bytes from `head` on, which were written.
    #[inline]
    pub(crate) fn bytes(&self, head: usize, len: usize) -> &[u8] {
        match self {
            Self::Allocated(vec) => &vec[head..head + len],
            Self::Mapped(map) => &map[head..head + len],
        }
    }

    /// Writes at `at`, up to where all is written, within the capacity.
    #[inline]
    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) {
        match self {
            Self::Allocated(vec) => {
                let over = bytes.len().min(vec.len() - at);
                vec[at..at + over].copy_from_slice(&bytes[..over]);
                vec.extend_from_slice(&bytes[over..]);
            }
            Self::Mapped(map) => map[at..at + bytes.len()].copy_from_slice(bytes),
        }
    }

    /// Moves `len` bytes from `head` to the front.
    pub(crate) fn move_to_front(&mut self, head: usize, len: usize) {
        match self {
            Self::Allocated(vec) => {
                vec.copy_within(head..head + len, 0);
                vec.truncate(len);
            }
            Self::Mapped(map) => map.copy_within(head..head + len, 0),
        }
    }
}

/// Memory of emptied buffers, for the next ones. What comes last goes first, and what is beyond the
/// bound goes oldest first: so it holds what the traffic of now needs.
#[derive(Default)]
pub(crate) struct Pool {
    allocated: VecDeque<Memory>,
    mapped: VecDeque<Memory>,
    kept: usize,
}

impl Pool {
    /// At least `size` bytes; `None` when there is no memory.
    pub(crate) fn take(&mut self, size: usize) -> Option<Memory> {
        let pieces = match size <= ALLOCATED_MAX {
            true => &mut self.allocated,
            false => &mut self.mapped,
        };
        let fits = |memory: &Memory| memory.capacity() >= size;
        let mut last = pieces.iter().rev().take(LOOKS);
        let kept = match last.position(fits) {
            Some(place) => pieces.swap_remove_back(pieces.len() - 1 - place),
            None => None,
        };
        match kept {
            Some(memory) => {
                self.kept -= memory.capacity();
                Some(memory)
            }
            None => Memory::new(size),
        }
    }

    /// Keeps the memory, or frees it.
    pub(crate) fn give(&mut self, mut memory: Memory) {
        let size = memory.capacity();
        if size == 0 || size > POOLED_MAX {
            return;
        }
        let (pieces, others) = match &mut memory {
            Memory::Allocated(vec) => {
                vec.clear();
                (&mut self.allocated, &mut self.mapped)
            }
            Memory::Mapped(_) => (&mut self.mapped, &mut self.allocated),
        };
        self.kept += size;
        while self.kept > POOL_KEEPS
            && let Some(oldest) = pieces.pop_front().or_else(|| others.pop_front())
        {
            self.kept -= oldest.capacity();
        }
        if pieces.try_reserve(1).is_ok() {
            pieces.push_back(memory);
        } else {
            self.kept -= size;
        }
    }

    /// What it keeps, as it counts and as it is.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> (usize, usize) {
        let all = self.allocated.iter().chain(&self.mapped);
        (self.kept, all.map(Memory::capacity).sum())
    }

    /// How many pieces it keeps.
    #[cfg(test)]
    pub(crate) fn pieces(&self) -> usize {
        self.allocated.len() + self.mapped.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It was full of small pieces for ever, so that each large one was mapped anew.
    #[test]
    fn the_pool_keeps_what_was_used_last() {
        let mut pool = Pool::default();
        let small: Vec<Memory> = (0..400).map(|_| pool.take(20_000).unwrap()).collect();
        small.into_iter().for_each(|memory| pool.give(memory));
        let (counted, kept) = pool.kept();
        assert!(counted == kept && kept <= POOL_KEEPS && kept > POOL_KEEPS - 20_480);
        let large = pool.take(500_000).unwrap();
        pool.give(large);
        let (counted, kept) = pool.kept();
        assert!(counted == kept && kept <= POOL_KEEPS);
        let again = pool.take(400_000).unwrap();
        assert!(again.capacity() >= 500_000, "the one that was given");
    }

    #[test]
    fn pieces_of_two_sizes_in_turn_are_no_more_than_are_in_use() {
        let mut pool = Pool::default();
        for _ in 0..1_000 {
            let (small, large) = (pool.take(4_000).unwrap(), pool.take(9_000).unwrap());
            pool.give(large);
            pool.give(small);
        }
        assert!(pool.kept().0 <= 4 * 16_384, "{:?}", pool.kept());
    }
}
