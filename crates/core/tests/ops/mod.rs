//! Bytes to operations: two loops of one simulated network, everything a program and its peers may
//! do to them, and an oracle that knows what must come of it.
//!
//! The rule: all that happens follows from the bytes, and any bytes mean something; so a fuzzer, a
//! kept corpus and a seed all drive the same thing. `world` says what there is; `acts`, `conns` and
//! `others` what is done; `streams` which bytes are owed to whom; `events` what may be told; `audit`
//! what must hold between turns and at the end; `quiet` what must not get stuck. A broken promise is a panic that names it.

mod acts;
mod audit;
mod conns;
mod events;
mod others;
mod quiet;
mod streams;
mod world;

use arbitrary::Unstructured;

use world::World;

/// Operations of one run: what is left of the bytes then is ignored.
const MOST_ACTS: usize = 600;

/// Runs the operations that `bytes` say, and checks everything.
pub(crate) fn run(bytes: &[u8]) {
    let mut world = World::new(Unstructured::new(bytes));
    for _ in 0..MOST_ACTS {
        if world.bytes.is_empty() {
            break;
        }
        world.act();
    }
    world.end();
}
