//! The bytes that are sent, and the check that they are the bytes that came back.
//!
//! The stream of a connection is one random block repeated for ever, so any slice of it can be sent
//! straight from memory, and a byte that is lost, doubled, changed, moved or of another connection
//! (each starts elsewhere in the block) is found. The length of the block is a prime, so no size of
//! message or buffer divides it. Without verification every message is sent from the start of the
//! block, which keeps the caches of the machine for the server.

use crate::{Error, Plan};

const PERIOD: usize = 65_521;

/// The stream of bytes of every connection.
#[derive(Debug)]
pub(crate) struct Pattern {
    /// The random block, repeated so that any offset has `longest` bytes behind it.
    bytes: Vec<u8>,
    longest: usize,
    verify: bool,
}

impl Pattern {
    pub(crate) fn new(plan: &Plan) -> Pattern {
        // 1 MiB in one send is as much as any kernel takes at once.
        Pattern::of_slices((plan.size * plan.depth).min(1 << 20), plan.verify)
    }

    /// A pattern of which up to `longest` bytes can be had at once.
    pub(crate) fn of_slices(longest: usize, verify: bool) -> Pattern {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let block: Vec<u8> = (0..PERIOD)
            .map(|_| {
                // xorshift64: Marsaglia, "Xorshift RNGs", 2003.
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            })
            .collect();
        let bytes = block.iter().copied().cycle().take(PERIOD + longest);
        Pattern {
            bytes: bytes.collect(),
            longest,
            verify,
        }
    }

    /// Up to `wanted` bytes to send, of which the first is number `offset` of `connection`.
    pub(crate) fn slice(&self, connection: usize, offset: u64, wanted: u64) -> &[u8] {
        let len = wanted.min(self.longest as u64) as usize;
        let at = if self.verify {
            at(connection, offset)
        } else {
            0
        };
        &self.bytes[at..at + len]
    }

    /// Compares bytes that came back, of which the first is number `offset` of `connection`.
    pub(crate) fn check(&self, connection: usize, offset: u64, found: &[u8]) -> Result<(), Error> {
        let mut done = 0;
        for part in found.chunks(self.longest) {
            let sent = self.slice(connection, offset + done, part.len() as u64);
            if sent != part {
                // Two slices of one length that differ have a place where they do.
                let i = (0..part.len()).find(|&i| sent[i] != part[i]).unwrap_or(0);
                return Err(Error::WrongByte {
                    connection,
                    offset: offset + done + i as u64,
                    sent: sent[i],
                    found: part[i],
                });
            }
            done += part.len() as u64;
        }
        Ok(())
    }
}

fn at(connection: usize, offset: u64) -> usize {
    ((offset + connection as u64 * 7_919) % PERIOD as u64) as usize
}
