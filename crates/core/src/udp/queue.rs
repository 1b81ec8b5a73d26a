//! Datagrams that wait to be sent: their bytes in one piece of memory, and a head for each.
//!
//! The rule: they leave in the order in which they came, and an empty queue owns no memory to speak
//! of. A run of datagrams of one size to one address is planned as one message with segments, for
//! the kernel to cut. How much may wait is for the caller to say.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use crate::conn::buffer::Buffer;
use crate::conn::memory::Pool;
use crate::sys::UdpSend;

/// What a datagram counts beside its bytes, so that empty ones are bounded too.
const OVERHEAD: usize = 64;
/// Segments that every kernel takes in one message (UDP_MAX_SEGMENTS of Linux).
const MAX_SEGMENTS: usize = 64;
/// Bytes that fit in one message with segments, whichever headers come before them.
const MAX_SEGMENTED: usize = 65_535 - 48;
/// Heads that an empty queue may keep room for.
const KEPT_HEADS: usize = 64;

#[derive(Default)]
pub(crate) struct Queue {
    bytes: Buffer,
    heads: VecDeque<Head>,
}

#[derive(Clone, Copy)]
struct Head {
    to: Option<SocketAddr>,
    from: Option<IpAddr>,
    len: usize,
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Datagrams that wait.
    pub(crate) fn len(&self) -> usize {
        self.heads.len()
    }

    /// What they count, all together.
    pub(crate) fn cost(&self) -> usize {
        self.bytes.len() + self.heads.len() * OVERHEAD
    }

    pub(crate) fn cost_of(len: usize, datagrams: usize) -> usize {
        len + datagrams * OVERHEAD
    }

    /// Appends a datagram, or nothing and answers false when there is no memory for it.
    #[must_use]
    pub(crate) fn push(
        &mut self,
        to: Option<SocketAddr>,
        from: Option<IpAddr>,
        bytes: &[u8],
        pool: &mut Pool,
    ) -> bool {
        if self.heads.try_reserve(1).is_err() {
            return false;
        }
        if !bytes.is_empty() && !self.bytes.push(bytes, pool) {
            return false;
        }
        let len = bytes.len();
        self.heads.push_back(Head { to, from, len });
        true
    }

    /// The bytes of all, one datagram after the other.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.bytes()
    }

    /// Addresses to `peer` what has no address.
    pub(crate) fn address(&mut self, peer: SocketAddr) {
        for head in &mut self.heads {
            head.to.get_or_insert(peer);
        }
    }

    /// What to send next, at most `most` messages; runs of at least two datagrams shorter than
    /// `segments_below` become one message each.
    pub(crate) fn plan(&self, segments_below: usize, most: usize, plan: &mut Vec<UdpSend>) {
        plan.clear();
        let mut planned = 0;
        while plan.len() < most
            && let Some(first) = self.heads.get(planned)
        {
            let (datagrams, len) = if first.len < segments_below {
                self.run(planned, *first)
            } else {
                (1, first.len)
            };
            plan.push(UdpSend {
                to: first.to,
                from: first.from,
                len,
                segment: if datagrams > 1 { first.len } else { 0 },
                datagrams,
            });
            planned += datagrams;
        }
    }

    /// How many datagrams from `start` on can go in one message, and their bytes.
    fn run(&self, start: usize, first: Head) -> (usize, usize) {
        let (mut datagrams, mut len) = (1, first.len);
        for head in self.heads.iter().skip(start + 1).take(MAX_SEGMENTS - 1) {
            let fits = head.len != 0 && head.len <= first.len && len + head.len <= MAX_SEGMENTED;
            if !fits || head.to != first.to || head.from != first.from {
                break;
            }
            datagrams += 1;
            len += head.len;
            if head.len < first.len {
                break; // Only the last segment may be shorter.
            }
        }
        (datagrams, len)
    }

    /// Drops the first datagrams, `len` bytes all together.
    pub(crate) fn consume(&mut self, datagrams: usize, len: usize, pool: &mut Pool) {
        self.heads.drain(..datagrams);
        self.bytes.consume(len, pool);
        if self.heads.is_empty() && self.heads.capacity() > KEPT_HEADS {
            self.heads = VecDeque::new();
        }
    }

    /// Drops all and gives the memory back.
    pub(crate) fn clear(&mut self, pool: &mut Pool) {
        self.heads = VecDeque::new();
        self.bytes.clear(pool);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_of(lens: &[usize]) -> Vec<(usize, usize, usize)> {
        let (mut queue, mut pool) = (Queue::default(), Pool::default());
        for len in lens {
            assert!(queue.push(None, None, &vec![0; *len], &mut pool));
        }
        let mut plan = Vec::new();
        queue.plan(LIMIT, 32, &mut plan);
        plan.iter()
            .map(|m| (m.datagrams, m.len, m.segment))
            .collect()
    }

    const LIMIT: usize = 2000;

    #[test]
    fn only_the_last_segment_of_a_run_is_shorter_and_none_is_empty() {
        assert_eq!(plan_of(&[9, 9, 4, 9]), [(3, 22, 9), (1, 9, 0)]);
        assert_eq!(plan_of(&[9, 0, 9]), [(1, 9, 0), (1, 0, 0), (1, 9, 0)]);
        assert_eq!(plan_of(&[0, 0]), [(1, 0, 0), (1, 0, 0)]);
        assert_eq!(plan_of(&[4, 9]), [(1, 4, 0), (1, 9, 0)]);
        assert_eq!(plan_of(&[LIMIT, LIMIT]), [(1, LIMIT, 0), (1, LIMIT, 0)]);
    }

    #[test]
    fn a_run_has_at_most_64_segments_and_fits_in_one_message() {
        assert_eq!(plan_of(&[1; 70]), [(64, 64, 1), (6, 6, 1)]);
        let many = plan_of(&[1500; 50]);
        assert_eq!(many[0], (43, 43 * 1500, 1500));
    }
}
