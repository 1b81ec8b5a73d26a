//! Sequences of operations on loops of a simulated network, checked by an oracle.
//!
//! What is run is `crates/core/tests/ops`, and `crates/core/tests/loop_ops.rs` runs what was kept.

#![no_main]

#[path = "../../core/tests/ops/mod.rs"]
mod ops;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ops::run(bytes));
