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
mod bug;
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
mod held;
mod hooks;
mod inherited;
mod ip;
mod listener;
mod log;
mod lookup;
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
mod resolver;
mod run;
mod selector;
mod server;
mod server_options;
mod signal;
mod status;
mod table;
mod take;
mod text;
mod thread;
mod timer;
mod udp;
mod udp_group;
mod udp_options;
mod udp_send;
mod version;
mod watch;
mod worker;
mod workers;
mod workers_ask;

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
pub use ip::*;
pub use listener::*;
pub use log::*;
pub use lookup::*;
pub use metrics::*;
pub use nested::*;
pub use once::*;
pub use options::*;
pub use own::*;
pub use pipe::*;
pub use remote::*;
pub use resolver::*;
pub use selector::*;
pub use server::*;
pub use server_options::*;
pub use signal::*;
pub use status::*;
pub use timer::*;
pub use udp::*;
pub use udp_group::*;
pub use udp_options::*;
pub use udp_send::*;
pub use version::*;
pub use watch::*;
pub use worker::*;
pub use workers::*;
pub use workers_ask::*;
