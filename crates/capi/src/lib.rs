//! The C ABI of echoloop: `include/echoloop.h` is generated from this crate.
//!
//! The rule: a program in C can do nothing with a handle, a thread or a NULL that ends in undefined
//! behaviour; it gets a status code. What C alone can get wrong (a wild data pointer, a wrong
//! length) is said in the header, and every `unsafe` block names the sentence it relies on.
//!
//! `registry` finds the loop behind a handle, `guard` lends it out and stops panics, `pointer`
//! reads and writes the caller's memory, `run` and `batch` are the two ways to receive. The other
//! files hold the functions on one kind of object each. Doc comments are written for C.

#![allow(non_camel_case_types, reason = "the types are named as C sees them")]
#![allow(
    clippy::missing_safety_doc,
    reason = "the header's manual page is the contract of all"
)]

mod addr;
mod adopt;
mod batch;
mod callbacks;
mod close;
mod conn;
mod conn_facts;
mod conn_setters;
mod convert;
mod counters;
mod datagram;
mod detail;
mod dump;
mod event;
mod event_loop;
mod features;
mod fork;
mod guard;
mod handle;
mod hooks;
mod inherited;
mod listener;
mod metrics;
mod nested;
mod once;
mod options;
mod own;
mod pipe;
mod pointer;
mod registry;
mod remote;
mod reserve;
mod run;
mod selector;
mod server;
mod status;
mod table;
mod take;
mod text;
mod thread;
mod timer;
mod version;
mod watch;

pub use addr::ECHOLOOP_ADDR_MAX;
pub use adopt::*;
pub use batch::*;
pub use close::*;
pub use conn::*;
pub use conn_facts::*;
pub use conn_setters::*;
pub use counters::*;
pub use datagram::*;
pub use detail::*;
pub use dump::*;
pub use event::*;
pub use event_loop::*;
pub use features::*;
pub use fork::*;
#[doc(hidden)]
pub use guard::panic_inside;
pub use handle::*;
pub use hooks::*;
pub use inherited::*;
pub use listener::*;
pub use metrics::*;
pub use nested::*;
pub use once::*;
pub use options::*;
pub use own::*;
pub use pipe::*;
pub use remote::*;
pub use selector::*;
pub use server::*;
pub use status::*;
pub use timer::*;
pub use version::*;
pub use watch::*;
