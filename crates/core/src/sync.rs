//! What the core takes from threads: std's, where `tests/remote_model.rs` puts loom's.
//!
//! The rule: a file that is modelled names its locks and atomics by `crate::sync` and no other way.

pub(crate) use std::sync::atomic::AtomicUsize;
pub(crate) use std::sync::{Mutex, MutexGuard};
