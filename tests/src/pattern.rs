//! A byte stream that can be made and checked at any offset without being kept.
//!
//! Every eight bytes are a different number, so a lost, doubled or swapped piece shows at its first byte. Two seeds
//! give two streams: bytes that reach the wrong client show as well.

/// A position in an endless stream of known bytes.
#[derive(Clone, Debug)]
pub struct Pattern {
    seed: u64,
    position: u64,
}

impl Pattern {
    /// The stream of this seed, from its beginning.
    pub fn new(seed: u64) -> Self {
        Self { seed, position: 0 }
    }

    /// How many bytes were made or checked so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Fills `out` with the next bytes of the stream.
    pub fn fill(&mut self, out: &mut [u8]) {
        let mut rest = out;
        while !rest.is_empty() {
            let word = mix(self.seed, self.position / 8).to_le_bytes();
            let piece = &word[(self.position % 8) as usize..];
            let n = piece.len().min(rest.len());
            rest[..n].copy_from_slice(&piece[..n]);
            self.position += n as u64;
            rest = &mut rest[n..];
        }
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        self.fill(&mut bytes);
        bytes
    }

    /// Checks that `got` is what the stream holds next.
    ///
    /// # Panics
    /// At the first byte that differs, with its offset.
    #[track_caller]
    pub fn check(&mut self, got: &[u8]) {
        let start = self.position;
        let expected = self.take(got.len());
        if expected == got {
            return;
        }
        let at = expected.iter().zip(got).position(|(a, b)| a != b);
        panic!(
            "the stream differs at byte {}",
            start + at.unwrap_or_default() as u64
        );
    }
}

/// SplitMix64, one output per word of the stream.
fn mix(seed: u64, word: u64) -> u64 {
    let mut z = word
        .wrapping_add(seed << 32)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn a_stream_is_the_same_however_it_is_cut() {
        let whole = Pattern::new(7).take(1000);
        let mut pieces = Pattern::new(7);
        for n in [1, 7, 8, 9, 64, 911] {
            let at = pieces.position() as usize;
            assert_eq!(pieces.take(n), whole[at..at + n]);
        }
        Pattern::new(7).check(&whole);
    }

    #[test]
    #[should_panic(expected = "the stream differs at byte 500")]
    fn a_changed_byte_is_found() {
        let mut whole = Pattern::new(7).take(1000);
        whole[500] ^= 1;
        Pattern::new(7).check(&whole);
    }

    #[test]
    #[should_panic(expected = "the stream differs at byte 16")]
    fn a_lost_piece_is_found() {
        let mut whole = Pattern::new(7).take(1000);
        whole.drain(16..24);
        Pattern::new(7).check(&whole);
    }
}
