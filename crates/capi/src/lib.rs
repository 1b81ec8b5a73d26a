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

// Types, numbers, and what is not the header's.

mod addr;
mod bug;
mod callbacks;
mod convert;
mod event;
mod guard;
mod handle;
mod held;
mod hooks;
mod options;
mod own;
mod pointer;
mod registry;
mod reserve;
mod server_options;
mod table;
mod take;
mod text;
mod thread;
mod udp_options;
mod worker;

// Functions, in the order that the header has them; `tests/header/groups.rs` has its headings.

mod event_loop;

mod run;

mod batch;

mod listener;

mod conn;

mod conn_setters;

mod conn_facts;

mod pipe;

mod adopt;

mod inherited;

mod timer;

mod remote;

mod udp;

mod udp_send;

mod udp_group;

mod datagram;

mod ip;

mod lookup;

mod resolver;

mod signal;

mod watch;

mod selector;

mod once;

mod nested;

mod fork;

mod server;

mod workers;

mod workers_ask;

mod log;

mod counters;
mod dump;
mod metrics;

mod detail;

mod close;
mod status;

mod version;

mod features;

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
