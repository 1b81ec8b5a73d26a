//! Bytes that wait: a queue in one piece of memory, and the pool its memory comes from.
//!
//! The rule: bytes come out in the order in which they went in, and an empty [`Buffer`] owns no
//! memory: the last byte out gives it back to the pool. One contiguous piece keeps sending and
//! framing to one slice; the room in front of the queue is reclaimed when it outweighs the queue,
//! so a byte is moved at most once on average.

/// Most memory a buffer may bring back to the pool; larger ones are freed.
const POOLED_MAX: usize = 64 << 10;
/// Memory that the pool keeps for the next buffers.
const POOL_KEEPS: usize = 4 << 20;
/// Smallest piece of memory a buffer starts with.
const SMALLEST: usize = 4 << 10;

#[derive(Default)]
pub(crate) struct Buffer {
    data: Vec<u8>,
    head: usize,
}

impl Buffer {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.data.len() - self.head
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.data.len() == self.head
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.data[self.head..]
    }

    /// Appends all of `bytes`, or nothing and answers false when there is no memory for them.
    #[must_use]
    #[inline]
    pub(crate) fn push(&mut self, bytes: &[u8], pool: &mut Pool) -> bool {
        if self.data.capacity() == 0 {
            if bytes.is_empty() {
                return true;
            }
            self.data = pool.take(bytes.len());
        }
        if self.data.capacity() - self.data.len() < bytes.len() && !self.make_room(bytes.len()) {
            return false;
        }
        self.data.extend_from_slice(bytes);
        true
    }

    /// Puts all of `bytes` before what is there, or nothing and answers false.
    #[must_use]
    pub(crate) fn push_front(&mut self, bytes: &[u8], pool: &mut Pool) -> bool {
        if bytes.len() <= self.head {
            self.head -= bytes.len();
            self.data[self.head..][..bytes.len()].copy_from_slice(bytes);
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
        if n >= self.len() {
            self.clear(pool);
        } else {
            self.head += n;
        }
    }

    /// Drops all bytes and gives the memory back.
    #[inline]
    pub(crate) fn clear(&mut self, pool: &mut Pool) {
        self.head = 0;
        if self.data.capacity() != 0 {
            pool.give(std::mem::take(&mut self.data));
        }
    }

    /// All the bytes, in the memory that held them.
    pub(crate) fn into_vec(mut self) -> Vec<u8> {
        self.data.drain(..self.head);
        self.data
    }

    #[cold]
    fn make_room(&mut self, extra: usize) -> bool {
        if self.head >= self.len() {
            self.data.copy_within(self.head.., 0);
            self.data.truncate(self.data.len() - self.head);
            self.head = 0;
        }
        self.data.try_reserve(extra).is_ok()
    }
}

/// Memory of emptied buffers, for the next ones.
#[derive(Default)]
pub(crate) struct Pool {
    free: Vec<Vec<u8>>,
    kept: usize,
}

impl Pool {
    #[inline]
    fn take(&mut self, at_least: usize) -> Vec<u8> {
        match self.free.pop() {
            Some(memory) => {
                self.kept -= memory.capacity();
                memory
            }
            None => {
                let mut memory = Vec::new();
                // A refusal is noticed where the bytes are appended.
                let _ = memory.try_reserve_exact(at_least.max(SMALLEST));
                memory
            }
        }
    }

    #[inline]
    fn give(&mut self, mut memory: Vec<u8>) {
        let size = memory.capacity();
        if size <= POOLED_MAX && self.kept + size <= POOL_KEEPS {
            memory.clear();
            self.kept += size;
            self.free.push(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Random;
    use std::collections::VecDeque;

    /// Several buffers on one pool, so that each starts with memory in which another wrote.
    #[test]
    fn random_pieces_come_out_as_they_went_in() {
        Random::each_seed(100_000, |_, random| {
            let mut pool = Pool::default();
            let mut pairs: [(Buffer, VecDeque<u8>); 3] = Default::default();
            let longest =
                [20, 300, 9000][usize::from(random.one_in(8)) + usize::from(random.one_in(8))];
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
                    !buffer.is_empty() || buffer.data.capacity() == 0,
                    "empty and owns memory"
                );
                let kept: usize = pool.free.iter().map(Vec::capacity).sum();
                assert_eq!(pool.kept, kept);
                assert!(kept <= POOL_KEEPS);
            }
        });
    }

    #[test]
    fn an_emptied_buffer_owns_no_memory() {
        let (mut buffer, mut pool) = (Buffer::default(), Pool::default());
        assert!(buffer.push(b"hello", &mut pool));
        buffer.consume(5, &mut pool);
        assert_eq!(buffer.data.capacity(), 0);
        assert_eq!(pool.free.len(), 1);
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
            buffer.data.capacity() <= 2 * SMALLEST,
            "{}",
            buffer.data.capacity()
        );
    }
}
