//! Sequences of operations on loops of a simulated network, against an oracle: the corpus that
//! fuzzing has left, and sequences by seed.
//!
//! The fuzz target of the same name runs the same code (`crates/fuzz/fuzz_targets/loop_ops.rs`).
//! `ECHOLOOP_SEEDS=n` runs more sequences, `ECHOLOOP_SEED=n` one; `ECHOLOOP_INPUT=file` runs a file.

mod ops;
mod util;

use util::Random;

#[test]
fn a_sequence_by_seed_breaks_no_promise() {
    Random::each_seed(1500, |_, random| {
        let len = 50 + random.below(1500) as usize;
        ops::run(&random.bytes(len));
    });
}

#[test]
fn what_fuzzing_has_kept_breaks_no_promise() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/loop_ops");
    let corpus = std::env::var("ECHOLOOP_INPUT").unwrap_or(corpus.to_owned());
    let ran = util::corpus::each_input(&corpus, ops::run);
    assert!(ran > 0, "{corpus} is empty");
}
