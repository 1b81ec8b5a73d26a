//! Every system call of the running server made to fail, in turn: the tools of `tests/faults.rs`.
//!
//! An [`Injection`] is a call, an errno (or a short count), and when. [`Injected`] is the real `echoloop serve` under
//! `faults/inject.c`, which makes that call fail; [`workload`] is what its clients do meanwhile; [`judge()`] says what
//! came of it, by the rules that hold whatever fails; [`table`] has the calls with the errors that they can give.
//!
//! The rule: what a real kernel would never do is not injected (see the top of `inject.c`), so there is no excuse.

mod datagrams;
pub mod injected;
pub mod judge;
pub mod table;
pub mod workload;

pub use injected::{Hit, Injected, Log};
pub use judge::{Outcome, judge};

/// A system call that is made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Injection {
    /// The name of the call.
    pub call: &'static str,
    /// The name of the errno, or `short`.
    pub what: &'static str,
    /// Which call of this name fails, counted from 1.
    pub nth: u64,
    /// How many fail in a row.
    pub times: u64,
}

impl Injection {
    /// The `nth` call, and those after it, `times` in all.
    pub fn of(call: &'static str, what: &'static str, nth: u64, times: u64) -> Self {
        Self {
            call,
            what,
            nth,
            times,
        }
    }
}
