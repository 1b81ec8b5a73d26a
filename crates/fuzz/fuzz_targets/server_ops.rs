//! A server's limits and its drain, against a model.
//!
//! What is run is `crates/server/tests/ops`, and `crates/server/tests/limits_model.rs` runs what was
//! kept.

#![no_main]

#[path = "../../server/tests/ops/mod.rs"]
mod ops;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ops::run(bytes));
