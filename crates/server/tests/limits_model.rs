//! Limits and drains against a model, on the simulated system: what fuzzing has kept, and sequences
//! by seed.
//!
//! The fuzz target `server_ops` runs the same code. `ECHOLOOP_SEEDS=n` runs more sequences,
//! `ECHOLOOP_SEED=n` one.

mod ops;

use echoloop_core::sys::Random;

#[test]
fn limits_and_drains_are_what_the_model_says() {
    Random::each_seed(1500, |_, random| {
        let len = 50 + random.below(1000) as usize;
        ops::run(&random.bytes(len));
    });
}

#[test]
fn what_fuzzing_has_kept_is_what_the_model_says() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/server_ops");
    let files = std::fs::read_dir(corpus).unwrap();
    let mut inputs: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{corpus} is empty");
    for input in inputs {
        println!("{}", input.display()); // Shown where it fails.
        ops::run(&std::fs::read(input).unwrap());
    }
}
