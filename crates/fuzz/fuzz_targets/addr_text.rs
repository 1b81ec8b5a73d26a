//! Texts of addresses, in and out.
//!
//! What is run is `crates/core/tests/ops/addr_text.rs`; `crates/core/tests/addr_text.rs` runs what
//! was kept.

#![no_main]

#[path = "../../core/tests/ops/addr_text.rs"]
mod addr_text;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| addr_text::run(bytes));
