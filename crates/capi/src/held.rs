//! The locks that a fork holds, so that none is closed for ever in the child.
//!
//! The rule: who forks takes what any thread may lock for a moment: the tables, the numbers of loops,
//! what is published of loops and their mailboxes. The child then finds all of it whole and open. Nobody
//! waits for long: a lock that is not had soon is left out, since the one who forks may have it himself.

use std::any::Any;
use std::cell::Cell;
use std::ptr;
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use echoloop_core::{Remote, try_hold_loop_numbers};

use crate::{registry, remote, selector, workers};

/// How long all locks together are waited for; each is held for microseconds.
const LONGEST: Duration = Duration::from_millis(100);

/// How long a fork waits for locks.
pub(crate) struct Patience {
    until: Instant,
}

impl Patience {
    /// Asks until it gets something, or patience is over.
    pub(crate) fn take<T>(&self, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
        loop {
            let taken = ask();
            if taken.is_some() || Instant::now() >= self.until {
                return taken;
            }
            thread::yield_now();
        }
    }
}

/// A lock that nobody has; whether there was a panic under it does not count here.
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(held) => Some(held),
        Err(TryLockError::Poisoned(held)) => Some(held.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// The mailbox of a loop, held: its guard, which borrows from the remote.
pub(crate) struct HeldRemote {
    held: Option<Box<dyn Any>>,
    remote: *mut Remote,
}

impl HeldRemote {
    pub(crate) fn new(remote: &Remote, patience: &Patience) -> Self {
        let remote = Box::into_raw(Box::new(remote.clone()));
        // SAFETY: just made, and freed by `drop` alone, which drops the guard first.
        let lives: &'static Remote = unsafe { &*remote };
        let held = patience.take(|| lives.try_hold());
        Self {
            held: held.map(|held| Box::new(held) as Box<dyn Any>),
            remote,
        }
    }
}

impl Drop for HeldRemote {
    fn drop(&mut self) {
        self.held = None;
        // SAFETY: from `Box::into_raw`, freed nowhere else, and nothing borrows from it any more.
        drop(unsafe { Box::from_raw(self.remote) });
    }
}

type Locks = Vec<Box<dyn Any>>;

thread_local! {
    /// What this thread, which is about to fork, holds: from `Box::into_raw`. It has no destructor, so
    /// that a thread may fork at its end.
    static HELD: Cell<*mut Locks> = const { Cell::new(ptr::null_mut()) };
}

/// Before a fork, on the thread that forks.
pub(crate) fn take() {
    let patience = Patience {
        until: Instant::now() + LONGEST,
    };
    let mut locks = Locks::new();
    // In the order in which calls take them, where one is taken under another.
    registry::hold(&patience, |held| locks.push(held));
    let tables: [Option<Box<dyn Any>>; 4] = [
        remote::hold(&patience).map(boxed),
        selector::hold(&patience).map(boxed),
        workers::hold(&patience).map(boxed),
        patience.take(try_hold_loop_numbers).map(boxed),
    ];
    locks.extend(tables.into_iter().flatten());
    give_back(HELD.replace(Box::into_raw(Box::new(locks))));
}

/// After a fork, in the parent and in the child.
pub(crate) fn let_go() {
    give_back(HELD.replace(ptr::null_mut()));
}

fn give_back(locks: *mut Locks) {
    if !locks.is_null() {
        // SAFETY: from `Box::into_raw` in `take`, and no longer in `HELD`.
        drop(unsafe { Box::from_raw(locks) });
    }
}

fn boxed<T: 'static>(held: T) -> Box<dyn Any> {
    Box::new(held)
}
