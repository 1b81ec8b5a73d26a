//! The vocabulary of the core's tests.

#![allow(dead_code, reason = "each test program uses its part")]

pub(crate) mod corpus;
pub(crate) mod datagrams;
pub(crate) mod real;
pub(crate) mod roads;
pub(crate) mod sim;
pub(crate) mod spy;
pub(crate) mod watching;

use std::ops::Range;

pub(crate) use echoloop_core::sys::Random;

/// The seeds to run: the first `count`, or what the environment says.
pub(crate) fn seeds(count: u64) -> Range<u64> {
    Random::seeds(count)
}
