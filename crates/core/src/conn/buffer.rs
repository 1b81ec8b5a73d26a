//! Bytes that wait: a queue in one piece of memory.
//!
//! The rule: bytes come out in the order in which they went in, and an empty [`Buffer`] owns no
//! memory: the last byte out gives it back to the pool. One contiguous piece keeps sending and
//! framing to one slice; the room in front of the queue is reclaimed when it outweighs the queue,
//! so a byte is moved at most once on average.

use crate::conn::memory::{Memory, Pool};

#[derive(Default)]
pub(crate) struct Buffer {
    memory: Memory,
    head: usize,
    len: usize,
}

impl Buffer {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.memory.bytes(self.head, self.len)
    }

    /// Appends all of `bytes`, or nothing and answers false when there is no memory for them.
    #[must_use]
    #[inline]
    pub(crate) fn push(&mut self, bytes: &[u8], pool: &mut Pool) -> bool {
        let end = self.head + self.len;
        if self.memory.capacity() - end < bytes.len() && !self.make_room(bytes.len(), pool) {
            return false;
        }
        self.memory.write(self.head + self.len, bytes);
        self.len += bytes.len();
        true
    }

    /// Puts all of `bytes` before what is there, or nothing and answers false.
    #[must_use]
    pub(crate) fn push_front(&mut self, bytes: &[u8], pool: &mut Pool) -> bool {
        if bytes.len() <= self.head {
            self.head -= bytes.len();
            self.len += bytes.len();
            self.memory.write(self.head, bytes);
            return true;
        }
        let mut joined = Buffer::default();
        if !joined.push(bytes, pool) || !joined.push(self.bytes(), pool) {
            joined.clear(pool);
            return false;
        }
        self.clear(pool);
        *self = joined;
        true
    }

    /// Drops `n` bytes, at most all, from the front.
    #[inline]
    pub(crate) fn consume(&mut self, n: usize, pool: &mut Pool) {
        if n >= self.len {
            self.clear(pool);
        } else {
            self.head += n;
            self.len -= n;
        }
    }

    /// Drops all bytes and gives the memory back.
    #[inline]
    pub(crate) fn clear(&mut self, pool: &mut Pool) {
        (self.head, self.len) = (0, 0);
        if self.memory.capacity() != 0 {
            pool.give(std::mem::take(&mut self.memory));
        }
    }

    /// Moves the bytes to memory of the allocator, where [`into_vec`](Self::into_vec) takes them from;
    /// false when there is none.
    #[must_use]
    pub(crate) fn unmap(&mut self) -> bool {
        if matches!(self.memory, Memory::Mapped(_)) {
            let mut vec = Vec::new();
            if vec.try_reserve_exact(self.len).is_err() {
                return false;
            }
            vec.extend_from_slice(self.bytes());
            self.memory = Memory::Allocated(vec);
            self.head = 0;
        }
        true
    }

    /// All the bytes, in the memory that held them if it is the allocator's.
    pub(crate) fn into_vec(self) -> Vec<u8> {
        let (from, to) = (self.head, self.head + self.len);
        match self.memory {
            Memory::Allocated(mut vec) => {
                vec.truncate(to);
                vec.drain(..from);
                vec
            }
            Memory::Mapped(map) => map[from..to].to_vec(),
        }
    }

    #[cold]
    fn make_room(&mut self, extra: usize, pool: &mut Pool) -> bool {
        let Some(needed) = self.len.checked_add(extra) else {
            return false;
        };
        let capacity = self.memory.capacity();
        if self.head >= self.len && needed <= capacity {
            self.memory.move_to_front(self.head, self.len);
            self.head = 0;
            return true;
        }
        // Twice as much each time, so that a byte is moved once on average.
        let Some(mut memory) = pool.take(needed.max(capacity.saturating_mul(2))) else {
            return false;
        };
        memory.write(0, self.bytes());
        pool.give(std::mem::replace(&mut self.memory, memory));
        self.head = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn::memory::POOL_KEEPS;
    use crate::sys::Random;
    use std::collections::VecDeque;

    /// Several buffers on one pool, so that each starts with memory in which another wrote.
    #[test]
    fn random_pieces_come_out_as_they_went_in() {
        Random::each_seed(100_000, |_, random| {
            let mut pool = Pool::default();
            let mut pairs: [(Buffer, VecDeque<u8>); 3] = Default::default();
            let longest = [20, 300, 9000, 40_000][usize::from(random.one_in(8))
                + usize::from(random.one_in(8))
                + usize::from(random.one_in(64))];
            for _ in 0..10 + random.below(30) {
                let (buffer, model) = &mut pairs[random.below(3) as usize];
                let n = random.below(longest) as usize;
                match random.below(8) {
                    0..=2 => {
                        let bytes = random.bytes(n);
                        assert!(buffer.push(&bytes, &mut pool));
                        model.extend(&bytes);
                    }
                    3 => {
                        let bytes = random.bytes(n);
                        assert!(buffer.push_front(&bytes, &mut pool));
                        bytes.iter().rev().for_each(|b| model.push_front(*b));
                    }
                    4 => {
                        buffer.consume(usize::MAX, &mut pool);
                        model.clear();
                    }
                    _ => {
                        buffer.consume(n, &mut pool);
                        model.drain(..n.min(model.len()));
                    }
                }
                assert!(buffer.bytes() == model.make_contiguous());
                assert_eq!(
                    (buffer.len(), buffer.is_empty()),
                    (model.len(), model.is_empty())
                );
                assert!(
                    !buffer.is_empty() || buffer.memory.capacity() == 0,
                    "empty and owns memory"
                );
                let (counted, kept) = pool.kept();
                assert_eq!(counted, kept);
                assert!(kept <= POOL_KEEPS);
            }
        });
    }

    #[test]
    fn an_emptied_buffer_owns_no_memory() {
        let (mut buffer, mut pool) = (Buffer::default(), Pool::default());
        assert!(buffer.push(b"hello", &mut pool));
        buffer.consume(5, &mut pool);
        assert_eq!(buffer.memory.capacity(), 0);
        assert_eq!(pool.kept(), (4096, 4096));
    }

    /// The nothing that an empty buffer owns was given to the pool each time it was filled. There it
    /// stayed for good, and hid the memory beneath it.
    #[test]
    fn buffers_that_fill_and_empty_use_the_same_memory_again() {
        let (mut buffers, mut pool) = ([(); 3].map(|()| Buffer::default()), Pool::default());
        for size in [100, 100_000].repeat(100) {
            for buffer in &mut buffers {
                assert!(buffer.push(&vec![1; size], &mut pool));
            }
            for buffer in &mut buffers {
                buffer.clear(&mut pool);
            }
        }
        assert_eq!(pool.pieces(), 6);
    }

    #[test]
    fn a_queue_that_never_empties_does_not_grow() {
        let (mut buffer, mut pool) = (Buffer::default(), Pool::default());
        assert!(buffer.push(&[0; 100], &mut pool));
        for _ in 0..100_000 {
            assert!(buffer.push(&[1; 100], &mut pool));
            buffer.consume(100, &mut pool);
        }
        assert!(
            buffer.memory.capacity() <= 8192,
            "{}",
            buffer.memory.capacity()
        );
    }

    /// An allocator keeps large pieces that lie between small ones, and memory that one crowd of
    /// peers took was never given back.
    #[test]
    fn a_long_queue_is_in_memory_that_goes_back_to_the_system() {
        let (mut buffer, mut pool) = (Buffer::default(), Pool::default());
        for _ in 0..100 {
            assert!(buffer.push(&[1; 1000], &mut pool));
        }
        assert!(matches!(buffer.memory, Memory::Mapped(_)));
        assert!(buffer.bytes().iter().all(|b| *b == 1));
        buffer.consume(99_999, &mut pool);
        assert!(buffer.unmap());
        assert!(matches!(buffer.memory, Memory::Allocated(_)));
        assert_eq!(buffer.into_vec(), [1]);
    }

    #[test]
    fn what_is_too_large_for_any_memory_is_refused_and_nothing_lost() {
        let (mut buffer, mut pool) = (Buffer::default(), Pool::default());
        assert!(buffer.push(b"hello", &mut pool));
        assert!(!buffer.make_room(usize::MAX, &mut pool));
        assert!(!buffer.make_room(1 << 60, &mut pool));
        assert_eq!(buffer.bytes(), b"hello");
    }
}
