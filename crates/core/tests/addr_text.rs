//! Texts of addresses in and out: what fuzzing has kept, and texts by seed.
//!
//! The fuzz target of the same name runs the same code (`crates/fuzz/fuzz_targets/addr_text.rs`).

#[path = "ops/addr_text.rs"]
mod addr_text;
mod util;

use util::Random;

#[test]
fn what_parses_comes_out_as_it_went_in_and_what_does_not_says_why() {
    // Pieces of which addresses are made, and some that do not belong there.
    const PIECES: &str = "127.0.0.1 [::1] [fe80::1%3] unix: @ /run/x.sock : 80 0 65535 65536 + \
        localhost a. . % [ ] / \\ \0 \x1b é \u{2028} 1";
    let pieces: Vec<&str> = PIECES.split(' ').chain([" "]).collect();
    Random::each_seed(20_000, |_, random| {
        let n = 1 + random.below(5);
        let some = (0..n).map(|_| pieces[random.below(pieces.len() as u64) as usize]);
        addr_text::run(some.collect::<String>().as_bytes());
    });
}

#[test]
fn what_fuzzing_has_kept_comes_out_as_it_went_in() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/addr_text");
    assert!(util::corpus::each_input(corpus, addr_text::run) > 0);
}
