//! The vocabulary of the conformance suite: servers, clients, patience, measurements.
//!
//! A scenario is one function that takes a [`Rig`] and speaks to a real server program over loopback; it never
//! knows in which language that server was written. The rule of this crate: every wait has a deadline, every child
//! process dies with the value that holds it, and nothing is mocked.
//!
//! Start reading at [`scenario`]; [`conformance_tests!`] turns each of its functions into one test per face.
//! What the command line says, and how the C programs compile, is tested in `tests/`, not here.

pub mod adapters;
pub mod artifacts;
pub mod bench;
mod client;
pub mod commands;
mod face;
pub mod faults;
pub mod installed;
pub mod patience;
mod pattern;
pub mod probe;
mod process;
pub mod real_servers;
pub mod scenario;
mod server;
pub mod tools;
pub mod visitors;

pub use client::Client;
pub use face::{Face, Rig};
pub use pattern::Pattern;
pub use process::Process;
pub use server::{Server, ServerBuilder};
